//! The coordinator's role: what one coordinator owes all transactions of its share of gids.
//!
//! Facts go in by [`Coordinator::handle_event`], time by [`Coordinator::handle_timeout`]; orders
//! come out by [`Coordinator::poll_command`]. This file holds the table of open transactions, the
//! memory of ended ones (a gid starts once, law 10), and the questions about transactions that
//! are not ours. One transaction's own course stands in `transaction.rs`.
//!
//! ```text
//!  applications ─▶ CommitRequested ──▶┌───────────┐──▶ SendPrepare, SendCommit ─▶ participants
//!  participants ─▶ VoteReceived ─────▶│Coordinator│
//!  the log ──────▶ ProposalAnswered ─▶│           │──▶ Propose, LookUp ─▶ the log
//!  operators ────▶ ResolveRequested ─▶└───────────┘──▶ Reply
//! ```
//!
//! It opens no socket, reads no clock, draws no random number, and awaits nothing.

mod command;
mod config;
mod event;
mod memory;
#[cfg(pactum_mutants)]
mod probe;
mod questions;
mod requests;
#[cfg(test)]
mod tests;
mod transaction;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use command::{
    Answer, BranchView, Command, InquiryAnswer, Phase, Refusal, TransactionOutcome, TransactionView,
};
pub use config::{Config, Mutant};
pub use event::{Event, Operation, RegisterAnswer, RequestId, SubmittedBranch, Wait};

use crate::id::{Branch, Gid, Incarnation, ResourceName, TransactionId};
use crate::outcome::{BranchOutcome, Decision, DecisionRecord, Details};
use crate::time::Timestamp;
use crate::vote::Vote;
use memory::{Ended, Ending, Memory};
use questions::Questions;
use transaction::{Step, Transaction, against};

/// An event that cannot be in the state it meets: a broken contract of the shell or the wire.
/// Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} of {id} is illegal in state {state}")]
pub struct IllegalEvent {
    /// The transaction.
    pub id: TransactionId,
    /// The event's name.
    pub event: &'static str,
    /// The state's name.
    pub state: &'static str,
}

/// The coordinator's role for its share of the gids.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Coordinator {
    config: Config,
    /// Ours, while it is live.
    incarnation: Option<Incarnation>,
    /// All that the log shows as live; any other counts as ended.
    live: BTreeSet<Incarnation>,
    /// The log's floor: nothing at or under it is written or answered (law 7).
    floor: Gid,
    log_available: bool,
    /// Each apart from its name: a node of the tree is half empty when gids come in their order.
    open: BTreeMap<Gid, Box<Transaction>>,
    /// When each open transaction next has something to do by itself.
    wakes: BTreeSet<(Timestamp, Gid)>,
    memory: Memory,
    /// Questions that wait for a look-up in the log.
    questions: Questions,
    commands: VecDeque<Command>,
    /// Shared by all of which nothing was said yet.
    nothing_said: Arc<Details>,
}

impl Coordinator {
    /// A core that owns nothing yet. Without an incarnation it starts nothing until
    /// [`Event::IncarnationStarted`].
    pub fn new(config: Config, incarnation: Option<Incarnation>, floor: Gid) -> Self {
        Self {
            memory: Memory::new(config.remembered_max),
            config,
            incarnation,
            live: incarnation.into_iter().collect(),
            floor,
            log_available: true,
            open: BTreeMap::new(),
            wakes: BTreeSet::new(),
            questions: Questions::default(),
            commands: VecDeque::new(),
            nothing_said: Arc::default(),
        }
    }

