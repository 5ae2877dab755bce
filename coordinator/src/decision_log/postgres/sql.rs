//! The statements off the critical path, each with what is not plain from reading it.
//!
//! A commit is *unfinished* if its number lies above its incarnation's finish mark and that one is
//! not recovered, or if it is listed among the stragglers.

/// `$1` incarnation, `$2` address. The fence and its progress are made together.
pub(super) const START: &str = "\
WITH fence AS (INSERT INTO pactum.incarnations (id, address) VALUES ($1, $2) RETURNING id)
INSERT INTO pactum.progress (incarnation) SELECT id FROM fence";

/// Columns about replication. What a standby does is hidden from a role that may not see it.
macro_rules! replication_columns {
    () => {
        "current_setting('synchronous_standby_names') AS standby_names,
       (SELECT count(*) FROM pg_stat_replication r
        WHERE r.sync_state IN ('sync', 'quorum') AND r.state = 'streaming') AS standbys_confirmed,
       (SELECT count(*) FROM pg_stat_replication r WHERE r.state IS NULL) AS standbys_hidden"
    };
}

/// `$1` incarnation. The reading half sees the state before the beat, which is as good. Doubted by
/// absence is whoever has no row.
pub(super) const HEARTBEAT: &str = concat!(
    "\
WITH beat AS (UPDATE pactum.progress SET beats = beats + 1 WHERE incarnation = $1)
SELECT s.floor, s.switches, i.id, i.address, coalesce(p.beats, 0) AS beats,
       (SELECT count(*) FROM pactum.incarnations d WHERE d.doubted) AS doubted,
       coalesce((SELECT o.doubted FROM pactum.incarnations o WHERE o.id = $1), s.absent_doubted) AS own_doubted,
       (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::int8 AS position,
       ",
    replication_columns!(),
    "
FROM pactum.log_state s
LEFT JOIN pactum.incarnations i ON i.ended_at IS NULL
LEFT JOIN pactum.progress p ON p.incarnation = i.id"
);

/// `$1` incarnation.
pub(super) const END: &str =
    "UPDATE pactum.incarnations SET ended_at = now() WHERE id = $1 AND ended_at IS NULL";

/// `$1` gids. At least one row, for the floor.
pub(super) const LOOK_UP: &str = "\
SELECT s.floor, d.gid, d.incarnation, d.number, d.decision, d.reason_kind, d.reason_message,
       d.branches, d.details, d.format
FROM pactum.log_state s LEFT JOIN pactum.decisions d ON d.gid = ANY ($1)";

/// Ended ones that are not recovered, or left stragglers (whoever recovered them may have died since; one
/// that is listed without a record leaves nothing to drive);
/// and owners of commits that have no row at all, which count as ended. The owners are found by
/// hopping from one to the next in the index, not by reading all commits.
pub(super) const UNRECOVERED: &str = "\
WITH RECURSIVE owners AS (
    (SELECT incarnation FROM pactum.decisions WHERE number > 0 ORDER BY incarnation LIMIT 1)
    UNION ALL
    SELECT (SELECT d.incarnation FROM pactum.decisions d
            WHERE d.number > 0 AND d.incarnation > o.incarnation ORDER BY d.incarnation LIMIT 1)
    FROM owners o WHERE o.incarnation IS NOT NULL
)
SELECT i.id FROM pactum.incarnations i
WHERE i.ended_at IS NOT NULL
  AND (i.recovered_at IS NULL
       OR EXISTS (SELECT FROM pactum.stragglers t JOIN pactum.decisions d ON d.gid = t.gid
                  WHERE t.incarnation = i.id))
UNION
SELECT o.incarnation FROM owners o
WHERE o.incarnation IS NOT NULL
  AND NOT EXISTS (SELECT FROM pactum.incarnations i WHERE i.id = o.incarnation)
ORDER BY 1";

