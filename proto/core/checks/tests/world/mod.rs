//! A whole cluster in one value: the real cores of both roles, around them a model of the log, of
//! the participants' databases, and of a network that loses, repeats, delays and reorders.
//!
//! `exhaustive.rs` walks every interleaving of small worlds; `simulation.rs` walks long random
//! paths through larger ones. Both take the same steps, and after each one the same invariants
//! (`invariants.rs`) are asked.
//!
//! What the model allows, beyond what the cores order:
//! * a message may be delivered never, late, repeatedly, and in any order, while the stream that
//!   carries it lives; with a crash its stream and all that is in it is gone;
//! * a log write may be applied and answered, applied with its answer lost, or refused an answer
//!   and applied later or never, also after its coordinator died;
//! * a database statement may land after the process that sent it died (D1);
//! * what is rarer stands in `misfortune.rs`: an instance that is lost, a branch ended by hand or back
//!   after its end, a floor that is raised, and a log that goes back in time.

#![allow(clippy::unwrap_used, reason = "a broken model shall stop the checker")]
#![allow(dead_code, unreachable_pub, reason = "each checker uses its part of the world")]

pub mod invariants;
pub mod log;
pub mod misfortune;
pub mod participants;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pactum_core_checked::coordinator::{
    self, Answer, Coordinator, InquiryAnswer, RegisterAnswer, RequestId, TransactionOutcome, Wait,
};
use pactum_core_checked::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core_checked::outcome::{BranchOutcome, Decision, ProposalResult};
use pactum_core_checked::participant::{self, BranchKey};
use pactum_core_checked::time::Timestamp;
use pactum_core_checked::vote::{AbortKind, AbortReason, Evidence, Vote};
use uuid::Uuid;

pub use log::{Log, LogMutant, Write};
pub use participants::{DatabaseMutant, Held, ParticipantNode};

/// How long a transaction has, in the model.
pub const TIMEOUT: Duration = Duration::from_secs(10);

pub fn incarnation(n: usize) -> Incarnation {
    Incarnation::from_uuid(Uuid::from_u128(1000 + n as u128))
}

pub fn gid(n: usize) -> Gid {
    Gid::from_uuid(Uuid::from_u128(1 + n as u128))
}

/// What travels between processes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Message {
    /// To participant `to`, from the coordinator run `from`.
    ToParticipant { to: usize, from: usize, body: ToParticipant },
    /// To the coordinator run `to`.
    ToCoordinator { to: usize, from: usize, body: ToCoordinator },
    /// From the application, to the coordinator with this place in the list.
    Commit { to: usize, transaction: usize },
}

/// What a coordinator sends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ToParticipant {
    Prepare { id: TransactionId, branch: Branch, execute: bool, one_phase: bool },
    Commit { id: TransactionId, branch: Branch, evidence: Evidence },
    Abort { id: TransactionId, branch: Branch },
    Settle { id: TransactionId, branch: Branch },
    InquiryAnswer { key: BranchKey, commit: Option<Evidence>, abort: bool, quarantine: bool },
}

/// What a participant sends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ToCoordinator {
    Yes { id: TransactionId, branch: Branch, evidence: Evidence },
    ReadOnly { id: TransactionId, branch: Branch },
    No { id: TransactionId, branch: Branch },
    Finished { key: BranchKey, outcome: Ended },
    Failed { key: BranchKey },
    Register { key: BranchKey, committed: Option<bool> },
    Inquiry { id: TransactionId, branch: Branch, evidence: Evidence },
}

/// A branch outcome with an order, so that messages can stand in a set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ended {
    Committed,
    Aborted,
    Heuristic(pactum_core_checked::outcome::HeuristicOutcome),
}

impl From<BranchOutcome> for Ended {
    fn from(outcome: BranchOutcome) -> Self {
        match outcome {
            BranchOutcome::Committed => Self::Committed,
            BranchOutcome::Aborted => Self::Aborted,
            BranchOutcome::Heuristic(heuristic) => Self::Heuristic(heuristic),
        }
    }
}

impl From<Ended> for BranchOutcome {
    fn from(outcome: Ended) -> Self {
        match outcome {
            Ended::Committed => Self::Committed,
            Ended::Aborted => Self::Aborted,
            Ended::Heuristic(heuristic) => Self::Heuristic(heuristic),
        }
    }
}

