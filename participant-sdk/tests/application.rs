//! Interactive transactions against a coordinator that answers by a script, over real gRPC.
//!
//! What the coordinator was told, and how often, is compared exactly: a repeated commit carries the
//! same gid and the same branches, and nothing is ever told twice under two names.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, stop at what they did not expect")]

#[allow(dead_code, reason = "the tests of several coordinators use all of it")]
mod network;
#[path = "application/script.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod script;

use std::collections::BTreeSet;
use std::time::Duration;

use pactum::{
    AbortKind, Certainty, CommitError, ConnectError, Gid, Incarnation, Outcome, Pactum, Standing, Transaction,
};
use pactum_core::coordinator::TransactionOutcome;
use pactum_proto::error::{ErrorCode, call_error};
use pactum_proto::v1;
use pactum_proto::v1::pipeline_call::Call;
use script::{Coordinator, Greeting, LONG, Reply, aborted, branch, branches, committed, gid, welcome};
use uuid::Uuid;

const SHORT: Duration = Duration::from_millis(300);

async fn connect(coordinator: &Coordinator) -> Pactum {
    let builder = Pactum::builder([coordinator.address.as_str()]).grace(SHORT).connect_timeout(LONG);
    builder.connect().await.unwrap()
}

async fn with_two_branches(pactum: &Pactum) -> Transaction {
    let transaction = pactum.begin().name("transfer").label("order", 7).await.unwrap();
    transaction.context().record_enlisted(branch(2));
    transaction.context().record_enlisted(branch(1));
    transaction
}

/// One gid, and the same two branches, in every call.
fn assert_same(calls: &[Call]) {
    let gids: BTreeSet<Gid> = calls.iter().map(gid).collect();
    assert_eq!(gids.len(), 1, "{calls:?}");
    for call in calls {
        assert_eq!(branches(call), [branch(1), branch(2)]);
    }
}

#[tokio::test]
async fn begin_makes_no_call_and_commit_names_what_enlisted() {
    let coordinator = Coordinator::start(|_, _| committed()).await;
    let pactum = connect(&coordinator).await;
    assert_eq!(pactum.cluster().unwrap().as_str(), "c0ffee");
    let transaction = with_two_branches(&pactum).await;
    assert_eq!(transaction.id().incarnation, coordinator.incarnation);
    assert_eq!(coordinator.calls(), []);

    let id = transaction.id();
    let outcome = transaction.commit().wait_decision().await.unwrap();
    assert!(outcome.is_committed());
    let calls = coordinator.calls();
    assert_same(&calls);
    let [Call::Commit(commit)] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(commit.id, Some(id.into()));
    assert_eq!(commit.wait(), v1::Wait::Decision);
    let details = commit.details.as_ref().unwrap();
    assert_eq!(details.name, "transfer");
    assert_eq!(details.labels.get("order").map(String::as_str), Some("7"));
    let timeout: Duration = commit.timeout.unwrap().try_into().unwrap();
    assert!(timeout <= LONG && timeout > LONG / 2, "{timeout:?}");
}

#[tokio::test]
async fn an_abort_is_an_outcome_with_its_reason() {
    let coordinator = Coordinator::start(|_, _| aborted(AbortKind::VotedNo)).await;
    let pactum = connect(&coordinator).await;
    let outcome = with_two_branches(&pactum).await.commit().await.unwrap();
    assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::VotedNo);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_asked_for_again_with_the_same_gid_and_branches() {
    let coordinator = Coordinator::start(|number, _| match number {
        0 | 1 => Reply::Cut,
        _ => committed(),
    })
    .await;
    let pactum = connect(&coordinator).await;
    let outcome = with_two_branches(&pactum).await.commit().await.unwrap();
    assert!(outcome.is_committed());
    let calls = coordinator.calls();
    assert_eq!(calls.len(), 3);
    assert_same(&calls);
    assert!(calls.iter().all(|call| matches!(call, Call::Commit(_))));
}

