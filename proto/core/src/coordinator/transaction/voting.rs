//! Up to the proposal: collecting branches, checking their set, and counting votes.
//!
//! Until something is proposed the owner may abort freely, without a write (law 4).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::{BranchState, State, Step, Transaction};
use crate::coordinator::command::{Command, Refusal};
use crate::coordinator::event::{RequestId, SubmittedBranch, Wait};
use crate::coordinator::{IllegalEvent, Mutant};
use crate::id::{Branch, BranchId, InstanceId, ResourceName, TransactionId};
use crate::outcome::{BranchOutcome, DecidedBranch, Details};
use crate::vote::{AbortKind, AbortReason, Vote};

impl Transaction {
    /// A transaction that its application has begun, or that a first branch joins.
    pub(in crate::coordinator) fn begin(
        id: TransactionId,
        details: Arc<Details>,
        timeout: Duration,
        step: &Step<'_>,
    ) -> Self {
        let deadline = step.now + timeout.min(step.config.timeout_max);
        Self::new(id, details, deadline, State::Active, step.now)
    }

    /// Adds a branch, once, until commit is asked (E10, E11).
    pub(in crate::coordinator) fn enlist(&mut self, branch: Branch, step: &Step<'_>) -> Result<(), Refusal> {
        if let Some(known) = self.branches.get(branch.id) {
            let ended = matches!(self.state, State::Aborting { .. } | State::Over(_) | State::Dropped);
            return match (ended, known.branch == branch) {
                (true, _) => Err(Refusal::Ended),
                (false, true) => Ok(()),
                (false, false) => Err(Refusal::BranchDiffers),
            };
        }
        match self.state {
            State::Active if self.branches.len() >= step.config.branches_max => Err(Refusal::TooManyBranches),
            State::Active => {
                self.branches.add(BranchState::new(branch, None));
                Ok(())
            }
            State::Aborting { .. } | State::Over(_) | State::Dropped => Err(Refusal::Ended),
            State::Preparing
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing => Err(Refusal::CommitAlreadyAsked),
        }
    }

    /// The application asks to commit exactly these branches (law 9).
    pub(in crate::coordinator) fn commit(
        &mut self,
        named: BTreeSet<Branch>,
        details: Arc<Details>,
        wait: Wait,
        request: RequestId,
        step: &mut Step<'_>,
    ) {
        if self.state != State::Active {
            self.wait_for_outcome(request, wait, step);
            return;
        }
        if *self.details == Details::default() {
            self.details = details;
        }
        let differs = self.set_difference(&named);
        for branch in named {
            self.branches.add(BranchState::new(branch, None));
        }
        self.enter(State::Preparing);
        self.wait_for_outcome(request, wait, step);
        if let Some(message) = differs {
            self.abort(AbortReason::new(AbortKind::BranchSetDiffers, &message), step);
            return;
        }
        self.start_voting(step);
    }

    /// The first way in which the set named at Commit is not the set enlisted: a branch enlisted
    /// but not named (its caller never heard of it), or a name that stands for another branch.
    fn set_difference(&self, named: &BTreeSet<Branch>) -> Option<String> {
        let unnamed = self.branches.iter().find(|state| !named.contains(&state.branch));
        // A set goes by the ids first, so that two of the same id are neighbours.
        let twice = named.iter().zip(named.iter().skip(1)).find(|(one, next)| one.id == next.id);
        match (unnamed, twice) {
            (Some(state), _) => Some(format!(
                "branch {} of {} is enlisted but was not named at commit",
                state.branch.id, state.branch.resource
            )),
            (None, Some((_, branch))) => Some(format!("branch id {} was named for two branches", branch.id)),
            (None, None) => None,
        }
    }

    /// Starts a one-shot transaction: commit is asked from the beginning.
    pub(in crate::coordinator) fn submit(
        &mut self,
        branches: Vec<SubmittedBranch>,
        wait: Wait,
        request: RequestId,
        step: &mut Step<'_>,
    ) {
        for SubmittedBranch { branch, operation } in branches {
            self.branches.add(BranchState::new(branch, Some(operation)));
        }
        self.enter(State::Preparing);
        self.wait_for_outcome(request, wait, step);
        self.start_voting(step);
    }

