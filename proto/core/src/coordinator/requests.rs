//! What applications, participants and operators ask for: it starts a transaction, moves one that is
//! open, or becomes a question about one that is not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::command::{Answer, Refusal, TransactionOutcome};
use super::event::{RequestId, SubmittedBranch, Wait};
use super::memory::{Ended, Ending};
use super::transaction::Transaction;
use super::{Coordinator, Mutant, is_own_register};
use crate::id::{Branch, TransactionId};
use crate::outcome::Details;
use crate::time::Timestamp;
use crate::vote::AbortReason;

impl Coordinator {
    /// Whether a gid may be started here that is not open under its owner's name.
    fn may_start(&self, id: TransactionId) -> Result<(), Refusal> {
        match self.may_start_unknown(id) {
            refused @ Err(Refusal::NoIncarnation | Refusal::NotOwner | Refusal::Forgotten) => refused,
            // Open under another owner's name: that one is being driven, and is not pushed aside.
            _ if self.open.contains_key(&id.gid) => Err(Refusal::NotOwner),
            _ if self.memory.get(id.gid).is_some() => Err(Refusal::Ended),
            too_old_or_not => too_old_or_not,
        }
    }

    /// Whether a gid may be started here that is neither open nor remembered.
    fn may_start_unknown(&self, id: TransactionId) -> Result<(), Refusal> {
        match self.incarnation {
            None => Err(Refusal::NoIncarnation),
            Some(own) if own != id.incarnation && !self.config.plays(Mutant::ForeignCommitRuns) => {
                Err(Refusal::NotOwner)
            }
            Some(_) if id.gid <= self.floor => Err(Refusal::Forgotten),
            Some(_) if !self.memory.may_start(id.gid) => Err(Refusal::TooOldToStart),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn begin(
        &mut self,
        id: TransactionId,
        details: Arc<Details>,
        timeout: Duration,
        now: Timestamp,
    ) -> Answer {
        if self.open.get(&id.gid).is_some_and(|open| open.id() == id) {
            return Answer::Begun;
        }
        if let Err(refusal) = self.may_start(id) {
            return Answer::Refused(refusal);
        }
        self.start(now, |step| Transaction::begin(id, details, timeout, step));
        Answer::Begun
    }

    pub(super) fn enlist(
        &mut self,
        id: TransactionId,
        branch: Branch,
        time_left: Duration,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if id.gid <= self.floor {
            return Err(Refusal::Forgotten);
        }
        let mut joins = Some(branch);
        let told = self.with(id.gid, now, |transaction, step| match joins.take() {
            Some(branch) if transaction.id() == id => transaction.enlist(branch, step),
            Some(_) | None => Err(Refusal::NotOwner),
        });
        if let (None, Some(branch)) = (&told, joins) {
            self.may_start(id)?;
            let (mut told, nothing_said) = (Ok(()), Arc::clone(&self.nothing_said));
            self.start(now, |step| {
                let mut transaction = Transaction::begin(id, nothing_said, time_left, step);
                told = transaction.enlist(branch, step);
                transaction
            });
            return told;
        }
        told.unwrap_or(Err(Refusal::Ended))
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one event")]
    pub(super) fn commit(
        &mut self,
        id: TransactionId,
        branches: BTreeSet<Branch>,
        details: Arc<Details>,
        timeout: Duration,
        wait: Wait,
        request: RequestId,
        now: Timestamp,
    ) {
        if branches.len() > self.config.branches_max {
            self.reply(request, Answer::Refused(Refusal::TooManyBranches));
            return;
        }
        let known = self.open.get(&id.gid);
        let starts = match known {
            Some(open) => open.id() == id && open.is_active(),
            None => self.may_start(id).is_ok(),
        };
        if !starts {
            self.ask_outcome(id, Some(branches), wait, request, now);
            return;
        }
        if !self.log_available && !is_own_register(&branches) && !branches.is_empty() {
            self.reply(request, Answer::Refused(Refusal::LogUnavailable));
            return;
        }
        if known.is_none() {
            self.start(now, |step| {
                let mut transaction = Transaction::begin(id, Arc::clone(&details), timeout, step);
                transaction.commit(branches, details, wait, request, step);
                transaction
            });
        } else {
            self.with(id.gid, now, |transaction, step| {
                transaction.commit(branches, details, wait, request, step);
            });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one event")]
    pub(super) fn submit(
        &mut self,
        id: TransactionId,
        branches: Vec<SubmittedBranch>,
        details: Arc<Details>,
        timeout: Duration,
        wait: Wait,
        request: RequestId,
        now: Timestamp,
    ) {
        if branches.is_empty() || branches.len() > self.config.branches_max {
            self.reply(request, Answer::Refused(Refusal::TooManyBranches));
            return;
        }
        let names =
            || -> BTreeSet<Branch> { branches.iter().map(|submitted| submitted.branch.clone()).collect() };
        let first_use = match (self.open.get(&id.gid), self.memory.get(id.gid)) {
            // Another owner's, which is only being asked about: its body need not be known here.
            (Some(open), _) if Some(open.id().incarnation) != self.incarnation => {
                Some(open.digest().or(details.digest))
            }
            (Some(open), _) => Some(open.digest()),
            // Aborted before it started: there was no body to differ from.
            (None, Some(ended)) => Some(ended.digest.or(details.digest)),
            (None, None) => None,
        };
        match first_use {
            Some(digest) if digest != details.digest => {
                self.reply(request, Answer::Refused(Refusal::RequestDiffers));
            }
            Some(_) => self.ask_outcome(id, Some(names()), wait, request, now),
            None if self.may_start_unknown(id).is_err() => {
                self.ask_outcome(id, Some(names()), wait, request, now);
            }
            None if !self.log_available && !is_own_register(&names()) => {
                self.reply(request, Answer::Refused(Refusal::LogUnavailable));
            }
            None => {
                self.start(now, |step| {
                    let mut transaction = Transaction::begin(id, details, timeout, step);
                    transaction.submit(branches, wait, request, step);
                    transaction
                });
            }
        }
    }

    pub(super) fn abort(
        &mut self,
        id: TransactionId,
        branches: Option<BTreeSet<Branch>>,
        reason: AbortReason,
        request: RequestId,
        now: Timestamp,
    ) {
        if self.open.get(&id.gid).is_some_and(|open| open.id() == id) {
            self.with(id.gid, now, |transaction, step| {
                transaction.abort_if_undecided(reason, step);
                transaction.wait_for_outcome(request, Wait::Finished, step);
            });
        } else if self.may_start(id).is_ok() {
            // Never begun here, and now it never will be.
            let ending = Ending::Aborted { reason, heuristic: None };
            self.reply(request, Answer::Outcome(ending.outcome()));
            self.memory.insert(Ended { id, ending, digest: None }, self.incarnation);
        } else {
            self.ask_outcome(id, branches, Wait::Decision, request, now);
        }
    }

    pub(super) fn resolve(
        &mut self,
        id: TransactionId,
        branches: Option<BTreeSet<Branch>>,
        reason: AbortReason,
        request: RequestId,
        now: Timestamp,
    ) {
        if let Some(open) = self.open.get(&id.gid) {
            if open.id() != id {
                self.reply(request, Answer::Outcome(TransactionOutcome::NoRecord));
                return;
            }
            self.with(id.gid, now, |transaction, step| {
                transaction.resolve(reason, step);
                transaction.wait_for_outcome(request, Wait::Decision, step);
            });
        } else if let (Some(branches), None) =
            // Of an empty set nobody can tell which register it has: closed in the log, a transaction that
            // one branch committed in its own would be told as aborted (H5).
            (branches.filter(|branches| !branches.is_empty()), self.memory.get(id.gid))
        {
            self.close_recorded(id, branches, reason, request, now);
        } else {
            self.ask_outcome(id, None, Wait::Decision, request, now);
        }
    }
}
