//! Pages of the log for operators. A page costs what it shows, and not what the log holds.
//!
//! What is unfinished is known by marks, not by a column, so no index has it in the order of gids. It is
//! looked for in two places. First in the newest rows below the page's bound, in the order of the key:
//! while a resource is away, most of them are unfinished, and the page is full at once. If it is not, then
//! in the list of stragglers, which has a key of its own, and in what lies above the marks, which is
//! sorted: that is what was decided in the last moments, or since the mark of some incarnation stands still.
//!
//! Each sub-select with a LIMIT or OFFSET is a fence: the server cannot turn it into a join over all rows,
//! as its estimates of these conditions would have it do.

use sqlx::postgres::PgRow;

use super::session::Session;
use super::{rows, uuids};
use crate::decision_log::{DecisionLogError, ListPage, PageFilter, StoredTransaction, page_filter};

/// `$1` only gids below, `$4` only this gid. Ranges, since the key is not used under an OR.
macro_rules! range {
    ($gid:literal) => {
        concat!(
            $gid,
            " < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) AND ",
            $gid,
            " BETWEEN coalesce($4, '00000000-0000-0000-0000-000000000000'::uuid)
                  AND coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)"
        )
    };
}

/// `$2` part of the gid in hexadecimal digits.
macro_rules! part {
    ($gid:literal) => {
        concat!(
            "($2::text IS NULL OR replace(",
            $gid,
            "::text, '-', '') LIKE $2 || '%' OR replace(",
            $gid,
            "::text, '-', '') LIKE '%' || $2)"
        )
    };
}

/// The columns of a listed decision, and whether it is finished.
macro_rules! decided {
    () => {
        "SELECT d.gid, d.incarnation, d.number, d.decision, d.reason_kind, d.reason_message, d.branches,
       d.details, d.format, (extract(epoch FROM d.decided_at) * 1000000)::int8 AS decided_micros,
       (d.number = 0 OR d.number <= coalesce(p.finished_through, 0) OR i.recovered_at IS NOT NULL)
           AND NOT EXISTS (SELECT FROM pactum.stragglers t WHERE t.gid = d.gid) AS finished "
    };
}

/// Beside [`decided`].
macro_rules! owners {
    () => {
        " LEFT JOIN pactum.incarnations i ON i.id = d.incarnation
LEFT JOIN pactum.progress p ON p.incarnation = d.incarnation "
    };
}

/// `$1` to `$4` as above, `$3` limit.
const DECIDED: &str = concat!(
    decided!(),
    "FROM pactum.decisions d",
    owners!(),
    "WHERE ",
    range!("d.gid"),
    " AND ",
    part!("d.gid"),
    " ORDER BY d.gid DESC LIMIT $3"
);

/// As [`DECIDED`], of the 2000 newest below the bound.
const UNFINISHED_NEAR: &str = concat!(
    "SELECT * FROM (",
    decided!(),
    "FROM (SELECT * FROM pactum.decisions d WHERE ",
    range!("d.gid"),
    " ORDER BY d.gid DESC LIMIT 2000) d",
    owners!(),
    "WHERE ",
    part!("d.gid"),
    ") d WHERE NOT d.finished ORDER BY d.gid DESC LIMIT $3"
);