    fn start_voting(&mut self, step: &mut Step<'_>) {
        if self.deadline <= step.now {
            self.deadline_passed(step);
            return;
        }
        // Which register a transaction has follows from the set named at Commit and from nothing
        // else, so that every coordinator finds the same one (H5).
        let mut names = self.branches.iter();
        if let (Some(only), None) = (names.next(), names.next())
            && only.branch.marker
        {
            self.enter(State::OnePhase { handed_over: 0 });
        }
        self.send_prepares(step);
        self.count_votes(step);
    }

    /// Asks every branch that has not voted. Only its own instance is ever asked (H3).
    pub(super) fn send_prepares(&mut self, step: &mut Step<'_>) {
        let time_left = self.time_left(step.now);
        let one_phase = matches!(self.state, State::OnePhase { .. });
        for state in self.branches.iter().filter(|state| !state.has_voted()) {
            if let State::OnePhase { handed_over } = &mut self.state {
                *handed_over = handed_over.saturating_add(1);
            }
            step.order(Command::SendPrepare {
                id: self.id,
                branch: state.branch.clone(),
                operation: state.operation().cloned(),
                one_phase,
                time_left,
                details: Arc::clone(&self.details),
            });
        }
        self.schedule_retry(step);
    }

    /// The shell certifies that a Prepare was not handed to any session.
    pub(in crate::coordinator) fn prepare_not_sent(&mut self, id: BranchId) {
        let Some(branch) = self.branches.get_mut(id) else {
            return;
        };
        match &mut self.state {
            State::Preparing => {}
            State::OnePhase { handed_over } => *handed_over = handed_over.saturating_sub(1),
            State::Active
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Aborting { .. }
            | State::Over(_)
            | State::Dropped => return,
        }
        branch.not_attached = true;
        branch.last_error = Some("no instance that could prepare it is attached".into());
    }

    /// An instance attached: what waits for it is sent at once.
    pub(in crate::coordinator) fn instance_attached(
        &mut self,
        resource: &ResourceName,
        instance: InstanceId,
        step: &mut Step<'_>,
    ) {
        let concerned = |state: &BranchState| {
            state.branch.resource == *resource && !state.has_voted() && state.outcome.is_none()
        };
        match self.state {
            State::Preparing | State::OnePhase { .. } => {
                let mut any = false;
                for state in self.branches.iter_mut().filter(|state| concerned(state)) {
                    // A one-shot branch that nobody was asked to execute yet goes to the first
                    // instance that comes, and from then on to no other.
                    if state.branch.instance.is_nil() {
                        state.branch.instance = instance;
                    }
                    if state.branch.instance == instance {
                        state.not_attached = false;
                        any = true;
                    }
                }
                if any {
                    self.send_prepares(step);
                }
            }
            State::Settling { .. } if self.branches.iter().any(concerned) => {
                self.send_settle(step);
            }
            State::Committing | State::Aborting { .. } => {
                if self
                    .branches
                    .iter()
                    .any(|state| state.branch.resource == *resource && state.outcome.is_none())
                {
                    self.send_decisions_to(Some(resource), step);
                }
            }
            State::Active
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Over(_)
            | State::Dropped => {}
        }
    }

    /// A vote came.
    pub(in crate::coordinator) fn vote(
        &mut self,
        voter: &Branch,
        vote: Vote,
        step: &mut Step<'_>,
    ) -> Result<(), IllegalEvent> {
        let Some(state) = self.branches.get_mut(voter.id) else {
            return self.vote_of_stranger(voter, &vote, step);
        };
        if state.branch.instance != voter.instance || state.branch.resource != voter.resource {
            return self.vote_of_stranger(voter, &vote, step);
        }
        match self.state {
            State::Preparing => {
                match state.vote() {
                    None => state.votes(vote),
                    Some(known) if *known == vote => return Ok(()),
                    // Read anew, at another place in its database's log.
                    Some(Vote::Commit(known)) if matches!(&vote, Vote::Commit(e) if e.same_execution(known)) =>
                    {
                        return Ok(());
                    }
                    // The first vote is the one that was counted.
                    Some(_) => return Err(self.illegal("another vote")),
                }
                self.count_votes(step);
                Ok(())
            }
            // A one-phase branch answers with what its register holds. A plain no may come from an
            // instance that has no memory of the branch left: only the register is believed (H5).
            State::OnePhase { .. } => match vote {
                Vote::Abort(_) => {
                    self.enter(State::settling_own());
                    self.send_settle(step);
                    Ok(())
                }
                Vote::Commit(_) | Vote::ReadOnly => Err(self.illegal("vote")),
            },
            State::Aborting { .. } => {
                match vote {
                    // It prepared after all, perhaps after the abort passed it by (E3, F2).
                    Vote::Commit(_) => {
                        let (id, branch) = (self.id, state.branch.clone());
                        state.votes(vote);
                        step.order(Command::SendAbort { id, branch });
                    }
                    Vote::ReadOnly | Vote::Abort(_) => {
                        state.outcome = Some(BranchOutcome::Aborted);
                        self.check_finished(step);
                    }
                }
                Ok(())
            }
            State::Active => Err(self.illegal("vote")),
            // Late or repeated: what it is owed comes with the decision.
            State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Over(_)
            | State::Dropped => Ok(()),
        }
    }

