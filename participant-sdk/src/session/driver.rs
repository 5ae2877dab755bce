//! The one task that owns the participant's core: facts in, orders out, in order.
//!
//! It waits for nothing but its inputs, so that no slow coordinator and no slow hook delays another:
//! hooks run in tasks of their own and report back; a message goes into the session's outbox or,
//! if that is full, ends the session. It decides nothing about votes and decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pactum_core::coordinator::RegisterAnswer;
use pactum_core::id::{Branch, Incarnation, PreparedName, ResourceName, TransactionId};
use pactum_core::outcome::Decision;
use pactum_core::participant::{BranchKey, Command, Event, Participant, SessionId};
use pactum_core::vote::{AbortKind, AbortReason, Vote};
use pactum_proto::v1;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::sleep_until;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, error, info_span, warn};

use super::enlists::Enlists;
use super::hooks::{self, DynResource, Hook};
use super::owners::Owners;
use super::wire::{self, Clock, Incoming, Welcome};
use super::{Input, Shared};
use crate::observe::{Observer, Step};
use crate::participant::EnlistError;
use crate::resource::BranchContext;

/// Inputs taken in before the orders that follow are carried out.
const INPUTS_MAX: usize = 1024;

/// Prepare hooks of one resource that run at once; more wait. Hooks of phase 2 are not counted: what waits for
/// a lock must not keep its holder from ending.
const PREPARES_MAX: usize = 1024;

/// A stream that can be sent on.
#[derive(Debug)]
struct Peer {
    place: usize,
    incarnation: Option<Incarnation>,
    outbox: mpsc::Sender<v1::ParticipantMessage>,
}

/// The driver and all that it owns.
pub(crate) struct Driver {
    core: Participant,
    clock: Clock,
    shared: Arc<Shared>,
    resources: BTreeMap<ResourceName, Arc<dyn DynResource>>,
    observer: Observer,
    tasks: TaskTracker,
    prepares: BTreeMap<ResourceName, Arc<Semaphore>>,
    peers: BTreeMap<SessionId, Peer>,
    /// Which incarnation each address served last.
    served: BTreeMap<usize, Incarnation>,
    owners: Owners,
    /// Whose turn it is to be asked where the owner cannot be.
    turn: usize,
    enlists: Enlists,
    /// Enlisted branches that no hook has been ordered for: to be ended when the participant stops.
    open: BTreeSet<BranchKey>,
    /// Hooks whose end has not been heard.
    running: usize,
    /// Set while stopping: told when no hook runs.
    idle: Option<oneshot::Sender<()>>,
    stopping: bool,
}

impl Driver {
    pub(crate) fn new(
        core: Participant,
        clock: Clock,
        shared: Arc<Shared>,
        resources: &[Arc<dyn DynResource>],
        observer: Observer,
        tasks: TaskTracker,
        owner_grace: Duration,
    ) -> Self {
        let named = resources.iter().map(|resource| (resource.name().clone(), Arc::clone(resource)));
        Self {
            core,
            clock,
            shared,
            resources: named.collect(),
            observer,
            tasks,
            prepares: resources.iter().map(prepares_of).collect(),
            peers: BTreeMap::new(),
            served: BTreeMap::new(),
            owners: Owners::new(owner_grace),
            turn: 0,
            enlists: Enlists::default(),
            open: BTreeSet::new(),
            running: 0,
            idle: None,
            stopping: false,
        }
    }

