//! One-phase commit and questions to a branch's own register (H5).

use super::*;

#[test]
fn one_phase_answers_with_what_the_register_holds() {
    let mut core = Core::open();
    let run = Command::RunOnePhase { id: id(), branch: branch(), operation: None, deadline: deadline() };
    assert_eq!(core.feed(one_phase(A)), [run]);
    assert_eq!(core.feed(one_phase(B)), []);
    assert_eq!(
        core.feed(read(RegisterAnswer::Committed)),
        [send_register(A, RegisterAnswer::Committed), send_register(B, RegisterAnswer::Committed)]
    );
    assert_eq!(core.feed(one_phase(B)), [send_register(B, RegisterAnswer::Committed)]);
    assert_eq!(core.feed(settle(B)), [send_register(B, RegisterAnswer::Committed)]);
}

#[test]
fn one_phase_without_memory_asks_the_register_and_never_guesses_h5() {
    let mut core = Core::new();
    assert_eq!(core.feed(one_phase(A)), [run_settle()]);
    assert_eq!(core.feed(read(RegisterAnswer::Unknown)), [send_register(A, RegisterAnswer::Unknown)]);
    assert_eq!(core.feed(settle(A)), [run_settle()]);
}

#[test]
fn settle_waits_for_the_one_phase_commit_that_runs_h5() {
    let mut core = Core::open();
    core.feed(one_phase(A));
    assert_eq!(core.feed(settle(B)), []);
    assert_eq!(core.feed(read(RegisterAnswer::Unknown)), [run_settle()], "the hook could not tell");
    assert_eq!(
        core.feed(read(RegisterAnswer::Committed)),
        [send_register(A, RegisterAnswer::Committed), send_register(B, RegisterAnswer::Committed)]
    );
}

#[test]
fn settle_of_open_work_keeps_it_from_ever_committing_h5() {
    let mut core = Core::open();
    assert_eq!(core.feed(settle(A)), [run_settle()]);
    assert_eq!(core.feed(one_phase(B)), []);
    let closed = RegisterAnswer::Aborted(AbortReason::new(AbortKind::OwnerEnded, "closed"));
    assert_eq!(core.feed(read(closed.clone())), [send_register(A, closed.clone()), send_register(B, closed)]);
}

#[test]
fn a_register_is_not_asked_for_a_branch_in_two_phase_commit() {
    let mut core = Core::prepared();
    let orders = core.feed(settle(A));
    assert!(violates(&orders));
    assert_eq!(orders.last(), Some(&send_register(A, RegisterAnswer::Unknown)));
}
