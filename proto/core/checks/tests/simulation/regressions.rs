//! What seeds have found, as plans of their own: a seed means another run as soon as the simulator draws
//! otherwise, a plan does not.

use std::time::Duration;

use pactum_core_checked::time::Timestamp;

use super::world::participants::HookEnd;
use super::world::{Held, Message, Scope, ToCoordinator, ToParticipant, World, gid, invariants};

const NOW: Timestamp = Timestamp::ORIGIN;

/// A world in which one transaction is under way.
fn begun(scope: Scope) -> World {
    let mut world = World::new(scope);
    world.begin(0, NOW);
    world
}

/// Delivers the first message of this kind; `keep` leaves a copy under way.
fn deliver(world: &mut World, keep: bool, kind: impl Fn(&Message) -> bool) {
    let message = world.network.keys().find(|message| kind(message)).cloned();
    world.deliver(&message.expect("such a message is under way"), keep, NOW);
}

fn asks(message: &Message) -> bool {
    matches!(message, Message::Commit { .. })
}

/// A message to that participant, of this kind.
fn told(place: usize, kind: impl Fn(&ToParticipant) -> bool) -> impl Fn(&Message) -> bool {
    move |message| matches!(message, Message::ToParticipant { to, body, .. } if *to == place && kind(body))
}

fn prepare(body: &ToParticipant) -> bool {
    matches!(body, ToParticipant::Prepare { .. })
}

fn commit(body: &ToParticipant) -> bool {
    matches!(body, ToParticipant::Commit { .. })
}

fn held(world: &World, place: usize) -> Option<&Held> {
    world.participants[place].database.branches.values().next()
}

fn keeps_its_promises(world: &World) {
    assert_eq!(invariants::broken(world), None);
}

/// Seeds 534 and 671 of an earlier simulator. The commit hook had failed twice, so that the process knew
/// of the branch only that its commit was decided; a late copy of Prepare then executed the one-shot work
/// a second time, under the name of the first, whose commit found another execution in its place (H3).
#[test]
fn one_shot_work_is_not_executed_again_after_its_commit_was_decided_h3() {
    let scope = Scope { transactions: vec![vec![0]], participants: 1, one_shot: true, ..Scope::default() };
    let mut world = begun(scope);
    deliver(&mut world, false, asks);
    deliver(&mut world, true, told(0, prepare));
    world.finish_hook(0, 0, HookEnd::Done, NOW);
    deliver(&mut world, false, |message| matches!(message, Message::ToCoordinator { .. }));
    world.log_applies(0, true, NOW);
    for _ in 0..2 {
        deliver(&mut world, true, told(0, commit));
        world.finish_hook(0, 0, HookEnd::Fails, NOW);
    }
    deliver(&mut world, false, told(0, prepare));
    assert!(world.participants[0].hooks.is_empty(), "it is executed again");
    deliver(&mut world, false, told(0, commit));
    world.finish_hook(0, 0, HookEnd::Done, NOW);
    assert!(matches!(held(&world, 0), Some(Held::Committed(_))), "{:?}", held(&world, 0));
    assert_eq!(world.participants[0].database.executions(), 1);
    keeps_its_promises(&world);
}

/// Seed 49181 of an earlier simulator. The abort hook of an open branch had failed, and was forgotten: the
/// local transaction stayed open for good (C8).
#[test]
fn an_abort_hook_that_fails_is_not_forgotten_c8() {
    let mut world = begun(Scope::default());
    deliver(&mut world, false, asks);
    deliver(&mut world, false, told(1, prepare));
    world.finish_hook(1, 0, HookEnd::Fails, NOW);
    deliver(&mut world, false, |message| {
        matches!(message, Message::ToCoordinator { body: ToCoordinator::No { .. }, .. })
    });
    deliver(&mut world, false, told(0, |body| matches!(body, ToParticipant::Abort { .. })));
    world.finish_hook(0, 0, HookEnd::Fails, NOW);
    assert_eq!(held(&world, 0), Some(&Held::Open));
    let later = NOW + Duration::from_mins(1);
    world.participant_timeout(0, later);
    world.finish_hook(0, 0, HookEnd::Done, later);
    assert_eq!(held(&world, 0), Some(&Held::Aborted));
    keeps_its_promises(&world);
}

/// Seed 65772 of an earlier simulator. A statement of a dead process landed when its transaction had been
/// aborted and forgotten: nobody may guess what it was to become (B8, D1). The simulator had taken for
/// stuck what has to wait for a person.
#[test]
fn what_lands_after_its_transaction_was_forgotten_waits_for_a_person_b8() {
    let mut world = begun(Scope::default());
    deliver(&mut world, false, asks);
    deliver(&mut world, false, told(0, prepare));
    world.crash_participant(0);
    world.coordinator_timeout(0, NOW + Duration::from_mins(1));
    world.raise_floor(gid(0), true, NOW);
    // Nor does anybody remember it.
    world.crash_coordinator(0);
    world.start_coordinator(0, NOW);
    world.finish_hook(0, 0, HookEnd::Done, NOW);
    world.start_participant(0, NOW);
    deliver(&mut world, false, |message| {
        matches!(message, Message::ToCoordinator { body: ToCoordinator::Inquiry { .. }, .. })
    });
    deliver(
        &mut world,
        false,
        told(0, |body| matches!(body, ToParticipant::InquiryAnswer { quarantine: true, .. })),
    );
    assert_eq!(world.participants[0].quarantined.len(), 1);
    assert!(matches!(held(&world, 0), Some(Held::Prepared(_))), "{:?}", held(&world, 0));
    assert!(world.participants[0].hooks.is_empty());
    keeps_its_promises(&world);
}
