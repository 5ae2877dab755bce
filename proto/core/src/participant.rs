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
use branch::{HeldBranch, Step};

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
    branches: BTreeMap<BranchKey, HeldBranch>,
    /// Deadlines of open branches.
    deadlines: BTreeSet<(Timestamp, BranchKey)>,
    /// Ended branches, the oldest end first.
    ended: VecDeque<BranchKey>,
    commands: VecDeque<Command>,
}

impl Participant {
    /// A core that holds nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            branches: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ended: VecDeque::new(),
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
                self.branches.entry(key).or_insert_with(|| HeldBranch::unknown(id, branch));
                self.with(key, now, |held, step| {
                    held.enlisted(deadline, step);
                    Ok(())
                })
            }
            Event::EnlistRefused { key } => self.with(key, now, HeldBranch::give_up),
            Event::PrepareReceived { from, id, branch, operation, one_phase, deadline } => {
                let key = BranchKey { id, branch: branch.id };
                self.branches.entry(key).or_insert_with(|| HeldBranch::unknown(id, branch));
                self.with(key, now, |held, step| {
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
                self.branches.entry(key).or_insert_with(|| HeldBranch::unknown(id, branch));
                self.with(key, now, |held, step| {
                    held.commit(Some(from), evidence, step);
                    Ok(())
                })
            }
            Event::AbortReceived { from, id, branch } => {
                let key = BranchKey { id, branch: branch.id };
                self.branches.entry(key).or_insert_with(|| HeldBranch::unknown(id, branch));
                self.with(key, now, |held, step| {
                    held.abort(Some(from), step);
                    Ok(())
                })
            }
            Event::SettleReceived { from, id, branch } => {
                let key = BranchKey { id, branch: branch.id };
                self.branches.entry(key).or_insert_with(|| HeldBranch::unknown(id, branch));
                self.with(key, now, |held, step| {
                    held.settle(from, step);
                    Ok(())
                })
            }
            Event::FoundPrepared { id, branch, evidence } => {
                let key = BranchKey { id, branch: branch.id };
                self.branches.entry(key).or_insert_with(|| HeldBranch::unknown(id, branch));
                self.with(key, now, |held, step| {
                    held.found_prepared(evidence, step);
                    Ok(())
                })
            }
            Event::InquiryAnswered { key, answer } => self.with(key, now, |held, step| {
                held.inquiry_answered(answer, step);
                Ok(())
            }),
            Event::PrepareFinished { key, vote } => {
                self.with(key, now, |held, step| held.prepare_finished(&vote, step))
            }
            Event::RegisterRead { key, answer } => {
                self.with(key, now, |held, step| held.register_read(&answer, step))
            }
            Event::BranchEnded { key, outcome } => {
                self.with(key, now, |held, step| held.hook_ended(&outcome, step))
            }
            Event::HookFailed { key, error } => {
                self.with(key, now, |held, step| held.hook_failed(&error, step))
            }
        }
    }

    /// Acts on every deadline that is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let due: Vec<BranchKey> =
            self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        for key in due {
            let _held = self
                .with(key, now, |held, step| {
                    held.due(step);
                    Ok(())
                })
                .is_ok();
        }
        if self.config.plays(Mutant::AbortsAloneInDoubt) {
            let keys: Vec<BranchKey> = self.branches.keys().copied().collect();
            for key in keys {
                let _aborted = self.with(key, now, |held, step| {
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
        self.branches.len() - self.ended.len()
    }

    /// Whether every branch has ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has a branch take one step, and notes what follows from it.
    fn with(
        &mut self,
        key: BranchKey,
        now: Timestamp,
        act: impl FnOnce(&mut HeldBranch, &mut Step<'_>) -> Result<(), IllegalEvent>,
    ) -> Result<(), IllegalEvent> {
        let Some(held) = self.branches.get_mut(&key) else {
            return Err(IllegalEvent { key, event: "answer", state: "not held" });
        };
        let (was_ended, was_due) = (held.is_ended(), held.deadline());
        let mut step = Step { commands: &mut self.commands, config: &self.config, now };
        let result = act(held, &mut step);
        let (is_ended, is_due) = (held.is_ended(), held.deadline());
        if was_due != is_due
            && let Some(at) = was_due
        {
            self.deadlines.remove(&(at, key));
        }
        if let Some(at) = is_due {
            self.deadlines.insert((at, key));
        }
        if held.is_blank() {
            // A register that could not be read leaves nothing behind here.
            self.branches.remove(&key);
            return result;
        }
        match (was_ended, is_ended) {
            (false, true) => {
                held.ended(now);
                self.ended.push_back(key);
            }
            // Found prepared after all (D5).
            (true, false) => self.ended.retain(|ended| *ended != key),
            (true, true) | (false, false) => {}
        }
        while self.ended.len() > self.config.remembered_max {
            let Some(oldest) = self.ended.pop_front() else { break };
            if let Some(held) = self.branches.remove(&oldest) {
                self.commands.push_back(held.forget());
            }
        }
        result
    }
}
