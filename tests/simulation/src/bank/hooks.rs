//! The hooks: what Pactum asks of a bank, with the delays and failures of a database.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pactum::participant::{EnlistError, Enlister};
use pactum::resource::{
    BranchContext, BranchOutcome, Evidence, HookError, Operation, Prepared, PreparedBranch, RegisterAnswer,
    Registration, Resource,
};
use pactum::{AbortKind, AbortReason, BranchId, Cluster, Context, ResourceName};
use tokio::time::sleep;

use super::store::{Change, Store};
use crate::dice::Dice;
use crate::plan::Plan;

/// The one-shot operation: its payload is a [`Change`] as text.
const MOVE: &str = "move";

/// One process's connection to a bank. Clones share it.
#[derive(Clone, Debug)]
pub struct Bank {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: ResourceName,
    store: Arc<Mutex<Store>>,
    session: u64,
    markers: bool,
    time_max: Duration,
    troubles: Mutex<Troubles>,
    enlister: OnceLock<Enlister>,
}

/// What goes wrong in this process.
#[derive(Debug)]
struct Troubles {
    dice: Dice,
    refused: u64,
    failures: u64,
}

/// A change could not be made part of a transaction: nothing was changed.
#[derive(Debug)]
pub enum WorkError {
    /// The accounts are locked, or hold too little.
    Refused(String),
    /// The participant has not started.
    NotStarted,
    /// No coordinator took the branch.
    NotEnlisted(EnlistError),
}

