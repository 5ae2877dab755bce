//! Asking participants, for operators: what their databases hold of branches, and to end one by hand.
//!
//! A question goes down a participant's own stream under a call id, and its answer comes up the same
//! stream. Nothing here decides anything: an answer is shown to a person, or told to whoever acts for
//! one, and a question without an answer is [`Silent`], never "gone" (law 8).
//!
//! ```text
//!  operator ─▶ Examiner ──Examine(call)──▶ outbox of a session ─▶ participant
//!                  ▲                                                  │
//!                  └──── Calls: who waits ◀── session ◀──Examined(call)┘
//! ```
//!
//! **Who is asked.** Only the instance that enlisted a branch knows its local work, so it is asked
//! first; any other one sees only what is prepared, and what evidence tells. Where the first is silent
//! for half of the limit, is gone, or could find nothing out, a second instance is asked for the rest
//! of the time, and the first good answer counts. What a stranger says of a branch for which no vote
//! was named is taken with care: see [`Examiner::each`]. An order to end a branch goes to one
//! instance, once: its lost answer is *unknown*, and is not made up for by asking another one.
//!
//! Each call has a limit, and ends at once with its session. An answer that nobody waits for (late,
//! repeated, or of another participant than was asked) is dropped.

mod calls;
mod questions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use pactum_core::id::{Branch, BranchId, Gid, InstanceId, ResourceName, TransactionId};
use pactum_core::vote::Evidence;
use pactum_proto::v1;
use tokio::time::Instant;

use crate::registry::Registry;
use crate::service::wire::{self, ToParticipant};
use crate::session::Session;
pub(crate) use calls::{Answer, Examined};
use calls::{Calls, Expected};
use questions::Questions;

/// Branches in one question: what the wire allows.
const QUESTIONS_MAX: usize = 64;

/// Findings in one answer: what the wire allows.
pub(crate) const FINDINGS_MAX: u32 = 256;

/// An order may wait for a disk or a standby where a question need not: so many times its limit.
const OVERRULE_PATIENCE: u32 = 2;

/// Asks participants.
#[derive(Clone, Debug)]
pub(crate) struct Examiner {
    registry: Arc<Registry>,
    calls: Arc<Calls>,
    /// See [`Config::examine_timeout`](crate::Config::examine_timeout).
    limit: Duration,
}

/// Why nothing is known of a database: in particular not that a branch is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Silent {
    /// No participant of the resource is attached to this coordinator.
    NotAttached,
    /// Whoever was asked did not answer in time, or its stream ended.
    NoAnswer,
    /// It answered that it could find nothing out, and why.
    Refused(String),
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAttached => {
                f.write_str("no participant of the resource is attached to this coordinator")
            }
            Self::NoAnswer => f.write_str("the participant did not answer in time"),
            Self::Refused(why) => write!(f, "the participant could not find out: {why}"),
        }
    }
}

/// Why a branch was not ended by hand, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OverruleError {
    /// The order reached nobody. Nothing happened.
    NotSent(Silent),
    /// The participant did not do it, and says why. Nothing happened.
    Refused(String),
    /// The answer is missing: it may have happened, or may happen yet.
    Unknown(String),
}

impl fmt::Display for OverruleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "nothing was done: {why}"),
            Self::Refused(why) => write!(f, "the participant did not do it: {why}"),
            Self::Unknown(why) => write!(f, "it is not known whether it was done: {why}"),
        }
    }
}

/// What one answer of [`Examiner::each`] is about.
pub(crate) type Asked = (Gid, BranchId);

impl Examiner {
    pub(crate) fn new(registry: Arc<Registry>, limit: Duration) -> Self {
        Self { registry, calls: Arc::default(), limit }
    }

    /// Takes in an answer that came on a session's stream; answers whether somebody waited for it.
    pub(crate) fn answered(&self, session: &Arc<Session>, call_id: u64, answer: Answer) -> bool {
        self.calls.answered(session, call_id, answer)
    }

