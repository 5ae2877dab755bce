//! A scope as a model: its states, the steps from each, and how often each kind of trouble may come.

use std::time::Duration;

use pactum_core_checked::coordinator;
use pactum_core_checked::id::Incarnation;
use pactum_core_checked::participant::{self, BranchKey};
use pactum_core_checked::time::{RetryDelay, Timestamp};
use stateright::{Model, Property};

use crate::sights::Sight;
use crate::world::participants::HookEnd;
use crate::world::{Held, Message, Scope, World, gid, incarnation, invariants};

const NOW: Timestamp = Timestamp::ORIGIN;

/// A moment at which every timer is due.
const LATER: Timestamp = Timestamp::from_origin(Duration::from_secs(1000));

/// The one property that must hold in every state: no invariant of the world is broken.
pub const PROMISES: &str = "every promise is kept";

/// How often each kind of trouble may happen on one path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Trouble {
    pub coordinator_crashes: u8,
    pub participant_crashes: u8,
    /// A coordinator takes a living one for dead and ends its incarnation.
    pub suspicions: u8,
    /// A log write whose answer is lost, before or after it was carried out.
    pub lost_answers: u8,
    pub timeouts: u8,
    pub repeats: u8,
    pub refusals: u8,
    pub read_only: u8,
    pub scans: u8,
    /// The application asks again, at any coordinator.
    pub retries: u8,
    /// A coordinator loses sight of an instance.
    pub lost_instances: u8,
    /// A person ends a prepared branch in its database.
    pub by_hand: u8,
    /// A database loses the end of a branch.
    pub reappearances: u8,
    /// The floor is raised as far as it may be.
    pub floor_raises: u8,
    /// The log goes back in time.
    pub go_backs: u8,
}

/// One state: the world, and what trouble is left.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub world: World,
    left: Trouble,
}

/// One step.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    Deliver(Message),
    Repeat(Message),
    FinishHook(usize, usize, HookEnd),
    LogApplies(usize),
    LogLosesAnswer(usize),
    LogIsSilent(usize),
    CrashCoordinator(usize),
    StartCoordinator(usize),
    EndIncarnation(usize, usize),
    Timeout(usize),
    ParticipantTimeout(usize),
    CrashParticipant(usize),
    StartParticipant(usize),
    Scan(usize),
    Retry(usize, usize),
    LoseInstance(usize, usize),
    EndByHand { place: usize, key: BranchKey, commit: bool },
    Reappear(usize, BranchKey),
    RaiseFloor { transaction: usize, told: bool },
    LogGoesBack,
    Vouch(usize),
    Release(Incarnation),
}

/// One scope to explore.
#[derive(Clone, Debug)]
pub struct Explorer {
    pub scope: Scope,
    pub trouble: Trouble,
    /// What must be seen on some path.
    pub sights: Vec<Sight>,
}

impl Explorer {
    pub fn new(coordinators: usize, transactions: &[&[usize]], trouble: Trouble) -> Self {
        let participants = transactions.iter().flat_map(|places| places.iter()).max().unwrap() + 1;
        let zero = RetryDelay { first: Duration::ZERO, cap: Duration::ZERO };
        Self {
            scope: Scope {
                coordinators,
                participants,
                transactions: transactions.iter().map(|places| places.to_vec()).collect(),
                goes_back: trouble.go_backs > 0,
                coordinator: coordinator::Config { retry: zero, ..coordinator::Config::default() },
                participant: participant::Config {
                    inquiry_interval: Duration::ZERO,
                    ..participant::Config::default()
                },
                ..Scope::default()
            },
            trouble,
            sights: Vec::new(),
        }
    }

    /// Changes the scope.
    pub fn with(mut self, change: impl FnOnce(&mut Scope)) -> Self {
        change(&mut self.scope);
        self
    }

    /// What must be seen on some path.
    pub fn sees(mut self, sights: &[Sight]) -> Self {
        self.sights.extend_from_slice(sights);
        self
    }
}