#[tokio::test]
async fn unknown_and_pending_are_asked_for_until_they_are_known() {
    let coordinator = Coordinator::start(|number, _| match number {
        0 => Reply::Outcome(TransactionOutcome::Unknown),
        1 => Reply::Outcome(TransactionOutcome::Pending),
        2 => Reply::Error(call_error(ErrorCode::OutcomeUnknown, "", None)),
        _ => aborted(AbortKind::LogRefused),
    })
    .await;
    let pactum = connect(&coordinator).await;
    let outcome = with_two_branches(&pactum).await.commit().await.unwrap();
    assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::LogRefused);
    assert_eq!(coordinator.calls().len(), 4);
    assert_same(&coordinator.calls());
}

#[tokio::test]
async fn a_commit_refused_for_now_is_repeated() {
    let wait = Some(Duration::from_millis(1));
    let coordinator = Coordinator::start(move |number, _| match number {
        0 => Reply::Error(call_error(ErrorCode::LogUnavailable, "", wait)),
        1 => Reply::Error(call_error(ErrorCode::Overloaded, "", wait)),
        _ => committed(),
    })
    .await;
    let pactum = connect(&coordinator).await;
    assert!(with_two_branches(&pactum).await.commit().await.unwrap().is_committed());
    assert_same(&coordinator.calls());
}

#[tokio::test]
async fn what_was_always_refused_for_now_did_not_happen() {
    let wait = Some(Duration::from_millis(1));
    let refuse = move |_: usize, _: &Call| Reply::Error(call_error(ErrorCode::LogUnavailable, "", wait));
    let coordinator = Coordinator::start(refuse).await;
    let pactum = connect(&coordinator).await;
    let transaction = pactum.begin().timeout(SHORT).await.unwrap();
    transaction.context().record_enlisted(branch(1));
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::NotReached { .. }), "{error}");
    assert_eq!(error.certainty(), Certainty::DidNotHappen);
    assert!(error.to_string().contains("(PACTUM-0004 LOG_UNAVAILABLE)"), "{error}");
}

#[tokio::test]
async fn one_lost_answer_among_refusals_leaves_the_outcome_unknown() {
    // Law 5: a later "nothing happened" speaks of its own delivery only.
    let wait = Some(Duration::from_millis(1));
    let coordinator = Coordinator::start(move |number, _| match number {
        0 => Reply::Cut,
        _ => Reply::Error(call_error(ErrorCode::LogUnavailable, "", wait)),
    })
    .await;
    let pactum = connect(&coordinator).await;
    let transaction = pactum.begin().timeout(SHORT).await.unwrap();
    transaction.context().record_enlisted(branch(1));
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn past_the_deadline_the_outcome_is_unknown_and_says_what_to_ask() {
    let coordinator = Coordinator::start(|_, _| Reply::Silence).await;
    let pactum = connect(&coordinator).await;
    let transaction = pactum.begin().timeout(SHORT).await.unwrap();
    transaction.context().record_enlisted(branch(1));
    let name = transaction.id();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.certainty(), Certainty::MayHaveHappened);
    let CommitError::Unknown { id, branches, .. } = error else { panic!("{error}") };
    assert_eq!((id, branches), (name, vec![branch(1)]));
}

#[tokio::test]
async fn no_record_and_forgotten_are_neither_commit_nor_abort() {
    let replies: [(fn() -> Reply, bool); 4] = [
        (|| Reply::Outcome(TransactionOutcome::NoRecord), false),
        (|| Reply::Error(call_error(ErrorCode::NoRecord, "", None)), false),
        (|| Reply::Outcome(TransactionOutcome::Forgotten), true),
        (|| Reply::Error(call_error(ErrorCode::Forgotten, "", None)), true),
    ];
    for (reply, is_forgotten) in replies {
        let coordinator = Coordinator::start(move |_, _| reply()).await;
        let pactum = connect(&coordinator).await;
        let error = with_two_branches(&pactum).await.commit().await.unwrap_err();
        assert_eq!(matches!(error, CommitError::Forgotten { .. }), is_forgotten, "{error}");
        assert_eq!(matches!(error, CommitError::NoRecord { .. }), !is_forgotten, "{error}");
        assert_eq!(error.certainty(), Certainty::MayHaveHappened);
    }
}

