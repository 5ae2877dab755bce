//! The hooks: what Pactum asks of the directory, carried out by its [`Store`].
//!
//! Until prepare, work lives in memory only: a process that dies before its vote has promised
//! nothing, and the transaction aborts. From the vote on everything is on disk, and nothing depends
//! on this process's memory.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pactum::participant::{EnlistError, Enlister};
use pactum::resource::{
    BranchContext, BranchOutcome, Evidence, HookError, Operation, Prepared, PreparedBranch, PreparedName,
    Registration, Resource,
};
use pactum::{
    AbortKind, AbortReason, BranchId, Cluster, Context, HeuristicOutcome, ResourceName, TransactionId,
};

use super::store::{End, Freeze, Publication, StageError, Staged, Store};

/// A one-shot operation: its payload is the file's name, a line feed, and its content.
const PUBLISH: &str = "publish";

/// A directory of published files. Cheap to clone; all clones are the same resource.
#[derive(Clone, Debug)]
pub struct FileResource {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: ResourceName,
    store: Store,
    enlister: OnceLock<Enlister>,
    /// Asked for and not prepared. Branch ids are unique in their transaction only.
    asked: Mutex<HashMap<(TransactionId, BranchId), Publication>>,
}

/// A file could not be made part of a transaction. Nothing will be published.
#[derive(Debug)]
pub enum PublishError {
    /// The file's name is not of the form that [`Publication::new`] asks for.
    Name,
    /// The resource has not been given to a started participant.
    NotStarted,
    /// The coordinator did not take the branch.
    NotEnlisted(EnlistError),
}

impl std::fmt::Display for PublishError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name => f.write_str("no file may have that name"),
            Self::NotStarted => f.write_str("the resource does not belong to a started participant"),
            Self::NotEnlisted(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PublishError {}

impl FileResource {
    /// Opens the directory `root` as the resource of that name, for files of at most
    /// `content_bytes_max` bytes.
    ///
    /// # Errors
    /// The name, or the disk.
    pub fn open(name: &str, root: &Path, content_bytes_max: usize) -> io::Result<Self> {
        let name =
            ResourceName::new(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let store = Store::open(root, content_bytes_max)?;
        Ok(Self {
            inner: Arc::new(Inner { name, store, enlister: OnceLock::new(), asked: Mutex::default() }),
        })
    }

    /// Makes the publication of a file a branch of the context's transaction. Nothing is on disk yet,
    /// and whether the directory takes it is found out at prepare.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        context: &Context,
        name: &str,
        bytes: impl Into<Arc<[u8]>>,
    ) -> Result<(), PublishError> {
        let publication = Publication::new(name, bytes).ok_or(PublishError::Name)?;
        let enlister = self.inner.enlister.get().ok_or(PublishError::NotStarted)?;
        let branch = BranchId::new(rand::random());
        // Held before the coordinator hears of it: a Prepare or an Abort may come at once.
        self.asked().insert((context.id(), branch), publication);
        match enlister.enlist(context, &self.inner.name, branch).await {
            Ok(_branch) => Ok(()),
            Err(error) => {
                self.asked().remove(&(context.id(), branch));
                Err(PublishError::NotEnlisted(error))
            }
        }
    }

    /// Takes in work of a branch that no coordinator knows, for contract tests.
    pub fn hold(&self, branch: &BranchContext, publication: Publication) {
        self.asked().insert(key(&branch.name), publication);
    }

    /// What the world sees under that name, if anything.
    ///
    /// # Errors
    /// The disk.
    pub fn published(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.store.published(name)
    }

    /// How many promises are on disk.
    ///
    /// # Errors
    /// The disk.
    pub fn promises(&self) -> io::Result<usize> {
        Ok(self.inner.store.staged()?.len())
    }

    /// Keeps everybody from changing the directory, for instance for a backup.
    ///
    /// # Errors
    /// The disk.
    pub async fn freeze(&self) -> io::Result<Freeze> {
        self.blocking(Store::freeze).await
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<(TransactionId, BranchId), Publication>> {
        // The map is whole between statements; no panic can split one.
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, branch: &PreparedName) -> Option<Publication> {
        self.asked().remove(&key(branch))
    }

    /// Files block: their work goes where that disturbs nobody.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> T + Send + 'static) -> T {
        let store = self.inner.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(value) => value,
            // The SDK knows what a panic in a hook means.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_shutting_down) => std::future::pending().await,
            },
        }
    }

    fn evidence(&self, execution: &str) -> Evidence {
        // The execution alone tells one promise from another; the directory it was made in is
        // what the execution means something in.
        Evidence::new(execution, self.inner.store.identity())
    }
}

impl Resource for FileResource {
    fn name(&self) -> &ResourceName {
        &self.inner.name
    }

    async fn check(&self) -> Result<Registration, HookError> {
        self.blocking(Store::check).await.map_err(disk)?;
        // No marker: it would allow one-phase commit, for which there are two more hooks.
        Ok(Registration::new(self.inner.store.identity()))
    }

    fn bind(&self, enlister: Enlister) {
        drop(self.inner.enlister.set(enlister)); // called once
    }