impl std::fmt::Display for WorkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::NotStarted => f.write_str("the participant has not started"),
            Self::NotEnlisted(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WorkError {}

impl Bank {
    /// Connects to a bank. `purpose` sets its troubles apart from those of other processes.
    ///
    /// # Panics
    /// The name is none.
    pub fn connect(name: &str, store: &Arc<Mutex<Store>>, plan: &Plan, purpose: u64) -> Self {
        let session = store.lock().unwrap_or_else(PoisonError::into_inner).connect();
        let troubles = Troubles {
            dice: Dice::new(plan.seed, purpose),
            refused: plan.refused,
            failures: plan.hook_failures,
        };
        let inner = Inner {
            name: ResourceName::new(name).expect("a bank's name is a resource's name"),
            store: Arc::clone(store),
            session,
            markers: plan.markers,
            time_max: plan.hook_time_max,
            troubles: Mutex::new(troubles),
            enlister: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The session that its open work ends with.
    pub fn session(&self) -> u64 {
        self.inner.session
    }

    /// Nothing goes wrong by itself any more.
    pub fn heal(&self) {
        let mut troubles = self.troubles();
        (troubles.refused, troubles.failures) = (0, 0);
    }

    /// Makes a change and enlists it as a branch of the context's transaction.
    ///
    /// # Errors
    /// See [`WorkError`].
    pub async fn work(&self, context: &Context, change: Change) -> Result<(), WorkError> {
        self.pause().await;
        let enlister = self.inner.enlister.get().ok_or(WorkError::NotStarted)?;
        let branch = BranchId::new(self.troubles().dice.draw());
        let key = (context.id(), branch);
        // Held before the coordinator hears of it: a Prepare or an Abort may come at once.
        self.store().open(self.inner.session, key, change).map_err(WorkError::Refused)?;
        match enlister.enlist(context, &self.inner.name, branch).await {
            Ok(_branch) => Ok(()),
            Err(error) => {
                self.store().close(self.inner.session, key);
                Err(WorkError::NotEnlisted(error))
            }
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.inner.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.inner.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step takes its time.
    async fn pause(&self) {
        let time = self.troubles().dice.time(Duration::ZERO, self.inner.time_max);
        sleep(time).await;
    }

    /// Whether this step fails.
    fn fails(&self) -> Result<(), HookError> {
        let mut troubles = self.troubles();
        let failures = troubles.failures;
        if troubles.dice.chance(failures) { Err(HookError::new("the bank did not answer")) } else { Ok(()) }
    }

    fn is_refused(&self) -> bool {
        let mut troubles = self.troubles();
        let refused = troubles.refused;
        troubles.dice.chance(refused)
    }

    fn evidence(&self, execution: &str) -> Evidence {
        Evidence::new(execution, self.inner.name.as_str())
    }

    /// The change that a branch asks for: its open work, or its operation.
    fn wanted(&self, branch: &BranchContext, operation: Option<&Operation>) -> Result<Change, AbortReason> {
        match operation {
            None => {
                let key = (branch.name.id, branch.name.branch);
                let gone = || AbortReason::new(AbortKind::LocalFailure, "the branch's work has ended");
                self.store().close(self.inner.session, key).ok_or_else(gone)
            }
            Some(operation) => {
                let text = std::str::from_utf8(&operation.payload).unwrap_or_default();
                let change = if &*operation.name == MOVE { text.parse() } else { Err("no such operation") };
                change.map_err(|why| AbortReason::new(AbortKind::VotedNo, why))
            }
        }
    }
}

impl Resource for Bank {
    fn name(&self) -> &ResourceName {
        &self.inner.name
    }

    async fn check(&self) -> Result<Registration, HookError> {
        self.pause().await;
        Ok(Registration::new(self.inner.name.to_string()).with_marker(self.inner.markers))
    }

    fn bind(&self, enlister: Enlister) {
        drop(self.inner.enlister.set(enlister)); // called once
    }

    async fn prepare(
        &self,
        branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> Result<Prepared, AbortReason> {
        self.pause().await;
        if let Some(execution) = self.store().promised(&branch.name) {
            // An earlier call was not heard out.
            return Ok(Prepared::Yes(self.evidence(execution)));
        }
        let change = self.wanted(branch, operation)?;
        if self.is_refused() {
            return Err(AbortReason::new(AbortKind::VotedNo, "the bank refuses"));
        }
        let promised = self.store().promise(&branch.name, change);
        let execution = promised.map_err(|why| AbortReason::new(AbortKind::VotedNo, &why))?;
        self.pause().await;
        Ok(Prepared::Yes(self.evidence(&execution)))
    }

    async fn commit(
        &self,
        branch: &BranchContext,
        decided: &Evidence,
        _prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        self.pause().await;
        self.fails()?;
        let outcome = self.store().commit(&branch.name, &decided.execution);
        self.pause().await;
        self.fails()?;
        Ok(outcome)
    }

    async fn abort(
        &self,
        branch: &BranchContext,
        prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        self.pause().await;
        self.fails()?;
        let outcome = {
            let mut store = self.store();
            let closed = store.close(self.inner.session, (branch.name.id, branch.name.branch));
            match closed {
                Some(_) => BranchOutcome::Aborted,
                None => store.abort(&branch.name, prepared.map(|prepared| &*prepared.execution)),
            }
        };
        self.pause().await;
        self.fails()?;
        Ok(outcome)
    }

    async fn recover(&self, cluster: &Cluster) -> Result<Vec<PreparedBranch>, HookError> {
        self.pause().await;
        self.fails()?;
        let mut promises = self.store().promises();
        promises.retain(|(name, _)| name.cluster == *cluster);
        let found = promises.into_iter().map(|(name, execution)| {
            let evidence = self.evidence(&execution);
            PreparedBranch { name, evidence }
        });
        Ok(found.collect())
    }

    async fn forget(&self, branch: &BranchContext) {
        self.store().forget(&branch.name);
    }

    async fn commit_one_phase(
        &self,
        branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> RegisterAnswer {
        self.pause().await;
        let answer = {
            let mut wanted = self.wanted(branch, operation);
            if self.is_refused() {
                wanted = Err(AbortReason::new(AbortKind::VotedNo, "the bank refuses"));
            }
            let mut store = self.store();
            let no = |why: &str| AbortReason::new(AbortKind::VotedNo, why);
            let ended = match (store.marker(&branch.name), wanted) {
                (Some(_), _) => Err(no("it was aborted before")),
                (None, Ok(change)) => store.commit_with_marker(&branch.name, change).map_err(|why| no(&why)),
                (None, Err(reason)) => Err(reason),
            };
            match (ended, store.settle(&branch.name)) {
                (_, true) => RegisterAnswer::Committed,
                (Err(reason), false) => RegisterAnswer::Aborted(reason),
                (Ok(()), false) => RegisterAnswer::Unknown,
            }
        };
        self.pause().await;
        if self.fails().is_err() { RegisterAnswer::Unknown } else { answer }
    }

    async fn settle(&self, branch: &BranchContext) -> RegisterAnswer {
        self.pause().await;
        let committed = {
            let mut store = self.store();
            store.close(self.inner.session, (branch.name.id, branch.name.branch));
            store.settle(&branch.name)
        };
        self.pause().await;
        if self.fails().is_err() {
            RegisterAnswer::Unknown
        } else if committed {
            RegisterAnswer::Committed
        } else {
            RegisterAnswer::Aborted(AbortReason::new(AbortKind::OwnerEnded, "it was settled as aborted"))
        }
    }
}