/// The steps that one part of the world may take.
impl State {
    fn network_steps(&self, actions: &mut Vec<Action>) {
        for message in self.world.network.keys() {
            actions.push(Action::Deliver(message.clone()));
            if self.left.repeats > 0 {
                actions.push(Action::Repeat(message.clone()));
            }
        }
    }

    fn participant_steps(&self, place: usize, actions: &mut Vec<Action>) {
        let (node, left) = (&self.world.participants[place], &self.left);
        for (index, hook) in node.hooks.iter().enumerate() {
            let preparing = matches!(hook.command, participant::Command::RunPrepare { .. });
            actions.push(Action::FinishHook(place, index, HookEnd::Done));
            if left.refusals > 0 {
                actions.push(Action::FinishHook(place, index, HookEnd::Fails));
            }
            if left.read_only > 0 && preparing {
                actions.push(Action::FinishHook(place, index, HookEnd::ReadOnly));
            }
        }
        if !node.up() {
            actions.push(Action::StartParticipant(place));
            return;
        }
        if left.participant_crashes > 0 {
            actions.push(Action::CrashParticipant(place));
        }
        if left.scans > 0 {
            actions.push(Action::Scan(place));
        }
        if left.timeouts > 0 {
            actions.push(Action::ParticipantTimeout(place));
        }
    }

    fn database_steps(&self, place: usize, actions: &mut Vec<Action>) {
        let database = &self.world.participants[place].database;
        for (key, held) in &database.branches {
            match held {
                Held::Prepared(_) if self.left.by_hand > 0 => {
                    for commit in [false, true] {
                        actions.push(Action::EndByHand { place, key: *key, commit });
                    }
                }
                Held::Committed(_) if self.left.reappearances > 0 => {
                    actions.push(Action::Reappear(place, *key));
                }
                Held::Open | Held::Prepared(_) | Held::Committed(_) | Held::Aborted => {}
            }
        }
    }

    fn log_steps(&self, actions: &mut Vec<Action>) {
        let (log, left) = (&self.world.log, &self.left);
        for (index, write) in log.writes.iter().enumerate() {
            actions.push(Action::LogApplies(index));
            if left.lost_answers > 0 && write.run.is_some() {
                actions.push(Action::LogLosesAnswer(index));
                actions.push(Action::LogIsSilent(index));
            }
        }
        if left.floor_raises > 0 {
            let passable = (0..self.world.transactions.len()).filter(|number| log.may_forget(gid(*number)));
            for transaction in passable {
                for told in [false, true] {
                    actions.push(Action::RaiseFloor { transaction, told });
                }
            }
        }
        if left.go_backs > 0 {
            actions.push(Action::LogGoesBack);
        }
        for doubted in &log.doubted {
            // A living one vouches for itself; a person looks after the rest.
            if !log.live.contains(doubted) && log.may_release(*doubted) {
                actions.push(Action::Release(*doubted));
            }
        }
    }

    fn coordinator_steps(&self, place: usize, actions: &mut Vec<Action>) {
        let (world, left) = (&self.world, &self.left);
        let node = &world.coordinators[place];
        if node.core.is_none() {
            actions.push(Action::StartCoordinator(place));
            return;
        }
        if left.coordinator_crashes > 0 {
            actions.push(Action::CrashCoordinator(place));
        }
        if left.timeouts > 0 {
            actions.push(Action::Timeout(place));
        }
        if left.lost_instances > 0 {
            for participant in 0..world.participants.len() {
                actions.push(Action::LoseInstance(participant, place));
            }
        }
        // A living one ends an incarnation: of a run that is gone, or of one it suspects.
        for run in 0..world.runs {
            let live = world.log.live.contains(&incarnation(run));
            if live && run != node.run && (!self.runs(run) || left.suspicions > 0) {
                actions.push(Action::EndIncarnation(run, place));
            }
        }
        let own = incarnation(node.run);
        if world.log.doubted.contains(&own) && world.log.live.contains(&own) {
            actions.push(Action::Vouch(place));
        }
        if left.retries > 0 {
            for transaction in 0..world.transactions.len() {
                actions.push(Action::Retry(transaction, place));
            }
        }
    }

    /// Whether a run is at work.
    fn runs(&self, run: usize) -> bool {
        self.world.coordinators.iter().any(|node| node.core.is_some() && node.run == run)
    }

