//! One shard: a task that owns the live transactions of its share of gids.
//!
//! It drains its inputs in batches, feeds the core, and carries out the core's orders. Nothing
//! here waits for the log or for a participant, and nothing judges a vote or a decision: every
//! order is carried out as it comes, and what happens becomes an event again.
//!
//! ```text
//!  requests, votes ─▶ bounded queue ─┐           ┌─▶ journal (log)
//!  answers of the log ─▶ own queue ──┼─▶ core ───┼─▶ sessions' outboxes
//!  the clock ────────────────────────┘           └─▶ answers
//! ```

mod handle;
mod inspect;

use std::collections::HashMap;
use std::sync::Arc;

use pactum_core::coordinator::{Command, Coordinator, Event, RequestId, SubmittedBranch};
use pactum_core::id::{Branch, Gid, Incarnation, InstanceId, TransactionId};
use pactum_core::outcome::Decision;
use pactum_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

pub(crate) use handle::{Gauge, Input, Request, Shards};
pub(crate) use inspect::{Inspect, Selection};

use crate::error::ServiceError;
use crate::journal::ShardJournal;
use crate::lifecycle::Lifecycle;
use crate::observe::{Observer, Step};
use crate::registry::Registry;
use crate::reply::Waiting;
use crate::service::wire;

/// Inputs taken in before orders are carried out. More makes larger batches for the log under
/// load; at this size the first input's order waits well under a millisecond for the last.
const BATCH_MAX: usize = 512;

/// One shard, before its task runs.
pub(crate) struct Shard {
    pub(crate) core: Coordinator,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) answers: mpsc::UnboundedReceiver<Event>,
    pub(crate) journal: ShardJournal,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) observer: Observer,
    pub(crate) gauge: Arc<Gauge>,
    /// Open transactions beyond this are not added to.
    pub(crate) open_max: usize,
    /// What the core's timestamps count from: the same for all shards.
    pub(crate) origin: Instant,
    pub(crate) waiting: HashMap<RequestId, Waiting>,
    pub(crate) own: Option<Incarnation>,
}

