//! The participants: the real core, and hooks that work in its database.

use std::collections::BTreeSet;

use pactum_core_checked::coordinator::{Operation, RegisterAnswer};
use pactum_core_checked::id::{Branch, InstanceId, ResourceName, TransactionId};
use pactum_core_checked::outcome::BranchOutcome;
use pactum_core_checked::participant::{BranchKey, Command, Event, Participant, SessionId};
use pactum_core_checked::time::Timestamp;
use pactum_core_checked::vote::{AbortKind, Evidence, Vote};

use super::database::Database;
use super::{Held, Message, Scope, ToCoordinator, World, branch_id, instance, reason, resource};

/// A hook that runs: its effect has not happened yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Hook {
    /// Which life of the process started it; a later life does not hear its end.
    pub life: usize,
    pub command: Command,
}

/// One participant: a process that may be down, and a database that stays.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ParticipantNode {
    pub place: usize,
    pub life: usize,
    pub core: Option<Participant>,
    pub database: Database,
    pub hooks: Vec<Hook>,
    /// Branches whose abort this life has acknowledged.
    pub aborted: BTreeSet<BranchKey>,
    /// Branches of which this life has reported that nothing can be known.
    pub quarantined: BTreeSet<BranchKey>,
    resource: ResourceName,
}

impl ParticipantNode {
    pub fn new(place: usize, scope: &Scope) -> Self {
        Self {
            place,
            life: 0,
            core: Some(Participant::new(scope.participant.clone())),
            database: Database { mutant: scope.database_mutant, ..Database::default() },
            hooks: Vec::new(),
            aborted: BTreeSet::new(),
            quarantined: BTreeSet::new(),
            resource: resource(scope.home(place)),
        }
    }

    pub fn up(&self) -> bool {
        self.core.is_some()
    }

    pub fn instance(&self) -> InstanceId {
        instance(self.place, self.life)
    }

    pub fn resource(&self) -> &ResourceName {
        &self.resource
    }

    /// The name of this participant's branch of a transaction.
    pub fn branch(&self, transaction: usize, marker: bool) -> Branch {
        Branch {
            id: branch_id(transaction, self.place),
            resource: self.resource.clone(),
            instance: self.instance(),
            marker,
        }
    }
}

/// How a hook ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HookEnd {
    /// It does what it was asked.
    Done,
    /// At prepare: the branch votes no. Else: it fails, and is to be repeated.
    Fails,
    /// At prepare: the branch has written nothing.
    ReadOnly,
}

impl World {
    pub(crate) fn tell_participant(&mut self, place: usize, event: Event, now: Timestamp) {
        let Some(core) = self.participants[place].core.as_mut() else { return };
        self.encounters.at_participant(core, &event);
        let _legal = core.handle_event(event, now).is_ok();
        self.drain_participant(place, now);
    }

    /// A participant's timers fire.
    pub fn participant_timeout(&mut self, place: usize, now: Timestamp) {
        if let Some(core) = self.participants[place].core.as_mut() {
            core.handle_timeout(now);
            self.drain_participant(place, now);
        }
    }

    /// The process dies: local transactions are gone, what is prepared stays, and a statement on its
    /// way may still land (D1).
    pub fn crash_participant(&mut self, place: usize) {
        let node = &mut self.participants[place];
        node.core = None;
        node.life += 1;
        node.aborted.clear();
        node.quarantined.clear();
        // The other instance of the resource, if there is one, keeps what it has open.
        let home = self.scope.home(place);
        let node = &mut self.participants[place];
        let landing =
            |key: &BranchKey, hooks: &[Hook]| hooks.iter().any(|hook| prepares(&hook.command) == Some(*key));
        let hooks = node.hooks.clone();
        node.hooks.retain(|hook| prepares(&hook.command).is_some());
        for (key, held) in &mut self.participants[home].database.branches {
            if *held == Held::Open && super::place_of(key.branch) == place && !landing(key, &hooks) {
                *held = Held::Aborted;
            }
        }
        self.network.retain(|message, _| match message {
            Message::ToParticipant { to, .. } => *to != place,
            Message::ToCoordinator { from, .. } => *from != place,
            Message::Commit { .. } | Message::Ask { .. } => true,
        });
    }

    /// A new life: it attaches everywhere, and lists what it finds prepared.
    pub fn start_participant(&mut self, place: usize, now: Timestamp) {
        let core = Participant::new(self.scope.participant.clone());
        self.participants[place].core = Some(core);
        for coordinator in 0..self.coordinators.len() {
            let node = &self.participants[place];
            let event = pactum_core_checked::coordinator::Event::InstanceAttached {
                resource: node.resource.clone(),
                instance: node.instance(),
            };
            self.tell_coordinator(coordinator, event, now);
        }
        self.scan(place, now);
    }