    /// Takes one step, and has it paid for out of what trouble is left.
    fn take(&mut self, action: Action) {
        let suspects = matches!(&action, Action::EndIncarnation(run, _) if self.runs(*run));
        let State { world, left } = self;
        match action {
            Action::Deliver(message) => world.deliver(&message, false, NOW),
            Action::Repeat(message) => {
                left.repeats -= 1;
                world.deliver(&message, true, NOW);
            }
            Action::FinishHook(place, index, end) => {
                match end {
                    HookEnd::Done => {}
                    HookEnd::Fails => left.refusals -= 1,
                    HookEnd::ReadOnly => left.read_only -= 1,
                }
                world.finish_hook(place, index, end, NOW);
            }
            Action::LogApplies(index) => world.log_applies(index, true, NOW),
            Action::LogLosesAnswer(index) => {
                left.lost_answers -= 1;
                world.log_applies(index, false, NOW);
            }
            Action::LogIsSilent(index) => {
                left.lost_answers -= 1;
                world.log_silent(index, NOW);
            }
            Action::CrashCoordinator(place) => {
                left.coordinator_crashes -= 1;
                world.crash_coordinator(place);
            }
            Action::StartCoordinator(place) => world.start_coordinator(place, NOW),
            Action::EndIncarnation(run, by) => {
                left.suspicions -= u8::from(suspects);
                world.end_incarnation(run, by, NOW);
            }
            Action::Timeout(place) => {
                left.timeouts -= 1;
                world.coordinator_timeout(place, LATER);
            }
            Action::ParticipantTimeout(place) => {
                left.timeouts -= 1;
                world.participant_timeout(place, LATER);
            }
            Action::CrashParticipant(place) => {
                left.participant_crashes -= 1;
                world.crash_participant(place);
            }
            Action::StartParticipant(place) => world.start_participant(place, NOW),
            Action::Scan(place) => {
                left.scans -= 1;
                world.scan(place, NOW);
            }
            Action::Retry(transaction, place) => {
                left.retries -= 1;
                world.deliver(&Message::Commit { to: place, transaction }, true, NOW);
            }
            Action::LoseInstance(place, coordinator) => {
                left.lost_instances -= 1;
                world.lose_instance(place, coordinator, NOW);
            }
            Action::EndByHand { place, key, commit } => {
                left.by_hand -= 1;
                world.end_by_hand(place, key, commit);
            }
            Action::Reappear(place, key) => {
                left.reappearances -= 1;
                world.reappear(place, key);
            }
            Action::RaiseFloor { transaction, told } => {
                left.floor_raises -= 1;
                world.raise_floor(gid(transaction), told, NOW);
            }
            Action::LogGoesBack => {
                left.go_backs -= 1;
                world.log.go_back();
            }
            Action::Vouch(place) => world.vouch(place, NOW),
            Action::Release(released) => world.release(released),
        }
    }
}

impl Model for Explorer {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut world = World::new(self.scope.clone());
        for _ in 0..self.scope.transactions.len() {
            world.begin(0, NOW);
        }
        vec![State { world, left: self.trouble }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if invariants::broken(&state.world).is_some() {
            return;
        }
        state.network_steps(actions);
        for place in 0..state.world.participants.len() {
            state.participant_steps(place, actions);
            state.database_steps(place, actions);
        }
        state.log_steps(actions);
        for place in 0..state.world.coordinators.len() {
            state.coordinator_steps(place, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.take(action);
        // A step that changes nothing costs nothing: it is not counted as a state of its own.
        (next.world != last.world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties =
            vec![Property::always(PROMISES, |_, state: &State| invariants::broken(&state.world).is_none())];
        if self.trouble == Trouble::default() {
            // Nobody crashes, nothing is lost, all vote yes: then it commits (AC4).
            properties.push(Property::always("nothing aborts", |_, state: &State| {
                !Sight::AbortedIsTold.is_in(state) && !Sight::BranchAborted.is_in(state)
            }));
        }
        properties.extend(self.sights.iter().map(|sight| sight.property()));
        properties
    }
}
