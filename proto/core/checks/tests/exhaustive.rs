//! Every interleaving of small worlds, with the real core of both roles (stateright, breadth
//! first, no state cap): each scope is explored to its end, prints its size, and must reach the
//! situations that it was made for. Protocol mutants prove that the checker can fail.
//!
//! A message that is lost needs no step of its own: what holds in every state holds where it
//! never arrives.

#![allow(
    clippy::print_stdout,
    reason = "what was executed is printed: a run that did nothing proves nothing"
)]
#![allow(clippy::unwrap_used, reason = "a broken model shall stop the checker")]

mod world;

use std::time::Duration;

use pactum_core_checked::coordinator::{self, Mutant};
use pactum_core_checked::participant;
use pactum_core_checked::time::{RetryDelay, Timestamp};
use stateright::{Checker, Model, Property};
use world::participants::HookEnd;
use world::{Held, Message, Scope, Told, World, invariants};

const NOW: Timestamp = Timestamp::ORIGIN;

/// A moment at which every timer is due.
const LATER: Timestamp = Timestamp::from_origin(Duration::from_secs(1000));

/// How often each kind of trouble may happen on one path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Trouble {
    coordinator_crashes: u8,
    participant_crashes: u8,
    /// A coordinator takes a living one for dead and ends its incarnation.
    suspicions: u8,
    /// A log write whose answer is lost, before or after it was carried out.
    lost_answers: u8,
    timeouts: u8,
    repeats: u8,
    refusals: u8,
    read_only: u8,
    scans: u8,
    /// The application asks again, at any coordinator.
    retries: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    world: World,
    left: Trouble,
}

#[derive(Clone, PartialEq, Debug)]
enum Action {
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
}

/// One scope to explore.
#[derive(Clone, Debug)]
struct Explorer {
    scope: Scope,
    trouble: Trouble,
}

impl Explorer {
    fn new(coordinators: usize, transactions: &[&[usize]], trouble: Trouble) -> Self {
        let participants = transactions.iter().flat_map(|places| places.iter()).max().unwrap() + 1;
        let zero = RetryDelay { first: Duration::ZERO, cap: Duration::ZERO };
        Self {
            scope: Scope {
                coordinators,
                participants,
                transactions: transactions.iter().map(|places| places.to_vec()).collect(),
                marker: false,
                coordinator: coordinator::Config { retry: zero, ..coordinator::Config::default() },
                participant: participant::Config {
                    inquiry_interval: Duration::ZERO,
                    ..participant::Config::default()
                },
            },
            trouble,
        }
    }

    fn with_marker(mut self) -> Self {
        self.scope.marker = true;
        self
    }

    fn with_mutant(mut self, mutant: Mutant) -> Self {
        self.scope.coordinator.mutant = Some(mutant);
        self
    }

    fn with_participant_mutant(mut self, mutant: participant::Mutant) -> Self {
        self.scope.participant.mutant = Some(mutant);
        self
    }

    /// Explores all of it. Panics with the path if an invariant breaks or a situation that the
    /// scope was made for is not reached.
    fn explore(self, name: &str) {
        let checker = self.checker().threads(2).spawn_bfs().join();
        println!(
            "scope {name}: {} unique states, {} generated, depth {}",
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth()
        );
        checker.assert_properties();
        assert!(checker.is_done(), "the scope was not explored to its end");
    }

    /// The invariant that a faulty core breaks, found.
    fn catches(self, name: &str) {
        let checker = self.checker().threads(2).spawn_bfs().join();
        let path = checker.discovery(PROMISES).unwrap_or_else(|| {
            panic!("mutant {name} was not caught in {} states", checker.unique_state_count())
        });
        let state = path.last_state();
        let broken = invariants::broken(&state.world).unwrap();
        println!("mutant {name}: caught after {} states: {broken}", checker.unique_state_count());
    }
}

const PROMISES: &str = "every promise is kept";

fn any_held(state: &State, test: impl Fn(&Held) -> bool) -> bool {
    state.world.participants.iter().any(|node| node.database.branches.values().any(&test))
}

