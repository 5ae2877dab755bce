//! What a transaction costs the coordinator in memory: allocations on its way from the bytes of its
//! request to the bytes of its answer, and bytes that it holds while it is open.
//!
//! Everything but HTTP/2 is real: decoding, conversion, shard, core, metrics, log writer, the memory
//! log, outboxes, encoding. All of it runs on the test's own thread, and only that is counted. Counted
//! and not timed, so nearly the same in every run; a bound is what was measured and a little more.
//! Whoever makes it better lowers the bound; whoever must raise it says why.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made is a failed test")]
#![allow(unreachable_pub, reason = "modules of one test")]

mod peers;

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::{Config, Coordinator, Listeners};
use pactum_proto::v1;
use pactum_proto::v1::participant_message::Message as Up;
use peers::{Application, Participant, frame, unary};
use prost::bytes::Bytes;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Transactions in one message.
const BATCH: usize = 512;

/// Messages of transactions before anything is counted: so many that the shard's history of steps has
/// its full length, and tables their usual one.
const WARM_UP: usize = 16;

/// A coordinator of one shard, an application and two participants.
struct Scene {
    // Dropped in this order: the tasks before the runtime that they are on.
    application: Application,
    participants: [Participant; 2],
    coordinator: Coordinator,
    runtime: Runtime,
    incarnation: Vec<u8>,
}

/// Nothing happens by itself while it is counted: no heartbeat, no second attempt, no prepare record.
fn config() -> Config {
    let never = Duration::from_hours(24);
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        shards: 1,
        heartbeat: never,
        lease: never * 2,
        retry_first: never,
        retry_cap: never,
        prepare_record_after: never,
        ..Config::default()
    }
}

impl Scene {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (coordinator, application, participants) = runtime.block_on(async {
            let config = config();
            let listeners = Listeners::bind(&config).await.unwrap();
            let coordinator = Coordinator::start(listeners, Arc::new(MemoryLog::new()), config).unwrap();
            coordinator.ready().await;
            let application = Application::open(&coordinator).await;
            let participants =
                [Participant::attach(&coordinator, 1).await, Participant::attach(&coordinator, 2).await];
            (coordinator, application, participants)
        });
        let incarnation = pactum_coordinator::bench::incarnation(&coordinator).unwrap();
        let incarnation = incarnation.as_uuid().as_bytes().to_vec();
        let mut scene = Self { application, participants, coordinator, runtime, incarnation };
        for _ in 0..WARM_UP {
            let batch = scene.batch();
            scene.run(batch);
        }
        scene
    }

    fn draw(&self) -> v1::TransactionId {
        let gid = Uuid::now_v7().as_bytes().to_vec();
        v1::TransactionId { incarnation: self.incarnation.clone(), gid }
    }

    fn details() -> v1::Details {
        let labels = [("order".to_owned(), "4711".to_owned())].into();
        v1::Details { name: "transfer".into(), labels, traceparent: String::new() }
    }

    /// What everybody sends for one batch of one-shot transactions.
    fn batch(&self) -> Batch {
        let ids: Vec<v1::TransactionId> = (0..BATCH).map(|_| self.draw()).collect();
        let operation = |participant: &Participant| v1::Operation {
            branch: participant.branch.id,
            resource: participant.branch.resource.clone(),
            name: "add".into(),
            payload: vec![7; 32],
        };
        let call = |(call_id, id): (u64, &v1::TransactionId)| {
            let submit = v1::SubmitRequest {
                id: Some(id.clone()),
                operations: self.participants.iter().map(operation).collect(),
                details: Some(Self::details()),
                ..v1::SubmitRequest::default()
            };
            v1::PipelineCall { call_id, call: Some(v1::pipeline_call::Call::Submit(submit)) }
        };
        let evidence =
            v1::Evidence { execution: "4711".into(), anchor: "7312345678901234567/1/16B3748".into() };
        let vote = |id: &v1::TransactionId, branch: &v1::Branch| {
            let vote = Some(v1::vote::Vote::Commit(evidence.clone()));
            Up::Vote(v1::Vote { id: Some(id.clone()), branch: Some(branch.clone()), vote })
        };
        let end = |id: &v1::TransactionId, branch: &v1::Branch| {
            let outcome = v1::BranchOutcome::Committed.into();
            Up::Finished(v1::Finished { id: Some(id.clone()), branch: Some(branch.clone()), outcome })
        };
        Batch {
            calls: frame(&v1::PipelineRequest { calls: (1..).zip(&ids).map(call).collect() }),
            votes: self.ups(&ids, vote),
            ends: self.ups(&ids, end),
        }
    }

    /// One message for each participant, about so many transactions.
    fn ups(
        &self,
        ids: &[v1::TransactionId],
        make: impl Fn(&v1::TransactionId, &v1::Branch) -> Up,
    ) -> [Bytes; 2] {
        self.participants.each_ref().map(|participant| {
            let message = |id| v1::ParticipantMessage { message: Some(make(id, &participant.branch)) };
            frame(&v1::AttachRequest { messages: ids.iter().map(message).collect() })
        })
    }

    /// Sends a batch through; each phase's messages are all heard before the next phase is sent.
    fn run(&mut self, batch: Batch) {
        let Self { application, participants, runtime, .. } = self;
        let Batch { calls, votes, ends } = batch;
        runtime.block_on(async {
            application.send(calls);
            for phase in [votes, ends] {
                for participant in participants.iter_mut() {
                    participant.hear(BATCH).await;
                }
                for (participant, frame) in participants.iter().zip(phase) {
                    participant.send(frame);
                }
            }
            application.hear(BATCH).await;
        });
    }
}

