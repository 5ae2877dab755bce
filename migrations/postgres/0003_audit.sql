-- The audit: what operators did, each entry linked to the one before it by its hash. Entries are
-- only ever added. The link is made by whoever adds one (decision_log/audit.rs); what the server can
-- see of it, it checks.

CREATE TABLE pactum.audit (
    -- From 1 without gaps, so no sequence: that leaves one with every transaction that fails.
    number bigint PRIMARY KEY,
    -- By this server's clock, in whole microseconds: they are hashed.
    at timestamptz NOT NULL,
    kind text NOT NULL,
    -- The entry that this one is the end of. No foreign key: in a log that went back in time the beginning may
    -- be lost, and that is no reason to lose the end.
    begun bigint,
    who text NOT NULL,
    origin text NOT NULL,
    act text NOT NULL,
    target text NOT NULL,
    reason text NOT NULL,
    plan text NOT NULL,
    state_before text NOT NULL,
    state_after text NOT NULL,
    result text NOT NULL,
    -- Null if a command wrote it without a coordinator.
    incarnation uuid,
    previous bytea NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT numbers_begin_with_1 CHECK (number > 0),
    CONSTRAINT kind_is_known CHECK (kind IN ('begun', 'done', 'refused', 'failed', 'found')),
    -- A beginning that were an end would end another act; an end of nothing would leave its act open.
    CONSTRAINT exactly_beginnings_end_nothing CHECK ((kind = 'begun') = (begun IS NULL)),
    CONSTRAINT begun_is_a_number CHECK (begun > 0),
    -- Who did what is the least that an audit tells.
    CONSTRAINT somebody_did_something CHECK (who <> '' AND act <> ''),
    CONSTRAINT texts_are_bounded CHECK (
        greatest(octet_length(who), octet_length(origin), octet_length(act), octet_length(target),
                 octet_length(reason), octet_length(plan), octet_length(state_before),
                 octet_length(state_after), octet_length(result)) <= 1048576),
    CONSTRAINT hashes_are_sha256 CHECK (octet_length(previous) = 32 AND octet_length(hash) = 32)
);
-- Beginnings without an end, for whoever completes what a dead coordinator had begun.
CREATE INDEX audit_beginnings ON pactum.audit (number) WHERE kind = 'begun' AND incarnation IS NOT NULL;
CREATE INDEX audit_ends ON pactum.audit (begun) WHERE begun IS NOT NULL;

CREATE FUNCTION pactum.audit_refuses_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is only added to: % is refused', TG_OP
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Whoever owns the table can drop the trigger; pactum audit verify shows what he changes.';
END
$$;
-- By statement, so that one that would touch no row is refused as well.
CREATE TRIGGER audit_is_only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON pactum.audit
    FOR EACH STATEMENT EXECUTE FUNCTION pactum.audit_refuses_change();

CREATE FUNCTION pactum.audit_takes_the_next() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last_number bigint;
    last_hash bytea;
BEGIN
    SELECT a.number, a.hash INTO last_number, last_hash FROM pactum.audit a ORDER BY a.number DESC LIMIT 1;
    IF new.number <> coalesce(last_number, 0) + 1
       OR new.previous <> coalesce(last_hash, decode(repeat('00', 32), 'hex')) THEN
        RAISE EXCEPTION 'the audit is a chain: an entry % after % is refused', new.number, coalesce(last_number, 0)
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER audit_is_a_chain BEFORE INSERT ON pactum.audit
    FOR EACH ROW EXECUTE FUNCTION pactum.audit_takes_the_next();

-- Also where a session says that it only replays what was checked elsewhere.
ALTER TABLE pactum.audit ENABLE ALWAYS TRIGGER audit_is_only_added_to;