#[tokio::test]
async fn a_refusal_for_good_carries_its_code() {
    let refuse = |_: usize, _: &Call| Reply::Error(call_error(ErrorCode::InvalidArgument, "no", None));
    let coordinator = Coordinator::start(refuse).await;
    let pactum = connect(&coordinator).await;
    let error = with_two_branches(&pactum).await.commit().await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!((refusal.code(), refusal.reason()), ("PACTUM-0001", "INVALID_ARGUMENT"));
    assert_eq!(error.certainty(), Certainty::DidNotHappen);
    assert_eq!(coordinator.calls().len(), 1);
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_is_looked_up_with_the_branches() {
    let coordinator = Coordinator::start(|number, _| match number {
        0 => Reply::Cut,
        1 => Reply::Error(call_error(ErrorCode::TooOldToStart, "", None)),
        _ => committed(),
    })
    .await;
    let pactum = connect(&coordinator).await;
    assert!(with_two_branches(&pactum).await.commit().await.unwrap().is_committed());
    let calls = coordinator.calls();
    assert_same(&calls);
    assert!(matches!(calls[2], Call::GetTransaction(_)));
}

#[tokio::test]
async fn nonsense_is_a_broken_contract_and_no_outcome() {
    let coordinator = Coordinator::start(|_, _| Reply::Nonsense).await;
    let pactum = connect(&coordinator).await;
    let error = with_two_branches(&pactum).await.commit().await.unwrap_err();
    assert_eq!(error.certainty(), Certainty::ContractBroken);
}

#[tokio::test]
async fn without_any_branch_commit_makes_no_call() {
    let coordinator = Coordinator::start(|_, _| Reply::Silence).await;
    let pactum = connect(&coordinator).await;
    let outcome = pactum.begin().await.unwrap().commit().await.unwrap();
    assert!(matches!(outcome, Outcome::Committed { read_only: true, .. }));
    assert_eq!(coordinator.calls(), []);
}

#[tokio::test]
async fn without_any_known_branch_but_with_a_lost_call_the_coordinator_compares_the_sets() {
    // Law 9: what enlisted unseen must not be left out in silence.
    let coordinator = Coordinator::start(|_, _| aborted(AbortKind::BranchSetDiffers)).await;
    let pactum = connect(&coordinator).await;
    let transaction = pactum.begin().await.unwrap();
    transaction.context().header_value();
    let outcome = transaction.commit().await.unwrap();
    assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::BranchSetDiffers);
    let calls = coordinator.calls();
    assert!(matches!(&calls[..], [Call::Commit(commit)] if commit.branches.is_empty()));
}

#[tokio::test]
async fn only_the_owner_can_say_that_a_lost_call_enlisted_nothing() {
    // To another coordinator, or to the next incarnation, an empty set is trivially committed.
    let read_only = |_: usize, _: &Call| {
        Reply::Outcome(TransactionOutcome::Committed {
            read_only: true,
            unfinished: Vec::new(),
            heuristic: None,
        })
    };
    let coordinator = Coordinator::start(read_only).await;
    let pactum = connect(&coordinator).await;
    let transaction = pactum.begin().await.unwrap();
    transaction.context().header_value();
    assert!(transaction.commit().await.unwrap().is_committed());

    let transaction = pactum.begin().await.unwrap();
    transaction.context().header_value();
    let restarted = Incarnation::from_uuid(Uuid::from_u128(3));
    coordinator.greet(welcome(Some(restarted), Gid::NIL));
    let until = tokio::time::Instant::now() + LONG;
    while pactum.begin().await.unwrap().id().incarnation != restarted {
        assert!(tokio::time::Instant::now() < until);
        tokio::task::yield_now().await;
    }
    let outcome = transaction.commit().await.unwrap();
    assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::BranchSetDiffers);
    let calls = coordinator.wait_for_calls(2).await;
    assert!(matches!(calls[..], [Call::Commit(_), Call::Abort(_)]));
}

#[tokio::test]
async fn a_set_that_cannot_be_named_whole_is_aborted_and_never_committed() {
    let coordinator = Coordinator::start(|_, _| aborted(AbortKind::Requested)).await;
    let pactum = connect(&coordinator).await;
    let transaction = pactum.begin().await.unwrap();
    for number in 0..65 {
        transaction.context().record_enlisted(branch(number));
    }
    let outcome = transaction.commit().await.unwrap();
    assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::BranchSetDiffers);
    let calls = coordinator.wait_for_calls(1).await;
    assert!(matches!(calls[..], [Call::Abort(_)]));
}

