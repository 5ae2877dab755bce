//! What a shard takes for a transaction, from its request to its answer, and what a record takes to be
//! written into the log's columns and read back.
//!
//! ```text
//! cargo bench -p pactum-coordinator
//! ```
//!
//! One shard, the memory log, one thread, no wire: what is measured is the shard's loop with the core,
//! the metrics, the log writer's queue, and the outboxes.

#![allow(clippy::unwrap_used, missing_docs, reason = "a measurement that cannot be made is to stop")]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pactum_coordinator::bench::{Columns, ShardLoop};
use pactum_coordinator::decision_log::Proposal;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::{Config, Coordinator, Listeners};
use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{DecidedBranch, Decision, DecisionRecord, Details};
use pactum_core::vote::Evidence;
use uuid::Uuid;

/// One shard; and nothing that happens by itself while it is measured.
fn config() -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        shards: 1,
        retry_first: Duration::from_mins(1),
        retry_cap: Duration::from_mins(1),
        heartbeat: Duration::from_hours(1),
        lease: Duration::from_hours(2),
        ..Config::default()
    }
}

fn shard(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let coordinator = runtime.block_on(async {
        let config = config();
        let listeners = Listeners::bind(&config).await.unwrap();
        let coordinator = Coordinator::start(listeners, Arc::new(MemoryLog::new()), config).unwrap();
        coordinator.ready().await;
        coordinator
    });
    let shard = RefCell::new(runtime.block_on(ShardLoop::attach(&coordinator)).unwrap());
    let mut group = criterion.benchmark_group("shard: submit, two branches commit");
    for in_flight in [1, 16, 512] {
        group.throughput(Throughput::Elements(in_flight as u64));
        group.bench_with_input(BenchmarkId::new("in flight", in_flight), &in_flight, |bencher, in_flight| {
            bencher.iter_batched(
                || shard.borrow_mut().batch(*in_flight).unwrap(),
                |batch| runtime.block_on(shard.borrow_mut().run(batch)).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    assert_eq!(coordinator.violations(), 0);
    runtime.block_on(async { coordinator.kill() });
}

fn proposal() -> Proposal {
    let decided = |number: u64| DecidedBranch {
        branch: Branch {
            id: BranchId::new(number),
            resource: ResourceName::new(&format!("bank-{number}")).unwrap(),
            instance: InstanceId::from_uuid(Uuid::from_u128(u128::from(number))),
            marker: false,
        },
        evidence: Evidence::new("4711", "7312345678901234567/1/16B3748"),
    };
    let id = TransactionId {
        incarnation: Incarnation::from_uuid(Uuid::from_u128(1)),
        gid: Gid::from_uuid(Uuid::from_u128(2)),
    };
    let details = Details {
        name: "transfer".into(),
        labels: [("order".into(), "4711".into())].into(),
        digest: Some([7; 16]),
        ..Details::default()
    };
    let record = DecisionRecord {
        id,
        decision: Decision::Commit,
        reason: None,
        branches: Arc::new([decided(1), decided(2)]),
        details: Arc::new(details),
    };
    Proposal { record, number: 1 }
}

fn columns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("columns of a commit of two branches");
    let proposal = proposal();
    let columns = Columns::of(&proposal).unwrap();
    let id = proposal.record.id;
    assert_eq!(columns.record(id).unwrap(), proposal.record);
    group.bench_function("written", |bencher| bencher.iter(|| Columns::of(&proposal).unwrap()));
    group.bench_function("read", |bencher| bencher.iter(|| columns.record(id).unwrap()));
    group.finish();
}

criterion_group!(benches, shard, columns);
criterion_main!(benches);
