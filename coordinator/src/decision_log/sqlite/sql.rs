//! The statements of the SQLite log. They say what those of the PostgreSQL log say (`postgres/sql.rs`,
//! where the reasons are); lists travel as JSON arrays. What stands here is what differs.
//!
//! A commit is *unfinished* if its number lies above its incarnation's finish mark and that one is
//! not recovered, or if it is listed among the stragglers.

/// `?1` rows, `?2` our incarnation, `?3` format, `?4` now.
pub(super) const INSERT: &str = "\
INSERT INTO decisions (gid, incarnation, number, decision, reason_kind, reason_message, branches,
                       details, format, decided_at)
SELECT p.value ->> 0, p.value ->> 1, p.value ->> 2, p.value ->> 3, p.value ->> 4, p.value ->> 5,
       p.value ->> 6, p.value ->> 7, ?3, ?4
FROM json_each(?1) AS p, log_state AS s LEFT JOIN incarnations AS o ON o.id = p.value ->> 1
WHERE p.value ->> 0 > s.floor
  AND ((p.value ->> 2 = 0 AND NOT coalesce(o.doubted, s.absent_doubted))
       OR (p.value ->> 1 = ?2
           AND EXISTS (SELECT 1 FROM incarnations AS i WHERE i.id = ?2 AND i.ended_at IS NULL)))
ORDER BY 1
ON CONFLICT (gid) DO NOTHING
RETURNING gid";

/// `?1` gids, `?2` our incarnation, `?3` owners. At least one row, for the floor, the fence and the owners
/// that are in doubt.
pub(super) const READ: &str = "\
SELECT s.floor,
       (SELECT json_group_array(w.value)
        FROM json_each(?3) AS w LEFT JOIN incarnations AS i ON i.id = w.value
        WHERE coalesce(i.doubted, s.absent_doubted)) AS doubted,
       EXISTS (SELECT 1 FROM incarnations AS i WHERE i.id = ?2 AND i.ended_at IS NULL) AS live,
       d.gid, d.incarnation, d.number, d.decision, d.reason_kind, d.reason_message, d.branches,
       d.details, d.format
FROM log_state AS s LEFT JOIN decisions AS d ON d.gid IN (SELECT value FROM json_each(?1))";

/// A write made only to be forced.
pub(super) const BARRIER: &str = "UPDATE log_state SET barriers = barriers + 1";

/// `?1` incarnation, `?2` address, `?3` now.
pub(super) const START: &str = "INSERT INTO incarnations (id, address, started_at) VALUES (?1, ?2, ?3)";

/// The beat itself is kept in memory.
pub(super) const HEARTBEAT: &str = "\
SELECT s.floor, i.id, i.address, (SELECT count(*) FROM incarnations WHERE doubted) AS doubted
FROM log_state AS s LEFT JOIN incarnations AS i ON i.ended_at IS NULL";

/// `?1` incarnation, `?2` now.
pub(super) const END: &str = "UPDATE incarnations SET ended_at = ?2 WHERE id = ?1 AND ended_at IS NULL";

/// Ended and not recovered, or with stragglers left, or without a row.
pub(super) const UNRECOVERED: &str = "\
WITH RECURSIVE owners (incarnation) AS (
    SELECT min(incarnation) FROM decisions WHERE number > 0
    UNION ALL
    SELECT (SELECT min(d.incarnation) FROM decisions AS d WHERE d.number > 0 AND d.incarnation > o.incarnation)
    FROM owners AS o WHERE o.incarnation IS NOT NULL
)
SELECT i.id FROM incarnations AS i
WHERE i.ended_at IS NOT NULL
  AND (i.recovered_at IS NULL
       OR EXISTS (SELECT 1 FROM stragglers AS t JOIN decisions AS d ON d.gid = t.gid WHERE t.incarnation = i.id))
UNION
SELECT o.incarnation FROM owners AS o
WHERE o.incarnation IS NOT NULL AND NOT EXISTS (SELECT 1 FROM incarnations AS i WHERE i.id = o.incarnation)
ORDER BY 1";

/// `?1` incarnation, `?2` after this number, `?3` limit. SQLite starts at the lower bound that is written first.
pub(super) const UNFINISHED: &str = "\
SELECT d.gid, d.incarnation, d.number, d.decision, d.reason_kind, d.reason_message, d.branches,
       d.details, d.format
FROM decisions AS d LEFT JOIN incarnations AS i ON i.id = d.incarnation
WHERE d.incarnation = ?1 AND d.number > ?2 AND d.number > 0
  AND ((i.recovered_at IS NULL AND d.number > coalesce(i.finished_through, 0))
       OR EXISTS (SELECT 1 FROM stragglers AS t WHERE t.gid = d.gid))
