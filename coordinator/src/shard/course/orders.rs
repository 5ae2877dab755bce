//! What orders say of a transaction's course.

use std::sync::Arc;

use pactum_core::coordinator::{Answer, Command, RequestId};
use pactum_core::id::{Branch, BranchId, Gid};
use pactum_core::outcome::Decision;
use pactum_core::time::Timestamp;

use super::traced::Traced;
use super::{Courses, Stage, decided};
use crate::metrics::{Call, Phase};
use crate::shard::history::{Detail, Kind};
use crate::trace::SpanRef;

impl Courses {
    /// An order that is about to be carried out.
    pub(in crate::shard) fn ordered(&mut self, command: &Command, now: Timestamp) {
        match command {
            Command::SendPrepare { id, branch, one_phase, details, .. } => {
                let Some(attempt) = self.asks(id.gid, branch, Some(*one_phase), None, now) else { return };
                self.trace_prepare(id.gid, branch, &details.traceparent, now);
                let what = if *one_phase { &"one-phase" } else { &"" };
                let detail = if attempt == 1 && !one_phase {
                    Detail::Resource(branch.resource.clone())
                } else {
                    Detail::Attempt(what, attempt)
                };
                self.note_if(attempt, id.gid, Kind::PrepareSent, branch, detail, now);
            }
            Command::SendCommit { id, branch, .. } => {
                if let Some(attempt) = self.asks(id.gid, branch, None, Some(Stage::Committing), now) {
                    self.trace(id.gid, |traced, _| {
                        traced.begin("commit", Some(branch.id), branch.resource.as_str(), now);
                    });
                    let detail = Detail::Attempt(&"commit", attempt);
                    self.note_if(attempt, id.gid, Kind::Sent, branch, detail, now);
                }
            }
            Command::SendAbort { id, branch } => {
                if let Some(attempt) = self.asks(id.gid, branch, None, Some(Stage::Aborting), now) {
                    self.trace(id.gid, |traced, _| {
                        traced.begin("abort", Some(branch.id), branch.resource.as_str(), now);
                    });
                    let detail = Detail::Attempt(&"abort", attempt);
                    self.note_if(attempt, id.gid, Kind::Sent, branch, detail, now);
                }
            }
            Command::SendSettle { id, branch } => {
                if let Some(attempt) = self.asks(id.gid, branch, Some(true), None, now) {
                    let detail = Detail::Attempt(&"question to its own database", attempt);
                    self.note_if(attempt, id.gid, Kind::Sent, branch, detail, now);
                }
            }
            Command::Propose { record } => self.proposed(record.id.gid, record.decision, now),
            Command::Reply { request, answer } => self.replied(*request, answer, now),
            Command::RecordHeuristic { outcome, .. } => self.metrics.heuristic(*outcome),
            Command::LookUp { .. }
            | Command::RecordUndecided { .. }
            | Command::ForgetUndecided { .. }
            | Command::RecordFinished { .. }
            | Command::ReportViolation { .. } => {}
        }
    }

    /// A branch is sent something: a Prepare, which in one phase proposes, or (in `stage`) a decision.
    fn asks(
        &mut self,
        gid: Gid,
        branch: &Branch,
        prepare: Option<bool>,
        stage: Option<Stage>,
        now: Timestamp,
    ) -> Option<u16> {
        let Self { open, doubts, meters, metrics, voting, .. } = self;
        let course = open.get_mut(&gid)?;
        if prepare.is_some() && course.stage == Stage::Open {
            course.prepared = now;
            course.enter(Stage::Preparing, now);
            *voting += 1;
        }
        if let Some(stage) = stage.filter(|stage| *stage != course.stage) {
            *voting -= usize::from(course.stage == Stage::Preparing);
            course.enter(stage, now);
        }
        if stage.is_some() || prepare == Some(true) {
            course.enter_doubt(doubts, now);
        }
        let meter = match course.asked(branch.id) {
            Some(asked) => Arc::clone(&asked.meter),
            None => Self::meter_of(meters, metrics, &branch.resource),
        };
        Some(course.asks(branch.id, &meter, stage.is_some()))
    }

    /// Notes an attempt, unless there were many: the first, second, fourth, eighth and so on are kept,
    /// so that what is stuck does not push everything else out of the history.
    fn note_if(
        &mut self,
        attempt: u16,
        gid: Gid,
        kind: Kind,
        branch: &Branch,
        detail: Detail,
        now: Timestamp,
    ) {
        if attempt.is_power_of_two() {
            self.note(gid, kind, Some(branch.id), detail, now);
        }
    }

    fn proposed(&mut self, gid: Gid, decision: Decision, now: Timestamp) {
        let Some(course) = self.open.get_mut(&gid) else { return };
        course.enter_doubt(&mut self.doubts, now);
        if course.stage == Stage::Deciding {
            return; // Proposed again.
        }
        if decision == Decision::Commit && course.stage == Stage::Preparing {
            self.meter.took(Phase::Prepare, now.since(course.since));
        }
        self.voting -= usize::from(course.stage == Stage::Preparing);
        course.enter(Stage::Deciding, now);
        self.trace(gid, |traced, _| traced.begin("decide", None, "", now));
        self.note(gid, Kind::Deciding, None, Detail::Plain(decided(decision)), now);
    }

    fn replied(&mut self, request: RequestId, answer: &Answer, now: Timestamp) {
        if self.enlisting.front().is_none_or(|(first, ..)| *first != request) {
            return;
        }
        if let Some((_, gid, branch)) = self.enlisting.pop_front() {
            let is_in = *answer == Answer::Enlisted;
            self.count(&branch.resource, if is_in { Call::EnlistOk } else { Call::EnlistRefused });
            if is_in {
                let detail = Detail::Resource(branch.resource);
                self.note(gid, Kind::Enlisted, Some(branch.id), detail, now);
            }
        }
    }

    /// A decision could not be sent, since nobody is attached for it.
    pub(in crate::shard) fn not_delivered(&mut self, branch: &Branch, decision: Decision) {
        let call = match decision {
            Decision::Commit => Call::CommitNotAttached,
            Decision::Abort => Call::AbortNotAttached,
        };
        self.count(&branch.resource, call);
    }

    /// A branch is asked to prepare: a span of its own, beneath that of its transaction, which begins with
    /// the first of them.
    fn trace_prepare(&mut self, gid: Gid, branch: &Branch, traceparent: &str, now: Timestamp) {
        if !self.spans.tracer.is_on() {
            return;
        }
        if let Some(course) = self.open.get_mut(&gid) {
            if course.traced.is_none() {
                let parent = SpanRef::sampled(traceparent);
                course.traced = parent.map(|parent| Box::new(Traced::beneath(parent, now)));
            }
            if let Some(traced) = &mut course.traced {
                traced.begin("prepare", Some(branch.id), branch.resource.as_str(), now);
            }
        }
    }

    /// What a Prepare carries instead of the application's `traceparent`, if the transaction is traced.
    pub(in crate::shard) fn traceparent(&self, gid: Gid, branch: BranchId) -> Option<String> {
        if !self.spans.tracer.is_on() {
            return None;
        }
        self.open.get(&gid)?.traced.as_ref()?.traceparent(branch)
    }
}
