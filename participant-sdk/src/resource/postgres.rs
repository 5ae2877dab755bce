//! PostgreSQL as a resource: `PREPARE TRANSACTION`, and evidence of what became of it.
//!
//! ```text
//! service ── begin ──▶ PostgresBranch ── work ── enlist ──▶ held here, open
//!                                                             │ prepare
//!                     ended, read-only ◀── nothing written ───┤
//!                                                             ▼
//!                       pg_prepared_xacts: survives this process and the server
//!                                                             │ commit / abort
//!                        gone: evidence (xid, anchor) tells how it ended
//! ```
//!
//! What it keeps: a yes is durable before it is voted; an ended transaction never looks like a
//! prepared one; "not found" is never taken for success (law 8); the xid is believed only
//! while the database's history has not gone back (`failure-matrix` H6); nothing of another
//! cluster, or of anybody else, is touched. It does not know who decides, or why.
//!
//! # Isolation
//! Each branch has its own database's isolation, chosen with [`BeginOptions`]. Between the first
//! and the last branch's commit a reader of both databases can see half of a transaction. A
//! prepared branch keeps its locks until the decision, and holds back vacuum.
//!
//! # What cannot be prepared
//! Temporary tables, LISTEN and NOTIFY, cursors WITH HOLD and foreign tables make the branch vote
//! no (`failure-matrix` D13). A NOTIFY in a branch that wrote nothing goes out at its *vote*,
//! whatever the decision: such a branch is committed there and then.
//!
//! # Forgetting
//! The marker tables grow by one row for each transaction of one branch (and for each branch,
//! with [`witnessed`](PostgresResource::witnessed)) until
//! [`forget_markers`](PostgresResource::forget_markers) is called.

mod at_hand;
mod begin;
mod branch;
mod checks;
mod control;
mod evidence;
mod examine;
mod finish;
mod lookup;
mod marker;
mod operation;
mod overrule;
mod prepare;
mod sql;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pactum_core::coordinator::{Operation, RegisterAnswer};
use pactum_core::id::{BranchId, Cluster, Gid, NameError, PreparedName, ResourceName};
use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::{AbortReason, Evidence};
use sqlx::{PgConnection, PgPool};

pub use self::begin::BeginOptions;
use self::begin::LocalTransaction;
pub use self::branch::{BranchError, PostgresBranch};
use self::control::{Control, Ending};
use self::operation::Handler;
pub use self::operation::{NoVote, OperationFuture};
use self::prepare::Probe;
use super::{
    BranchContext, BranchFinding, BranchPresence, BranchQuestion, HookError, Prepared, PreparedBranch,
    PreparedFindings, Registration, Resource,
};
use crate::context::Context;
use crate::participant::{EnlistError, Enlister};

/// One PostgreSQL database. Cheap to clone; all clones are the same resource.
#[derive(Clone)]
pub struct PostgresResource {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {
    name: ResourceName,
    /// The service's own.
    pool: PgPool,
    /// For ending branches; made when the first is ended, when all settings are known.
    ending: OnceLock<Ending>,
    /// For what operators ask; made at the first question.
    looking: OnceLock<PgPool>,
    /// What waits to be looked up among the prepared.
    look_ups: lookup::LookUps,
    /// Enlisted branches whose local transactions are open. Bounded by the pool: each holds one
    /// of its connections.
    open: Mutex<BTreeMap<PreparedName, Open>>,
    settings: Mutex<Settings>,
}

#[derive(Default)]
struct Settings {
    operations: BTreeMap<String, Handler>,
    witness: bool,
    ending_connections_max: Option<u32>,
    enlister: Option<Enlister>,
}

/// An enlisted branch whose local transaction is open.
#[derive(Debug)]
struct Open {
    local: LocalTransaction,
    probe: Probe,
}

impl Inner {
    fn hold_open(&self, local: LocalTransaction, probe: Probe) {
        let name = local.name.clone();
        let earlier =
            self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Open { local, probe });
        debug_assert!(earlier.is_none(), "branch ids are drawn at random");
    }

    fn take_open(&self, name: &PreparedName) -> Option<Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// Our own connections. Must be called within a tokio runtime, as hooks are.
    fn ending(&self) -> &Ending {
        self.ending.get_or_init(|| {
            let max = self.settings().ending_connections_max;
            Ending::like(&self.pool, max.unwrap_or_else(|| control::connections_for(&self.pool)))
        })
    }

    fn is_open(&self, name: &PreparedName) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// Connections for what operators ask, apart from those that end branches: no question takes
    /// one of those. Must be called within a tokio runtime, as hooks are.
    fn looking(&self) -> &PgPool {
        self.looking.get_or_init(|| control::for_looking(&self.pool))
    }

    /// One of them, for a branch that is ended or looked at.
    ///
    /// # Errors
    /// None could be had in good time.
    async fn control(&self) -> Result<Control, HookError> {
        self.ending().acquire().await
    }

