//! What operators see, and what they may do: resolve, and no more than that.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pactum::participant::Participant;
use pactum::resource::{
    BranchContext, BranchOutcome, Evidence, HookError, Operation, Prepared, PreparedBranch, PreparedName,
    Registration, Resource,
};
use pactum::{AbortReason, Cluster, HeuristicOutcome, Pactum, ResourceName};
use pactum_coordinator::decision_log::ListPage;
use pactum_proto::v1;
use pactum_proto::v1::act::Act;
use pactum_proto::v1::admin_service_client::AdminServiceClient;
use pactum_tests::bank::{APPLY, Entry, OPENING, Teller};
use pactum_tests::cluster;
use pactum_tests::faults::Cut;
use pactum_tests::history::{TIMEOUT, Told, fresh_key, transfer};
use pactum_tests::postgres;
use pactum_tests::process::{At, BankProcess, coordinator};
use pactum_tests::wait::eventually;
use tonic::Code;
use tonic::transport::Channel;

async fn admin(cluster: &cluster::Cluster) -> AdminServiceClient<Channel> {
    AdminServiceClient::connect(cluster.coordinator.admin_url()).await.unwrap()
}

async fn inspect(admin: &AdminServiceClient<Channel>, gid: &str) -> v1::Transaction {
    let request = v1::InspectTransactionRequest { gid: gid.to_owned(), examine: false };
    let shown = admin.clone().inspect_transaction(request).await.unwrap();
    shown.into_inner().transaction.unwrap()
}

/// Plans an act, and performs it on the state that it was planned for.
async fn perform(
    admin: &AdminServiceClient<Channel>,
    act: Act,
    reason: &str,
) -> Result<v1::PerformActResponse, tonic::Status> {
    let request = v1::PlanActRequest { act: Some(v1::Act { act: Some(act) }) };
    let plan = admin.clone().plan_act(request).await?.into_inner().plan.unwrap();
    let request = v1::PerformActRequest {
        act: plan.act,
        plan_hash: plan.hash,
        reason: reason.to_owned(),
        who: "a test".to_owned(),
    };
    admin.clone().perform_act(request).await.map(tonic::Response::into_inner)
}

