//! What a process remembers, without a server.

use uuid::Uuid;

use super::*;
use crate::decision_log::contract::gid;

fn server(timeline: u32) -> ServerIdentity {
    ServerIdentity { system: 7, timeline }
}

fn seen(timeline: u32, switches: u64, position: u64) -> Observation {
    Observation { server: server(timeline), position, stored: Some(server(timeline)), switches }
}

fn fits(ledger: &Ledger, seen: &Observation) -> Era {
    let verdict = ledger.judge(seen, ledger.position());
    let Verdict::Fits(era) = verdict else { panic!("{verdict:?}") };
    era
}

fn own(ledger: &Ledger, since: Era) -> Incarnation {
    let incarnation = Incarnation::from_uuid(Uuid::from_u128(1));
    assert!(ledger.started(incarnation, since));
    incarnation
}

fn won(number: u64) -> Written {
    Written { won: Some(gid(number)), ..Written::default() }
}

fn witnesses(ledger: &Ledger, incarnation: Incarnation, now: Era) -> Vec<Gid> {
    ledger.witnesses(incarnation, now).unwrap().into_iter().collect()
}

#[test]
fn a_server_is_introduced_once_and_then_fits() {
    let ledger = Ledger::default();
    let new = Observation { stored: None, ..seen(1, 0, 10) };
    assert!(matches!(ledger.judge(&new, None), Verdict::Introduce));
    fits(&ledger, &seen(1, 0, 10));
    fits(&ledger, &seen(1, 0, 10));
    fits(&ledger, &seen(1, 1, 5));
}

#[test]
fn b4_another_timeline_went_back_and_an_older_one_is_left_behind() {
    let ledger = Ledger::default();
    fits(&ledger, &seen(1, 0, 10));
    let promoted = Observation { stored: Some(server(1)), ..seen(2, 0, 20) };
    assert!(matches!(ledger.judge(&promoted, ledger.position()), Verdict::WentBack { switches: 1, .. }));
    fits(&ledger, &seen(2, 1, 20));
    assert!(matches!(ledger.judge(&seen(1, 0, 99), ledger.position()), Verdict::LeftBehind(_)));
    // Also one of another system that was left.
    let other = ServerIdentity { system: 9, timeline: 1 };
    fits(&ledger, &Observation { server: other, stored: Some(other), switches: 0, position: 1 });
    assert!(matches!(ledger.judge(&seen(2, 1, 99), ledger.position()), Verdict::LeftBehind(_)));
}

#[test]
fn b5_a_copy_on_the_same_timeline_is_known_by_its_position_or_its_switches() {
    let ledger = Ledger::default();
    fits(&ledger, &seen(1, 2, 100));
    let before = ledger.position();
    assert!(matches!(ledger.judge(&seen(1, 2, 99), before), Verdict::WentBack { switches: 3, .. }));
    assert!(matches!(ledger.judge(&seen(1, 1, 200), before), Verdict::WentBack { switches: 3, .. }));
    // A connection that was asked earlier and answers later shows no rewind.
    fits(&ledger, &seen(1, 2, 300));
    assert!(matches!(ledger.judge(&seen(1, 2, 150), before), Verdict::Fits(_)));
}

#[test]
fn a_write_proves_what_was_acknowledged_before_it_began() {
    let ledger = Ledger::default();
    let first = fits(&ledger, &seen(1, 0, 10));
    let own = own(&ledger, first);
    for number in 1..=100 {
        let ticket = ledger.begin(first, vec![gid(number)]).unwrap();
        assert!(ledger.end(ticket, won(number)));
    }
    // Two side by side prove nothing of each other; and one that was found stays until a later write.
    let (one, two) = (ledger.begin(first, Vec::new()).unwrap(), ledger.begin(first, Vec::new()).unwrap());
    assert!(ledger.end(two, won(102)));
    assert!(ledger.end(one, Written { found: vec![gid(50)], ..won(101) }));
    let next = fits(&ledger, &seen(1, 1, 10));
    assert_eq!(witnesses(&ledger, own, next), [gid(50), gid(101), gid(102)]);
}

#[test]
fn an_answer_that_arrives_after_the_era_ended_is_none() {
    let ledger = Ledger::default();
    let first = fits(&ledger, &seen(1, 0, 10));
    let own = own(&ledger, first);
    ledger.saw_standbys(first, 1);
    let ticket = ledger.begin(first, vec![gid(1)]).unwrap();
    let next = fits(&ledger, &seen(2, 1, 10));
    assert!(!ledger.end(ticket, won(1)));
    assert!(ledger.begin(first, Vec::new()).is_none());
    assert_eq!(witnesses(&ledger, own, next), [], "nobody was told of it");
}

#[test]
fn without_standbys_a_write_without_an_answer_may_have_been_read_by_others() {
    let ledger = Ledger::default();
    let first = fits(&ledger, &seen(1, 0, 10));
    let own = own(&ledger, first);
    ledger.saw_standbys(first, 0);
    let ticket = ledger.begin(first, vec![gid(1), gid(2)]).unwrap();
    assert!(ledger.end(ticket, Written { unknown: vec![gid(1), gid(2)], ..Written::default() }));
    // Settled later, by a commit that stands or by an abort.
    let ticket = ledger.begin(first, vec![gid(1)]).unwrap();
    assert!(ledger.end(ticket, Written { settled: vec![gid(1)], ..Written::default() }));
    let _running = ledger.begin(first, vec![gid(3)]).unwrap();
    let next = fits(&ledger, &seen(2, 1, 10));
    assert_eq!(witnesses(&ledger, own, next), [gid(2), gid(3)]);
}

#[test]
fn what_nobody_has_to_vouch_for_is_forgotten() {
    let ledger = Ledger::default();
    let first = fits(&ledger, &seen(1, 0, 10));
    let own = own(&ledger, first);
    let next = fits(&ledger, &seen(2, 1, 10));
    assert_eq!(ledger.state().chapters.len(), 2);
    assert!(ledger.lost(own) && !ledger.lost(own), "told once");
    assert_eq!(ledger.witnesses(own, next), None);
    ledger.done(own);
    assert_eq!(ledger.state().chapters.len(), 1);
}
