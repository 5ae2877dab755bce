-- A log that went back in time (restored, or failed over to a copy that had not received everything)
-- is noticed, and nothing is concluded from what it lacks. And the settings that keep its size flat.

ALTER TABLE pactum.log_state
    -- Which run of which server this log was last used on. Whoever finds another one first writes it here and
    -- puts all that had not ended in doubt, in one transaction. Null until the first use.
    ADD COLUMN system_identifier bigint, -- 64 bits, read as a signed number
    ADD COLUMN timeline bigint,
    -- How often that happened, or an operator said so. With the two above, a name for one stretch of history.
    ADD COLUMN switches bigint NOT NULL DEFAULT 0,
    -- Whether an owner without a row is in doubt: its start may be among what was lost.
    ADD COLUMN absent_doubted boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT switches_are_not_negative CHECK (switches >= 0),
    ADD CONSTRAINT a_timeline_is_of_a_system CHECK ((system_identifier IS NULL) = (timeline IS NULL)),
    -- Nothing was ever lost from a log that never went back.
    ADD CONSTRAINT doubt_needs_a_switch CHECK (switches > 0 OR NOT absent_doubted);

ALTER TABLE pactum.incarnations
    -- Commits of it may have been lost: nobody closes its transactions until it is released. A closing holds
    -- this row FOR SHARE, as a commit holds its own: setting the mark waits for both, and those that
    -- follow see it.
    ADD COLUMN doubted boolean NOT NULL DEFAULT false,
    -- Going on, it could commit what another had closed, where the closing was lost.
    ADD CONSTRAINT a_doubted_incarnation_has_ended CHECK (NOT doubted OR ended_at IS NOT NULL);
CREATE INDEX incarnations_doubted ON pactum.incarnations (id) WHERE doubted;

-- What happened to the log's past, for people: as rare as failovers.
CREATE TABLE pactum.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL,
    incarnation uuid,
    -- The database's user, and where he came from.
    who text NOT NULL DEFAULT session_user || coalesce(' from ' || host(inet_client_addr()), ''),
    detail text NOT NULL,
    CONSTRAINT kind_is_known CHECK (kind IN ('doubted', 'vouched', 'lost', 'released'))
);

CREATE INDEX undecided_by_owner ON pactum.undecided (incarnation);

-- Old decisions are deleted in batches at the low end of the key and new ones are added at the high end, so what
-- vacuum frees is used again. Its default waits for a fifth of the table to be dead: after a week
-- of retention that is more than a day's worth. These keep the dead under a twentieth.
ALTER TABLE pactum.decisions SET (
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.05
);
-- A handful of rows that are updated all the time: without vacuum each heartbeat would read more dead ones.
ALTER TABLE pactum.progress SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000
);
-- Few rows at any time, many over time.
ALTER TABLE pactum.stragglers SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE pactum.undecided SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
