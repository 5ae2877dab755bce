//! What one coordinator is made of, put together: shards, services, and the tasks without which it
//! must not go on.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use pactum_core::coordinator as core;
use pactum_core::id::Gid;
use pactum_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::ports::{self, Services};
use crate::config::Config;
use crate::console::Gate;
use crate::examine::Examiner;
use crate::journal::Journal;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Metrics, Monitoring, not_ready};
use crate::outbox::{BATCH_MESSAGES_MAX, OutboxLimits};
use crate::registry::Registry;
use crate::service::admin::{Admin, Trail};
use crate::service::participants::Participants;
use crate::service::pipeline::PipelineContext;
use crate::service::transactions::Transactions;
use crate::service::wire;
use crate::session::SessionContext;
use crate::shard::history::STEPS_MAX;
use crate::shard::{Admission, Backlog, Courses, Gauge, Shard, Shards};
use crate::tasks::Tasks;

/// What every task shares.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) journal: Journal,
    pub(super) shards: Arc<Shards>,
    pub(super) registry: Arc<Registry>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) examiner: Examiner,
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
}

/// Starts tasks without which the coordinator must not go on.
#[derive(Clone)]
pub(super) struct Fatal {
    pub(super) tasks: Tasks,
    pub(super) failed: tokio::sync::watch::Sender<Option<&'static str>>,
}

impl Fatal {
    /// Spawns one. If it ends, unless that is `expected`, the coordinator fails.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        expected: impl Fn() -> bool + Send + 'static,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (failed, killed) = (self.failed.clone(), self.tasks.killed());
        let task = self.tasks.spawn(task);
        self.tasks.spawn(async move {
            let ended = task.await;
            if !killed.is_cancelled() && !expected() {
                tracing::error!(task = name, panicked = ended.is_err(), "a task has ended unexpectedly");
                failed.send_replace(Some(name));
            }
        });
    }
}

/// Starts every shard's task.
pub(super) fn start_shards(
    config: &Config,
    journal: &Journal,
    registry: &Arc<Registry>,
    lifecycle: &Arc<Lifecycle>,
    fatal: &Fatal,
    metrics: &Metrics,
) -> Arc<Shards> {
    let (mut inputs, mut all_calls) = (Vec::new(), Vec::new());
    let (mut answers, mut gauges) = (Vec::new(), Vec::new());
    let origin = Instant::now();
    for _ in 0..config.shards {
        let (input_sender, input) = mpsc::channel(config.shard_queue_max);
        let (call_sender, calls) = mpsc::channel(config.shard_queue_max);
        let (answer_sender, answer) = mpsc::unbounded_channel();
        let gauge = Arc::new(Gauge::default());
        let shard = Shard {
            core: core::Coordinator::new(config.core(), None, Gid::NIL),
            inputs: input,
            calls,
            answers: answer,
            journal: journal.of_shard(answer_sender.clone(), &fatal.tasks),
            registry: Arc::clone(registry),
            lifecycle: Arc::clone(lifecycle),
            observer: config.observer.clone(),
            gauge: Arc::clone(&gauge),
            courses: Courses::new(
                metrics,
                STEPS_MAX.div_ceil(config.shards),
                config.tracer.clone(),
                Timestamp::from_origin(origin.elapsed()),
            ),
            open_max: config.transactions_open_max.div_ceil(config.shards),
            admission: Admission::new(config.shards, config.pipeline_in_flight_max),
            origin,
            waiting: HashMap::default(),
            own: None,
            backlog: Backlog::new(config.outbox_messages_max),
            recovered: HashSet::new(),
            turn: 0,
        };
        fatal.spawn("a shard", || false, shard.run());
        inputs.push(input_sender);
        all_calls.push(call_sender);
        answers.push(answer_sender);
        gauges.push(gauge);
    }
    Arc::new(Shards::new(inputs, all_calls, answers, gauges, origin))
}

impl Parts {
    /// What is shown to whoever monitors this coordinator; `failures` says which task has failed.
    pub(super) fn monitoring(
        &self,
        failures: tokio::sync::watch::Receiver<Option<&'static str>>,
    ) -> Monitoring {
        Monitoring {
            metrics: self.metrics.clone(),
            journal: self.journal.clone(),
            shards: Arc::clone(&self.shards),
            registry: Arc::clone(&self.registry),
            lifecycle: Arc::clone(&self.lifecycle),
            failures,
        }
    }

