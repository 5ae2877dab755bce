//! Questions about transactions that are not in the table: ended, forgotten, another's, or never
//! heard of. Nothing here ever starts one.
//!
//! The order of authority: memory, the floor, a living owner, the register. A question that names
//! the branch set is answered definitely, by closing the register if it is open; one that does not
//! may end in "no record", which is neither committed nor aborted (law 5, H9).

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Answer, Command, InquiryAnswer, TransactionOutcome};
use super::event::{RequestId, Wait};
use super::memory::Ending;
use super::transaction::Transaction;
use super::{Coordinator, IllegalEvent, Mutant, is_own_register};
use crate::id::{Branch, BranchId, Incarnation, TransactionId};
use crate::outcome::{
    BranchOutcome, DecidedBranch, Decision, DecisionRecord, HeuristicOutcome, LookUpResult, combine,
};
use crate::time::Timestamp;
use crate::vote::{AbortKind, AbortReason, Evidence, Vote};

/// A question that waits for a look-up in the log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Question {
    /// What is the outcome? `pending`: its owner lives, so that no record means undecided.
    Outcome { request: RequestId, pending: bool },
    /// What shall become of this prepared branch? `pending` as above.
    Inquiry { request: RequestId, branch: BranchId, evidence: Evidence, pending: bool },
    /// A late vote: the branch is to be told what was decided.
    Vote { branch: Branch, evidence: Evidence },
}

/// The questions that wait, by the number of their look-up: always the smallest that is free, so that
/// two cores which asked the same are in the same state.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Questions {
    waiting: BTreeMap<RequestId, Question>,
    /// Free numbers under the highest that is taken. Found without a search: tens of thousands may wait
    /// when a participant comes back.
    free: BTreeSet<u64>,
}

impl Questions {
    fn ask(&mut self, question: Question) -> RequestId {
        let number = self.free.pop_first().unwrap_or_else(|| self.end());
        self.waiting.insert(RequestId(number), question);
        RequestId(number)
    }

    fn answered(&mut self, request: RequestId) -> Option<Question> {
        let question = self.waiting.remove(&request)?;
        self.free.insert(request.0);
        let end = self.end();
        drop(self.free.split_off(&end));
        Some(question)
    }

    /// One more than the highest number that is taken.
    fn end(&self) -> u64 {
        self.waiting.last_key_value().map_or(0, |(request, _)| request.0 + 1)
    }
}

impl Coordinator {
    /// Whether another coordinator owns the transaction and is alive.
    fn owned_elsewhere(&self, owner: Incarnation) -> bool {
        Some(owner) != self.incarnation && self.live.contains(&owner)
    }

    /// Says what is known now; an undecided transaction that is being worked on is pending.
    pub(super) fn query(
        &mut self,
        id: TransactionId,
        branches: Option<BTreeSet<Branch>>,
        request: RequestId,
        now: Timestamp,
    ) {
        match self.open.get(&id.gid) {
            Some(open) if open.id() == id && !open.is_question() => {
                let outcome = open.outcome();
                self.reply(request, Answer::Outcome(outcome));
            }
            Some(_) | None => self.ask_outcome(id, branches, Wait::Decision, request, now),
        }
    }

    /// Answers what the outcome is once that is known, without starting anything.
    pub(super) fn ask_outcome(
        &mut self,
        id: TransactionId,
        branches: Option<BTreeSet<Branch>>,
        wait: Wait,
        request: RequestId,
        now: Timestamp,
    ) {
        if let Some(open) = self.open.get(&id.gid) {
            if open.id() == id {
                self.with(id.gid, now, |transaction, step| {
                    transaction.wait_for_outcome(request, wait, step);
                });
            } else {
                self.reply(request, Answer::Outcome(TransactionOutcome::NoRecord));
            }
            return;
        }
        if let Some(ended) = self.memory.get(id.gid).filter(|ended| ended.id == id) {
            let outcome = ended.ending.outcome();
            self.reply(request, Answer::Outcome(outcome));
            return;
        }
        if id.gid <= self.floor {
            self.reply(request, Answer::Outcome(TransactionOutcome::Forgotten));
            return;
        }
        let pending = self.owned_elsewhere(id.incarnation);
        match branches {
            // An empty set names no register to close, and only the owner knows whether a branch was
            // enlisted that the asker never heard of (law 9).
            Some(branches) if !pending && !branches.is_empty() => {
                let reason =
                    AbortReason::new(AbortKind::OwnerEnded, "not decided when its outcome was asked for");
                self.make_definite(id, branches, reason, wait, request, now);
            }
            Some(_) | None => self.look_up(id, Question::Outcome { request, pending }),
        }
    }

