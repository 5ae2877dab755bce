//! For applications: begin a transaction, call services inside it, commit; or submit it whole.
//!
//! ```text
//!  begin ── gid made here, above the floor ──▶ Transaction ── .with(&tx) calls ──▶ branches named
//!  commit / submit / abort / outcome ──▶ ask: repeat until known ──▶ pipeline: one stream per coordinator
//! ```
//!
//! Invariants: a transaction keeps the gid and the set of branches that it was asked to commit with,
//! at every repetition (`ask.rs` says why that is enough); an outcome that is not known is an
//! error of its own, never guessed (law 5); commit names the set that calls brought back, and a set
//! that cannot be named whole is never committed (law 9).
//!
//! This module does not know what branches do, nor how a coordinator decides.

mod ask;
mod claims;
mod connector;
mod details;
pub(crate) mod endpoint;
mod gid;
mod members;
mod outcome;
mod pipeline;
mod submit;
mod transaction;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use pactum_core::id::{Branch, Cluster, Gid, TransactionId};
use pactum_core::rendezvous;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use self::ask::{Ask, Asked, Whom, query};
use self::claims::Claims;
pub use self::connector::Connector;
pub use self::endpoint::Tls;
use self::gid::GidMaker;
use self::members::Follower;
pub use self::outcome::{Outcome, Standing};
use self::pipeline::{Pipeline, State};
pub use self::submit::Submit;
pub use self::transaction::{Abort, Begin, BoxFuture, Commit, Transaction};
use crate::error::{ConnectError, InvalidInput, OutcomeError, Unreachable};
use crate::members::Dialer;

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// Connections to the coordinators of one cluster. Cheap to clone; the connections are closed
/// when the last clone, and the last transaction, is gone.
#[derive(Clone)]
pub struct Pactum {
    shared: Arc<Shared>,
}

impl Pactum {
    /// Connects to one coordinator with default settings: [`Pactum::builder`] knows more.
    ///
    /// # Errors
    /// See [`Builder::connect`].
    pub async fn connect(address: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder([address]).connect().await
    }

    /// Settings for connections to these coordinators of one cluster, `http://host:port` each. One is
    /// enough: it names the others, and they are connected to as well. New transactions are
    /// spread over all; each belongs to the one that it was begun with, and any other can tell its
    /// outcome.
    pub fn builder<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Builder {
        Builder {
            addresses: addresses.into_iter().map(Into::into).collect(),
            tls: None,
            connector: None,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            grace: GRACE_DEFAULT,
            discovery: true,
        }
    }

    /// Begins a transaction when awaited. Makes no call: the gid is made here, above the floor that
    /// the coordinator named on the open stream. Nothing is durable.
    ///
    /// # Errors
    /// See [`BeginError`](crate::BeginError). Nothing happened.
    pub fn begin(&self) -> Begin {
        Begin::new(Arc::clone(&self.shared))
    }

    /// Runs a whole transaction in one request when awaited: add branches with
    /// [`Submit::operation`].
    pub fn submit(&self) -> Submit {
        Submit::new(Arc::clone(&self.shared))
    }

    /// Asks what became of a transaction. With the branches that commit named the answer is
    /// definite: an undecided transaction whose owner has ended is closed with abort. Without them the
    /// question only looks. Asks until the grace has passed.
    ///
    /// # Errors
    /// No answer came. Asking may be repeated.
    pub async fn outcome(
        &self,
        id: TransactionId,
        branches: impl IntoIterator<Item = Branch>,
    ) -> Result<Standing, OutcomeError> {
        let branches: Vec<Branch> = branches.into_iter().collect();
        let until = Instant::now() + self.shared.grace;
        let ask = Ask {
            shared: &self.shared,
            id,
            deadline: until,
            give_up: until,
            undecided_is_answer: true,
            whom: Whom::Anyone,
        };
        match ask.run(|_| query(id, &branches)).await {
            Asked::Known(outcome) => Ok(outcome.into()),
            Asked::Refused { refusal, .. } => Err(OutcomeError::Refused { id, refusal }),
            Asked::GaveUp { problem, .. } | Asked::OwnerGone { problem } => {
                Err(OutcomeError::NotReached { id, problem })
            }
            Asked::Malformed { problem } => Err(OutcomeError::Malformed { id, problem }),
        }
    }

