//! The coordinators: the real core, in a place that may be empty, stopped, or taken by a later run.

use pactum_core_checked::coordinator::{
    self, Answer, Coordinator, InquiryAnswer, RequestId, TransactionOutcome,
};
use pactum_core_checked::id::Branch;
use pactum_core_checked::participant::BranchKey;
use pactum_core_checked::time::Timestamp;

use super::network::Asked;
use super::{Message, ParticipantNode, ToParticipant, Told, World, Write, incarnation};

/// One coordinator's place: the run that is in it, if it is up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CoordinatorNode {
    pub core: Option<Coordinator>,
    /// Which run is, or was last, in this place: the number of its incarnation.
    pub run: usize,
    /// Stopped by a signal: takes no step and hears nothing, but its writes go on.
    pub paused: bool,
}

impl World {
    /// A new run starts in an empty place: a new incarnation, to which every living one and all
    /// recovered commits are told.
    pub fn start_coordinator(&mut self, place: usize, now: Timestamp) {
        let run = self.runs;
        self.runs += 1;
        self.log.live.insert(incarnation(run));
        let core = Coordinator::new(self.scope.coordinator.clone(), Some(incarnation(run)), self.log.floor);
        self.coordinators[place] = CoordinatorNode { core: Some(core), run, paused: false };
        for other in 0..self.coordinators.len() {
            self.read_live(other, now);
        }
        self.recover(place, now);
    }

    /// The run in this place is gone, with all streams from and to it. What it wrote may still land.
    pub fn crash_coordinator(&mut self, place: usize) {
        let run = self.coordinators[place].run;
        self.coordinators[place].core = None;
        self.coordinators[place].paused = false;
        self.log.orphan(run);
        self.asked.retain(|(at, _), _| *at != place);
        self.network.retain(|message, _| match message {
            Message::ToParticipant { from, .. } => *from != run,
            Message::ToCoordinator { to, .. } => *to != run,
            Message::Commit { to, .. } | Message::Ask { to, .. } => *to != place,
        });
    }

    /// A living coordinator ends an incarnation that it takes for dead, and recovers its commits.
    pub fn end_incarnation(&mut self, run: usize, by: usize, now: Timestamp) {
        self.log.end(incarnation(run));
        for place in 0..self.coordinators.len() {
            self.read_live(place, now);
        }
        self.recover(by, now);
    }

    /// A coordinator reads which incarnations live; its own may be among the ended (H10).
    pub fn read_live(&mut self, place: usize, now: Timestamp) {
        let node = &self.coordinators[place];
        if node.core.is_none() || node.paused {
            return;
        }
        let ended = !self.log.live.contains(&incarnation(node.run));
        let live = self.log.live.clone();
        self.tell_coordinator(place, coordinator::Event::LiveIncarnationsRead { live }, now);
        if ended {
            self.tell_coordinator(place, coordinator::Event::IncarnationEnded, now);
        }
    }

    /// Reads every commit of ended incarnations that is not finished.
    pub fn recover(&mut self, place: usize, now: Timestamp) {
        let records = self.log.unfinished();
        for record in records {
            self.tell_coordinator(place, coordinator::Event::CommitRecovered { record }, now);
        }
    }

    /// A coordinator's timers fire.
    pub fn coordinator_timeout(&mut self, place: usize, now: Timestamp) {
        if let Some(core) = self.coordinators[place].core.as_mut() {
            core.handle_timeout(now);
            self.drain_coordinator(place, now);
        }
    }

    pub(crate) fn tell_coordinator(&mut self, place: usize, event: coordinator::Event, now: Timestamp) {
        let node = &mut self.coordinators[place];
        let Some(core) = node.core.as_mut() else { return };
        if node.paused {
            return;
        }
        self.encounters.at_coordinator(core, &event);
        // An illegal event leaves the core as it was; late messages may be illegal.
        let _legal = core.handle_event(event, now).is_ok();
        self.drain_coordinator(place, now);
    }

    fn drain_coordinator(&mut self, place: usize, now: Timestamp) {
        loop {
            let Some(core) = self.coordinators[place].core.as_mut() else { return };
            let Some(command) = core.poll_command() else { return };
            self.carry_out(place, command, now);
        }
    }

