//! Who is attached: which session speaks for an instance, and which for a resource.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use pactum_core::id::{Branch, InstanceId, ResourceName};

use crate::error::ServiceError;
use crate::session::Session;

/// All attached sessions.
#[derive(Debug)]
pub(crate) struct Registry {
    sessions: RwLock<Sessions>,
    participants_max: usize,
}

/// The attached sessions at one moment.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_instance: HashMap<InstanceId, Arc<Session>>,
    by_resource: BTreeMap<ResourceName, Vec<Arc<Session>>>,
}

impl Sessions {
    /// The session of that very instance, if it speaks for the resource.
    pub(crate) fn of_instance(&self, instance: InstanceId, resource: &ResourceName) -> Option<&Session> {
        let session = self.by_instance.get(&instance)?;
        session.resources.contains_key(resource).then_some(session)
    }

    /// The session of the instance that enlisted a branch, else any that speaks for its resource.
    pub(crate) fn of_branch(&self, branch: &Branch) -> Option<&Session> {
        self.of_instance(branch.instance, &branch.resource).or_else(|| self.any(&branch.resource))
    }

    /// Some session that speaks for a resource.
    pub(crate) fn any(&self, resource: &ResourceName) -> Option<&Session> {
        let sessions = self.by_resource.get(resource)?;
        sessions.iter().rev().find(|session| !session.outbox.is_closed()).map(Arc::as_ref)
    }

    /// All of them, one by one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.by_instance.values()
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.by_instance.len()
    }

    /// Whether some instance speaks for a resource.
    pub(crate) fn is_attached(&self, resource: &ResourceName) -> bool {
        self.by_resource.contains_key(resource)
    }
}

impl Registry {
    pub(crate) fn new(participants_max: usize) -> Self {
        Self { sessions: RwLock::default(), participants_max }
    }

    /// The attached sessions now. Not to be held over an await.
    pub(crate) fn sessions(&self) -> RwLockReadGuard<'_, Sessions> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a session. An older one of the same instance is ended first, and is gone (its
    /// last frame handled, nothing more sent to it) before the newer one is served.
    ///
    /// # Errors
    /// [`ServiceError::TooManyParticipants`].
    pub(crate) async fn attach(&self, session: &Arc<Session>) -> Result<(), ServiceError> {
        loop {
            let older = {
                let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
                match sessions.by_instance.get(&session.instance) {
                    Some(older) => Arc::clone(older),
                    None if sessions.len() >= self.participants_max => {
                        return Err(ServiceError::TooManyParticipants);
                    }
                    None => {
                        for resource in session.resources.keys() {
                            let attached = sessions.by_resource.entry(resource.clone()).or_default();
                            attached.push(Arc::clone(session));
                        }
                        sessions.by_instance.insert(session.instance, Arc::clone(session));
                        return Ok(());
                    }
                }
            };
            older.end(ServiceError::Superseded);
            older.gone.cancelled().await;
        }
    }

    /// Takes a session off the list, if it is on it.
    pub(crate) fn detach(&self, session: &Session) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        let is_it = |attached: &Arc<Session>| std::ptr::eq(Arc::as_ref(attached), session);
        if sessions.by_instance.get(&session.instance).is_some_and(is_it) {
            sessions.by_instance.remove(&session.instance);
        }
        for resource in session.resources.keys() {
            if let Some(attached) = sessions.by_resource.get_mut(resource) {
                attached.retain(|other| !is_it(other));
                if attached.is_empty() {
                    sessions.by_resource.remove(resource);
                }
            }
        }
        drop(sessions);
        session.gone.cancel();
    }
}