    /// The cluster, once a coordinator has named it and while one is connected.
    pub fn cluster(&self) -> Option<Cluster> {
        self.shared.pipelines().iter().find_map(|pipeline| match pipeline.state() {
            State::Up(welcome) => Some(welcome.cluster),
            State::Down { .. } => None,
        })
    }

    /// The coordinators that are connected now, given and learned.
    pub fn coordinators(&self) -> Vec<String> {
        let pipelines = self.shared.pipelines();
        let up = pipelines.iter().filter(|pipeline| pipeline.is_up());
        up.map(|pipeline| pipeline.address().to_owned()).collect()
    }
}

impl fmt::Debug for Pactum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipelines = self.shared.pipelines();
        let addresses: Vec<&str> = pipelines.iter().map(|pipeline| pipeline.address()).collect();
        f.debug_struct("Pactum").field("addresses", &addresses).finish()
    }
}

/// Settings of a [`Pactum`]. Made by [`Pactum::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is connected unless connect is called"]
pub struct Builder {
    addresses: Vec<String>,
    tls: Option<Tls>,
    connector: Option<Connector>,
    connect_timeout: Duration,
    grace: Duration,
    discovery: bool,
}

impl Builder {
    /// Speaks TLS. Addresses must then begin with `https://`.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Dials coordinators by this instead of TCP.
    pub fn connector(mut self, connector: Connector) -> Self {
        self.connector = Some(connector);
        self
    }

    /// How long connecting, and a begin without any usable coordinator, wait. Default: 5 s. More
    /// rides out a coordinator's restart; less tells callers sooner.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long after a transaction's deadline its outcome is still asked for, and how long
    /// [`Pactum::outcome`] asks. Default: 10 s. More turns more unknown outcomes into known ones;
    /// less tells callers sooner that they are unknown.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Whether to connect to coordinators that others name. Default: yes. No suits networks in which
    /// the addresses that they know of each other cannot be reached from here; then give all.
    pub fn discovery(mut self, discovery: bool) -> Self {
        self.discovery = discovery;
        self
    }

    /// Connects, and waits until a coordinator can be used. The others are connected to in the
    /// background, and again whenever a connection is lost.
    ///
    /// # Errors
    /// A setting that cannot be used, or no coordinator answered within the connect timeout. Then
    /// nothing is left running.
    pub async fn connect(self) -> Result<Pactum, ConnectError> {
        let until = Instant::now() + self.connect_timeout;
        let pactum = self.connect_lazy()?;
        let shared = &pactum.shared;
        let up = || shared.pipelines().iter().any(|pipeline| pipeline.is_up()).then_some(());
        match shared.find(until, up).await {
            Some(()) => Ok(pactum),
            None => Err(shared.unreachable().into()),
        }
    }

    /// Connects in the background and returns at once. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub fn connect_lazy(self) -> Result<Pactum, ConnectError> {
        if self.addresses.is_empty() || self.addresses.len() > endpoint::ADDRESSES_MAX {
            let rule = "1 to 16 coordinators are needed";
            return Err(InvalidInput { field: "addresses", rule }.into());
        }
        let dialer =
            Dialer { tls: self.tls, connector: self.connector, connect_timeout: self.connect_timeout };
        let mut targets = Vec::with_capacity(self.addresses.len());
        for address in self.addresses {
            let target = dialer.target(&address)?;
            targets.push((address, target));
        }
        let (changes, states) = watch::channel(0);
        let claims = Claims::default();
        let pipelines = targets.into_iter().map(|(address, target)| {
            let (changes, claims) = (changes.clone(), Some(claims.clone()));
            Arc::new(Pipeline::start(address, target, self.connect_timeout, changes, claims))
        });
        let shared = Arc::new(Shared {
            pipelines: RwLock::new(pipelines.collect()),
            changes,
            gids: GidMaker::default(),
            connect_timeout: self.connect_timeout,
            grace: self.grace,
        });
        if self.discovery {
            tokio::spawn(Follower::new(dialer).run(Arc::downgrade(&shared), states));
        }
        Ok(Pactum { shared })
    }
}

