//! How a caller says which log he means.

use std::time::Duration;

use super::DecisionLogError;
use super::hosts::Hosts;

/// How to reach a log, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct PostgresLogOptions {
    pub(super) hosts: Hosts,
    pub(super) answer_limit: Duration,
    pub(super) standbys_min: u32,
}

impl PostgresLogOptions {
    /// Longest wait for the answer to one statement, unless told otherwise.
    pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

    /// Reads a URL, for example `postgres://user:password@host:5432/database`. Several hosts, with commas
    /// between, are asked for the one that is the primary:
    /// `postgres://user@one:5432,two:5432/database`. Nothing is connected.
    ///
    /// # Errors
    /// The URL is malformed.
    pub fn from_url(url: &str) -> Result<Self, DecisionLogError> {
        let hosts = Hosts::from_url(url)?.called("pactum log");
        Ok(Self { hosts, answer_limit: Self::ANSWER_LIMIT, standbys_min: 0 })
    }

    /// What the connections are called in `pg_stat_activity`.
    #[must_use]
    pub fn with_application_name(self, name: &str) -> Self {
        Self { hosts: self.hosts.called(name), ..self }
    }

    /// Longest wait for the answer to one statement; after it the outcome is unknown and the
    /// connection is given up. The server's own limits are set to two thirds of it for a statement
    /// and a third for a lock. Shorter finds a hung server sooner; too short turns a slow disk or
    /// standby into unknown outcomes, which cost a second round each.
    #[must_use]
    pub fn with_answer_limit(self, answer_limit: Duration) -> Self {
        Self { answer_limit, ..self }
    }

    /// Synchronous standbys that the server must be set to wait for. With fewer the log is not opened, and if
    /// that is changed later, no decision is written until it is changed back. Default 0. With 1 or
    /// more no failover to a synchronous standby can lose a decision.
    #[must_use]
    pub fn with_standbys_min(self, standbys_min: u32) -> Self {
        Self { standbys_min, ..self }
    }
}