#[tokio::test]
async fn abort_is_told_with_its_message() {
    let coordinator = Coordinator::start(|_, _| aborted(AbortKind::Requested)).await;
    let pactum = connect(&coordinator).await;
    let outcome = with_two_branches(&pactum).await.abort().message("no funds").await.unwrap();
    assert!(!outcome.is_committed());
    let calls = coordinator.calls();
    assert_same(&calls);
    assert!(matches!(&calls[..], [Call::Abort(abort)] if abort.message == "no funds"));
    // What nobody ever heard of needs no call.
    let outcome = pactum.begin().await.unwrap().abort().await.unwrap();
    assert!(!outcome.is_committed());
    assert_eq!(coordinator.calls().len(), 1);
}

#[tokio::test]
async fn dropping_an_undecided_transaction_aborts_it() {
    let coordinator = Coordinator::start(|_, _| aborted(AbortKind::Requested)).await;
    let pactum = connect(&coordinator).await;
    drop(pactum.begin().await.unwrap());
    let transaction = with_two_branches(&pactum).await;
    let dropped = transaction.id().gid;
    drop(transaction);
    // Also when the last handle goes with it: what waits is still sent.
    drop(pactum);
    let calls = coordinator.wait_for_calls(1).await;
    assert_same(&calls);
    assert!(matches!(&calls[..], [call @ Call::Abort(_)] if gid(call) == dropped));
}

#[tokio::test]
async fn gids_lie_above_the_floor_also_if_the_clock_does_not() {
    let year_3000: u128 = 32_503_680_000_000;
    let floor = Gid::from_uuid(Uuid::from_u128((year_3000 << 80) | (u128::MAX >> 48)));
    let incarnation = Incarnation::from_uuid(Uuid::from_u128(1));
    let greeting = welcome(Some(incarnation), floor);
    let coordinator = Coordinator::start_with(incarnation, greeting, |_, _| committed()).await;
    let pactum = connect(&coordinator).await;
    let mut before = floor;
    for _ in 0..100 {
        let transaction = pactum.begin().await.unwrap();
        assert!(transaction.id().gid > before);
        before = transaction.id().gid;
    }
}

