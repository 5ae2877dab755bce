//! The scopes. Each names the rows of the failure matrix that it covers; an ordinary run takes the
//! first trouble, a full one the second.

use crate::explorer::{Explorer, Trouble};
use crate::run::full;
use crate::sights::Sight;
use crate::world::Scope;

pub const PAIR: &[&[usize]] = &[&[0, 1]];
pub const ONE: &[&[usize]] = &[&[0]];
const THREE: &[&[usize]] = &[&[0, 1, 2]];

pub const NONE: Trouble = Trouble {
    coordinator_crashes: 0,
    participant_crashes: 0,
    suspicions: 0,
    lost_answers: 0,
    timeouts: 0,
    repeats: 0,
    refusals: 0,
    read_only: 0,
    scans: 0,
    retries: 0,
    lost_instances: 0,
    by_hand: 0,
    reappearances: 0,
    floor_raises: 0,
    go_backs: 0,
};

fn sized(ordinary: Trouble, whole: Trouble) -> Trouble {
    if full() { whole } else { ordinary }
}

pub fn marker(scope: &mut Scope) {
    scope.marker = true;
}

/// Submitted to three places of which the last is a second instance of the first one's resource.
pub fn two_instances(scope: &mut Scope) {
    scope.one_shot = true;
    scope.participants = 3;
    scope.homes = vec![0, 1, 0];
}

/// A participant that forgets a branch as soon as it has ended.
pub fn forgetful(scope: &mut Scope) {
    scope.participant.remembered_max = 0;
}

#[test]
fn without_trouble_two_branches_always_commit_ac4() {
    Explorer::new(1, PAIR, NONE)
        .sees(&[Sight::CommittedIsTold, Sight::BranchCommitted])
        .explore("two branches, no trouble");
}

/// A13, C9, E1, F2: votes of every kind, in any order.
#[test]
fn votes_of_every_kind_a13_c9_e1_f2() {
    let trouble = Trouble { refusals: 2, read_only: 2, repeats: 1, ..NONE };
    let whole = Trouble { timeouts: 1, repeats: 2, ..trouble };
    Explorer::new(1, PAIR, sized(trouble, whole))
        .sees(&[Sight::CommittedIsTold, Sight::ReadOnlyIsTold, Sight::AbortedIsTold])
        .explore("two branches, refusals, read-only");
}

/// A1 to A9, C1 to C4, D1, D9: a crash of each role at every point, statements of the dead landing late.
#[test]
fn crashes_of_each_role_a1_to_a9_c1_to_c4_d1() {
    let trouble = Trouble { coordinator_crashes: 1, participant_crashes: 1, timeouts: 1, ..NONE };
    let whole = Trouble { coordinator_crashes: 2, participant_crashes: 2, ..trouble };
    Explorer::new(1, PAIR, sized(trouble, whole))
        .sees(&[Sight::CommittedIsTold, Sight::AbortedIsTold, Sight::OutlivesItsCoordinator])
        .explore("two branches, a crash of each role");
}

/// E2, E3, E6, E8, E9, E15: messages repeated, late, in any order.
#[test]
fn repeated_and_late_messages_e2_e3_e6_e8_e9() {
    let trouble = Trouble { repeats: 2, timeouts: 1, ..NONE };
    let whole = Trouble { refusals: 1, ..trouble };
    Explorer::new(1, PAIR, sized(trouble, whole))
        .sees(&[Sight::CommittedIsTold, Sight::AbortedIsTold])
        .explore("two branches, repeated messages");
}

/// A4, B1, B2, B9: log writes whose answer is lost, landing now, later or never.
#[test]
fn lost_log_answers_a4_b1_b2_b9() {
    let trouble = Trouble { lost_answers: 2, timeouts: 2, coordinator_crashes: 1, ..NONE };
    let whole = Trouble { lost_answers: 3, scans: 1, ..trouble };
    Explorer::new(1, PAIR, sized(trouble, whole))
        .sees(&[Sight::CommittedIsTold, Sight::AbortedIsTold, Sight::OutlivesItsCoordinator])
        .explore("two branches, lost log answers");
}

/// A10, A12, H4, H10: one coordinator takes another for dead, and either may be asked.
#[test]
fn two_coordinators_of_which_one_closes_a10_a12_h4_h10() {
    let trouble = Trouble { suspicions: 1, retries: 1, scans: 1, ..NONE };
    let whole = Trouble { timeouts: 1, ..trouble };
    Explorer::new(2, PAIR, sized(trouble, whole))
        .sees(&[Sight::CommittedIsTold, Sight::AbortedIsTold, Sight::LivingOwnerLoses])
        .explore("two coordinators, one closes");
}

/// H5: one-phase commit, questions elsewhere, crashes, late and repeated messages.
#[test]
fn the_one_branch_register_h5() {
    let trouble = Trouble {
        coordinator_crashes: 1,
        participant_crashes: 1,
        retries: 1,
        timeouts: 1,
        repeats: 1,
        ..NONE
    };
    let whole = Trouble { retries: 2, timeouts: 2, refusals: 1, lost_instances: 1, ..trouble };
    Explorer::new(2, ONE, sized(trouble, whole))
        .with(marker)
        .sees(&[Sight::CommittedIsTold, Sight::AbortedIsTold, Sight::RegisterClosed])
        .explore("one branch, its own register, two coordinators");
}

