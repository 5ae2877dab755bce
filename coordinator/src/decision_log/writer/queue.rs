//! The queue before the lanes, and the batch that a lane takes out of it.
//!
//! A submission answers exactly once: by [`Batch::answer`], or as unknown when it is dropped.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pactum_core::id::Incarnation;
use pactum_core::outcome::ProposalResult;
use tokio::sync::Notify;

use super::{Answer, Reply};
use crate::decision_log::Proposal;

/// A proposal on its way, with whom to tell.
pub(super) struct Submission {
    incarnation: Incarnation,
    proposal: Proposal,
    reply: Reply,
}

impl Submission {
    pub(super) fn new(incarnation: Incarnation, proposal: Proposal, reply: Reply) -> Self {
        Self { incarnation, proposal, reply }
    }

    pub(super) fn into_proposal(self) -> Proposal {
        self.proposal
    }

    /// Bytes that it adds to a statement, near enough: names and numbers of fixed length, and
    /// the texts.
    fn bytes(&self) -> usize {
        let record = &self.proposal.record;
        let evidence = |b: &pactum_core::outcome::DecidedBranch| {
            160 + b.branch.resource.as_str().len() + b.evidence.execution.len() + b.evidence.anchor.len()
        };
        let labels = record.details.labels.iter().map(|(key, value)| 6 + key.len() + value.len());
        let reason = record.reason.as_ref().map_or(0, |reason| reason.message.len());
        160 + record.branches.iter().map(evidence).sum::<usize>() + labels.sum::<usize>() + reason
    }
}

pub(super) struct Queue {
    state: Mutex<State>,
    capacity: usize,
    /// Wakes a lane.
    work: Notify,
    /// Wakes whoever waits for room.
    room: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Submission>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), capacity: capacity.max(1), work: Notify::new(), room: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes as many as fit; gives back the rest.
    pub(super) fn push(&self, mut submissions: impl Iterator<Item = Submission>) -> Vec<Submission> {
        let mut state = self.state();
        if !state.closed {
            let room = self.capacity.saturating_sub(state.waiting.len());
            state.waiting.extend(submissions.by_ref().take(room));
        }
        drop(state);
        // The lane that was busy last, whose session the server still has at hand: while one is enough, the
        // other one rests.
        self.work.notify_last();
        submissions.collect()
    }

    pub(super) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    pub(super) fn has_room(&self) -> bool {
        let state = self.state();
        !state.closed && state.waiting.len() < self.capacity
    }

    /// Waits until there is room, or the queue is closed.
    pub(super) async fn room(&self) {
        loop {
            let mut notified = std::pin::pin!(self.room.notified());
            // Listening before looking, so that no notice falls in between.
            notified.as_mut().enable();
            if self.has_room() || self.is_closed() {
                return;
            }
            notified.await;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Takes no more. Lanes end when it is empty.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.work.notify_waiters();
        self.work.notify_one();
        self.room.notify_waiters();
    }

    pub(super) async fn closed(&self) {
        loop {
            let mut notified = std::pin::pin!(self.room.notified());
            notified.as_mut().enable();
            if self.is_closed() {
                return;
            }
            notified.await;
        }
    }

    /// Waits for something to write; `None` when closed and empty.
    pub(super) async fn next(&self, rows: usize, bytes: usize) -> Option<Batch> {
        loop {
            let mut notified = std::pin::pin!(self.work.notified());
            notified.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(batch) = state.take(rows.max(1), bytes) {
                    let more = !state.waiting.is_empty();
                    drop(state);
                    if more {
                        self.work.notify_one();
                    }
                    self.room.notify_waiters();
                    return Some(batch);
                }
                if state.closed {
                    // The other lanes may be waiting too.
                    self.work.notify_one();
                    return None;
                }
            }
            notified.await;
        }
    }

    /// Everything that waits.
    pub(super) fn take_all(&self) -> Batch {
        let submissions = std::mem::take(&mut self.state().waiting);
        self.room.notify_waiters();
        Batch { incarnation: Incarnation::NIL, submissions: submissions.into(), proposals: Vec::new() }
    }
}

impl State {
    /// What goes into one statement: of one incarnation, in order.
    fn take(&mut self, rows: usize, bytes: usize) -> Option<Batch> {
        let incarnation = self.waiting.front()?.incarnation;
        let mut size = 0;
        let mut submissions = Vec::new();
        while let Some(next) = self.waiting.front() {
            size += next.bytes();
            let is_full = submissions.len() == rows || (size > bytes && !submissions.is_empty());
            if is_full || next.incarnation != incarnation {
                break;
            }
            submissions.extend(self.waiting.pop_front());
        }
        let proposals = submissions.iter().map(|submission| submission.proposal.clone()).collect();
        Some(Batch { incarnation, submissions, proposals })
    }
}

/// What one statement carries. Dropped unanswered, it answers unknown.
pub(super) struct Batch {
    pub(super) incarnation: Incarnation,
    submissions: Vec<Submission>,
    pub(super) proposals: Vec<Proposal>,
}

impl Batch {
    /// Answers all, each way once.
    pub(super) fn answer(mut self, results: Vec<ProposalResult>) {
        self.answer_each(results.into_iter());
    }

    fn answer_each(&mut self, mut results: impl Iterator<Item = ProposalResult>) {
        let mut by_reply: Vec<(Reply, Vec<Answer>)> = Vec::new();
        for submission in self.submissions.drain(..) {
            let record = &submission.proposal.record;
            // A log that answered too little has not answered the rest.
            let result = results.next().unwrap_or(ProposalResult::Unknown);
            let answer = Answer { id: record.id, decision: record.decision, result };
            let same = |(reply, _): &&mut (Reply, _)| {
                std::ptr::addr_eq(std::sync::Arc::as_ptr(reply), std::sync::Arc::as_ptr(&submission.reply))
            };
            // A handful of shards: searched from the last, where the previous one most likely went.
            match by_reply.iter_mut().rev().find(same) {
                Some((_, answers)) => answers.push(answer),
                None => by_reply.push((submission.reply, vec![answer])),
            }
        }
        for (reply, answers) in by_reply {
            reply(answers);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.submissions.is_empty() {
            self.answer_each(std::iter::empty());
        }
    }
}