/// What all handles of one [`Pactum`] share.
#[derive(Debug)]
pub(crate) struct Shared {
    pipelines: RwLock<Vec<Arc<Pipeline>>>,
    /// Counted up whenever the state of a pipeline changes.
    changes: watch::Sender<u64>,
    gids: GidMaker,
    connect_timeout: Duration,
    grace: Duration,
}

impl Shared {
    /// The coordinators that are known now. Not to be held over an await.
    fn pipelines(&self) -> RwLockReadGuard<'_, Vec<Arc<Pipeline>>> {
        self.pipelines.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_pipelines(&self) -> RwLockWriteGuard<'_, Vec<Arc<Pipeline>>> {
        self.pipelines.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is found in the states of the pipelines, at most until then.
    async fn find<T>(&self, until: Instant, find: impl Fn() -> Option<T>) -> Option<T> {
        // As a rule it is there, and nobody need be told of changes.
        if let Some(found) = find() {
            return Some(found);
        }
        let mut changes = self.changes.subscribe();
        loop {
            // Marked as seen first: a change after this wakes us again.
            changes.borrow_and_update();
            if let Some(found) = find() {
                return Some(found);
            }
            timeout_at(until, changes.changed()).await.ok()?.ok()?;
        }
    }

    /// The pipeline to ask about a transaction: its owner's, and after each silence the next one.
    fn choose(&self, id: &TransactionId, silent: usize) -> Option<Arc<Pipeline>> {
        let pipelines = self.pipelines();
        let owned = |pipeline: &&Arc<Pipeline>| pipeline.owns(id.incarnation);
        if silent == 0
            && let Some(owner) = pipelines.iter().find(owned)
        {
            return Some(Arc::clone(owner));
        }
        let (mut up, mut others): (Vec<_>, Vec<_>) = pipelines.iter().partition(owned);
        others.retain(|pipeline| pipeline.is_up());
        up.append(&mut others);
        up.get(silent % up.len().max(1)).copied().map(Arc::clone)
    }

    /// Names a new transaction: a gid above every floor, and of the coordinators that take new
    /// transactions the one that it falls to. All processes spread theirs alike.
    ///
    /// `None`: no gid is left above the floor.
    async fn name_new(&self) -> Result<Option<TransactionId>, Unreachable> {
        let usable = || {
            let pipelines = self.pipelines();
            let states = pipelines.iter().filter_map(|pipeline| pipeline.takes_new());
            let usable: Vec<_> = states.collect();
            (!usable.is_empty()).then_some(usable)
        };
        let until = Instant::now() + self.connect_timeout;
        let Some(usable) = self.find(until, usable).await else { return Err(self.unreachable()) };
        let floor = usable.iter().map(|(_, floor)| *floor).max().unwrap_or(Gid::NIL);
        let Some(gid) = self.gids.make(floor) else { return Ok(None) };
        let owner = rendezvous::winner(gid, usable.into_iter().map(|(incarnation, _)| incarnation));
        Ok(owner.map(|incarnation| TransactionId { incarnation, gid }))
    }

    fn unreachable(&self) -> Unreachable {
        let pipelines = self.pipelines();
        let problems = pipelines.iter().map(|pipeline| match pipeline.state() {
            State::Down { problem } => format!("{}: {problem}", pipeline.address()),
            State::Up(welcome) if welcome.incarnation.is_none() => {
                format!("{}: it takes no new transactions now", pipeline.address())
            }
            State::Up(_) => format!("{}: connected", pipeline.address()),
        });
        Unreachable { problems: problems.collect() }
    }
}
