//! The one task that owns the participant's core: facts in, orders out, in order.
//!
//! It waits for nothing but its inputs, so that no slow coordinator and no slow hook delays another:
//! hooks run in other tasks and report back; a message goes into the session's outbox or,
//! if that is full, ends the session. It decides nothing about votes and decisions. This file takes in;
//! `driver/orders.rs` carries out.

mod orders;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pactum_core::id::{Branch, Cluster, Incarnation, ResourceName};
use pactum_core::outcome::Decision;
use pactum_core::participant::{BranchKey, Event, Participant, SessionId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::enlists::Enlists;
use super::hooks::{Due, DynResource, Runner};
use super::inquiries::Inquiries;
use super::operators::Operators;
use super::owners::Owners;
use super::peers::{Peer, Peers};
use super::wire::{self, Clock, Incoming, Welcome};
use super::{Input, Shared};
use crate::context::is_traceparent;
use crate::observe::{Observer, Step};
use crate::participant::EnlistError;

/// Inputs taken in before the orders that follow are carried out.
const INPUTS_MAX: usize = 1024;

/// One resource, and what was ordered of it in this round.
struct Served {
    runner: Arc<Runner>,
    round: Vec<Due>,
}

/// The driver and all that it owns.
pub(crate) struct Driver {
    core: Participant,
    clock: Clock,
    /// When this round began: the time of all that happens in it.
    now: Instant,
    shared: Arc<Shared>,
    /// The cluster, once it is known; it stays the same.
    cluster: Option<Cluster>,
    resources: BTreeMap<ResourceName, Served>,
    observer: Observer,
    peers: Peers,
    owners: Owners,
    inquiries: Inquiries,
    enlists: Enlists,
    operators: Operators,
    /// Enlisted branches that no hook has been ordered for: to be ended when the participant stops.
    open: BTreeSet<BranchKey>,
    /// Of the Prepares that came in this round: for the spans of their hooks.
    traceparents: BTreeMap<BranchKey, String>,
    /// The ends of hooks that cannot be run, to be told to the core.
    refused: Vec<Event>,
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
        let served = resources.iter().map(|resource| {
            let (observer, inputs) = (observer.clone(), shared.inputs.clone());
            let runner = Runner::new(Arc::clone(resource), observer, tasks.clone(), inputs);
            (runner.name().clone(), Served { runner: Arc::new(runner), round: Vec::new() })
        });
        let resources_served = served.collect();
        Self {
            core,
            clock,
            now: Instant::now(),
            inquiries: Inquiries::new(Arc::clone(&shared)),
            operators: Operators::new(Arc::clone(&shared), tasks, resources),
            cluster: None,
            resources: resources_served,
            shared,
            observer,
            peers: Peers::default(),
            owners: Owners::new(owner_grace),
            enlists: Enlists::default(),
            open: BTreeSet::new(),
            traceparents: BTreeMap::new(),
            refused: Vec::new(),
            running: 0,
            idle: None,
            stopping: false,
        }
    }

    /// Serves until the participant has stopped.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let stop = self.shared.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        let mut draining = self.shared.draining.subscribe();
        let mut alarm = pin!(sleep_until(Instant::now()));
        let mut taken = Vec::new();
        loop {
            let due = self.next_due();
            // One that goes off too early costs one turn. Deadlines come and go with each branch, and to set
            // it anew for each would cost more.
            if let Some(due) = due
                && (due < alarm.deadline() || alarm.is_elapsed())
            {
                alarm.as_mut().reset(due);
            }
            let mut changed = false;
            tokio::select! {
                () = &mut stopped => break,
                _ = inputs.recv_many(&mut taken, INPUTS_MAX) => {}
                () = &mut alarm, if due.is_some() => {}
                Ok(()) = draining.changed() => changed = true,
            }
            self.now = Instant::now();
            for input in taken.drain(..) {
                self.take_in(input);
            }
            if changed {
                let draining = *draining.borrow_and_update();
                self.tell_draining(draining);
            }
            self.alarm();
            self.carry_out();
            // Whichever was not taken was of a Prepare that runs nothing.
            self.traceparents.clear();
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
        let now = self.now;
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
                if self.shared.is_draining() {
                    self.send(session, wire::operators::draining(true));
                }
                self.welcomed(place, &welcome);
            }
            // A session that is gone is not heard any more.
            Input::Came { session, messages } => {
                for message in messages {
                    if self.peers.contains(session) {
                        self.message(session, message);
                    }
                }
            }
            Input::Detached { session } => self.detached(session),
            Input::HooksEnded(events) => {
                for event in events {
                    self.hook_ended(event);
                }
            }
            Input::Found(events) => {
                for event in events {
                    self.tell(event);
                }
            }
            Input::Answered { to, message } => self.send(to, message),
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
                if self.shared.is_draining() {
                    reply.send(Err(EnlistError::Draining)).ok();
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
                if let Some(place) = self.peers.renamed(session, welcome.incarnation) {
                    self.welcomed(place, &welcome);
                }
            }
            Incoming::EnlistAnswer { call_id, refusal } => {
                if let Some(key) = self.enlists.answered(session, call_id, refusal, self.now) {
                    self.tell(Event::EnlistRefused { key });
                }
            }
            Incoming::Prepare { key, event, traceparent } => {
                if is_traceparent(&traceparent) {
                    self.traceparents.insert(key, traceparent);
                }
                self.message(session, Incoming::Fact(event));
            }
            Incoming::Fact(event) => {
                if self.observer.looks() {
                    self.see_fact(&event);
                }
                self.tell(event);
            }
            Incoming::Examine(examine) => {
                let open = &self.open;
                if let Some(answer) = self.operators.examine(session, examine, |key| open.contains(key)) {
                    self.send(session, answer);
                }
            }
            Incoming::Overrule(overrule) => {
                if let Some(answer) = self.operators.overrule(session, overrule) {
                    self.send(session, answer);
                }
            }
            Incoming::SetDraining(draining) => {
                // A change is told on every stream, the asker's included.
                let before = self.shared.is_draining();
                self.shared.set_draining(draining);
                if before == draining {
                    self.send(session, wire::operators::draining(draining));
                }
            }
        }
    }

    fn hook_ended(&mut self, event: Event) {
        self.running -= 1;
        self.tell(event);
    }

    /// Says on every stream whether new branches are taken.
    fn tell_draining(&mut self, draining: bool) {
        info!(draining, "whether new branches are taken has changed");
        for session in self.peers.sessions() {
            self.send(session, wire::operators::draining(draining));
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
        if let Err(illegal) = self.core.handle_event(event, self.clock.at(self.now)) {
            debug!(%illegal, "a fact that does not fit was ignored");
        }
    }

    /// An address is served by this incarnation now. If that is another one than before, the one
    /// before is gone; and so is one that coordinators had named and name no longer. Nobody waits for
    /// what those owe: their undecided transactions will not commit.
    fn welcomed(&mut self, place: usize, welcome: &Welcome) {
        let mut gone = Vec::new();
        if let Some(incarnation) = welcome.incarnation {
            self.owners.attached(incarnation);
            gone.extend(self.peers.served(place, incarnation));
        }
        // By all that is told: one coordinator's view may be a heartbeat older than another's.
        let told = self.shared.told.borrow().clone();
        gone.extend(self.owners.named(told.values().flatten().map(|member| member.incarnation)));
        for gone in gone {
            if !self.peers.lead_to(gone) {
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
        let Some(peer) = self.peers.remove(session) else { return };
        self.enlists.session_ended(session);
        let Some(incarnation) = peer.incarnation else { return };
        if self.peers.lead_to(incarnation) {
            // Two addresses led to the owner. The other stream was welcomed while the answers were
            // still owed on this one, so nothing else will send these again.
            for key in self.enlists.waiting_for(incarnation) {
                self.send_enlist(key);
            }
        } else {
            self.owners.detached(incarnation, self.now);
        }
    }

    fn send_enlist(&mut self, key: BranchKey) {
        let Some(session) = self.peers.owner(key.id.incarnation) else { return };
        if let Some(message) = self.enlists.call(key, session, self.now) {
            self.send(session, message);
        }
    }
}
