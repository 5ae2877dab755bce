-- The audit: what operators did, each entry linked to the one before it by its hash. The same as
-- ../postgres/0003_audit.sql, but that times are a number of microseconds.

CREATE TABLE audit (
    number INTEGER PRIMARY KEY CHECK (number > 0),
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('begun', 'done', 'refused', 'failed', 'found')),
    begun INTEGER CHECK (begun > 0),
    who TEXT NOT NULL CHECK (who <> ''),
    origin TEXT NOT NULL,
    act TEXT NOT NULL CHECK (act <> ''),
    target TEXT NOT NULL,
    reason TEXT NOT NULL,
    plan TEXT NOT NULL,
    state_before TEXT NOT NULL,
    state_after TEXT NOT NULL,
    result TEXT NOT NULL,
    incarnation TEXT CHECK (length(incarnation) = 36),
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    -- A beginning that were an end would end another act; an end of nothing would leave its act open.
    CHECK ((kind = 'begun') = (begun IS NULL)),
    CHECK (max(length(CAST(who AS BLOB)), length(CAST(origin AS BLOB)), length(CAST(act AS BLOB)),
               length(CAST(target AS BLOB)), length(CAST(reason AS BLOB)), length(CAST(plan AS BLOB)),
               length(CAST(state_before AS BLOB)), length(CAST(state_after AS BLOB)),
               length(CAST(result AS BLOB))) <= 1048576)
) STRICT;
CREATE INDEX audit_beginnings ON audit (number) WHERE kind = 'begun' AND incarnation IS NOT NULL;
CREATE INDEX audit_ends ON audit (begun) WHERE begun IS NOT NULL;

CREATE TRIGGER audit_refuses_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is only added to: UPDATE is refused'); END;
CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is only added to: DELETE is refused'); END;
-- Also keeps out INSERT OR REPLACE, which deletes without the trigger above.
CREATE TRIGGER audit_is_a_chain BEFORE INSERT ON audit
WHEN new.number <> (SELECT coalesce(max(number), 0) + 1 FROM audit)
  OR new.previous <> coalesce((SELECT hash FROM audit ORDER BY number DESC LIMIT 1), zeroblob(32))
BEGIN SELECT RAISE(ABORT, 'the audit is a chain: an entry that does not follow the last is refused'); END;