    fn carry_out(&mut self, place: usize, command: coordinator::Command, now: Timestamp) {
        use coordinator::Command;
        let run = self.coordinators[place].run;
        match command {
            Command::SendPrepare { id, branch, operation, one_phase, .. } => {
                // To the instance that enlisted and to no other.
                let to =
                    self.participants.iter().position(|node| node.instance() == branch.instance && node.up());
                if let Some(to) = to {
                    let execute = operation.is_some();
                    let body = ToParticipant::Prepare { id, branch, execute, one_phase };
                    self.send(Message::ToParticipant { to, from: run, body });
                } else {
                    let event = coordinator::Event::PrepareNotSent { id, branch: branch.id };
                    self.tell_coordinator(place, event, now);
                }
            }
            Command::SendCommit { id, branch, evidence } => {
                self.send_to_resource(run, &branch.clone(), ToParticipant::Commit { id, branch, evidence });
            }
            Command::SendAbort { id, branch } => {
                self.send_to_resource(run, &branch.clone(), ToParticipant::Abort { id, branch });
            }
            Command::SendSettle { id, branch } => {
                self.send_to_resource(run, &branch.clone(), ToParticipant::Settle { id, branch });
            }
            Command::Propose { record } => self.log.writes.push(Write { run: Some(run), record }),
            Command::LookUp { id, request } => {
                let result = self.log.look_up(id.gid);
                let heuristics = self.log.heuristics_of(id.gid);
                let event = coordinator::Event::LookedUp { id, request, result, heuristics };
                self.tell_coordinator(place, event, now);
            }
            Command::Reply { request, answer } => self.reply(place, request, answer),
            Command::RecordFinished { id } => {
                self.log.finished.insert(id.gid);
            }
            Command::RecordHeuristic { id, branch, outcome } => {
                let key = BranchKey { id, branch: branch.id };
                if !self.participants.iter().any(|node| node.database.by_hand.contains(&key)) {
                    let what = format!("D8: a heuristic outcome without a person: {outcome:?} of {id}");
                    self.break_promise(what);
                }
                self.log.heuristics.insert((id.gid, branch.id), outcome);
            }
            Command::ReportViolation { id, what } => self.break_promise(format!("{id}: {what}")),
            Command::RecordUndecided { .. } | Command::ForgetUndecided { .. } => {}
        }
    }

    fn send_to_resource(&mut self, run: usize, branch: &Branch, body: ToParticipant) {
        // Best to the instance that enlisted, else to any of the resource.
        let speaks = |node: &&ParticipantNode| node.up() && node.resource() == &branch.resource;
        let all = || self.participants.iter().filter(speaks);
        let to = all().find(|node| node.instance() == branch.instance).or_else(|| all().next());
        if let Some(to) = to.map(|node| node.place) {
            self.send(Message::ToParticipant { to, from: run, body });
        }
    }

    fn reply(&mut self, place: usize, request: RequestId, answer: Answer) {
        let Some(asked) = self.asked.remove(&(place, request)) else {
            self.break_promise(format!("request {request:?} was answered twice"));
            return;
        };
        let run = self.coordinators[place].run;
        match (asked, answer) {
            (Asked::Commit { transaction }, Answer::Outcome(outcome)) => {
                let transaction = &mut self.transactions[transaction];
                transaction.told.extend(told(&outcome));
            }
            (Asked::Outcome { transaction }, Answer::Outcome(outcome)) => {
                let transaction = &mut self.transactions[transaction];
                transaction.shown.extend(told(&outcome));
                if let TransactionOutcome::Committed { heuristic, .. }
                | TransactionOutcome::Aborted { heuristic, .. } = outcome
                {
                    transaction.heuristic = heuristic;
                }
            }
            (Asked::Enlist { participant, life, key }, Answer::Refused(_)) => {
                if self.participants[participant].life == life {
                    let body = ToParticipant::EnlistRefused { key };
                    self.send(Message::ToParticipant { to: participant, from: run, body });
                }
            }
            (Asked::Inquiry { participant, life, key }, Answer::Inquiry(answer)) => {
                let quarantine = answer == InquiryAnswer::Quarantine;
                let (commit, abort) = match answer {
                    InquiryAnswer::Commit(evidence) => (Some(evidence), false),
                    InquiryAnswer::Abort => (None, true),
                    InquiryAnswer::Wait { .. } if !self.scope.talkative => return,
                    InquiryAnswer::Quarantine | InquiryAnswer::Wait { .. } => (None, false),
                };
                if self.participants[participant].life == life {
                    let body = ToParticipant::InquiryAnswer { key, commit, abort, quarantine };
                    self.send(Message::ToParticipant { to: participant, from: run, body });
                }
            }
            (_, _) => {}
        }
    }
}

/// The outcome in an answer, if it says one.
fn told(outcome: &TransactionOutcome) -> Option<Told> {
    match outcome {
        TransactionOutcome::Committed { read_only: true, .. } => Some(Told::ReadOnly),
        TransactionOutcome::Committed { .. } => Some(Told::Committed),
        TransactionOutcome::Aborted { .. } => Some(Told::Aborted),
        TransactionOutcome::Pending
        | TransactionOutcome::Unknown
        | TransactionOutcome::NoRecord
        | TransactionOutcome::Forgotten => None,
    }
}
