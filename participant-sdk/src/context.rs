//! The transaction that a piece of work is part of, and how it travels.
//!
//! ```text
//!  application            ── request:  pactum-context, traceparent ──▶   service
//!  .with(&tx): task-local    ContextLayer::client()   ContextLayer::server()   Context::current(),
//!  set of branches  ◀── response: pactum-enlisted ──                       request extensions
//! ```
//!
//! A [`Context`] is the pair (incarnation, gid) as one token that nobody re-stamps (law 10), the
//! time that the transaction has left, and the branches that enlisted so far. The last are what
//! commit must name (law 9), so they travel back in every response, also in one that says an error.
//!
//! What may be missing is known too. A call that went out and got no answer (it failed on the
//! way, or its future was dropped) may have enlisted branches that nobody named to us. Then
//! commit lets the coordinator compare the sets, which aborts if work is missing, and never takes
//! "no branch is known" for "there is none".
//!
//! This file knows no coordinator and no resource. The task-local does not reach tasks that
//! are spawned inside: wrap what they do in [`WithTransaction::with`] again.

mod header;
mod layer;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use http::header::HeaderMap;
use pactum_core::id::{Branch, TransactionId};
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;

use self::header::EnlistedHeader;
pub(crate) use self::header::is_traceparent;
pub use self::header::{BRANCHES_MAX, CONTEXT_HEADER, ENLISTED_HEADER, HeaderError, TIME_LEFT_MAX};
pub use self::layer::{
    Client, ClientFuture, ClientService, ContextLayer, Server, ServerFuture, ServerService,
};

tokio::task_local! {
    static CURRENT: Context;
}

/// A global transaction as the work inside it sees it. Clones share the set of branches.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    id: TransactionId,
    deadline: Instant,
    traceparent: Option<Arc<str>>,
    enlisted: Mutex<Enlisted>,
}

/// What is known of the branches, and of what is not known.
#[derive(Debug, Default)]
struct Enlisted {
    branches: BTreeSet<Branch>,
    /// More than [`BRANCHES_MAX`] enlisted, or a response named them in a form that is not
    /// understood: the set can never be named whole.
    broken: Option<&'static str>,
    /// Calls that took the context out and whose answer did not come back (yet).
    unanswered: usize,
}

/// What commit must know of the branches.
#[derive(Clone, Debug)]
pub(crate) struct BranchSet {
    /// Every branch that was named to us, in order.
    pub(crate) branches: Vec<Branch>,
    /// Whether others may have enlisted that were not.
    pub(crate) may_miss: bool,
    /// Why the set cannot be named whole, if it cannot.
    pub(crate) broken: Option<&'static str>,
}

impl Context {
    /// A context for a transaction whose name is known, with this much time left (cut to
    /// [`TIME_LEFT_MAX`]). For tests and for callers with a protocol of their own; an
    /// application gets one from [`Transaction::context`](crate::Transaction::context), a service from
    /// [`ContextLayer::server`].
    pub fn new(id: TransactionId, time_left: Duration) -> Self {
        Self::with_traceparent(id, time_left, None)
    }

    pub(crate) fn with_traceparent(
        id: TransactionId,
        time_left: Duration,
        traceparent: Option<&str>,
    ) -> Self {
        let traceparent = traceparent.filter(|text| is_traceparent(text));
        Self {
            inner: Arc::new(Inner {
                id,
                deadline: now() + time_left.min(TIME_LEFT_MAX),
                traceparent: traceparent.map(Into::into),
                enlisted: Mutex::default(),
            }),
        }
    }

    /// Reads the value of a `pactum-context` header. The time left counts from now, by a
    /// monotonic clock; what the header spent on its way is not known and not subtracted.
    ///
    /// # Errors
    /// Any other form than `<incarnation>-<gid>-<milliseconds left>`. Do not go on without a
    /// transaction then: the caller believes the work to be inside one.
    pub fn parse(header: &str) -> Result<Self, HeaderError> {
        let (id, time_left) = header::parse_context(header)?;
        Ok(Self::new(id, time_left))
    }

    /// The context that the current task works in: inside [`WithTransaction::with`], or in a handler
    /// behind [`ContextLayer::server`] whose caller sent one.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// The transaction's name.
    pub fn id(&self) -> TransactionId {
        self.inner.id
    }

