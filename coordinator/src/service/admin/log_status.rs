//! What the log says of itself, for people and for `pactum doctor`.

use pactum_proto::v1;

use super::Admin;
use crate::decision_log::{DecisionLogError, IncarnationStatus, LogProbe, LogStatus};
use crate::error::ServiceError;

/// Incarnations that are shown at most.
const INCARNATIONS_MAX: usize = 100;

impl Admin {
    /// Asks it, and measures how long it takes to write.
    pub(super) async fn log_status(&self) -> Result<v1::GetLogStatusResponse, ServiceError> {
        let failed = |error: DecisionLogError| ServiceError::LogFailed { why: crate::journal::chain(&error) };
        let status = self.log.status().await.map_err(failed)?;
        let LogProbe { write, clock_difference_microseconds: ahead } =
            self.log.probe().await.map_err(failed)?;
        // Microseconds under a million fit.
        let nanos = i32::try_from(ahead % 1_000_000 * 1000).unwrap_or(0);
        let clock_difference = prost_types::Duration { seconds: ahead / 1_000_000, nanos };
        Ok(v1::GetLogStatusResponse {
            facts: facts(&status),
            write_latency: write.and_then(|length| length.try_into().ok()),
            clock_difference: Some(clock_difference),
            incarnations: status.incarnations.iter().rev().take(INCARNATIONS_MAX).map(incarnation).collect(),
        })
    }
}

fn facts(status: &LogStatus) -> Vec<v1::Fact> {
    let mut facts = vec![
        ("kind", status.kind.to_owned()),
        ("cluster", status.cluster.to_string()),
        ("floor", status.floor.to_string()),
    ];
    if let Some(server) = status.server {
        facts.push(("system_identifier", server.system.to_string()));
        facts.push(("timeline", server.timeline.to_string()));
    }
    if let Some(replication) = &status.replication {
        facts.push(("synchronous_standby_names", replication.configured.clone()));
        facts.push(("standbys_required", replication.required.to_string()));
        facts.push(("standbys_confirmed", replication.confirmed.to_string()));
        facts.push(("standbys_visible", replication.visible.to_string()));
    }
    facts.push(("went_back", status.switches.to_string()));
    facts.push(("absent_doubted", status.absent_doubted.to_string()));
    facts.into_iter().map(|(name, value)| v1::Fact { name: name.to_owned(), value }).collect()
}

fn incarnation(seen: &IncarnationStatus) -> v1::IncarnationStatus {
    v1::IncarnationStatus {
        incarnation: seen.incarnation.as_uuid().as_bytes().to_vec(),
        address: seen.address.clone(),
        started_at: Some(seen.started_at.into()),
        ended_at: seen.ended_at.map(Into::into),
        recovered: seen.recovered,
        doubted: seen.doubted,
    }
}