/// One coordinator's place: the run that is in it, if it is up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CoordinatorNode {
    pub core: Option<Coordinator>,
    /// Which run is, or was last, in this place: the number of its incarnation.
    pub run: usize,
    /// Stopped by a signal: takes no step and hears nothing, but its writes go on.
    pub paused: bool,
}

/// What an application was told of one transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Told {
    Committed,
    /// Committed with nothing written: a later answer may be aborted, and no data differ (H9).
    ReadOnly,
    Aborted,
}

/// One transaction of the workload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Transaction {
    pub id: TransactionId,
    pub branches: BTreeSet<Branch>,
    pub told: BTreeSet<Told>,
}

/// What a world is made of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scope {
    pub coordinators: usize,
    pub participants: usize,
    /// For each transaction the participants of its branches.
    pub transactions: Vec<Vec<usize>>,
    /// Whether the resources keep marker tables.
    pub marker: bool,
    /// Whether transactions are submitted: executed at Prepare.
    pub one_shot: bool,
    /// For each participant the one whose resource it speaks for too: a second instance. Those that
    /// are not listed have a resource of their own.
    pub homes: Vec<usize>,
    /// Whether the log may go back in time: then it is noted what that may lose.
    pub goes_back: bool,
    /// A fault of the log's model.
    pub log_mutant: Option<LogMutant>,
    /// A fault of the databases' model.
    pub database_mutant: Option<DatabaseMutant>,
    pub coordinator: coordinator::Config,
    pub participant: participant::Config,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            coordinators: 1,
            participants: 2,
            transactions: vec![vec![0, 1]],
            marker: false,
            one_shot: false,
            homes: Vec::new(),
            goes_back: false,
            log_mutant: None,
            database_mutant: None,
            coordinator: coordinator::Config::default(),
            participant: participant::Config::default(),
        }
    }
}

impl Scope {
    /// The participant whose resource and database this one works with.
    pub fn home(&self, place: usize) -> usize {
        self.homes.get(place).copied().unwrap_or(place)
    }
}

/// The scope, which no step changes: it takes no part in comparing or hashing states.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Scope>);

impl std::ops::Deref for Shared {
    type Target = Scope;

    fn deref(&self) -> &Scope {
        &self.0
    }
}

impl PartialEq for Shared {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Shared {}

impl std::hash::Hash for Shared {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// Everything, in one value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub scope: Shared,
    pub coordinators: Vec<CoordinatorNode>,
    pub runs: usize,
    pub log: Log,
    pub participants: Vec<ParticipantNode>,
    pub network: BTreeMap<Message, u8>,
    pub transactions: Vec<Transaction>,
    /// What must never happen, in words, once it has.
    pub broken: Option<String>,
    /// Requests not answered yet, and which transaction they are about. Inquiries: which branch.
    asked: BTreeMap<(usize, RequestId), Asked>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Asked {
    Commit { transaction: usize },
    Inquiry { participant: usize, key: BranchKey },
}

impl World {
    /// All processes up; every transaction's local work is done and enlisted at its participants;
    /// every application is about to ask its owner to commit.
    pub fn new(scope: Scope) -> Self {
        let scope = Shared(Arc::new(scope));
        let mut world = Self {
            coordinators: Vec::new(),
            runs: 0,
            log: Log::new(&scope),
            participants: Vec::new(),
            network: BTreeMap::new(),
            transactions: Vec::new(),
            broken: None,
            asked: BTreeMap::new(),
            scope: scope.clone(),
        };
        for _ in 0..scope.coordinators {
            world.coordinators.push(CoordinatorNode { core: None, run: 0, paused: false });
        }
        for place in 0..scope.coordinators {
            world.start_coordinator(place, Timestamp::ORIGIN);
        }
        for place in 0..scope.participants {
            world.participants.push(ParticipantNode::new(place, &scope));
        }
        world
    }