/// As [`DECIDED`]. An owner without a row counts as ended with nothing finished; owners are found by hopping
/// from one to the next in the index.
const UNFINISHED: &str = concat!(
    "\
WITH RECURSIVE owners AS (
    (SELECT incarnation FROM pactum.decisions WHERE number > 0 ORDER BY incarnation LIMIT 1)
    UNION ALL
    SELECT (SELECT d.incarnation FROM pactum.decisions d
            WHERE d.number > 0 AND d.incarnation > o.incarnation ORDER BY d.incarnation LIMIT 1)
    FROM owners o WHERE o.incarnation IS NOT NULL
), marks AS MATERIALIZED (
    SELECT i.id, coalesce(p.finished_through, 0) AS mark
    FROM pactum.incarnations i LEFT JOIN pactum.progress p ON p.incarnation = i.id
    WHERE i.recovered_at IS NULL
    UNION ALL
    SELECT o.incarnation, 0 FROM owners o WHERE o.incarnation IS NOT NULL
      AND NOT EXISTS (SELECT FROM pactum.incarnations i WHERE i.id = o.incarnation)
), listed AS MATERIALIZED (
    SELECT t.gid FROM pactum.stragglers t WHERE ",
    range!("t.gid"),
    " AND ",
    part!("t.gid"),
    " AND (SELECT d.number FROM pactum.decisions d WHERE d.gid = t.gid) > 0
    ORDER BY t.gid DESC LIMIT $3
), above AS MATERIALIZED (
    SELECT a.gid FROM marks m CROSS JOIN LATERAL (
        SELECT c.gid FROM (
            SELECT d.gid FROM pactum.decisions d
            WHERE d.incarnation = m.id AND d.number > 0 AND d.number > m.mark OFFSET 0) c
        WHERE ",
    range!("c.gid"),
    " AND ",
    part!("c.gid"),
    " ORDER BY c.gid DESC LIMIT $3) a
), page AS MATERIALIZED (
    SELECT u.gid FROM (SELECT gid FROM listed UNION SELECT gid FROM above) u ORDER BY u.gid DESC LIMIT $3
) ",
    decided!(),
    "FROM page CROSS JOIN LATERAL (SELECT * FROM pactum.decisions d WHERE d.gid = page.gid OFFSET 0) d",
    owners!(),
    "ORDER BY d.gid DESC"
);

/// As [`DECIDED`], of prepare records.
const UNDECIDED: &str = concat!(
    "\
SELECT u.gid, u.incarnation, u.branches, u.details, u.format,
       (extract(epoch FROM now() - u.began_at) * 1000)::int8 AS age_millis
FROM pactum.undecided u WHERE ",
    range!("u.gid"),
    " AND ",
    part!("u.gid"),
    " AND (SELECT d.number FROM pactum.decisions d WHERE d.gid = u.gid) IS NULL
ORDER BY u.gid DESC LIMIT $3"
);

pub(super) async fn list(
    session: &mut Session,
    page: ListPage,
) -> Result<Vec<StoredTransaction>, DecisionLogError> {
    let Some(filter) = page_filter(&page) else {
        return Ok(Vec::new());
    };
    let limit = page.limit as usize;
    let mut found = if page.unfinished_only {
        let near = fetch(session, UNFINISHED_NEAR, &filter, limit, rows::stored).await?;
        // The newest that there are fill a page; and a single gid is near wherever it is.
        if near.len() == limit || filter.exact.is_some() {
            near
        } else {
            fetch(session, UNFINISHED, &filter, limit, rows::stored).await?
        }
    } else {
        fetch(session, DECIDED, &filter, limit, rows::stored).await?
    };
    found.extend(fetch(session, UNDECIDED, &filter, limit, rows::undecided).await?);
    found.sort_by_key(|stored| std::cmp::Reverse(stored.id.gid));
    found.truncate(limit);
    let gids = uuids(found.iter().map(|stored| &stored.id.gid));
    for heuristic in session.heuristics_of(gids).await? {
        for stored in found.iter_mut().filter(|stored| stored.id.gid == heuristic.id.gid) {
            stored.heuristics.push(heuristic.clone());
        }
    }
    Ok(found)
}

/// Runs one of the statements above.
async fn fetch(
    session: &mut Session,
    sql: &'static str,
    filter: &PageFilter,
    limit: usize,
    read: fn(&PgRow) -> Result<StoredTransaction, DecisionLogError>,
) -> Result<Vec<StoredTransaction>, DecisionLogError> {
    let statement = sqlx::query(sql)
        .bind(filter.before)
        .bind(&filter.part)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(filter.exact)
        .fetch_all(&mut session.connection);
    session.notices.watch(session.limit, statement).await?.iter().map(read).collect()
}

#[cfg(test)]
mod tests;