    /// A commit vote of a branch that is not part of this execution: it is told to abort as soon
    /// as that is known to be right.
    fn vote_of_stranger(
        &mut self,
        voter: &Branch,
        vote: &Vote,
        step: &mut Step<'_>,
    ) -> Result<(), IllegalEvent> {
        match (&self.state, vote) {
            (State::Aborting { .. }, Vote::Commit(_)) => {
                step.order(Command::SendAbort { id: self.id, branch: voter.clone() });
                Ok(())
            }
            (_, Vote::ReadOnly | Vote::Abort(_)) => Ok(()),
            (_, Vote::Commit(_)) => Err(self.illegal("vote of a branch that is not part of it")),
        }
    }

    /// Proposes, or aborts, once the votes allow it.
    fn count_votes(&mut self, step: &mut Step<'_>) {
        if self.state != State::Preparing {
            return;
        }
        let refused = self.branches.iter().find_map(|state| match state.vote() {
            Some(Vote::Abort(reason)) => Some((state.branch.resource.clone(), reason.clone())),
            Some(Vote::Commit(_) | Vote::ReadOnly) | None => None,
        });
        if let Some((resource, reason)) = refused {
            self.abort(AbortReason::new(reason.kind, &format!("{resource}: {}", reason.message)), step);
            return;
        }
        if self.branches.iter().any(|state| !state.has_voted()) {
            return;
        }
        let branches = self.decided_branches();
        if branches.is_empty() {
            self.end_read_only(step);
            return;
        }
        // Checked before the proposal is handed over, never after (B7).
        if self.deadline <= step.now {
            self.deadline_passed(step);
            return;
        }
        if step.config.plays(Mutant::CommitBeforeRecorded) {
            self.order_commits(&branches, step);
        }
        self.enter(State::Proposing { branches, in_flight: false, maybe_written: false });
        self.propose(step);
    }

    /// Those that voted commit, each with its evidence: what a commit record names.
    fn decided_branches(&self) -> Arc<[DecidedBranch]> {
        let decided: SmallVec<[DecidedBranch; 2]> = self
            .branches
            .iter()
            .filter_map(|state| {
                let evidence = state.evidence()?.clone();
                Some(DecidedBranch { branch: state.branch.clone(), evidence })
            })
            .collect();
        // From a slice, whose length is known, it is made in one allocation.
        decided.iter().cloned().collect()
    }

    /// The application, an operator or a vote aborts. Free while nothing was proposed; later the
    /// register says what happened.
    pub(in crate::coordinator) fn abort_if_undecided(&mut self, reason: AbortReason, step: &mut Step<'_>) {
        match self.state {
            State::Active | State::Preparing | State::OnePhase { handed_over: 0 } => {
                self.abort(reason, step);
            }
            State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Aborting { .. }
            | State::Over(_)
            | State::Dropped => {}
        }
    }