    /// Begins the next transaction of the scope at the owner in that place, does its local work,
    /// and has its application ask to commit.
    pub fn begin(&mut self, owner: usize, now: Timestamp) {
        let number = self.transactions.len();
        let run = self.coordinators[owner].run;
        let id = TransactionId { incarnation: incarnation(run), gid: gid(number) };
        let mut branches = BTreeSet::new();
        for place in self.scope.transactions[number % self.scope.transactions.len()].clone() {
            let branch = self.participants[place].branch(number, self.scope.marker);
            if self.scope.one_shot {
                branches.insert(branch);
                continue;
            }
            self.participants[place].database.begin(BranchKey { id, branch: branch.id });
            let deadline = now + TIMEOUT;
            let enlisted = participant::Event::Enlisted { branch: branch.clone(), id, deadline };
            self.tell_participant(place, enlisted, now);
            branches.insert(branch);
        }
        self.transactions.push(Transaction { id, branches, told: BTreeSet::new() });
        self.send(Message::Commit { to: owner, transaction: number });
    }

    pub fn send(&mut self, message: Message) {
        let count = self.network.entry(message).or_default();
        // Two copies under way behave as any number of them.
        *count = (*count + 1).min(2);
    }

    /// The owner's place, while the run that owns the transaction is the one in it.
    pub fn owner(&self, transaction: usize) -> Option<usize> {
        let incarnation_of = self.transactions[transaction].id.incarnation;
        self.coordinators
            .iter()
            .position(|node| node.core.is_some() && incarnation(node.run) == incarnation_of)
    }

    // ---- the network --------------------------------------------------------------------------

    /// Delivers one copy of a message; `keep` leaves another one under way.
    pub fn deliver(&mut self, message: &Message, keep: bool, now: Timestamp) {
        if !keep {
            self.lose(message);
        }
        match message.clone() {
            Message::ToParticipant { to, from, body } => self.deliver_to_participant(to, from, body, now),
            Message::ToCoordinator { to, from, body } => self.deliver_to_coordinator(to, from, body, now),
            Message::Commit { to, transaction } => {
                let request = self.ask(to, Asked::Commit { transaction });
                let event = self.request(transaction, request);
                self.tell_coordinator(to, event, now);
            }
        }
    }

    /// What the application asks for.
    fn request(&self, transaction: usize, request: RequestId) -> coordinator::Event {
        let Transaction { id, branches, .. } = self.transactions[transaction].clone();
        let (details, timeout, wait) = (Arc::default(), TIMEOUT, Wait::Decision);
        if self.scope.one_shot {
            let submitted =
                |branch| coordinator::SubmittedBranch { branch, operation: participants::operation() };
            let branches = branches.into_iter().map(submitted).collect();
            return coordinator::Event::SubmitRequested { id, branches, details, timeout, wait, request };
        }
        coordinator::Event::CommitRequested { id, branches, details, timeout, wait, request }
    }

    /// One copy of a message is lost.
    pub fn lose(&mut self, message: &Message) {
        if let Some(count) = self.network.get_mut(message) {
            *count -= 1;
            if *count == 0 {
                self.network.remove(message);
            }
        }
    }

    fn ask(&mut self, place: usize, asked: Asked) -> RequestId {
        let taken = self.asked.keys().filter(|(at, _)| *at == place);
        let free = taken.zip(0..).take_while(|((_, request), number)| request.0 == *number).count();
        let request = RequestId(free as u64);
        self.asked.insert((place, request), asked);
        request
    }

    fn deliver_to_participant(&mut self, to: usize, from: usize, body: ToParticipant, now: Timestamp) {
        use participant::{Event, SessionId};
        let session = SessionId(from as u64);
        let deadline = now + TIMEOUT;
        let event = match body {
            ToParticipant::Prepare { id, branch, execute, one_phase } => {
                let operation = execute.then(participants::operation);
                Event::PrepareReceived { from: session, id, branch, operation, one_phase, deadline }
            }
            ToParticipant::Commit { id, branch, evidence } => {
                Event::CommitReceived { from: session, id, branch, evidence }
            }
            ToParticipant::Abort { id, branch } => Event::AbortReceived { from: session, id, branch },
            ToParticipant::Settle { id, branch } => Event::SettleReceived { from: session, id, branch },
            ToParticipant::InquiryAnswer { key, commit, abort, quarantine } => {
                let answer = match (commit, abort) {
                    (Some(evidence), _) => InquiryAnswer::Commit(evidence),
                    (None, true) => InquiryAnswer::Abort,
                    (None, false) if quarantine => InquiryAnswer::Quarantine,
                    (None, false) => InquiryAnswer::Wait { owner: key.id.incarnation },
                };
                Event::InquiryAnswered { key, answer }
            }
        };
        self.tell_participant(to, event, now);
    }

