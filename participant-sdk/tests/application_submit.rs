//! One-shot transactions against a coordinator that answers by a script, over real gRPC.
//!
//! The one danger is a second gid for the same work: drawn only where nothing of the first can happen.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, stop at what they did not expect")]

#[allow(dead_code, reason = "the tests of several coordinators use all of it")]
mod network;
#[path = "application/script.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod script;

use std::collections::BTreeSet;
use std::time::Duration;

use pactum::{AbortKind, Certainty, CommitError, Gid, Incarnation, Pactum};
use pactum_core::coordinator::TransactionOutcome;
use pactum_proto::error::{ErrorCode, call_error};
use pactum_proto::v1::pipeline_call::Call;
use script::{Coordinator, Greeting, LONG, Reply, aborted, committed, gid, welcome};
use uuid::Uuid;

const SHORT: Duration = Duration::from_millis(300);

async fn connect(coordinator: &Coordinator) -> Pactum {
    let builder = Pactum::builder([coordinator.address.as_str()]).grace(SHORT).connect_timeout(LONG);
    builder.connect().await.unwrap()
}

fn gids(calls: &[Call]) -> BTreeSet<Gid> {
    calls.iter().map(gid).collect()
}

#[tokio::test]
async fn every_operation_travels_in_one_request() {
    let coordinator = Coordinator::start(|_, _| committed()).await;
    let pactum = connect(&coordinator).await;
    let submit = pactum.submit().name("transfer").operation("bank-a", "debit", b"1".as_slice());
    let outcome = submit.operation("bank-b", "credit", "2").await.unwrap();
    assert!(outcome.is_committed());
    let calls = coordinator.calls();
    let [Call::Submit(submit)] = &calls[..] else { panic!("{calls:?}") };
    let operations: Vec<_> = submit
        .operations
        .iter()
        .map(|it| (it.branch, it.resource.as_str(), it.name.as_str(), &it.payload[..]))
        .collect();
    assert_eq!(operations, [(1, "bank-a", "debit", &b"1"[..]), (2, "bank-b", "credit", b"2")]);
    assert_eq!(submit.details.as_ref().unwrap().name, "transfer");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_with_the_same_gid_and_body() {
    let coordinator = Coordinator::start(|number, _| match number {
        0 | 1 => Reply::Cut,
        2 => Reply::Outcome(TransactionOutcome::Pending),
        _ => committed(),
    })
    .await;
    let pactum = connect(&coordinator).await;
    assert!(pactum.submit().operation("bank-a", "debit", "1").await.unwrap().is_committed());
    let calls = coordinator.calls();
    assert_eq!((calls.len(), gids(&calls).len()), (4, 1));
    for call in &calls {
        let Call::Submit(submit) = call else { panic!("{call:?}") };
        assert_eq!(submit.operations[0].payload[..], b"1"[..]);
    }
}

#[tokio::test]
async fn a_gid_that_certainly_never_started_is_replaced() {
    let coordinator = Coordinator::start(|number, _| match number {
        0 => Reply::Error(call_error(ErrorCode::TooOldToStart, "", None)),
        _ => committed(),
    })
    .await;
    let pactum = connect(&coordinator).await;
    assert!(pactum.submit().operation("bank-a", "debit", "1").await.unwrap().is_committed());
    let calls = coordinator.calls();
    assert_eq!((calls.len(), gids(&calls).len()), (2, 2));
}

#[tokio::test]
async fn a_gid_that_may_have_arrived_is_never_replaced() {
    // The first delivery may be running: the refusal of the second one does not take it back.
    for found in [true, false] {
        let coordinator = Coordinator::start(move |number, _| match number {
            0 => Reply::Cut,
            1 => Reply::Error(call_error(ErrorCode::TooOldToStart, "", None)),
            _ if found => committed(),
            _ => Reply::Outcome(TransactionOutcome::NoRecord),
        })
        .await;
        let pactum = connect(&coordinator).await;
        let result = pactum.submit().operation("bank-a", "debit", "1").await;
        let calls = coordinator.calls();
        assert_eq!((calls.len(), gids(&calls).len()), (3, 1));
        assert!(matches!(calls[2], Call::GetTransaction(_)));
        match result {
            Ok(outcome) => assert!(found && outcome.is_committed()),
            Err(error) => assert!(!found && matches!(error, CommitError::NoRecord { .. }), "{error}"),
        }
    }
}

#[tokio::test]
async fn an_incarnation_that_ended_before_anything_was_sent_is_left_for_the_next() {
    // The coordinator refuses for now and then comes back as another incarnation.
    let wait = Some(Duration::from_millis(1));
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let (first, second) = (Incarnation::from_uuid(first), Incarnation::from_uuid(second));
    let greeting = welcome(Some(first), Gid::NIL);
    let coordinator = Coordinator::start_with(first, greeting, move |_, call| {
        let Call::Submit(submit) = call else { panic!("{call:?}") };
        let incarnation = &submit.id.as_ref().unwrap().incarnation;
        if incarnation[..] == second.as_uuid().as_bytes()[..] {
            committed()
        } else {
            Reply::Error(call_error(ErrorCode::Starting, "", wait))
        }
    })
    .await;
    let pactum = connect(&coordinator).await;
    let submit = tokio::spawn(pactum.submit().operation("bank-a", "debit", "1").into_future());
    coordinator.wait_for_calls(2).await;
    coordinator.greet(welcome(Some(second), Gid::NIL));
    assert!(submit.await.unwrap().unwrap().is_committed());
}

#[tokio::test]
async fn a_submit_that_may_have_arrived_asks_the_others_for_the_same_gid() {
    let owner = Coordinator::start(|_, _| Reply::Cut).await;
    let other = Coordinator::start_with(
        Incarnation::from_uuid(Uuid::from_u128(3)),
        welcome(None, Gid::NIL),
        |_, _| aborted(AbortKind::OwnerEnded),
    )
    .await;
    let builder = Pactum::builder([owner.address.as_str(), other.address.as_str()]);
    let pactum = builder.connect().await.unwrap();
    let submit = tokio::spawn(pactum.submit().operation("bank-a", "debit", "1").into_future());
    let first = owner.wait_for_calls(1).await;
    owner.greet(Greeting::Refuse);
    let outcome = submit.await.unwrap().unwrap();
    assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::OwnerEnded);
    assert_eq!(gids(&other.calls()), gids(&first));
}

