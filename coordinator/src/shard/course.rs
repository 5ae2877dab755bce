//! The course of each open transaction as it is measured and told: when its phases began, what its
//! participants answered, since when it is in doubt.
//!
//! Fed by the shard with each fact before the core is told it, with each order before it is carried
//! out, and with each opening and ending, which the core's count of open transactions gives away. It
//! decides nothing, and what it says decides nothing.
//!
//! All of it is kept in step as things happen, so that a scrape reads a few numbers. What a
//! transaction costs here is one entry in a map, looked up at each of its steps.

mod ends;
mod orders;
mod traced;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use pactum_core::coordinator::{Event, RegisterAnswer, RequestId};
use pactum_core::id::{Branch, BranchId, Gid, ResourceName, TransactionId};
use pactum_core::outcome::{BranchOutcome, Decision, HeuristicOutcome, ProposalResult};
use pactum_core::time::Timestamp;
use pactum_core::vote::Vote;
use smallvec::SmallVec;

use super::history::{Detail, History, Kind, PastStep};
use crate::metrics::{Call, Ended, Metrics, Phase, ResourceMeter, ShardMeter};
use crate::trace::{SpanRef, Tracer};
use traced::{Spans, Traced};

/// Names of resources whose meters are kept at hand. They are as many as there are databases; the
/// limit is for whoever makes new ones up all the time.
const METERS_MAX: usize = 1024;

/// The courses of one shard's transactions.
pub(crate) struct Courses {
    /// Each apart from its name: a table that has just grown is half empty.
    open: HashMap<Gid, Box<Course>, RandomState>,
    /// Enlistments whose answers are still among the core's orders, in order.
    enlisting: VecDeque<(RequestId, Gid, Branch)>,
    /// Those that act by their deadlines in this turn.
    due: Vec<Gid>,
    doubts: Doubts,
    history: History,
    meters: HashMap<ResourceName, Arc<ResourceMeter>, RandomState>,
    meter: Arc<ShardMeter>,
    metrics: Metrics,
    spans: Spans,
    /// Set while the core is told of a commit of another's that was traced.
    recovering: Option<SpanRef>,
    /// The quickest commit since it was last asked for.
    quickest: Option<Duration>,
    /// Transactions whose votes are awaited.
    voting: usize,
}

/// Where a transaction is, as far as it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Preparing,
    Deciding,
    Committing,
    Aborting,
}

#[derive(Debug)]
struct Course {
    opened: Timestamp,
    /// When the first Prepare went out.
    prepared: Timestamp,
    stage: Stage,
    /// Since when it is there.
    since: Timestamp,
    /// Whether it belongs to our incarnation of when it was opened.
    own: bool,
    /// Counted as committed.
    counted: bool,
    /// The second since the origin in which it came to be in doubt.
    in_doubt: Option<u64>,
    branches: SmallVec<[Asked; 2]>,
    /// Set if it is traced.
    traced: Option<Box<Traced>>,
}

/// A branch that was asked something and has not ended.
#[derive(Debug)]
struct Asked {
    branch: BranchId,
    meter: Arc<ResourceMeter>,
    /// How often it was sent what is now owed to it.
    sent: u16,
    /// Whether that is a decision.
    told: bool,
}

/// How many transactions are in doubt, by the second in which they began to be: the first key is the
/// oldest one's, and there are no more keys than transactions.
#[derive(Debug, Default)]
struct Doubts {
    by_second: BTreeMap<u64, u64>,
    count: u64,
}

impl Doubts {
    fn enter(&mut self, second: u64) {
        *self.by_second.entry(second).or_insert(0) += 1;
        self.count += 1;
    }

    fn leave(&mut self, second: u64) {
        if let Some(count) = self.by_second.get_mut(&second) {
            self.count -= 1;
            *count -= 1;
            if *count == 0 {
                self.by_second.remove(&second);
            }
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.by_second.keys().next().copied()
    }
}

impl Course {
    fn new(own: bool, now: Timestamp) -> Self {
        Self {
            opened: now,
            prepared: now,
            stage: Stage::Open,
            since: now,
            own,
            counted: false,
            in_doubt: None,
            branches: SmallVec::new(),
            traced: None,
        }
    }

    fn enter(&mut self, stage: Stage, now: Timestamp) {
        self.stage = stage;
        self.since = now;
    }

