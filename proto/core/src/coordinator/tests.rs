//! The coordinator's transitions, one claim a test: build a state, feed facts, compare the exact
//! orders. Rows of the failure matrix and numbered laws are cited by id.

mod deciding;
mod doubt;
mod finishing;
mod instances;
mod late;
mod questions;
mod registers;
mod voting;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::id::{BranchId, InstanceId, ResourceName};
use crate::outcome::{BranchOutcome, DecidedBranch, Decision, Details, ProposalResult};
use crate::vote::{AbortKind, AbortReason, Evidence};

const NOW: Timestamp = Timestamp::ORIGIN;
const TIMEOUT: Duration = Duration::from_secs(30);

fn after(seconds: u64) -> Timestamp {
    NOW + Duration::from_secs(seconds)
}

fn incarnation(n: u128) -> Incarnation {
    Incarnation::from_uuid(Uuid::from_u128(n))
}

/// A transaction of the coordinator under test, whose incarnation is number 1.
fn own(n: u128) -> TransactionId {
    TransactionId { incarnation: incarnation(1), gid: Gid::from_uuid(Uuid::from_u128(n)) }
}

/// A transaction of another coordinator, whose incarnation is number 2.
fn foreign(n: u128) -> TransactionId {
    TransactionId { incarnation: incarnation(2), ..own(n) }
}

fn branch(n: u64) -> Branch {
    Branch {
        id: BranchId::new(n),
        resource: ResourceName::new(&format!("bank-{n}")).unwrap(),
        instance: InstanceId::from_uuid(Uuid::from_u128(u128::from(n))),
        marker: false,
    }
}

fn marker_branch(n: u64) -> Branch {
    Branch { marker: true, ..branch(n) }
}

fn set<const N: usize>(branches: [Branch; N]) -> BTreeSet<Branch> {
    branches.into()
}

fn evidence(n: u64) -> Evidence {
    Evidence::new(format!("x{n}"), "")
}

fn reason(kind: AbortKind) -> AbortReason {
    AbortReason::new(kind, "because")
}

fn record(id: TransactionId, branches: &[Branch]) -> DecisionRecord {
    DecisionRecord {
        id,
        decision: Decision::Commit,
        reason: None,
        branches: branches
            .iter()
            .map(|branch| DecidedBranch { branch: branch.clone(), evidence: evidence(branch.id.number()) })
            .collect(),
        details: Arc::default(),
    }
}

fn committed(unfinished: Vec<Branch>) -> Answer {
    Answer::Outcome(TransactionOutcome::Committed { read_only: false, unfinished, heuristic: None })
}

fn reply(request: u64, answer: Answer) -> Command {
    Command::Reply { request: RequestId(request), answer }
}

/// The kind of an aborted outcome; panics at anything else.
fn abort_kind(command: &Command) -> AbortKind {
    if let Command::Reply { answer: Answer::Outcome(TransactionOutcome::Aborted { reason, .. }), .. } =
        command
    {
        return reason.kind;
    }
    panic!("not an aborted outcome: {command:?}");
}

/// A core under test.
struct Core(Coordinator);

impl Core {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        Self(Coordinator::new(config, Some(incarnation(1)), Gid::NIL))
    }

    fn drain(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.0.poll_command()).collect()
    }

    /// Feeds one fact that must be legal, and returns the orders.
    fn feed(&mut self, event: Event) -> Vec<Command> {
        self.feed_at(event, NOW)
    }

    fn feed_at(&mut self, event: Event, now: Timestamp) -> Vec<Command> {
        self.0.handle_event(event, now).expect("the event is legal");
        self.drain()
    }

    fn timeout(&mut self, now: Timestamp) -> Vec<Command> {
        self.0.handle_timeout(now);
        self.drain()
    }

    fn enlist(&mut self, id: TransactionId, branch: &Branch) -> Vec<Command> {
        self.feed(Event::EnlistRequested {
            id,
            branch: branch.clone(),
            time_left: TIMEOUT,
            request: RequestId(900),
        })
    }

    fn commit(&mut self, id: TransactionId, branches: BTreeSet<Branch>, request: u64) -> Vec<Command> {
        self.feed(Event::CommitRequested {
            id,
            branches,
            details: Arc::default(),
            timeout: TIMEOUT,
            wait: Wait::Finished,
            request: RequestId(request),
        })
    }

    fn vote(&mut self, id: TransactionId, branch: &Branch, vote: Vote) -> Vec<Command> {
        self.feed(Event::VoteReceived { id, branch: branch.clone(), vote })
    }

    fn yes(&mut self, id: TransactionId, branch: &Branch) -> Vec<Command> {
        self.vote(id, branch, Vote::Commit(evidence(branch.id.number())))
    }

    fn proposal(&mut self, id: TransactionId, proposed: Decision, result: ProposalResult) -> Vec<Command> {
        self.feed(Event::ProposalAnswered { id, proposed, result })
    }

    fn finished(&mut self, id: TransactionId, branch: &Branch) -> Vec<Command> {
        self.feed(Event::BranchFinished { id, branch: branch.clone(), outcome: BranchOutcome::Committed })
    }

    /// Two branches, both voted commit, the record handed to the log; request 1 waits.
    fn proposed(id: TransactionId) -> Self {
        let mut core = Self::new();
        core.commit(id, set([branch(1), branch(2)]), 1);
        core.yes(id, &branch(1));
        assert_eq!(
            core.yes(id, &branch(2)),
            [Command::Propose { record: record(id, &[branch(1), branch(2)]) }]
        );
        core
    }

    /// As `proposed`, with the record won; request 1 waits for the branches.
    fn decided(id: TransactionId) -> Self {
        let mut core = Self::proposed(id);
        core.proposal(id, Decision::Commit, ProposalResult::Won);
        core
    }
}

fn send_prepare(id: TransactionId, branch: &Branch, one_phase: bool) -> Command {
    Command::SendPrepare {
        id,
        branch: branch.clone(),
        operation: None,
        one_phase,
        time_left: TIMEOUT,
        details: Arc::default(),
    }
}

fn send_commit(id: TransactionId, branch: &Branch) -> Command {
    Command::SendCommit { id, branch: branch.clone(), evidence: evidence(branch.id.number()) }
}

fn send_abort(id: TransactionId, branch: &Branch) -> Command {
    Command::SendAbort { id, branch: branch.clone() }
}
