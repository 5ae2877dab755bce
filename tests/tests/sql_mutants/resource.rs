//! The statements of a PostgreSQL resource.

use std::time::Duration;

use pactum::resource::{
    BeginOptions, BranchContext, PostgresBranch, PostgresResource, Prepared, Resource as _,
};
use pactum::{Cluster, testing};
use pactum_core::coordinator::{Operation, RegisterAnswer};
use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::Evidence;
use pactum_postgres_server::{PostgresServer, Restored};
use pactum_tests::postgres;
use pactum_tests::rewrite::Rule;
use pactum_tests::wait::{SOON, eventually};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

use crate::{Front, Verdict, caught};

/// A database with a ledger, and a resource over it behind the mutant.
struct Bank {
    /// By way of the mutant.
    url: String,
    outside: PgPool,
    resource: PostgresResource,
}

impl Bank {
    async fn open(front: &Front, server: &PostgresServer) -> Self {
        let direct = postgres::database(server, "bank");
        let outside = pool(&direct);
        sqlx::raw_sql("create table ledger (key bigint)").execute(&outside).await.unwrap();
        PostgresResource::install(&outside).await.unwrap();
        let url = front.url(server, &direct).await;
        Self { resource: resource(&url), url, outside }
    }

    /// On the server that the tests share.
    async fn shared(front: &Front) -> Self {
        Self::open(front, postgres::shared()).await
    }

    /// The resource after a restart of its process.
    fn restarted(&self) -> PostgresResource {
        resource(&self.url)
    }

    fn branch() -> BranchContext {
        testing::branch_context(&Cluster::new("test").unwrap(), SOON)
    }

    /// Begins a branch and writes `key` in it.
    async fn begun(&self, key: i64) -> (BranchContext, PostgresBranch) {
        let branch = Self::branch();
        let mut work = testing::begin(&self.resource, &branch, BeginOptions::new()).await.unwrap();
        sqlx::query("insert into ledger values ($1)").bind(key).execute(&mut *work).await.unwrap();
        (branch, work)
    }

    async fn worked(&self, key: i64) -> BranchContext {
        let (branch, work) = self.begun(key).await;
        work.enlist().await.unwrap();
        branch
    }

    async fn prepared(&self, key: i64) -> (BranchContext, Evidence) {
        let branch = self.worked(key).await;
        match self.resource.prepare(&branch, None).await {
            Ok(Prepared::Yes(evidence)) => (branch, evidence),
            other => panic!("{other:?}"),
        }
    }

    /// Whether the work is there, for everybody.
    async fn sees(&self, key: i64) -> bool {
        eventually("the ledger", || async {
            let query = sqlx::query_scalar("select exists (select from ledger where key = $1)").bind(key);
            query.fetch_one(&self.outside).await.ok()
        })
        .await
    }

    async fn prepared_count(&self) -> i64 {
        let query = "select count(*) from pg_prepared_xacts where database = current_database()";
        sqlx::query_scalar(query).fetch_one(&self.outside).await.unwrap()
    }

    async fn by_hand(&self, sql: String) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.outside).await.unwrap();
    }
}

fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(4).acquire_timeout(SOON).connect_lazy(url).unwrap()
}

fn resource(url: &str) -> PostgresResource {
    PostgresResource::new("bank", pool(url)).unwrap()
}