/// Up to where an incarnation's commits are finished, unless they are listed: `$1`.
macro_rules! mark {
    () => {
        "mark AS (
    SELECT CASE WHEN i.recovered_at IS NOT NULL THEN 9223372036854775807
                ELSE coalesce(p.finished_through, 0) END AS finished_through
    FROM (SELECT $1::uuid AS id) w
    LEFT JOIN pactum.incarnations i ON i.id = w.id
    LEFT JOIN pactum.progress p ON p.incarnation = w.id
)"
    };
}

/// `$1` incarnation, `$2` after this number, `$3` limit, `$4` how many commits to look through. Those
/// unfinished among the next ones: what a page costs does not grow with how many there are in all. Finding
/// none says nothing of what follows. `number > 0` names the index; a straggler is looked up by its key for
/// each row, which a list that is being filled has no better plan for.
pub(super) const UNFINISHED_NEAR: &str = concat!(
    "WITH ",
    mark!(),
    "
SELECT gid, incarnation, number, decision, reason_kind, reason_message, branches, details, format
FROM (SELECT * FROM pactum.decisions
      WHERE incarnation = $1 AND number > 0 AND number > $2::int8 ORDER BY number LIMIT $4) d
WHERE number > (SELECT finished_through FROM mark)
   OR (SELECT t.incarnation FROM pactum.stragglers t WHERE t.gid = d.gid) = $1
ORDER BY number LIMIT $3"
);

/// `$1` incarnation, `$2` after this number, `$3` limit. However far the next ones lie: it reads every
/// straggler of the incarnation.
pub(super) const UNFINISHED_FAR: &str = concat!(
    "WITH ",
    mark!(),
    ", unfinished AS (
    (SELECT d.* FROM pactum.decisions d
     WHERE d.incarnation = $1 AND d.number > 0
       AND d.number > greatest($2::int8, (SELECT finished_through FROM mark))
     ORDER BY d.number LIMIT $3)
    UNION
    (SELECT d.* FROM pactum.stragglers t JOIN pactum.decisions d ON d.gid = t.gid
     WHERE t.incarnation = $1 AND d.number > $2::int8
     ORDER BY d.number LIMIT $3)
)
SELECT gid, incarnation, number, decision, reason_kind, reason_message, branches, details, format
FROM unfinished ORDER BY number, gid LIMIT $3"
);

/// `$1` incarnation. One without a row gets one, so that it need not be recovered again and again; its doubt
/// stays. A live one is left alone.
pub(super) const MARK_RECOVERED: &str = "\
INSERT INTO pactum.incarnations AS i (id, address, ended_at, recovered_at, doubted)
SELECT $1, '', now(), now(), s.absent_doubted FROM pactum.log_state s
ON CONFLICT (id) DO UPDATE SET recovered_at = now()
WHERE i.ended_at IS NOT NULL AND i.recovered_at IS NULL";

/// `$1` incarnation and `$2` its mark, `$3` gids and `$4` owners to list, `$5` gids to take off. One
/// statement, so all or nothing. A mark is never moved back.
pub(super) const RECORD_FINISHED: &str = "\
WITH mark AS (
    UPDATE pactum.progress SET finished_through = $2 WHERE incarnation = $1 AND finished_through < $2
), listed AS (
    INSERT INTO pactum.stragglers (gid, incarnation)
    SELECT * FROM unnest($3::uuid[], $4::uuid[]) ON CONFLICT (gid) DO NOTHING
)
DELETE FROM pactum.stragglers WHERE gid = ANY ($5::uuid[])";

/// `$1` gids, `$2` owners, `$3` branches, `$4` details, `$5` ages in seconds, `$6` format, `$7` gids to
/// drop.
pub(super) const RECORD_UNDECIDED: &str = "\
WITH kept AS (
    INSERT INTO pactum.undecided AS u (gid, incarnation, branches, details, format, began_at)
    SELECT n.gid, n.incarnation, n.branches, n.details, $6::int2, now() - make_interval(secs => n.age)
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::float8[])
        AS n (gid, incarnation, branches, details, age)
    ORDER BY n.gid
    ON CONFLICT (gid) DO UPDATE SET branches = excluded.branches
)
DELETE FROM pactum.undecided WHERE gid = ANY ($7::uuid[])";

