//! Pages of the log for operators.

use sqlx::sqlite::SqliteConnection;

use super::{database, gids_text, rows, sql};
use crate::decision_log::{DecisionLogError, HeuristicRecord, ListPage, StoredTransaction, page_filter};

pub(super) async fn list(
    connection: &mut SqliteConnection,
    page: ListPage,
) -> Result<Vec<StoredTransaction>, DecisionLogError> {
    let Some(filter) = page_filter(&page) else {
        return Ok(Vec::new());
    };
    let before = filter.before.map(|gid| gid.to_string());
    let exact = filter.exact.map(|gid| gid.to_string());
    let mut found = Vec::new();
    for (sql, read) in [
        (
            if page.unfinished_only { sql::LIST_UNFINISHED } else { sql::LIST_DECIDED },
            rows::stored as fn(&_) -> _,
        ),
        (sql::LIST_UNDECIDED, rows::undecided),
    ] {
        let statement =
            sqlx::query(sql).bind(&before).bind(&filter.part).bind(i64::from(page.limit)).bind(&exact);
        for row in statement.fetch_all(&mut *connection).await.map_err(database)? {
            found.push(read(&row)?);
        }
    }
    found.sort_by_key(|stored: &StoredTransaction| std::cmp::Reverse(stored.id.gid));
    found.truncate(page.limit as usize);
    let gids = gids_text(found.iter().map(|stored| &stored.id.gid));
    for heuristic in heuristics_of(connection, gids).await? {
        for stored in found.iter_mut().filter(|stored| stored.id.gid == heuristic.id.gid) {
            stored.heuristics.push(heuristic.clone());
        }
    }
    Ok(found)
}

pub(super) async fn heuristics_of(
    connection: &mut SqliteConnection,
    gids: String,
) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
    let rows = sqlx::query(sql::HEURISTICS_OF).bind(gids).fetch_all(connection).await.map_err(database)?;
    rows.iter().map(rows::heuristic).collect()
}
