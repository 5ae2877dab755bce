//! Runs what one round of the driver orders of one resource, in one task as long as that is quick.
//!
//! ```text
//!  driver ──all hooks that a round ordered──▶ one task: polls each once ──those that ended──▶ driver
//!                                               │ what waits: a task of its own ──its end──▶ driver
//!                                               └ the last one stays in this task
//! ```
//!
//! A hook that has nothing to wait for ends at its first poll, and a task for each would cost more than
//! the hook. What it keeps: the driver itself never runs anything of the user's; a hook that waits delays no
//! other; one that computes delays those behind it by itself, after which each has a task of its own; and
//! hooks of another resource are in another task altogether.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use pactum_core::id::ResourceName;
use pactum_core::participant::Event;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use super::{DynResource, Hook, run};
use crate::observe::Observer;
use crate::resource::BranchContext;
use crate::session::Input;

/// Prepare hooks of one resource that run at once; more wait. Hooks of phase 2 are not counted: what waits for
/// a lock must not keep its holder from ending.
const PREPARES_MAX: usize = 1024;

/// First polls share a task while those before took no longer than this each, on average: several times what
/// a task costs, so that a round is never longer than it would be with one for each by more than a little.
const QUICK: Duration = Duration::from_micros(5);

/// So long they share it anyway: one that was interrupted proves nothing, and nobody would notice.
const SHARED_MIN: Duration = Duration::from_micros(100);

/// One hook that is due.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) hook: Hook,
    pub(crate) branch: BranchContext,
    pub(crate) span: Span,
}

/// Runs the hooks of one resource. Each resource has its own: hooks of one that hangs keep those of no other
/// waiting.
pub(crate) struct Runner {
    resource: Arc<dyn DynResource>,
    prepares: Arc<Semaphore>,
    observer: Observer,
    tasks: TaskTracker,
    inputs: mpsc::Sender<Input>,
}

impl Runner {
    pub(crate) fn new(
        resource: Arc<dyn DynResource>,
        observer: Observer,
        tasks: TaskTracker,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        Self { resource, prepares: Arc::new(Semaphore::new(PREPARES_MAX)), observer, tasks, inputs }
    }

    pub(crate) fn name(&self) -> &ResourceName {
        self.resource.name()
    }

    /// Runs them; the driver hears of each end that it waits for.
    pub(crate) fn start(self: &Arc<Self>, round: Vec<Due>) {
        self.tasks.spawn(Arc::clone(self).share(round));
    }

    async fn share(self: Arc<Self>, mut round: Vec<Due>) {
        let Some(last) = round.pop() else { return };
        let mut ended = Vec::with_capacity(round.len() + 1);
        let (began, mut allowed) = (Instant::now(), SHARED_MIN);
        for due in round {
            let mut work = Box::pin(Arc::clone(&self).work(due));
            let quick = began.elapsed() < allowed;
            allowed += QUICK;
            match if quick { futures::poll!(work.as_mut()) } else { Poll::Pending } {
                Poll::Ready(event) => ended.extend(event),
                Poll::Pending => self.part(work),
            }
        }
        let mut work = Box::pin(Arc::clone(&self).work(last));
        match futures::poll!(work.as_mut()) {
            Poll::Ready(event) => {
                ended.extend(event);
                self.tell(ended).await;
            }
            Poll::Pending => {
                self.tell(ended).await;
                self.tell(work.await.into_iter().collect()).await;
            }
        }
    }

    /// Gives a hook a task of its own, from wherever it has come to.
    fn part(self: &Arc<Self>, work: Pin<Box<impl Future<Output = Option<Event>> + Send + 'static>>) {
        let this = Arc::clone(self);
        self.tasks.spawn(async move { this.tell(work.await.into_iter().collect()).await });
    }

    /// Without a driver nobody is left to hear it: what is prepared is found by the next scan.
    async fn tell(&self, ended: Vec<Event>) {
        if !ended.is_empty() {
            self.inputs.send(Input::HooksEnded(ended)).await.ok();
        }
    }

    /// One hook, from its turn to its end.
    fn work(self: Arc<Self>, due: Due) -> impl Future<Output = Option<Event>> + Send + 'static {
        let Due { hook, branch, span } = due;
        let work = async move {
            let _permit = match hook {
                Hook::Prepare { .. } | Hook::OnePhase { .. } => {
                    match Arc::clone(&self.prepares).try_acquire_owned() {
                        Ok(permit) => Some(permit),
                        // Never closed.
                        Err(_none_is_free) => Arc::clone(&self.prepares).acquire_owned().await.ok(),
                    }
                }
                Hook::Settle | Hook::Commit { .. } | Hook::Abort { .. } | Hook::Forget => None,
            };
            run(&*self.resource, hook, &branch, &self.observer).await
        };
        work.instrument(span)
    }
}