    /// Takes in one fact.
    ///
    /// # Errors
    /// [`IllegalEvent`]; the state is as before.
    pub fn handle_event(&mut self, event: Event, now: Timestamp) -> Result<(), IllegalEvent> {
        match event {
            Event::BeginRequested { id, details, timeout, request } => {
                let answer = self.begin(id, details, timeout, now);
                self.reply(request, answer);
            }
            Event::EnlistRequested { id, branch, time_left, request } => {
                let answer = self.enlist(id, branch, time_left, now);
                self.reply(request, answer.map_or_else(Answer::Refused, |()| Answer::Enlisted));
            }
            Event::CommitRequested { id, branches, details, timeout, wait, request } => {
                self.commit(id, branches, details, timeout, wait, request, now);
            }
            Event::SubmitRequested { id, branches, details, timeout, wait, request } => {
                self.submit(id, branches, details, timeout, wait, request, now);
            }
            Event::AbortRequested { id, branches, reason, request } => {
                self.abort(id, branches, reason, request, now);
            }
            Event::OutcomeRequested { id, branches, request } => {
                self.query(id, branches, request, now);
            }
            Event::ResolveRequested { id, branches, reason, request } => {
                self.resolve(id, branches, reason, request, now);
            }
            Event::RetryRequested { gid } => {
                self.with(gid, now, Transaction::retry);
            }
            Event::VoteReceived { id, branch, vote } => return self.vote(id, branch, vote, now),
            Event::RegisterAnswered { id, branch, answer } => {
                return self
                    .with_same(id, now, |transaction, step| {
                        transaction.register_answered(&branch, answer, step)
                    })
                    .unwrap_or(Ok(()));
            }
            Event::BranchFinished { id, branch, outcome } => return self.finished(id, &branch, outcome, now),
            Event::BranchFailed { id, branch, error } => {
                self.with_same(id, now, |transaction, _| {
                    transaction.branch_failed(&branch, error);
                });
            }
            Event::PrepareNotSent { id, branch } => {
                self.with_same(id, now, |transaction, _| {
                    transaction.prepare_not_sent(branch);
                });
            }
            Event::InquiryReceived { id, branch, evidence, request } => {
                self.inquire(id, &branch, evidence, request, now);
            }
            Event::ProposalAnswered { id, proposed, result } => {
                return self
                    .with_same(id, now, |transaction, step| {
                        transaction.proposal_answered(proposed, result, step)
                    })
                    .unwrap_or(Err(IllegalEvent { id, event: "answer to a proposal", state: "not open" }));
            }
            Event::LookedUp { id, request, result, heuristics } => {
                return self.looked_up(id, request, result, &heuristics);
            }
            Event::CommitRecovered { record } => self.recover(&record, now),
            Event::InstanceAttached { resource, instance } => {
                self.with_each(now, |transaction, step| {
                    transaction.instance_attached(&resource, instance, step);
                });
            }
            Event::InstanceLost { resource, instance } => {
                self.with_each(now, |transaction, step| {
                    transaction.instance_lost(&resource, instance, step);
                });
            }
            Event::LogAvailabilityChanged { available } => {
                self.log_available = available;
                if available {
                    self.with_each(now, Transaction::log_available);
                }
            }
            Event::LiveIncarnationsRead { live } => {
                self.live = live;
                self.live.extend(self.incarnation);
            }
            Event::IncarnationEnded => self.incarnation_ended(now),
            Event::IncarnationStarted { incarnation } => {
                self.incarnation = Some(incarnation);
                self.live.insert(incarnation);
            }
            Event::FloorRaised { floor } => self.floor = self.floor.max(floor),
        }
        Ok(())
    }

