//! The course of a transaction of two branches as the coordinator's core is told of it: for the
//! measurements of time (`benches/steps.rs`) and of memory (`tests/allocations.rs`).
//!
//! All facts of a transaction are made before the first of them is told, as a shell would hand them
//! over: what is measured is the core alone.

#![allow(dead_code, unreachable_pub, reason = "each program uses its own part of this")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pactum_core::coordinator::{Config, Coordinator, Event, Operation, RequestId, SubmittedBranch, Wait};
use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{BranchOutcome, Decision, Details, ProposalResult};
use pactum_core::time::Timestamp;
use pactum_core::vote::{AbortKind, AbortReason, Evidence, Vote};
use uuid::Uuid;

/// When everything happens.
pub const NOW: Timestamp = Timestamp::ORIGIN;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A core whose incarnation is number 1.
pub fn core() -> Coordinator {
    Coordinator::new(Config::default(), Some(incarnation()), Gid::NIL)
}

fn incarnation() -> Incarnation {
    Incarnation::from_uuid(Uuid::from_u128(1))
}

/// Transaction number `n`, from 1. Its gid has the form of a `UUIDv7`: a millisecond for each
/// transaction, and digits that stand for the random ones.
pub fn id(n: u64) -> TransactionId {
    let random = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&random);
    let gid = uuid::Builder::from_unix_timestamp_millis(1_700_000_000_000 + n, &bytes).into_uuid();
    TransactionId { incarnation: incarnation(), gid: Gid::from_uuid(gid) }
}

/// The two branches of a transaction.
pub const BRANCHES: [u64; 2] = [1, 2];

/// A branch at the resource of its number.
pub fn branch(number: u64) -> Branch {
    Branch {
        id: BranchId::new(number),
        resource: ResourceName::new(&format!("bank-{number}")).unwrap(),
        instance: InstanceId::from_uuid(Uuid::from_u128(u128::from(number))),
        marker: false,
    }
}

/// A name and one label.
pub fn details(n: u64) -> Arc<Details> {
    Arc::new(Details {
        name: "transfer".into(),
        labels: [("order".into(), n.to_string().into())].into(),
        ..Details::default()
    })
}

/// Begin.
pub fn begin(n: u64) -> Event {
    Event::BeginRequested { id: id(n), details: details(n), timeout: TIMEOUT, request: RequestId(n) }
}

/// Enlistment of one branch.
pub fn enlist(n: u64, number: u64) -> Event {
    let (id, branch) = (id(n), branch(number));
    Event::EnlistRequested { id, branch, time_left: TIMEOUT, request: RequestId(n) }
}

/// Commit of both branches.
pub fn commit(n: u64) -> Event {
    Event::CommitRequested {
        id: id(n),
        branches: BRANCHES.map(branch).into_iter().collect::<BTreeSet<_>>(),
        details: details(n),
        timeout: TIMEOUT,
        wait: Wait::Finished,
        request: RequestId(n),
    }
}

/// The same as a one-shot transaction.
pub fn submit(n: u64) -> Event {
    let submitted = |number| SubmittedBranch {
        branch: branch(number),
        operation: Operation { name: "add".into(), payload: Arc::new([7; 32]) },
    };
    let details = Details { digest: Some([7; 16]), ..Arc::unwrap_or_clone(details(n)) };
    Event::SubmitRequested {
        id: id(n),
        branches: BRANCHES.map(submitted).into(),
        details: Arc::new(details),
        timeout: TIMEOUT,
        wait: Wait::Finished,
        request: RequestId(n),
    }
}

/// A commit vote, with evidence as PostgreSQL's.
pub fn vote(n: u64, number: u64) -> Event {
    let evidence = Evidence::new("4711", "7312345678901234567/1/16B3748");
    Event::VoteReceived { id: id(n), branch: branch(number), vote: Vote::Commit(evidence) }
}

/// A vote to abort.
pub fn refuse(n: u64, number: u64) -> Event {
    let reason = AbortReason::new(AbortKind::VotedNo, "the account is overdrawn");
    Event::VoteReceived { id: id(n), branch: branch(number), vote: Vote::Abort(reason) }
}

/// The log has the commit record.
pub fn won(n: u64) -> Event {
    Event::ProposalAnswered { id: id(n), proposed: Decision::Commit, result: ProposalResult::Won }
}

/// A branch has ended as decided.
pub fn finished(n: u64, number: u64, outcome: BranchOutcome) -> Event {
    Event::BranchFinished { id: id(n), branch: branch(number), outcome }
}

/// Both votes, the log's answer, and both ends.
pub fn after_prepare(n: u64) -> [Event; 5] {
    let committed = |number| finished(n, number, BranchOutcome::Committed);
    [vote(n, 1), vote(n, 2), won(n), committed(1), committed(2)]
}

/// Tells the core a fact and takes out every order; answers how many there were.
pub fn tell(core: &mut Coordinator, event: Event) -> usize {
    core.handle_event(event, NOW).unwrap();
    orders(core)
}

/// Takes out every order; answers how many there were.
pub fn orders(core: &mut Coordinator) -> usize {
    std::iter::from_fn(|| core.poll_command()).count()
}

/// Begins a transaction and enlists its branches: it stays open.
pub fn open(core: &mut Coordinator, n: u64) {
    tell(core, begin(n));
    for number in BRANCHES {
        tell(core, enlist(n, number));
    }
}