    fn deliver_to_coordinator(&mut self, to: usize, from: usize, body: ToCoordinator, now: Timestamp) {
        use coordinator::Event;
        let Some(place) = self.place_of_run(to) else { return };
        let event = match body {
            ToCoordinator::Yes { id, branch, evidence } => {
                Event::VoteReceived { id, branch, vote: Vote::Commit(evidence) }
            }
            ToCoordinator::ReadOnly { id, branch } => {
                Event::VoteReceived { id, branch, vote: Vote::ReadOnly }
            }
            ToCoordinator::No { id, branch } => {
                Event::VoteReceived { id, branch, vote: Vote::Abort(reason(AbortKind::VotedNo)) }
            }
            ToCoordinator::Finished { key, outcome } => {
                Event::BranchFinished { id: key.id, branch: key.branch, outcome: outcome.into() }
            }
            ToCoordinator::Failed { key } => {
                Event::BranchFailed { id: key.id, branch: key.branch, error: "failed".into() }
            }
            ToCoordinator::Register { key, committed } => {
                let answer = match committed {
                    Some(true) => RegisterAnswer::Committed,
                    Some(false) => RegisterAnswer::Aborted(reason(AbortKind::OwnerEnded)),
                    None => RegisterAnswer::Unknown,
                };
                Event::RegisterAnswered { id: key.id, branch: key.branch, answer }
            }
            ToCoordinator::Inquiry { id, branch, evidence } => {
                let key = BranchKey { id, branch: branch.id };
                let request = self.ask(place, Asked::Inquiry { participant: from, key });
                Event::InquiryReceived { id, branch, evidence, request }
            }
        };
        self.tell_coordinator(place, event, now);
    }

    /// Where a run is at work, if it is.
    fn place_of_run(&self, run: usize) -> Option<usize> {
        self.coordinators.iter().position(|node| node.core.is_some() && node.run == run && !node.paused)
    }

    // ---- coordinators -------------------------------------------------------------------------

    /// A new run starts in an empty place: a new incarnation, to which every living one and all
    /// recovered commits are told.
    pub fn start_coordinator(&mut self, place: usize, now: Timestamp) {
        let run = self.runs;
        self.runs += 1;
        self.log.live.insert(incarnation(run));
        let core = Coordinator::new(self.scope.coordinator.clone(), Some(incarnation(run)), self.log.floor);
        self.coordinators[place] = CoordinatorNode { core: Some(core), run, paused: false };
        for other in 0..self.coordinators.len() {
            self.read_live(other, now);
        }
        self.recover(place, now);
    }

    /// The run in this place is gone, with all streams from and to it. What it wrote may still land.
    pub fn crash_coordinator(&mut self, place: usize) {
        let run = self.coordinators[place].run;
        self.coordinators[place].core = None;
        self.coordinators[place].paused = false;
        self.log.orphan(run);
        self.asked.retain(|(at, _), _| *at != place);
        self.network.retain(|message, _| match message {
            Message::ToParticipant { from, .. } => *from != run,
            Message::ToCoordinator { to, .. } => *to != run,
            Message::Commit { to, .. } => *to != place,
        });
    }

    /// A living coordinator ends an incarnation that it takes for dead, and recovers its commits.
    pub fn end_incarnation(&mut self, run: usize, by: usize, now: Timestamp) {
        self.log.end(incarnation(run));
        for place in 0..self.coordinators.len() {
            self.read_live(place, now);
        }
        self.recover(by, now);
    }

    /// A coordinator reads which incarnations live; its own may be among the ended (H10).
    pub fn read_live(&mut self, place: usize, now: Timestamp) {
        let node = &self.coordinators[place];
        if node.core.is_none() || node.paused {
            return;
        }
        let ended = !self.log.live.contains(&incarnation(node.run));
        let live = self.log.live.clone();
        self.tell_coordinator(place, coordinator::Event::LiveIncarnationsRead { live }, now);
        if ended {
            self.tell_coordinator(place, coordinator::Event::IncarnationEnded, now);
        }
    }

