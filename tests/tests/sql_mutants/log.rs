//! The statements of the decision log.

use std::sync::Arc;

use pactum_coordinator::decision_log::contract::{abort, commit, gid};
use pactum_coordinator::decision_log::postgres::{PostgresLog, PostgresLogOptions};
use pactum_coordinator::decision_log::{DecisionLog as _, DecisionLogError, DecisionWriter, Proposal};
use pactum_core::id::{Gid, Incarnation};
use pactum_core::outcome::{Decision, LookUpResult, ProposalResult};
use pactum_postgres_server::PostgresServer;
use pactum_tests::postgres;
use pactum_tests::rewrite::Rule;
use pactum_tests::wait::eventually;
use sqlx::{AssertSqlSafe, PgPool, Row as _};
use tokio::task::JoinHandle;

use crate::{Front, Verdict, caught};

/// A log behind the mutant, and its database past it.
struct Log {
    log: Arc<PostgresLog>,
    outside: PgPool,
}

impl Log {
    async fn open(front: &Front, server: &PostgresServer) -> Result<Self, DecisionLogError> {
        let url = postgres::database(server, "log");
        let outside = PgPool::connect_lazy(&url).unwrap();
        let options = PostgresLogOptions::from_url(&front.url(server, &url).await)?;
        Ok(Self { log: Arc::new(PostgresLog::open(options).await?), outside })
    }

    /// On the server that the tests share.
    async fn shared(front: &Front) -> Self {
        Self::open(front, postgres::shared()).await.unwrap()
    }

    async fn started(&self) -> (Incarnation, Box<dyn DecisionWriter>) {
        (self.log.start_incarnation("here").await.unwrap(), self.log.open_writer().await.unwrap())
    }

    /// Proposes with fresh writers until the answer is known, or a few times.
    async fn propose(&self, by: Incarnation, proposal: Proposal) -> ProposalResult {
        self.propose_in(Size::Lone, by, proposal).await
    }

    async fn propose_in(&self, size: Size, by: Incarnation, proposal: Proposal) -> ProposalResult {
        let mut batch = vec![proposal];
        if size == Size::Batch {
            batch.push(abort(by, companion()));
        }
        let mut answer = ProposalResult::Unknown;
        for _ in 0..5 {
            let mut writer = self.log.open_writer().await.unwrap();
            answer = writer.write(by, &batch).await.remove(0);
            if answer != ProposalResult::Unknown {
                break;
            }
        }
        answer
    }

    /// Which decision stands for each gid, as everybody can read it.
    async fn standing(&self) -> Vec<(Gid, String)> {
        standing(&self.outside).await
    }

    /// The same but for what came along in a batch.
    async fn standing_of_interest(&self) -> Vec<(Gid, String)> {
        let mut stand = self.standing().await;
        stand.retain(|(gid, _)| *gid != companion());
        stand
    }

    /// Waits until so many of the log's sessions are in that state.
    async fn until(&self, condition: &str, count: i64) {
        let sql = format!(
            "select count(*) from pg_stat_activity where datname = current_database() and {condition}"
        );
        eventually(condition, || async {
            let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql.clone()));
            (query.fetch_one(&self.outside).await.ok()? >= count).then_some(())
        })
        .await;
    }
}

/// One commit alone goes by another statement than a batch: a clause that stands in both has a mutant in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Lone,
    Batch,
}

/// What comes along in a batch.
fn companion() -> Gid {
    gid(999)
}

async fn standing(outside: &PgPool) -> Vec<(Gid, String)> {
    let query = sqlx::query("select gid, decision from pactum.decisions order by gid");
    let rows = query.fetch_all(outside).await.unwrap();
    rows.iter().map(|row| (Gid::from_uuid(row.get(0)), row.get(1))).collect()
}

fn write(
    mut writer: Box<dyn DecisionWriter>,
    by: Incarnation,
    batch: Vec<Proposal>,
) -> JoinHandle<(Box<dyn DecisionWriter>, Vec<ProposalResult>)> {
    tokio::spawn(async move {
        let results = writer.write(by, &batch).await;
        (writer, results)
    })
}

/// An incarnation is ended while a batch of its own is under way: whoever ended it has seen all
/// that it will ever have committed.
async fn who_ends_an_incarnation_sees_its_commits(front: &Front) -> Verdict {
    who_ends_sees_commits(front, 2).await
}