    /// When the transaction is aborted if it is not decided, as known here.
    pub fn deadline(&self) -> Instant {
        self.inner.deadline
    }

    /// Time until [`Self::deadline`]; zero once it has passed.
    pub fn time_left(&self) -> Duration {
        self.inner.deadline.saturating_duration_since(now())
    }

    /// The W3C `traceparent` that goes with the transaction.
    pub fn traceparent(&self) -> Option<&str> {
        self.inner.traceparent.as_deref()
    }

    /// The value of the `pactum-context` header for a call that starts now, for transports without
    /// [`ContextLayer::client`]. Counts as a call without an answer until
    /// [`Self::record_response`] is given the response's headers: a commit before that asks the
    /// coordinator even if no branch is known.
    pub fn header_value(&self) -> String {
        self.lock().unanswered += 1;
        self.format_header()
    }

    /// Takes the branches out of the `pactum-enlisted` headers of the response to a call that
    /// carried [`Self::header_value`]. Call it once per response, also for one that says an error.
    pub fn record_response(&self, headers: &HeaderMap) {
        let mut enlisted = self.lock();
        enlisted.unanswered = enlisted.unanswered.saturating_sub(1);
        for value in headers.get_all(ENLISTED_HEADER) {
            let parsed = value.to_str().ok().and_then(|text| header::parse_enlisted(text).ok());
            match parsed {
                Some(found) => enlisted.take(found),
                None => {
                    enlisted.broken = Some("a response named its branches in a form that is not understood");
                }
            }
        }
    }

    /// Adds a branch that enlisted; adding it again changes nothing. Beyond [`BRANCHES_MAX`] the
    /// transaction can only abort.
    pub fn record_enlisted(&self, branch: Branch) {
        self.lock().add(branch);
    }

    /// The branches known to have enlisted, in the order of their ids.
    pub fn enlisted(&self) -> Vec<Branch> {
        self.lock().branches.iter().cloned().collect()
    }

    /// What commit must know.
    pub(crate) fn branch_set(&self) -> BranchSet {
        let enlisted = self.lock();
        BranchSet {
            branches: enlisted.branches.iter().cloned().collect(),
            may_miss: enlisted.unanswered > 0,
            broken: enlisted.broken,
        }
    }

    /// The header without counting a call.
    fn format_header(&self) -> String {
        header::format_context(&self.inner.id, self.time_left())
    }

    /// The value of the response header for what enlisted here, if there is anything to say.
    fn response_value(&self) -> Option<String> {
        let enlisted = self.lock();
        header::format_enlisted(&EnlistedHeader {
            branches: enlisted.branches.iter().cloned().collect(),
            more: enlisted.unanswered > 0,
            too_many: enlisted.broken.is_some(),
        })
    }

    /// A panic cannot happen while the lock is held, and the set is whole between statements.
    fn lock(&self) -> MutexGuard<'_, Enlisted> {
        self.inner.enlisted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clock that deadlines are on: tokio's, which follows simulated time where there is any.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Enlisted {
    fn add(&mut self, branch: Branch) {
        if self.branches.contains(&branch) {
            return;
        }
        if self.branches.len() == BRANCHES_MAX {
            self.broken = Some("more than 64 branches enlisted");
        } else {
            self.branches.insert(branch);
        }
    }

    fn take(&mut self, found: EnlistedHeader) {
        for branch in found.branches {
            self.add(branch);
        }
        if found.more {
            // Never answered: nobody will tell what enlisted further down.
            self.unanswered += 1;
        }
        if found.too_many {
            self.broken = Some("a service could not name all the branches that enlisted there");
        }
    }
}

impl AsRef<Context> for Context {
    fn as_ref(&self) -> &Context {
        self
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.inner.id)
            .field("time_left", &self.time_left())
            .field("enlisted", &self.lock().branches.len())
            .finish_non_exhaustive()
    }
}

/// Runs a future inside a transaction: `client.reserve(request).with(&tx).await?`.
///
/// Every call made while it is polled, through a client behind [`ContextLayer::client`], carries
/// the transaction and brings back the branches that enlisted. If such a call fails or its
/// future is dropped, its work may or may not be part of the transaction: abort, or repeat the
/// call and rely on the coordinator, which aborts if commit does not name all that enlisted.
pub trait WithTransaction: Future + Sized {
    /// Runs this future inside the transaction (or a service's [`Context`]).
    fn with(self, transaction: &impl AsRef<Context>) -> InTransaction<Self> {
        let context = transaction.as_ref().clone();
        InTransaction { scoped: CURRENT.scope(context, self) }
    }
}