    /// Acts on every deadline that is due. The caller's promise that `now` never goes back is no
    /// condition of safety.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let due: Vec<Gid> = self.due(now).collect();
        for gid in due {
            self.with(gid, now, Transaction::handle_timeout);
        }
    }

    /// The next order, until there is none.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// All transactions that are not finished, in gid order.
    pub fn transactions(&self, now: Timestamp) -> impl DoubleEndedIterator<Item = TransactionView> + '_ {
        self.open.values().map(move |transaction| transaction.view(now))
    }

    /// One transaction, if it is not finished.
    pub fn transaction(&self, gid: Gid, now: Timestamp) -> Option<TransactionView> {
        self.open.get(&gid).map(|transaction| transaction.view(now))
    }

    /// The gids below `before`, or all, of transactions that are not finished, each with its phase, in
    /// gid order: for whoever looks for a few among many without a view of each.
    pub fn phases_below(&self, before: Option<Gid>) -> impl DoubleEndedIterator<Item = (Gid, Phase)> + '_ {
        let range = match before {
            Some(before) => self.open.range(..before),
            None => self.open.range(..),
        };
        range.map(|(gid, transaction)| (*gid, transaction.phase()))
    }

    /// The resource of every branch that has not ended, branch by branch.
    pub fn unfinished_resources(&self) -> impl Iterator<Item = &ResourceName> {
        self.open.values().flat_map(|transaction| transaction.unfinished_resources())
    }

    /// How often the present phase of an open transaction was attempted so far; 0 if it is not open.
    pub fn attempts(&self, gid: Gid) -> u32 {
        self.open.get(&gid).map_or(0, |transaction| transaction.attempts())
    }

    /// Whether a transaction of this gid is open, or has ended and is remembered: then a request for
    /// it starts nothing.
    pub fn knows(&self, gid: Gid) -> bool {
        self.open.contains_key(&gid) || self.memory.get(gid).is_some()
    }

    /// Whether a transaction of this gid is not finished.
    pub fn is_open(&self, gid: Gid) -> bool {
        self.open.contains_key(&gid)
    }

    /// Who will act by a deadline when [`handle_timeout`](Self::handle_timeout) is called now.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = Gid> + '_ {
        self.wakes.iter().take_while(move |(at, _)| *at <= now).map(|(_, gid)| *gid)
    }

    /// How a transaction has ended, as long as that is remembered.
    pub fn ending(&self, gid: Gid) -> Option<TransactionOutcome> {
        self.memory.get(gid).map(|ended| ended.ending.outcome())
    }

    /// How many transactions are not finished.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether every transaction is finished.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Gids up to this are not started any more (law 10): what an application must draw above.
    pub fn start_floor(&self) -> Gid {
        self.memory.start_floor().max(self.floor)
    }

    fn vote(
        &mut self,
        id: TransactionId,
        branch: Branch,
        vote: Vote,
        now: Timestamp,
    ) -> Result<(), IllegalEvent> {
        let mut given = Some(vote);
        let told = self.with(id.gid, now, |transaction, step| {
            if transaction.id() != id {
                return Err(IllegalEvent { id, event: "vote", state: "of another incarnation" });
            }
            given.take().map_or(Ok(()), |vote| transaction.vote(&branch, vote, step))
        });
        // A no, or a read-only vote, of a transaction that is over: nothing is owed.
        if told.is_none()
            && let Some(vote @ Vote::Commit(_)) = given
        {
            self.late_vote(id, branch, vote, now);
        }
        told.unwrap_or(Ok(()))
    }

    /// A branch has ended. If its transaction is not open any more, an end against the decision is kept
    /// all the same: presumed abort lets go of an abort that not everybody has acknowledged (D8).
    fn finished(
        &mut self,
        id: TransactionId,
        branch: &Branch,
        outcome: BranchOutcome,
        now: Timestamp,
    ) -> Result<(), IllegalEvent> {
        let told = self.with_same(id, now, |transaction, step| {
            transaction.branch_finished(branch, outcome.clone(), step)
        });
        if let Some(told) = told {
            return told;
        }
        let ended = self.memory.get(id.gid).filter(|ended| ended.id == id).map(|ended| &ended.ending);
        let outcome = match ended {
            // It ended only when each of its branches had: what comes now is late or repeated.
            Some(Ending::Committed { .. }) => return Ok(()),
            Some(Ending::Aborted { .. }) => against(Decision::Abort, outcome),
            // Nobody here knows better than the branch, which was told a decision.
            Some(Ending::Forgotten) | None => outcome,
        };
        if let BranchOutcome::Heuristic(outcome) = outcome {
            self.commands.push_back(Command::RecordHeuristic { id, branch: branch.clone(), outcome });
        }
        Ok(())
    }

    fn recover(&mut self, record: &DecisionRecord, now: Timestamp) {
        let gid = record.id.gid;
        if self.open.contains_key(&gid) {
            // A proposal of ours for the same gid is under way, and will be answered with this
            // record; or it is being driven already.
            return;
        }
        if matches!(self.memory.get(gid), Some(Ended { ending: Ending::Committed { .. }, .. })) {
            self.commands.push_back(Command::RecordFinished { id: record.id });
            return;
        }
        self.start(now, |step| Transaction::recovered(record, step));
    }

    fn incarnation_ended(&mut self, now: Timestamp) {
        let Some(ended) = self.incarnation.take() else {
            return;
        };
        self.live.remove(&ended);
        self.with_each(now, |transaction, step| {
            if transaction.id().incarnation == ended {
                transaction.owner_ended(step);
            }
        });
    }

    // ---- the table -----------------------------------------------------------------------------

    fn reply(&mut self, request: RequestId, answer: Answer) {
        self.commands.push_back(Command::Reply { request, answer });
    }

    /// Puts a transaction into the table, and has it take its first steps.
    fn start(&mut self, now: Timestamp, make: impl FnOnce(&mut Step<'_>) -> Transaction) -> Gid {
        let mut step = Step { commands: &mut self.commands, config: &self.config, now };
        let mut transaction = Box::new(make(&mut step));
        let gid = transaction.id().gid;
        note_wake(&mut self.wakes, &self.config, &mut transaction);
        if transaction.is_over() {
            self.remember(*transaction);
        } else {
            self.open.insert(gid, transaction);
        }
        gid
    }

    /// Has an open transaction take one step, and notes what follows from it.
    fn with<R>(
        &mut self,
        gid: Gid,
        now: Timestamp,
        act: impl FnOnce(&mut Transaction, &mut Step<'_>) -> R,
    ) -> Option<R> {
        let transaction = self.open.get_mut(&gid)?;
        let mut step = Step { commands: &mut self.commands, config: &self.config, now };
        let result = act(transaction, &mut step);
        note_wake(&mut self.wakes, &self.config, transaction);
        if transaction.is_over()
            && let Some(over) = self.open.remove(&gid)
        {
            self.remember(*over);
        }
        Some(result)
    }

    /// As [`with`](Self::with), unless another owner's transaction is open under the same gid.
    fn with_same<R>(
        &mut self,
        id: TransactionId,
        now: Timestamp,
        act: impl FnOnce(&mut Transaction, &mut Step<'_>) -> R,
    ) -> Option<R> {
        self.with(id.gid, now, |transaction, step| (transaction.id() == id).then(|| act(transaction, step)))
            .flatten()
    }

    fn with_each(&mut self, now: Timestamp, mut act: impl FnMut(&mut Transaction, &mut Step<'_>)) {
        let gids: Vec<Gid> = self.open.keys().copied().collect();
        for gid in gids {
            self.with(gid, now, &mut act);
        }
    }

    /// Moves a transaction that is over into memory.
    fn remember(&mut self, over: Transaction) {
        if let Some(ended) = over.into_ended()
            && !self.config.plays(Mutant::StartsTwice)
        {
            self.memory.insert(ended, self.incarnation);
        }
    }
}

/// Keeps the wake-ups in step with a transaction that has taken a step.
fn note_wake(wakes: &mut BTreeSet<(Timestamp, Gid)>, config: &Config, transaction: &mut Transaction) {
    let wake = if transaction.is_over() { None } else { transaction.wake(config) };
    if wake != transaction.noted_wake {
        let gid = transaction.id().gid;
        if let Some(at) = std::mem::replace(&mut transaction.noted_wake, wake) {
            wakes.remove(&(at, gid));
        }
        if let Some(at) = wake {
            wakes.insert((at, gid));
        }
    }
}

/// Whether a transaction of exactly these branches has its register in its one branch's own
/// database: if and only if the set names one branch, and that carries the marker flag (H5).
fn is_own_register(branches: &BTreeSet<Branch>) -> bool {
    let mut names = branches.iter();
    matches!((names.next(), names.next()), (Some(only), None) if only.marker)
}
