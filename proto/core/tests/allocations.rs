//! What a transaction costs the core in memory: allocations on its way, and bytes while it is open.
//!
//! Counted and not timed, so the same in every run. A bound is what was measured and a little more;
//! whoever makes it better lowers the bound, and whoever must raise it says why.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made is a failed test")]

mod course;

use allocation_counter::{measure, opt_out};
use course::{BRANCHES, after_prepare, commit, core, enlist, finished, open, refuse, submit, tell, vote};
use pactum_core::coordinator::{Coordinator, Event};
use pactum_core::outcome::BranchOutcome;

/// Transactions that are counted, after as many that only make the tables grow.
const TRANSACTIONS: u64 = 10_000;

/// Allocations of one transaction in the core alone, of which `events` makes the facts.
fn allocations(events: impl Fn(u64) -> Vec<Event>) -> f64 {
    let mut core = core();
    let mut course = |n| {
        let mut made = Vec::new();
        opt_out(|| made = events(n));
        for event in made {
            tell(&mut core, event);
        }
        assert!(core.is_empty(), "transaction {n} has ended");
    };
    (1..=TRANSACTIONS).for_each(&mut course);
    let counted = measure(|| (TRANSACTIONS + 1..=2 * TRANSACTIONS).for_each(&mut course));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (total, of) = (counted.count_total as f64, TRANSACTIONS as f64);
    total / of
}

fn assert_at_most(what: &str, measured: f64, bound: f64) {
    assert!(measured <= bound, "{what}: {measured:.2} measured, at most {bound} wanted");
}

#[test]
fn a_submitted_commit_of_two_branches_allocates_little() {
    let course = |n| std::iter::once(submit(n)).chain(after_prepare(n)).collect();
    // 2.17 measured: the transaction, the branches of its record, and tables that grow.
    assert_at_most("submit", allocations(course), 2.5);
}

#[test]
fn an_enlisted_commit_of_two_branches_allocates_little() {
    let course = |n| {
        let enlisted = BRANCHES.map(|number| enlist(n, number));
        enlisted.into_iter().chain([commit(n)]).chain(after_prepare(n)).collect()
    };
    // 2.17 measured, as of a one-shot transaction.
    assert_at_most("enlist and commit", allocations(course), 2.5);
}

#[test]
fn an_abort_by_a_vote_allocates_little() {
    let course = |n| vec![submit(n), vote(n, 1), refuse(n, 2), finished(n, 1, BranchOutcome::Aborted)];
    // 4.17 measured: the transaction, and the reason's text with the name of who refused.
    assert_at_most("abort", allocations(course), 4.5);
}

/// Bytes of live memory for each transaction that `make` leaves open.
fn bytes_held(make: impl Fn(&mut Coordinator, u64)) -> i64 {
    let mut core = core();
    let counted = measure(|| (1..=TRANSACTIONS).for_each(|n| make(&mut core, n)));
    assert_eq!(core.len(), 10_000);
    counted.bytes_current / 10_000
}

#[test]
fn an_open_transaction_holds_few_bytes() {
    let held = bytes_held(open);
    // 673 measured: 424 of them the transaction with room for two branches, 152 what its application
    // said, the rest its places in the table and among the wake-ups.
    assert!(held <= 688, "active: {held} bytes");
}

#[test]
fn a_transaction_in_doubt_holds_few_bytes() {
    let held = bytes_held(|core, n| {
        tell(core, submit(n));
        for number in BRANCHES {
            tell(core, vote(n, number));
        }
    });
    // 1009 measured: beside what an active one holds, the record with both branches and their evidence.
    assert!(held <= 1024, "in doubt: {held} bytes");
}
