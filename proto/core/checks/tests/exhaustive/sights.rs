//! What must be seen on some path of a scope: without it the scope has not tried what it is for.

use pactum_core_checked::outcome::{Decision, HeuristicOutcome};
use stateright::Property;

use crate::explorer::{Explorer, State};
use crate::world::{Held, Told, instance};

/// Something that must happen on some path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    CommittedIsTold,
    ReadOnlyIsTold,
    AbortedIsTold,
    BranchCommitted,
    BranchAborted,
    OutlivesItsCoordinator,
    LivingOwnerLoses,
    RegisterClosed,
    FloorPassesCommit,
    FloorPassesUndecided,
    Quarantine,
    CommittedAgain,
    HeuristicKept,
    CommittedByHandAgainstAbort,
    DoubtedCommitHeld,
    AbortedAfterRelease,
    CommittedAfterVouching,
    SecondExecutionUndone,
    OtherInstanceCommits,
    AbortedWithInstanceUp,
}

fn told(state: &State, what: Told) -> bool {
    state.world.transactions.iter().any(|transaction| transaction.told.contains(&what))
}

fn any_held(state: &State, test: impl Fn(&Held) -> bool) -> bool {
    state.world.participants.iter().any(|node| node.database.branches.values().any(&test))
}

fn logged(state: &State, decision: Decision) -> bool {
    state.world.log.rows.values().any(|row| row.decision == decision)
}

fn quarantined(state: &State) -> bool {
    state.world.participants.iter().any(|node| !node.quarantined.is_empty())
}

impl Sight {
    /// Whether a state shows it.
    pub fn is_in(self, state: &State) -> bool {
        let (world, log) = (&state.world, &state.world.log);
        match self {
            Self::CommittedIsTold => told(state, Told::Committed),
            Self::ReadOnlyIsTold => told(state, Told::ReadOnly),
            Self::AbortedIsTold => told(state, Told::Aborted),
            Self::BranchCommitted => any_held(state, |held| matches!(held, Held::Committed(_))),
            Self::BranchAborted => any_held(state, |held| *held == Held::Aborted),
            Self::OutlivesItsCoordinator => {
                told(state, Told::Committed) && world.runs > world.coordinators.len()
            }
            Self::LivingOwnerLoses => logged(state, Decision::Abort) && world.owner(0).is_some(),
            Self::RegisterClosed => {
                world.participants.iter().any(|node| node.database.markers.values().any(|kept| !kept))
            }
            Self::FloorPassesCommit => log.committed.iter().any(|id| id.gid <= log.floor),
            Self::FloorPassesUndecided => {
                let undecided = |id: &&pactum_core_checked::id::TransactionId| {
                    id.gid <= log.floor && !log.committed.contains(id)
                };
                let waits = !log.writes.is_empty();
                waits && world.transactions.iter().map(|transaction| &transaction.id).any(|id| undecided(&id))
            }
            Self::Quarantine => quarantined(state),
            Self::CommittedAgain => world.participants.iter().any(|node| {
                let back = |key| matches!(node.database.branches.get(key), Some(Held::Committed(_)));
                node.database.reappeared.iter().any(back)
            }),
            Self::HeuristicKept => {
                log.heuristics.values().any(|outcome| *outcome == HeuristicOutcome::Aborted)
            }
            Self::CommittedByHandAgainstAbort => {
                log.heuristics.values().any(|outcome| *outcome == HeuristicOutcome::Committed)
            }
            Self::DoubtedCommitHeld => {
                let halfway = any_held(state, |held| matches!(held, Held::Committed(_)));
                !log.lost.is_empty() && halfway && quarantined(state)
            }
            Self::AbortedAfterRelease => {
                let released = log.doubted.is_empty() && quarantined(state);
                released && logged(state, Decision::Abort)
            }
            Self::CommittedAfterVouching => {
                let relived = log.lost.iter().any(|id| log.rows.contains_key(&id.gid));
                let committed = any_held(state, |held| matches!(held, Held::Committed(_)));
                log.doubted.is_empty() && relived && committed
            }
            Self::SecondExecutionUndone => world.participants.iter().any(|node| {
                let kept = node.database.branches.values().any(|held| matches!(held, Held::Committed(_)));
                kept && node.database.executions() > 1 && node.database.earlier.is_empty()
            }),
            Self::OtherInstanceCommits => world.participants.iter().enumerate().any(|(place, node)| {
                let home = world.scope.home(place);
                let held = &world.participants[home].database.branches;
                let committed = held.values().any(|held| matches!(held, Held::Committed(_)));
                home != place && node.up() && committed && !world.participants[home].up()
            }),
            Self::AbortedWithInstanceUp => {
                // The instance of the branch still lives; only its stream was lost.
                let alive = world
                    .participants
                    .iter()
                    .any(|node| node.up() && node.life == 0 && node.instance() == instance(node.place, 0));
                told(state, Told::Aborted) && alive && log.rows.is_empty()
            }
        }
    }

    /// It as a property that some path must fulfil.
    pub fn property(self) -> Property<Explorer> {
        macro_rules! sometimes {
            ($($sight:ident: $text:literal),+ $(,)?) => {
                match self {
                    $(Self::$sight => Property::sometimes($text, |_, state: &State| Self::$sight.is_in(state)),)+
                }
            };
        }
        sometimes! {
            CommittedIsTold: "committed is told",
            ReadOnlyIsTold: "committed read-only is told",
            AbortedIsTold: "aborted is told",
            BranchCommitted: "a branch is committed",
            BranchAborted: "a branch is aborted",
            OutlivesItsCoordinator: "a commit outlives its coordinator",
            LivingOwnerLoses: "a living owner loses to a close",
            RegisterClosed: "a branch's own register is closed with abort",
            FloorPassesCommit: "the floor passes a finished commit",
            FloorPassesUndecided: "the floor passes a transaction whose write is under way",
            Quarantine: "a branch is in quarantine",
            CommittedAgain: "a branch that came back is committed again",
            HeuristicKept: "a branch rolled back by hand is kept as heuristic",
            CommittedByHandAgainstAbort: "a branch committed by hand against abort is kept as heuristic",
            DoubtedCommitHeld: "half of a commit whose record is lost is held",
            AbortedAfterRelease: "a held transaction is aborted after its release",
            CommittedAfterVouching: "a lost commit is written again and its owner vouches",
            SecondExecutionUndone: "a second execution of a committed branch is undone",
            OtherInstanceCommits: "another instance commits a branch",
            AbortedWithInstanceUp: "a transaction is aborted without a record",
        }
    }
}