    /// What is served.
    pub(super) fn services(&self, config: &Config, gate: Gate, others: axum::Router) -> Services {
        let outbox =
            OutboxLimits { messages_max: config.outbox_messages_max, bytes_max: config.outbox_bytes_max };
        // A pipeline's answers are bounded by its calls in flight and its reserve, of a batch. Beside them
        // stand Welcomes: who leaves as many unread as another batch holds does not read at all.
        let answers = config.pipeline_in_flight_max.saturating_add(2 * BATCH_MESSAGES_MAX);
        let answers = OutboxLimits { messages_max: answers, bytes_max: usize::MAX };
        let sessions = SessionContext {
            shards: Arc::clone(&self.shards),
            registry: Arc::clone(&self.registry),
            lifecycle: Arc::clone(&self.lifecycle),
            examiner: self.examiner.clone(),
            tasks: self.tasks.clone(),
            metrics: self.metrics.clone(),
            hello_timeout: config.handshake_timeout,
            grace: config.participant_grace,
        };
        let limits = wire::Limits {
            timeout_default: config.timeout_default,
            timeout_max: config.timeout_max,
            branches_max: config.branches_max,
        };
        Services {
            transactions: Transactions {
                shards: Arc::clone(&self.shards),
                lifecycle: Arc::clone(&self.lifecycle),
                pipelines: PipelineContext { limits: answers, in_flight_max: config.pipeline_in_flight_max },
                limits,
                begins: Arc::default(),
                tasks: self.tasks.clone(),
            },
            participants: Participants { sessions, limits: outbox, tasks: self.tasks.clone() },
            admin: Admin {
                shards: Arc::clone(&self.shards),
                registry: Arc::clone(&self.registry),
                lifecycle: Arc::clone(&self.lifecycle),
                log: Arc::clone(&self.journal.log),
                examiner: self.examiner.clone(),
                trail: Trail::new(Arc::clone(&self.journal.log), self.tasks.clone()),
                settings: config.settings().into(),
                tasks: self.tasks.clone(),
                metrics: self.metrics.clone(),
                started: std::time::Instant::now(),
            },
            gate,
            others,
        }
    }
}

/// Where others are told to reach us: as configured, else the address that we are bound to. One that
/// means *any* is of no use to them.
pub(super) fn advertised(config: &Config, bound: SocketAddr) -> String {
    match &config.advertise {
        Some(address) => address.clone(),
        None if bound.ip().is_unspecified() => {
            tracing::warn!(
                %bound,
                "no other coordinator's applications and participants can find this one: set `advertise` to host:port"
            );
            String::new()
        }
        None => bound.to_string(),
    }
}

/// The health service's name for taking new transactions: serving while there is an incarnation, the
/// log can be written, and recovery is not behind; as `/health/ready`.
pub(super) const READY_HEALTH: &str = "pactum.ready";

/// Keeps the health service's answers in step with the lifecycle.
pub(super) async fn report_health(lifecycle: Arc<Lifecycle>, health: tonic_health::server::HealthReporter) {
    let (mut standing, mut log) = (lifecycle.subscribe(), lifecycle.log_availability());
    let mut recovery = lifecycle.recovery_changes();
    loop {
        let serving = standing.borrow_and_update().incarnation.is_some();
        log.borrow_and_update();
        let behind_at = recovery.borrow_and_update().is_behind_at().filter(|at| *at > Instant::now());
        let ready = not_ready(&lifecycle).is_empty();
        for service in ports::SERVICE_NAMES {
            health.set_service_status(service, status(serving)).await;
        }
        health.set_service_status(READY_HEALTH, status(ready)).await;
        let changed = tokio::select! {
            changed = standing.changed() => changed,
            changed = log.changed() => changed,
            changed = recovery.changed() => changed,
            () = sleep_until(behind_at.unwrap_or_else(Instant::now)), if behind_at.is_some() => Ok(()),
        };
        if changed.is_err() {
            return;
        }
    }
}

fn status(serving: bool) -> tonic_health::ServingStatus {
    if serving { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing }
}