#[tokio::test]
async fn past_the_deadline_the_outcome_is_unknown() {
    let coordinator = Coordinator::start(|_, _| Reply::Silence).await;
    let pactum = connect(&coordinator).await;
    let submit = pactum.submit().operation("bank-a", "debit", "1").timeout(SHORT);
    let error = submit.await.unwrap_err();
    assert_eq!(error.certainty(), Certainty::MayHaveHappened);
    assert_eq!(error.id().unwrap().gid, gid(&coordinator.calls()[0]));
}

#[tokio::test]
async fn large_submits_are_spread_over_messages_under_the_limit() {
    let coordinator = Coordinator::start(|_, _| committed()).await;
    let pactum = connect(&coordinator).await;
    let payload = vec![7_u8; 65_536];
    let submits = (0..12).map(|_| {
        let submit = pactum.submit().operation("bank-a", "debit", payload.clone());
        let submit = submit.operation("bank-b", "credit", payload.clone());
        submit.operation("bank-c", "credit", payload.clone()).into_future()
    });
    for outcome in futures::future::join_all(submits).await {
        assert!(outcome.unwrap().is_committed());
    }
    for message in coordinator.messages() {
        let operations = message.iter().flat_map(|call| match call {
            Call::Submit(submit) => &submit.operations,
            Call::Commit(_) | Call::Abort(_) | Call::GetTransaction(_) => panic!("{call:?}"),
        });
        assert!(operations.map(|it| it.payload.len()).sum::<usize>() <= 1 << 20);
    }
}

#[tokio::test]
async fn what_breaks_a_limit_is_refused_before_anything_is_sent() {
    let coordinator = Coordinator::start(|_, _| Reply::Silence).await;
    let pactum = connect(&coordinator).await;
    let mut many = pactum.submit();
    let mut heavy = pactum.submit();
    for _ in 0..65 {
        many = many.operation("bank-a", "debit", "");
    }
    for _ in 0..5 {
        heavy = heavy.operation("bank-a", "debit", vec![0; 65_536]);
    }
    let submits = [
        pactum.submit(),
        many,
        heavy,
        pactum.submit().operation("", "debit", ""),
        pactum.submit().operation("Bank", "debit", ""),
        pactum.submit().operation("bank-a", "", ""),
        pactum.submit().operation("bank-a", "de bit", ""),
        pactum.submit().operation("bank-a", "debit", vec![0; 65_537]),
        pactum.submit().operation("bank-a", "debit", "").timeout(Duration::ZERO),
    ];
    for submit in submits {
        let error = submit.await.unwrap_err();
        assert!(matches!(error, CommitError::InvalidInput(_)), "{error}");
    }
    assert_eq!(coordinator.calls(), []);
}