/// The same, of a commit alone.
async fn who_ends_an_incarnation_sees_its_lone_commit(front: &Front) -> Verdict {
    who_ends_sees_commits(front, 1).await
}

async fn who_ends_sees_commits(front: &Front, commits: u64) -> Verdict {
    let log = Log::shared(front).await;
    let (own, writer) = log.started().await;
    // A stranger's row holds the batch up after it has looked at the fence.
    let mut stranger = log.outside.begin().await.unwrap();
    let hold =
        "insert into pactum.decisions (gid, incarnation, number, decision, reason_kind, reason_message)
                values ($1, gen_random_uuid(), 0, 'abort', 'owner-ended', 'closed')";
    sqlx::query(hold).bind(gid(1).as_uuid()).execute(&mut *stranger).await.unwrap();
    let writing = write(writer, own, (1..=commits).map(|n| commit(own, gid(n), n)).collect());
    log.until("wait_event_type = 'Lock'", 1).await;
    // By the row alone: the table lock that ending takes besides would do the fence's work.
    let outside = log.outside.clone();
    let ending = tokio::spawn(async move {
        let end = "update pactum.incarnations set ended_at = now() where ended_at is null";
        sqlx::query(end).execute(&outside).await.unwrap();
        standing(&outside).await
    });
    eventually("the end, or a wait for the batch", || async {
        let query = "select count(*) from pg_stat_activity where datname = current_database()
                       and wait_event_type = 'Lock'";
        let count: i64 = sqlx::query_scalar(query).fetch_one(&log.outside).await.ok()?;
        (ending.is_finished() || count >= 2).then_some(())
    })
    .await;
    stranger.rollback().await.unwrap();
    let (_, results) = writing.await.unwrap();
    let seen = ending.await.unwrap();
    let stand = log.standing().await;
    if stand == seen {
        return Ok(());
    }
    let (stand, seen) = (stand.len(), seen.len());
    Err(format!(
        "{stand} commits stand, of which whoever ended the incarnation saw {seen}; the writer was told {results:?}"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_a_fence_by_for_key_share_is_caught() {
    let mutant = [Rule::Replace("ended_at IS NULL FOR SHARE", "ended_at IS NULL FOR KEY SHARE")];
    caught("FOR KEY SHARE as fence", &mutant, who_ends_an_incarnation_sees_its_commits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_a_fence_that_is_read_without_a_lock_is_caught() {
    let mutant = [Rule::Replace("ended_at IS NULL FOR SHARE", "ended_at IS NULL")];
    caught("fence read without a lock", &mutant, who_ends_an_incarnation_sees_its_commits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_a_fence_by_for_key_share_is_caught_for_a_lone_commit() {
    let mutant = [Rule::Replace("ended_at IS NULL FOR SHARE", "ended_at IS NULL FOR KEY SHARE")];
    caught("FOR KEY SHARE as fence", &mutant, who_ends_an_incarnation_sees_its_lone_commit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_a_fence_that_is_read_without_a_lock_is_caught_for_a_lone_commit() {
    let mutant = [Rule::Replace("ended_at IS NULL FOR SHARE", "ended_at IS NULL")];
    caught("fence read without a lock", &mutant, who_ends_an_incarnation_sees_its_lone_commit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h10_commits_of_an_ended_incarnation_are_caught() {
    commits_of_an_ended_incarnation_are_caught(Size::Lone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h10_commits_of_an_ended_incarnation_are_caught_in_a_batch() {
    commits_of_an_ended_incarnation_are_caught(Size::Batch).await;
}

async fn commits_of_an_ended_incarnation_are_caught(size: Size) {
    let mutant = [Rule::Replace("p.incarnation = (SELECT id FROM fence)", "true")];
    caught("that an incarnation was ended is ignored", &mutant, async |front: &Front| {
        let log = Log::shared(front).await;
        let (own, _) = log.started().await;
        log.log.end_incarnation(own).await.unwrap();
        let answer = log.propose_in(size, own, commit(own, gid(1), 1)).await;
        let stand = log.standing_of_interest().await;
        if answer == ProposalResult::Fenced && stand.is_empty() {
            return Ok(());
        }
        Err(format!("an ended incarnation was told {answer:?} and {} of its commits stand", stand.len()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_a_late_write_below_the_floor_is_caught() {
    a_late_write_below_the_floor_is_caught(Size::Lone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_a_late_write_below_the_floor_is_caught_in_a_batch() {
    a_late_write_below_the_floor_is_caught(Size::Batch).await;
}

async fn a_late_write_below_the_floor_is_caught(size: Size) {
    let mutant = [Rule::Replace("p.gid > state.floor", "true")];
    caught("floor not tested by a write", &mutant, async |front: &Front| {
        let log = Log::shared(front).await;
        let (own, _) = log.started().await;
        assert_eq!(log.log.raise_floor(gid(5)).await.unwrap(), gid(5));
        let answer = log.propose_in(size, own, commit(own, gid(4), 1)).await;
        let stand = log.standing_of_interest().await;
        if answer == ProposalResult::Forgotten && stand.is_empty() {
            return Ok(());
        }
        Err(format!("a commit below the floor was told {answer:?} and {} stand", stand.len()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_unsorted_batches_are_caught() {
    // Each session in an order of its own; the batches come to the statement in one.
    let mutant = [Rule::Replace("ORDER BY p.gid", "ORDER BY md5(p.gid::text || pg_backend_pid()::text)")];
    let impatient = postgres::own(&[("deadlock_timeout", "50ms")]);
    caught("unsorted batches", &mutant, async |front: &Front| {
        let log = Log::open(front, &impatient).await.unwrap();
        let ((own, mut one), (other, mut two)) = (log.started().await, log.started().await);
        for round in 0..30_u64 {
            let gids = || (1..=200_u64).map(move |n| gid(round * 200 + n));
            let up = gids().zip(round * 200..).map(|(gid, n)| commit(own, gid, n + 1)).collect();
            let down = gids().map(|gid| abort(own, gid)).collect();
            let (first, second) = futures::join!(write(one, own, up), write(two, other, down));
            let ((first_writer, first), (second_writer, second)) = (first.unwrap(), second.unwrap());
            if first.contains(&ProposalResult::Unknown) || second.contains(&ProposalResult::Unknown) {
                return Err(format!("two batches deadlocked in round {round}, and a whole one is unknown"));
            }
            (one, two) = (first_writer, second_writer);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac2_a_register_that_is_written_twice_is_caught() {
    a_register_that_is_written_twice_is_caught(Size::Lone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac2_a_register_that_is_written_twice_is_caught_in_a_batch() {
    a_register_that_is_written_twice_is_caught(Size::Batch).await;
}

async fn a_register_that_is_written_twice_is_caught(size: Size) {
    let mutant = [Rule::Replace(
        "ON CONFLICT (gid) DO NOTHING\nRETURNING",
        "ON CONFLICT (gid) DO UPDATE SET incarnation = excluded.incarnation, number = excluded.number,
         decision = excluded.decision, reason_kind = excluded.reason_kind,
         reason_message = excluded.reason_message, branches = excluded.branches\nRETURNING",
    )];
    caught("the later decision replaces the earlier", &mutant, async |front: &Front| {
        let log = Log::shared(front).await;
        let (own, _) = log.started().await;
        assert_eq!(log.propose(own, abort(own, gid(1))).await, ProposalResult::Won);
        let answer = log.propose_in(size, own, commit(own, gid(1), 1)).await;
        let stand = log.standing_of_interest().await;
        let lost = matches!(&answer, ProposalResult::Lost(record) if record.decision == Decision::Abort);
        if lost && stand == [(gid(1), "abort".to_owned())] {
            return Ok(());
        }
        Err(format!("AC2: closed with abort, then {answer:?}, and {stand:?} stands"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_a_close_that_reads_in_the_snapshot_of_its_insert_is_caught() {
    // What a union in the insert's own statement shows after a wait: nothing.
    let mutant = [Rule::Replace("d.gid = ANY ($1)", "d.gid = ANY ($1) AND false")];
    caught("union-select close", &mutant, async |front: &Front| {
        let log = Log::shared(front).await;
        let (own, _) = log.started().await;
        assert_eq!(log.propose(own, commit(own, gid(1), 1)).await, ProposalResult::Won);
        let answer = log.propose(own, abort(own, gid(1))).await;
        if matches!(&answer, ProposalResult::Lost(record) if record.decision == Decision::Commit) {
            return Ok(());
        }
        Err(format!("whoever closes a committed transaction is told {answer:?}, again and again"))
    })
    .await;
}

/// A server whose write-ahead log reaches the disk only when a commit forces it.
fn lazy() -> PostgresServer {
    postgres::own(&[("wal_writer_delay", "10s"), ("wal_writer_flush_after", "1GB"), ("autovacuum", "off")])
}

/// What was acknowledged is there after SIGKILL of every process of the server.
async fn acknowledged_commits_survive_a_kill(front: &Front, server: &PostgresServer) -> Verdict {
    let log = match Log::open(front, server).await {
        Ok(log) => log,
        Err(refused @ DecisionLogError::Refused { .. }) => {
            return Err(format!("the log is not opened: {refused}"));
        }
        Err(other) => panic!("{other}"),
    };
    // What little of the log the server writes by itself lies mostly at the end of a page.
    for round in 1..=3_u32 {
        let (own, mut writer) = log.started().await;
        for n in 1..=50_u32 {
            let proposal = commit(own, gid(u64::from(round * 100 + n)), n.into());
            assert_eq!(writer.write(own, &[proposal]).await, [ProposalResult::Won]);
        }
        server.kill().unwrap();
        server.restart().unwrap();
        let stand = eventually("the log after its restart", || async {
            let query =
                sqlx::query_scalar::<_, i64>("select count(*) from pactum.decisions where number > 0");
            query.fetch_one(&log.outside).await.ok()
        })
        .await;
        if stand != i64::from(round) * 50 {
            return Err(format!("I1: of {} acknowledged commits {stand} survived a SIGKILL", round * 50));
        }
        // Idle connections died with the server.
        drop(log.log.look_up(&[gid(1)]).await);
    }
    Ok(())
}

const COMMIT_LAZILY: Rule = Rule::Replace("SET synchronous_commit = on", "SET synchronous_commit = off");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synchronous_commit_that_is_off_after_all_is_refused_at_connect() {
    let server = lazy();
    caught("synchronous_commit off", &[COMMIT_LAZILY], async |front: &Front| {
        match acknowledged_commits_survive_a_kill(front, &server).await {
            Err(violation) if violation.starts_with("I1") => panic!("it should be refused: {violation}"),
            verdict => verdict,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synchronous_commit_that_is_off_behind_the_checks_loses_commits_and_is_caught() {
    let mutant = [COMMIT_LAZILY, Rule::Replace("current_setting('synchronous_commit')", "'on'::text")];
    let server = lazy();
    caught("synchronous_commit off, and the check told otherwise", &mutant, async |front: &Front| {
        acknowledged_commits_survive_a_kill(front, &server).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b6_acting_on_a_row_that_was_never_replicated_is_caught() {
    let mutant = [Rule::Replace(
        "SELECT pg_catalog.pg_logical_emit_message(true, 'pactum', 'barrier')::text",
        "SELECT ''::text",
    )];
    caught("no barrier before a stranger's row is handed out", &mutant, async |front: &Front| {
        let primary = postgres::own(&[]);
        let log = Log::open(front, &primary).await.unwrap();
        let (own, writer) = log.started().await;
        let standby = primary.standby("s1").unwrap();
        primary.wait_for_standbys(&["s1"]).unwrap();
        standby.detach().unwrap();
        // The commit waits for the standby; the wait is cancelled. The row is visible, here alone.
        let writing = write(writer, own, vec![commit(own, gid(1), 1)]);
        log.until("wait_event = 'SyncRep'", 1).await;
        let cancel = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";
        sqlx::query(cancel).execute(&log.outside).await.unwrap();
        assert_eq!(writing.await.unwrap().1, [ProposalResult::Unknown]);
        assert_eq!(log.standing().await, [(gid(1), "commit".to_owned())]);
        let asked = Arc::clone(&log.log);
        let asking = tokio::spawn(async move { asked.look_up(&[gid(1)]).await });
        eventually("an answer, or a wait for the standby", || async {
            let query = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
            let count: i64 = sqlx::query_scalar(query).fetch_one(&log.outside).await.ok()?;
            (asking.is_finished() || count > 0).then_some(())
        })
        .await;
        primary.kill().unwrap();
        let answer = asking.await.unwrap();
        standby.promote().unwrap();
        let name = log.outside.connect_options().get_database().unwrap().to_owned();
        let left = standby.psql(&name, "select count(*) from pactum.decisions").unwrap();
        match answer {
            Ok(found) if matches!(found[0], LookUpResult::Stands(_)) && left == "0" => {
                Err("a commit was handed out that the failover undid".to_owned())
            }
            _ => Ok(()),
        }
    })
    .await;
}
