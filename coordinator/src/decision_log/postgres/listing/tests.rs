//! How many rows a page reads, as the server counts them.

use pactum_core::id::{Gid, Incarnation};
use pactum_postgres_server::PostgresServer;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::super::session::SessionError;
use super::super::{PostgresLog, PostgresLogOptions, sql};
use super::*;
use crate::decision_log::DecisionLog as _;

/// Finished commits, all newer than the unfinished ones; and unfinished ones.
const FINISHED: u32 = 40_000;
const UNFINISHED_COUNT: u32 = 10_000;

/// A log with so many rows.
async fn fill(log: &PostgresLog) -> (Incarnation, Incarnation) {
    let dead = log.start_incarnation("dead").await.unwrap();
    let own = log.start_incarnation("own").await.unwrap();
    let (dead_id, own_id) = (dead.as_uuid(), own.as_uuid());
    let gid = "('0199c3d000007000' || lpad(to_hex(n), 16, '0'))::uuid";
    let all = UNFINISHED_COUNT + FINISHED;
    let sql = format!(
        "INSERT INTO pactum.decisions (gid, incarnation, number, decision, branches)
         SELECT {gid}, CASE WHEN n <= {UNFINISHED_COUNT} THEN '{dead_id}'::uuid ELSE '{own_id}' END, n,
                'commit', '[]' FROM generate_series(1, {all}) n;
         INSERT INTO pactum.stragglers SELECT {gid}, '{dead_id}' FROM generate_series(1, {UNFINISHED_COUNT}) n;
         INSERT INTO pactum.heuristics SELECT {gid}, n, '{dead_id}', 'bank', '{own_id}', false, 'hazard'
         FROM generate_series(1, {UNFINISHED_COUNT}) n;
         INSERT INTO pactum.undecided SELECT {gid}, '{own_id}', '[]', '', 1, now()
         FROM generate_series({all} + 1, {all} + {UNFINISHED_COUNT}) n;
         UPDATE pactum.progress SET finished_through = {all} WHERE incarnation = '{own_id}';
         UPDATE pactum.incarnations SET ended_at = now(), recovered_at = now() WHERE id = '{dead_id}'"
    );
    run(log, sql).await;
    run(log, "VACUUM ANALYZE".into()).await;
    (dead, own)
}

async fn run(log: &PostgresLog, sql: String) {
    let done = log.listings.run(move |session| {
        Box::pin(async move {
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut session.connection)
                .await
                .map_err(SessionError::from)?;
            Ok(())
        })
    });
    done.await.unwrap();
}

/// Rows that the nodes of the plan gave or threw away, of any table; on a connection of the log, with its settings.
async fn rows_read(log: &PostgresLog, statement: &'static str, arguments: impl Into<String>) -> u64 {
    let arguments = arguments.into();
    let plan = log.listings.run(move |session| {
        Box::pin(async move {
            let prepare = format!("PREPARE listed AS {statement}");
            let prepared = sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut session.connection).await;
            prepared.map_err(SessionError::from)?;
            let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE listed ({arguments})");
            let explained = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut session.connection).await;
            let lines = explained.map_err(SessionError::from)?;
            session.execute("DEALLOCATE listed").await?;
            let lines = lines.iter().map(|line| line.try_get::<String, _>(0));
            Ok(lines.collect::<Result<Vec<_>, _>>().map_err(SessionError::from)?)
        })
    });
    let plan = plan.await.unwrap();
    assert!(plan.iter().any(|line| line.contains("actual rows=")), "{plan:#?}");
    let number_after = |line: &str, word: &str| {
        let (_, rest) = line.split_once(word)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().ok()
    };
    let read = |line: &String| {
        let given =
            number_after(line, "actual rows=").map(|rows| rows * number_after(line, " loops=").unwrap_or(1));
        given.or_else(|| number_after(line, "Rows Removed by Filter: ")).unwrap_or(0)
    };
    plan.iter().map(read).sum()
}