    /// What the database of a resource holds of branches, branch by branch, or why that is not known. A
    /// question that names no transaction or branch has no entry.
    ///
    /// That a branch is *aborted* or *open* is believed of another instance than the one that enlisted
    /// it only where evidence of a vote was named: without a vote its local work may be open in a
    /// process that nobody has asked. Then it counts as unknown.
    pub(crate) async fn each(
        &self,
        resource: &ResourceName,
        questions: Vec<v1::BranchQuestion>,
    ) -> BTreeMap<Asked, Result<v1::BranchFinding, Silent>> {
        let groups = Questions::by_instance(questions);
        let asked = groups.into_iter().map(|group| async move {
            let candidates = self.registry.sessions().to_ask(resource, Some(group.instance));
            let answer = self
                .ask(&candidates, resource, |call_id| {
                    wire::examine(call_id, resource, group.questions.clone())
                })
                .await;
            group.answers(answer)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// What is prepared in the database of a resource, oldest first, at most `limit` (256), and whether
    /// there is more.
    ///
    /// # Errors
    /// Nobody answered.
    pub(crate) async fn prepared(
        &self,
        resource: &ResourceName,
        limit: u32,
    ) -> Result<(Vec<v1::BranchFinding>, bool), Silent> {
        let limit = limit.min(FINDINGS_MAX);
        let candidates = self.registry.sessions().to_ask(resource, None);
        let (_, examined) = self
            .ask(&candidates, resource, |call_id| wire::examine_prepared(call_id, resource, limit))
            .await?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = examined.more || examined.findings.len() > most;
        let prepared = |finding: &v1::BranchFinding| finding.presence() == v1::BranchPresence::Prepared;
        Ok((examined.findings.into_iter().filter(prepared).take(most).collect(), more))
    }

    /// Has one prepared branch ended as a person says, by one instance, asked once: the one that enlisted
    /// it, else any. Answers how the branch stands then.
    ///
    /// # Errors
    /// By its kind nothing happened, or it is not known whether something did.
    pub(crate) async fn overrule(
        &self,
        id: TransactionId,
        branch: &Branch,
        evidence: &Evidence,
        commit: bool,
    ) -> Result<v1::BranchPresence, OverruleError> {
        let candidates = self.registry.sessions().to_ask(&branch.resource, Some(branch.instance));
        let session = candidates.first().ok_or(OverruleError::NotSent(Silent::NotAttached))?;
        let call = self.calls.begin(session, Expected::Overruled);
        if !session.send(wire::overrule(call.id(), id, branch, evidence, commit)) {
            return Err(OverruleError::NotSent(Silent::NotAttached));
        }
        let answer = tokio::time::timeout(self.limit * OVERRULE_PATIENCE, call.answer()).await;
        match answer {
            Ok(Some(Answer::Overruled { problem: None, presence })) => Ok(presence),
            Ok(Some(Answer::Overruled { problem: Some(why), .. })) => Err(OverruleError::Refused(why)),
            Ok(None | Some(Answer::Examined(_))) => {
                Err(OverruleError::Unknown("the participant's stream ended before its answer".to_owned()))
            }
            Err(_elapsed) => Err(OverruleError::Unknown("the participant did not answer in time".to_owned())),
        }
    }

    /// Tells participants of a resource, or one instance of it, to take new branches or none. Answers
    /// how many were told; each says itself when it is so. Each takes none of *any* of its resources.
    pub(crate) fn set_draining(
        &self,
        resource: &ResourceName,
        instance: Option<InstanceId>,
        draining: bool,
    ) -> usize {
        let sessions = self.registry.sessions();
        let of_it = sessions.of_resource(resource);
        let meant = of_it.filter(|session| instance.is_none_or(|instance| session.instance == instance));
        meant.filter(|session| session.send(wire::set_draining(draining))).count()
    }

    /// Asks one candidate after the other, as the head of this file says, until one has found out.
    async fn ask(
        &self,
        candidates: &[Arc<Session>],
        resource: &ResourceName,
        message: impl Fn(u64) -> ToParticipant,
    ) -> Result<(InstanceId, Examined), Silent> {
        let now = Instant::now();
        let (patience, limit) = (now + self.limit / 2, now + self.limit);
        let mut left = candidates.iter().take(2);
        let mut waiting = FuturesUnordered::new();
        let mut silent = Silent::NotAttached;
        let begin = |session: &Arc<Session>| {
            let call = self.calls.begin(session, Expected::Examined(resource.clone()));
            // What is not taken was not asked: as if its stream had ended.
            let sent = session.send(message(call.id()));
            let instance = session.instance;
            async move { if sent { call.answer().await.map(|answer| (instance, answer)) } else { None } }
        };
        waiting.extend(left.next().map(begin));
        loop {
            let ask_another = tokio::select! {
                biased;
                Some(answered) = waiting.next() => {
                    match answered {
                        Some((instance, Answer::Examined(examined))) => match examined.problem {
                            None => return Ok((instance, examined)),
                            Some(why) => silent = silent.max(Silent::Refused(why)),
                        },
                        Some((_, Answer::Overruled { .. })) | None => silent = silent.max(Silent::NoAnswer),
                    }
                    true
                }
                () = tokio::time::sleep_until(patience), if left.len() > 0 && !waiting.is_empty() => true,
                () = tokio::time::sleep_until(limit), if !waiting.is_empty() => {
                    return Err(silent.max(Silent::NoAnswer));
                }
                else => return Err(silent),
            };
            if ask_another {
                waiting.extend(left.next().map(begin));
            }
        }
    }
}

#[cfg(test)]
mod tests;