impl Shard {
    /// Runs until the last handle is gone.
    pub(crate) async fn run(mut self) {
        let mut inputs = Vec::with_capacity(BATCH_MAX);
        let mut answers = Vec::with_capacity(BATCH_MAX);
        loop {
            let due = self.core.poll_timeout().map(|at| self.origin + at.since_origin());
            let more = tokio::select! {
                biased;
                count = self.answers.recv_many(&mut answers, BATCH_MAX) => count > 0,
                count = self.inputs.recv_many(&mut inputs, BATCH_MAX) => count > 0,
                () = self.journal.room(), if self.journal.is_waiting() => true,
                () = async { sleep_until(due.unwrap_or(self.origin)).await }, if due.is_some() => true,
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
            let now = self.now();
            for event in answers.drain(..) {
                self.answered(event, now);
            }
            for input in inputs.drain(..) {
                self.take(input, now);
            }
            self.core.handle_timeout(now);
            self.carry_out(now);
            self.gauge.publish(self.core.len(), self.core.start_floor());
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_origin(self.origin.elapsed())
    }

    /// A fact from inside: the log, recovery.
    fn answered(&mut self, event: Event, now: Timestamp) {
        if let Event::IncarnationStarted { incarnation } = &event {
            self.own = Some(*incarnation);
        } else if matches!(event, Event::IncarnationEnded) {
            self.own = None;
        }
        self.feed(event, now);
    }

    fn take(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::Event(event) => {
                self.feed(event, now);
            }
            Input::Request(request) => self.request(request, now),
            Input::Inspect(inspect) => inspect.answer(&self.core, now),
        }
    }

    fn request(&mut self, request: Request, now: Timestamp) {
        let Request { gid, starts, mut event, name, to } = request;
        if starts && let Err(error) = self.admits(gid, now) {
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
    fn choose_instances(&self, branches: &mut [SubmittedBranch]) {
        let sessions = self.registry.sessions();
        for SubmittedBranch { branch, .. } in branches {
            branch.instance =
                sessions.any(&branch.resource).map_or(InstanceId::NIL, |session| session.instance);
        }
    }

    /// Whether a transaction that is not open yet may be opened now.
    fn admits(&self, gid: Gid, now: Timestamp) -> Result<(), ServiceError> {
        let refusal = if self.lifecycle.is_draining() {
            ServiceError::Draining
        } else if self.core.len() >= self.open_max {
            ServiceError::Shed { what: "too many open transactions" }
        } else {
            return Ok(());
        };
        // What is open already is in flight, and is served.
        if self.core.transaction(gid, now).is_some() { Ok(()) } else { Err(refusal) }
    }

    /// Tells the core a fact; answers whether it was legal.
    fn feed(&mut self, event: Event, now: Timestamp) -> bool {
        if let Some(step) = Step::told_by(&event) {
            self.observer.saw(step);
        }
        match self.core.handle_event(event, now) {
            Ok(()) => true,
            Err(error) => {
                self.gauge.count_violation();
                tracing::error!(gid = %error.id.gid, %error, "contract broken");
                false
            }
        }
    }

    /// Carries out every order, and those that follow from them.
    fn carry_out(&mut self, now: Timestamp) {
        let registry = Arc::clone(&self.registry);
        let sessions = registry.sessions();
        while let Some(command) = self.core.poll_command() {
            match command {
                Command::SendPrepare { id, branch, operation, one_phase, time_left, details } => {
                    let _span = branch_span(id, &branch).entered();
                    let target = sessions.of_instance(branch.instance, &branch.resource);
                    let sent = target.is_some_and(|session| {
                        session.send(wire::prepare(id, &branch, operation, one_phase, time_left, &details))
                    });
                    if sent {
                        tracing::debug!("prepare sent");
                        self.observer.saw(Step::PrepareSent { gid: id.gid, branch: branch.id });
                    } else {
                        self.feed(Event::PrepareNotSent { id, branch: branch.id }, now);
                    }
                }
                Command::SendCommit { id, branch, evidence } => {
                    let _span = branch_span(id, &branch).entered();
                    let sent = sessions
                        .of_branch(&branch)
                        .is_some_and(|session| session.send(wire::commit(id, &branch, &evidence)));
                    self.decision_sent(sent, id.gid, branch.id, Decision::Commit);
                }
                Command::SendAbort { id, branch } => {
                    let _span = branch_span(id, &branch).entered();
                    let sent = sessions
                        .of_branch(&branch)
                        .is_some_and(|session| session.send(wire::abort(id, &branch)));
                    self.decision_sent(sent, id.gid, branch.id, Decision::Abort);
                }
                Command::SendSettle { id, branch } => {
                    let _span = branch_span(id, &branch).entered();
                    if let Some(session) = sessions.of_branch(&branch) {
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
        drop(sessions);
        self.journal.hand_over();
    }

    fn decision_sent(&self, sent: bool, gid: Gid, branch: pactum_core::id::BranchId, decision: Decision) {
        if sent {
            tracing::debug!(?decision, "decision sent");
            self.observer.saw(Step::DecisionSent { gid, branch, decision });
        }
    }

    fn reply(&mut self, request: RequestId, answer: pactum_core::coordinator::Answer) {
        let Some(Waiting { gid, to }) = self.waiting.remove(&request) else {
            self.gauge.count_violation();
            tracing::error!(request = request.0, ?answer, "an answer that nobody asked for");
            return;
        };
        let tells = to.tells_an_application();
        to.send(Ok(answer));
        if tells {
            self.observer.saw(Step::ClientAnswered { gid });
        }
    }
}

/// What happens to one branch, with the names that a search goes by.
fn branch_span(id: TransactionId, branch: &Branch) -> tracing::Span {
    tracing::info_span!("branch", gid = %id.gid, branch = %branch.id, resource = %branch.resource)
}
