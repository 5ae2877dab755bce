//! A bank in a SQLite file, through hooks of its own: what somebody writes whose database has no
//! `PREPARE TRANSACTION`. A *hold* stands in for it: written durably at prepare, applied at commit,
//! released at abort.
//!
//! Until prepare a change is only remembered in memory: a bank that dies before its vote has
//! promised nothing, and the transaction aborts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pactum::participant::Enlister;
use pactum::resource::{BranchContext, HookError, Prepared, PreparedBranch, Registration, Resource};
use pactum::{AbortKind, AbortReason, BranchId, Cluster, Context, ResourceName, TransactionId};
use pactum_core::coordinator::Operation;
use pactum_core::outcome::{BranchOutcome, HeuristicOutcome};
use pactum_core::vote::Evidence;

use super::ChangeError;
use super::store::{CommitAnswer, HoldAnswer, Store};
use crate::exit::Exit;
use crate::failure::Failure;

/// A bank in a SQLite file.
#[derive(Clone, Debug)]
pub(super) struct SqliteBank {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: ResourceName,
    store: Store,
    enlister: OnceLock<Enlister>,
    /// Changes that were asked for and are not prepared.
    asked: Mutex<HashMap<(TransactionId, BranchId), Asked>>,
}

/// One change, asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) account: i64,
    pub(super) amount: i64,
}

impl SqliteBank {
    /// Opens the bank's file, which must exist.
    pub(super) async fn open(name: &str, path: &Path) -> Result<Self, Failure> {
        let failed = || Failure::new(Exit::Failed, format!("{name} cannot use its file {}", path.display()));
        let name: ResourceName = name.parse().map_err(|error| failed().because(&error))?;
        let store = Store::open(path).await.map_err(|error| failed().because(&error))?;
        let (enlister, asked) = (OnceLock::new(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { name, store, enlister, asked }) })
    }

    /// Takes a change in, and makes it a branch of the transaction. Whether there is enough
    /// money is found out at prepare, where it counts.
    pub(super) async fn change(
        &self,
        context: &Context,
        account: i64,
        amount: i64,
    ) -> Result<(), ChangeError> {
        let Some(enlister) = self.inner.enlister.get() else {
            return Err(ChangeError::NotNow("the bank has not started".into()));
        };
        let branch = BranchId::new(rand::random());
        // Known before it is enlisted: Prepare may come the moment after.
        self.asked().insert((context.id(), branch), Asked { account, amount });
        if let Err(error) = enlister.enlist(context, &self.inner.name, branch).await {
            self.asked().remove(&(context.id(), branch));
            return Err(ChangeError::NotNow(error.to_string()));
        }
        Ok(())
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<(TransactionId, BranchId), Asked>> {
        // The map is whole between statements; no panic can split one.
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, branch: &BranchContext) -> Option<Asked> {
        self.asked().remove(&(branch.name.id, branch.name.branch))
    }
}

impl Resource for SqliteBank {
    fn name(&self) -> &ResourceName {
        &self.inner.name
    }

    async fn check(&self) -> Result<Registration, HookError> {
        self.inner.store.check().await.map_err(|error| HookError::new(error.to_string()))?;
        Ok(Registration::new(self.inner.store.identity()))
    }

    fn bind(&self, enlister: Enlister) {
        // Called once; a second one would be of the same participant.
        drop(self.inner.enlister.set(enlister));
    }

    async fn prepare(
        &self,
        branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> Result<Prepared, AbortReason> {
        if let Some(operation) = operation {
            let message = format!("this bank knows no operation {}", operation.name);
            return Err(AbortReason::new(AbortKind::VotedNo, &message));
        }
        let Some(asked) = self.take(branch) else {
            return Err(AbortReason::new(AbortKind::LocalFailure, "the bank does not remember this branch"));
        };
        match self.inner.store.hold(&branch.name, asked).await {
            Ok(HoldAnswer::Held(evidence)) => Ok(Prepared::Yes(evidence)),
            Ok(HoldAnswer::Refused(why)) => Err(AbortReason::new(AbortKind::VotedNo, &why)),
            Err(error) => {
                // The hold may stand. Take it back; if that fails too it is found by `recover`, whose
                // inquiry is answered with abort, since this vote is no.
                drop(self.inner.store.abort(&branch.name).await);
                Err(AbortReason::new(AbortKind::LocalFailure, &error.to_string()))
            }
        }
    }

    async fn commit(
        &self,
        branch: &BranchContext,
        decided: &Evidence,
        _prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        match self.inner.store.commit(&branch.name, decided).await {
            Ok(CommitAnswer::Committed) => Ok(BranchOutcome::Committed),
            Ok(CommitAnswer::AbortedBefore) => Ok(BranchOutcome::Heuristic(HeuristicOutcome::Aborted)),
            Ok(CommitAnswer::NotFound) => Ok(BranchOutcome::Heuristic(HeuristicOutcome::Hazard)),
            Err(error) => Err(HookError::new(error.to_string())),
        }
    }

    async fn abort(
        &self,
        branch: &BranchContext,
        _prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        self.take(branch);
        match self.inner.store.abort(&branch.name).await {
            Ok(true) => Ok(BranchOutcome::Aborted),
            Ok(false) => Ok(BranchOutcome::Heuristic(HeuristicOutcome::Committed)),
            Err(error) => Err(HookError::new(error.to_string())),
        }
    }

    async fn recover(&self, cluster: &Cluster) -> Result<Vec<PreparedBranch>, HookError> {
        self.inner.store.held(cluster).await.map_err(|error| HookError::new(error.to_string()))
    }

    async fn forget(&self, branch: &BranchContext) {
        self.inner.store.forget(&branch.name).await;
    }
}