    /// Has the register decide, with abort if it is open.
    pub(super) fn make_definite(
        &mut self,
        id: TransactionId,
        branches: BTreeSet<Branch>,
        reason: AbortReason,
        wait: Wait,
        request: RequestId,
        now: Timestamp,
    ) {
        if is_own_register(&branches) {
            self.settle(id, branches, None, now);
        } else {
            self.start(now, |step| {
                let mut transaction = Transaction::close(id, reason, step);
                transaction.add_named(branches);
                transaction
            });
        }
        self.with(id.gid, now, |transaction, step| {
            transaction.wait_for_outcome(request, wait, step);
        });
    }

    /// An operator has a transaction closed of which a prepare record names these branches, which need
    /// not be all: the record may be older than an enlistment. Of one branch with a marker it is therefore
    /// not certain which register it has. Its own is asked first, so that the log is not closed over a
    /// commit that stands there, and then the log, so that abort is told of neither alone (H5).
    pub(super) fn close_recorded(
        &mut self,
        id: TransactionId,
        branches: BTreeSet<Branch>,
        reason: AbortReason,
        request: RequestId,
        now: Timestamp,
    ) {
        if is_own_register(&branches) {
            self.settle(id, branches, Some(&reason), now);
            self.with(id.gid, now, |transaction, step| {
                transaction.wait_for_outcome(request, Wait::Decision, step);
            });
        } else {
            self.make_definite(id, branches, reason, Wait::Decision, request, now);
        }
    }

    fn settle(
        &mut self,
        id: TransactionId,
        branches: BTreeSet<Branch>,
        then_close: Option<&AbortReason>,
        now: Timestamp,
    ) {
        for branch in branches {
            self.start(now, |step| Transaction::settle(id, branch, then_close.cloned(), step));
        }
    }

    /// A participant found a branch prepared.
    pub(super) fn inquire(
        &mut self,
        id: TransactionId,
        branch: &Branch,
        evidence: Evidence,
        request: RequestId,
        now: Timestamp,
    ) {
        if let Some(open) = self.open.get(&id.gid) {
            if open.id() == id {
                self.with(id.gid, now, |transaction, step| {
                    transaction.inquire(request, branch, evidence, step);
                });
            } else {
                self.reply(request, Answer::Inquiry(InquiryAnswer::Quarantine));
            }
            return;
        }
        let ended = self.memory.get(id.gid).filter(|ended| ended.id == id);
        match ended.map(|ended| &ended.ending) {
            Some(Ending::Aborted { heuristic, .. }) => {
                // Told as a decision too, so that how the branch ends is heard: somebody may have ended
                // it by hand (D8).
                if let (None, Some(ended)) = (heuristic, ended.cloned()) {
                    self.start(now, |step| Transaction::abort_again(ended, branch.clone(), evidence, step));
                } else {
                    self.commands.push_back(Command::SendAbort { id, branch: branch.clone() });
                }
                self.reply(request, Answer::Inquiry(InquiryAnswer::Abort));
            }
            Some(Ending::Forgotten) => {
                self.reply(request, Answer::Inquiry(InquiryAnswer::Quarantine));
            }
            // Only the record tells which execution was committed.
            Some(Ending::Committed { .. }) => {
                self.look_up(id, Question::Inquiry { request, branch: branch.id, evidence, pending: false });
            }
            None if id.gid <= self.floor => {
                self.reply(request, Answer::Inquiry(InquiryAnswer::Quarantine));
            }
            None if self.owned_elsewhere(id.incarnation) => {
                self.look_up(id, Question::Inquiry { request, branch: branch.id, evidence, pending: true });
            }
            // Nobody lives who could still decide it: close, then answer (A2).
            None => {
                let reason =
                    AbortReason::new(AbortKind::OwnerEnded, "closed when a prepared branch inquired");
                self.start(now, |step| Transaction::close(id, reason, step));
                self.with(id.gid, now, |transaction, step| {
                    transaction.inquire(request, branch, evidence, step);
                });
            }
        }
    }

    /// A commit vote of a transaction that is not open: treated as an inquiry (E5).
    pub(super) fn late_vote(&mut self, id: TransactionId, branch: Branch, vote: Vote, now: Timestamp) {
        let Vote::Commit(evidence) = &vote else {
            return;
        };
        match self.memory.get(id.gid).filter(|ended| ended.id == id).map(|ended| &ended.ending) {
            Some(Ending::Aborted { .. }) => {
                self.commands.push_back(Command::SendAbort { id, branch });
            }
            Some(Ending::Committed { .. }) => {
                let evidence = evidence.clone();
                self.look_up(id, Question::Vote { branch, evidence });
            }
            // It stays prepared and inquires, where quarantine is the answer.
            Some(Ending::Forgotten) => {}
            None if id.gid <= self.floor || self.owned_elsewhere(id.incarnation) => {}
            None => {
                let reason = AbortReason::new(AbortKind::OwnerEnded, "closed when a late vote came");
                self.start(now, |step| {
                    let mut transaction = Transaction::close(id, reason, step);
                    transaction.add_voter(branch, vote);
                    transaction
                });
            }
        }
    }

