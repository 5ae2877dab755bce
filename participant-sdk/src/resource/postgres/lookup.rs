//! Looks up what is prepared under a name, for everybody who waits at once, and for those who ask next.
//!
//! Each look at `pg_prepared_xacts` reads all of it, so that ten thousand branches that are ended one by one
//! after an outage would read it ten thousand times. So a look takes everything along, and whoever asks soon
//! after for an execution that it showed is answered from it, once. Anybody else shares the next look. It
//! begins only after he has asked: that nothing is prepared is never told by a look that is older than the
//! question.
//!
//! That the decided execution is prepared may be: the statement that follows waits for its turn anyway, however
//! fresh the look was. If somebody else ends the branch meanwhile, nothing is prepared under its name, and the
//! evidence decides.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pactum_core::id::PreparedName;
use sqlx::Row as _;
use tokio::sync::{Mutex as Turn, oneshot};

use super::control::{Ending, bounded};
use super::evidence::xid_of;
use super::operation::unsettled;
use super::sql::is_lost;
use crate::resource::HookError;

/// For how long a look answers those who come after it: decisions of one outage come faster than that. No
/// promise hangs on it. What was seen is kept until somebody asks later than that.
const SEEN_FOR: Duration = Duration::from_secs(1);

type Answer = Result<Option<u64>, HookError>;

/// Those who wait, and whose turn it is to look.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    state: Mutex<State>,
    turn: Turn<()>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Asked>,
    /// What the last look showed and nobody has asked for yet, and when it was taken.
    seen: Option<(Instant, BTreeMap<PreparedName, u64>)>,
}

/// A question, and where its answer goes.
#[derive(Debug)]
struct Asked {
    name: PreparedName,
    /// The execution that was decided.
    xid: u64,
    answer: oneshot::Sender<Answer>,
}

impl LookUps {
    /// The xid that is prepared under the name in this database, if any is: that of the execution asked for, or
    /// another.
    ///
    /// # Errors
    /// The database did not answer; nothing is known.
    pub(super) async fn prepared_xid(&self, ending: &Ending, name: &PreparedName, xid: u64) -> Answer {
        loop {
            let mut answered = {
                let mut state = self.lock();
                if state.has_seen(name, xid) {
                    return Ok(Some(xid));
                }
                let (answer, answered) = oneshot::channel();
                state.waiting.push(Asked { name: name.clone(), xid, answer });
                answered
            };
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

    /// Answers everybody who waits, and those who come meanwhile if it can.
    async fn look(&self, ending: &Ending) {
        let asking = std::mem::take(&mut self.lock().waiting);
        match read(ending).await {
            Ok(mut found) => {
                let told: Vec<_> = asking
                    .into_iter()
                    .map(|Asked { name, answer, .. }| {
                        // One who has gone away needs no answer.
                        answer.send(Ok(found.get(&name).copied())).ok();
                        name
                    })
                    .collect();
                for name in told {
                    found.remove(&name);
                }
                self.lock().see(found);
            }
            Err(error) => {
                for Asked { answer, .. } in asking {
                    answer.send(Err(error.clone())).ok();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a look was taken a moment ago that showed this execution. It says so once: whoever asks again
    /// has reason to.
    fn has_seen(&mut self, name: &PreparedName, xid: u64) -> bool {
        let Some((at, seen)) = &mut self.seen else { return false };
        if at.elapsed() > SEEN_FOR {
            self.seen = None;
            return false;
        }
        seen.remove(name) == Some(xid)
    }

    /// Keeps what a look showed, and answers those from it who came while it was taken.
    fn see(&mut self, found: BTreeMap<PreparedName, u64>) {
        self.seen = Some((Instant::now(), found));
        for asked in std::mem::take(&mut self.waiting) {
            if self.has_seen(&asked.name, asked.xid) {
                asked.answer.send(Ok(Some(asked.xid))).ok();
            } else {
                self.waiting.push(asked);
            }
        }
    }
}

/// Reads the xids of all that is prepared in this database and bears a name of ours.
async fn read(ending: &Ending) -> Result<BTreeMap<PreparedName, u64>, HookError> {
    let mut control = ending.acquire().await?;
    let look = async {
        let rows = sqlx::query(
            // The snapshot is asked for once, in a query of its own: whoever asks has all that is prepared sorted.
            "SELECT gid, transaction::text, (SELECT pg_snapshot_xmax(pg_current_snapshot())::text) \
               FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()",
        )
        .fetch_all(control.session())
        .await?;
        let mut found = BTreeMap::new();
        for row in rows {
            let (low, next): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
            if let Ok(name) = row.try_get::<&str, _>(0)?.parse() {
                found.insert(name, xid_of(low, next)?);
            }
        }
        Ok(found)
    };
    let found: Result<_, sqlx::Error> = bounded(look).await;
    if found.as_ref().map_or_else(|error| !is_lost(error), |_| true) {
        control.answered();
    }
    found.map_err(|error| unsettled("looking for the prepared branch", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = [
        "pactum:c:00000000000000000000000000000001:00000000000000000000000000000002:0000000000000003",
        "pactum:c:00000000000000000000000000000001:00000000000000000000000000000002:0000000000000004",
    ];

    fn name(place: usize) -> PreparedName {
        NAMES[place].parse().unwrap()
    }

    fn seen(xids: &[u64]) -> BTreeMap<PreparedName, u64> {
        xids.iter().enumerate().map(|(place, xid)| (name(place), *xid)).collect()
    }

    fn ask(state: &mut State, place: usize, xid: u64) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        state.waiting.push(Asked { name: name(place), xid, answer });
        answered
    }

    /// Whoever asks twice has learnt since that the branch is gone.
    #[test]
    fn a_look_answers_once_for_each_execution_that_it_showed() {
        let mut state = State::default();
        assert!(!state.has_seen(&name(0), 7));
        state.see(seen(&[7]));
        assert!(state.has_seen(&name(0), 7));
        assert!(!state.has_seen(&name(0), 7));
    }

    /// H3: what is prepared under the name is not what was decided. That needs a look of its own.
    #[test]
    fn a_look_that_showed_another_execution_answers_nothing() {
        let mut state = State::default();
        state.see(seen(&[8]));
        assert!(!state.has_seen(&name(0), 7));
        assert!(!state.has_seen(&name(0), 8));
    }

    #[test]
    fn a_look_of_long_ago_answers_nothing_and_is_not_kept() {
        let long_ago = Instant::now().checked_sub(SEEN_FOR * 2).unwrap();
        let mut state = State { seen: Some((long_ago, seen(&[7, 9]))), ..State::default() };
        assert!(!state.has_seen(&name(0), 7));
        assert!(state.seen.is_none());
    }

    /// That nothing is prepared is told by a later look only.
    #[test]
    fn who_asked_while_a_look_was_taken_is_answered_only_by_what_it_showed() {
        let mut state = State::default();
        let (mut shown, mut missing) = (ask(&mut state, 0, 7), ask(&mut state, 1, 9));
        state.see(seen(&[7]));
        assert_eq!(shown.try_recv().unwrap(), Ok(Some(7)));
        missing.try_recv().unwrap_err();
        assert_eq!(state.waiting.len(), 1);
    }
}
