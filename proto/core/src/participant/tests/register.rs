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

/// Found by the simulator: the question was never repeated, and the local work stayed open for ever.
#[test]
fn open_work_whose_register_could_not_be_asked_is_given_up_all_the_same_h5() {
    let mut core = Core::open();
    assert_eq!(core.feed(settle(A)), [run_settle()]);
    assert_eq!(core.feed(read(RegisterAnswer::Unknown)), [send_register(A, RegisterAnswer::Unknown)]);
    let retry = core.0.poll_timeout().expect("it goes on by itself");
    core.0.handle_timeout(retry);
    assert_eq!(core.0.poll_command(), Some(run_abort(None)));
    core.feed(ended(BranchOutcome::Aborted));
    // Its outcome is still the register's to tell.
    assert_eq!(core.feed(settle(A)), [run_settle()]);
    assert_eq!(core.feed(one_phase(A)), [], "and it is not executed any more");
}