ORDER BY d.number, d.gid LIMIT ?3";

/// `?1` incarnation, `?2` now.
pub(super) const MARK_RECOVERED: &str = "\
INSERT INTO incarnations (id, address, started_at, ended_at, recovered_at, doubted)
SELECT ?1, '', ?2, ?2, ?2, s.absent_doubted FROM log_state AS s WHERE true
ON CONFLICT (id) DO UPDATE SET recovered_at = ?2 WHERE ended_at IS NOT NULL AND recovered_at IS NULL";

/// `?1` incarnation, `?2` its mark.
pub(super) const MARK: &str =
    "UPDATE incarnations SET finished_through = ?2 WHERE id = ?1 AND finished_through < ?2";

/// `?1` pairs of gid and incarnation.
pub(super) const LIST_STRAGGLERS: &str = "\
INSERT INTO stragglers (gid, incarnation)
SELECT p.value ->> 0, p.value ->> 1 FROM json_each(?1) AS p WHERE true ON CONFLICT (gid) DO NOTHING";

/// `?1` gids.
pub(super) const UNLIST_STRAGGLERS: &str =
    "DELETE FROM stragglers WHERE gid IN (SELECT value FROM json_each(?1))";

/// `?1` rows, `?2` format.
pub(super) const KEEP_UNDECIDED: &str = "\
INSERT INTO undecided (gid, incarnation, branches, details, format, began_at)
SELECT p.value ->> 0, p.value ->> 1, p.value ->> 2, p.value ->> 3, ?2, p.value ->> 4
FROM json_each(?1) AS p WHERE true
ON CONFLICT (gid) DO UPDATE SET branches = excluded.branches";

/// `?1` gids.
pub(super) const DROP_UNDECIDED: &str =
    "DELETE FROM undecided WHERE gid IN (SELECT value FROM json_each(?1))";

/// `?1` rows, `?2` now.
pub(super) const RECORD_HEURISTICS: &str = "\
INSERT INTO heuristics (gid, branch, incarnation, resource, instance, marker, outcome, recorded_at)
SELECT p.value ->> 0, p.value ->> 1, p.value ->> 2, p.value ->> 3, p.value ->> 4, p.value ->> 5,
       p.value ->> 6, ?2
FROM json_each(?1) AS p WHERE true
ON CONFLICT (gid, branch) DO UPDATE SET outcome = excluded.outcome";

/// `?1` the floor that is wanted. Rows under the present one were passed before.
pub(super) const RAISE_FLOOR: &str = "\
UPDATE log_state SET floor = ?1
WHERE floor < ?1 AND NOT EXISTS (
    SELECT 1 FROM decisions AS d LEFT JOIN incarnations AS i ON i.id = d.incarnation
    WHERE d.gid > log_state.floor AND d.gid <= ?1 AND d.number > 0
      AND i.recovered_at IS NULL AND d.number > coalesce(i.finished_through, 0)
      AND NOT EXISTS (SELECT 1 FROM stragglers AS t WHERE t.gid = d.gid))";

/// `?1` limit.
pub(super) const DELETE_BELOW_FLOOR: &str = "\
DELETE FROM decisions WHERE gid IN (
    SELECT d.gid FROM decisions AS d
    WHERE d.gid <= (SELECT floor FROM log_state)
      AND NOT EXISTS (SELECT 1 FROM stragglers AS t WHERE t.gid = d.gid)
      AND NOT EXISTS (SELECT 1 FROM heuristics AS h WHERE h.gid = d.gid)
    ORDER BY d.gid LIMIT ?1)";

/// `?1` limit.
pub(super) const DELETE_UNDECIDED_BELOW_FLOOR: &str = "\
DELETE FROM undecided WHERE gid IN (
    SELECT gid FROM undecided WHERE gid <= (SELECT floor FROM log_state) LIMIT ?1)";

/// `?1` the latest time that counts as old.
pub(super) const NEWEST_OLDER_THAN: &str = "\
WITH next AS MATERIALIZED (
    SELECT gid, decided_at <= ?1 AS old FROM decisions
    WHERE gid > (SELECT floor FROM log_state) ORDER BY gid LIMIT 100000
)
SELECT gid FROM next
WHERE gid < coalesce((SELECT min(gid) FROM next WHERE NOT old), 'g')
ORDER BY gid DESC LIMIT 1";

