//! Connections that go from one branch straight to the next.
//!
//! A pool asks the server whether a connection still answers each time it is given back: a round trip for
//! every branch, as many as the statement that ends it takes. While branches come one after another, a
//! connection whose last statement was answered is kept here instead, and the next branch takes it. None
//! stays for long: soon after the last branch, and every few seconds in any case, it goes back to the pool,
//! whose bounds of age and idleness then hold as ever.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};

/// A connection that nobody has wanted for so long goes back to its pool. Longer would save nothing: one
/// round trip in this time is not felt.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// A connection goes back to its pool so long after it was taken from there, however busy it is: the
/// pool's own bounds are minutes.
const AWAY_MAX: Duration = Duration::from_secs(10);

/// The connections of one pool that are kept at hand.
#[derive(Clone, Default)]
pub(super) struct AtHand {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    kept: Vec<Kept>,
    /// Who waits for the pool: while anybody does, what is given back goes there.
    waiting: usize,
    /// Whether a task sends back what nobody wants.
    tidied: bool,
}

/// A connection, since when it has been away from its pool, and since when nobody has wanted it.
struct Kept {
    connection: PoolConnection<Postgres>,
    away_since: Instant,
    idle_since: Instant,
}

impl AtHand {
    /// The connection that was used last, or else one of the pool's; with it, since when it has been away
    /// from there. May be dropped at any await.
    ///
    /// # Errors
    /// The pool has none.
    pub(super) async fn take(
        &self,
        pool: &PgPool,
    ) -> Result<(PoolConnection<Postgres>, Instant), sqlx::Error> {
        let waiting = {
            let mut state = self.lock();
            if let Some(Kept { connection, away_since, .. }) = state.kept.pop() {
                return Ok((connection, away_since));
            }
            state.waiting += 1;
            Waiting(self)
        };
        let taken = pool.acquire().await;
        drop(waiting);
        taken.map(|connection| (connection, Instant::now()))
    }

    /// Keeps a connection whose last statement was answered, or gives it to the pool if it has been away
    /// for long, or somebody waits there, or there is no runtime, as at a process's end.
    pub(super) fn keep(&self, connection: PoolConnection<Postgres>, away_since: Instant) {
        let now = Instant::now();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut state = self.lock();
        if state.waiting > 0 || now.duration_since(away_since) >= AWAY_MAX {
            // Dropped after the lock: the pool does its own work then.
            drop(state);
            drop(connection);
            return;
        }
        state.kept.push(Kept { connection, away_since, idle_since: now });
        if !state.tidied {
            state.tidied = true;
            runtime.spawn(self.clone().tidy());
        }
    }

    /// Gives all to the pool, which asks each whether it still answers: one did not.
    pub(super) fn let_go(&self) {
        let kept = std::mem::take(&mut self.lock().kept);
        drop(kept);
    }

    /// Sends back what nobody wants, until nothing is left.
    async fn tidy(self) {
        loop {
            tokio::time::sleep(IDLE_MAX).await;
            let mut state = self.lock();
            let now = Instant::now();
            // Used from the end: what nobody wants lies at the beginning.
            let wanted = state.kept.partition_point(|kept| now.duration_since(kept.idle_since) >= IDLE_MAX);
            let unwanted: Vec<Kept> = state.kept.drain(..wanted).collect();
            state.tidied = !state.kept.is_empty();
            let done = !state.tidied;
            drop(state);
            drop(unwanted);
            if done {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits for the pool, until this is dropped.
struct Waiting<'a>(&'a AtHand);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl fmt::Debug for AtHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtHand").field("kept", &self.lock().kept.len()).finish_non_exhaustive()
    }
}