/// B8, D5, H1: the floor moves over the transaction at any point, and a branch is back after its end.
#[test]
fn forgetting_and_a_branch_that_reappears_b8_d5_h1() {
    let trouble =
        Trouble { floor_raises: 1, reappearances: 1, lost_answers: 1, scans: 1, timeouts: 1, ..NONE };
    let whole = Trouble { retries: 1, scans: 2, ..trouble };
    Explorer::new(1, PAIR, sized(trouble, whole))
        .sees(&[
            Sight::FloorPassesCommit,
            Sight::FloorPassesUndecided,
            Sight::Quarantine,
            Sight::CommittedAgain,
        ])
        .explore("two branches, forgetting, a branch that reappears");
}

/// C5, D5, H2: a branch is back, its coordinator died, and the commit is still remembered.
#[test]
fn a_branch_that_reappears_under_a_takeover_c5_d5() {
    let trouble = Trouble { coordinator_crashes: 1, reappearances: 1, scans: 1, ..NONE };
    let whole = Trouble { timeouts: 1, retries: 1, ..trouble };
    Explorer::new(1, PAIR, sized(trouble, whole))
        .sees(&[Sight::CommittedAgain, Sight::OutlivesItsCoordinator])
        .explore("two branches, one reappears under a takeover");
}

/// D3, D8, G2, G3, H11: a person ends a prepared branch in its database, before or after the decision.
#[test]
fn overruled_by_hand_d3_d8_g2_g3() {
    let trouble = Trouble { by_hand: 1, scans: 1, timeouts: 1, refusals: 1, ..NONE };
    let whole = Trouble { coordinator_crashes: 1, by_hand: 2, ..trouble };
    Explorer::new(1, PAIR, sized(trouble, whole))
        .sees(&[Sight::HeuristicKept, Sight::CommittedByHandAgainstAbort, Sight::CommittedIsTold])
        .explore("two branches, ended by hand");
}

/// H3, E3, C5: one-shot; a late Prepare executes again, and a second instance finishes what the first
/// one prepared.
#[test]
fn one_shot_with_two_instances_h3_e3_c5() {
    let trouble = Trouble { participant_crashes: 1, repeats: 1, ..NONE };
    let whole = Trouble { timeouts: 1, ..trouble };
    Explorer::new(1, PAIR, sized(trouble, whole))
        .with(two_instances)
        .with(forgetful)
        .sees(&[Sight::CommittedIsTold, Sight::SecondExecutionUndone, Sight::OtherInstanceCommits])
        .explore("one-shot, two instances of one resource");
}

/// B4, B5: rows of living incarnations are lost; nobody is told abort until somebody has vouched or
/// released.
#[test]
fn a_log_that_goes_back_in_time_b4_b5() {
    let trouble = Trouble { go_backs: 1, suspicions: 1, scans: 1, ..NONE };
    let whole = Trouble { timeouts: 1, ..trouble };
    Explorer::new(2, PAIR, sized(trouble, whole))
        .sees(&[Sight::DoubtedCommitHeld, Sight::Quarantine, Sight::CommittedIsTold])
        .explore("two coordinators, a log that goes back");
}

/// B4, B5, A6: as above, where the owner dies and a person releases what it left.
#[test]
fn a_log_that_goes_back_and_a_dead_owner_b4_b5_a6() {
    let trouble =
        Trouble { go_backs: 1, coordinator_crashes: 1, lost_answers: 1, scans: 1, timeouts: 1, ..NONE };
    let whole = Trouble { retries: 1, ..trouble };
    Explorer::new(1, PAIR, sized(trouble, whole))
        .sees(&[Sight::DoubtedCommitHeld, Sight::CommittedAfterVouching, Sight::AbortedAfterRelease])
        .explore("a log that goes back, a dead owner");
}

/// A2, A7, F3, F6: three branches, of which one may be slow or dead.
#[test]
fn three_branches_a2_a7_f6() {
    let trouble = Trouble { coordinator_crashes: 1, timeouts: 1, ..NONE };
    let whole = Trouble { refusals: 1, ..trouble };
    Explorer::new(1, THREE, sized(trouble, whole))
        .sees(&[Sight::CommittedIsTold, Sight::BranchCommitted])
        .explore("three branches");
}

/// C1, C5, F2: an owner loses sight of an instance, which may be dead or alive.
#[test]
fn an_instance_that_is_lost_c1_c5_f2() {
    let trouble = Trouble { lost_instances: 1, participant_crashes: 1, ..NONE };
    let whole = Trouble { lost_instances: 2, timeouts: 1, scans: 1, ..trouble };
    Explorer::new(1, PAIR, sized(trouble, whole))
        .sees(&[Sight::CommittedIsTold, Sight::AbortedWithInstanceUp])
        .explore("two branches, a lost instance");
}

/// A13, E13, H2: two transactions of the same participants at once.
#[test]
fn two_transactions_at_once_e13_h2() {
    let trouble = Trouble { refusals: 1, ..NONE };
    Explorer::new(1, &[&[0, 1], &[1]], sized(trouble, Trouble { repeats: 1, ..trouble }))
        .sees(&[Sight::CommittedIsTold, Sight::AbortedIsTold])
        .explore("two transactions at once");
}