/// Listed by somebody and not in the log: nothing to drive, and no reason to recover their owner again.
pub(super) const DELETE_EMPTY_STRAGGLERS: &str = "\
DELETE FROM stragglers WHERE gid <= (SELECT floor FROM log_state)
  AND NOT EXISTS (SELECT 1 FROM decisions AS d WHERE d.gid = stragglers.gid)";

/// `?1` when what began before is of use to nobody. Of owners that were recovered: whatever they left
/// undecided is closed by the inquiries of its branches.
pub(super) const DELETE_UNDECIDED_OF_THE_DEAD: &str = "\
DELETE FROM undecided WHERE began_at < ?1 AND NOT EXISTS (
    SELECT 1 FROM incarnations AS i WHERE i.id = undecided.incarnation AND i.recovered_at IS NULL)";

/// `?1` now. All that had not ended, ended and in doubt.
pub(super) const DOUBT: &str = "UPDATE incarnations SET ended_at = ?1, doubted = 1 WHERE ended_at IS NULL";

/// Goes with [`DOUBT`].
pub(super) const SWITCH: &str = "UPDATE log_state SET switches = switches + 1, absent_doubted = 1";

/// `?1` incarnation. One in doubt, or one without a row where that is in doubt.
pub(super) const RELEASE_ONE: &str = "\
INSERT INTO incarnations (id, address, started_at, ended_at)
SELECT ?1, '', 0, 0 FROM log_state AS s
WHERE s.absent_doubted OR EXISTS (SELECT 1 FROM incarnations AS i WHERE i.id = ?1)
ON CONFLICT (id) DO UPDATE SET doubted = 0 WHERE doubted";

pub(super) const RELEASE_ALL: &str = "UPDATE incarnations SET doubted = 0 WHERE doubted";

/// Goes with [`RELEASE_ALL`].
pub(super) const RELEASE_ABSENT: &str = "UPDATE log_state SET absent_doubted = 0";

/// `?1` incarnation.
pub(super) const VOUCH: &str = "UPDATE incarnations SET doubted = 0 WHERE id = ?1 AND doubted";

/// `?1` now, `?2` kind, `?3` incarnation or null, `?4` detail.
pub(super) const NOTE: &str = "INSERT INTO events (at, kind, incarnation, detail) VALUES (?1, ?2, ?3, ?4)";

pub(super) const STATUS: &str = "\
SELECT s.floor, s.switches, s.absent_doubted, i.id, i.address, i.ended_at IS NULL AS live,
       i.recovered_at IS NOT NULL AS recovered, i.doubted, i.started_at, i.ended_at AS run_ended_at
FROM log_state AS s LEFT JOIN incarnations AS i
  ON i.ended_at IS NULL OR i.doubted OR i.recovered_at IS NULL
ORDER BY i.started_at, i.id";

/// `?1` limit.
pub(super) const EVENTS: &str = "SELECT at, kind, incarnation, detail FROM events ORDER BY id DESC LIMIT ?1";

/// `?1` gids.
pub(super) const HEURISTICS_OF: &str = "\
SELECT gid, branch, incarnation, resource, instance, marker, outcome FROM heuristics
WHERE gid IN (SELECT value FROM json_each(?1)) ORDER BY gid, branch";

/// `?1` only gids below, `?2` limit.
pub(super) const LIST_HEURISTICS: &str = "\
SELECT h.gid, h.branch, h.incarnation, h.resource, h.instance, h.marker, h.outcome, h.recorded_at, d.decision
FROM heuristics AS h LEFT JOIN decisions AS d ON d.gid = h.gid
WHERE h.gid < coalesce(?1, 'g') ORDER BY h.gid DESC, h.branch DESC LIMIT ?2";

/// `?1` gid.
pub(super) const FORGET_HEURISTICS: &str = "DELETE FROM heuristics WHERE gid = ?1";

/// `?1` limit.
pub(super) const CLEAR_AGREEING_HEURISTICS: &str = "\
DELETE FROM heuristics WHERE (gid, branch) IN (
    SELECT h.gid, h.branch FROM heuristics AS h JOIN decisions AS d ON d.gid = h.gid
    WHERE (h.outcome = 'committed' AND d.decision = 'commit') OR (h.outcome = 'aborted' AND d.decision = 'abort')
    ORDER BY h.gid, h.branch LIMIT ?1)
RETURNING gid, branch, incarnation, resource, instance, marker, outcome";

/// `?1` incarnations.
pub(super) const DOUBTED_OF: &str = "\
SELECT w.value FROM log_state AS s, json_each(?1) AS w LEFT JOIN incarnations AS i ON i.id = w.value
WHERE coalesce(i.doubted, s.absent_doubted)";
