//! Looks up what is prepared under a name, for everybody who waits at once.
//!
//! Each look at `pg_prepared_xacts` reads all of it, so that ten thousand branches that are ended
//! one by one after an outage would read it ten thousand times. Whoever comes while a look is under way
//! shares the next one; a look begins only after everybody it answers has asked, hence no answer is
//! older than its question.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pactum_core::id::PreparedName;
use sqlx::Row as _;
use tokio::sync::{Mutex as Turn, oneshot};

use super::control::{Ending, bounded};
use super::evidence::xid_of;
use super::operation::unsettled;
use super::sql::is_lost;
use crate::resource::HookError;

/// Names in one look: bounds the statement. More than that share no look but take their turn.
const NAMES_MAX: usize = 4_000;

type Answer = Result<Option<u64>, HookError>;

/// Those who wait, and whose turn it is to look.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    waiting: Mutex<Vec<(PreparedName, oneshot::Sender<Answer>)>>,
    turn: Turn<()>,
}

impl LookUps {
    /// The xid that is prepared under the name in this database, if any is.
    ///
    /// # Errors
    /// The database did not answer; nothing is known.
    pub(super) async fn prepared_xid(&self, ending: &Ending, name: &PreparedName) -> Answer {
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), answer));
            tokio::select! {
                biased;
                // An error says that whoever looked for us was dropped in the middle of it: we ask again.
                answer = &mut answered => if let Ok(answer) = answer {
                    return answer;
                },
                _turn = self.turn.lock() => loop {
                    match answered.try_recv() {
                        Ok(answer) => return answer,
                        Err(oneshot::error::TryRecvError::Closed) => break,
                        // Apart from what waits: one of thousands looks.
                        Err(oneshot::error::TryRecvError::Empty) => Box::pin(self.look(ending)).await,
                    }
                },
            }
        }
    }

    /// Answers the longest waiting.
    async fn look(&self, ending: &Ending) {
        let asking: Vec<_> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let count = waiting.len().min(NAMES_MAX);
            waiting.drain(..count).collect()
        };
        match read(ending, asking.iter().map(|(name, _)| name.to_string()).collect()).await {
            Ok(found) => {
                for (name, answer) in asking {
                    // One who has gone away needs no answer.
                    answer.send(Ok(found.get(&name.to_string()).copied())).ok();
                }
            }
            Err(error) => {
                for (_, answer) in asking {
                    answer.send(Err(error.clone())).ok();
                }
            }
        }
    }
}

/// Reads the xids that are prepared under these names.
async fn read(ending: &Ending, names: Vec<String>) -> Result<BTreeMap<String, u64>, HookError> {
    let mut control = ending.acquire().await?;
    let look = async {
        let rows = sqlx::query(
            // Joined, hence hashed: a list is compared with each row one by one once the plan is kept. And the
            // snapshot is asked for once, in a query of its own: whoever asks has all that is prepared sorted.
            "SELECT gid, transaction::text, (SELECT pg_snapshot_xmax(pg_current_snapshot())::text) \
               FROM pg_catalog.pg_prepared_xacts JOIN unnest($1::text[]) AS asked (name) ON gid = name \
              WHERE database = current_database()",
        )
        .bind(names)
        .fetch_all(control.session())
        .await?;
        let xid = |low: String, next: String| xid_of(&low, &next);
        rows.iter().map(|row| Ok((row.try_get(0)?, xid(row.try_get(1)?, row.try_get(2)?)?))).collect()
    };
    let found: Result<_, sqlx::Error> = bounded(look).await;
    if found.as_ref().map_or_else(|error| !is_lost(error), |_| true) {
        control.answered();
    }
    found.map_err(|error| unsettled("looking for the prepared branch", &error))
}