fn told(state: &State, what: Told) -> bool {
    state.world.transactions.iter().any(|transaction| transaction.told.contains(&what))
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
        let State { world, left } = state;
        if invariants::broken(world).is_some() {
            return;
        }
        for message in world.network.keys() {
            actions.push(Action::Deliver(message.clone()));
            if left.repeats > 0 {
                actions.push(Action::Repeat(message.clone()));
            }
        }
        for (place, node) in world.participants.iter().enumerate() {
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
            if node.up() {
                if left.participant_crashes > 0 {
                    actions.push(Action::CrashParticipant(place));
                }
                if left.scans > 0 {
                    actions.push(Action::Scan(place));
                }
                if left.timeouts > 0 {
                    actions.push(Action::ParticipantTimeout(place));
                }
            } else {
                actions.push(Action::StartParticipant(place));
            }
        }
        for (index, write) in world.log.writes.iter().enumerate() {
            actions.push(Action::LogApplies(index));
            if left.lost_answers > 0 && write.run.is_some() {
                actions.push(Action::LogLosesAnswer(index));
                actions.push(Action::LogIsSilent(index));
            }
        }
        for (place, node) in world.coordinators.iter().enumerate() {
            if node.core.is_some() {
                if left.coordinator_crashes > 0 {
                    actions.push(Action::CrashCoordinator(place));
                }
                if left.timeouts > 0 {
                    actions.push(Action::Timeout(place));
                }
                // A living one ends an incarnation: of a run that is gone, or of one it suspects.
                for run in 0..world.runs {
                    let live = world.log.live.contains(&world::incarnation(run));
                    let runs =
                        world.coordinators.iter().any(|other| other.core.is_some() && other.run == run);
                    if live && run != node.run && (!runs || left.suspicions > 0) {
                        actions.push(Action::EndIncarnation(run, place));
                    }
                }
                if left.retries > 0 {
                    for transaction in 0..world.transactions.len() {
                        actions.push(Action::Retry(transaction, place));
                    }
                }
            } else {
                actions.push(Action::StartCoordinator(place));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let State { world, left } = &mut next;
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
                if world.coordinators.iter().any(|other| other.core.is_some() && other.run == run) {
                    left.suspicions -= 1;
                }
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
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(PROMISES, |_, state: &State| invariants::broken(&state.world).is_none()),
            Property::sometimes("committed is told", |_, state: &State| told(state, Told::Committed)),
            Property::sometimes("a branch is committed", |_, state: &State| {
                any_held(state, |held| matches!(held, Held::Committed(_)))
            }),
        ];
        if self.trouble == Trouble::default() {
            // Nobody crashes, nothing is lost, all vote yes: then it commits (AC4).
            properties.push(Property::always("nothing aborts", |_, state: &State| {
                !told(state, Told::Aborted) && !any_held(state, |held| *held == Held::Aborted)
            }));
        }
        let Trouble { coordinator_crashes, suspicions, timeouts, refusals, .. } = self.trouble;
        if coordinator_crashes > 0 || suspicions > 0 || timeouts > 0 || refusals > 0 {
            properties
                .push(Property::sometimes("aborted is told", |_, state: &State| told(state, Told::Aborted)));
        }
        if coordinator_crashes > 0 && !self.scope.marker {
            properties.push(Property::sometimes("a commit outlives its coordinator", |_, state: &State| {
                told(state, Told::Committed) && state.world.runs > state.world.coordinators.len()
            }));
        }
        if suspicions > 0 && !self.scope.marker {
            properties.push(Property::sometimes("a living owner loses to a close", |_, state: &State| {
                state
                    .world
                    .log
                    .rows
                    .values()
                    .any(|row| row.decision == pactum_core_checked::outcome::Decision::Abort)
                    && state.world.owner(0).is_some()
            }));
        }
        properties
    }
}

const PAIR: &[&[usize]] = &[&[0, 1]];
const ONE: &[&[usize]] = &[&[0]];

