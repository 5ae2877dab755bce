//! Takes over what ended incarnations left unfinished: our share of it, for the coordinator's life.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::Membership;
use super::scan::Scan;
use crate::journal::{Journal, chain};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::observe::Observer;
use crate::registry::Registry;
use crate::shard::Shards;

/// The health service's name for recovery: not serving while a record cannot be read.
const RECOVERY_HEALTH: &str = "pactum.recovery";

/// Reads what is unfinished and hands it to the shards. A task of its own: however long it takes, the
/// heartbeats go on.
pub(crate) struct Takeover {
    pub(crate) journal: Journal,
    pub(crate) shards: Arc<Shards>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) metrics: Metrics,
    pub(crate) health: tonic_health::server::HealthReporter,
    pub(crate) observer: Observer,
    /// Between looks for incarnations that have ended.
    pub(crate) period: Duration,
    /// At least so long between looks at what is listed as unfinished and was read before.
    pub(crate) look_again: Duration,
    /// See [`Config::transactions_open_max`](crate::Config::transactions_open_max).
    pub(crate) open_max: usize,
}

impl Takeover {
    /// Runs for the coordinator's life. `members` is who shares the work, none while we have no
    /// incarnation.
    pub(crate) async fn run(self, mut members: watch::Receiver<Option<Membership>>) {
        let mut scan = Scan::new(&self);
        let mut looks = interval(self.period);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = false;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                Ok(()) = members.changed() => {}
            }
            let Some(now) = members.borrow_and_update().clone() else { continue };
            let changed = || members.has_changed().unwrap_or(false);
            let run = scan.run(&now, &changed).await;
            if let Err(error) = &run {
                // Told once: the next look tries again.
                if !failed {
                    tracing::warn!(error = %chain(error), "recovery waits for the log");
                }
            }
            failed = run.is_err();
            self.metrics.recovery_ran(!failed);
            self.lifecycle.recovery_stands(failed || scan.is_behind(), scan.stuck());
            let status = if scan.stuck() > 0 {
                tonic_health::ServingStatus::NotServing
            } else {
                tonic_health::ServingStatus::Serving
            };
            self.health.set_service_status(RECOVERY_HEALTH, status).await;
        }
    }
}