fn digits(id: pactum::TransactionId) -> String {
    id.gid.as_uuid().simple().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_g5_operators_who_resolve_at_once_and_an_owner_who_commits_all_agree() {
    // A resolve closes through the log: whichever comes first, everybody is told the same, and
    // nobody resolves a commit into being. Two operators are no different from one.
    let cluster = cluster::Cluster::start().await;
    let (a, b) = (cluster.bank("bank-a").await, cluster.bank("bank-b").await);
    let (pactum, admin) = (cluster.application().await, admin(&cluster).await);
    let mut outcomes = BTreeMap::<bool, u32>::new();
    for round in 0..12 {
        let (tx, key) = (pactum.begin().timeout(TIMEOUT).await.unwrap(), fresh_key());
        let gid = digits(tx.id());
        a.apply(tx.context(), &Entry::new(&key, "1", -1)).await.unwrap();
        b.apply(tx.context(), &Entry::new(&key, "1", 1)).await.unwrap();
        let resolve = |who: &str| {
            let (admin, gid, reason) = (admin.clone(), gid.clone(), format!("{who} says so"));
            async move { perform(&admin, Act::Resolve(v1::ResolveAct { gid }), &reason).await }
        };
        // In every second round the operators are first.
        let (commit, one, two) = if round % 2 == 0 {
            let (one, two) = futures::join!(resolve("one"), resolve("two"));
            (tx.commit().await, one, two)
        } else {
            futures::join!(async { tx.commit().await }, resolve("one"), resolve("two"))
        };
        let committed = commit.is_ok_and(|outcome| outcome.is_committed());
        for answer in [one, two] {
            match answer {
                Ok(_) => assert!(!committed, "round {round}: resolved and committed"),
                // Whoever came too late is told so, or that there is nothing left to see.
                Err(status) => assert!(
                    matches!(status.code(), Code::FailedPrecondition | Code::NotFound | Code::Unavailable),
                    "round {round}: {status:?}"
                ),
            }
        }
        let expected = usize::from(committed);
        for bank in [&a, &b] {
            eventually("the books showing it", || async {
                let there = bank.books.ledger().await.ok()?.iter().filter(|entry| entry.key == key).count();
                (there == expected && bank.books.prepared().await.ok()?.is_empty()).then_some(())
            })
            .await;
        }
        *outcomes.entry(committed).or_default() += 1;
    }
    assert!(outcomes.contains_key(&false), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h11_g2_a_branch_rolled_back_by_hand_while_others_vote_is_told_and_never_an_ack() {
    // Behind Pactum's back, at the database: nobody can stop that, and nobody takes it for done. The
    // other branch votes yes, the decision is commit, and one branch can obey it no more.
    let log_url = postgres::database(postgres::shared(), "log");
    let c = coordinator(&log_url, Some(At::Pause("vote-received", 2))).await;
    let a = BankProcess::start("bank-a", &c, None).await;
    let b = BankProcess::start("bank-b", &c, None).await;
    let pactum = Pactum::connect(c.url()).await.unwrap();
    let moving = transfer(&pactum, &a, &b, "1", 5);
    let meddling = async {
        c.paused().await;
        let names = a.books.prepared().await.unwrap();
        let sql = format!("rollback prepared '{}'", names[0]);
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(a.books.pool()).await.unwrap();
        c.resume();
    };
    let (done, ()) = futures::join!(moving, meddling);
    assert_eq!(done.told, Told::Committed, "the decision stands: {done:?}");
    let kept = eventually("the heuristic outcome being kept", || async {
        let log = pactum_coordinator::open_log(&log_url).await.ok()?;
        let stored = log.list(&ListPage { limit: 10, ..ListPage::default() }).await.ok()?;
        stored.first()?.heuristics.first().map(|kept| kept.outcome)
    })
    .await;
    assert_eq!(kept, HeuristicOutcome::Aborted);
    assert_eq!(a.books.balance("1").await.unwrap(), OPENING);
    assert_eq!(b.books.balance("1").await.unwrap(), OPENING + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d14_a_branch_that_stays_prepared_is_shown_with_its_age_and_what_it_waits_for() {
    let cluster = cluster::Cluster::start().await;
    let a = cluster.bank("bank-a").await;
    let (b, database) = cluster.bank_behind_proxy("bank-b", false).await;
    let (pactum, admin) = (cluster.application().await, admin(&cluster).await);
    // Its database is gone from the moment of its promise on.
    database.arm(Cut::Outage, "COMMIT PREPARED");
    let (tx, key) = (pactum.begin().timeout(TIMEOUT).await.unwrap(), fresh_key());
    let gid = digits(tx.id());
    a.apply(tx.context(), &Entry::new(&key, "1", -1)).await.unwrap();
    b.apply(tx.context(), &Entry::new(&key, "1", 1)).await.unwrap();
    let (outcome, ()) = futures::join!(async { tx.commit().wait_decision().await }, database.fired(1));
    assert!(outcome.unwrap().is_committed());
    let listed = |older: Duration| {
        let mut admin = admin.clone();
        async move {
            let request = v1::ListTransactionsRequest {
                in_doubt: true,
                older_than: Some(older.try_into().unwrap()),
                ..v1::ListTransactionsRequest::default()
            };
            admin.list_transactions(request).await.unwrap().into_inner().transactions
        }
    };
    // It ages, until whoever watches for an age sees it.
    let shown = eventually("an old branch being listed", || async {
        listed(Duration::from_secs(1)).await.into_iter().next()
    })
    .await;
    assert_eq!(shown.state(), v1::TransactionState::Committing, "{shown:?}");
    assert!(shown.age.is_some_and(|age| age.seconds >= 1), "{shown:?}");
    assert!(listed(Duration::from_hours(1)).await.is_empty());
    let shown = inspect(&admin, &gid).await;
    assert!(shown.waits_for.contains("bank-b"), "{shown:?}");
    let branch = shown.branches.iter().find(|one| one.branch.as_ref().unwrap().resource == "bank-b");
    let branch = branch.unwrap();
    assert!(branch.attempts >= 1 && branch.attached, "{branch:?}");
    database.refuse(false);
    eventually("the branch's end", || async {
        (b.books.ledger().await.ok()?.len() == 1 && b.books.prepared().await.ok()?.is_empty()).then_some(())
    })
    .await;
    eventually("nothing being listed any more", || async {
        listed(Duration::ZERO).await.is_empty().then_some(())
    })
    .await;
}

/// A resource in memory whose commit hook fails, then panics, until it is mended.
#[derive(Clone, Debug)]
struct Stubborn {
    name: ResourceName,
    prepared: Arc<Mutex<BTreeMap<PreparedName, Evidence>>>,
    mended: Arc<AtomicBool>,
    commits: Arc<AtomicU32>,
    aborts: Arc<AtomicU32>,
}

impl Resource for Stubborn {
    fn name(&self) -> &ResourceName {
        &self.name
    }

    async fn check(&self) -> Result<Registration, HookError> {
        Ok(Registration::new("stubborn"))
    }

    async fn prepare(
        &self,
        branch: &BranchContext,
        _operation: Option<&Operation>,
    ) -> Result<Prepared, AbortReason> {
        let evidence = Evidence::new("1", "");
        self.prepared.lock().unwrap().insert(branch.name.clone(), evidence.clone());
        Ok(Prepared::Yes(evidence))
    }

    async fn commit(
        &self,
        branch: &BranchContext,
        _decided: &Evidence,
        _prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        let attempt = self.commits.fetch_add(1, Ordering::SeqCst);
        if self.mended.load(Ordering::SeqCst) {
            self.prepared.lock().unwrap().remove(&branch.name);
            return Ok(BranchOutcome::Committed);
        }
        assert!(attempt.is_multiple_of(2), "the hook panics every second time");
        Err(HookError::new("the printer is on fire"))
    }

    async fn abort(
        &self,
        branch: &BranchContext,
        _prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        self.aborts.fetch_add(1, Ordering::SeqCst);
        self.prepared.lock().unwrap().remove(&branch.name);
        Ok(BranchOutcome::Aborted)
    }

    async fn recover(&self, _cluster: &Cluster) -> Result<Vec<PreparedBranch>, HookError> {
        let prepared = self.prepared.lock().unwrap();
        let branch = |(name, evidence): (&PreparedName, &Evidence)| PreparedBranch {
            name: name.clone(),
            evidence: evidence.clone(),
        };
        Ok(prepared.iter().map(branch).collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c8_a_commit_hook_that_fails_or_panics_is_repeated_and_shown_and_never_turned_into_abort() {
    let cluster = cluster::Cluster::start().await;
    let a = cluster.bank("bank-a").await;
    let stubborn = Stubborn {
        name: ResourceName::new("stubborn").unwrap(),
        prepared: Arc::default(),
        mended: Arc::default(),
        commits: Arc::default(),
        aborts: Arc::default(),
    };
    let participant = Participant::builder([cluster.coordinator.public_url()])
        .resource(stubborn.clone())
        .start()
        .await
        .unwrap();
    participant.attached().await;
    let (pactum, admin) = (cluster.application().await, admin(&cluster).await);
    let key = fresh_key();
    let submit = pactum
        .submit()
        .operation("bank-a", APPLY, Entry::new(&key, "1", 0).payload())
        .operation("stubborn", "print", Vec::new())
        .timeout(TIMEOUT)
        .wait_decision();
    let outcome = submit.await.unwrap();
    assert!(outcome.is_committed());
    let shown = eventually("the failing branch being shown with its error", || async {
        let request =
            v1::ListTransactionsRequest { in_doubt: true, ..v1::ListTransactionsRequest::default() };
        let listed = admin.clone().list_transactions(request).await.ok()?.into_inner().transactions;
        let gid = uuid::Uuid::from_slice(&listed.first()?.id.as_ref()?.gid).ok()?.simple().to_string();
        let shown = inspect(&admin, &gid).await;
        (stubborn.commits.load(Ordering::SeqCst) >= 4).then_some(shown)
    })
    .await;
    assert_eq!(shown.state(), v1::TransactionState::Committing, "{shown:?}");
    assert!(shown.waits_for.contains("stubborn"), "{shown:?}");
    stubborn.mended.store(true, Ordering::SeqCst);
    eventually("the hook succeeding", || async {
        stubborn.prepared.lock().unwrap().is_empty().then_some(())
    })
    .await;
    assert_eq!(stubborn.aborts.load(Ordering::SeqCst), 0, "a decision is never undone");
    assert_eq!(a.books.ledger().await.unwrap().len(), 1);
    assert_eq!(participant.violations(), 0);
    participant.shutdown().await;
}
