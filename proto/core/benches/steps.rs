//! What the coordinator's core and the participant's core take for their steps, and whether that grows
//! with the transactions that are open.
//!
//! ```text
//! cargo bench -p pactum-core
//! ```
//!
//! Each figure is of one transaction or one step, facts made beforehand, orders taken out and dropped.
//! Steps are taken for [`BATCH`] transactions at a time, as a shard takes them.

#![allow(clippy::unwrap_used, missing_docs, reason = "a measurement that cannot be made is to stop")]

#[path = "../tests/course/mod.rs"]
mod course;

use std::cell::{Cell, RefCell};

use course::{BRANCHES, after_prepare, begin, commit, enlist, finished, refuse, submit, tell, vote};
use criterion::{BatchSize, Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pactum_core::coordinator::{Coordinator, Event};
use pactum_core::outcome::BranchOutcome;

/// Transactions whose steps are measured together: as many as a shard takes in at once.
const BATCH: u64 = 512;

/// A core in which so many transactions are open, begun and with both branches enlisted.
fn with_open(count: u64) -> Coordinator {
    let mut core = course::core();
    (1..=count).for_each(|n| course::open(&mut core, n));
    core
}

/// Measures `measured` for [`BATCH`] transactions, each of which `before` has brought there; `after`
/// ends it, out of the measurement.
fn measure(
    bencher: &mut Bencher<'_>,
    core: Coordinator,
    before: impl Fn(u64) -> Vec<Event>,
    measured: impl Fn(u64) -> Vec<Event>,
    after: impl Fn(u64) -> Vec<Event>,
) {
    // Above every gid that is open already.
    let (open, first) = (core.len(), Cell::new(1 << 32));
    let core = RefCell::new(core);
    let all = |make: &dyn Fn(u64) -> Vec<Event>| -> Vec<Event> {
        (first.get()..first.get() + BATCH).flat_map(make).collect()
    };
    let feed = |events: Vec<Event>| {
        let mut core = core.borrow_mut();
        events.into_iter().map(|event| tell(&mut core, event)).sum::<usize>()
    };
    let make = || {
        if first.get() > 1 << 32 {
            first.set(first.get() - BATCH);
            feed(all(&after));
            assert_eq!(core.borrow().len(), open, "each transaction has ended");
            first.set(first.get() + BATCH);
        }
        feed(all(&before));
        let events = all(&measured);
        first.set(first.get() + BATCH);
        events
    };
    bencher.iter_batched(make, feed, BatchSize::PerIteration);
}

fn none(_: u64) -> Vec<Event> {
    Vec::new()
}

fn whole(n: u64) -> Vec<Event> {
    std::iter::once(submit(n)).chain(after_prepare(n)).collect()
}

fn enlisted(n: u64) -> Vec<Event> {
    let enlisted = BRANCHES.map(|number| enlist(n, number));
    std::iter::once(begin(n)).chain(enlisted).chain([commit(n)]).chain(after_prepare(n)).collect()
}

fn abort(n: u64) -> Vec<Event> {
    vec![submit(n), vote(n, 1), refuse(n, 2), finished(n, 1, BranchOutcome::Aborted)]
}

fn coordinator(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("coordinator");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("submit, two branches commit", |bencher| {
        measure(bencher, with_open(0), none, whole, none);
    });
    group.bench_function("begin, enlist twice, commit", |bencher| {
        measure(bencher, with_open(0), none, enlisted, none);
    });
    group.bench_function("submit, one branch refuses", |bencher| {
        measure(bencher, with_open(0), none, abort, none);
    });
    group.bench_function("one vote", |bencher| {
        let rest = |n| after_prepare(n).into_iter().skip(1).collect();
        measure(bencher, with_open(0), |n| vec![submit(n)], |n| vec![vote(n, 1)], rest);
    });
    group.finish();
}

/// The same whole commit beside ever more transactions that stay open.
fn open_transactions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("two branches commit, with others open");
    group.throughput(Throughput::Elements(BATCH));
    for open in [0, 1_000, 10_000, 100_000] {
        group.bench_with_input(BenchmarkId::from_parameter(open), &open, |bencher, open| {
            measure(bencher, with_open(*open), none, whole, none);
        });
    }
    group.finish();
}

mod participant {
    //! One branch at its participant: Prepare, the hook's vote, Commit, the hook's end.

    use std::cell::{Cell, RefCell};

    use criterion::{BatchSize, Criterion, Throughput};
    use pactum_core::coordinator::Operation;
    use pactum_core::outcome::BranchOutcome;
    use pactum_core::participant::{BranchKey, Config, Event, Participant, SessionId};
    use pactum_core::vote::{Evidence, Vote};

    use super::BATCH;
    use super::course::{NOW, branch, id};

    const FROM: SessionId = SessionId(1);

    fn course(n: u64) -> [Event; 4] {
        let (id, branch) = (id(n), branch(1));
        let key = BranchKey { id, branch: branch.id };
        let evidence = Evidence::new("4711", "7312345678901234567/1/16B3748");
        let operation = Some(Operation { name: "add".into(), payload: [7; 32].into() });
        let prepare = Event::PrepareReceived {
            from: FROM,
            id,
            branch: branch.clone(),
            operation,
            one_phase: false,
            deadline: NOW,
        };
        let vote = Event::PrepareFinished { key, vote: Vote::Commit(evidence.clone()) };
        let commit = Event::CommitReceived { from: FROM, id, branch, evidence };
        [prepare, vote, commit, Event::BranchEnded { key, outcome: BranchOutcome::Committed }]
    }

    pub(super) fn branches(criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("participant");
        group.throughput(Throughput::Elements(BATCH));
        group.bench_function("one branch commits", |bencher| {
            let (core, first) = (RefCell::new(Participant::new(Config::default())), Cell::new(1));
            let make = || -> Vec<Event> {
                let from = first.replace(first.get() + BATCH);
                (from..from + BATCH).flat_map(course).collect()
            };
            let feed = |events: Vec<Event>| {
                let mut core = core.borrow_mut();
                let mut orders = 0;
                for event in events {
                    core.handle_event(event, NOW).unwrap();
                    orders += std::iter::from_fn(|| core.poll_command()).count();
                }
                orders
            };
            bencher.iter_batched(make, feed, BatchSize::PerIteration);
        });
        group.finish();
    }
}

criterion_group!(benches, coordinator, open_transactions, participant::branches);
criterion_main!(benches);
