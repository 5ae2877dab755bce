//! One shard: a task that owns the live transactions of its share of gids.
//!
//! It drains its queues in batches, feeds the core, and carries out the core's orders. Nothing
//! here waits for the log or for a participant, and nothing judges a vote or a decision: every
//! order is carried out as it comes, and what happens becomes an event again.
//!
//! ```text
//!  answers of the log ─▶ own queue ───┐
//!  votes, ends ───────▶ bounded queue ┤           ┌─▶ journal (log)
//!  calls ─────────────▶ bounded queue ┼─▶ core ───┼─▶ sessions' outboxes
//!  the clock ─────────────────────────┘           └─▶ answers
//! ```
//!
//! Votes and ends come of what was admitted, so they are bounded; calls come by themselves, however many.
//! Each has its queue, and votes and ends go first: what is in flight never waits behind what is to be shed.

mod admission;
mod backlog;
mod course;
mod handle;
pub(crate) mod history;
mod inspect;

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;

use foldhash::fast::RandomState;
use pactum_core::coordinator::{Answer, Command, Coordinator, Event, Refusal, RequestId, SubmittedBranch};
use pactum_core::id::{Branch, Gid, Incarnation, InstanceId, TransactionId};
use pactum_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

pub(crate) use admission::Admission;
pub(crate) use backlog::Backlog;
pub(crate) use course::Courses;
pub(crate) use handle::{Gauge, Input, Request, Shards};
pub(crate) use inspect::{Inspect, Phases, Selection};

use crate::error::ServiceError;
use crate::journal::ShardJournal;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Reject, Shed};
use crate::observe::{Observer, Step};
use crate::registry::{Registry, Sessions};
use crate::reply::Waiting;
use crate::service::wire;
use crate::session::Sent;
use backlog::Order;

/// Inputs taken in before orders are carried out. More makes larger batches for the log under
/// load; at this size the first input's order waits well under a millisecond for the last.
const BATCH_MAX: usize = 512;

/// The last attempt that is put off while we are behind. With the usual pauses the next one comes after about a
/// second.
const PUT_OFF_MAX: u32 = 4;

/// Why something is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Something was heard.
    Told,
    /// It is time.
    Clock,
}

/// One shard, before its task runs.
pub(crate) struct Shard {
    pub(crate) core: Coordinator,
    /// What participants say, and what is asked of transactions that are open.
    pub(crate) inputs: mpsc::Receiver<Input>,
    /// Calls of applications, which may open transactions.
    pub(crate) calls: mpsc::Receiver<Input>,
    pub(crate) answers: mpsc::UnboundedReceiver<Event>,
    pub(crate) journal: ShardJournal,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) observer: Observer,
    pub(crate) gauge: Arc<Gauge>,
    /// What is measured and told of them.
    pub(crate) courses: Courses,
    /// Open transactions beyond this are not added to.
    pub(crate) open_max: usize,
    /// Sheds new ones while our own queues stand.
    pub(crate) admission: Admission,
    /// What the core's timestamps count from: the same for all shards.
    pub(crate) origin: Instant,
    pub(crate) waiting: HashMap<RequestId, Waiting, RandomState>,
    pub(crate) own: Option<Incarnation>,
    /// Decisions that wait for room in an outbox.
    pub(crate) backlog: Backlog,
    /// Recovered commits that have not finished.
    pub(crate) recovered: HashSet<Gid>,
    /// Counts one-shot calls, for turns.
    pub(crate) turn: usize,
}

