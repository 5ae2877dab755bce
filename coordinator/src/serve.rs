//! Running one coordinator: its parts put together, its ports opened, and its end.
//!
//! The end has an order: nothing new is started; what is in flight is finished, up to a limit;
//! streams end; our incarnation is ended in the log, so that a successor need not wait for the
//! lease; and whatever peers do, connections are closed by a hard deadline (a peer that holds a
//! silent connection would keep tonic's graceful shutdown waiting for ever).

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};

#[cfg(feature = "bench")]
pub mod bench;
mod parts;
mod ports;
mod tls;

use crate::config::{Config, ConfigError};
use crate::connection::Listener;
use crate::console::Gate;
use crate::decision_log::finisher::{Finisher, FinisherConfig};
use crate::decision_log::memory::MemoryLog;
use crate::decision_log::postgres::{PostgresLog, PostgresLogOptions};
use crate::decision_log::sqlite::SqliteLog;
use crate::decision_log::writer::{LogWriter, WriterConfig};
use crate::decision_log::{DecisionLog, DecisionLogError};
use crate::error::ServiceError;
use crate::examine::Examiner;
use crate::journal::{Journal, chain};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::recovery::{Keeper, Takeover, complete_for_ever, forget_for_ever};
use crate::registry::Registry;
use crate::tasks::Tasks;
use parts::{Fatal, Parts, advertised, report_health, start_shards};
use ports::Ports;

/// Opened sockets: a caller chooses the addresses, and knows them before anything is served. They may
/// be of another transport than TCP: see [`Listener`].
#[derive(Debug)]
pub struct Listeners<L = TcpListener> {
    /// For applications and participants.
    pub public: L,
    /// For operators.
    pub admin: L,
}

impl Listeners {
    /// Binds the addresses of a configuration; port 0 takes a free one.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn bind(config: &Config) -> std::io::Result<Self> {
        Ok(Self {
            public: TcpListener::bind(config.listen).await?,
            admin: TcpListener::bind(config.admin_listen).await?,
        })
    }
}

/// A log that could not be opened by its URL. Nothing happened, or its schema was made.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// Another scheme than those served.
    #[error("{url:?} names no log: postgres://…, sqlite:PATH or memory: is needed")]
    UnknownScheme {
        /// The URL's scheme (its rest may hold a password).
        url: String,
    },
    /// The log refused.
    #[error(transparent)]
    Log(#[from] DecisionLogError),
}

/// Opens a decision log: `postgres://…` (several hosts, with commas between, are asked for the
/// primary), `sqlite:PATH`, or `memory:` (nothing outlives the
/// process: for tests and benchmarks). Makes or migrates its schema if the role may.
///
/// # Errors
/// No such kind of log, or it refused: unreachable, in use, of another version, or with settings
/// under which an acknowledged commit could be lost.
pub async fn open_log(url: &str) -> Result<Arc<dyn DecisionLog>, OpenLogError> {
    open_log_with(url, &Config::default()).await
}

/// As [`open_log`], with the settings of a coordinator: [`Config::log_standbys_min`] and
/// [`Config::log_answer_limit`].
///
/// # Errors
/// As [`open_log`].
pub async fn open_log_with(url: &str, config: &Config) -> Result<Arc<dyn DecisionLog>, OpenLogError> {
    match url.split_once(':') {
        Some(("postgres" | "postgresql", _)) => {
            let options = PostgresLogOptions::from_url(url)?
                .with_answer_limit(config.log_answer_limit)
                .with_standbys_min(config.log_standbys_min);
            Ok(Arc::new(PostgresLog::open(options).await?))
        }
        Some(("sqlite", path)) => {
            let path = path.strip_prefix("//").unwrap_or(path);
            Ok(Arc::new(SqliteLog::open(Path::new(path)).await?))
        }
        Some(("memory", _)) => Ok(Arc::new(MemoryLog::new())),
        scheme => {
            let url = scheme.map_or_else(|| url.to_owned(), |(scheme, _)| format!("{scheme}:"));
            Err(OpenLogError::UnknownScheme { url })
        }
    }
}