    /// Reads every commit of ended incarnations that is not finished.
    pub fn recover(&mut self, place: usize, now: Timestamp) {
        let records = self.log.unfinished();
        for record in records {
            self.tell_coordinator(place, coordinator::Event::CommitRecovered { record }, now);
        }
    }

    /// A coordinator's timers fire.
    pub fn coordinator_timeout(&mut self, place: usize, now: Timestamp) {
        if let Some(core) = self.coordinators[place].core.as_mut() {
            core.handle_timeout(now);
            self.drain_coordinator(place, now);
        }
    }

    pub(crate) fn tell_coordinator(&mut self, place: usize, event: coordinator::Event, now: Timestamp) {
        let node = &mut self.coordinators[place];
        let Some(core) = node.core.as_mut() else { return };
        if node.paused {
            return;
        }
        // An illegal event leaves the core as it was; late messages may be illegal.
        let _legal = core.handle_event(event, now).is_ok();
        self.drain_coordinator(place, now);
    }

    fn drain_coordinator(&mut self, place: usize, now: Timestamp) {
        loop {
            let Some(core) = self.coordinators[place].core.as_mut() else { return };
            let Some(command) = core.poll_command() else { return };
            self.carry_out(place, command, now);
        }
    }

    fn carry_out(&mut self, place: usize, command: coordinator::Command, now: Timestamp) {
        use coordinator::Command;
        let run = self.coordinators[place].run;
        match command {
            Command::SendPrepare { id, branch, operation, one_phase, .. } => {
                // To the instance that enlisted and to no other.
                let to =
                    self.participants.iter().position(|node| node.instance() == branch.instance && node.up());
                if let Some(to) = to {
                    let execute = operation.is_some();
                    let body = ToParticipant::Prepare { id, branch, execute, one_phase };
                    self.send(Message::ToParticipant { to, from: run, body });
                } else {
                    let event = coordinator::Event::PrepareNotSent { id, branch: branch.id };
                    self.tell_coordinator(place, event, now);
                }
            }
            Command::SendCommit { id, branch, evidence } => {
                self.send_to_resource(run, &branch.clone(), ToParticipant::Commit { id, branch, evidence });
            }
            Command::SendAbort { id, branch } => {
                self.send_to_resource(run, &branch.clone(), ToParticipant::Abort { id, branch });
            }
            Command::SendSettle { id, branch } => {
                self.send_to_resource(run, &branch.clone(), ToParticipant::Settle { id, branch });
            }
            Command::Propose { record } => self.log.writes.push(Write { run: Some(run), record }),
            Command::LookUp { id, request } => {
                let result = self.log.look_up(id.gid);
                let heuristics = self.log.heuristics_of(id.gid);
                let event = coordinator::Event::LookedUp { id, request, result, heuristics };
                self.tell_coordinator(place, event, now);
            }
            Command::Reply { request, answer } => self.reply(place, request, answer),
            Command::RecordFinished { id } => {
                self.log.finished.insert(id.gid);
            }
            Command::RecordHeuristic { id, branch, outcome } => {
                let key = BranchKey { id, branch: branch.id };
                if !self.participants.iter().any(|node| node.database.by_hand.contains(&key)) {
                    let what = format!("D8: a heuristic outcome without a person: {outcome:?} of {id}");
                    self.break_promise(what);
                }
                self.log.heuristics.insert((id.gid, branch.id), outcome);
            }
            Command::ReportViolation { id, what } => self.break_promise(format!("{id}: {what}")),
            Command::RecordUndecided { .. } | Command::ForgetUndecided { .. } => {}
        }
    }

    fn send_to_resource(&mut self, run: usize, branch: &Branch, body: ToParticipant) {
        // Best to the instance that enlisted, else to any of the resource.
        let speaks = |node: &&ParticipantNode| node.up() && node.resource() == &branch.resource;
        let all = || self.participants.iter().filter(speaks);
        let to = all().find(|node| node.instance() == branch.instance).or_else(|| all().next());
        if let Some(to) = to.map(|node| node.place) {
            self.send(Message::ToParticipant { to, from: run, body });
        }
    }