impl Shard {
    /// Runs until the last handle is gone.
    pub(crate) async fn run(mut self) {
        let mut inputs = Vec::with_capacity(BATCH_MAX);
        let mut answers = Vec::with_capacity(BATCH_MAX);
        let mut calls = Vec::with_capacity(BATCH_MAX);
        let mut alarm = pin!(sleep_until(self.origin));
        loop {
            let timeout = self.core.poll_timeout().map(|at| self.origin + at.since_origin());
            let look = self.admission.next_look().map(|at| self.origin + at.since_origin());
            let due = [timeout, self.backlog.next_look(), look].into_iter().flatten().min();
            // One that goes off too early costs one turn. Deadlines come and go with each transaction, and to set
            // it anew for each would cost more: the runtime is woken to look at its timers.
            if let Some(due) = due
                && (due < alarm.deadline() || alarm.is_elapsed())
            {
                alarm.as_mut().reset(due);
            }
            let more = tokio::select! {
                biased;
                count = self.answers.recv_many(&mut answers, BATCH_MAX) => count > 0,
                count = self.inputs.recv_many(&mut inputs, BATCH_MAX) => count > 0,
                count = self.calls.recv_many(&mut calls, BATCH_MAX) => count > 0,
                () = self.journal.room(), if self.journal.is_waiting() => true,
                () = &mut alarm, if due.is_some() => true,
            };
            if !more {
                return;
            }
            // Whichever was ready first, the other takes part in the same batch.
            while inputs.len() < BATCH_MAX
                && let Ok(input) = self.inputs.try_recv()
            {
                inputs.push(input);
            }
            // While new transactions are shed, all calls that came are answered now: it costs little, and nobody
            // waits to be turned away.
            let is_shedding = self.admission.is_shedding();
            let calls_max = if is_shedding { self.calls.max_capacity() } else { BATCH_MAX };
            while calls.len() < calls_max
                && let Ok(call) = self.calls.try_recv()
            {
                calls.push(call);
            }
            let now = self.now();
            for event in answers.drain(..) {
                self.answered(event, now);
            }
            let waiting = inputs.len() + self.inputs.len();
            let calling = if is_shedding { 0 } else { calls.len() + self.calls.len() };
            self.look_at_queues(waiting, calling, now);
            for input in inputs.drain(..).chain(calls.drain(..)) {
                self.take(input, now);
            }
            self.carry_out(Cause::Told, now);
            self.courses.before_timeout(&self.core, now);
            self.core.handle_timeout(now);
            self.courses.after_timeout(&self.core, now);
            self.carry_out(Cause::Clock, now);
            self.hand_over(now);
            self.gauge.publish(self.core.len(), self.core.start_floor());
            self.courses.publish();
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_origin(self.origin.elapsed())
    }

    /// A fact from inside: the log, recovery.
    fn answered(&mut self, event: Event, now: Timestamp) {
        self.journal.answered(&event);
        if let Event::IncarnationStarted { incarnation } = &event {
            self.own = Some(*incarnation);
        } else if matches!(event, Event::IncarnationEnded) {
            self.own = None;
        }
        let recovered =
            if let Event::CommitRecovered { record } = &event { Some(record.id.gid) } else { None };
        self.feed(event, now);
        if let Some(gid) = recovered
            && !(self.core.attempts(gid) > 0 && self.recovered.insert(gid))
        {
            self.gauge.recovered();
        }
    }

    fn take(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::Event(event) => {
                if let Event::BranchFinished { id, branch, .. } | Event::BranchFailed { id, branch, .. } =
                    &event
                {
                    self.backlog.answered(id.gid, branch.id);
                }
                self.feed(event, now);
            }
            Input::Request(request) => self.request(request, now),
            Input::Inspect(inspect) => inspect.answer(&self.core, now),
            Input::Steps(gid, reply) => {
                if reply.send(self.courses.steps(gid)).is_err() {
                    tracing::debug!("an operator hung up");
                }
            }
        }
    }

    fn request(&mut self, request: Request, now: Timestamp) {
        let Request { gid, starts, mut event, name, to } = request;
        if let Err(error) = self.admits(gid, starts, now) {
            to.send(Err(error));
            return;
        }
        if let Event::SubmitRequested { branches, .. } = &mut event {
            self.choose_instances(branches);
        }
        self.waiting.insert(name, Waiting { gid, to });
        if !self.feed(event, now)
            && let Some(waiting) = self.waiting.remove(&name)
        {
            waiting.to.send(Err(ServiceError::Internal));
        }
    }

    /// Chooses who executes each branch of a one-shot request. Here and no sooner: if nobody is
    /// attached now, the fact that somebody has attached is still to come, and wakes the branch.
    /// Those of a resource take turns.
    fn choose_instances(&mut self, branches: &mut [SubmittedBranch]) {
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        let sessions = self.registry.sessions();
        for SubmittedBranch { branch, .. } in branches {
            let chosen = sessions.for_new(&branch.resource, turn);
            branch.instance = chosen.map_or(InstanceId::NIL, |session| session.instance);
        }
    }

    /// Whether a transaction that is not open yet may be opened now, or looked up.
    fn admits(&mut self, gid: Gid, starts: bool, now: Timestamp) -> Result<(), ServiceError> {
        let what_holds = if self.journal.looks_up_enough() {
            Some((ServiceError::shed("too many look-ups wait for the log"), Shed::Queue))
        } else if !starts {
            None
        } else if self.lifecycle.is_draining() {
            Some((ServiceError::Draining, Shed::Draining))
        } else if self.core.len() >= self.open_max {
            Some((ServiceError::shed("too many open transactions"), Shed::Transactions))
        } else {
            None
        };
        if what_holds.is_none() && !(starts && self.admission.is_shedding()) {
            return Ok(());
        }
        // What is open is in flight and is served, and what has ended is answered from memory (A5).
        if self.core.knows(gid) {
            return Ok(());
        }
        let (refusal, shed) = match what_holds {
            Some(refused) => refused,
            None => match self.admission.admit(now) {
                Ok(()) => return Ok(()),
                Err(retry_after) => {
                    let what = "new transactions would only wait behind those it has";
                    (ServiceError::Shed { what, retry_after }, Shed::Overload)
                }
            },
        };
        self.courses.metrics().shed(shed);
        Err(refusal)
    }

