//! The participant's role: what one process owes all branches that it holds, found or heard of.
//!
//! Facts go in by [`Participant::handle_event`], time by [`Participant::handle_timeout`]; orders come
//! out by [`Participant::poll_command`]. The hooks of a resource run outside; for each branch at most
//! one at a time is ordered.
//!
//! ```text
//!  Enlisted ─▶ Open ── Prepare ─▶ Preparing ─ yes ─▶ Prepared ── Commit ─▶ Committing ─▶ ended
//!                │                    │ no                │ ▲                    │ fails
//!                │ deadline           ▼                   │ └────────────────────┘
//!                └─────────────────▶ Aborting ◀── Abort ──┘      found by a scan ─▶ Prepared
//! ```
//!
//! What it keeps, beside the laws of the crate:
//! 1. A vote is sent only after the hook has said that what it promises is durable (AC3).
//! 2. A prepared branch never ends by time: only a decision ends it. Time only makes it inquire.
//! 3. What was ended is not undone: the first end stands, and a message that contradicts it is
//!    reported as a violation (E8).
//! 4. A repeated message is answered from memory, or by the hook that runs; no hook runs twice at
//!    once (C7, E2).
//! 5. After Abort a late Prepare votes no (E3): every end leaves a memory.
//! 6. A branch of which there is no memory may be prepared all the same: Commit and Abort of it go
//!    to the resource, which finds out by evidence (law 8, C10).
//! 7. A hook that fails at commit or abort leaves the branch as it was, to be asked for again; what
//!    was decided stays decided, so a commit that failed is never followed by an abort (C8).
//! 8. What a scan read before the branch's end is not taken for a branch that reappeared (D5).

mod branch;
mod config;
mod event;
#[cfg(pactum_mutants)]
mod probe;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use config::{Config, Mutant};
pub use event::{BranchKey, Command, Event, SessionId};

use crate::time::Timestamp;
use branch::{EndedBranch, HeldBranch, Step};

/// An event that cannot be in the state it meets: a broken contract of the shell. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} of branch {key:?} is illegal in state {state}")]
pub struct IllegalEvent {
    /// The branch.
    pub key: BranchKey,
    /// The event's name.
    pub event: &'static str,
    /// The state's name.
    pub state: &'static str,
}

/// The participant's role for all branches of one instance.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Participant {
    config: Config,
    /// Branches that have not ended. Far fewer than those that have, and so found sooner by themselves.
    branches: BTreeMap<BranchKey, Box<HeldBranch>>,
    /// Deadlines of these.
    deadlines: BTreeSet<(Timestamp, BranchKey)>,
    /// Branches that have ended and are remembered.
    ended: BTreeMap<BranchKey, EndedBranch>,
    /// The same, the oldest end first.
    ends: VecDeque<BranchKey>,
    commands: VecDeque<Command>,
}

