//! Pages of the log for operators. As those of the PostgreSQL log (`postgres/listing.rs`, where the reasons
//! are): a page costs what it shows, and not what the log holds.

use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{database, gids_text, heuristics, rows};
use crate::decision_log::{DecisionLogError, ListPage, PageFilter, StoredTransaction, page_filter};

/// `?1` only gids below, `?4` only this gid. Ranges, since the key is not used under an OR.
macro_rules! range {
    ($gid:literal) => {
        concat!($gid, " < coalesce(?1, 'g') AND ", $gid, " BETWEEN coalesce(?4, '') AND coalesce(?4, 'g')")
    };
}

/// `?2` part of the gid in hexadecimal digits.
macro_rules! part {
    ($gid:literal) => {
        concat!(
            "(?2 IS NULL OR replace(",
            $gid,
            ", '-', '') LIKE ?2 || '%' OR replace(",
            $gid,
            ", '-', '') LIKE '%' || ?2)"
        )
    };
}

/// The columns of a listed decision, and whether it is finished.
macro_rules! decided {
    () => {
        "SELECT d.gid, d.incarnation, d.number, d.decision, d.reason_kind, d.reason_message, d.branches,
       d.details, d.format, d.decided_at,
       (d.number = 0 OR d.number <= coalesce(i.finished_through, 0) OR i.recovered_at IS NOT NULL)
           AND NOT EXISTS (SELECT 1 FROM stragglers AS t WHERE t.gid = d.gid) AS finished "
    };
}

/// `?3` limit.
const DECIDED: &str = concat!(
    decided!(),
    "FROM decisions AS d LEFT JOIN incarnations AS i ON i.id = d.incarnation WHERE ",
    range!("d.gid"),
    " AND ",
    part!("d.gid"),
    " ORDER BY d.gid DESC LIMIT ?3"
);

/// As [`DECIDED`], of the 2000 newest below the bound.
const UNFINISHED_NEAR: &str = concat!(
    decided!(),
    "FROM (SELECT * FROM decisions AS d WHERE ",
    range!("d.gid"),
    " ORDER BY d.gid DESC LIMIT 2000) AS d LEFT JOIN incarnations AS i ON i.id = d.incarnation WHERE ",
    part!("d.gid"),
    " AND NOT finished ORDER BY d.gid DESC LIMIT ?3"
);

/// As [`DECIDED`]. CROSS JOIN, and the index by its name: the marks first, then what lies above each, read from
/// that index alone, which holds the gid too. Of two lower bounds SQLite starts at the one that is written
/// first; the second only makes the index one that may be used.
const UNFINISHED: &str = concat!(
    "\
WITH RECURSIVE owners (incarnation) AS (
    SELECT min(incarnation) FROM decisions WHERE number > 0
    UNION ALL
    SELECT (SELECT min(d.incarnation) FROM decisions AS d WHERE d.number > 0 AND d.incarnation > o.incarnation)
    FROM owners AS o WHERE o.incarnation IS NOT NULL
), marks (id, mark) AS MATERIALIZED (
    SELECT i.id, i.finished_through FROM incarnations AS i WHERE i.recovered_at IS NULL
    UNION ALL
    SELECT o.incarnation, 0 FROM owners AS o WHERE o.incarnation IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM incarnations AS i WHERE i.id = o.incarnation)
), listed (gid) AS MATERIALIZED (
    SELECT t.gid FROM stragglers AS t WHERE ",
    range!("t.gid"),
    " AND ",
    part!("t.gid"),
    " AND (SELECT d.number FROM decisions AS d WHERE d.gid = t.gid) > 0
    ORDER BY t.gid DESC LIMIT ?3
), above (gid) AS MATERIALIZED (
    SELECT c.gid FROM marks AS m CROSS JOIN decisions AS c INDEXED BY decisions_to_recover
    WHERE c.incarnation = m.id AND c.number > m.mark AND c.number > 0 AND ",
    range!("c.gid"),
    " AND ",
    part!("c.gid"),
    " ORDER BY c.gid DESC LIMIT ?3
), page (gid) AS MATERIALIZED (
    SELECT gid FROM listed UNION SELECT gid FROM above ORDER BY gid DESC LIMIT ?3
) ",
    decided!(),
    "FROM page CROSS JOIN decisions AS d ON d.gid = page.gid
LEFT JOIN incarnations AS i ON i.id = d.incarnation ORDER BY d.gid DESC"
);

/// As [`DECIDED`], of prepare records.
const UNDECIDED: &str = concat!(
    "\
SELECT u.gid, u.incarnation, u.branches, u.details, u.format, u.began_at
FROM undecided AS u WHERE ",
    range!("u.gid"),
    " AND ",
    part!("u.gid"),
    " AND NOT EXISTS (SELECT 1 FROM decisions AS d WHERE d.gid = u.gid)
ORDER BY u.gid DESC LIMIT ?3"
);

pub(super) async fn list(
    connection: &mut SqliteConnection,
    page: ListPage,
) -> Result<Vec<StoredTransaction>, DecisionLogError> {
    let Some(filter) = page_filter(&page) else {
        return Ok(Vec::new());
    };
    let limit = page.limit as usize;
    let mut found = if page.unfinished_only {
        let near = fetch(connection, UNFINISHED_NEAR, &filter, limit, rows::stored).await?;
        if near.len() == limit || filter.exact.is_some() {
            near
        } else {
            fetch(connection, UNFINISHED, &filter, limit, rows::stored).await?
        }
    } else {
        fetch(connection, DECIDED, &filter, limit, rows::stored).await?
    };
    found.extend(fetch(connection, UNDECIDED, &filter, limit, rows::undecided).await?);
    found.sort_by_key(|stored| std::cmp::Reverse(stored.id.gid));
    found.truncate(limit);
    let gids = gids_text(found.iter().map(|stored| &stored.id.gid));
    for heuristic in heuristics::of(connection, gids).await? {
        for stored in found.iter_mut().filter(|stored| stored.id.gid == heuristic.id.gid) {
            stored.heuristics.push(heuristic.clone());
        }
    }
    Ok(found)
}

/// Runs one of the statements above.
async fn fetch(
    connection: &mut SqliteConnection,
    sql: &'static str,
    filter: &PageFilter,
    limit: usize,
    read: fn(&SqliteRow) -> Result<StoredTransaction, DecisionLogError>,
) -> Result<Vec<StoredTransaction>, DecisionLogError> {
    let statement = sqlx::query(sql)
        .bind(filter.before.map(|gid| gid.to_string()))
        .bind(&filter.part)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(filter.exact.map(|gid| gid.to_string()));
    statement.fetch_all(connection).await.map_err(database)?.iter().map(read).collect()
}

#[cfg(test)]
mod tests;