    /// Tells the admission how long our queues are; so many `inputs` and `calls` waited before this turn.
    fn look_at_queues(&mut self, inputs: usize, calls: usize, now: Timestamp) {
        let was_shedding = self.admission.is_shedding();
        self.admission.turn(
            now,
            admission::Seen {
                inputs,
                calls,
                voting: self.courses.voting(),
                unanswered: self.journal.unanswered(),
                answered: self.journal.proposals_answered(),
                quickest: self.courses.quickest_commit(),
                held_back: self.gauge.is_held_back(),
            },
        );
        let is_shedding = self.admission.is_shedding();
        if is_shedding != was_shedding {
            self.gauge.publish_overload(is_shedding);
            let backlog = self.admission.backlog();
            if is_shedding {
                tracing::warn!(backlog, "overloaded: new transactions are shed");
            } else {
                tracing::info!(backlog, "overloaded no more");
            }
        }
    }

    /// Tells the core a fact; answers whether it was legal.
    fn feed(&mut self, event: Event, now: Timestamp) -> bool {
        if let Some(step) = Step::told_by(&event) {
            self.observer.saw(step);
        }
        let (of, before) = (self.courses.saw(&event, now), self.core.len());
        let told = self.core.handle_event(event, now);
        self.courses.compare(of, self.own, before, &self.core, now);
        match told {
            Ok(()) => true,
            Err(error) => {
                self.gauge.count_violation();
                tracing::error!(gid = %error.id.gid, %error, "contract broken");
                false
            }
        }
    }

    /// Carries out every order, and those that follow from them.
    fn carry_out(&mut self, cause: Cause, now: Timestamp) {
        let registry = Arc::clone(&self.registry);
        let sessions = registry.sessions();
        while let Some(command) = self.core.poll_command() {
            if cause == Cause::Clock && self.is_put_off(&command, &sessions) {
                continue;
            }
            self.courses.ordered(&command, now);
            match command {
                Command::SendPrepare { id, branch, operation, one_phase, time_left, details } => {
                    let _span = branch_span(id, &branch).entered();
                    let target = sessions.of_instance(branch.instance, &branch.resource);
                    let sent = target.is_some_and(|session| {
                        let traceparent = self.courses.traceparent(id.gid, branch.id);
                        let traceparent = traceparent.as_deref().unwrap_or(&details.traceparent);
                        let (branch, operation) = (&branch, operation.as_ref());
                        let prepare = wire::prepare(id, branch, operation, one_phase, time_left, traceparent);
                        if self.core.attempts(id.gid) > 1 {
                            session.repeat(prepare)
                        } else {
                            session.send(prepare)
                        }
                    });
                    if sent {
                        tracing::debug!("prepare sent");
                        self.observer.saw(Step::PrepareSent { gid: id.gid, branch: branch.id });
                    } else {
                        self.feed(Event::PrepareNotSent { id, branch: branch.id }, now);
                    }
                }
                Command::SendCommit { id, branch, evidence } => {
                    self.deliver(Order { id, branch, commit: Some(evidence) }, &sessions, now);
                }
                Command::SendAbort { id, branch } => {
                    self.deliver(Order { id, branch, commit: None }, &sessions, now);
                }
                Command::SendSettle { id, branch } => {
                    let _span = branch_span(id, &branch).entered();
                    // Any instance may ask the register, and one may hang: each attempt another one.
                    let turn = usize::try_from(self.core.attempts(id.gid)).unwrap_or(0);
                    if let Some(session) = sessions.for_commit(&branch, turn) {
                        session.send(wire::settle(id, &branch));
                    }
                }
                Command::Propose { record } => {
                    let (gid, decision) = (record.id.gid, record.decision);
                    self.observer.saw(Step::DecisionHandedOver { gid, decision });
                    self.journal.propose(record, self.own);
                }
                Command::LookUp { id, request } => self.journal.look_up(id, request),
                Command::Reply { request, answer } => self.reply(request, answer),
                Command::RecordUndecided { id, branches, details, age } => {
                    tracing::info!(gid = %id.gid, ?age, "still undecided");
                    self.journal.undecided(id, branches, &details, age);
                }
                Command::ForgetUndecided { gid } => self.journal.forget_undecided(gid),
                Command::RecordFinished { id } => {
                    if self.recovered.remove(&id.gid) {
                        self.gauge.recovered();
                    }
                    self.journal.finished(id);
                    self.observer.saw(Step::EndRecorded { gid: id.gid });
                }
                Command::RecordHeuristic { id, branch, outcome } => {
                    let _span = branch_span(id, &branch).entered();
                    tracing::error!(?outcome, "a branch ended without the decision");
                    self.journal.heuristic(id, branch, outcome);
                }
                Command::ReportViolation { id, what } => {
                    self.gauge.count_violation();
                    tracing::error!(gid = %id.gid, what, "contract broken");
                }
            }
        }
    }

