//! Following the coordinators of a cluster: connecting to those that are named, letting those go that
//! nobody names any more.
//!
//! The addresses given are kept for ever; of two that lead to one coordinator, one waits in reserve
//! (`claims.rs`). A learned one that turns out to lead to a coordinator
//! that is connected anyway is dropped again: calls in flight on it keep it until they are answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pactum_core::id::Incarnation;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::info;

use super::Shared;
use super::pipeline::{Pipeline, State};
use crate::members::{DIAL_AFTER, Dialer, LET_GO_AFTER, MEMBERS_MAX, Member};

/// Nothing changes by itself but that learned coordinators grow old.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What is remembered between looks.
#[derive(Debug)]
pub(super) struct Follower {
    dialer: Dialer,
    /// Named, not connected to, and since when.
    unreached: BTreeMap<Incarnation, Instant>,
    /// When each learned address was named last.
    named: BTreeMap<String, Instant>,
}

impl Follower {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer, unreached: BTreeMap::new(), named: BTreeMap::new() }
    }

    /// Follows until the last handle is gone.
    pub(super) async fn run(mut self, shared: Weak<Shared>, mut changes: watch::Receiver<u64>) {
        loop {
            let look_again = match shared.upgrade() {
                Some(shared) => self.look(&shared),
                None => return,
            };
            if matches!(timeout(look_again, changes.changed()).await, Ok(Err(_))) {
                return;
            }
        }
    }

    /// Looks once; answers when to look again at the latest.
    fn look(&mut self, shared: &Shared) -> Duration {
        let now = Instant::now();
        let mut pipelines = shared.write_pipelines();
        let (mut reached, mut told) = (Vec::new(), BTreeMap::new());
        // Given ones come first, so that a learned one never wins over one of them.
        pipelines.sort_by_key(|pipeline| pipeline.is_learned());
        pipelines.retain(|pipeline| {
            let State::Up(welcome) = pipeline.state() else { return true };
            told.extend(welcome.members.into_iter().map(|member| (member.incarnation, member)));
            match welcome.incarnation {
                Some(incarnation) if reached.contains(&incarnation) => !pipeline.is_learned(),
                Some(incarnation) => {
                    reached.push(incarnation);
                    true
                }
                None => true,
            }
        });
        for member in told.values() {
            self.named.insert(self.dialer.address(member), now);
        }
        self.named.retain(|_, named| now.duration_since(*named) < LET_GO_AFTER);
        pipelines.retain(|pipeline| {
            let keep =
                !pipeline.is_learned() || pipeline.is_up() || self.named.contains_key(pipeline.address());
            if !keep {
                info!(address = pipeline.address(), "a coordinator that nobody names any more is let go");
            }
            keep
        });
        self.unreached.retain(|incarnation, _| told.contains_key(incarnation));
        let mut look_again = LOOK_AGAIN;
        for (incarnation, member) in told {
            let address = self.dialer.address(&member);
            let known = pipelines.iter().any(|pipeline| pipeline.address() == address);
            if known || reached.contains(&incarnation) {
                self.unreached.remove(&incarnation);
                continue;
            }
            let since = *self.unreached.entry(incarnation).or_insert(now);
            let waited = now.duration_since(since);
            if waited < DIAL_AFTER {
                look_again = look_again.min(DIAL_AFTER.saturating_sub(waited));
            } else if pipelines.len() < MEMBERS_MAX {
                pipelines.extend(self.dial(shared, &member, address));
            }
        }
        look_again
    }

    fn dial(&self, shared: &Shared, member: &Member, address: String) -> Option<Arc<Pipeline>> {
        let target = self.dialer.learned(&address)?;
        info!(address, incarnation = %member.incarnation, "connecting to a coordinator that another one named");
        let changes = shared.changes.clone();
        Some(Arc::new(Pipeline::start(address, target, self.dialer.connect_timeout, changes, None)))
    }
}