    /// Counts that a branch is sent something; answers the which time it is.
    fn asks(&mut self, branch: BranchId, meter: &Arc<ResourceMeter>, told: bool) -> u16 {
        let place = self.branches.iter().position(|asked| asked.branch == branch);
        let place = place.unwrap_or_else(|| {
            let meter = Arc::clone(meter);
            self.branches.push(Asked { branch, meter, sent: 0, told: false });
            self.branches.len() - 1
        });
        let asked = &mut self.branches[place];
        if told && !asked.told {
            asked.told = true;
            asked.sent = 0;
            asked.meter.owes_an_end();
        }
        asked.sent = asked.sent.saturating_add(1);
        asked.sent
    }

    fn asked(&self, branch: BranchId) -> Option<&Asked> {
        self.branches.iter().find(|asked| asked.branch == branch)
    }

    fn enter_doubt(&mut self, doubts: &mut Doubts, now: Timestamp) {
        if self.in_doubt.is_none() {
            let second = now.since_origin().as_secs();
            self.in_doubt = Some(second);
            doubts.enter(second);
        }
    }
}

impl Drop for Course {
    /// Whatever was not acknowledged is not waited for any more.
    fn drop(&mut self) {
        for asked in self.branches.iter().filter(|asked| asked.told) {
            asked.meter.owes_no_more();
        }
    }
}

impl Courses {
    /// Those of one shard, with so many steps of history. `now` is the time since the shards' origin.
    pub(crate) fn new(metrics: &Metrics, steps_max: usize, tracer: Tracer, now: Timestamp) -> Self {
        Self {
            open: HashMap::default(),
            enlisting: VecDeque::new(),
            due: Vec::new(),
            doubts: Doubts::default(),
            history: History::new(steps_max),
            meters: HashMap::default(),
            meter: metrics.of_shard(),
            metrics: metrics.clone(),
            spans: Spans::new(tracer, now),
            recovering: None,
            quickest: None,
            voting: 0,
        }
    }

    /// From its first Prepare until it was durable: the quickest commit since this was last asked.
    pub(super) fn quickest_commit(&mut self) -> Option<Duration> {
        self.quickest.take()
    }