/// The register is closed before its commit comes: the work is there if and only if the register,
/// asked by anybody, says so.
async fn work_and_register_agree(front: &Front) -> Verdict {
    let bank = Bank::shared(front).await;
    let branch = bank.worked(1).await;
    let closed = bank.restarted().settle(&branch).await;
    let answer = bank.resource.commit_one_phase(&branch, None).await;
    let (later, there) = (bank.restarted().settle(&branch).await, bank.sees(1).await);
    let committed = |answer: &RegisterAnswer| *answer == RegisterAnswer::Committed;
    if committed(&closed) == there && committed(&answer) == there && committed(&later) == there {
        return Ok(());
    }
    Err(format!(
        "I6: an asker was told {closed:?}, the owner {answer:?}, later ones {later:?}, and the work is there: {there}"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_a_marker_insert_that_is_not_checked_is_caught() {
    let mutant = [Rule::Replace(", true); COMMIT", ", true) ON CONFLICT DO NOTHING; COMMIT")];
    caught("marker insert unchecked", &mutant, work_and_register_agree).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_a_register_that_is_asked_by_reading_alone_is_caught() {
    let mutant =
        [Rule::Replace(", false WHERE ", ", false WHERE false AND "), Rule::Replace("'none'", "'false'")];
    caught("absence of a marker read as abort", &mutant, work_and_register_agree).await;
}

/// A yes vote is a promise: something is prepared, and once committed, the work is there.
async fn a_yes_is_a_promise(
    bank: &Bank,
    branch: &BranchContext,
    resource: &PostgresResource,
    operation: Option<&Operation>,
) -> Verdict {
    let Ok(Prepared::Yes(_)) = resource.prepare(branch, operation).await else { return Ok(()) };
    if bank.prepared_count().await == 0 {
        return Err("AC3: the branch voted yes, and nothing is prepared".to_owned());
    }
    bank.by_hand(format!("commit prepared '{}'", branch.name)).await;
    if bank.sees(1).await {
        Ok(())
    } else {
        Err("AC3: the branch voted yes for work that is gone".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c6_a_prepare_without_the_proof_before_it_is_caught() {
    let mutant = [Rule::Cut("SELECT 1/", "PREPARE TRANSACTION")];
    caught("no guard before PREPARE TRANSACTION", &mutant, async |front: &Front| {
        let bank = Bank::shared(front).await;
        let (branch, mut work) = bank.begun(1).await;
        let query = sqlx::query_scalar::<_, String>("select pg_current_xact_id()::text");
        let xid = query.fetch_one(&mut *work).await.unwrap().parse().unwrap();
        sqlx::query("select 1 / 0").execute(&mut *work).await.unwrap_err();
        // As if it had failed right after the look that enlist takes.
        testing::hold_unseen(work, xid);
        a_yes_is_a_promise(&bank, &branch, &bank.resource, None).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c6_a_guard_that_lets_an_ended_transaction_pass_is_caught() {
    let mutant = [Rule::Replace("IS NOT DISTINCT FROM 'pactum:", "IS DISTINCT FROM 'other:")];
    caught("guard does not know the branch's own transaction", &mutant, async |front: &Front| {
        let bank = Bank::shared(front).await;
        let (branch, mut work) = bank.begun(1).await;
        let query = sqlx::query_scalar::<_, String>("select pg_current_xact_id()::text");
        let xid = query.fetch_one(&mut *work).await.unwrap().parse().unwrap();
        sqlx::raw_sql("rollback").execute(&mut *work).await.unwrap();
        testing::hold_unseen(work, xid);
        a_yes_is_a_promise(&bank, &branch, &bank.resource, None).await
    })
    .await;
}

/// Writes 1, puts `ended` for its transaction, and writes 2: a yes for that is no promise of the first.
async fn an_operation_that_says_yes_has_all_its_work(front: &Front, ended: &'static str) -> Verdict {
    let bank = Bank::shared(front).await;
    let resource = bank.restarted().operation("careless", move |session, _| {
        Box::pin(async move {
            sqlx::raw_sql("insert into ledger values (1)").execute(&mut *session).await?;
            sqlx::raw_sql(ended).execute(&mut *session).await?;
            sqlx::raw_sql("insert into ledger values (2)").execute(&mut *session).await?;
            Ok(())
        })
    });
    let (branch, careless) = (Bank::branch(), Operation { name: "careless".into(), payload: [].into() });
    a_yes_is_a_promise(&bank, &branch, &resource, Some(&careless)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c6_a_look_that_does_not_know_the_branchs_own_transaction_is_caught() {
    let mutant = [Rule::Replace("IS NOT DISTINCT FROM $1)", "IS DISTINCT FROM $1 || 'other')")];
    caught("look at an operation's work does not know its transaction", &mutant, async |front: &Front| {
        an_operation_that_says_yes_has_all_its_work(front, "rollback; begin").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c6_an_operation_prepared_without_a_guard_is_caught() {
    // As if its transaction had ended right after the look.
    let mutant = [Rule::Replace("SAVEPOINT pactum; PREPARE", "ROLLBACK; PREPARE")];
    caught("no guard before an operation's PREPARE TRANSACTION", &mutant, async |front: &Front| {
        an_operation_that_says_yes_has_all_its_work(front, "select").await
    })
    .await;
    let guarded = [Rule::Replace("SAVEPOINT pactum; PREPARE", "ROLLBACK; SAVEPOINT pactum; PREPARE")];
    assert_eq!(an_operation_that_says_yes_has_all_its_work(&Front::new(&guarded), "select").await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac4_a_begin_that_does_not_name_its_branch_is_caught() {
    let mutant = [Rule::Cut("; SET LOCAL pactum.branch", "; SET LOCAL lock_timeout")];
    caught("a plain BEGIN", &mutant, async |front: &Front| {
        let bank = Bank::shared(front).await;
        let (branch, work) = bank.begun(1).await;
        if let Err(error) = work.enlist().await {
            return Err(format!("AC4: nothing failed, and the branch is refused: {error}"));
        }
        match bank.resource.prepare(&branch, None).await {
            Ok(Prepared::Yes(_)) => Ok(()),
            other => Err(format!("AC4: nothing failed, and the vote is {other:?}")),
        }
    })
    .await;
}

/// A branch that an operator rolled back is never acknowledged as committed.
async fn an_acknowledged_commit_is_there(front: &Front) -> Verdict {
    let bank = Bank::shared(front).await;
    let (branch, evidence) = bank.prepared(1).await;
    bank.by_hand(format!("rollback prepared '{}'", branch.name)).await;
    for prepared in [Some(&evidence), None] {
        let outcome = bank.resource.commit(&branch, &evidence, prepared).await;
        if outcome == Ok(BranchOutcome::Committed) && !bank.sees(1).await {
            return Err("AC1: the branch is acknowledged as committed, and its work is not there".to_owned());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_d8_trusting_42704_is_caught() {
    let mutant = [Rule::Pardon { statement: "COMMIT PREPARED", sqlstate: "42704" }];
    caught("42704 trusted", &mutant, an_acknowledged_commit_is_there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_evidence_that_always_says_committed_is_caught() {
    let mutant = [Rule::Replace(
        "SELECT pg_xact_status($1::text::xid8)",
        "SELECT 'committed'::text FROM (SELECT $1::text) AS asked",
    )];
    caught("evidence not looked at", &mutant, an_acknowledged_commit_is_there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_a_second_execution_that_passes_for_the_decided_one_is_caught() {
    // Every execution under the name looks like the decided one, whose xid is the lower.
    let mutant = [Rule::Replace(
        "SELECT gid, transaction::text,",
        "SELECT gid, (SELECT min(key) FROM ledger_xid)::text,",
    )];
    caught("evidence not compared", &mutant, async |front: &Front| {
        let bank = Bank::shared(front).await;
        let (branch, decided) = bank.prepared(1).await;
        let xid = decided.execution.parse::<u64>().unwrap();
        bank.by_hand(format!("create table ledger_xid as select {xid}::bigint as key")).await;
        bank.by_hand(format!("commit prepared '{}'", branch.name)).await;
        // The same one-shot work, done again by another instance.
        let mut work = testing::begin(&bank.resource, &branch, BeginOptions::new()).await.unwrap();
        sqlx::query("insert into ledger values (1)").execute(&mut *work).await.unwrap();
        work.enlist().await.unwrap();
        bank.resource.prepare(&branch, None).await.unwrap();
        drop(bank.resource.commit(&branch, &decided, None).await);
        let query = sqlx::query_scalar::<_, i64>("select count(*) from ledger where key = 1");
        let times = query.fetch_one(&bank.outside).await.unwrap();
        if times == 1 { Ok(()) } else { Err(format!("I7: the work took effect {times} times")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h6_trusting_an_xid_after_a_restore_is_caught() {
    // The server's position never seems to go back.
    let mutant = [Rule::Replace("pg_current_wal_insert_lsn()::text", "'FFFFFFFF/0'::text")];
    let server = postgres::own(&[]);
    caught("xid trusted after a restore", &mutant, async |front: &Front| {
        let bank = Bank::open(front, &server).await;
        let copy = server.copy().unwrap();
        bank.by_hand("insert into ledger select generate_series(1000, 20000)".to_owned()).await;
        let (branch, evidence) = bank.prepared(1).await;
        let xid: u64 = evidence.execution.parse().unwrap();
        server.restore(&copy, Restored::SameTimeline).unwrap();
        // The PREPARE is lost, and its xid is given to somebody else, who commits.
        eventually("the xid being used again", || async {
            let query = "insert into ledger values (-1) returning pg_current_xact_id()::text";
            let used = sqlx::query_scalar::<_, String>(query).fetch_one(&bank.outside).await.ok()?;
            (used.parse::<u64>().ok()? > xid).then_some(())
        })
        .await;
        let outcome = bank.restarted().commit(&branch, &evidence, None).await;
        if outcome == Ok(BranchOutcome::Committed) && !bank.sees(1).await {
            return Err("AC1: a stranger's xid passed for the branch's, whose work is lost".to_owned());
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d16_a_one_phase_commit_that_is_not_forced_is_caught() {
    let mutant = [Rule::Replace("ELSE 'on' END", "ELSE 'off' END")];
    let lazy = [("wal_writer_delay", "10s"), ("wal_writer_flush_after", "1GB"), ("autovacuum", "off")];
    let server = postgres::own(&[&lazy[..], &[("synchronous_commit", "off")]].concat());
    caught("one-phase commit not forced", &mutant, async |front: &Front| {
        let bank = Bank::open(front, &server).await;
        server.psql("postgres", "checkpoint").unwrap();
        for key in 1..=20 {
            let branch = bank.worked(key).await;
            assert_eq!(bank.resource.commit_one_phase(&branch, None).await, RegisterAnswer::Committed);
        }
        server.kill().unwrap();
        server.restart().unwrap();
        let stand = eventually("the bank after its restart", || async {
            let query = sqlx::query_scalar::<_, i64>("select count(*) from ledger");
            tokio::time::timeout(Duration::from_secs(10), query.fetch_one(&bank.outside)).await.ok()?.ok()
        })
        .await;
        if stand == 20 {
            Ok(())
        } else {
            Err(format!("I1: of 20 acknowledged commits {stand} survived a SIGKILL"))
        }
    })
    .await;
}
