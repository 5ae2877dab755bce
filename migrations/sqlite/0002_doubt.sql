-- A log that went back in time: whose absence of records proves nothing. The same as
-- ../postgres/0002_doubt.sql, without a server's identity: the generation stands for it.

ALTER TABLE log_state ADD COLUMN
    -- How often the log was found to have gone back, or was said to have.
    switches INTEGER NOT NULL DEFAULT 0 CHECK (switches >= 0);
ALTER TABLE log_state ADD COLUMN
    -- Whether an owner without a row is in doubt: its start may be among what was lost.
    absent_doubted INTEGER NOT NULL DEFAULT 0 CHECK (absent_doubted IN (0, 1));
ALTER TABLE incarnations ADD COLUMN
    -- Commits of it may have been lost. A live incarnation in doubt could contradict a closing that was lost.
    doubted INTEGER NOT NULL DEFAULT 0 CHECK (doubted IN (0, 1) AND (doubted = 0 OR ended_at IS NOT NULL));

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('doubted', 'vouched', 'lost', 'released')),
    incarnation TEXT CHECK (length(incarnation) = 36),
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX undecided_by_owner ON undecided (incarnation);