    /// Transactions whose votes are awaited.
    pub(super) fn voting(&self) -> usize {
        self.voting
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The steps of one transaction, oldest first.
    pub(super) fn steps(&self, gid: Gid) -> Vec<PastStep> {
        self.history.of(gid, self.open.get(&gid).map(|course| course.opened))
    }

    /// Shows scrapes what is in doubt now.
    pub(super) fn publish(&self) {
        self.meter.publish_in_doubt(self.doubts.count, self.doubts.oldest());
    }

    fn meter_of(
        meters: &mut HashMap<ResourceName, Arc<ResourceMeter>, RandomState>,
        metrics: &Metrics,
        name: &ResourceName,
    ) -> Arc<ResourceMeter> {
        if let Some(meter) = meters.get(name) {
            return Arc::clone(meter);
        }
        if meters.len() >= METERS_MAX {
            meters.clear();
        }
        let meter = metrics.of_resource(name.as_str());
        meters.insert(name.clone(), Arc::clone(&meter));
        meter
    }

    fn count(&mut self, resource: &ResourceName, call: Call) {
        if let Some(meter) = self.meters.get(resource) {
            meter.count(call);
        } else {
            Self::meter_of(&mut self.meters, &self.metrics, resource).count(call);
        }
    }

    fn note(&mut self, gid: Gid, kind: Kind, branch: Option<BranchId>, detail: Detail, now: Timestamp) {
        self.history.note(gid, kind, branch, detail, now);
    }

    /// Tells of a transaction that is traced, if it is.
    fn trace(&mut self, gid: Gid, tell: impl FnOnce(&mut Traced, &Spans)) {
        if self.spans.tracer.is_on()
            && let Some(course) = self.open.get_mut(&gid)
            && let Some(traced) = &mut course.traced
        {
            tell(traced, &self.spans);
        }
    }

    // ---- facts -------------------------------------------------------------------------------------

    /// A fact that the core is about to be told. Answers whose it is, if it is of one transaction.
    pub(super) fn saw(&mut self, event: &Event, now: Timestamp) -> Option<TransactionId> {
        match event {
            Event::VoteReceived { id, branch, vote } => {
                let (call, detail, how, error) = match vote {
                    Vote::Commit(_) => (Call::PrepareCommit, Detail::Plain("commit"), "commit", None),
                    Vote::ReadOnly => (Call::PrepareReadOnly, Detail::Plain("read-only"), "read-only", None),
                    Vote::Abort(reason) => {
                        let detail = Detail::Text(Arc::clone(&reason.message));
                        (Call::PrepareAbort, detail, "abort", Some(&*reason.message))
                    }
                };
                self.count(&branch.resource, call);
                self.trace(id.gid, |traced, spans| {
                    traced.end("prepare", Some(branch.id), how, error, spans, now);
                });
                self.note(id.gid, Kind::Voted, Some(branch.id), detail, now);
                Some(*id)
            }
            Event::BranchFinished { id, branch, outcome } => {
                self.branch_finished(id.gid, branch.id, outcome, now);
                Some(*id)
            }
            Event::BranchFailed { id, branch, error } => {
                self.branch_failed(id.gid, branch.id, error, now);
                Some(*id)
            }
            Event::PrepareNotSent { id, branch } => {
                let asked = self.open.get(&id.gid).and_then(|course| course.asked(*branch));
                if let Some(Asked { meter, sent, .. }) = asked {
                    meter.count(Call::PrepareNotAttached);
                    if sent.is_power_of_two() {
                        let detail = Detail::Plain("no instance that can prepare it is attached");
                        self.note(id.gid, Kind::Failed, Some(*branch), detail, now);
                    }
                }
                Some(*id)
            }
            Event::RegisterAnswered { id, branch, answer } => {
                self.register_answered(id.gid, branch.id, answer, now);
                Some(*id)
            }
            Event::ProposalAnswered { id, proposed, result } => {
                self.proposal_answered(*id, *proposed, result, now);
                Some(*id)
            }
            Event::EnlistRequested { id, branch, request, .. } => {
                self.enlisting.push_back((*request, id.gid, branch.clone()));
                Some(*id)
            }
            Event::InquiryReceived { id, branch, .. } => {
                self.count(&branch.resource, Call::Inquiry);
                Some(*id)
            }
            Event::BeginRequested { id, .. }
            | Event::CommitRequested { id, .. }
            | Event::SubmitRequested { id, .. }
            | Event::AbortRequested { id, .. }
            | Event::OutcomeRequested { id, .. }
            | Event::ResolveRequested { id, .. }
            | Event::LookedUp { id, .. } => Some(*id),
            Event::CommitRecovered { record } => {
                if self.spans.tracer.is_on() {
                    self.recovering = SpanRef::sampled(&record.details.traceparent);
                }
                Some(record.id)
            }
            Event::RetryRequested { .. }
            | Event::InstanceAttached { .. }
            | Event::InstanceLost { .. }
            | Event::LogAvailabilityChanged { .. }
            | Event::LiveIncarnationsRead { .. }
            | Event::IncarnationEnded
            | Event::IncarnationStarted { .. }
            | Event::FloorRaised { .. } => None,
        }
    }

    fn branch_finished(&mut self, gid: Gid, branch: BranchId, outcome: &BranchOutcome, now: Timestamp) {
        let Some(course) = self.open.get_mut(&gid) else { return };
        let committing = course.stage == Stage::Committing;
        let Some(place) = course.branches.iter().position(|asked| asked.told && asked.branch == branch)
        else {
            return; // Repeated.
        };
        let asked = course.branches.swap_remove(place);
        asked.meter.owes_no_more();
        let (call, detail) = match (committing, outcome) {
            (true, BranchOutcome::Committed) => (Call::CommitFinished, "committed"),
            (false, BranchOutcome::Aborted) => (Call::AbortFinished, "aborted"),
            (true, BranchOutcome::Aborted) => (Call::CommitHeuristic, "aborted, against the decision"),
            (false, BranchOutcome::Committed) => (Call::AbortHeuristic, "committed, against the decision"),
            (true, BranchOutcome::Heuristic(how)) => (Call::CommitHeuristic, heuristic(*how)),
            (false, BranchOutcome::Heuristic(how)) => (Call::AbortHeuristic, heuristic(*how)),
        };
        asked.meter.count(call);
        let name = if committing { "commit" } else { "abort" };
        let error = matches!(call, Call::CommitHeuristic | Call::AbortHeuristic).then_some(detail);
        self.trace(gid, |traced, spans| traced.end(name, Some(branch), detail, error, spans, now));
        self.note(gid, Kind::Finished, Some(branch), Detail::Plain(detail), now);
    }

    fn branch_failed(&mut self, gid: Gid, branch: BranchId, error: &Arc<str>, now: Timestamp) {
        let Some(course) = self.open.get(&gid) else { return };
        let Some(Asked { meter, sent, .. }) = course.asked(branch) else { return };
        let committing = course.stage == Stage::Committing;
        meter.count(if committing { Call::CommitFailed } else { Call::AbortFailed });
        if sent.is_power_of_two() {
            self.note(gid, Kind::Failed, Some(branch), Detail::Text(Arc::clone(error)), now);
        }
    }

    fn register_answered(&mut self, gid: Gid, branch: BranchId, answer: &RegisterAnswer, now: Timestamp) {
        let (call, kind, detail) = match answer {
            RegisterAnswer::Committed => {
                (Call::RegisterCommitted, Kind::Decided, "commit, by its own database")
            }
            RegisterAnswer::Aborted(_) => {
                (Call::RegisterAborted, Kind::Decided, "abort, by its own database")
            }
            RegisterAnswer::Unknown => {
                (Call::RegisterUnknown, Kind::Failed, "its own database could not be asked")
            }
            RegisterAnswer::Forgotten => {
                (Call::RegisterForgotten, Kind::Failed, "its own database has forgotten it")
            }
        };
        if let Some(asked) = self.open.get(&gid).and_then(|course| course.asked(branch)) {
            asked.meter.count(call);
            self.trace(gid, |traced, spans| {
                let error = (kind == Kind::Failed).then_some(detail);
                traced.end("prepare", Some(branch), detail, error, spans, now);
            });
            self.note(gid, kind, Some(branch), Detail::Plain(detail), now);
        }
    }

    fn proposal_answered(
        &mut self,
        id: TransactionId,
        proposed: Decision,
        result: &ProposalResult,
        now: Timestamp,
    ) {
        let (kind, detail, stands) = match result {
            ProposalResult::Won => (Kind::Decided, decided(proposed), Some(proposed)),
            ProposalResult::Lost(record) if record.id != id => {
                (Kind::Decided, "abort: its gid is another transaction's", Some(Decision::Abort))
            }
            ProposalResult::Lost(record) if record.decision == Decision::Commit => {
                (Kind::Decided, "commit, which stood in the log already", Some(Decision::Commit))
            }
            ProposalResult::Lost(_) => {
                (Kind::Decided, "abort, which stood in the log already", Some(Decision::Abort))
            }
            ProposalResult::Fenced => (Kind::Failed, "our incarnation had been ended: it is closed", None),
            ProposalResult::Forgotten => (Kind::Failed, "the log has forgotten it", None),
            ProposalResult::Doubted => (Kind::Failed, "held: the log went back in time", None),
            ProposalResult::Unknown => (Kind::Failed, "the log's answer was lost", None),
        };
        if let Some(course) = self.open.get_mut(&id.gid) {
            if stands == Some(Decision::Commit) && course.stage == Stage::Deciding {
                self.meter.took(Phase::Decide, now.since(course.since));
                let took = now.since(course.prepared);
                self.meter.took(Phase::Commit, took);
                self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
                course.enter(Stage::Committing, now);
                if course.own {
                    course.counted = true;
                    self.meter.ended(Ended::Committed);
                }
            }
            if stands.is_some() {
                self.trace(id.gid, |traced, spans| traced.end("decide", None, detail, None, spans, now));
            }
            self.note(id.gid, kind, None, Detail::Plain(detail), now);
        }
    }
}

const fn decided(decision: Decision) -> &'static str {
    match decision {
        Decision::Commit => "commit",
        Decision::Abort => "abort",
    }
}

const fn heuristic(how: HeuristicOutcome) -> &'static str {
    match how {
        HeuristicOutcome::Committed => "committed, without the decision",
        HeuristicOutcome::Aborted => "aborted, without the decision",
        HeuristicOutcome::Mixed => "in part committed and in part aborted",
        HeuristicOutcome::Hazard => "nobody can tell how",
    }
}
