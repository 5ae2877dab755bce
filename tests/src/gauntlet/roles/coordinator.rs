//! A coordinator over the library, with the defaults of a production one.

use std::sync::Arc;
use std::time::Duration;

use pactum_coordinator::observe::{Observer, Step};
use pactum_coordinator::{Config, Coordinator, Listeners, open_log};
use pactum_core::outcome::Decision;

use super::{Shared, ready, tell};
use crate::gauntlet::arguments::RoleArguments;

/// Between two reports of what is open.
const REPORT: Duration = Duration::from_millis(100);

pub(super) async fn run(arguments: RoleArguments, shared: Arc<Shared>) -> anyhow::Result<()> {
    let observer = Arc::clone(&shared);
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        advertise: Some(arguments.advertise),
        observer: Observer::new(move |step| saw(&observer, step)),
        ..Config::default()
    };
    let log = loop {
        match open_log(&arguments.database).await {
            Ok(log) => break log,
            // It may have been killed just now.
            Err(error) => tracing::warn!(%error, "the log cannot be opened yet"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let listeners = Listeners::bind(&config).await?;
    let coordinator = Coordinator::start(listeners, log, config)?;
    // Whoever connects before it has an incarnation is told to come back: that, too, is to be tried.
    ready(coordinator.public_addr());
    let reports = async {
        let mut every = tokio::time::interval(REPORT);
        loop {
            every.tick().await;
            let (open, violations) = (coordinator.transactions_open() as u64, coordinator.violations());
            shared.reporter.update(|status| (status.open, status.violations) = (open, violations));
        }
    };
    tokio::select! {
        error = coordinator.failed() => return Err(error.into()),
        () = reports => {}
        () = shared.end.cancelled() => {}
    }
    Ok(coordinator.stop().await?)
}

/// Keeps the count of what is in flight: from the first Prepare, or from being found unfinished,
/// to the last acknowledgement.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others begin or end nothing, whatever is added")]
fn saw(shared: &Shared, step: &Step) {
    match step {
        Step::IncarnationStarted { incarnation } => tell(&format!("incarnation {incarnation}")),
        Step::PrepareSent { gid, .. } => shared.reporter.began(*gid),
        Step::BranchFinished { gid, .. } => shared.reporter.branch_ended(*gid),
        // Not every branch of an aborted one acknowledges: from the first Abort on it is not counted.
        Step::DecisionSent { gid, decision: Decision::Abort, .. } | Step::EndRecorded { gid } => {
            shared.reporter.ended(*gid);
        }
        _ => {}
    }
    if let Step::RecoveryScanned { commits, .. } = step {
        if *commits > 0 {
            shared.passed_having_found(*commits as u64, step.name());
        }
    } else {
        shared.passed(step.name());
    }
}