impl<F: Future> WithTransaction for F {}

pin_project! {
    /// What [`WithTransaction::with`] makes.
    #[must_use = "futures do nothing unless awaited"]
    pub struct InTransaction<F> {
        #[pin]
        scoped: TaskLocalFuture<Context, F>,
    }
}

impl<F: Future> Future for InTransaction<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        self.project().scoped.poll(cx)
    }
}

impl<F> fmt::Debug for InTransaction<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InTransaction").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pactum_core::id::{BranchId, Gid, Incarnation, InstanceId, ResourceName};
    use uuid::Uuid;

    fn context() -> Context {
        let id = TransactionId {
            incarnation: Incarnation::from_uuid(Uuid::from_u128(7)),
            gid: Gid::from_uuid(Uuid::from_u128(9)),
        };
        Context::new(id, Duration::from_secs(30))
    }

    fn branch(number: u64) -> Branch {
        Branch {
            id: BranchId::new(number),
            resource: ResourceName::new("bank-a").unwrap(),
            instance: InstanceId::from_uuid(Uuid::from_u128(1)),
            marker: false,
        }
    }

    fn response(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ENLISTED_HEADER, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_time_left_counts_down_and_ends_at_zero() {
        let context = context();
        let left = context.time_left();
        assert!(left <= Duration::from_secs(30) && left > Duration::from_secs(20));
        let passed = Context::new(context.id(), Duration::ZERO);
        assert_eq!(passed.time_left(), Duration::ZERO);
        let again = Context::parse(&context.header_value()).unwrap();
        assert_eq!(again.id(), context.id());
        assert!(again.time_left() <= left);
        let long = Context::new(context.id(), Duration::MAX);
        assert!(long.time_left() <= TIME_LEFT_MAX);
    }

    #[test]
    fn clones_share_the_branches_and_repetitions_change_nothing() {
        let context = context();
        let clone = context.clone();
        clone.record_enlisted(branch(2));
        clone.record_enlisted(branch(1));
        context.record_enlisted(branch(2));
        assert_eq!(context.enlisted(), [branch(1), branch(2)]);
    }

    #[test]
    fn a_call_without_an_answer_means_that_branches_may_be_missing() {
        let context = context();
        assert!(!context.branch_set().may_miss);
        let value = context.header_value();
        assert!(Context::parse(&value).is_ok());
        assert!(context.branch_set().may_miss);
        context.record_response(&HeaderMap::new());
        assert!(!context.branch_set().may_miss);
        // A service that lost an answer itself says so, and nothing takes that back.
        context.header_value();
        context.record_response(&response(&["more"]));
        context.header_value();
        context.record_response(&HeaderMap::new());
        assert!(context.branch_set().may_miss);
    }

    #[test]
    fn what_is_not_understood_or_too_much_leaves_a_set_that_cannot_be_committed() {
        let too_many = context();
        for number in 0..=64 {
            too_many.record_enlisted(branch(number));
        }
        assert!(too_many.branch_set().broken.is_some());
        assert_eq!(too_many.enlisted().len(), BRANCHES_MAX);
        let value = too_many.response_value().unwrap();

        for values in [&["nonsense"][..], &["", "more"], &[&value]] {
            let context = context();
            context.record_response(&response(values));
            assert!(context.branch_set().broken.is_some(), "{values:?}");
        }
    }

    #[tokio::test]
    async fn the_current_context_is_the_innermost_and_ends_with_its_future() {
        assert!(Context::current().is_none());
        let (outer, inner) = (context(), Context::new(context().id(), Duration::ZERO));
        async {
            assert!(Arc::ptr_eq(&Context::current().unwrap().inner, &outer.inner));
            async { assert!(Arc::ptr_eq(&Context::current().unwrap().inner, &inner.inner)) }
                .with(&inner)
                .await;
            assert!(Arc::ptr_eq(&Context::current().unwrap().inner, &outer.inner));
        }
        .with(&outer)
        .await;
        assert!(Context::current().is_none());
    }
}
