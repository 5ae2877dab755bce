//! The participants: the real core, and a database that prepares, commits and rolls back.

use std::collections::{BTreeMap, BTreeSet};

use pactum_core_checked::coordinator::{Operation, RegisterAnswer};
use pactum_core_checked::id::{Branch, InstanceId, ResourceName, TransactionId};
use pactum_core_checked::outcome::{BranchOutcome, HeuristicOutcome};
use pactum_core_checked::participant::{BranchKey, Command, Event, Participant, SessionId};
use pactum_core_checked::time::Timestamp;
use pactum_core_checked::vote::{AbortKind, Evidence, Vote};

use super::{Message, Scope, ToCoordinator, World, branch_id, instance, reason, resource};

/// What a database holds of one branch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Held {
    /// A local transaction is open; gone with the process.
    Open,
    Prepared(Evidence),
    Committed(Evidence),
    /// Ended without effect after it had been opened.
    Aborted,
}

/// A participant's database: what survives its process.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Database {
    pub branches: BTreeMap<BranchKey, Held>,
    /// The marker table: committed or aborted.
    pub markers: BTreeMap<BranchKey, bool>,
    /// Executions that were committed before the one in `branches` (H3).
    pub earlier: BTreeMap<BranchKey, Evidence>,
    /// Branches that a person ended, and those that came back after their end.
    pub by_hand: BTreeSet<BranchKey>,
    pub reappeared: BTreeSet<BranchKey>,
    executions: u32,
    mutant: Option<DatabaseMutant>,
}

/// Faults of a resource, for the checkers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DatabaseMutant {
    /// Commits whatever execution is prepared under the branch's name (law 1, H3).
    CommitsAnyExecution,
    /// Commits in one phase without minding the marker that stands (H5).
    MarkerUnchecked,
    /// Takes a branch that is not there for committed (law 8, D3).
    NotFoundIsSuccess,
}

impl Database {
    /// How often anything was prepared here.
    pub fn executions(&self) -> u32 {
        self.executions
    }

    pub fn begin(&mut self, key: BranchKey) {
        self.branches.insert(key, Held::Open);
    }

    fn prepare(&mut self, key: BranchKey) -> Option<Evidence> {
        let held = self.branches.get_mut(&key)?;
        if *held != Held::Open {
            return None;
        }
        self.executions += 1;
        let evidence = Evidence::new(format!("x{}", self.executions), "");
        *held = Held::Prepared(evidence.clone());
        Some(evidence)
    }

    /// Begins the work of a one-shot branch anew; what was committed under its name stays.
    fn execute(&mut self, key: BranchKey) {
        if let Some(Held::Committed(evidence)) = self.branches.insert(key, Held::Open) {
            self.earlier.insert(key, evidence);
        }
    }

    fn commit(&mut self, key: BranchKey, decided: &Evidence) -> BranchOutcome {
        let any = self.mutant == Some(DatabaseMutant::CommitsAnyExecution);
        match self.branches.get(&key) {
            Some(Held::Prepared(evidence)) if any || evidence.same_execution(decided) => {
                let committed = Held::Committed(evidence.clone());
                self.branches.insert(key, committed);
                BranchOutcome::Committed
            }
            Some(Held::Committed(evidence)) if evidence.same_execution(decided) => BranchOutcome::Committed,
            _ if self.earlier.get(&key).is_some_and(|evidence| evidence.same_execution(decided)) => {
                BranchOutcome::Committed
            }
            _ if self.mutant == Some(DatabaseMutant::NotFoundIsSuccess) => BranchOutcome::Committed,
            Some(Held::Aborted) => BranchOutcome::Heuristic(HeuristicOutcome::Aborted),
            Some(Held::Open | Held::Prepared(_) | Held::Committed(_)) | None => {
                BranchOutcome::Heuristic(HeuristicOutcome::Hazard)
            }
        }
    }

