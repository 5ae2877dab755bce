//! Pages of the log for operators.

use uuid::Uuid;

use super::session::Session;
use super::{rows, sql, uuids};
use crate::decision_log::{DecisionLogError, HeuristicRecord, ListPage, StoredTransaction, page_filter};

pub(super) async fn list(
    session: &mut Session,
    page: ListPage,
) -> Result<Vec<StoredTransaction>, DecisionLogError> {
    let Some(filter) = page_filter(&page) else {
        return Ok(Vec::new());
    };
    let mut page_of = Vec::new();
    for (sql, read) in [
        (
            if page.unfinished_only { sql::LIST_UNFINISHED } else { sql::LIST_DECIDED },
            rows::stored as fn(&_) -> _,
        ),
        (sql::LIST_UNDECIDED, rows::undecided),
    ] {
        let statement = sqlx::query(sql)
            .bind(filter.before)
            .bind(&filter.part)
            .bind(i64::from(page.limit))
            .bind(filter.exact)
            .fetch_all(&mut session.connection);
        for row in session.notices.watch(session.limit, statement).await? {
            page_of.push(read(&row)?);
        }
    }
    page_of.sort_by_key(|stored: &StoredTransaction| std::cmp::Reverse(stored.id.gid));
    page_of.truncate(page.limit as usize);
    let gids = uuids(page_of.iter().map(|stored| &stored.id.gid));
    for heuristic in heuristics_of(session, gids).await? {
        for stored in page_of.iter_mut().filter(|stored| stored.id.gid == heuristic.id.gid) {
            stored.heuristics.push(heuristic.clone());
        }
    }
    Ok(page_of)
}

pub(super) async fn heuristics_of(
    session: &mut Session,
    gids: Vec<Uuid>,
) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
    let statement = sqlx::query(sql::HEURISTICS_OF).bind(gids).fetch_all(&mut session.connection);
    session.notices.watch(session.limit, statement).await?.iter().map(rows::heuristic).collect()
}
