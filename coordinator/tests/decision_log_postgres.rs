//! The contract of decision logs, held by the one in PostgreSQL; and what only a real server can
//! show: waits, deadlocks, cancelled commits, forces. Each test names the rows of the failure matrix
//! that it is about.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's failure")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pactum_coordinator::decision_log::contract::{abort, branch, commit, gid};
use pactum_coordinator::decision_log::postgres::{self, PostgresLog, PostgresLogOptions};
use pactum_coordinator::decision_log::{
    DecisionLog, DecisionLogError, DecisionWriter, HeuristicRecord, ListPage, Proposal, UndecidedRecord,
};
use pactum_core::id::{Gid, Incarnation};
use pactum_core::outcome::{Details, HeuristicOutcome, LookUpResult, ProposalResult};
use pactum_postgres_server::PostgresServer;
use sqlx::{Connection as _, PgConnection};

/// Longer than anything here takes, so that reaching it is a failure.
const LIMIT: Duration = Duration::from_mins(1);

/// One server for all tests that do not break theirs.
fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::start().unwrap())
}

fn new_database() -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    let name = format!("log_{}", NAMES.fetch_add(1, Ordering::Relaxed));
    server().create_database(&name).unwrap()
}

async fn open(url: &str) -> PostgresLog {
    PostgresLog::open(PostgresLogOptions::from_url(url).unwrap()).await.unwrap()
}

struct Fixture {
    url: String,
    log: Arc<PostgresLog>,
}

impl Fixture {
    async fn new() -> Self {
        let url = new_database();
        let log = Arc::new(open(&url).await);
        Self { url, log }
    }

    fn log(&self) -> Arc<dyn DecisionLog> {
        self.log.clone()
    }

    async fn started(&self) -> (Incarnation, Box<dyn DecisionWriter>) {
        let incarnation = self.log.start_incarnation("here").await.unwrap();
        (incarnation, self.log.open_writer().await.unwrap())
    }

    async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Waits until so many of the log's connections to this database wait for a lock.
    async fn until_waiting(&self, count: i64) {
        self.until("wait_event_type = 'Lock'", count).await;
    }

    async fn until(&self, condition: &str, count: i64) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND application_name = 'pactum log' AND {condition}"
        );
        let mut watcher = self.connection().await;
        let reached = async {
            while sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql.clone()))
                .fetch_one(&mut watcher)
                .await
                .unwrap()
                < count
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.unwrap();
    }
}