/// `$1` gids, `$2` branches, `$3` incarnations, `$4` resources, `$5` instances, `$6` markers, `$7`
/// outcomes. An update even where nothing changes: it makes what stood there durable.
pub(super) const RECORD_HEURISTICS: &str = "\
INSERT INTO pactum.heuristics (gid, branch, incarnation, resource, instance, marker, outcome)
SELECT n.gid, n.branch, n.incarnation, n.resource, n.instance, n.marker, n.outcome
FROM unnest($1::uuid[], $2::int8[], $3::uuid[], $4::text[], $5::uuid[], $6::bool[], $7::text[])
    AS n (gid, branch, incarnation, resource, instance, marker, outcome)
ORDER BY n.gid, n.branch
ON CONFLICT (gid, branch) DO UPDATE SET outcome = excluded.outcome";

/// `$1` the floor that is wanted. Rows under the present one were passed before.
pub(super) const HAS_UNOWNED_COMMIT: &str = "\
SELECT EXISTS (
    SELECT FROM pactum.decisions d
    WHERE d.gid > (SELECT floor FROM pactum.log_state) AND d.gid <= $1 AND d.number > 0
      AND NOT EXISTS (SELECT FROM pactum.incarnations i WHERE i.id = d.incarnation)
      AND NOT EXISTS (SELECT FROM pactum.stragglers t WHERE t.gid = d.gid))";

/// `$1` the floor that is wanted, `$2` whether it was found barred already. Under the table's lock no
/// batch is in flight, so what this sees is all there is. It reads only what lies above the marks.
pub(super) const RAISE_FLOOR: &str = "\
UPDATE pactum.log_state SET floor = $1
WHERE floor < $1 AND NOT $2 AND NOT EXISTS (
    SELECT FROM pactum.incarnations i
    LEFT JOIN pactum.progress p ON p.incarnation = i.id
    JOIN pactum.decisions d ON d.incarnation = i.id AND d.number > 0
                           AND d.number > coalesce(p.finished_through, 0)
    WHERE i.recovered_at IS NULL AND d.gid <= $1
      AND NOT EXISTS (SELECT FROM pactum.stragglers t WHERE t.gid = d.gid))";

/// `$1` limit. Spares unfinished commits, and what an operator still has to look at. Stragglers without a
/// record go too: under the floor none can appear any more.
pub(super) const DELETE_BELOW_FLOOR: &str = "\
WITH doomed AS (
    SELECT d.gid FROM pactum.decisions d
    WHERE d.gid <= (SELECT floor FROM pactum.log_state)
      AND NOT EXISTS (SELECT FROM pactum.stragglers t WHERE t.gid = d.gid)
      AND NOT EXISTS (SELECT FROM pactum.heuristics h WHERE h.gid = d.gid)
    ORDER BY d.gid LIMIT $1
), idle AS (
    DELETE FROM pactum.undecided WHERE gid IN (
        SELECT gid FROM pactum.undecided WHERE gid <= (SELECT floor FROM pactum.log_state) LIMIT $1)
), empty AS (
    DELETE FROM pactum.stragglers t WHERE t.gid <= (SELECT floor FROM pactum.log_state)
      AND NOT EXISTS (SELECT FROM pactum.decisions d WHERE d.gid = t.gid)
), gone AS (
    DELETE FROM pactum.decisions WHERE gid IN (SELECT gid FROM doomed) RETURNING 1
)
SELECT count(*) FROM gone";

/// `$1` age in seconds. What owners left undecided that were recovered, or have no row, is closed by the
/// inquiries of its branches; these records are of use to people only, and not for long.
pub(super) const DELETE_UNDECIDED_OF_THE_DEAD: &str = "\
DELETE FROM pactum.undecided WHERE gid IN (
    SELECT u.gid FROM pactum.undecided u
    WHERE u.began_at < now() - make_interval(secs => $1)
      AND NOT EXISTS (SELECT FROM pactum.incarnations i WHERE i.id = u.incarnation AND i.recovered_at IS NULL)
    LIMIT 5000)";