    /// Lists what the database holds prepared.
    pub fn scan(&mut self, place: usize, now: Timestamp) {
        let node = &self.participants[place];
        let found: Vec<(BranchKey, Evidence)> = self.participants[self.scope.home(place)]
            .database
            .branches
            .iter()
            .filter_map(|(key, held)| match held {
                Held::Prepared(evidence) => Some((*key, evidence.clone())),
                Held::Open | Held::Committed(_) | Held::Aborted => None,
            })
            .collect();
        let resource = node.resource.clone();
        for (key, evidence) in found {
            let branch = Branch {
                id: key.branch,
                resource: resource.clone(),
                instance: InstanceId::NIL,
                marker: self.scope.marker,
            };
            self.tell_participant(place, Event::FoundPrepared { id: key.id, branch, evidence }, now);
        }
    }

    fn drain_participant(&mut self, place: usize, now: Timestamp) {
        loop {
            let Some(core) = self.participants[place].core.as_mut() else { return };
            let Some(command) = core.poll_command() else { return };
            self.carry_out_at_participant(place, command, now);
        }
    }

    fn carry_out_at_participant(&mut self, place: usize, command: Command, _now: Timestamp) {
        match command {
            Command::SendVote { to, id, branch, vote } => {
                let body = match vote {
                    Vote::Commit(evidence) => ToCoordinator::Yes { id, branch, evidence },
                    Vote::ReadOnly => ToCoordinator::ReadOnly { id, branch },
                    Vote::Abort(_) => ToCoordinator::No { id, branch },
                };
                self.send_to_run(to, place, body);
            }
            Command::SendFinished { to, id, branch, outcome } => {
                if outcome == BranchOutcome::Aborted {
                    self.participants[place].aborted.insert(BranchKey { id, branch: branch.id });
                }
                self.send_to_run(to, place, ToCoordinator::Finished { id, branch, outcome: outcome.into() });
            }
            Command::SendFailed { to, id, branch, .. } => {
                self.send_to_run(to, place, ToCoordinator::Failed { id, branch });
            }
            Command::SendRegisterAnswer { to, id, branch, answer } => {
                let committed = match answer {
                    RegisterAnswer::Committed => Some(true),
                    RegisterAnswer::Aborted(_) => Some(false),
                    RegisterAnswer::Unknown | RegisterAnswer::Forgotten => None,
                };
                self.send_to_run(to, place, ToCoordinator::Register { id, branch, committed });
            }
            Command::SendInquiry { id, branch, evidence } => {
                // To the owner while it lives under that name, else to every coordinator.
                let alive = self.log.live.contains(&id.incarnation);
                let owner = self.coordinators.iter().position(|node| {
                    let named = alive && super::incarnation(node.run) == id.incarnation;
                    named && node.core.is_some() && !node.paused
                });
                let runs: Vec<usize> = match owner {
                    Some(owner) => vec![self.coordinators[owner].run],
                    None => self
                        .coordinators
                        .iter()
                        .filter(|node| node.core.is_some() && !node.paused)
                        .map(|node| node.run)
                        .collect(),
                };
                for run in runs {
                    let body =
                        ToCoordinator::Inquiry { id, branch: branch.clone(), evidence: evidence.clone() };
                    self.send_to_run(SessionId(run as u64), place, body);
                }
            }
            Command::RunPrepare { .. }
            | Command::RunOnePhase { .. }
            | Command::RunSettle { .. }
            | Command::RunCommit { .. }
            | Command::RunAbort { .. } => {
                // Who has no memory left of an abort cannot know better.
                let remembers = self.scope.participant.remembered_max > 1;
                let again = prepares(&command)
                    .is_some_and(|key| remembers && self.participants[place].aborted.contains(&key));
                if again {
                    self.break_promise("E3: a branch is prepared after its abort was acknowledged".into());
                }
                let life = self.participants[place].life;
                self.participants[place].hooks.push(Hook { life, command });
            }
            Command::Forget { .. } => {}
            Command::ReportQuarantine { key } => {
                self.participants[place].quarantined.insert(key);
            }
            // Who forgets at once cannot tell a stray message about another execution from a
            // contradiction: it refuses both, and its database is held to AC1 and H3.
            Command::ReportViolation { .. } if self.scope.participant.remembered_max == 0 => {}
            Command::ReportViolation { key, what } => self.break_promise(format!("{key:?}: {what}")),
        }
    }

    fn send_to_run(&mut self, to: SessionId, from: usize, body: ToCoordinator) {
        let run = usize::try_from(to.0).unwrap();
        if self.coordinators.iter().any(|node| node.core.is_some() && node.run == run) {
            self.send(Message::ToCoordinator { to: run, from, body });
        }
    }

