//! Interactive transactions: begin, call services, commit or abort.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pactum_core::id::{Branch, TransactionId};
use pactum_core::vote::{AbortKind, AbortReason};
use pactum_proto::v1;
use pactum_proto::v1::pipeline_call::Call;

use super::Shared;
use super::ask::{Ask, Asked, Whom, query, wire_branches};
use super::details::{Details, details_options};
use super::outcome::{Outcome, Standing};
use crate::context::{BranchSet, Context};
use crate::error::{AbortError, BeginError, CommitError};

/// How long an abort is told before it is left to the deadline.
const ABORT_WAIT: Duration = Duration::from_secs(5);

/// What a begin, commit, abort or submit becomes when it is awaited.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Begins a transaction when awaited. Made by [`Pactum::begin`](crate::Pactum::begin).
#[derive(Debug)]
#[must_use = "nothing is begun unless this is awaited"]
pub struct Begin {
    shared: Arc<Shared>,
    details: Details,
}

impl Begin {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, details: Details::default() }
    }

    details_options!();

    async fn run(self) -> Result<Transaction, BeginError> {
        self.details.check()?;
        let id = self.shared.name_new().await?.ok_or(BeginError::FloorTooHigh)?;
        let context =
            Context::with_traceparent(id, self.details.timeout, self.details.traceparent.as_deref());
        Ok(Transaction { shared: self.shared, context, details: self.details, ended: false })
    }
}

impl IntoFuture for Begin {
    type Output = Result<Transaction, BeginError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A global transaction that has not been decided.
///
/// Dropping it without commit or abort tells the coordinator, as well as that goes without waiting, to
/// abort it; if that is lost, what enlisted is let go at the deadline.
#[must_use = "a transaction that is dropped aborts"]
pub struct Transaction {
    shared: Arc<Shared>,
    context: Context,
    details: Details,
    /// Commit or abort was asked: dropping says nothing any more.
    ended: bool,
}

impl Transaction {
    /// Its name. Keep it if you may have to ask for the outcome later, for instance because the
    /// future of the commit may be dropped.
    pub fn id(&self) -> TransactionId {
        self.context.id()
    }

    /// What travels with calls inside it. [`WithTransaction::with`](crate::WithTransaction::with)
    /// takes the transaction itself.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The branches known to have enlisted: what commit will name.
    pub fn enlisted(&self) -> Vec<Branch> {
        self.context.enlisted()
    }

    /// When it is aborted if it is not decided.
    pub fn deadline(&self) -> Instant {
        self.context.deadline()
    }

    /// Time until [`Self::deadline`]; zero once it has passed.
    pub fn time_left(&self) -> Duration {
        self.context.time_left()
    }

    /// Asks to commit, when awaited, exactly the branches that calls brought back.
    ///
    /// `Ok(Outcome::Committed)` is durable, and so told only after the decision log (or, for one branch
    /// alone, that branch's database) has acknowledged it. A call inside the transaction that failed
    /// may have enlisted a branch that was not named: then the coordinator finds that the
    /// sets differ and aborts. Without any branch nothing is sent and nothing is recorded: it
    /// is committed, read-only.
    ///
    /// Lost answers are asked for again until the deadline and the grace have passed; no repetition
    /// can run a transaction twice, as it carries the same gid and the same branches.
    ///
    /// # Errors
    /// See [`CommitError`]; in particular [`CommitError::Unknown`] is neither commit nor abort. If
    /// the future is dropped before it ends, the outcome is unknown as well.
    pub fn commit(self) -> Commit {
        Commit { transaction: self, wait: v1::Wait::Finished }
    }

    /// Aborts, when awaited. Nothing is durable on return, nor need it be (presumed abort).
    ///
    /// # Errors
    /// The coordinator could not be told. It aborts all the same, at the latest at the deadline.
    pub fn abort(self) -> Abort {
        Abort { transaction: self, message: String::from("the application aborted it") }
    }