    /// Serves until the participant has stopped.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let stop = self.shared.stop.clone();
        let mut taken = Vec::new();
        loop {
            let due = self.next_due();
            let alarm = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                _ = inputs.recv_many(&mut taken, INPUTS_MAX) => {
                    for input in taken.drain(..) {
                        self.take_in(input);
                    }
                }
                () = alarm => {}
            }
            self.alarm();
            self.carry_out();
            if self.running == 0
                && let Some(idle) = self.idle.take()
            {
                // Whoever stops us may have lost patience.
                idle.send(()).ok();
            }
        }
        self.enlists.stop();
    }

    fn next_due(&self) -> Option<Instant> {
        let core = self.core.poll_timeout().map(|at| self.clock.instant(at));
        [core, self.enlists.next_due(), self.owners.next_due()].into_iter().flatten().min()
    }

    /// Acts on what is due.
    fn alarm(&mut self) {
        let now = Instant::now();
        for due in self.enlists.take_due(now) {
            match due {
                Ok(key) => self.send_enlist(key),
                Err(key) => self.tell(Event::EnlistRefused { key }),
            }
        }
        if self.owners.take_due(now) {
            // A scan finds what is prepared, and the core asks about it, whoever owns it.
            debug!("an owner's stream has been gone for its grace: asking about what is prepared");
            self.shared.attached.send_modify(|times| *times += 1);
        }
        if self.core.poll_timeout().is_some_and(|at| at <= self.clock.at(now)) {
            self.core.handle_timeout(self.clock.at(now));
        }
    }

    fn take_in(&mut self, input: Input) {
        match input {
            Input::Attached { session, place, welcome, outbox } => {
                self.peers.insert(session, Peer { place, incarnation: welcome.incarnation, outbox });
                self.welcomed(place, &welcome);
            }
            // A session that is gone is not heard any more.
            Input::Came { session, messages } => {
                for message in messages {
                    if self.peers.contains_key(&session) {
                        self.message(session, message);
                    }
                }
            }
            Input::Detached { session } => self.detached(session),
            Input::HookEnded(event) => {
                self.running -= 1;
                self.tell(event);
            }
            Input::Found(events) => {
                for event in events {
                    self.tell(event);
                }
            }
            Input::Enlist { id, resource, branch, deadline, reply } => {
                let key = BranchKey { id, branch };
                let Some(registration) = self.shared.registration(&resource) else {
                    reply.send(Err(EnlistError::UnknownResource { resource })).ok();
                    return;
                };
                if self.stopping {
                    reply.send(Err(EnlistError::Stopping)).ok();
                    return;
                }
                let branch = Branch {
                    id: branch,
                    resource,
                    instance: self.shared.instance,
                    marker: registration.marker,
                };
                if self.enlists.add(key, branch.clone(), deadline, reply) {
                    self.observer.see(&Step::WorkDone { gid: id.gid, branch: key.branch });
                    self.open.insert(key);
                    self.tell(Event::Enlisted { branch, id, deadline: self.clock.at(deadline) });
                    self.send_enlist(key);
                }
            }
            Input::Stop { idle } => {
                self.stopping = true;
                self.idle = Some(idle);
                self.enlists.stop();
                for key in std::mem::take(&mut self.open) {
                    self.tell(Event::EnlistRefused { key });
                }
            }
        }
    }

    fn message(&mut self, session: SessionId, message: Incoming) {
        match message {
            Incoming::Welcome(welcome) => {
                if let Some(peer) = self.peers.get_mut(&session) {
                    peer.incarnation = welcome.incarnation;
                    let place = peer.place;
                    self.welcomed(place, &welcome);
                }
            }
            Incoming::EnlistAnswer { call_id, refusal } => {
                if let Some(key) = self.enlists.answered(session, call_id, refusal, Instant::now()) {
                    self.tell(Event::EnlistRefused { key });
                }
            }
            Incoming::Fact(event) => {
                if self.observer.looks() {
                    self.see_fact(&event);
                }
                self.tell(event);
            }
        }
    }

    fn see_fact(&self, event: &Event) {
        let step = match event {
            Event::PrepareReceived { id, branch, .. } => {
                Step::PrepareReceived { gid: id.gid, branch: branch.id }
            }
            Event::CommitReceived { id, branch, .. } => {
                Step::DecisionReceived { gid: id.gid, branch: branch.id, decision: Decision::Commit }
            }
            Event::AbortReceived { id, branch, .. } => {
                Step::DecisionReceived { gid: id.gid, branch: branch.id, decision: Decision::Abort }
            }
            Event::Enlisted { .. }
            | Event::EnlistRefused { .. }
            | Event::SettleReceived { .. }
            | Event::InquiryAnswered { .. }
            | Event::FoundPrepared { .. }
            | Event::PrepareFinished { .. }
            | Event::RegisterRead { .. }
            | Event::BranchEnded { .. }
            | Event::HookFailed { .. } => return,
        };
        self.observer.see(&step);
    }

    /// Tells the core; what it orders is carried out at the end of the round.
    fn tell(&mut self, event: Event) {
        // What is illegal changed nothing. It comes of messages that overtake each other or of a
        // peer that breaks the protocol, and neither may end us.
        if let Err(illegal) = self.core.handle_event(event, self.clock.now()) {
            debug!(%illegal, "a fact that does not fit was ignored");
        }
    }

    // ---- enlistment ----------------------------------------------------------------------------

    /// An address is served by this incarnation now. If that is another one than before, the one
    /// before is gone; and so is one that coordinators had named and name no longer. Nobody waits for
    /// what those owe: their undecided transactions will not commit.
    fn welcomed(&mut self, place: usize, welcome: &Welcome) {
        let mut gone = Vec::new();
        if let Some(incarnation) = welcome.incarnation {
            self.owners.attached(incarnation);
            gone.extend(self.served.insert(place, incarnation).filter(|before| *before != incarnation));
        }
        // By all that is told: one coordinator's view may be a heartbeat older than another's.
        let told = self.shared.told.borrow().clone();
        gone.extend(self.owners.named(told.values().flatten().map(|member| member.incarnation)));
        for gone in gone {
            if !self.peers.values().any(|peer| peer.incarnation == Some(gone)) {
                self.owner_gone(gone);
            }
        }
        let waiting = welcome.incarnation.map(|incarnation| self.enlists.waiting_for(incarnation));
        for key in waiting.into_iter().flatten() {
            self.send_enlist(key);
        }
    }

    /// Nobody will ever ask for the votes of what is open here: it lets go of its locks now.
    fn owner_gone(&mut self, gone: Incarnation) {
        for key in self.enlists.owner_gone(gone) {
            self.tell(Event::EnlistRefused { key });
        }
        let of_it = self.open.extract_if(.., |key| key.id.incarnation == gone);
        for key in of_it.collect::<Vec<_>>() {
            self.tell(Event::EnlistRefused { key });
        }
    }

    fn detached(&mut self, session: SessionId) {
        let Some(peer) = self.peers.remove(&session) else { return };
        self.enlists.session_ended(session);
        if let Some(incarnation) = peer.incarnation
            && !self.peers.values().any(|other| other.incarnation == Some(incarnation))
        {
            self.owners.detached(incarnation, Instant::now());
        }
    }

    fn send_enlist(&mut self, key: BranchKey) {
        let Some(session) = self.owner(&key.id) else { return };
        if let Some(message) = self.enlists.call(key, session, Instant::now()) {
            self.send(session, message);
        }
    }

    /// The newest session with the transaction's owner.
    fn owner(&self, id: &TransactionId) -> Option<SessionId> {
        let mut owners = self.peers.iter().filter(|(_, peer)| peer.incarnation == Some(id.incarnation));
        owners.next_back().map(|(session, _)| *session)
    }

    /// Another session at each call, so that one that hangs is not asked alone.
    fn next_peer(&mut self) -> Option<SessionId> {
        self.turn = self.turn.wrapping_add(1);
        self.peers.keys().nth(self.turn % self.peers.len().max(1)).copied()
    }

    // ---- orders --------------------------------------------------------------------------------

    fn carry_out(&mut self) {
        while let Some(command) = self.core.poll_command() {
            self.order(command);
        }
    }

    fn order(&mut self, command: Command) {
        match command {
            Command::RunPrepare { id, branch, operation, deadline } => {
                let deadline = self.clock.instant(deadline);
                self.open.remove(&BranchKey { id, branch: branch.id });
                self.start(id, &branch, Some(deadline), Hook::Prepare { operation });
            }
            Command::RunOnePhase { id, branch, operation, deadline } => {
                let deadline = self.clock.instant(deadline);
                self.open.remove(&BranchKey { id, branch: branch.id });
                self.start(id, &branch, Some(deadline), Hook::OnePhase { operation });
            }
            Command::RunSettle { id, branch } => {
                self.open.remove(&BranchKey { id, branch: branch.id });
                self.start(id, &branch, None, Hook::Settle);
            }
            Command::RunCommit { id, branch, decided, prepared } => {
                self.start(id, &branch, None, Hook::Commit { decided, prepared });
            }
            Command::RunAbort { id, branch, prepared } => {
                self.open.remove(&BranchKey { id, branch: branch.id });
                self.start(id, &branch, None, Hook::Abort { prepared });
            }
            Command::SendVote { to, id, branch, vote } => self.send(to, wire::vote(id, branch, vote)),
            Command::SendFinished { to, key, outcome } => self.send(to, wire::finished(key, &outcome)),
            Command::SendFailed { to, key, error } => self.send(to, wire::failed(key, &error)),
            Command::SendRegisterAnswer { to, key, answer } => {
                self.send(to, wire::register_answer(key, answer));
            }
            Command::SendInquiry { id, branch, evidence } => {
                // Not attached: it asks again by itself.
                if let Some(to) = self.owner(&id).or_else(|| self.next_peer()) {
                    debug!(gid = %id.gid, branch = %branch.id, session = to.0, "asking for the decision");
                    self.send(to, wire::inquiry(id, branch, evidence));
                }
            }
            Command::Forget { branch, id } => self.forget(id, &branch),
            Command::ReportQuarantine { key } => {
                error!(
                    gid = %key.id.gid, branch = %key.branch,
                    "nobody can know the branch's decision any more: it stays prepared until an operator ends it"
                );
            }
            Command::ReportViolation { key, what } => {
                self.shared.violations.fetch_add(1, Ordering::Relaxed);
                error!(gid = %key.id.gid, branch = %key.branch, what, "the protocol was broken");
            }
        }
    }

    /// Puts a message into a session's outbox. If the session is gone the coordinator asks again on
    /// its next one; if it does not keep up it is ended.
    fn send(&mut self, to: SessionId, message: v1::ParticipantMessage) {
        let Some(peer) = self.peers.get(&to) else { return };
        if peer.outbox.try_send(message).is_err() {
            warn!(session = to.0, "a session does not keep up, and is ended");
            self.detached(to);
        }
    }

    fn context(
        &self,
        id: TransactionId,
        branch: &Branch,
        deadline: Option<Instant>,
    ) -> Option<BranchContext> {
        let cluster = self.shared.cluster()?;
        Some(BranchContext {
            name: PreparedName { cluster, id, branch: branch.id },
            deadline: deadline.unwrap_or_else(Instant::now),
        })
    }

    fn start(&mut self, id: TransactionId, branch: &Branch, deadline: Option<Instant>, hook: Hook) {
        self.running += 1;
        let key = BranchKey { id, branch: branch.id };
        let foreign = !branch.instance.is_nil() && branch.instance != self.shared.instance;
        let refusal = if self.stopping && matches!(hook, Hook::Prepare { .. }) {
            Some("the participant is shutting down")
        } else if foreign && matches!(hook, Hook::Prepare { .. } | Hook::OnePhase { .. }) {
            // An operation executed here too could end up committed twice.
            Some("the branch belongs to another instance of the resource")
        } else if !self.resources.contains_key(&branch.resource) {
            Some("the resource is not one of this participant's")
        } else {
            None
        };
        let (resource, context) = (self.resources.get(&branch.resource), self.context(id, branch, deadline));
        let (None, Some(resource), Some(context)) = (refusal, resource, context) else {
            let problem = refusal.unwrap_or("no coordinator has named the cluster yet");
            self.report(refused(key, &hook, problem));
            return;
        };
        let span = info_span!(
            "hook", hook = hook.name(), gid = %id.gid, branch = %branch.id, resource = %branch.resource
        );
        let (resource, observer) = (Arc::clone(resource), self.observer.clone());
        let prepares = matches!(hook, Hook::Prepare { .. } | Hook::OnePhase { .. })
            .then(|| self.prepares.get(&branch.resource).map(Arc::clone))
            .flatten();
        let inputs = self.shared.inputs.clone();
        let task = async move {
            let permit = match prepares {
                // Never closed.
                Some(prepares) => prepares.acquire_owned().await.ok(),
                None => None,
            };
            let event = hooks::run(resource, hook, context, observer).await;
            drop(permit);
            // Without a driver nobody is left to hear it: what is prepared is found by the next scan.
            inputs.send(Input::HookEnded(event)).await.ok();
        };
        self.tasks.spawn(task.instrument(span));
    }

    /// Reports the end of a hook that was not run, as if it had been.
    fn report(&self, event: Event) {
        let inputs = self.shared.inputs.clone();
        self.tasks.spawn(async move { inputs.send(Input::HookEnded(event)).await.ok() });
    }

    fn forget(&self, id: TransactionId, branch: &Branch) {
        let Some(resource) = self.resources.get(&branch.resource).map(Arc::clone) else { return };
        let Some(context) = self.context(id, branch, None) else { return };
        self.tasks.spawn(async move {
            if let Err(panic) = hooks::caught(resource.forget(&context)).await {
                error!(panic, branch = %context.name, "the forget hook panicked");
            }
        });
    }
}

/// Each resource has its own: hooks of one that hangs keep those of no other waiting.
fn prepares_of(resource: &Arc<dyn DynResource>) -> (ResourceName, Arc<Semaphore>) {
    (resource.name().clone(), Arc::new(Semaphore::new(PREPARES_MAX)))
}

/// The end of a hook that cannot be run.
fn refused(key: BranchKey, hook: &Hook, problem: &str) -> Event {
    match hook {
        Hook::Prepare { .. } => {
            let reason = AbortReason::new(AbortKind::NotAttached, problem);
            Event::PrepareFinished { key, vote: Vote::Abort(reason) }
        }
        Hook::OnePhase { .. } | Hook::Settle => Event::RegisterRead { key, answer: RegisterAnswer::Unknown },
        Hook::Commit { .. } | Hook::Abort { .. } => Event::HookFailed { key, error: problem.into() },
    }
}
