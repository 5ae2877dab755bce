//! What a log costs and survives while it runs.

use std::sync::Arc;
use std::time::Duration;

use pactum_coordinator::decision_log::contract::{abort, branch, commit, gid};
use pactum_coordinator::decision_log::{
    DecisionLog as _, HeuristicRecord, ListPage, Proposal, UndecidedRecord,
};
use pactum_core::id::Gid;
use pactum_core::outcome::{Details, HeuristicOutcome, LookUpResult, ProposalResult};
use pactum_postgres_server::PostgresServer;
use sqlx::{Connection as _, PgConnection};

use crate::fixture::{Fixture, LIMIT, execute, open};

#[tokio::test]
async fn a_cancelled_call_leaves_no_transaction_behind_for_the_next_one() {
    // The hole of sqlx's pool: a cancelled begin is handed on, and the next write that is answered Ok
    // is invisible to everybody else.
    let fixture = Fixture::new().await;
    let (own, _) = fixture.started().await;
    let record = |n: u64| UndecidedRecord {
        id: abort(own, gid(n)).record.id,
        branches: vec![branch(1)],
        details: Details::default(),
        age: Duration::ZERO,
    };
    let heuristic = |n: u64| HeuristicRecord {
        id: abort(own, gid(n)).record.id,
        branch: branch(1),
        outcome: HeuristicOutcome::Hazard,
    };
    for n in 1..=100_u64 {
        // Cancelled after some polls: at the checkout, in mid-statement, or at its end.
        for _ in 0..2 {
            let mut call = std::pin::pin!(fixture.log.raise_floor(Gid::NIL));
            for _ in 0..n % 7 {
                if futures::poll!(call.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        fixture.log.record_heuristics(&[heuristic(n)]).await.unwrap();
        fixture.log.record_undecided(&[record(n)], &[]).await.unwrap();
        let sql = "SELECT (SELECT count(*) FROM pactum.heuristics), (SELECT count(*) FROM pactum.undecided)";
        let seen: (i64, i64) = sqlx::query_as(sql).fetch_one(&mut fixture.connection().await).await.unwrap();
        assert_eq!(seen, (n.cast_signed(), n.cast_signed()), "what was acknowledged is visible to others");
    }
}

#[tokio::test]
async fn one_force_serves_a_batch_and_an_abort_costs_one_only_if_it_is_written() {
    // The server's WAL writer forces now and then what was written lazily; it is made to rest.
    let settings = [("autovacuum", "off"), ("checkpoint_timeout", "1h"), ("wal_writer_delay", "10s")];
    let server = PostgresServer::start_with(&settings).unwrap();
    let url = server.create_database("log").unwrap();
    let fixture = Fixture { log: Arc::new(open(&url).await), url };
    let (own, mut writer) = fixture.started().await;
    // Counters of another session are reported when it goes idle, at most once a second; a session
    // that ends reports all. So each step is one writer's whole life.
    let forces_of = async |batch: Vec<Proposal>| {
        let before = syncs(&fixture.url).await;
        let mut writer = fixture.log.open_writer().await.unwrap();
        let results = writer.write(own, &batch).await;
        drop(writer);
        fixture.until_gone().await;
        (results, syncs(&fixture.url).await - before)
    };
    assert_eq!(writer.write(own, &[commit(own, gid(1), 1)]).await, [ProposalResult::Won]);
    drop(writer);
    fixture.until_gone().await;
    let (won, forces) = forces_of(vec![commit(own, gid(2), 2)]).await;
    assert_eq!(won, [ProposalResult::Won]);
    assert!(
        (1..=2).contains(&forces),
        "a lone commit costs one, and one more if the WAL writer came by: {forces}"
    );
    let batch: Vec<Proposal> = (3..=1000).map(|n| commit(own, gid(n), n)).collect();
    let (won, forces) = forces_of(batch).await;
    assert!(won.iter().all(|result| *result == ProposalResult::Won));
    assert!(forces <= 2, "a batch of 998 costs one, and one more if it fills the buffers: {forces}");
    let (won, forces) = forces_of(vec![abort(own, gid(2000))]).await;
    assert_eq!(won, [ProposalResult::Won]);
    assert!((1..=2).contains(&forces), "closing costs one, as a commit does: {forces}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_death_of_the_server() {
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    let fixture = Fixture { log: Arc::new(open(&url).await), url };
    let (own, mut writer) = fixture.started().await;
    for n in 1..=50 {
        assert_eq!(writer.write(own, &[commit(own, gid(n), n)]).await, [ProposalResult::Won]);
    }
    server.kill().unwrap();
    assert_eq!(writer.write(own, &[commit(own, gid(51), 51)]).await, [ProposalResult::Unknown]);
    assert!(fixture.log.heartbeat(own).await.is_err());
    server.restart().unwrap();
    let mut writer = fixture.log.open_writer().await.unwrap();
    assert_eq!(writer.write(own, &[commit(own, gid(51), 51)]).await, [ProposalResult::Won]);
    let gids: Vec<Gid> = (1..=51).map(gid).collect();
    let found = match fixture.log.look_up(&gids).await {
        Ok(found) => found,
        // An idle connection that the server's death had taken along; the next is a new one.
        Err(_) => fixture.log.look_up(&gids).await.unwrap(),
    };
    assert!(found.iter().all(|found| matches!(found, LookUpResult::Stands(_))));
}

/// Operators who list a large log must not cost us our incarnation.
#[tokio::test]
async fn heartbeats_do_not_wait_for_listings() {
    let fixture = Fixture::new().await;
    let (own, _writer) = fixture.started().await;
    let mut slow = fixture.connection().await;
    execute(&mut slow, "BEGIN; LOCK TABLE pactum.undecided IN ACCESS EXCLUSIVE MODE").await;
    let page = ListPage { limit: 10, ..ListPage::default() };
    let listings: Vec<_> = (0..4)
        .map(|_| {
            let (log, page) = (fixture.log(), page.clone());
            tokio::spawn(async move { log.list(&page).await })
        })
        .collect();
    fixture.until_waiting(4).await;
    let beat = tokio::time::timeout(Duration::from_secs(2), fixture.log.heartbeat(own)).await;
    assert!(beat.expect("a heartbeat waits for listings").unwrap().live);
    execute(&mut slow, "ROLLBACK").await;
    for listing in listings {
        assert!(listing.await.unwrap().unwrap().is_empty());
    }
}

impl Fixture {
    /// Waits until no writer's session is left.
    async fn until_gone(&self) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pactum log' \
                   AND query LIKE '%INSERT INTO pactum.decisions%'";
        let mut watcher = self.connection().await;
        let gone = async {
            while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut watcher).await.unwrap() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, gone).await.unwrap();
    }
}

async fn syncs(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT wal_sync FROM pg_stat_wal").fetch_one(&mut connection).await.unwrap()
}