    async fn prepare(
        &self,
        branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> Result<Prepared, AbortReason> {
        let publication = match operation {
            None => self.take(&branch.name),
            Some(operation) => Some(read(operation)?),
        };
        let name = branch.name.clone();
        let Some(publication) = publication else {
            // An earlier call may not have been heard out: then its promise stands.
            let found = self.blocking(move |store| store.staged_for(&name)).await;
            return match found {
                Ok(Some(staged)) => Ok(Prepared::Yes(self.evidence(&staged.execution))),
                Ok(None) => {
                    Err(no(AbortKind::LocalFailure, "the branch has ended, or its process restarted"))
                }
                Err(error) => Err(no(AbortKind::LocalFailure, &error.to_string())),
            };
        };
        let staged = self.blocking(move |store| {
            let staged = store.stage(&name, &publication);
            if let Err(StageError::Disk(_)) = &staged {
                // It may stand all the same. If this fails, too, `recover` finds it, and the answer to
                // its inquiry is abort, since this vote is no.
                drop(abort(store, &name, None));
            }
            staged
        });
        match staged.await {
            Ok(staged) => Ok(Prepared::Yes(self.evidence(&staged.execution))),
            Err(StageError::Refused(why)) => Err(no(AbortKind::VotedNo, &why)),
            Err(StageError::Disk(error)) => Err(no(AbortKind::LocalFailure, &error.to_string())),
        }
    }

    async fn commit(
        &self,
        branch: &BranchContext,
        decided: &Evidence,
        _prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        // What is on disk tells more than what this process remembers.
        let (name, decided) = (branch.name.clone(), Arc::clone(&decided.execution));
        self.blocking(move |store| commit(store, &name, &decided)).await.map_err(disk)
    }

    async fn abort(
        &self,
        branch: &BranchContext,
        prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        if self.take(&branch.name).is_some() {
            return Ok(BranchOutcome::Aborted);
        }
        let (name, prepared) =
            (branch.name.clone(), prepared.map(|evidence| Arc::clone(&evidence.execution)));
        self.blocking(move |store| abort(store, &name, prepared.as_deref())).await.map_err(disk)
    }

    async fn recover(&self, cluster: &Cluster) -> Result<Vec<PreparedBranch>, HookError> {
        let mut staged = self.blocking(Store::staged).await.map_err(disk)?;
        // Others may have promises here, too: those are theirs.
        staged.retain(|staged| staged.branch.cluster == *cluster);
        let found = |staged: Staged| PreparedBranch {
            evidence: self.evidence(&staged.execution),
            name: staged.branch,
        };
        Ok(staged.into_iter().map(found).collect())
    }

    async fn forget(&self, branch: &BranchContext) {
        let name = branch.name.clone();
        if let Err(error) = self.blocking(move |store| store.forget(&name)).await {
            tracing::warn!(branch = %branch.name, %error, "evidence of an ended branch is kept for longer");
        }
    }
}

/// Publishes the decided execution and no other one; then ends what else is staged for the branch.
fn commit(store: &Store, branch: &PreparedName, decided: &str) -> io::Result<BranchOutcome> {
    let staged = store.staged_for(branch)?;
    if let Some(staged) = staged.as_ref().filter(|staged| staged.execution == decided) {
        return Ok(match store.end(staged, End::Committed)? {
            End::Committed => BranchOutcome::Committed,
            End::Aborted => BranchOutcome::Heuristic(HeuristicOutcome::Aborted),
        });
    }
    // Not found is not success: the evidence tells what became of it.
    Ok(match store.end_of(branch, decided)? {
        Some(End::Committed) => {
            if let Some(another) = staged {
                store.end(&another, End::Aborted)?;
            }
            BranchOutcome::Committed
        }
        Some(End::Aborted) => BranchOutcome::Heuristic(HeuristicOutcome::Aborted),
        // Never here, forgotten, or this is not the directory it was.
        None => BranchOutcome::Heuristic(HeuristicOutcome::Hazard),
    })
}

/// Removes what is staged for the branch. `prepared` is the execution that this process knows of.
fn abort(store: &Store, branch: &PreparedName, prepared: Option<&str>) -> io::Result<BranchOutcome> {
    let end = match (store.staged_for(branch)?, prepared) {
        (Some(staged), _) => Some(store.end(&staged, End::Aborted)?),
        (None, Some(execution)) => store.end_of(branch, execution)?,
        (None, None) => store.was_committed(branch)?.then_some(End::Committed),
    };
    Ok(match end {
        Some(End::Committed) => BranchOutcome::Heuristic(HeuristicOutcome::Committed),
        Some(End::Aborted) | None => BranchOutcome::Aborted,
    })
}

fn read(operation: &Operation) -> Result<Publication, AbortReason> {
    if &*operation.name != PUBLISH {
        let message = format!("a directory of files has no operation {:?}", operation.name);
        return Err(no(AbortKind::VotedNo, &message));
    }
    let mut parts = operation.payload.splitn(2, |byte| *byte == b'\n');
    let name = parts.next().and_then(|name| std::str::from_utf8(name).ok());
    name.zip(parts.next())
        .and_then(|(name, content)| Publication::new(name, content))
        .ok_or_else(|| no(AbortKind::VotedNo, "the payload is not a file's name, a line feed, and content"))
}

fn key(branch: &PreparedName) -> (TransactionId, BranchId) {
    (branch.id, branch.branch)
}

fn no(kind: AbortKind, message: &str) -> AbortReason {
    AbortReason::new(kind, message)
}

fn disk(error: impl std::fmt::Display) -> HookError {
    HookError::new(error.to_string())
}