    fn settings(&self) -> std::sync::MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handler(&self, name: &str) -> Option<Handler> {
        self.settings().operations.get(name).cloned()
    }

    fn keeps_witness(&self) -> bool {
        self.settings().witness
    }
}

impl PostgresResource {
    /// The database behind `pool`, under the resource's name: the same in every process that
    /// speaks for this database. Connects to nothing yet.
    ///
    /// Branches run on the pool's connections, one each from begin to vote. To end branches the
    /// resource opens [some more](Self::ending_connections), made with the pool's options, so that a
    /// pool full of waiting branches does not keep the branch that they wait for from ending.
    ///
    /// These set `statement_timeout`, `lock_timeout` and `idle_in_transaction_session_timeout` to 0
    /// as they connect; a pooler between here and the server has to let that through.
    ///
    /// # Errors
    /// The name is not one to 64 of `a-z 0-9 - _ .`, the first a letter or digit.
    pub fn new(name: &str, pool: PgPool) -> Result<Self, NameError> {
        Ok(Self {
            inner: Arc::new(Inner {
                name: ResourceName::new(name)?,
                ending: OnceLock::new(),
                looking: OnceLock::new(),
                look_ups: lookup::LookUps::default(),
                pool,
                open: Mutex::default(),
                settings: Mutex::default(),
            }),
        })
    }

    /// How many connections of its own the resource may open, for ending branches and for looking
    /// after them; at least one. Default: half as many as the pool may have, but 8 at least and 32 at
    /// most. More ends more branches at the same moment, after a coordinator's recovery above all, until
    /// the disk is busy; each counts against the server's `max_connections`, in every process of the
    /// service. Less keeps decided branches, and their locks, waiting for their turn. Say it before the
    /// resource is given to a participant: later it changes nothing.
    #[must_use]
    pub fn ending_connections(self, max: u32) -> Self {
        self.inner.settings().ending_connections_max = Some(max);
        self
    }

    /// Has every prepared branch carry a row of the marker table inside, so that its commit can
    /// be proved after a failover or a restore, when its xid proves nothing any more. Costs one
    /// row a branch. The marker tables must be [installed](Self::install).
    #[must_use]
    pub fn witnessed(self) -> Self {
        self.inner.settings().witness = true;
        self
    }

    /// Names a handler for one-shot transactions. At Prepare it gets an open local transaction
    /// and the operation's payload, does its work there, and either returns or [votes no](NoVote), which
    /// aborts the whole transaction. It must not end the transaction, nor have any effect
    /// outside of it: it may run again for the same transaction, and a run may be undone. A panic
    /// is a vote of no. A second handler of the same name replaces the first.
    ///
    /// ```no_run
    /// # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// use pactum::resource::{NoVote, PostgresResource};
    ///
    /// let bank = PostgresResource::new("bank-a", pool)?.operation("debit", |bank, payload| {
    ///     Box::pin(async move {
    ///         let amount = std::str::from_utf8(&payload)
    ///             .ok()
    ///             .and_then(|text| text.parse::<i64>().ok())
    ///             .ok_or_else(|| NoVote::new("the payload is not an amount"))?;
    ///         sqlx::query("UPDATE account SET balance = balance - $1")
    ///             .bind(amount)
    ///             .execute(bank)
    ///             .await?;
    ///         Ok(())
    ///     })
    /// });
    /// # drop(bank);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn operation<F>(self, name: &str, handler: F) -> Self
    where
        F: for<'c> Fn(&'c mut PgConnection, Arc<[u8]>) -> OperationFuture<'c> + Send + Sync + 'static,
    {
        let handler: Handler = Arc::new(handler);
        self.inner.settings().operations.insert(name.to_owned(), handler);
        self
    }

    /// Creates the marker tables, if they are missing, in the schema `pactum_participant`. With
    /// them a transaction of one branch commits in one phase and costs the coordinator's log
    /// nothing. Durable on return. May be repeated.
    ///
    /// # Errors
    /// The role may not create a schema, or the database could not be reached: run
    /// [`install_sql`](Self::install_sql) as its owner instead.
    pub async fn install(pool: &PgPool) -> Result<(), HookError> {
        marker::install(pool).await
    }

    /// The statements that [`install`](Self::install) runs, for people.
    pub fn install_sql() -> &'static str {
        marker::INSTALL
    }

    /// Begins a branch of the context's global transaction with the database's own isolation.
    ///
    /// # Errors
    /// See [`BranchError`]; nothing has been begun.
    pub async fn begin(&self, context: &Context) -> Result<PostgresBranch, BranchError> {
        self.begin_with(context, BeginOptions::new()).await
    }

    /// Begins a branch of the context's global transaction. Every lock wait and statement in it
    /// is bounded by the transaction's deadline, and the database itself ends an abandoned
    /// session soon after. May be dropped at any await without harm to the pool.
    ///
    /// # Errors
    /// See [`BranchError`]; nothing has been begun.
    pub async fn begin_with(
        &self,
        context: &Context,
        options: BeginOptions,
    ) -> Result<PostgresBranch, BranchError> {
        let enlister = self.inner.settings().enlister.clone();
        let enlister = enlister.ok_or(BranchError::NotStarted)?;
        if enlister.is_draining() {
            return Err(BranchError::NotEnlisted(EnlistError::Draining));
        }
        let deadline = context.deadline();
        let cluster = tokio::time::timeout_at(deadline.into(), enlister.wait_for_cluster()).await;
        let Ok(cluster) = cluster else {
            return Err(BranchError::DeadlinePassed);
        };
        let branch = BranchContext {
            name: PreparedName { cluster, id: context.id(), branch: BranchId::new(rand::random()) },
            deadline,
        };
        self.open(&branch, options, Some((context.clone(), enlister))).await
    }

    /// Begins a branch of that name.
    pub(crate) async fn open(
        &self,
        branch: &BranchContext,
        options: BeginOptions,
        global: Option<(Context, Enlister)>,
    ) -> Result<PostgresBranch, BranchError> {
        let local =
            LocalTransaction::begin(&self.inner.pool, branch.name.clone(), branch.deadline, options).await?;
        Ok(PostgresBranch::new(local, self.clone(), global))
    }

    /// Forgets the markers of all transactions up to and including `gid`: raises the floor, then
    /// deletes in bounded batches. From then on nothing can be learned of them, nor commit in
    /// one phase. Returns how many rows were deleted; all of it is durable on return, and may be
    /// repeated.
    ///
    /// # Errors
    /// The floor could not be raised within a second because commits were in its way, or the
    /// database could not be reached: call it again.
    pub async fn forget_markers(&self, gid: Gid) -> Result<u64, HookError> {
        marker::forget_up_to(&self.inner, gid).await
    }

    /// [Forgets the markers](Self::forget_markers) of all transactions begun more than
    /// `retention` ago, by this machine's clock. Choose it longer than anybody waits before
    /// asking for an outcome, clocks' errors included: a day costs little. A wrong clock makes
    /// transactions be refused, never misreported.
    ///
    /// # Errors
    /// As [`forget_markers`](Self::forget_markers).
    pub async fn forget_markers_older_than(&self, retention: Duration) -> Result<u64, HookError> {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let millis = since_epoch.saturating_sub(retention).as_millis();
        let millis = u64::try_from(millis).unwrap_or(0);
        let oldest_kept = uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid();
        self.forget_markers(Gid::from_uuid(oldest_kept)).await
    }
}