#[tokio::test]
async fn begin_waits_for_an_incarnation_and_follows_changes() {
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let (first, second) = (Incarnation::from_uuid(first), Incarnation::from_uuid(second));
    let none = welcome(None, Gid::NIL);
    let coordinator = Coordinator::start_with(first, none, |_, _| committed()).await;
    let address = coordinator.address.as_str();
    let hasty = Pactum::builder([address]).connect_timeout(SHORT).connect().await.unwrap();
    let error = hasty.begin().await.unwrap_err();
    assert!(error.to_string().contains("takes no new transactions"), "{error}");

    let pactum = connect(&coordinator).await;
    let begin = tokio::spawn(pactum.begin().into_future());
    coordinator.greet(welcome(Some(first), Gid::NIL));
    assert_eq!(begin.await.unwrap().unwrap().id().incarnation, first);
    coordinator.greet(welcome(Some(second), Gid::NIL));
    let until = tokio::time::Instant::now() + LONG;
    while pactum.begin().await.unwrap().id().incarnation != second {
        assert!(tokio::time::Instant::now() < until);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn many_commits_at_once_travel_in_few_messages() {
    let coordinator = Coordinator::start(|_, _| committed()).await;
    let pactum = connect(&coordinator).await;
    let mut commits = Vec::new();
    for _ in 0..1500 {
        commits.push(with_two_branches(&pactum).await.commit().into_future());
    }
    for outcome in futures::future::join_all(commits).await {
        assert!(outcome.unwrap().is_committed());
    }
    let messages = coordinator.messages();
    let gids: BTreeSet<Gid> = coordinator.calls().iter().map(gid).collect();
    assert_eq!((gids.len(), coordinator.calls().len()), (1500, 1500));
    assert!(messages.len() < 50, "{} messages", messages.len());
    assert!(messages.iter().all(|message| message.len() <= 1024));
}

#[tokio::test]
async fn another_coordinator_is_asked_when_the_owner_is_gone() {
    let owner = Coordinator::start(|_, _| Reply::Cut).await;
    let other = Coordinator::start_with(
        Incarnation::from_uuid(Uuid::from_u128(3)),
        welcome(None, Gid::NIL),
        |number, _| match number {
            0 => Reply::Outcome(TransactionOutcome::Pending),
            _ => aborted(AbortKind::OwnerEnded),
        },
    )
    .await;
    let builder = Pactum::builder([owner.address.as_str(), other.address.as_str()]);
    let pactum = builder.connect().await.unwrap();
    let transaction = with_two_branches(&pactum).await;
    assert_eq!(transaction.id().incarnation, owner.incarnation);
    owner.greet(Greeting::Refuse);
    let outcome = transaction.commit().await.unwrap();
    assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::OwnerEnded);
    assert_same(&other.calls());
}

#[tokio::test]
async fn an_outcome_is_asked_for_and_told_as_it_stands() {
    let standings: [(fn() -> Reply, Standing); 4] = [
        (|| Reply::Outcome(TransactionOutcome::Pending), Standing::Pending),
        (|| Reply::Outcome(TransactionOutcome::Unknown), Standing::Unknown),
        (|| Reply::Outcome(TransactionOutcome::NoRecord), Standing::NoRecord),
        (|| Reply::Error(call_error(ErrorCode::Forgotten, "", None)), Standing::Forgotten),
    ];
    for (reply, expected) in standings {
        let coordinator = Coordinator::start(move |_, _| reply()).await;
        let pactum = connect(&coordinator).await;
        let id = pactum.begin().await.unwrap().id();
        assert_eq!(pactum.outcome(id, [branch(1), branch(2)]).await.unwrap(), expected);
        assert_same(&coordinator.calls());
    }
    let coordinator = Coordinator::start(|_, _| committed()).await;
    let pactum = connect(&coordinator).await;
    let id = pactum.begin().await.unwrap().id();
    let standing = pactum.outcome(id, []).await.unwrap();
    assert!(matches!(standing, Standing::Decided(outcome) if outcome.is_committed()));
}

#[tokio::test]
async fn what_breaks_a_limit_is_refused_before_anything_is_sent() {
    let coordinator = Coordinator::start(|_, _| Reply::Silence).await;
    let pactum = connect(&coordinator).await;
    let long = |bytes: usize| "x".repeat(bytes);
    let mut many = pactum.begin();
    for number in 0..17 {
        many = many.label(number.to_string(), "");
    }
    let begins = [
        pactum.begin().name(long(65)),
        many,
        pactum.begin().label("", "x"),
        pactum.begin().label(long(65), "x"),
        pactum.begin().label("x", long(257)),
        pactum.begin().timeout(Duration::ZERO),
        pactum.begin().timeout(Duration::from_secs(3601)),
    ];
    for begin in begins {
        let error = begin.await.unwrap_err();
        assert!(matches!(error, pactum::BeginError::InvalidInput(_)), "{error}");
    }
    let edge = pactum.begin().name(long(64)).label(long(64), long(256));
    assert!(edge.timeout(Duration::from_hours(1)).await.is_ok());
}

#[tokio::test]
async fn connecting_fails_with_the_reason() {
    let refusing =
        Coordinator::start_with(Incarnation::from_uuid(Uuid::from_u128(1)), Greeting::Refuse, |_, _| {
            Reply::Silence
        })
        .await;
    let malformed = Greeting::Welcome(v1::Welcome { cluster: "NOT ONE".into(), ..Default::default() });
    let odd = Coordinator::start_with(refusing.incarnation, malformed, |_, _| Reply::Silence).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for (address, text) in [
        (&refusing.address, "refused by the script"),
        (&odd.address, "Welcome is malformed"),
        (&silent, silent.as_str()),
    ] {
        let builder = Pactum::builder([address.as_str()]).connect_timeout(SHORT);
        let error = builder.connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    let none: [String; 0] = [];
    assert!(matches!(Pactum::builder(none).connect().await, Err(ConnectError::InvalidInput(_))));
    let wrong = Pactum::connect("127.0.0.1:7600").await;
    assert!(matches!(wrong, Err(ConnectError::InvalidAddress { .. })));
}