    /// A hook's effect happens, and its process hears of it if it still lives.
    pub fn finish_hook(&mut self, place: usize, index: usize, end: HookEnd, now: Timestamp) {
        let hook = self.participants[place].hooks.remove(index);
        let heard = hook.life == self.participants[place].life;
        let home = self.scope.home(place);
        let settled = if let Command::RunSettle { id, branch } = &hook.command {
            Some(BranchKey { id: *id, branch: branch.id })
        } else {
            None
        };
        let others = self.participants.iter().flat_map(|node| &node.hooks);
        // Another living process has it open: that one's transaction is not ours to end.
        let elsewhere = settled.is_some_and(|key| {
            let opener = &self.participants[super::place_of(key.branch)];
            opener.place != place && opener.core.as_ref().is_some_and(|core| core.state_of(key) != "not held")
        });
        let landing = settled.is_some()
            && others.filter_map(|hook| prepares(&hook.command)).any(|key| Some(key) == settled);
        let database = &mut self.participants[home].database;
        let event = match hook.command {
            Command::RunPrepare { id, branch, operation, .. } => {
                let key = BranchKey { id, branch: branch.id };
                if operation.is_some() {
                    database.execute(key);
                }
                let vote = match end {
                    HookEnd::Done => match database.prepare(key) {
                        Some(evidence) => Vote::Commit(evidence),
                        None => Vote::Abort(reason(AbortKind::LocalFailure)),
                    },
                    HookEnd::ReadOnly => {
                        database.branches.remove(&key);
                        Vote::ReadOnly
                    }
                    HookEnd::Fails => {
                        database.abort(key, None);
                        Vote::Abort(reason(AbortKind::VotedNo))
                    }
                };
                Event::PrepareFinished { key, vote }
            }
            Command::RunOnePhase { id, branch, operation, .. } => {
                let key = BranchKey { id, branch: branch.id };
                if operation.is_some() && !database.branches.contains_key(&key) {
                    database.execute(key);
                }
                let answer = match end {
                    HookEnd::Fails => {
                        database.give_up_if_closed(key);
                        RegisterAnswer::Unknown
                    }
                    HookEnd::Done | HookEnd::ReadOnly => register(database.commit_one_phase(key)),
                };
                Event::RegisterRead { key, answer }
            }
            Command::RunSettle { id, branch } => {
                let key = BranchKey { id, branch: branch.id };
                let answer = match end {
                    HookEnd::Fails => RegisterAnswer::Unknown,
                    HookEnd::Done | HookEnd::ReadOnly => register(database.settle(key, landing || elsewhere)),
                };
                Event::RegisterRead { key, answer }
            }
            Command::RunCommit { id, branch, decided, .. } => {
                let key = BranchKey { id, branch: branch.id };
                match end {
                    HookEnd::Fails => Event::HookFailed { key, error: "failed".into() },
                    HookEnd::Done | HookEnd::ReadOnly => {
                        Event::BranchEnded { key, outcome: database.commit(key, &decided) }
                    }
                }
            }
            Command::RunAbort { id, branch, prepared } => {
                let key = BranchKey { id, branch: branch.id };
                match end {
                    HookEnd::Fails => Event::HookFailed { key, error: "failed".into() },
                    HookEnd::Done | HookEnd::ReadOnly => {
                        Event::BranchEnded { key, outcome: database.abort(key, prepared.as_ref()) }
                    }
                }
            }
            Command::SendVote { .. }
            | Command::SendFinished { .. }
            | Command::SendFailed { .. }
            | Command::SendRegisterAnswer { .. }
            | Command::SendInquiry { .. }
            | Command::Forget { .. }
            | Command::ReportQuarantine { .. }
            | Command::ReportViolation { .. } => return,
        };
        self.mind_heuristic(home, &event);
        if heard {
            self.tell_participant(place, event, now);
        }
    }

    /// Only a person ends a branch without its decision.
    fn mind_heuristic(&mut self, home: usize, event: &Event) {
        if let Event::BranchEnded { key, outcome: BranchOutcome::Heuristic(outcome) } = event
            && !self.participants[home].database.by_hand.contains(key)
        {
            self.break_promise(format!("D3: a branch ended {outcome:?} without a person"));
        }
    }

    /// The statement of a dead process never lands.
    pub fn drop_hook(&mut self, place: usize, index: usize) {
        let hook = self.participants[place].hooks.remove(index);
        let home = self.scope.home(place);
        if let Some(key) = prepares(&hook.command)
            && let Some(held @ Held::Open) = self.participants[home].database.branches.get_mut(&key)
        {
            *held = Held::Aborted;
        }
    }
}

/// The branch of a statement that turns open work into something durable.
fn prepares(command: &Command) -> Option<BranchKey> {
    let (id, branch): (&TransactionId, &Branch) = match command {
        Command::RunPrepare { id, branch, .. } | Command::RunOnePhase { id, branch, .. } => (id, branch),
        Command::RunSettle { .. }
        | Command::RunCommit { .. }
        | Command::RunAbort { .. }
        | Command::SendVote { .. }
        | Command::SendFinished { .. }
        | Command::SendFailed { .. }
        | Command::SendRegisterAnswer { .. }
        | Command::SendInquiry { .. }
        | Command::Forget { .. }
        | Command::ReportQuarantine { .. }
        | Command::ReportViolation { .. } => return None,
    };
    Some(BranchKey { id: *id, branch: branch.id })
}

/// What a one-shot branch executes.
pub fn operation() -> Operation {
    Operation { name: "debit".into(), payload: [].into() }
}

fn register(committed: bool) -> RegisterAnswer {
    if committed { RegisterAnswer::Committed } else { RegisterAnswer::Aborted(reason(AbortKind::OwnerEnded)) }
}