#[test]
fn without_trouble_two_branches_always_commit_ac4() {
    Explorer::new(1, PAIR, Trouble::default()).explore("two branches, no trouble");
}

#[test]
fn two_branches_that_may_refuse_or_read_only() {
    let trouble = Trouble { refusals: 2, read_only: 2, repeats: 1, ..Trouble::default() };
    Explorer::new(1, PAIR, trouble).explore("two branches, refusals, read-only");
}

#[test]
fn crashes_of_each_role_a1_to_a9_c1_to_c5() {
    let trouble =
        Trouble { coordinator_crashes: 1, participant_crashes: 1, timeouts: 1, ..Trouble::default() };
    Explorer::new(1, PAIR, trouble).explore("two branches, a crash of each role");
}

#[test]
fn repeated_messages_e2_e6_e9() {
    let trouble = Trouble { repeats: 2, timeouts: 1, ..Trouble::default() };
    Explorer::new(1, PAIR, trouble).explore("two branches, repeated messages");
}

#[test]
fn lost_log_answers_b2_a4() {
    let trouble = Trouble { lost_answers: 2, timeouts: 2, coordinator_crashes: 1, ..Trouble::default() };
    Explorer::new(1, PAIR, trouble).explore("two branches, lost log answers");
}

#[test]
fn two_coordinators_of_which_one_closes_a10_a12_h4() {
    let trouble = Trouble { suspicions: 1, retries: 1, scans: 1, timeouts: 1, ..Trouble::default() };
    Explorer::new(2, PAIR, trouble).explore("two coordinators, one closes");
}

#[test]
fn the_one_branch_register_h5() {
    let trouble = Trouble {
        coordinator_crashes: 1,
        participant_crashes: 1,
        retries: 2,
        timeouts: 2,
        repeats: 1,
        refusals: 1,
        ..Trouble::default()
    };
    Explorer::new(2, ONE, trouble).with_marker().explore("one branch, its own register, two coordinators");
}

#[test]
fn mutants_are_caught() {
    let crash = Trouble { coordinator_crashes: 1, timeouts: 1, scans: 1, ..Trouble::default() };
    let unsure = Trouble { lost_answers: 1, timeouts: 1, ..Trouble::default() };
    let retried = Trouble { suspicions: 1, retries: 1, ..Trouble::default() };
    let late = Trouble { timeouts: 1, ..Trouble::default() };
    let scanned = Trouble { scans: 1, ..Trouble::default() };
    let cases = [
        (Mutant::CommitBeforeRecorded, Explorer::new(1, PAIR, Trouble::default())),
        (Mutant::FinishedBeforeLastAck, Explorer::new(1, PAIR, Trouble::default())),
        (Mutant::AbortToInquiryWhileVoting, Explorer::new(1, PAIR, scanned)),
        (Mutant::DeadlineAfterProposed, Explorer::new(1, PAIR, late)),
        (Mutant::UnknownTakenForAborted, Explorer::new(1, PAIR, unsure)),
        (Mutant::StartsTwice, Explorer::new(1, PAIR, Trouble { retries: 1, refusals: 1, ..late })),
        (Mutant::FreeAbortAfterOnePhase, Explorer::new(1, ONE, late).with_marker()),
        (Mutant::ForeignCommitRuns, Explorer::new(2, PAIR, Trouble { timeouts: 1, ..retried })),
    ];
    for (mutant, explorer) in cases {
        explorer.with_mutant(mutant).catches(&format!("{mutant:?}"));
    }
    let cases = [
        (participant::Mutant::AbortsAloneInDoubt, crash),
        (participant::Mutant::VotesBeforeDurable, Trouble { refusals: 1, ..Trouble::default() }),
        (participant::Mutant::AcknowledgesEarly, Trouble::default()),
    ];
    for (mutant, trouble) in cases {
        Explorer::new(1, PAIR, trouble).with_participant_mutant(mutant).catches(&format!("{mutant:?}"));
    }
}