/// What everybody sends for [`BATCH`] transactions, encoded.
struct Batch {
    calls: Bytes,
    votes: [Bytes; 2],
    ends: [Bytes; 2],
}

/// The most allocations of a one-shot commit of two branches. Measured: 46.7; twice as many while the usual
/// messages went through generated types. The columns of its record have 14 of them (the memory log checks
/// that they could be written), the core 2 and the shard 1.
const ALLOCATIONS_MAX: f64 = 48.0;

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn for_each(counted: u64, of: usize) -> f64 {
    counted as f64 / of as f64
}

#[test]
fn a_commit_of_two_branches_allocates_little() {
    const BATCHES: usize = 16;
    let mut scene = Scene::new();
    let batches: Vec<Batch> = (0..BATCHES).map(|_| scene.batch()).collect();
    let counted = measure(|| batches.into_iter().for_each(|batch| scene.run(batch)));
    assert_eq!(scene.coordinator.transactions_open(), 0);
    assert_eq!(scene.coordinator.violations(), 0);
    let measured = for_each(counted.count_total, BATCHES * BATCH);
    assert!(
        measured <= ALLOCATIONS_MAX,
        "{measured:.1} allocations for each transaction, at most {ALLOCATIONS_MAX} wanted"
    );
}

/// Open transactions whose memory is measured: as many as make the shard's tables double once more
/// (14 336 fill one of 16 384 places), so that there is no better moment to hide in.
const OPEN: usize = 30 * BATCH;

/// The most memory that an open transaction may hold: a million of them in one gigabyte.
const OPEN_BYTES_MAX: i64 = 1024;

impl Scene {
    /// Has both participants enlist a branch in each transaction.
    fn enlist(&mut self, ids: &[v1::TransactionId]) {
        for ids in ids.chunks(BATCH) {
            let enlist = |id: &v1::TransactionId, branch: &v1::Branch| {
                let (id, branch) = (Some(id.clone()), Some(branch.clone()));
                let time_left = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
                Up::Enlist(v1::Enlist { call_id: 1, id, branch, time_left })
            };
            let frames = self.ups(ids, enlist);
            let Self { participants, runtime, .. } = self;
            runtime.block_on(async {
                for (participant, frame) in participants.iter_mut().zip(frames) {
                    participant.send(frame);
                    participant.hear(ids.len()).await;
                }
            });
        }
    }
}

#[test]
fn an_open_transaction_holds_at_most_a_kibibyte() {
    let mut scene = Scene::new();
    let mut ids = Vec::with_capacity(OPEN);
    let request = v1::BeginRequest {
        details: Some(Scene::details()),
        timeout: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        request_id: String::new(),
    };
    let request = frame(&request);
    let (transactions, _) = pactum_coordinator::bench::services(&scene.coordinator).unwrap();
    // Peers' messages are counted here too: all of them are gone in the end.
    let counted = measure(|| {
        for _ in 0..OPEN {
            let take = |response: v1::BeginResponse| ids.push(response.id.unwrap());
            let path = "/pactum.v1.TransactionsService/Begin";
            scene.runtime.block_on(unary(transactions.clone(), path, request.clone(), take));
        }
        scene.enlist(&ids);
    });
    assert_eq!(scene.coordinator.transactions_open(), OPEN);
    let held = counted.bytes_current / i64::try_from(OPEN).unwrap();
    assert!(
        held <= OPEN_BYTES_MAX,
        "{held} bytes for each open transaction, at most {OPEN_BYTES_MAX} wanted"
    );
}