    fn look_up(&mut self, id: TransactionId, question: Question) {
        let request = self.questions.ask(question);
        self.commands.push_back(Command::LookUp { id, request });
    }

    /// The log answered a look-up.
    pub(super) fn looked_up(
        &mut self,
        id: TransactionId,
        request: RequestId,
        result: LookUpResult,
        heuristics: &[(BranchId, HeuristicOutcome)],
    ) -> Result<(), IllegalEvent> {
        let question = self.questions.answered(request).ok_or(IllegalEvent {
            id,
            event: "answer to a look-up",
            state: "not asked",
        })?;
        // A record under the same gid but another owner's name is not this transaction's.
        let other_owner = matches!(&result, LookUpResult::Stands(record) if record.id != id);
        let result = if other_owner { LookUpResult::NoRecord } else { result };
        match question {
            Question::Outcome { request, pending } => {
                let outcome = match result {
                    LookUpResult::Stands(record) => outcome_of(&record, heuristics),
                    LookUpResult::NoRecord if self.config.plays(Mutant::NothingFoundTakenForAborted) => {
                        let reason = AbortReason::new(AbortKind::OwnerEnded, "no record was found");
                        TransactionOutcome::Aborted { reason, unfinished: Vec::new(), heuristic: None }
                    }
                    LookUpResult::NoRecord if pending => TransactionOutcome::Pending,
                    LookUpResult::NoRecord => TransactionOutcome::NoRecord,
                    LookUpResult::Forgotten => TransactionOutcome::Forgotten,
                    LookUpResult::Unknown => TransactionOutcome::Unknown,
                };
                self.reply(request, Answer::Outcome(outcome));
            }
            Question::Inquiry { request, branch, evidence, pending } => {
                let wait = InquiryAnswer::Wait { owner: id.incarnation };
                let answer = match result {
                    LookUpResult::Stands(record) => {
                        let answer = inquiry_answer_of(&record, branch, &evidence);
                        // Another execution than the decided one: its owner still drives that one,
                        // and only once it is known committed may this one go (H3).
                        let early = pending && record.decision == Decision::Commit;
                        if early && answer == InquiryAnswer::Abort { wait } else { answer }
                    }
                    LookUpResult::NoRecord if pending => wait,
                    // It was committed once and its record is gone: nothing can be known.
                    LookUpResult::NoRecord | LookUpResult::Forgotten => InquiryAnswer::Quarantine,
                    LookUpResult::Unknown => wait,
                };
                self.reply(request, Answer::Inquiry(answer));
            }
            Question::Vote { branch, evidence } => {
                if let LookUpResult::Stands(record) = result {
                    let order = match inquiry_answer_of(&record, branch.id, &evidence) {
                        InquiryAnswer::Commit(evidence) => Command::SendCommit { id, branch, evidence },
                        InquiryAnswer::Abort | InquiryAnswer::Wait { .. } | InquiryAnswer::Quarantine => {
                            Command::SendAbort { id, branch }
                        }
                    };
                    self.commands.push_back(order);
                }
            }
        }
        Ok(())
    }
}

/// What a record, and what is kept beside it, says to an application.
fn outcome_of(record: &DecisionRecord, heuristics: &[(BranchId, HeuristicOutcome)]) -> TransactionOutcome {
    let unfinished = Vec::new();
    // What is not kept as heuristic ended, or will end, as decided.
    let kept =
        |id: BranchId| heuristics.iter().find(|(branch, _)| *branch == id).map(|(_, outcome)| *outcome);
    let as_decided = |decided: &DecidedBranch| match kept(decided.branch.id) {
        None => Some(BranchOutcome::Committed),
        Some(_) => None,
    };
    let outcomes: Vec<BranchOutcome> = record
        .branches
        .iter()
        .filter_map(as_decided)
        .chain(heuristics.iter().map(|(_, outcome)| BranchOutcome::Heuristic(*outcome)))
        .collect();
    let heuristic = combine(record.decision, &outcomes);
    match record.decision {
        Decision::Commit => TransactionOutcome::Committed { read_only: false, unfinished, heuristic },
        Decision::Abort => TransactionOutcome::Aborted {
            reason: record
                .reason
                .clone()
                .unwrap_or_else(|| AbortReason::new(AbortKind::OwnerEnded, "closed with abort in the log")),
            unfinished,
            heuristic,
        },
    }
}

/// What a record says to a branch that is prepared: only the execution that voted is committed.
///
/// Another execution is told to abort: the caller asks this only about a transaction that it knows
/// as finished, or holds that answer back.
fn inquiry_answer_of(record: &DecisionRecord, branch: BranchId, evidence: &Evidence) -> InquiryAnswer {
    match (record.decision, record.branch(branch)) {
        (Decision::Commit, Some(decided)) if decided.evidence.same_execution(evidence) => {
            InquiryAnswer::Commit(decided.evidence.clone())
        }
        _ => InquiryAnswer::Abort,
    }
}
