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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU64;

    use pactum_core::coordinator::Operation;
    use pactum_core::id::{Cluster, ResourceName};
    use pactum_core::outcome::BranchOutcome;
    use pactum_core::vote::{AbortReason, Evidence};
    use tokio::sync::{mpsc, watch};
    use tokio::time::{Instant, timeout};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::resource::{BranchContext, HookError, Prepared, PreparedBranch, Registration, Resource};

    /// Holds nothing, and is asked for nothing else.
    struct Empty(ResourceName);

    impl Resource for Empty {
        fn name(&self) -> &ResourceName {
            &self.0
        }

        async fn check(&self) -> Result<Registration, HookError> {
            unreachable!("a scan checks nothing")
        }

        async fn prepare(&self, _: &BranchContext, _: Option<&Operation>) -> Result<Prepared, AbortReason> {
            unreachable!("a scan prepares nothing")
        }

        async fn commit(
            &self,
            _: &BranchContext,
            _: &Evidence,
            _: Option<&Evidence>,
        ) -> Result<BranchOutcome, HookError> {
            unreachable!("a scan commits nothing")
        }

        async fn abort(&self, _: &BranchContext, _: Option<&Evidence>) -> Result<BranchOutcome, HookError> {
            unreachable!("a scan aborts nothing")
        }

        async fn recover(&self, _: &Cluster) -> Result<Vec<PreparedBranch>, HookError> {
            Ok(Vec::new())
        }
    }

    fn shared() -> Arc<Shared> {
        Arc::new(Shared {
            instance: InstanceId::NIL,
            inputs: mpsc::channel(1).0,
            cluster: watch::Sender::new(Some(Cluster::new("c").unwrap())),
            attached: watch::Sender::new(0),
            violations: AtomicU64::new(0),
            registrations: Mutex::default(),
            quarantined: Mutex::default(),
            sessions: watch::Sender::new(BTreeMap::new()),
            told: watch::Sender::new(BTreeMap::new()),
            draining: watch::Sender::new(false),
            last_session: AtomicU64::new(0),
            stop: CancellationToken::new(),
        })
    }

    /// When it scans, after its start, with an attach after one second and another after ten.
    async fn scans(interval: Duration, until: Duration) -> Vec<Duration> {
        let (shared, began) = (shared(), Instant::now());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let at = Arc::clone(&seen);
        let observer = Observer::new(move |_| at.lock().unwrap().push(began.elapsed()));
        let resource = Arc::new(Empty(ResourceName::new("bank").unwrap()));
        let attaching = Arc::clone(&shared);
        let attaches = async move {
            for pause in [1, 9] {
                sleep(Duration::from_secs(pause)).await;
                attaching.attached.send_modify(|times| *times += 1);
            }
            std::future::pending::<()>().await;
        };
        let running = run(resource, shared, interval, observer);
        assert!(timeout(until, async { tokio::join!(running, attaches) }).await.is_err());
        seen.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn f5_what_is_prepared_is_listed_soon_after_an_attach_and_not_at_once() {
        let hour = Duration::from_hours(1);
        let [first, second] = scans(hour, Duration::from_mins(1)).await.try_into().unwrap();
        let (one, ten) = (Duration::from_secs(1), Duration::from_secs(10));
        for (at, attached) in [(first, one), (second, ten)] {
            let soon = attached + TOLD_WITHIN;
            assert!((soon..soon + TOLD_WITHIN).contains(&at), "{at:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_scans_often_waits_no_longer_than_that_after_an_attach() {
        let interval = Duration::from_millis(50);
        let scans = scans(interval, Duration::from_secs(2)).await;
        let mut before = Duration::from_secs(1);
        for at in [scans[0], scans[1]] {
            assert!((before + interval..before + TOLD_WITHIN).contains(&at), "{scans:?}");
            before = at;
        }
    }
}