/// `$1` age in seconds. In gid order from the floor up, to just before the first that is younger: so
/// no record is forgotten before its time, whatever time a caller's clock put into a gid. At most
/// 100 000 records a call, which bounds the scan here and in the raise that follows.
pub(super) const NEWEST_OLDER_THAN: &str = "\
WITH next AS MATERIALIZED (
    SELECT gid, decided_at <= now() - make_interval(secs => $1) AS old FROM pactum.decisions
    WHERE gid > (SELECT floor FROM pactum.log_state) ORDER BY gid LIMIT 100000
), young AS MATERIALIZED (
    SELECT gid FROM next WHERE NOT old ORDER BY gid LIMIT 1
)
SELECT gid FROM next
WHERE NOT EXISTS (SELECT FROM young) OR gid < (SELECT gid FROM young)
ORDER BY gid DESC LIMIT 1";

/// `$1` gids.
pub(super) const HEURISTICS_OF: &str = "\
SELECT gid, branch, incarnation, resource, instance, marker, outcome FROM pactum.heuristics
WHERE gid = ANY ($1) ORDER BY gid, branch";

/// `$1` only gids below, `$2` limit. One order for both columns: that of the key, read backwards. No join: it
/// could be made by reading all decisions in the same order.
pub(super) const LIST_HEURISTICS: &str = "\
SELECT h.gid, h.branch, h.incarnation, h.resource, h.instance, h.marker, h.outcome,
       (extract(epoch FROM h.recorded_at) * 1000000)::int8 AS recorded_micros,
       (SELECT d.decision FROM pactum.decisions d WHERE d.gid = h.gid) AS decision
FROM pactum.heuristics h
WHERE h.gid < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
ORDER BY h.gid DESC, h.branch DESC LIMIT $2";

/// `$1` gid.
pub(super) const FORGET_HEURISTICS: &str = "DELETE FROM pactum.heuristics WHERE gid = $1";

/// `$1` limit. The outcome is compared again in the row that is deleted: it may have been told anew since.
pub(super) const CLEAR_AGREEING_HEURISTICS: &str = "\
WITH agreeing AS MATERIALIZED (
    SELECT h.gid, h.branch, h.outcome FROM pactum.heuristics h
    WHERE h.outcome IN ('committed', 'aborted')
      AND (SELECT d.decision FROM pactum.decisions d WHERE d.gid = h.gid)
          = CASE h.outcome WHEN 'committed' THEN 'commit' ELSE 'abort' END
    ORDER BY h.gid, h.branch LIMIT $1
)
DELETE FROM pactum.heuristics h USING agreeing a
WHERE h.gid = a.gid AND h.branch = a.branch AND h.outcome = a.outcome
RETURNING h.gid, h.branch, h.incarnation, h.resource, h.instance, h.marker, h.outcome";

/// `$1` incarnations.
pub(super) const DOUBTED_OF: &str = "\
SELECT w.id FROM pactum.log_state s CROSS JOIN unnest($1::uuid[]) AS w (id)
LEFT JOIN pactum.incarnations i ON i.id = w.id
WHERE coalesce(i.doubted, s.absent_doubted)";

/// Which server this is. See `adoption.rs` for why the timeline is read from there.
macro_rules! server_columns {
    () => {
        "c.system_identifier AS system,
       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 AS timeline"
    };
}

/// Needs no schema.
pub(super) const SERVER: &str = concat!("SELECT ", server_columns!(), " FROM pg_control_system() c");

/// Which server this is, and which one the log says it is on.
pub(super) const OBSERVE: &str = concat!(
    "SELECT ",
    server_columns!(),
    ", (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::int8 AS position,
       s.system_identifier AS stored_system, s.timeline AS stored_timeline, s.switches
FROM pg_control_system() c CROSS JOIN pactum.log_state s"
);

/// Waits for every batch in flight and holds those that follow, in the order in which they lock too.
pub(super) const LOCK_HISTORY: &str = "LOCK TABLE pactum.incarnations IN EXCLUSIVE MODE; \
LOCK TABLE pactum.log_state IN EXCLUSIVE MODE";