impl fmt::Debug for PostgresResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the pool: its options hold the database's password.
        f.debug_struct("PostgresResource").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl Resource for PostgresResource {
    fn name(&self) -> &ResourceName {
        &self.inner.name
    }

    async fn check(&self) -> Result<Registration, HookError> {
        checks::check(&self.inner).await
    }

    fn bind(&self, enlister: Enlister) {
        self.inner.settings().enlister = Some(enlister);
    }

    async fn prepare(
        &self,
        branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> Result<Prepared, AbortReason> {
        prepare::prepare(&self.inner, branch, operation).await
    }

    async fn commit(
        &self,
        branch: &BranchContext,
        decided: &Evidence,
        prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        finish::commit(&self.inner, branch, decided, prepared).await
    }

    async fn abort(
        &self,
        branch: &BranchContext,
        prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        if let Some(open) = self.inner.take_open(&branch.name) {
            open.local.roll_back().await;
            return Ok(BranchOutcome::Aborted);
        }
        finish::abort(&self.inner, branch, prepared).await
    }

    async fn recover(&self, cluster: &Cluster) -> Result<Vec<PreparedBranch>, HookError> {
        finish::recover(&self.inner, &PreparedName::prefix_of(cluster)).await
    }

    async fn examine(&self, questions: &[BranchQuestion]) -> Result<Vec<BranchFinding>, HookError> {
        examine::these(&self.inner, questions).await
    }

    async fn examine_all(&self, cluster: &Cluster, limit: usize) -> Result<PreparedFindings, HookError> {
        examine::all(&self.inner, &PreparedName::prefix_of(cluster), limit).await
    }

    async fn overrule(
        &self,
        branch: &BranchContext,
        prepared: &Evidence,
        commit: bool,
    ) -> Result<BranchPresence, HookError> {
        overrule::overrule(&self.inner, &branch.name, prepared, commit).await
    }

    async fn commit_one_phase(
        &self,
        branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> RegisterAnswer {
        marker::commit(&self.inner, branch, operation).await
    }

    async fn settle(&self, branch: &BranchContext) -> RegisterAnswer {
        if let Some(open) = self.inner.take_open(&branch.name) {
            // Closed from here on: what is open could only fail.
            open.local.roll_back().await;
        }
        marker::settle(&self.inner, &branch.name).await
    }
}
