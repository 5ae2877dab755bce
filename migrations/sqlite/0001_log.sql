-- The decision log of a single, embedded coordinator. The same tables as on PostgreSQL (see
-- ../postgres/0001_log.sql for what each is for); only the differences are explained here.
-- UUIDs are lower-case hyphenated text, whose order is the order of their bytes. Times are
-- milliseconds since 1970 by this machine's clock.

CREATE TABLE log_state (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    cluster TEXT NOT NULL CHECK (length(cluster) BETWEEN 1 AND 24),
    floor TEXT NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' CHECK (length(floor) = 36),
    -- Also kept in a file beside this one: if they differ, this file was put back from a copy,
    -- and the absence of a record proves nothing any more.
    generation INTEGER NOT NULL DEFAULT 0 CHECK (generation >= 0),
    -- Moved by a barrier: a write made only to be forced.
    barriers INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO log_state (cluster) VALUES (lower(hex(randomblob(6))));

CREATE TABLE incarnations (
    id TEXT PRIMARY KEY CHECK (length(id) = 36),
    address TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    recovered_at INTEGER,
    -- No batch is in flight beside another statement here, so the finish mark may stand with the fence.
    finished_through INTEGER NOT NULL DEFAULT 0 CHECK (finished_through >= 0),
    -- Recovery of a live incarnation would drive what its owner is still driving.
    CHECK (recovered_at IS NULL OR ended_at IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE TABLE decisions (
    gid TEXT PRIMARY KEY CHECK (length(gid) = 36),
    incarnation TEXT NOT NULL CHECK (length(incarnation) = 36),
    number INTEGER NOT NULL CHECK (number >= 0),
    decision TEXT NOT NULL CHECK (decision IN ('commit', 'abort')),
    reason_kind TEXT,
    reason_message TEXT,
    branches TEXT,
    details TEXT NOT NULL DEFAULT '',
    format INTEGER NOT NULL DEFAULT 1,
    decided_at INTEGER NOT NULL,
    -- A commit without a number would never be recovered; an abort with one would be driven as a commit.
    CHECK ((decision = 'commit') = (number > 0)),
    -- A commit applies to the executions named here and to no other; an abort applies to all.
    CHECK ((decision = 'commit') = (branches IS NOT NULL)),
    CHECK ((decision = 'abort') = (reason_kind IS NOT NULL)),
    CHECK ((decision = 'abort') = (reason_message IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX decisions_to_recover ON decisions (incarnation, number) WHERE number > 0;

CREATE TABLE stragglers (
    gid TEXT PRIMARY KEY CHECK (length(gid) = 36),
    incarnation TEXT NOT NULL CHECK (length(incarnation) = 36)
) STRICT, WITHOUT ROWID;
CREATE INDEX stragglers_to_recover ON stragglers (incarnation);

CREATE TABLE undecided (
    gid TEXT PRIMARY KEY CHECK (length(gid) = 36),
    incarnation TEXT NOT NULL CHECK (length(incarnation) = 36),
    branches TEXT NOT NULL,
    details TEXT NOT NULL DEFAULT '',
    format INTEGER NOT NULL DEFAULT 1,
    began_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE heuristics (
    gid TEXT NOT NULL CHECK (length(gid) = 36),
    branch INTEGER NOT NULL,
    incarnation TEXT NOT NULL CHECK (length(incarnation) = 36),
    resource TEXT NOT NULL,
    instance TEXT NOT NULL CHECK (length(instance) = 36),
    marker INTEGER NOT NULL CHECK (marker IN (0, 1)),
    outcome TEXT NOT NULL CHECK (outcome IN ('committed', 'aborted', 'mixed', 'hazard')),
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (gid, branch)
) STRICT, WITHOUT ROWID;