    /// `known`: the execution that is meant, where its process remembers it. Its own evidence says that
    /// it is gone without effect if another one is here; without it nothing speaks against that.
    fn abort(&mut self, key: BranchKey, known: Option<&Evidence>) -> BranchOutcome {
        if let (Some(known), Some(Held::Prepared(here) | Held::Committed(here))) =
            (known, self.branches.get(&key))
            && !here.same_execution(known)
        {
            return BranchOutcome::Aborted;
        }
        match self.branches.get_mut(&key) {
            Some(Held::Committed(_)) if known.is_some() => {
                BranchOutcome::Heuristic(HeuristicOutcome::Committed)
            }
            Some(held @ (Held::Open | Held::Prepared(_) | Held::Aborted)) => {
                // Another execution under its name stays committed.
                let committed = self.earlier.remove(&key).map(Held::Committed);
                *held = committed.unwrap_or(Held::Aborted);
                BranchOutcome::Aborted
            }
            Some(Held::Committed(_)) | None => BranchOutcome::Aborted,
        }
    }

    /// Inserts the marker (gid, committed) and commits, or rolls back on a duplicate.
    fn commit_one_phase(&mut self, key: BranchKey) -> bool {
        if self.branches.get(&key) != Some(&Held::Open) {
            return self.markers.get(&key) == Some(&true);
        }
        if self.markers.contains_key(&key) && self.mutant != Some(DatabaseMutant::MarkerUnchecked) {
            self.branches.insert(key, Held::Aborted);
            return false;
        }
        self.markers.entry(key).or_insert(true);
        self.branches.insert(key, Held::Committed(Evidence::default()));
        true
    }

    /// Ends open work, inserts the marker (gid, aborted) unless one stands, and reads what stands.
    ///
    /// `landing`: a statement of a dead process is still under way; its transaction is not ours to end.
    fn settle(&mut self, key: BranchKey, landing: bool) -> bool {
        if !landing && let Some(held @ Held::Open) = self.branches.get_mut(&key) {
            *held = Held::Aborted;
        }
        *self.markers.entry(key).or_insert(false)
    }
}

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
        // The other instance of the resource, if there is one, keeps the database to itself.
        let home = self.scope.home(place);
        let node = &mut self.participants[place];
        let landing =
            |key: &BranchKey, hooks: &[Hook]| hooks.iter().any(|hook| prepares(&hook.command) == Some(*key));
        let hooks = node.hooks.clone();
        node.hooks.retain(|hook| prepares(&hook.command).is_some());
        if !self.scope.one_shot {
            for (key, held) in &mut self.participants[home].database.branches {
                if *held == Held::Open && !landing(key, &hooks) {
                    *held = Held::Aborted;
                }
            }
        }
        self.network.retain(|message, _| match message {
            Message::ToParticipant { to, .. } => *to != place,
            Message::ToCoordinator { from, .. } => *from != place,
            Message::Commit { .. } => true,
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
            Command::SendFinished { to, key, outcome } => {
                if outcome == BranchOutcome::Aborted {
                    self.participants[place].aborted.insert(key);
                }
                self.send_to_run(to, place, ToCoordinator::Finished { key, outcome: outcome.into() });
            }
            Command::SendFailed { to, key, .. } => self.send_to_run(to, place, ToCoordinator::Failed { key }),
            Command::SendRegisterAnswer { to, key, answer } => {
                let committed = match answer {
                    RegisterAnswer::Committed => Some(true),
                    RegisterAnswer::Aborted(_) => Some(false),
                    RegisterAnswer::Unknown | RegisterAnswer::Forgotten => None,
                };
                self.send_to_run(to, place, ToCoordinator::Register { key, committed });
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
                    HookEnd::Fails => RegisterAnswer::Unknown,
                    HookEnd::Done | HookEnd::ReadOnly => register(database.commit_one_phase(key)),
                };
                Event::RegisterRead { key, answer }
            }
            Command::RunSettle { id, branch } => {
                let key = BranchKey { id, branch: branch.id };
                let answer = match end {
                    HookEnd::Fails => RegisterAnswer::Unknown,
                    HookEnd::Done | HookEnd::ReadOnly => register(database.settle(key, landing)),
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
