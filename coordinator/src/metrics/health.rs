//! Whether this coordinator lives, and whether it is ready: over HTTP for probes, with the reason for
//! people, and the same judgement as the gRPC health service gives under `pactum.ready`.
//!
//! *Live* means that no task has ended without which it cannot go on: else it must be restarted, which
//! nothing else helps. *Ready* means that it takes new transactions: it has an incarnation, the log
//! can be written, and recovery is not behind.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::lifecycle::Lifecycle;

/// How long recovery may take before it is called behind. A takeover of a few thousand commits takes
/// less, and readiness should not flap with each.
pub(crate) const BEHIND_AFTER: Duration = Duration::from_secs(10);

/// How recovery stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Since when there are ended incarnations of whose unfinished commits our share was not read to
    /// the end, or since when the log could not be read for them.
    pub(crate) behind_since: Option<Instant>,
    /// Incarnations whose recovery was stopped by a record that cannot be read. A person must act; this
    /// alone does not make a coordinator unready, since it would make all of them so at once.
    pub(crate) stuck: usize,
}

impl Recovery {
    /// When it counts as behind, unless it has caught up before.
    pub(crate) fn is_behind_at(&self) -> Option<Instant> {
        self.behind_since.map(|since| since + BEHIND_AFTER)
    }

    fn is_behind(&self) -> bool {
        self.is_behind_at().is_some_and(|at| at <= Instant::now())
    }
}

/// Why it takes no new transactions; none if it does.
pub(crate) fn not_ready(lifecycle: &Lifecycle) -> Vec<String> {
    let mut why = Vec::new();
    if lifecycle.is_draining() {
        why.push("it is stopping: what is in flight is finished, and nothing new is started".to_owned());
    } else if lifecycle.standing().incarnation.is_none() {
        why.push(
            "it has no incarnation in the log: it is starting, or another coordinator ended it".to_owned(),
        );
    }
    if !lifecycle.is_log_available() {
        let problem = lifecycle.log_problem();
        why.push(format!(
            "the log cannot be written: {}",
            problem.as_deref().unwrap_or("no reason is known")
        ));
    }
    let recovery = lifecycle.recovery();
    if let Some(since) = recovery.behind_since.filter(|_| recovery.is_behind()) {
        let seconds = since.elapsed().as_secs();
        why.push(format!(
            "recovery is behind: commits of ended coordinators wait for {seconds} s to be read"
        ));
    }
    why
}

/// What a probe is told.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `live`, `ready`, or `not live`, `not ready`.
    status: &'static str,
    /// Why not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

impl Report {
    pub(super) fn live(failed: Option<&str>) -> Self {
        match failed {
            None => Self { status: "live", reasons: Vec::new() },
            Some(task) => Self {
                status: "not live",
                reasons: vec![format!("{task} has ended unexpectedly: restart this coordinator")],
            },
        }
    }

    pub(super) fn ready(why_not: Vec<String>) -> Self {
        Self { status: if why_not.is_empty() { "ready" } else { "not ready" }, reasons: why_not }
    }

    pub(super) fn is_good(&self) -> bool {
        self.reasons.is_empty()
    }
}
