//! A resource in memory that outlives its participant, and does what the test tells it to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pactum::participant::Enlister;
use pactum::resource::{
    BranchContext, BranchFinding, BranchPresence, BranchQuestion, HookError, Prepared, PreparedBranch,
    Registration, Resource,
};
use pactum::{AbortKind, AbortReason, BranchId, Cluster, ResourceName};
use pactum_core::coordinator::{Operation, RegisterAnswer};
use pactum_core::id::PreparedName;
use pactum_core::outcome::{BranchOutcome, HeuristicOutcome};
use pactum_core::vote::Evidence;
use tokio::sync::watch;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Open,
    Prepared(String),
    Committed(String),
    Aborted,
}

/// What the prepare hook is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AtPrepare {
    #[default]
    Promises,
    Refuses,
    Panics,
}

/// What the hooks are to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) check_fails: bool,
    pub(crate) check_takes: Duration,
    pub(crate) prepare: AtPrepare,
    /// Commits that fail before one succeeds.
    pub(crate) commit_failures: usize,
    pub(crate) commit_panics: usize,
    pub(crate) marker: bool,
    /// Or panic.
    pub(crate) panicking_hook: Option<&'static str>,
    /// Hooks of this name do not come back.
    pub(crate) hanging_hook: Option<&'static str>,
    /// Hooks of this name keep their thread until they are released.
    pub(crate) blocking_hook: Option<&'static str>,
    /// Those of operators refuse.
    pub(crate) refusing_hook: Option<&'static str>,
    /// Nor does any hook of these branches.
    pub(crate) hanging_branches: BTreeSet<BranchId>,
    /// And their commits fail, again and again.
    pub(crate) failing_branches: BTreeSet<BranchId>,
}

#[derive(Default)]
struct Store {
    held: BTreeMap<BranchId, Held>,
    names: BTreeMap<BranchId, PreparedName>,
    markers: BTreeMap<BranchId, bool>,
    executions: u32,
    calls: Vec<String>,
    script: Script,
    enlister: Option<Enlister>,
}

/// Clones are the same resource.
#[derive(Clone)]
pub(crate) struct Memory {
    name: ResourceName,
    store: Arc<Mutex<Store>>,
    changes: watch::Sender<u64>,
    /// Prepare hooks wait until it is open.
    gate: watch::Sender<bool>,
    /// Whether hooks that block may go on.
    released: Arc<(Mutex<bool>, Condvar)>,
}

/// Lets hooks that block go on when it is dropped, so that a test that fails ends.
pub(crate) struct Release(Arc<(Mutex<bool>, Condvar)>);

impl Drop for Release {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
}

