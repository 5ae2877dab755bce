//! Asking resources whether they can take part, before each attach.
//!
//! A resource that hangs or fails is left out of the stream, so that it keeps no other one from being
//! attached with; it is checked again until it passes, and then attached with as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use pactum_core::id::ResourceName;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::hooks::{DynResource, caught};
use crate::resource::Registration;

/// A resource that does not answer its check within this fails it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Once one resource has passed, the others get this long before they are left out for now: branches of
/// a healthy database must not wait for a sick one.
const STRAGGLER_WAIT: Duration = Duration::from_millis(500);

/// A resource that was left out is checked again this often, and then attached with.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks one resource.
pub(crate) async fn check(resource: &dyn DynResource) -> Result<Registration, String> {
    match timeout(CHECK_TIMEOUT, caught(resource.check())).await {
        Ok(Ok(Ok(registration))) => Ok(registration),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(panic)) => Err(format!("the check hook panicked: {panic}")),
        Err(_elapsed) => Err(String::from("it did not answer in time")),
    }
}

/// What the checks of all resources came to.
pub(super) struct Checked {
    pub(super) passed: BTreeMap<ResourceName, Registration>,
    pub(super) left_out: Vec<Arc<dyn DynResource>>,
    /// What the last one that failed met, for people.
    pub(super) problem: String,
}

/// Checks all resources at once, but for those that have just passed.
pub(super) async fn check_all(
    resources: &[Arc<dyn DynResource>],
    just_passed: BTreeMap<ResourceName, Registration>,
) -> Checked {
    let mut passed = just_passed;
    let mut failed: BTreeMap<ResourceName, String> = BTreeMap::new();
    let asked = resources.iter().filter(|resource| !passed.contains_key(resource.name()));
    let mut checks: FuturesUnordered<_> =
        asked.map(|resource| async { (resource.name().clone(), check(&**resource).await) }).collect();
    // Who was left out before is checked again soon enough: for him no stream stays closed.
    let straggler_wait = if passed.is_empty() { STRAGGLER_WAIT } else { Duration::ZERO };
    let patience = |passed: &BTreeMap<_, _>| if passed.is_empty() { CHECK_TIMEOUT } else { straggler_wait };
    while let Ok(Some((name, result))) = timeout(patience(&passed), checks.next()).await {
        match result {
            Ok(registration) => drop(passed.insert(name, registration)),
            Err(problem) => drop(failed.insert(name, problem)),
        }
    }
    drop(checks);
    let mut checked = Checked { passed, left_out: Vec::new(), problem: String::new() };
    for resource in resources.iter().filter(|resource| !checked.passed.contains_key(resource.name())) {
        let problem = failed.remove(resource.name());
        let problem = problem.unwrap_or_else(|| String::from("it has not answered its check yet"));
        warn!(resource = %resource.name(), problem, "the resource cannot take part now");
        checked.problem = format!("resource {}: {problem}", resource.name());
        checked.left_out.push(Arc::clone(resource));
    }
    checked
}

/// Ends when one of them passes its check; never, if there are none.
pub(super) async fn recheck(left_out: Vec<Arc<dyn DynResource>>) -> (ResourceName, Registration) {
    let rechecks = left_out.into_iter().map(|resource| async move {
        loop {
            if let Ok(registration) = check(&*resource).await {
                return (resource.name().clone(), registration);
            }
            sleep(RECHECK_INTERVAL).await;
        }
    });
    let mut rechecks: FuturesUnordered<_> = rechecks.collect();
    match rechecks.next().await {
        Some(passed) => passed,
        None => std::future::pending().await,
    }
}
