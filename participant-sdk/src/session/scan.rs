//! Asks one resource, again and again, what it holds prepared, and whether it can be promised with.
//!
//! What is found is a fact for the core: it asks the coordinator about everything that nobody has
//! told it the end of (`failure-matrix` C2, C3, C10). Presence is no vote, absence no ack.

use std::sync::Arc;
use std::time::Duration;

use pactum_core::id::{Branch, InstanceId};
use pactum_core::participant::Event;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::hooks::{DynResource, caught};
use super::{Input, Shared};
use crate::observe::{Observer, Step};

/// How long a scan may take. Longer means that the resource does not answer: it is asked again.
const SCAN_TIMEOUT: Duration = Duration::from_secs(30);

/// From an attach to the scan that follows it, or the interval if that is shorter. A coordinator that was
/// attached to tells by itself what it has decided, of thousands of branches after an outage: to ask meanwhile
/// makes each of them come twice. A branch that nobody tells of waits so much longer.
const TOLD_WITHIN: Duration = Duration::from_millis(250);

/// Branches in one input, so that a long list does not keep the driver from its messages.
const FOUND_MAX: usize = 256;

/// Scans until the participant stops: after each attach, and then once an interval.
pub(crate) async fn run(
    resource: Arc<dyn DynResource>,
    shared: Arc<Shared>,
    interval: Duration,
    observer: Observer,
) {
    let mut attached = shared.attached.subscribe();
    // Before the first attach nobody could be asked, and the cluster's name is not known.
    tokio::select! {
        () = shared.stop.cancelled() => return,
        _ = attached.wait_for(|times| *times > 0) => {}
    }
    let told_within = TOLD_WITHIN.min(interval);
    let mut has_attached = true;
    loop {
        if has_attached {
            tokio::select! {
                () = shared.stop.cancelled() => return,
                () = sleep(told_within) => {}
            }
        }
        attached.borrow_and_update();
        let events = tokio::select! {
            () = shared.stop.cancelled() => return,
            events = scan(&*resource, &shared, &observer) => events,
        };
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let some = events.by_ref().take(FOUND_MAX).collect();
            if shared.inputs.send(Input::Found(some)).await.is_err() {
                return;
            }
        }
        has_attached = tokio::select! {
            () = shared.stop.cancelled() => return,
            () = sleep(interval) => false,
            // A reason to ask soon.
            _ = attached.changed() => true,
        };
    }
}

async fn scan(resource: &dyn DynResource, shared: &Shared, observer: &Observer) -> Vec<Event> {
    let name = resource.name();
    let Some(cluster) = shared.cluster() else { return Vec::new() };
    let found = match timeout(SCAN_TIMEOUT, caught(resource.recover(&cluster))).await {
        Ok(Ok(Ok(found))) => found,
        Ok(Ok(Err(error))) => {
            warn!(resource = %name, %error, "what is prepared could not be listed; trying again");
            return Vec::new();
        }
        Ok(Err(panic)) => {
            warn!(resource = %name, panic, "the recover hook panicked; trying again");
            return Vec::new();
        }
        Err(_elapsed) => {
            warn!(resource = %name, "the resource did not list what is prepared in time; trying again");
            return Vec::new();
        }
    };
    let marker = shared.registration(name).is_some_and(|registration| registration.marker);
    let events: Vec<Event> = found
        .into_iter()
        // Another cluster's branches are another cluster's.
        .filter(|found| found.name.cluster == cluster)
        .map(|found| Event::FoundPrepared {
            id: found.name.id,
            branch: Branch {
                id: found.name.branch,
                resource: name.clone(),
                instance: InstanceId::NIL,
                marker,
            },
            evidence: found.evidence,
        })
        .collect();
    debug!(resource = %name, found = events.len(), "scanned for prepared branches");
    if observer.looks() {
        observer.see(&Step::RecoveryScanned { resource: name.clone(), found: events.len() });
    }
    events
}
