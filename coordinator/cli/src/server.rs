//! Runs one coordinator inside this process, for `dev`, `serve` and the demo: opens its log, binds,
//! waits until it serves, and stops it when told to.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use pactum_coordinator::config::LogUrl;
use pactum_coordinator::decision_log::postgres::{self, Migrated};
use pactum_coordinator::decision_log::{DecisionLogError, sqlite};
use pactum_coordinator::{Config, Coordinator, Listeners, OpenLogError, open_log_with};
use pactum_proto::error::ErrorCode;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// A coordinator that serves.
#[derive(Debug)]
pub(crate) struct Running {
    coordinator: Coordinator,
    log: LogUrl,
}

/// Where a coordinator serves; what a ready file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    /// For applications and participants.
    pub(crate) public: String,
    /// For operators.
    pub(crate) admin: String,
}

impl Running {
    /// Opens the log and serves. Returns once it has an incarnation and takes transactions.
    pub(crate) async fn start(config: Config) -> Result<Self, Failure> {
        let Some(url) = config.log.clone() else {
            return Err(Failure::usage("there is no decision log to serve from")
                .next("give --log postgres://user@host/database or --log sqlite:path/to/log.db, or run `pactum dev`"));
        };
        config
            .check()
            .map_err(|error| Failure::usage("the configuration cannot be served with").because(&error))?;
        // Bound before the log is opened: a port in use is told without having touched the log.
        let listeners = Listeners::bind(&config).await.map_err(|error| not_bound(&config, &error))?;
        let log = open_log_with(url.reveal(), &config).await.map_err(|error| open_failure(&url, &error))?;
        let coordinator = Coordinator::start(listeners, log, config)
            .map_err(|error| Failure::new(Exit::Failed, "the coordinator could not start").because(&error))?;
        tokio::select! {
            () = coordinator.ready() => {}
            error = coordinator.failed() => {
                return Err(Failure::new(Exit::Failed, "the coordinator failed").because(&error));
            }
        }
        Ok(Self { coordinator, log: url })
    }

    /// For applications and participants.
    pub(crate) fn public_url(&self) -> String {
        self.coordinator.public_url()
    }

    /// For operators.
    pub(crate) fn admin_url(&self) -> String {
        self.coordinator.admin_url()
    }

    /// The log, without its password.
    pub(crate) fn log(&self) -> &LogUrl {
        &self.log
    }

    /// Both addresses.
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses { public: self.public_url(), admin: self.admin_url() }
    }

    /// Writes the addresses for whoever waits for this coordinator. The file appears whole.
    pub(crate) async fn write_ready_file(&self, path: Option<&Path>) -> Result<(), Failure> {
        let Some(path) = path else { return Ok(()) };
        let text = serde_json::to_string(&self.addresses()).expect("two strings always serialise");
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let written = async {
            tokio::fs::write(&beside, text + "\n").await?;
            tokio::fs::rename(&beside, path).await
        };
        written.await.map_err(|error| {
            Failure::new(Exit::Failed, format!("the ready file {} cannot be written", path.display()))
                .because(&error)
        })
    }

    /// Serves until SIGINT or SIGTERM, then drains. A second signal stops at once: safe, since
    /// every promise is in the log, and unkind to whoever waits for an answer.
    pub(crate) async fn until_stopped(self, output: &Output) -> Result<Exit, Failure> {
        let signals =
            signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
        let (mut interrupt, mut terminate) = signals
            .map_err(|error| Failure::new(Exit::Failed, "signals cannot be waited for").because(&error))?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            error = self.coordinator.failed() => {
                return Err(Failure::new(Exit::Failed, "the coordinator failed").because(&error));
            }
        }
        output.hint("stopping; interrupt again to stop at once");
        tokio::select! {
            stopped = self.coordinator.stop() => stopped
                .map(|()| Exit::Ok)
                .map_err(|error| Failure::new(Exit::Failed, "the coordinator did not stop in order").because(&error)),
            _ = interrupt.recv() => Ok(Exit::Interrupted),
            _ = terminate.recv() => Ok(Exit::Interrupted),
        }
    }

    /// Stops it in order; for a process that has no signals of its own.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.coordinator.stop().await.map_err(|error| {
            Failure::new(Exit::Failed, "the coordinator did not stop in order").because(&error)
        })
    }
}

/// Brings a log's schema up to this version.
pub(crate) async fn migrate(url: &LogUrl) -> Result<Migrated, Failure> {
    let text = url.reveal();
    let migrated = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        postgres::migrate(text).await
    } else if let Some(path) = text.strip_prefix("sqlite:") {
        sqlite::migrate(Path::new(path.strip_prefix("//").unwrap_or(path))).await
    } else {
        return Err(Failure::usage(format!("{url} is not the URL of a decision log"))
            .next("write it like postgres://user@host/database or sqlite:path/to/log.db"));
    };
    migrated.map_err(|error| log_failure(url, &error))
}

/// A log that cannot be opened.
pub(crate) fn open_failure(url: &LogUrl, error: &OpenLogError) -> Failure {
    match error {
        OpenLogError::Log(error) => log_failure(url, error),
        OpenLogError::UnknownScheme { .. } => {
            Failure::usage(format!("the decision log {url} cannot be used")).because(error)
        }
    }
}

/// A log that cannot be served from.
pub(crate) fn log_failure(url: &LogUrl, error: &DecisionLogError) -> Failure {
    let (exit, code) = match error {
        DecisionLogError::InUse { .. } => (Exit::Refused, ErrorCode::LogInUse),
        DecisionLogError::Database(_) => (Exit::CannotConnect, ErrorCode::LogUnreachable),
        DecisionLogError::Refused { .. } => (Exit::Failed, ErrorCode::LogSettingRefused),
        DecisionLogError::SchemaNotReady { .. } => (Exit::Failed, ErrorCode::SchemaNotReady),
        DecisionLogError::Corrupt { .. } => (Exit::Failed, ErrorCode::LogCorrupt),
    };
    Failure::new(exit, format!("the decision log {url} cannot be used")).because(error).code(code)
}

fn not_bound(config: &Config, error: &io::Error) -> Failure {
    let failure = Failure::new(
        Exit::Failed,
        format!("{} and {} cannot both be listened on", config.listen, config.admin_listen),
    )
    .because(error);
    if error.kind() == io::ErrorKind::AddrInUse {
        failure.code(ErrorCode::AddressInUse).next(
            "another coordinator may run there (`pactum participant list`); `pactum dev --random-ports` or --listen take other ports",
        )
    } else {
        failure
    }
}

/// Since when a command runs, for its ready line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started(Instant);

/// A short time, as `0.4 s`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elapsed(Duration);

impl Started {
    /// Now.
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    /// How long ago that was.
    pub(crate) fn elapsed(self) -> Elapsed {
        Elapsed(self.0.elapsed())
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}