    /// The end of a commit that named no branch although a call's answer was lost. Only the owner knows
    /// whether that call enlisted; to any other coordinator an empty set is trivially committed.
    /// What enlisted unnamed is never prepared, so without the owner's word *aborted* is true at
    /// every branch that there may be.
    fn settle_empty(&self, set: &BranchSet, asked: Asked) -> Outcome {
        let problem = match asked {
            Asked::Known(outcome) => match Standing::from(outcome) {
                Standing::Decided(outcome) => return outcome,
                Standing::Pending | Standing::Unknown | Standing::NoRecord | Standing::Forgotten => {
                    String::from("its owner does not know it")
                }
            },
            Asked::Refused { refusal, .. } => refusal.to_string(),
            Asked::GaveUp { problem, .. } | Asked::OwnerGone { problem } | Asked::Malformed { problem } => {
                problem
            }
        };
        let text =
            format!("a call in it got no answer, so work may be missing, and nobody could say: {problem}");
        self.tell_abort(set, "a call in it got no answer");
        Outcome::aborted(AbortReason::new(AbortKind::BranchSetDiffers, &text))
    }

    fn abort_call(&self, branches: &[Branch], message: &str) -> Call {
        Call::Abort(v1::AbortRequest {
            id: Some(self.id().into()),
            branches: wire_branches(branches),
            message: message.to_owned(),
        })
    }

    /// Tells the owner without waiting.
    fn tell_abort(&self, set: &BranchSet, message: &str) {
        if let Some(pipeline) = self.shared.choose(&self.id(), 0) {
            pipeline.send_and_forget(self.abort_call(&set.branches, message));
        }
    }
}

impl AsRef<Context> for Transaction {
    fn as_ref(&self) -> &Context {
        &self.context
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let set = self.context.branch_set();
        // What nobody ever heard of needs no abort.
        if set.may_miss || !set.branches.is_empty() {
            self.tell_abort(&set, "the application dropped it undecided");
        }
    }
}

/// Commits when awaited. Made by [`Transaction::commit`].
#[derive(Debug)]
#[must_use = "nothing is committed unless this is awaited"]
pub struct Commit {
    transaction: Transaction,
    wait: v1::Wait,
}

impl Commit {
    /// Answers at the commit point, as soon as the decision is durable. By default the answer comes
    /// when every branch has finished, or 5 s after the decision if that is sooner: then a caller
    /// usually reads its own writes.
    pub fn wait_decision(mut self) -> Self {
        self.wait = v1::Wait::Decision;
        self
    }