impl Participant {
    /// A core that holds nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            branches: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ended: BTreeMap::new(),
            ends: VecDeque::new(),
            commands: VecDeque::new(),
        }
    }

    /// Takes in one fact.
    ///
    /// # Errors
    /// [`IllegalEvent`]; the state is as before.
    pub fn handle_event(&mut self, event: Event, now: Timestamp) -> Result<(), IllegalEvent> {
        match event {
            Event::Enlisted { branch, id, deadline } => {
                let key = BranchKey { id, branch: branch.id };
                self.with(key, Some(branch), now, |held, step| {
                    held.enlisted(deadline, step);
                    Ok(())
                })
            }
            Event::EnlistRefused { key } => self.with(key, None, now, HeldBranch::give_up),
            Event::PrepareReceived { from, id, branch, operation, one_phase, deadline } => {
                let key = BranchKey { id, branch: branch.id };
                self.with(key, Some(branch), now, |held, step| {
                    if one_phase {
                        held.commit_one_phase(from, operation, deadline, step);
                    } else {
                        held.prepare(from, operation, deadline, step);
                    }
                    Ok(())
                })
            }
            Event::CommitReceived { from, id, branch, evidence } => {
                let key = BranchKey { id, branch: branch.id };
                self.with(key, Some(branch), now, |held, step| {
                    held.commit(Some(from), evidence, step);
                    Ok(())
                })
            }
            Event::AbortReceived { from, id, branch } => {
                let key = BranchKey { id, branch: branch.id };
                self.with(key, Some(branch), now, |held, step| {
                    held.abort(Some(from), step);
                    Ok(())
                })
            }
            Event::SettleReceived { from, id, branch } => {
                let key = BranchKey { id, branch: branch.id };
                self.with(key, Some(branch), now, |held, step| {
                    held.settle(from, step);
                    Ok(())
                })
            }
            Event::FoundPrepared { id, branch, evidence } => {
                let key = BranchKey { id, branch: branch.id };
                self.with(key, Some(branch), now, |held, step| {
                    held.found_prepared(evidence, step);
                    Ok(())
                })
            }
            Event::InquiryAnswered { key, answer } => self.with(key, None, now, |held, step| {
                held.inquiry_answered(answer, step);
                Ok(())
            }),
            Event::PrepareFinished { key, vote } => {
                self.with(key, None, now, |held, step| held.prepare_finished(&vote, step))
            }
            Event::RegisterRead { key, answer } => {
                self.with(key, None, now, |held, step| held.register_read(&answer, step))
            }
            Event::BranchEnded { key, outcome } => {
                self.with(key, None, now, |held, step| held.hook_ended(&outcome, step))
            }
            Event::HookFailed { key, error } => {
                self.with(key, None, now, |held, step| held.hook_failed(&error, step))
            }
        }
    }

    /// Acts on every deadline that is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let due: Vec<BranchKey> =
            self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        for key in due {
            let _held = self
                .with(key, None, now, |held, step| {
                    held.due(step);
                    Ok(())
                })
                .is_ok();
        }
        if self.config.plays(Mutant::AbortsAloneInDoubt) {
            let keys: BTreeSet<BranchKey> = self.branches.keys().chain(self.ended.keys()).copied().collect();
            for key in keys {
                let _aborted = self.with(key, None, now, |held, step| {
                    held.abort(None, step);
                    Ok(())
                });
            }
        }
    }

    /// The next order, until there is none.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// How many branches have not ended.
    pub fn len(&self) -> usize {
        self.branches.len()
    }

    /// Whether every branch has ended.
    pub fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    /// Has a branch take one step, and notes what follows from it. A branch of which there is no memory is
    /// one by what was `heard`; without that the step is illegal.
    fn with(
        &mut self,
        key: BranchKey,
        heard: Option<crate::id::Branch>,
        now: Timestamp,
        act: impl FnOnce(&mut HeldBranch, &mut Step<'_>) -> Result<(), IllegalEvent>,
    ) -> Result<(), IllegalEvent> {
        let mut step = Step { commands: &mut self.commands, config: &self.config, now };
        if let Some(held) = self.branches.get_mut(&key) {
            let was_due = held.deadline();
            let result = act(held, &mut step);
            let (is_due, stays) = (held.deadline(), !held.is_ended() && !held.is_blank());
            self.set_deadline(key, was_due, is_due);
            if !stays && let Some(held) = self.branches.remove(&key) {
                self.hold(key, held, false, now);
            }
            return result;
        }
        let (mut held, was_ended) = match (self.ended.remove(&key), heard) {
            (Some(ended), _) => (Box::new(ended.recalled(key)), true),
            (None, Some(branch)) => (Box::new(HeldBranch::unknown(key.id, branch)), false),
            (None, None) => return Err(IllegalEvent { key, event: "answer", state: "not held" }),
        };
        let result = act(&mut held, &mut step);
        self.set_deadline(key, None, held.deadline());
        self.hold(key, held, was_ended, now);
        result
    }

    fn set_deadline(&mut self, key: BranchKey, was: Option<Timestamp>, is: Option<Timestamp>) {
        if was != is {
            if let Some(at) = was {
                self.deadlines.remove(&(at, key));
            }
            if let Some(at) = is {
                self.deadlines.insert((at, key));
            }
        }
    }

    /// Keeps a branch after its step, where it belongs now.
    fn hold(&mut self, key: BranchKey, mut held: Box<HeldBranch>, was_ended: bool, now: Timestamp) {
        if held.is_blank() {
            // A register that could not be read leaves nothing behind here.
            return;
        }
        if held.is_ended() && !was_ended {
            held.ended(now);
            self.ends.push_back(key);
        }
        match held.into_ended() {
            Ok(ended) => {
                self.ended.insert(key, ended);
            }
            Err(held) => {
                if was_ended {
                    // Found prepared after all (D5).
                    self.ends.retain(|ended| *ended != key);
                }
                self.branches.insert(key, held);
            }
        }
        while self.ends.len() > self.config.remembered_max {
            let Some(oldest) = self.ends.pop_front() else { break };
            if let Some(ended) = self.ended.remove(&oldest) {
                self.commands.push_back(ended.forget(oldest));
            }
        }
    }
}
