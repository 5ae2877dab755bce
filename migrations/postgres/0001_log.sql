-- The decision log. Everything lies in the schema `pactum`, so that the log can live in a
-- database that serves something else. The schema itself and the table pactum.migrations are
-- made by the migration runner. Words: transaction, branch, decision, incarnation, floor,
-- straggler, heuristic outcome mean here what they mean in the code.

-- One row: what is true of the whole log.
CREATE TABLE pactum.log_state (
    -- At most one row can have `true` as its key.
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Names all coordinators on this log inside the databases of participants. 12 random hexadecimal
    -- digits, drawn here; two logs with one name could touch each other's branches.
    cluster text NOT NULL CHECK (cluster ~ '^[a-z0-9][a-z0-9._-]{0,23}$'),
    -- At or under this gid nothing is written and nothing is answered. Only ever raised. Each
    -- statement that writes a decision locks this row FOR SHARE, so a raise waits for them.
    floor uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO pactum.log_state (cluster)
VALUES (substr(replace(gen_random_uuid()::text, '-', ''), 21, 12));

-- One row for each run of each coordinator: its fence. A commit is written only by a statement
-- that holds its incarnation's row FOR SHARE with ended_at null. Nothing that moves often may
-- stand here: an UPDATE of this row waits for every batch in flight and delays those that follow.
CREATE TABLE pactum.incarnations (
    id uuid PRIMARY KEY,
    -- Where it serves; for people, and for participants that look for an owner.
    address text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    -- The fence: once set, none of its commits is written any more. Never set back.
    ended_at timestamptz,
    -- Every commit that it left unfinished has been listed among the stragglers.
    recovered_at timestamptz,
    -- Recovery of a live incarnation would drive what its owner is still driving.
    CONSTRAINT only_an_ended_incarnation_is_recovered CHECK (recovered_at IS NULL OR ended_at IS NOT NULL)
);
CREATE INDEX incarnations_to_watch ON pactum.incarnations (id) WHERE recovered_at IS NULL;

-- What an incarnation says of itself while it runs; apart from its fence, see there.
CREATE TABLE pactum.progress (
    incarnation uuid PRIMARY KEY REFERENCES pactum.incarnations ON DELETE CASCADE,
    -- Counts heartbeats: a lease is watched by whether this moves, never by comparing clocks.
    beats bigint NOT NULL DEFAULT 0 CHECK (beats >= 0),
    -- The finish mark: its commits numbered up to this are finished, stragglers excepted. It has
    -- no say in safety: driving a finished transaction again changes nothing.
    finished_through bigint NOT NULL DEFAULT 0 CHECK (finished_through >= 0)
) WITH (fillfactor = 50); -- room for HOT updates: no index entry changes

-- The register: the outcome of a transaction, written once, never updated.
CREATE TABLE pactum.decisions (
    gid uuid PRIMARY KEY,
    -- The coordinator run that owned the transaction. No foreign key: a row that is missing there
    -- counts as ended, and each insert would lock it once more.
    incarnation uuid NOT NULL,
    -- Place among the commits of its incarnation, for the finish mark; 0 for an abort.
    number bigint NOT NULL,
    decision text NOT NULL,
    -- Why it aborted: a kind for programs, a sentence for people.
    reason_kind text,
    reason_message text,
    -- JSON array of the branches to commit, each with the evidence of its vote. Text and not jsonb:
    -- the server need not parse on the hot path what only coordinators read.
    branches text,
    -- JSON object of what the application said (name, labels, traceparent, digest); empty if nothing.
    details text NOT NULL DEFAULT '',
    -- How branches and details are written. A reader refuses what it does not know.
    format smallint NOT NULL DEFAULT 1,
    -- For retention and for people. Decides no outcome.
    decided_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT decision_is_known CHECK (decision IN ('commit', 'abort')),
    -- A commit without a number would never be recovered; an abort with one would be driven as a commit.
    CONSTRAINT exactly_commits_are_numbered CHECK ((decision = 'commit') = (number > 0)),
    CONSTRAINT numbers_are_not_negative CHECK (number >= 0),
    -- A commit applies to the executions named here and to no other; an abort applies to all.
    CONSTRAINT exactly_commits_name_branches CHECK ((decision = 'commit') = (branches IS NOT NULL)),
    CONSTRAINT exactly_aborts_have_a_kind CHECK ((decision = 'abort') = (reason_kind IS NOT NULL)),
    CONSTRAINT exactly_aborts_have_a_message CHECK ((decision = 'abort') = (reason_message IS NOT NULL))
);
-- Recovery reads the commits of one incarnation in order of their numbers.
CREATE INDEX decisions_to_recover ON pactum.decisions (incarnation, number) WHERE number > 0;

-- Unfinished commits at or under their incarnation's finish mark, or of a recovered incarnation.
CREATE TABLE pactum.stragglers (
    gid uuid PRIMARY KEY,
    incarnation uuid NOT NULL
);
CREATE INDEX stragglers_to_recover ON pactum.stragglers (incarnation);

-- Prepare records: what was known of a transaction that stayed undecided. For people only.
CREATE TABLE pactum.undecided (
    gid uuid PRIMARY KEY,
    incarnation uuid NOT NULL,
    -- JSON array of the branches so far.
    branches text NOT NULL,
    details text NOT NULL DEFAULT '',
    format smallint NOT NULL DEFAULT 1,
    began_at timestamptz NOT NULL
);

-- Branches that ended without the decision; kept until somebody forgets them by hand.
CREATE TABLE pactum.heuristics (
    gid uuid NOT NULL,
    branch bigint NOT NULL, -- the 64 bits of the branch id, read as a signed number
    incarnation uuid NOT NULL,
    resource text NOT NULL,
    instance uuid NOT NULL,
    marker boolean NOT NULL,
    outcome text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (gid, branch),
    CONSTRAINT outcome_is_known CHECK (outcome IN ('committed', 'aborted', 'mixed', 'hazard'))
);