    async fn run(mut self) -> Result<Outcome, CommitError> {
        let transaction = &mut self.transaction;
        transaction.ended = true;
        let id = transaction.id();
        let set = transaction.context.branch_set();
        if let Some(problem) = set.broken {
            // A set that cannot be named whole would be refused (law 9), and must never be
            // committed in part. Commit was never asked, so it is aborted whoever hears of it.
            transaction.tell_abort(&set, problem);
            let reason = AbortReason::new(AbortKind::BranchSetDiffers, problem);
            return Ok(Outcome::aborted(reason));
        }
        if set.branches.is_empty() && !set.may_miss {
            return Ok(Outcome::nothing_to_commit());
        }
        let deadline = transaction.deadline().into();
        let ask = Ask {
            shared: &transaction.shared,
            id,
            deadline,
            give_up: deadline + transaction.shared.grace,
            undecided_is_answer: false,
            whom: if set.branches.is_empty() { Whom::Owner } else { Whom::Anyone },
        };
        let wire = wire_branches(&set.branches);
        let details = transaction.details.wire();
        let wait = self.wait;
        let asked = ask
            .run(|time_left| {
                Call::Commit(v1::CommitRequest {
                    id: Some(id.into()),
                    branches: wire.clone(),
                    wait: wait.into(),
                    details: Some(details.clone()),
                    timeout: time_left.try_into().ok(),
                })
            })
            .await;
        if set.branches.is_empty() {
            return Ok(transaction.settle_empty(&set, asked));
        }
        match asked {
            Asked::Refused { refusal, may_have_arrived: true } => {
                // The refusal speaks of its own delivery. An earlier one may have been carried out,
                // and only what stands in the register can tell: the branches make that definite.
                let looked = ask.run(|_| query(id, &set.branches)).await;
                settle_look_up(id, set.branches, looked, &refusal.to_string())
            }
            other @ (Asked::Known(_)
            | Asked::Refused { .. }
            | Asked::GaveUp { .. }
            | Asked::OwnerGone { .. }
            | Asked::Malformed { .. }) => settle(id, set.branches, other),
        }
    }
}

impl IntoFuture for Commit {
    type Output = Result<Outcome, CommitError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What a commit or a submit tells its caller.
pub(super) fn settle(id: TransactionId, branches: Vec<Branch>, asked: Asked) -> Result<Outcome, CommitError> {
    let unknown = |branches, problem| Err(CommitError::Unknown { id, branches, problem });
    match asked {
        Asked::Known(outcome) => match Standing::from(outcome) {
            Standing::Decided(outcome) => Ok(outcome),
            Standing::Pending => unknown(branches, String::from("it is not decided yet")),
            Standing::Unknown => unknown(branches, String::from("the decision log has not answered")),
            Standing::NoRecord => Err(CommitError::NoRecord { id }),
            Standing::Forgotten => Err(CommitError::Forgotten { id }),
        },
        Asked::Refused { refusal, may_have_arrived: false } => Err(CommitError::Refused { id, refusal }),
        Asked::Refused { refusal, may_have_arrived: true } => unknown(branches, refusal.to_string()),
        Asked::GaveUp { problem, may_have_arrived: true } => unknown(branches, problem),
        Asked::GaveUp { problem, may_have_arrived: false } | Asked::OwnerGone { problem } => {
            Err(CommitError::NotReached { id, problem })
        }
        Asked::Malformed { problem } => Err(CommitError::Malformed { id, branches, problem }),
    }
}

/// The same after a look-up that followed an uncertain delivery: what the look-up did not find
/// out stays unknown, whatever it says of itself.
pub(super) fn settle_look_up(
    id: TransactionId,
    branches: Vec<Branch>,
    looked: Asked,
    before: &str,
) -> Result<Outcome, CommitError> {
    match looked {
        Asked::Known(_) | Asked::Malformed { .. } => settle(id, branches, looked),
        Asked::Refused { .. } | Asked::GaveUp { .. } | Asked::OwnerGone { .. } => {
            Err(CommitError::Unknown { id, branches, problem: before.to_owned() })
        }
    }
}

/// Aborts when awaited. Made by [`Transaction::abort`].
#[derive(Debug)]
#[must_use = "nothing is told unless this is awaited"]
pub struct Abort {
    transaction: Transaction,
    message: String,
}

impl Abort {
    /// Says why, for people; cut to 512 bytes. A call that failed before its branch enlisted is unknown to
    /// the coordinator: unless its error is named here, nobody who looks at the transaction learns of it.
    pub fn message(mut self, message: &str) -> Self {
        self.message = AbortReason::new(AbortKind::Requested, message).message.as_ref().into();
        self
    }

    async fn run(mut self) -> Result<Outcome, AbortError> {
        let transaction = &mut self.transaction;
        let id = transaction.id();
        let set = transaction.context.branch_set();
        if set.branches.is_empty() && !set.may_miss {
            transaction.ended = true;
            return Ok(Outcome::aborted(AbortReason::new(AbortKind::Requested, &self.message)));
        }
        let until = tokio::time::Instant::now() + ABORT_WAIT;
        let ask = Ask {
            shared: &transaction.shared,
            id,
            deadline: until,
            give_up: until,
            undecided_is_answer: false,
            whom: Whom::Anyone,
        };
        let asked = ask.run(|_| transaction.abort_call(&set.branches, &self.message)).await;
        self.transaction.ended = true;
        let not_told = |problem| Err(AbortError { id, problem });
        match asked {
            Asked::Known(outcome) => match Standing::from(outcome) {
                Standing::Decided(outcome) => Ok(outcome),
                Standing::Pending | Standing::Unknown | Standing::NoRecord | Standing::Forgotten => {
                    not_told(String::from("the coordinator does not know it"))
                }
            },
            Asked::Refused { refusal, .. } => not_told(refusal.to_string()),
            Asked::GaveUp { problem, .. } | Asked::OwnerGone { problem } | Asked::Malformed { problem } => {
                not_told(problem)
            }
        }
    }
}

impl IntoFuture for Abort {
    type Output = Result<Outcome, AbortError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