    pub(super) fn deadline_passed(&mut self, step: &mut Step<'_>) {
        match &self.state {
            State::Active | State::Preparing | State::OnePhase { handed_over: 0 } => {
                let reason = self.deadline_reason();
                self.abort(reason, step);
            }
            State::OnePhase { .. } => {
                if step.config.plays(Mutant::FreeAbortAfterOnePhase) {
                    let reason = self.deadline_reason();
                    self.abort(reason, step);
                    return;
                }
                self.enter(State::settling_own());
                self.send_settle(step);
            }
            State::Proposing { .. } if step.config.plays(Mutant::DeadlineAfterProposed) => {
                let reason = self.deadline_reason();
                self.abort(reason, step);
            }
            // Proposed: only the register ends it now (B7).
            State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Aborting { .. }
            | State::Over(_)
            | State::Dropped => {}
        }
    }

    fn deadline_reason(&self) -> AbortReason {
        if self.state == State::Active {
            return AbortReason::new(AbortKind::Deadline, "commit was not asked before the deadline");
        }
        if self.branches.iter().all(BranchState::has_voted) {
            return AbortReason::new(AbortKind::Deadline, "the last vote came after the deadline");
        }
        let missing = |kept: &dyn Fn(&BranchState) -> bool| {
            let names: Vec<_> = self
                .branches
                .iter()
                .filter(|state| !state.has_voted() && kept(state))
                .map(|state| state.branch.resource.as_str())
                .collect();
            names.join(", ")
        };
        let absent = missing(&|state| state.not_attached);
        if absent.is_empty() {
            let late = missing(&|_| true);
            AbortReason::new(AbortKind::Deadline, &format!("no vote before the deadline from {late}"))
        } else {
            AbortReason::new(
                AbortKind::NotAttached,
                &format!("no instance to prepare it was attached for {absent}"),
            )
        }
    }

    /// The owner's incarnation was ended: what is not proposed is aborted, the rest is settled
    /// by its register (H10).
    pub(in crate::coordinator) fn owner_ended(&mut self, step: &mut Step<'_>) {
        let reason = AbortReason::new(AbortKind::OwnerEnded, "its coordinator's incarnation was ended");
        if step.config.plays(Mutant::EndedAbortsProposed) && matches!(self.state, State::Proposing { .. }) {
            self.abort(reason, step);
            return;
        }
        self.abort_if_undecided(reason, step);
    }

    /// An instance has gone, and with it what it held open. Whatever still needs a vote of it can only
    /// abort, and need not wait for its deadline to do so. A branch that has voted is prepared, and any
    /// instance of its resource may finish it.
    pub(in crate::coordinator) fn instance_lost(
        &mut self,
        resource: &ResourceName,
        instance: InstanceId,
        step: &mut Step<'_>,
    ) {
        let mut missed = false;
        for state in self.branches.iter_mut().filter(|state| {
            state.branch.resource == *resource && state.branch.instance == instance && !state.has_voted()
        }) {
            // Not waited for either: if it did prepare, it will inquire.
            state.not_attached = true;
            missed = true;
        }
        if !missed && !step.config.plays(Mutant::LostInstanceAbortsProposed) {
            return;
        }
        match self.state {
            State::Active | State::Preparing | State::OnePhase { handed_over: 0 } => {
                let message = format!("the participant of {resource} has gone");
                self.abort(AbortReason::new(AbortKind::NotAttached, &message), step);
            }
            State::Proposing { .. } if step.config.plays(Mutant::LostInstanceAbortsProposed) => {
                self.abort(AbortReason::new(AbortKind::NotAttached, "its participant has gone"), step);
            }
            // Proposed to the branch's own register, which any instance of the resource may ask.
            State::OnePhase { .. } => {
                self.enter(State::settling_own());
                self.send_settle(step);
            }
            // Who cannot be reached is not waited for.
            State::Aborting { .. } => self.check_finished(step),
            State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Over(_)
            | State::Dropped => {}
        }
    }

    /// An operator has it decided: closed with abort, through the log (law 11).
    pub(in crate::coordinator) fn resolve(&mut self, reason: AbortReason, step: &mut Step<'_>) {
        match self.state {
            State::Active | State::Preparing => {
                self.enter(State::closing(reason));
                self.propose(step);
            }
            // Its register is its branch's own, and it is never closed in the log.
            State::OnePhase { handed_over: 0 } => self.abort(reason, step),
            State::OnePhase { .. }
            | State::Settling { .. }
            | State::Proposing { .. }
            | State::Closing { .. }
            | State::Committing
            | State::Aborting { .. }
            | State::Over(_)
            | State::Dropped => {}
        }
    }
}