/// As [`LOCK_HISTORY`], where the floor and the switches are left alone.
pub(super) const LOCK_INCARNATIONS: &str = "LOCK TABLE pactum.incarnations IN EXCLUSIVE MODE";

/// `$1` system, `$2` timeline.
pub(super) const INTRODUCE: &str = "UPDATE pactum.log_state SET system_identifier = $1, timeline = $2";

/// `$1` system and `$2` timeline if they are others now, `$3` least number of switches.
pub(super) const SWITCH: &str = "\
UPDATE pactum.log_state SET system_identifier = coalesce($1, system_identifier),
    timeline = coalesce($2, timeline), switches = greatest(switches + 1, $3), absent_doubted = true";

/// Goes with [`SWITCH`].
pub(super) const DOUBT: &str =
    "UPDATE pactum.incarnations SET ended_at = now(), doubted = true WHERE ended_at IS NULL";

/// `$1` gids. Those that neither stand nor were forgotten.
pub(super) const MISSING: &str = "\
SELECT w.gid FROM unnest($1::uuid[]) AS w (gid) CROSS JOIN pactum.log_state s
WHERE w.gid > s.floor AND NOT EXISTS (SELECT FROM pactum.decisions d WHERE d.gid = w.gid)
ORDER BY w.gid";

/// `$1` incarnation. One in doubt, or one without a row where that is in doubt.
pub(super) const RELEASE_ONE: &str = "\
INSERT INTO pactum.incarnations AS i (id, address, ended_at)
SELECT $1, '', now() FROM pactum.log_state s
WHERE s.absent_doubted OR EXISTS (SELECT FROM pactum.incarnations k WHERE k.id = $1)
ON CONFLICT (id) DO UPDATE SET doubted = false WHERE i.doubted";

/// The same: whose word it is stands in the event.
pub(super) const VOUCH: &str = RELEASE_ONE;

pub(super) const RELEASE_ALL: &str = "UPDATE pactum.incarnations SET doubted = false WHERE doubted";

/// Goes with [`RELEASE_ALL`].
pub(super) const RELEASE_ABSENT: &str = "UPDATE pactum.log_state SET absent_doubted = false";

/// `$1` kind, `$2` incarnation or null, `$3` detail.
pub(super) const NOTE: &str = "INSERT INTO pactum.events (kind, incarnation, detail) VALUES ($1, $2, $3)";

/// At least one row, for the state.
pub(super) const STATUS: &str = concat!(
    "\
SELECT s.floor, s.switches, s.absent_doubted, i.id, i.address, i.ended_at IS NULL AS live,
       i.recovered_at IS NOT NULL AS recovered, i.doubted,
       (extract(epoch FROM i.started_at) * 1000000)::int8 AS started_micros,
       (extract(epoch FROM i.ended_at) * 1000000)::int8 AS ended_micros,
       ",
    replication_columns!(),
    "
FROM pactum.log_state s LEFT JOIN pactum.incarnations i
  ON i.ended_at IS NULL OR i.doubted OR i.recovered_at IS NULL
ORDER BY i.started_at, i.id"
);

/// The server's clock.
pub(super) const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS micros";

/// `$1` limit.
pub(super) const EVENTS: &str = "\
SELECT (extract(epoch FROM at) * 1000000)::int8 AS micros, kind, incarnation, who, detail
FROM pactum.events ORDER BY id DESC LIMIT $1";

/// Tries an insert and takes it back: a log that answers SELECT may still be full or read-only.
pub(super) const PROBE: &str = "\
BEGIN;
INSERT INTO pactum.decisions (gid, incarnation, number, decision, reason_kind, reason_message)
VALUES (gen_random_uuid(), gen_random_uuid(), 0, 'abort', 'requested', 'probe');
ROLLBACK";

/// Fails in a database that was made read-only since.
pub(super) const CHECK: &str = "SELECT 1 / (current_setting('transaction_read_only') = 'off')::int";