    fn reply(&mut self, place: usize, request: RequestId, answer: Answer) {
        let Some(asked) = self.asked.remove(&(place, request)) else {
            self.break_promise(format!("request {request:?} was answered twice"));
            return;
        };
        let run = self.coordinators[place].run;
        match (asked, answer) {
            (Asked::Commit { transaction }, Answer::Outcome(outcome)) => match outcome {
                TransactionOutcome::Committed { read_only: true, .. } => {
                    self.transactions[transaction].told.insert(Told::ReadOnly);
                }
                TransactionOutcome::Committed { .. } => {
                    self.transactions[transaction].told.insert(Told::Committed);
                }
                TransactionOutcome::Aborted { .. } => {
                    self.transactions[transaction].told.insert(Told::Aborted);
                }
                TransactionOutcome::Pending
                | TransactionOutcome::Unknown
                | TransactionOutcome::NoRecord
                | TransactionOutcome::Forgotten => {}
            },
            (Asked::Inquiry { participant, key }, Answer::Inquiry(answer)) => {
                let quarantine = answer == InquiryAnswer::Quarantine;
                let (commit, abort) = match answer {
                    InquiryAnswer::Commit(evidence) => (Some(evidence), false),
                    InquiryAnswer::Abort => (None, true),
                    InquiryAnswer::Quarantine => (None, false),
                    InquiryAnswer::Wait { .. } => return,
                };
                if self.participants[participant].up() {
                    let body = ToParticipant::InquiryAnswer { key, commit, abort, quarantine };
                    self.send(Message::ToParticipant { to: participant, from: run, body });
                }
            }
            (_, _) => {}
        }
    }

    // ---- the log ------------------------------------------------------------------------------

    /// The log carries out a write. `answered`: its coordinator hears what became of it; else the
    /// answer is lost, and it hears that it is unknown.
    pub fn log_applies(&mut self, index: usize, answered: bool, now: Timestamp) {
        let write = self.log.writes.remove(index);
        let result = self.log.apply(&write.record);
        let commit = write.record.decision == Decision::Commit;
        if commit && result == ProposalResult::Won && !self.log.live.contains(&write.record.id.incarnation) {
            self.break_promise("I3: an incarnation wrote a commit after its end".into());
        }
        self.log.note_answer(&write, if answered { Some(&result) } else { None });
        self.tell_written(&write, if answered { Some(result) } else { None }, now);
    }

    /// The log does not answer; the write may be carried out later, or never.
    pub fn log_silent(&mut self, index: usize, now: Timestamp) {
        let write = self.log.writes[index].clone();
        self.log.note_answer(&write, None);
        self.log.writes[index].run = None;
        self.tell_written(&write, None, now);
    }

    /// A write that nobody waits for is never carried out.
    pub fn log_drops(&mut self, index: usize) {
        self.log.writes.remove(index);
    }

    fn tell_written(&mut self, write: &Write, result: Option<ProposalResult>, now: Timestamp) {
        let Some(run) = write.run else { return };
        let place = self.coordinators.iter().position(|node| node.core.is_some() && node.run == run);
        let Some(place) = place else { return };
        let event = coordinator::Event::ProposalAnswered {
            id: write.record.id,
            proposed: write.record.decision,
            result: result.unwrap_or(ProposalResult::Unknown),
        };
        let paused = std::mem::replace(&mut self.coordinators[place].paused, false);
        self.tell_coordinator(place, event, now);
        self.coordinators[place].paused = paused;
    }

    pub fn break_promise(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Whether a record that stands, or ever stood, for a transaction is a commit.
    pub fn logged_commit(&self, transaction: usize) -> bool {
        self.log.committed.contains(&self.transactions[transaction].id)
    }
}

pub fn reason(kind: AbortKind) -> AbortReason {
    AbortReason::new(kind, "because")
}

pub fn resource(place: usize) -> ResourceName {
    ResourceName::new(&format!("bank-{place}")).unwrap()
}

pub fn instance(place: usize, life: usize) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(1 + (place * 1000 + life) as u128))
}

pub fn branch_id(transaction: usize, place: usize) -> BranchId {
    BranchId::new((transaction * 100 + place) as u64)
}
