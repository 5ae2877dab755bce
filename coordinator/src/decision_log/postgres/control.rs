//! Connections for everything that is not on the critical path.
//!
//! A caller that goes away must not leave a connection inside a transaction for the next one to
//! inherit, which is how sqlx's pool loses writes that it acknowledged (`dependencies.md`, finding
//! 1). So each piece of work runs to its end in a task of its own, whoever waits for it; and a
//! connection goes back to the idle ones only after its work ended well. There is no reset to
//! forget: whatever saw an error is closed. So is one whose era has passed, and what it answered is
//! thrown away: it may come from a server that was replaced.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use super::session::{Commits, Server, Session, SessionError};
use crate::decision_log::DecisionLogError;

/// Connections of one kind at most. Heartbeats, look-ups and end records are short; the limit only
/// keeps a slow server from being given ever more of them.
const CONNECTIONS_MAX: usize = 4;

/// A few connections of one kind.
#[derive(Debug)]
pub(super) struct Control {
    server: Arc<Server>,
    commits: Commits,
    idle: Mutex<Vec<Session>>,
    permits: Semaphore,
}

impl Control {
    pub(super) fn new(server: &Arc<Server>, commits: Commits) -> Arc<Self> {
        let permits = Semaphore::new(CONNECTIONS_MAX);
        Arc::new(Self { server: Arc::clone(server), commits, idle: Mutex::default(), permits })
    }

    /// Runs `work` on a connection of its own, to its end, also if the caller goes away.
    pub(super) async fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T, DecisionLogError>
    where
        T: Send + 'static,
        W: for<'a> FnOnce(&'a mut Session) -> BoxFuture<'a, Result<T, DecisionLogError>> + Send + 'static,
    {
        let this = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _permit = match this.permits.acquire().await {
                Ok(permit) => permit,
                Err(closed) => return Err(DecisionLogError::Database(Box::new(closed))),
            };
            let idle = this.idle().pop().filter(|session| this.is_current(session));
            let mut session = match idle {
                Some(session) => session,
                None => this.server.session(this.commits).await?,
            };
            let mut result = work(&mut session).await;
            if result.is_ok() && !this.is_current(&session) {
                result = Err(SessionError::Outdated.into());
            }
            match &result {
                Ok(_) => this.idle().push(session),
                // The others were probably lost with it, as when the server restarts.
                Err(_) => this.idle().clear(),
            }
            result
        });
        match task.await {
            Ok(result) => result,
            Err(panicked) => Err(DecisionLogError::Database(Box::new(panicked))),
        }
    }

    fn is_current(&self, session: &Session) -> bool {
        session.era.is_some_and(|era| self.server.ledger.is_current(era))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