/// Why a coordinator did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting. Nothing happened.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file for TLS cannot be read. Nothing happened.
    #[error("{path} cannot be read")]
    Tls {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file of tokens for the admin address cannot be used. Nothing happened.
    #[error("the tokens of the admin address cannot be used")]
    AdminTokens(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A listener, or the TLS files' contents.
    #[error("the ports cannot be served")]
    Listen(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A task that must live as long as the coordinator has ended. What was in flight is as after
    /// a crash.
    #[error("{task} has ended unexpectedly")]
    Failed {
        /// The task.
        task: &'static str,
    },
}

/// Serves until `shutdown`, then drains: finishes what is in flight within [`Config::drain`], and
/// ends within [`Config::stop_within`].
///
/// # Errors
/// It could not start, or a part of it failed.
pub async fn serve<L: Listener>(
    listeners: Listeners<L>,
    log: Arc<dyn DecisionLog>,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let coordinator = Coordinator::start(listeners, log, config)?;
    let failed = tokio::select! {
        () = shutdown => None,
        error = coordinator.failed() => Some(error),
    };
    match failed {
        None => coordinator.stop().await,
        Some(error) => Err(error),
    }
}

/// One running coordinator. Dropping it stops it as a crash would.
pub struct Coordinator {
    parts: Parts,
    ports: Ports,
    config: Config,
    failures: tokio::sync::watch::Receiver<Option<&'static str>>,
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Coordinator({}, {})", self.ports.public, self.ports.admin)
    }
}

impl Coordinator {
    /// Starts one. It serves, and [`ready`](Self::ready) returns, once it has an incarnation in
    /// the log; until then callers are told to come back.
    ///
    /// # Errors
    /// A setting, or the TLS files. Must be called within a tokio runtime.
    pub fn start<L: Listener>(
        listeners: Listeners<L>,
        log: Arc<dyn DecisionLog>,
        config: Config,
    ) -> Result<Self, ServeError> {
        config.check()?;
        let tls = tls::Files::read(&config)?;
        let bound = |listener: &L| listener.local_addr().map_err(|error| ServeError::Listen(error.into()));
        let (public, admin) = (bound(&listeners.public)?, bound(&listeners.admin)?);
        config.check_address(public)?;
        config.check_admin_address(admin)?;
        let gate = Gate::new(&config, admin).map_err(|error| ServeError::AdminTokens(error.into()))?;

        let tasks = Tasks::default();
        let (failed, failures) = tokio::sync::watch::channel(None);
        let lifecycle = Arc::new(Lifecycle::new(log.cluster().clone()));
        let registry = Arc::new(Registry::new(config.participants_max));
        let writer_config = WriterConfig {
            undecided_always: config.prepare_record_after.is_zero(),
            ..WriterConfig::default()
        };
        let metrics = Metrics::default();
        let writer = LogWriter::start_measured(Arc::clone(&log), writer_config, metrics.log_meter());
        let finisher = Finisher::start(Arc::clone(&log), FinisherConfig::default());
        let journal = Journal::start(Arc::clone(&log), writer, finisher, &tasks);
        let fatal = Fatal { tasks: tasks.clone(), failed };
        let shards = start_shards(&config, &journal, &registry, &lifecycle, &fatal, &metrics);
        let examiner = Examiner::new(Arc::clone(&registry), config.examine_timeout);
        let parts = Parts { journal, shards, registry, lifecycle, examiner, tasks, metrics };

        let (health, health_service) = tonic_health::server::health_reporter();
        let (membership, members) = tokio::sync::watch::channel(None);
        let keeper = Keeper {
            journal: parts.journal.clone(),
            shards: Arc::clone(&parts.shards),
            lifecycle: Arc::clone(&parts.lifecycle),
            observer: config.observer.clone(),
            metrics: parts.metrics.clone(),
            address: advertised(&config, public),
            heartbeat: config.heartbeat,
            lease: config.lease,
            membership,
        };
        let takeover = Takeover {
            journal: parts.journal.clone(),
            shards: Arc::clone(&parts.shards),
            registry: Arc::clone(&parts.registry),
            lifecycle: Arc::clone(&parts.lifecycle),
            metrics: parts.metrics.clone(),
            health: health.clone(),
            observer: config.observer.clone(),
            period: config.heartbeat,
            look_again: config.lease,
            open_max: config.transactions_open_max,
        };
        let draining = Arc::clone(&parts.lifecycle);
        fatal.spawn("the keeper of the incarnation", move || draining.is_draining(), keeper.run());
        let draining = Arc::clone(&parts.lifecycle);
        fatal.spawn("recovery", move || draining.is_draining(), takeover.run(members.clone()));
        parts.tasks.spawn(forget_for_ever(log, config.retention, parts.metrics.clone()));
        parts.tasks.spawn(report_health(Arc::clone(&parts.lifecycle), health));

        let others = crate::metrics::routes(parts.monitoring(failures.clone()));
        let services = parts.services(&config, gate, others);
        parts.tasks.spawn(complete_for_ever(services.admin.clone(), members, config.lease));
        let served = Ports::serve(
            listeners,
            (public, admin),
            &config,
            tls.as_ref(),
            services,
            &health_service,
            &fatal,
        )?;
        tracing::info!(%public, %admin, log = parts.journal.log.kind(), "coordinator started");
        Ok(Self { parts, ports: served, config, failures })
    }

    /// Where applications and participants are served.
    pub fn public_addr(&self) -> SocketAddr {
        self.ports.public
    }

    /// Where operators are served.
    pub fn admin_addr(&self) -> SocketAddr {
        self.ports.admin
    }

    /// [`public_addr`](Self::public_addr) as a URL.
    pub fn public_url(&self) -> String {
        self.url(self.ports.public)
    }

    /// [`admin_addr`](Self::admin_addr) as a URL.
    pub fn admin_url(&self) -> String {
        self.url(self.ports.admin)
    }

    fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    /// Transactions that are not finished, about.
    pub fn transactions_open(&self) -> usize {
        self.parts.shards.open()
    }

    /// What a scrape of `/metrics` answers, in the Prometheus text format 0.0.4: for a process that
    /// serves metrics of its own.
    pub fn metrics(&self) -> String {
        let monitoring = self.parts.monitoring(self.failures.clone());
        monitoring.text().unwrap_or_default()
    }

    /// How often a contract was seen broken, by a peer, the log, or ourselves: 0 in a healthy
    /// system. Each was told in the log too.
    pub fn violations(&self) -> u64 {
        self.parts.shards.violations()
    }

    /// Returns once it has an incarnation and serves.
    pub async fn ready(&self) {
        let mut standing = self.parts.lifecycle.subscribe();
        // The sender lives in `self`.
        drop(standing.wait_for(|standing| standing.incarnation.is_some()).await);
    }

    /// Returns only if a task that must live as long as the coordinator has ended.
    pub async fn failed(&self) -> ServeError {
        let mut failures = self.failures.clone();
        let task = match failures.wait_for(Option::is_some).await {
            Ok(task) => task.unwrap_or("a task"),
            Err(_closed) => "every task",
        };
        ServeError::Failed { task }
    }

    /// Stops in good order: see the head of this file.
    ///
    /// # Errors
    /// None so far; a coordinator that was slow to stop is stopped hard, and says so in its log.
    pub async fn stop(self) -> Result<(), ServeError> {
        let begun = Instant::now();
        let hard = begun + self.config.stop_within;
        tracing::info!(open = self.parts.shards.open(), "draining");
        self.parts.lifecycle.drain();
        self.drained(begun + self.config.drain).await;

        for session in self.parts.registry.sessions().iter() {
            session.end(ServiceError::Draining);
        }
        self.ports.let_go();
        let Parts { journal, .. } = &self.parts;
        let left = hard.saturating_duration_since(Instant::now());
        journal.writer.shut_down(left / 2).await;
        let farewell = async {
            if let Err(error) = journal.finisher.shut_down().await {
                tracing::warn!(error = %chain(&error), "the last end records were not kept");
            }
            let Some(incarnation) = self.parts.lifecycle.own() else { return };
            if let Err(error) = journal.log.end_incarnation(incarnation).await {
                tracing::warn!(error = %chain(&error), "a successor must wait for our lease");
            }
        };
        if timeout_at(hard, farewell).await.is_err() {
            tracing::warn!("the log did not take our farewell in time: a successor must wait for our lease");
        }
        // Peers that read their last answers are let go; silent ones are not waited for.
        let patience = hard.min(Instant::now() + LET_GO);
        if timeout_at(patience, self.ports.ended()).await.is_err() {
            tracing::debug!("connections are closed under their peers");
        }
        self.parts.tasks.kill();
        self.parts.tasks.ended().await;
        tracing::info!("stopped");
        Ok(())
    }

    /// Waits until nothing of our own is in flight, but no longer than the limit. What we recovered
    /// of others falls to the other coordinators, or to a successor, as soon as we have ended.
    async fn drained(&self, limit: Instant) {
        let shards = &self.parts.shards;
        let own = || shards.open().saturating_sub(shards.recovering());
        while own() > 0 {
            if Instant::now() >= limit {
                let open = own();
                tracing::warn!(open, "transactions are left; a successor recovers what was decided");
                return;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    /// Stops as a crash would: every task ends where it stands, every connection is closed, and
    /// nothing is written. The same as dropping it.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.parts.tasks.kill();
    }
}

/// How long peers may take to read their last answers.
const LET_GO: Duration = Duration::from_secs(1);

/// Between looks at what is still open while draining.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