async fn execute(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// Writes in a task, as a lane does.
fn write(
    mut writer: Box<dyn DecisionWriter>,
    by: Incarnation,
    batch: Vec<Proposal>,
) -> tokio::task::JoinHandle<(Box<dyn DecisionWriter>, Vec<ProposalResult>)> {
    tokio::spawn(async move {
        let results = writer.write(by, &batch).await;
        (writer, results)
    })
}

async fn results(
    task: tokio::task::JoinHandle<(Box<dyn DecisionWriter>, Vec<ProposalResult>)>,
) -> Vec<ProposalResult> {
    tokio::time::timeout(LIMIT, task).await.unwrap().unwrap().1
}

fn lost(proposal: &Proposal) -> ProposalResult {
    ProposalResult::Lost(Box::new(proposal.record.clone()))
}

pactum_coordinator::decision_log_contract!(async || Fixture::new().await);

#[tokio::test]
async fn h8_ending_an_incarnation_waits_for_a_batch_that_saw_it_live() {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    // A stranger's row on gid 1, not committed, holds the batch up after it has locked the fence.
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let batch = vec![commit(own, gid(1), 1), commit(own, gid(2), 2)];
    let writing = write(writer, own, batch);
    fixture.until_waiting(1).await;
    let log = Arc::clone(&fixture.log);
    let ending = tokio::spawn(async move { log.end_incarnation(own).await });
    fixture.until_waiting(2).await;
    assert!(!ending.is_finished());
    execute(&mut stranger, "ROLLBACK").await;
    assert_eq!(results(writing).await, [ProposalResult::Won, ProposalResult::Won]);
    ending.await.unwrap().unwrap();
    // Whoever ended it sees all that was written before.
    assert_eq!(fixture.log.unfinished_commits(own, None, 10).await.unwrap().len(), 2);
}

/// An insert as another coordinator's, held open.
const HOLD_GID_1: &str = "BEGIN; INSERT INTO pactum.decisions (gid, incarnation, number, decision, reason_kind, \
    reason_message) VALUES ('0199c3d0-0000-7000-8000-000000000001', gen_random_uuid(), 0, 'abort', \
    'owner-ended', 'closed')";

#[tokio::test]
async fn h8_a_batch_that_waited_for_the_end_of_its_incarnation_writes_no_commit() {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    // By a bare row lock, without the table lock that end_incarnation takes besides: the re-check of the
    // locked row alone must do.
    let mut ender = fixture.connection().await;
    execute(&mut ender, "BEGIN; UPDATE pactum.incarnations SET ended_at = now()").await;
    let writing = write(writer, own, vec![commit(own, gid(1), 1), abort(own, gid(2))]);
    fixture.until_waiting(1).await;
    execute(&mut ender, "COMMIT").await;
    assert_eq!(results(writing).await, [ProposalResult::Fenced, ProposalResult::Won]);
}

#[tokio::test]
async fn h1_an_insert_that_was_blocked_while_the_floor_was_raised_writes_nothing() {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    let mut raiser = fixture.connection().await;
    execute(&mut raiser, "BEGIN; UPDATE pactum.log_state SET floor = '0199c3d0-0000-7000-8000-000000000005'")
        .await;
    let batch = vec![commit(own, gid(5), 1), abort(own, gid(4)), commit(own, gid(6), 2)];
    let writing = write(writer, own, batch);
    fixture.until_waiting(1).await;
    execute(&mut raiser, "COMMIT").await;
    let forgotten = ProposalResult::Forgotten;
    assert_eq!(results(writing).await, [forgotten.clone(), forgotten, ProposalResult::Won]);
    let rows: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT gid FROM pactum.decisions").fetch_all(&mut raiser).await.unwrap();
    assert_eq!(rows, [*gid(6).as_uuid()]);
}

#[tokio::test]
async fn h1_raising_the_floor_waits_for_a_batch_that_tested_the_old_one() {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let writing = write(writer, own, vec![commit(own, gid(1), 1)]);
    fixture.until_waiting(1).await;
    let log = Arc::clone(&fixture.log);
    let raising = tokio::spawn(async move { log.raise_floor(gid(9)).await });
    fixture.until_waiting(2).await;
    execute(&mut stranger, "ROLLBACK").await;
    assert_eq!(results(writing).await, [ProposalResult::Won]);
    assert_eq!(raising.await.unwrap().unwrap(), Gid::NIL, "the commit that it waited for is unfinished");
}

#[tokio::test]
async fn h8_what_a_batch_waited_for_is_read_by_a_second_statement() {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let writing = write(writer, own, vec![commit(own, gid(1), 1), commit(own, gid(2), 2)]);
    fixture.until_waiting(1).await;
    execute(&mut stranger, "COMMIT").await;
    let results = results(writing).await;
    assert!(
        matches!(&results[..], [ProposalResult::Lost(record), ProposalResult::Won]
            if record.reason.as_ref().is_some_and(|reason| &*reason.message == "closed")),
        "{results:?}"
    );
}

#[tokio::test]
async fn h8_heartbeats_and_finish_marks_do_not_wait_for_batches() {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let writing = write(writer, own, vec![commit(own, gid(1), 1)]);
    fixture.until_waiting(1).await;
    let lazy = async {
        fixture.log.heartbeat(own).await.unwrap();
        let update =
            pactum_coordinator::decision_log::FinishUpdate { mark: Some((own, 0)), ..Default::default() };
        fixture.log.record_finished(&update).await.unwrap();
    };
    tokio::time::timeout(LIMIT, lazy).await.unwrap();
    assert!(!writing.is_finished(), "the batch was held all the time");
    execute(&mut stranger, "ROLLBACK").await;
    assert_eq!(results(writing).await, [ProposalResult::Won]);
}

#[tokio::test]
async fn h8_opposed_batches_of_two_writers_never_deadlock() {
    let fixture = Fixture::new().await;
    let (own, one) = fixture.started().await;
    let (other, two) = fixture.started().await;
    let mut writers = (one, two);
    for round in 0..40_u64 {
        let gids = || (1..=200_u64).map(move |n| gid(round * 200 + n));
        let up: Vec<Proposal> = gids().zip(round * 200..).map(|(gid, n)| commit(own, gid, n + 1)).collect();
        let down: Vec<Proposal> = gids().rev().map(|gid| abort(own, gid)).collect();
        let (first, second) = (write(writers.0, own, up.clone()), write(writers.1, other, down.clone()));
        let (first, second) =
            tokio::time::timeout(LIMIT, futures::future::join(first, second)).await.unwrap();
        let ((one, first), (two, second)) = (first.unwrap(), second.unwrap());
        for (n, (result, proposal)) in first.iter().zip(&up).enumerate() {
            let opposed = &second[199 - n];
            let expected = if *result == ProposalResult::Won { lost(proposal) } else { ProposalResult::Won };
            assert_eq!(*opposed, expected, "exactly one of the two stands");
        }
        writers = (one, two);
    }
}

#[tokio::test]
async fn an_incarnation_is_ended_and_the_floor_raised_while_two_lanes_never_pause() {
    let fixture = Fixture::new().await;
    let (own, one) = fixture.started().await;
    let two = fixture.log.open_writer().await.unwrap();
    let lane = |mut writer: Box<dyn DecisionWriter>, from: u64| {
        tokio::spawn(async move {
            let mut n = from;
            loop {
                let results = writer.write(own, &[commit(own, gid(1_000 + n), n)]).await;
                n += 2;
                match &results[..] {
                    [ProposalResult::Won] => {}
                    [ProposalResult::Fenced] => return n,
                    other => panic!("{other:?}"),
                }
            }
        })
    };
    let lanes = (lane(one, 1), lane(two, 2));
    assert_eq!(fixture.log.raise_floor(gid(500)).await.unwrap(), gid(500));
    fixture.log.end_incarnation(own).await.unwrap();
    let ended = futures::future::join(lanes.0, lanes.1);
    let (one, two) = tokio::time::timeout(LIMIT, ended).await.unwrap();
    let tried = (one.unwrap() / 2 + two.unwrap() / 2).saturating_sub(3);
    let stand = fixture.log.unfinished_commits(own, None, u32::MAX).await.unwrap();
    assert!(stand.len() as u64 <= tried + 2 && stand.len() as u64 + 2 >= tried, "{} of {tried}", stand.len());
}

#[tokio::test]
async fn h8_a_cancelled_wait_for_a_synchronous_standby_is_unknown() {
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    let fixture = Fixture { log: Arc::new(open(&url).await), url };
    let (own, writer) = fixture.started().await;
    server.set("synchronous_standby_names", "nobody").unwrap();
    let writing = write(writer, own, vec![commit(own, gid(1), 1)]);
    fixture.until("wait_event = 'SyncRep'", 1).await;
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut canceller = fixture.connection().await;
    execute(&mut canceller, cancel).await;
    let (mut writer, answers) = tokio::time::timeout(LIMIT, writing).await.unwrap().unwrap();
    assert_eq!(answers, [ProposalResult::Unknown]);
    assert_eq!(writer.write(own, &[abort(own, gid(2))]).await, [ProposalResult::Unknown], "it is spent");
    // B6: the row is visible, and is handed out only after a forced write of our own. That waits too.
    let log = Arc::clone(&fixture.log);
    let looking = tokio::spawn(async move { log.look_up(&[gid(1)]).await });
    fixture.until("wait_event = 'SyncRep'", 1).await;
    assert!(!looking.is_finished());
    execute(&mut canceller, cancel).await;
    assert!(looking.await.unwrap().is_err(), "a cancelled barrier is none");
    let writer = fixture.log.open_writer().await.unwrap();
    let settling = write(writer, own, vec![commit(own, gid(1), 1)]);
    fixture.until("wait_event = 'SyncRep'", 1).await;
    server.set("synchronous_standby_names", "").unwrap();
    assert_eq!(results(settling).await, [lost(&commit(own, gid(1), 1))]);
}

#[tokio::test]
async fn b2_a_server_that_does_not_answer_in_time_is_unknown_and_the_key_waits_for_it() {
    let url = new_database();
    let limit = Duration::from_millis(600);
    let options = PostgresLogOptions::from_url(&url).unwrap().with_answer_limit(limit);
    let fixture = Fixture { log: Arc::new(PostgresLog::open(options).await.unwrap()), url };
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    assert_eq!(results(write(writer, own, vec![commit(own, gid(1), 1)])).await, [ProposalResult::Unknown]);
    execute(&mut stranger, "ROLLBACK").await;
    let writer = fixture.log.open_writer().await.unwrap();
    let settled = results(write(writer, own, vec![commit(own, gid(1), 1)])).await;
    assert!(settled == [ProposalResult::Won] || settled == [lost(&commit(own, gid(1), 1))], "{settled:?}");
}

#[tokio::test]
async fn b2_a_connection_that_is_killed_in_mid_write_is_unknown() {
    let fixture = Fixture::new().await;
    let (own, writer) = fixture.started().await;
    let mut stranger = fixture.connection().await;
    execute(&mut stranger, HOLD_GID_1).await;
    let writing = write(writer, own, vec![commit(own, gid(1), 1)]);
    fixture.until_waiting(1).await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                AND wait_event_type = 'Lock'";
    execute(&mut fixture.connection().await, kill).await;
    assert_eq!(results(writing).await, [ProposalResult::Unknown]);
}

#[tokio::test]
async fn b10_a_record_of_another_format_stops_recovery_and_is_never_skipped() {
    let fixture = Fixture::new().await;
    let (own, mut writer) = fixture.started().await;
    writer.write(own, &[commit(own, gid(1), 1), commit(own, gid(2), 2)]).await;
    let mut owner = fixture.connection().await;
    execute(&mut owner, "UPDATE pactum.decisions SET format = 9 WHERE number = 1").await;
    for refused in [
        fixture.log.unfinished_commits(own, None, 10).await.map(drop),
        fixture.log.look_up(&[gid(1)]).await.map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(
            matches!(&error, DecisionLogError::Corrupt { gid: named, .. } if *named == gid(1).to_string())
        );
    }
    let results = writer.write(own, &[abort(own, gid(1)), abort(own, gid(3))]).await;
    assert_eq!(results, [ProposalResult::Unknown, ProposalResult::Won]);
}

#[tokio::test]
async fn settings_that_could_lose_a_commit_are_refused_by_name() {
    let refused_setting =
        async |url: &str| match PostgresLog::open(PostgresLogOptions::from_url(url).unwrap()).await {
            Err(DecisionLogError::Refused { setting, found, remedy }) => {
                assert!(!remedy.is_empty());
                (setting, found)
            }
            other => panic!("{other:?}"),
        };
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    drop(open(&url).await);
    server.psql("postgres", "ALTER DATABASE log SET synchronous_commit = off").unwrap();
    assert_eq!(refused_setting(&url).await, ("synchronous_commit", "off".into()));
    server.psql("postgres", "ALTER DATABASE log SET synchronous_commit = local").unwrap();
    drop(open(&url).await);
    server.set("synchronous_standby_names", "nobody").unwrap();
    assert_eq!(refused_setting(&url).await, ("synchronous_commit", "local".into()));
    server
        .psql("postgres", "SET synchronous_commit = local; ALTER DATABASE log RESET synchronous_commit")
        .unwrap();
    server.set("synchronous_standby_names", "").unwrap();
    for setting in ["full_page_writes", "fsync"] {
        server.set(setting, "off").unwrap();
        assert_eq!(refused_setting(&url).await, (setting, "off".into()));
        server.set(setting, "on").unwrap();
    }
    drop(open(&url).await);
}

#[tokio::test]
async fn isolation_and_search_path_preset_for_the_database_do_not_reach_the_log() {
    let fixture = Fixture::new().await;
    let name = fixture.url.rsplit('/').next().unwrap();
    for preset in [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "search_path = 'nowhere'",
    ] {
        server().psql("postgres", &format!("ALTER DATABASE {name} SET {preset}")).unwrap();
    }
    let (own, mut writer) = fixture.started().await;
    assert_eq!(writer.write(own, &[commit(own, gid(1), 1)]).await, [ProposalResult::Won]);
}

#[tokio::test]
async fn a_schema_that_the_role_may_not_make_is_not_ready_and_says_what_to_run() {
    let url = new_database();
    let name = url.rsplit('/').next().unwrap();
    let sql = format!("CREATE ROLE serving_{name} LOGIN PASSWORD 'serving'");
    server().psql(name, &sql).unwrap();
    let serving = format!("postgres://serving_{name}:serving@127.0.0.1:{}/{name}", server().port());
    let open_serving = async || PostgresLog::open(PostgresLogOptions::from_url(&serving).unwrap()).await;
    let refused = open_serving().await.unwrap_err();
    assert!(matches!(refused, DecisionLogError::SchemaNotReady { .. }), "{refused}");
    assert!(refused.to_string().contains("pactum log migrate"));
    assert_eq!(postgres::migrate(&url).await.unwrap().applied, [1]);
    assert_eq!(postgres::migrate(&url).await.unwrap().applied, [0; 0], "repeatable");
    let grants = format!(
        "GRANT USAGE ON SCHEMA pactum TO serving_{name};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pactum TO serving_{name}"
    );
    server().psql(name, &grants).unwrap();
    let fixture = Fixture { log: Arc::new(open_serving().await.unwrap()), url: url.clone() };
    let (own, mut writer) = fixture.started().await;
    assert_eq!(writer.write(own, &[commit(own, gid(1), 1)]).await, [ProposalResult::Won]);
    fixture.log.end_incarnation(own).await.unwrap();
    fixture.log.raise_floor(gid(1)).await.unwrap();
    server()
        .psql(name, "INSERT INTO pactum.migrations VALUES (99, 'later', now(), true, '\\x00', 0)")
        .unwrap();
    let refused = open_serving().await.unwrap_err();
    assert!(matches!(refused, DecisionLogError::SchemaNotReady { .. }), "{refused}");
}

#[tokio::test]
async fn two_that_open_an_empty_log_at_once_agree_on_its_name() {
    let url = new_database();
    let (one, two) = futures::future::join(open(&url), open(&url)).await;
    assert_eq!(one.cluster(), two.cluster());
    assert_eq!(one.cluster().as_str().len(), 12);
}

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
    let server = PostgresServer::start_with(&[("autovacuum", "off"), ("checkpoint_timeout", "1h")]).unwrap();
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
    assert_eq!((won, forces), (vec![ProposalResult::Won], 1), "a lone commit");
    let batch: Vec<Proposal> = (3..=1000).map(|n| commit(own, gid(n), n)).collect();
    let (won, forces) = forces_of(batch).await;
    assert!(won.iter().all(|result| *result == ProposalResult::Won));
    assert!(forces <= 2, "a batch of 998 costs one, and one more if it fills the buffers: {forces}");
    assert_eq!(forces_of(vec![abort(own, gid(2000))]).await, (vec![ProposalResult::Won], 1), "closing");
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