/// 100 000 in-doubt transactions are listed as fast as ten: what is read follows from the page, not from
/// the log. By the rows that are read, since a time would say more about the machine.
#[tokio::test]
async fn a_page_reads_no_more_rows_than_it_needs() {
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    let log = PostgresLog::open(PostgresLogOptions::from_url(&url).unwrap()).await.unwrap();
    let (_, own) = fill(&log).await;
    // Several nodes hand on each row of a page of 50; 2000 are looked at first, by up to eight.
    let (small, near) = (1_500, 18_000);
    let middle = "'0199c3d0-0000-7000-0000-000000001000', NULL, 50, NULL";
    let newest = "NULL, NULL, 50, NULL";
    for (statement, arguments, most) in [
        (UNFINISHED, newest, small),
        (UNFINISHED, middle, small),
        (UNFINISHED_NEAR, newest, near),
        (UNFINISHED_NEAR, middle, near),
        (UNDECIDED, newest, small),
        (UNDECIDED, middle, small),
        (DECIDED, newest, small),
        (DECIDED, middle, small),
        (sql::LIST_HEURISTICS, "NULL, 51", small),
        (sql::LIST_HEURISTICS, "'0199c3d0-0000-7000-0000-000000001000', 51", small),
    ] {
        let read = rows_read(&log, statement, arguments).await;
        assert!(read <= most, "{read} rows are read for ({arguments}) by {statement}");
    }
    // Whoever reads a page at a time sees all, each once.
    let mut before = None;
    let mut seen = 0;
    loop {
        let page = ListPage { limit: 1000, before, unfinished_only: true, ..ListPage::default() };
        let found = log.list(&page).await.unwrap();
        let Some(last) = found.last() else { break };
        before = Some(last.id.gid);
        seen += u32::try_from(found.len()).unwrap();
    }
    assert_eq!(seen, 2 * UNFINISHED_COUNT, "the stragglers and the undecided");
    // A mark that stands still: the newest are unfinished, and a page is full before the marks are asked.
    let own = *own.as_uuid();
    run(&log, format!("UPDATE pactum.progress SET finished_through = 0 WHERE incarnation = '{own}'")).await;
    let read = rows_read(&log, UNFINISHED_NEAR, newest).await;
    assert!(read <= near, "{read} rows are read");
    let newest = Gid::from_uuid(Uuid::from_u128(
        0x0199_c3d0_0000_7000 << 64 | u128::from(UNFINISHED_COUNT + FINISHED),
    ));
    let page = ListPage { limit: 50, before: Some(newest), unfinished_only: true, ..ListPage::default() };
    assert_eq!(log.list(&page).await.unwrap().len(), 50);
}

/// What a page of unfinished commits costs follows from the page, not from how many stand before or after it:
/// else recovery would grow with the square of what was left. With a plan that knows no arguments, as a
/// connection that reads page after page keeps one.
#[tokio::test]
async fn a_page_of_recovery_reads_no_more_rows_than_it_needs() {
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    let log = PostgresLog::open(PostgresLogOptions::from_url(&url).unwrap()).await.unwrap();
    let (dead, own) = fill(&log).await;
    run(&log, "ALTER DATABASE log SET plan_cache_mode = force_generic_plan".into()).await;
    let log = PostgresLog::open(PostgresLogOptions::from_url(&url).unwrap()).await.unwrap();
    let page = |of: Incarnation, after: u32| format!("'{}', {after}, 100, 400", of.as_uuid());
    let end = |of: Incarnation| format!("'{}', {}, 100", of.as_uuid(), UNFINISHED_COUNT + FINISHED);
    // A row is handed on by up to four nodes and looked up in the list once.
    let most = 1_000;
    // Of a recovered incarnation all are listed.
    for after in [0, UNFINISHED_COUNT / 2, UNFINISHED_COUNT - 1] {
        let read = rows_read(&log, sql::UNFINISHED_NEAR, page(dead, after)).await;
        assert!(0 < read && read <= most, "{read} rows are read after {after}");
    }
    // One that is not recovered: as they stand, and while they are being listed.
    let own_id = *own.as_uuid();
    run(&log, format!("UPDATE pactum.progress SET finished_through = 0 WHERE incarnation = '{own_id}'"))
        .await;
    let first = page(own, UNFINISHED_COUNT + FINISHED / 2);
    let read = rows_read(&log, sql::UNFINISHED_NEAR, first.clone()).await;
    assert!(0 < read && read <= most, "{read} rows are read");
    run(
        &log,
        format!(
            "INSERT INTO pactum.stragglers SELECT gid, incarnation FROM pactum.decisions
                       WHERE incarnation = '{own_id}' AND number < {UNFINISHED_COUNT} + {FINISHED} / 2"
        ),
    )
    .await;
    let read = rows_read(&log, sql::UNFINISHED_NEAR, first).await;
    assert!(0 < read && read <= most, "{read} rows are read once others are listed");
    // The far look goes by the index to what lies above the mark.
    run(&log, "DELETE FROM pactum.stragglers".into()).await;
    let read = rows_read(&log, sql::UNFINISHED_FAR, end(own)).await;
    assert!(read <= most, "{read} rows are read for the end");
}

/// Sparse stragglers far apart are found, and no page is taken for the end.
#[tokio::test]
async fn unfinished_commits_far_apart_are_found() {
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    let log = PostgresLog::open(PostgresLogOptions::from_url(&url).unwrap()).await.unwrap();
    let (dead, _) = fill(&log).await;
    run(
        &log,
        "DELETE FROM pactum.stragglers t USING pactum.decisions d
               WHERE d.gid = t.gid AND d.number NOT IN (3, 4, 2000, 9999)"
            .into(),
    )
    .await;
    let (mut found, mut after) = (Vec::new(), None);
    while let Some(last) = {
        let page = log.unfinished_commits(dead, after, 3).await.unwrap();
        found.extend(page.iter().map(|commit| commit.number));
        page.last().map(|commit| commit.number)
    } {
        after = Some(last);
    }
    assert_eq!(found, [3, 4, 2000, 9999]);
}