    /// Hands over what was ordered: decisions that have room now, and records to the log.
    fn hand_over(&mut self, now: Timestamp) {
        let registry = Arc::clone(&self.registry);
        let sessions = registry.sessions();
        let Self { backlog, core, .. } = self;
        let released = backlog.release(&sessions, |gid| core.attempts(gid), Instant::now());
        for order in &released {
            let attempt = self.core.attempts(order.id.gid);
            self.decision_sent(order, &sessions, attempt, now);
        }
        drop(sessions);
        self.journal.hand_over();
    }

    /// Whether an order repeats what its participant was told a moment ago, and only because all are slow: a stream
    /// loses nothing, and to say everything twice would make them slower still, so slow that it stays so. One
    /// to an instance that has come back is no repetition: it is caused by that and not by the clock.
    fn is_put_off(&self, command: &Command, sessions: &Sessions) -> bool {
        let (Command::SendPrepare { id, branch, .. }
        | Command::SendCommit { id, branch, .. }
        | Command::SendAbort { id, branch }) = command
        else {
            return false;
        };
        let is_prepare = matches!(command, Command::SendPrepare { .. });
        // The core is to be told that nobody is there to prepare it.
        let is_sent = !is_prepare || sessions.of_instance(branch.instance, &branch.resource).is_some();
        self.admission.is_behind() && is_sent && (2..=PUT_OFF_MAX).contains(&self.core.attempts(id.gid))
    }

    /// Sends a decision, or keeps it until its participant has read more. If nobody is there it is
    /// dropped: the core orders it again.
    fn deliver(&mut self, order: Order, sessions: &Sessions, now: Timestamp) {
        let attempt = self.core.attempts(order.id.gid);
        let recovering = self.recovered.len();
        if self.backlog.is_in_hand(&order, sessions, attempt, recovering, now) {
            return;
        }
        // What was decided just now does not wait behind what a recovery or an outage left.
        let is_new = attempt <= 1 && Some(order.id.incarnation) == self.own;
        match self.backlog.limit_for(&order, is_new).map(|below| order.send(sessions, attempt, below)) {
            Some(Sent::Yes) => self.decision_sent(&order, sessions, attempt, now),
            Some(Sent::No) => self.courses.not_delivered(&order.branch, order.decision()),
            Some(Sent::Later) | None => {
                self.courses.metrics().outbox_rejected(Reject::Later);
                self.backlog.push(order, Instant::now());
            }
        }
    }

    fn decision_sent(&mut self, order: &Order, sessions: &Sessions, attempt: u32, now: Timestamp) {
        let Order { id, branch, .. } = order;
        if self.recovered.contains(&id.gid) {
            self.backlog.taken(order, sessions, attempt, self.recovered.len(), now);
        }
        let _span = branch_span(*id, branch).entered();
        let decision = order.decision();
        tracing::debug!(?decision, "decision sent");
        self.observer.saw(Step::DecisionSent { gid: id.gid, branch: branch.id, decision });
    }

    fn reply(&mut self, request: RequestId, answer: Answer) {
        let Some(Waiting { gid, to }) = self.waiting.remove(&request) else {
            self.gauge.count_violation();
            tracing::error!(request = request.0, ?answer, "an answer that nobody asked for");
            return;
        };
        let tells = to.tells_an_application();
        to.send(if answer == Answer::Refused(Refusal::LogUnavailable) {
            self.courses.metrics().shed(Shed::Log);
            let why = self.lifecycle.log_problem();
            Err(ServiceError::LogAway { why: why.as_deref().unwrap_or("it has just come back").to_owned() })
        } else {
            Ok(answer)
        });
        if tells {
            self.observer.saw(Step::ClientAnswered { gid });
        }
    }
}

/// What happens to one branch, with the names that a search goes by.
fn branch_span(id: TransactionId, branch: &Branch) -> tracing::Span {
    tracing::info_span!("branch", gid = %id.gid, branch = %branch.id, resource = %branch.resource)
}