impl Memory {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: ResourceName::new(name).unwrap(),
            store: Arc::default(),
            changes: watch::Sender::new(0),
            gate: watch::Sender::new(true),
            released: Arc::default(),
        }
    }

    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.lock().script);
    }

    pub(crate) fn gate(&self, open: bool) {
        self.gate.send_replace(open);
    }

    /// What holds hooks that block, as long as it lives.
    pub(crate) fn release(&self) -> Release {
        Release(Arc::clone(&self.released))
    }

    pub(crate) fn resource_name(&self) -> &ResourceName {
        &self.name
    }

    pub(crate) fn enlister(&self) -> Enlister {
        self.lock().enlister.clone().unwrap()
    }

    /// Begins local work.
    pub(crate) fn open(&self, branch: BranchId) {
        self.lock().held.insert(branch, Held::Open);
    }

    /// As if an earlier process had prepared it.
    pub(crate) fn put_prepared(&self, name: PreparedName, execution: &str) {
        let mut store = self.lock();
        store.held.insert(name.branch, Held::Prepared(execution.into()));
        store.names.insert(name.branch, name);
    }

    pub(crate) fn held(&self, branch: BranchId) -> Option<Held> {
        self.lock().held.get(&branch).cloned()
    }

    /// The hooks that were called so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// Waits until the hooks called satisfy this.
    pub(crate) async fn until(&self, test: impl Fn(&[String]) -> bool) {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            loop {
                changes.borrow_and_update();
                if test(&self.calls()) {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(waited.is_ok(), "the hooks called are only {:?}", self.calls());
    }

    fn called(&self, hook: &str) {
        self.lock().calls.push(hook.into());
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Keeps the thread if the script says so.
    fn may_block(&self, hook: &str) {
        if self.lock().script.blocking_hook == Some(hook) {
            self.called(&format!("{hook} blocks"));
            let released = self.released.0.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.released.1.wait_while(released, |released| !*released));
        }
    }

    /// Waits for ever if the script says so.
    async fn may_hang(&self, hook: &str, branch: Option<BranchId>) {
        let hangs = {
            let script = &self.lock().script;
            script.hanging_hook == Some(hook)
                || branch.is_some_and(|branch| script.hanging_branches.contains(&branch))
        };
        if hangs {
            self.called(&format!("{hook} hangs"));
            std::future::pending::<()>().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resource for Memory {
    fn name(&self) -> &ResourceName {
        &self.name
    }

    async fn check(&self) -> Result<Registration, HookError> {
        self.may_hang("check", None).await;
        let script = self.lock().script.clone();
        if !script.check_takes.is_zero() {
            tokio::time::sleep(script.check_takes).await;
        }
        if script.check_fails {
            return Err(HookError::new("the store is locked: unlock it"));
        }
        let registration = Registration::new(format!("memory of {}", self.name)).with_marker(script.marker);
        Ok(registration.with_setting("server_version", "1"))
    }

    fn bind(&self, enlister: Enlister) {
        self.lock().enlister = Some(enlister);
    }

    async fn prepare(
        &self,
        branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> Result<Prepared, AbortReason> {
        self.may_block("prepare");
        self.may_hang("prepare", Some(branch.name.branch)).await;
        self.called("prepare");
        self.gate.subscribe().wait_for(|open| *open).await.unwrap();
        let id = branch.name.branch;
        let mut store = self.lock();
        let script = store.script.clone();
        if script.prepare == AtPrepare::Refuses {
            store.held.insert(id, Held::Aborted);
            return Err(AbortReason::new(AbortKind::VotedNo, "not enough money"));
        }
        assert!(script.prepare != AtPrepare::Panics, "the user's hook has a defect");
        if operation.is_none() && store.held.get(&id) != Some(&Held::Open) {
            return Err(AbortReason::new(AbortKind::LocalFailure, "nothing is open"));
        }
        store.executions += 1;
        let execution = format!("x{}", store.executions);
        store.held.insert(id, Held::Prepared(execution.clone()));
        store.names.insert(id, branch.name.clone());
        Ok(Prepared::Yes(Evidence::new(execution, "")))
    }

    async fn commit(
        &self,
        branch: &BranchContext,
        decided: &Evidence,
        _prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        self.may_hang("commit", Some(branch.name.branch)).await;
        self.called("commit");
        let mut store = self.lock();
        if store.script.failing_branches.contains(&branch.name.branch) {
            return Err(HookError::new("the row is damaged"));
        }
        if store.script.commit_failures > 0 {
            store.script.commit_failures -= 1;
            return Err(HookError::new("the store is busy"));
        }
        if store.script.commit_panics > 0 {
            store.script.commit_panics -= 1;
            drop(store);
            panic!("the user's hook has a defect");
        }
        let decided = decided.execution.to_string();
        match store.held.get(&branch.name.branch) {
            Some(Held::Prepared(execution) | Held::Committed(execution)) if *execution == decided => {
                store.held.insert(branch.name.branch, Held::Committed(decided));
                Ok(BranchOutcome::Committed)
            }
            Some(Held::Open | Held::Prepared(_) | Held::Committed(_)) | None => {
                Ok(BranchOutcome::Heuristic(HeuristicOutcome::Hazard))
            }
            Some(Held::Aborted) => Ok(BranchOutcome::Heuristic(HeuristicOutcome::Aborted)),
        }
    }

    async fn abort(
        &self,
        branch: &BranchContext,
        _prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        self.lock().held.insert(branch.name.branch, Held::Aborted);
        self.called("abort");
        Ok(BranchOutcome::Aborted)
    }

    async fn recover(&self, cluster: &Cluster) -> Result<Vec<PreparedBranch>, HookError> {
        self.may_hang("recover", None).await;
        let store = self.lock();
        let prepared = store.held.iter().filter_map(|(id, held)| match held {
            Held::Prepared(execution) => Some(PreparedBranch {
                name: store.names.get(id)?.clone(),
                evidence: Evidence::new(execution.clone(), ""),
            }),
            Held::Open | Held::Committed(_) | Held::Aborted => None,
        });
        Ok(prepared.filter(|found| found.name.cluster == *cluster).collect())
    }

    async fn examine(&self, questions: &[BranchQuestion]) -> Result<Vec<BranchFinding>, HookError> {
        self.called(&format!("examine {}", questions.len()));
        self.may_hang("examine", None).await;
        assert!(self.lock().script.panicking_hook != Some("examine"), "the user's hook has a defect");
        let store = self.lock();
        let finding = |question: &BranchQuestion| {
            let name = question.name.clone();
            match store.held.get(&name.branch) {
                Some(Held::Prepared(execution)) => {
                    BranchFinding::prepared(name, Evidence::new(execution.clone(), ""))
                }
                Some(Held::Committed(_)) => BranchFinding::new(name, BranchPresence::Committed),
                Some(Held::Aborted) => BranchFinding::new(name, BranchPresence::Aborted),
                Some(Held::Open) | None => BranchFinding::new(name, BranchPresence::Unknown),
            }
        };
        Ok(questions.iter().map(finding).collect())
    }

    async fn overrule(
        &self,
        branch: &BranchContext,
        prepared: &Evidence,
        commit: bool,
    ) -> Result<BranchPresence, HookError> {
        self.called("overrule");
        self.may_hang("overrule", None).await;
        let mut store = self.lock();
        if store.script.refusing_hook == Some("overrule") {
            return Err(HookError::new("ask the owner of the store"));
        }
        let id = branch.name.branch;
        match store.held.get(&id).cloned() {
            Some(Held::Prepared(execution)) if *execution == *prepared.execution => {
                let (held, stands) = if commit {
                    (Held::Committed(execution), BranchPresence::Committed)
                } else {
                    (Held::Aborted, BranchPresence::Aborted)
                };
                store.held.insert(id, held);
                Ok(stands)
            }
            Some(Held::Prepared(_)) => Err(HookError::new("another execution is prepared")),
            Some(Held::Committed(_)) => Ok(BranchPresence::Committed),
            Some(Held::Aborted) => Ok(BranchPresence::Aborted),
            Some(Held::Open) => Ok(BranchPresence::Open),
            None => Ok(BranchPresence::Unknown),
        }
    }

    async fn commit_one_phase(
        &self,
        branch: &BranchContext,
        _operation: Option<&Operation>,
    ) -> RegisterAnswer {
        self.called("one-phase");
        let id = branch.name.branch;
        let mut store = self.lock();
        if *store.markers.entry(id).or_insert(true) {
            store.held.insert(id, Held::Committed(String::new()));
            RegisterAnswer::Committed
        } else {
            RegisterAnswer::Aborted(AbortReason::new(AbortKind::OwnerEnded, "closed"))
        }
    }

    async fn settle(&self, branch: &BranchContext) -> RegisterAnswer {
        self.called("settle");
        let id = branch.name.branch;
        let mut store = self.lock();
        if store.held.get(&id) == Some(&Held::Open) {
            store.held.insert(id, Held::Aborted);
        }
        if *store.markers.entry(id).or_insert(false) {
            RegisterAnswer::Committed
        } else {
            RegisterAnswer::Aborted(AbortReason::new(AbortKind::OwnerEnded, "closed"))
        }
    }
}
