//! The network, and what a message is to whom it reaches.

use std::sync::Arc;

use pactum_core_checked::coordinator::{self, InquiryAnswer, RegisterAnswer, RequestId, Wait};
use pactum_core_checked::outcome::HeuristicOutcome;
use pactum_core_checked::participant::BranchKey;
use pactum_core_checked::time::Timestamp;
use pactum_core_checked::vote::{AbortKind, Vote};

use super::message::Ended;
use super::{Asks, Message, TIMEOUT, ToCoordinator, ToParticipant, Transaction, World, participants, reason};

/// What a request that is not answered yet is about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Asked {
    /// The application, which remembers the answer.
    Commit {
        transaction: usize,
    },
    /// Anybody else.
    Outcome {
        transaction: usize,
    },
    /// A participant that enlisted a branch. Its stream, which carries the answer, lives as long as it.
    Enlist {
        participant: usize,
        life: usize,
        key: BranchKey,
    },
    Inquiry {
        participant: usize,
        life: usize,
        key: BranchKey,
    },
}

impl World {
    pub fn send(&mut self, message: Message) {
        let count = self.network.entry(message).or_default();
        // Two copies under way behave as any number of them.
        *count = (*count + 1).min(2);
    }

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
            Message::Ask { to, transaction, what } => {
                if self.coordinators[to].core.is_none() || self.coordinators[to].paused {
                    return;
                }
                let by_application = matches!(what, Asks::Abort { .. });
                let asked = if by_application {
                    Asked::Commit { transaction }
                } else {
                    Asked::Outcome { transaction }
                };
                let request = self.ask(to, asked);
                let event = self.question(transaction, what, request);
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

    /// What is asked besides.
    fn question(&self, transaction: usize, what: Asks, request: RequestId) -> coordinator::Event {
        use coordinator::Event;
        let Transaction { id, branches, .. } = self.transactions[transaction].clone();
        let known = |named: bool| named.then_some(branches);
        match what {
            Asks::Abort { named } => {
                let reason = reason(AbortKind::Requested);
                Event::AbortRequested { id, branches: known(named), reason, request }
            }
            Asks::Outcome { named } => Event::OutcomeRequested { id, branches: known(named), request },
            Asks::Resolve { named } => {
                let reason = reason(AbortKind::Resolved);
                Event::ResolveRequested { id, branches: known(named), reason, request }
            }
        }
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

    pub(super) fn ask(&mut self, place: usize, asked: Asked) -> RequestId {
        let taken = self.asked.keys().filter(|(at, _)| *at == place);
        let free = taken.zip(0..).take_while(|((_, request), number)| request.0 == *number).count();
        let request = RequestId(free as u64);
        self.asked.insert((place, request), asked);
        request
    }

    fn deliver_to_participant(&mut self, to: usize, from: usize, body: ToParticipant, now: Timestamp) {
        use pactum_core_checked::participant::{Event, SessionId};
        let session = SessionId(from as u64);
        let deadline = now + TIMEOUT;
        let event = match body {
            ToParticipant::Prepare { id, branch, execute, one_phase } => {
                let operation = execute.then(participants::operation);
                Event::PrepareReceived { from: session, id, branch, operation, one_phase, deadline }
            }
            ToParticipant::EnlistRefused { key } => Event::EnlistRefused { key },
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
        let by_hand = if let ToCoordinator::Finished { id, branch, outcome } = &body
            && *outcome == Ended::Heuristic(HeuristicOutcome::Committed)
        {
            Some((*id, branch.id))
        } else {
            None
        };
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
            ToCoordinator::Finished { id, branch, outcome } => {
                Event::BranchFinished { id, branch, outcome: outcome.into() }
            }
            ToCoordinator::Failed { id, branch } => {
                Event::BranchFailed { id, branch, error: "failed".into() }
            }
            ToCoordinator::Register { id, branch, committed } => {
                let answer = match committed {
                    Some(true) => RegisterAnswer::Committed,
                    Some(false) => RegisterAnswer::Aborted(reason(AbortKind::OwnerEnded)),
                    None => RegisterAnswer::Unknown,
                };
                Event::RegisterAnswered { id, branch, answer }
            }
            ToCoordinator::Enlist { id, branch } => {
                let key = BranchKey { id, branch: branch.id };
                let request = self
                    .ask(place, Asked::Enlist { participant: from, life: self.participants[from].life, key });
                Event::EnlistRequested { id, branch, time_left: TIMEOUT, request }
            }
            ToCoordinator::Inquiry { id, branch, evidence } => {
                let key = BranchKey { id, branch: branch.id };
                let request = self.ask(
                    place,
                    Asked::Inquiry { participant: from, life: self.participants[from].life, key },
                );
                Event::InquiryReceived { id, branch, evidence, request }
            }
        };
        self.tell_coordinator(place, event, now);
        // Whether or not the transaction is open still, and remembered.
        if let Some((id, branch)) = by_hand
            && !self.log.committed.contains(&id)
            && !self.log.heuristics.contains_key(&(id.gid, branch))
        {
            self.break_promise(format!(
                "D8: branch {branch} of {id} was committed by hand; that was told and is not kept"
            ));
        }
    }

    /// Where a run is at work, if it is.
    fn place_of_run(&self, run: usize) -> Option<usize> {
        self.coordinators.iter().position(|node| node.core.is_some() && node.run == run && !node.paused)
    }
}
