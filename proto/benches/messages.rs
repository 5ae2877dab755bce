//! What the messages of a commit's way take to be encoded, decoded, and converted to the core's values.
//!
//! ```text
//! cargo bench -p pactum-proto
//! ```
//!
//! Each message carries [`BATCH`] transactions, as under load; the figures are of one of them.

#![allow(clippy::unwrap_used, missing_docs, reason = "a measurement that cannot be made is to stop")]

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use pactum_core::coordinator::TransactionOutcome;
use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{BranchOutcome, Details};
use pactum_core::vote::{Evidence, Vote};
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as Down;
use pactum_proto::v1::participant_message::Message as Up;
use prost::Message;
use prost::bytes::Bytes;
use uuid::Uuid;

/// Transactions in one message.
const BATCH: usize = 512;

fn id(n: usize) -> TransactionId {
    TransactionId {
        incarnation: Incarnation::from_uuid(Uuid::from_u128(1)),
        gid: Gid::from_uuid(Uuid::from_u128((0x018b_cfe5_6800 << 80) + n as u128)),
    }
}

fn branch() -> Branch {
    Branch {
        id: BranchId::new(1),
        resource: ResourceName::new("bank-1").unwrap(),
        instance: InstanceId::from_uuid(Uuid::from_u128(3)),
        marker: false,
    }
}

fn evidence() -> Evidence {
    Evidence::new("4711", "7312345678901234567/1/16B3748")
}

fn details() -> Details {
    Details {
        name: "transfer".into(),
        labels: [("order".into(), "4711".into())].into(),
        ..Details::default()
    }
}

fn operation(branch: u64) -> v1::Operation {
    v1::Operation { branch, resource: format!("bank-{branch}"), name: "add".to_owned(), payload: vec![7; 32] }
}

/// One-shot transactions of two branches.
fn submits() -> v1::PipelineRequest {
    let call = |n| {
        let submit = v1::SubmitRequest {
            id: Some(id(n).into()),
            operations: vec![operation(1), operation(2)],
            details: Some(details().into()),
            ..v1::SubmitRequest::default()
        };
        v1::PipelineCall { call_id: n as u64, call: Some(v1::pipeline_call::Call::Submit(submit)) }
    };
    v1::PipelineRequest { calls: (0..BATCH).map(call).collect() }
}

fn answers() -> v1::PipelineResponse {
    let answer = |n| {
        let outcome =
            TransactionOutcome::Committed { read_only: false, unfinished: Vec::new(), heuristic: None };
        let answer = v1::pipeline_answer::Answer::Outcome(outcome.into());
        v1::PipelineAnswer { call_id: n as u64, answer: Some(answer) }
    };
    v1::PipelineResponse { welcome: None, answers: (0..BATCH).map(answer).collect() }
}

fn down(make: impl Fn(usize) -> Down) -> v1::AttachResponse {
    let message = |n| v1::CoordinatorMessage { message: Some(make(n)) };
    v1::AttachResponse { messages: (0..BATCH).map(message).collect() }
}

fn up(make: impl Fn(usize) -> Up) -> v1::AttachRequest {
    let message = |n| v1::ParticipantMessage { message: Some(make(n)) };
    v1::AttachRequest { messages: (0..BATCH).map(message).collect() }
}

fn prepare(n: usize) -> Down {
    Down::Prepare(v1::Prepare {
        id: Some(id(n).into()),
        branch: Some(branch().into()),
        one_phase: false,
        operation: Some(operation(1)),
        time_left: Some(Duration::from_secs(30).try_into().unwrap()),
        traceparent: String::new(),
    })
}

fn commit(n: usize) -> Down {
    Down::Commit(v1::Commit {
        id: Some(id(n).into()),
        branch: Some(branch().into()),
        evidence: Some(evidence().into()),
    })
}

fn vote(n: usize) -> Up {
    let vote = Some(Vote::Commit(evidence()).into());
    Up::Vote(v1::Vote { id: Some(id(n).into()), branch: Some(branch().into()), vote })
}

fn finished(n: usize) -> Up {
    let outcome = v1::BranchOutcome::from(BranchOutcome::Committed).into();
    Up::Finished(v1::Finished { id: Some(id(n).into()), branch: Some(branch().into()), outcome })
}

fn both_ways<M: Message + Default>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, message: &M) {
    let bytes = Bytes::from(message.encode_to_vec());
    group.bench_function(format!("{name}: encode"), |bencher| {
        let mut buffer = Vec::with_capacity(bytes.len());
        bencher.iter(|| {
            buffer.clear();
            message.encode(&mut buffer).unwrap();
            buffer.len()
        });
    });
    group.bench_function(format!("{name}: decode"), |bencher| {
        // What was decoded is dropped out of the measurement.
        bencher.iter_with_large_drop(|| M::decode(bytes.clone()).unwrap());
    });
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("messages");
    group.throughput(Throughput::Elements(BATCH as u64));
    both_ways(&mut group, "Submit", &submits());
    both_ways(&mut group, "answers of a pipeline", &answers());
    both_ways(&mut group, "Prepare", &down(prepare));
    both_ways(&mut group, "Vote", &up(vote));
    both_ways(&mut group, "Commit", &down(commit));
    both_ways(&mut group, "Finished", &up(finished));
    group.finish();
}

/// One value each way, [`BATCH`] times.
fn value<Core, Wire>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, core: &Core)
where
    Core: Clone + TryFrom<Wire>,
    Core::Error: std::fmt::Debug,
    Wire: From<Core> + Clone,
{
    let cores = vec![core.clone(); BATCH];
    let wires: Vec<Wire> = cores.iter().cloned().map(Wire::from).collect();
    group.bench_function(format!("{name}: to the wire"), |bencher| {
        let convert = |cores: Vec<Core>| {
            for core in cores {
                drop(black_box(Wire::from(core)));
            }
        };
        bencher.iter_batched(|| cores.clone(), convert, BatchSize::PerIteration);
    });
    group.bench_function(format!("{name}: from the wire"), |bencher| {
        let convert = |wires: Vec<Wire>| {
            for wire in wires {
                drop(black_box(Core::try_from(wire).unwrap()));
            }
        };
        bencher.iter_batched(|| wires.clone(), convert, BatchSize::PerIteration);
    });
}

fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("values");
    group.throughput(Throughput::Elements(BATCH as u64));
    value::<TransactionId, v1::TransactionId>(&mut group, "TransactionId", &id(7));
    value::<Branch, v1::Branch>(&mut group, "Branch", &branch());
    value::<Vote, v1::vote::Vote>(&mut group, "Vote", &Vote::Commit(evidence()));
    value::<Details, v1::Details>(&mut group, "Details", &details());
    let committed =
        TransactionOutcome::Committed { read_only: false, unfinished: Vec::new(), heuristic: None };
    value::<TransactionOutcome, v1::Outcome>(&mut group, "TransactionOutcome", &committed);
    group.finish();
}

criterion_group!(benches, messages, values);
criterion_main!(benches);
