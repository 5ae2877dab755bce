//! Who is attached: which session speaks for an instance, and which for a resource.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

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
    /// Instances that have left of late: which absence it is.
    absent: HashMap<InstanceId, Absence>,
    absences: u64,
    by_resource: BTreeMap<ResourceName, Vec<Arc<Session>>>,
    /// Since when nobody speaks for a resource any more, for people.
    left: BTreeMap<ResourceName, Instant>,
}

/// Resources of which it is kept since when they are away. More are in no cluster that a person could
/// look after; beyond it nothing is said of the one that left first.
const LEFT_MAX: usize = 1024;

/// Whom of a branch's resource an operator finds attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// The very instance that enlisted the branch.
    Itself,
    /// Another instance only.
    Others,
    /// Nobody, for so long; unknown if nobody ever was.
    Nobody(Option<Duration>),
}

impl Presence {
    /// Whether somebody speaks for the resource.
    pub(crate) fn is_attached(self) -> bool {
        matches!(self, Self::Itself | Self::Others)
    }
}

/// One time that an instance was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Absence(u64);

impl Sessions {
    /// The session of that very instance, if it speaks for the resource.
    pub(crate) fn of_instance(&self, instance: InstanceId, resource: &ResourceName) -> Option<&Session> {
        let session = self.by_instance.get(&instance)?;
        session.resources.contains_key(resource).then_some(session)
    }

    /// The session of the instance that enlisted a branch, else any that speaks for its resource:
    /// for an abort, since only that instance holds a transaction that is not prepared.
    pub(crate) fn for_abort(&self, branch: &Branch, turn: usize) -> Option<&Session> {
        self.of_instance(branch.instance, &branch.resource).or_else(|| self.any(&branch.resource, turn))
    }

    /// A session that may finish a branch that is prepared: at the first turn of the instance that
    /// enlisted it, and at each further one of the next, since that one may hang (C5).
    pub(crate) fn for_commit(&self, branch: &Branch, turn: usize) -> Option<&Session> {
        let sessions = self.by_resource.get(&branch.resource)?;
        let enlisted = sessions.iter().position(|session| session.instance == branch.instance);
        Self::from(sessions, enlisted.unwrap_or(0).wrapping_add(turn))
    }

    /// Some session that speaks for a resource; another turn, another one.
    pub(crate) fn any(&self, resource: &ResourceName, turn: usize) -> Option<&Session> {
        Self::from(self.by_resource.get(resource)?, turn)
    }

    /// A session that is to execute something new for a resource: none that takes no new branches
    /// while another one does. Another turn, another one.
    pub(crate) fn for_new(&self, resource: &ResourceName, turn: usize) -> Option<&Session> {
        let sessions = self.by_resource.get(resource)?;
        let mut open = Self::open_from(sessions, turn);
        open.clone().find(|session| !session.is_draining()).or_else(|| open.next())
    }

    /// The sessions that may be asked about a resource, in the order in which to ask them: first that
    /// of the instance named, if it is there.
    pub(crate) fn to_ask(&self, resource: &ResourceName, first: Option<InstanceId>) -> Vec<Arc<Session>> {
        let mut open: Vec<Arc<Session>> =
            self.of_resource(resource).filter(|session| !session.outbox.is_closed()).cloned().collect();
        // Stable: the others stay in the order in which they attached.
        open.sort_by_key(|session| Some(session.instance) != first);
        open
    }

    /// Every session that speaks for a resource.
    pub(crate) fn of_resource(&self, resource: &ResourceName) -> impl Iterator<Item = &Arc<Session>> {
        self.by_resource.get(resource).into_iter().flatten()
    }

    /// Every resource that somebody speaks for, by name.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &ResourceName> {
        self.by_resource.keys()
    }

    /// The first open one from that place on, around.
    fn from(sessions: &[Arc<Session>], place: usize) -> Option<&Session> {
        Self::open_from(sessions, place).next()
    }

    /// The open ones from that place on, around.
    fn open_from(sessions: &[Arc<Session>], place: usize) -> impl Iterator<Item = &Session> + Clone {
        let (before, after) = sessions.split_at(place % sessions.len().max(1));
        after.iter().chain(before).filter(|session| !session.outbox.is_closed()).map(Arc::as_ref)
    }

    /// All of them, one by one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.by_instance.values()
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.by_instance.len()
    }

    /// Who is there for a branch.
    pub(crate) fn presence(&self, branch: &Branch) -> Presence {
        match self.by_resource.get(&branch.resource) {
            Some(sessions) if sessions.iter().any(|session| session.instance == branch.instance) => {
                Presence::Itself
            }
            Some(_) => Presence::Others,
            None => Presence::Nobody(self.left.get(&branch.resource).map(Instant::elapsed)),
        }
    }

    /// Whether some instance speaks for a resource.
    pub(crate) fn is_attached(&self, resource: &ResourceName) -> bool {
        self.by_resource.contains_key(resource)
    }

    fn note_left(&mut self, resource: &ResourceName) {
        self.left.insert(resource.clone(), Instant::now());
        if self.left.len() > LEFT_MAX {
            let first = self.left.iter().min_by_key(|(_, at)| **at).map(|(resource, _)| resource.clone());
            first.and_then(|first| self.left.remove(&first));
        }
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
                            sessions.left.remove(resource);
                        }
                        sessions.by_instance.insert(session.instance, Arc::clone(session));
                        sessions.absent.remove(&session.instance);
                        return Ok(());
                    }
                }
            };
            older.end(ServiceError::Superseded);
            older.gone.cancelled().await;
        }
    }

    /// Takes a session off the list, if it is on it: then its instance is away from now on.
    pub(crate) fn detach(&self, session: &Session) -> Option<Absence> {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        let is_it = |attached: &Arc<Session>| std::ptr::eq(Arc::as_ref(attached), session);
        let was_listed = sessions.by_instance.get(&session.instance).is_some_and(is_it);
        let absence = was_listed.then(|| {
            sessions.absences += 1;
            let absence = Absence(sessions.absences);
            sessions.by_instance.remove(&session.instance);
            sessions.absent.insert(session.instance, absence);
            absence
        });
        for resource in session.resources.keys() {
            if let Some(attached) = sessions.by_resource.get_mut(resource) {
                attached.retain(|other| !is_it(other));
                if attached.is_empty() {
                    sessions.by_resource.remove(resource);
                    sessions.note_left(resource);
                }
            }
        }
        drop(sessions);
        session.gone.cancel();
        absence
    }

    /// Whether an instance has been attached since that absence began. Asked once: after that the
    /// absence is forgotten.
    pub(crate) fn is_back(&self, instance: InstanceId, absence: Absence) -> bool {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        let is_away = sessions.absent.get(&instance) == Some(&absence);
        if is_away {
            sessions.absent.remove(&instance);
        }
        !is_away
    }
}
