//! For owners of resources: take part in global transactions.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! use pactum::participant::Participant;
//! use pactum::resource::PostgresResource;
//!
//! let bank = PostgresResource::new("bank-a", pool)?;
//! let participant = Participant::builder(["http://127.0.0.1:7600"]).resource(bank.clone()).start().await?;
//! // ... serve requests; in each: bank.begin(&context), work, enlist ...
//! participant.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! A participant dials in to every coordinator that it is told of, and stays attached: no port
//! need be open at the service. It runs the hooks of its [`Resource`]s as the protocol's core orders,
//! and asks about every branch that it finds prepared without knowing why: at start, after each
//! attach, and on a period. What is prepared survives it: a restarted process, or another one with
//! the same resource, ends the branch.
//!
//! This module knows no database, and does not decide.

mod enlister;
mod status;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pactum_core::id::{Cluster, InstanceId, ResourceName};
use pactum_core::participant as core;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use uuid::Uuid;

pub use self::enlister::{EnlistError, Enlister};
pub use self::status::{Quarantined, SessionState, SessionStatus};
use crate::application::{Connector, Tls, endpoint};
use crate::error::ConnectError;
use crate::members::Dialer;
use crate::observe::Observer;
use crate::resource::Resource;
use crate::session::driver::Driver;
use crate::session::hooks::DynResource;
use crate::session::members::{Follower, Sessions};
use crate::session::wire::Clock;
use crate::session::{Input, Shared, check, scan};

/// Most resources that one participant speaks for, as the protocol bounds them.
pub const RESOURCES_MAX: usize = 64;

/// Longest identity of a resource, in bytes, as the protocol bounds it.
const IDENTITY_BYTES_MAX: usize = 256;

/// Inputs that wait for the driver. A full queue holds streams, hooks and callers back.
const INPUTS_QUEUE_MAX: usize = 4096;

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const SCAN_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
const OWNER_GRACE_DEFAULT: Duration = Duration::from_secs(2);
const SHUTDOWN_GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// How long tasks get to end once they are told to.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// A running participant. Dropping it stops it at once, as a crash would: what is prepared stays
/// so, and is ended by another process with the same resource or after a restart. Open local
/// transactions are left to the resource.
pub struct Participant {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    shutdown_grace: Duration,
}

impl Participant {
    /// Settings of a participant that attaches to these coordinators of one cluster,
    /// `http://host:port` each. One is enough: it names the others, and they are attached to as well.
    pub fn builder<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> ParticipantBuilder {
        ParticipantBuilder {
            addresses: addresses.into_iter().map(Into::into).collect(),
            resources: Vec::new(),
            tls: None,
            connector: None,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            scan_interval: SCAN_INTERVAL_DEFAULT,
            shutdown_grace: SHUTDOWN_GRACE_DEFAULT,
            discovery: true,
            owner_grace: OWNER_GRACE_DEFAULT,
            observer: Observer::default(),
        }
    }

    /// This run of this process, as coordinators know it.
    pub fn instance(&self) -> InstanceId {
        self.shared.instance
    }

    /// The cluster, once a coordinator has named it.
    pub fn cluster(&self) -> Option<Cluster> {
        self.shared.cluster()
    }

    /// What adds branches to transactions, for resources of one's own.
    pub fn enlister(&self) -> Enlister {
        Enlister::new(Arc::clone(&self.shared))
    }

    /// Whether each coordinator is attached to: the addresses given, in their order, then those that
    /// were learned from other coordinators.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        self.shared.sessions.borrow().values().cloned().collect()
    }

    /// Waits until a coordinator is attached to. Waits for ever if there is none: bound it.
    pub async fn attached(&self) {
        let mut sessions = self.shared.sessions.subscribe();
        let any =
            |sessions: &BTreeMap<usize, SessionStatus>| sessions.values().any(SessionStatus::is_attached);
        if sessions.wait_for(any).await.is_err() {
            // The sender lives in what we hold ourselves.
            std::future::pending::<()>().await;
        }
    }

    /// How often the protocol was broken towards this participant, as far as it could see. Anything
    /// but zero is a defect or a mix-up of databases, and is in the log as an error.
    pub fn violations(&self) -> u64 {
        self.shared.violations.load(Ordering::Relaxed)
    }

    /// The branches whose decision nobody can know, as far as this process was told: they stay prepared,
    /// with their locks, until an operator ends them or releases what they wait for, and each is asked
    /// about again every 10 s meanwhile. Oldest transaction first. Another process that speaks for
    /// the same resource finds and lists them too; after a restart a branch is listed again as
    /// soon as it has been found and asked about.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        let mut all: Vec<Quarantined> = self.shared.lock_quarantined().values().cloned().collect();
        all.sort_by_key(|quarantined| (quarantined.gid(), quarantined.name.branch));
        all
    }

    /// Takes no new branches from now on: enlisting fails with [`EnlistError::Draining`], and one-shot
    /// operations that were not begun are voted no. What is enlisted or prepared goes on to its end, and
    /// every attached coordinator is told. Kept in this process alone, until [`resume`](Self::resume), or
    /// until an operator says otherwise through a coordinator.
    pub fn drain(&self) {
        self.shared.set_draining(true);
    }

    /// Takes new branches again.
    pub fn resume(&self) {
        self.shared.set_draining(false);
    }

    /// Whether no new branches are taken: by [`drain`](Self::drain), or by an operator's word.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// Takes no new branches, aborts those that are open, lets running hooks end for at most the
    /// grace, says what they came to, and detaches. Prepared branches stay prepared.
    pub async fn shutdown(self) {
        let (idle, all_ended) = oneshot::channel();
        let stopped = async {
            if self.shared.inputs.send(Input::Stop { idle }).await.is_ok() {
                // An error says that the driver has gone: then there is nothing to wait for.
                all_ended.await.ok();
            }
        };
        if timeout(self.shutdown_grace, stopped).await.is_err() {
            warn!("hooks still run after the grace; what they do is found out at the next start");
        }
        self.shared.stop.cancel();
        self.tasks.close();
        if timeout(STOP_WAIT, self.tasks.wait()).await.is_err() {
            warn!("some tasks did not end in time");
        }
        info!(instance = %self.shared.instance, "the participant has stopped");
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant")
            .field("instance", &self.shared.instance)
            .field("sessions", &self.sessions())
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Participant`]. Made by [`Participant::builder`].
#[must_use = "nothing runs unless start is called"]
pub struct ParticipantBuilder {
    addresses: Vec<String>,
    resources: Vec<Arc<dyn DynResource>>,
    tls: Option<Tls>,
    connector: Option<Connector>,
    connect_timeout: Duration,
    scan_interval: Duration,
    shutdown_grace: Duration,
    discovery: bool,
    owner_grace: Duration,
    observer: Observer,
}

impl fmt::Debug for ParticipantBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resources: Vec<_> = self.resources.iter().map(|resource| resource.name()).collect();
        f.debug_struct("ParticipantBuilder")
            .field("addresses", &self.addresses)
            .field("resources", &resources)
            .finish_non_exhaustive()
    }
}

impl ParticipantBuilder {
    /// Adds a resource; one to [`RESOURCES_MAX`] are needed, each with a name of its own.
    pub fn resource(mut self, resource: impl Resource) -> Self {
        self.resources.push(Arc::new(resource));
        self
    }

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

    /// How long one attempt to attach may take. Default: 5 s. More suits slow networks; less
    /// notices a dead coordinator sooner, which costs nothing but attempts.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How often each resource is asked what it holds prepared, besides soon after each attach (250 ms, or this if
    /// it is less). Default: 5 s. More asks the database less; less ends branches sooner whose coordinator is gone.
    pub fn scan_interval(mut self, interval: Duration) -> Self {
        self.scan_interval = interval;
        self
    }

    /// Whether to attach to coordinators that others name. Default: yes. No suits networks in which the
    /// addresses that they know of each other cannot be reached from here; then give all.
    pub fn discovery(mut self, discovery: bool) -> Self {
        self.discovery = discovery;
        self
    }

    /// How long the stream of a coordinator may be gone before its prepared branches are asked about
    /// elsewhere. Default: 2 s. More asks less when coordinators restart; less ends branches
    /// sooner whose coordinator is gone, though never before its lease in the log has lapsed.
    pub fn owner_grace(mut self, grace: Duration) -> Self {
        self.owner_grace = grace;
        self
    }

    /// How long [`Participant::shutdown`] waits for running hooks. Default: 10 s. More leaves
    /// fewer branches to be ended after a restart.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown_grace = grace;
        self
    }

    /// Tells the steps that a crash could split, for tests and demonstrations.
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Checks the settings and every resource, and starts. Does not wait for a coordinator: see
    /// [`Participant::attached`]. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// A setting that cannot be used, or a resource that does not pass its check. Nothing runs.
    pub async fn start(self) -> Result<Participant, StartError> {
        if self.addresses.is_empty() || self.addresses.len() > endpoint::ADDRESSES_MAX {
            return Err(StartError::Addresses { max: endpoint::ADDRESSES_MAX });
        }
        let dialer =
            Dialer { tls: self.tls, connector: self.connector, connect_timeout: self.connect_timeout };
        let mut targets = Vec::with_capacity(self.addresses.len());
        for address in self.addresses {
            let target = dialer.target(&address)?;
            targets.push((address, target));
        }
        if self.resources.is_empty() || self.resources.len() > RESOURCES_MAX {
            return Err(StartError::Resources);
        }
        let resources: Arc<[Arc<dyn DynResource>]> = self.resources.into();
        let mut registrations = BTreeMap::new();
        for resource in &*resources {
            let name = resource.name().clone();
            if registrations.contains_key(&name) {
                return Err(StartError::ResourceTwice { resource: name });
            }
            let problem = match check(&**resource).await {
                Ok(registration) if registration.identity.len() <= IDENTITY_BYTES_MAX => {
                    registrations.insert(name, registration);
                    continue;
                }
                Ok(_) => format!("its identity is longer than {IDENTITY_BYTES_MAX} bytes"),
                Err(problem) => problem,
            };
            return Err(StartError::Check { resource: name, problem });
        }
        let statuses = targets.iter().map(|(address, _)| SessionStatus::new(address.clone(), false));
        let (inputs, inputs_queue) = mpsc::channel(INPUTS_QUEUE_MAX);
        let shared = Arc::new(Shared {
            instance: InstanceId::from_uuid(Uuid::new_v4()),
            inputs,
            cluster: watch::Sender::new(None),
            attached: watch::Sender::new(0),
            violations: AtomicU64::new(0),
            registrations: Mutex::new(registrations),
            quarantined: Mutex::default(),
            sessions: watch::Sender::new(statuses.enumerate().collect()),
            told: watch::Sender::new(BTreeMap::new()),
            draining: watch::Sender::new(false),
            last_session: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        for resource in &*resources {
            resource.bind(Enlister::new(Arc::clone(&shared)));
        }
        let tasks = TaskTracker::new();
        let clock = Clock::start();
        let core = core::Participant::new(core::Config::default());
        let driver = Driver::new(
            core,
            clock,
            Arc::clone(&shared),
            &resources,
            self.observer.clone(),
            tasks.clone(),
            self.owner_grace,
        );
        tasks.spawn(driver.run(inputs_queue));
        let sessions = Sessions {
            connect_timeout: self.connect_timeout,
            resources: Arc::clone(&resources),
            shared: Arc::clone(&shared),
            clock,
            observer: self.observer.clone(),
            tasks: tasks.clone(),
        };
        let places = targets.len();
        for (place, (address, target)) in targets.into_iter().enumerate() {
            sessions.start(place, address, target);
        }
        if self.discovery {
            tasks.spawn(Follower::new(sessions, dialer, places).run());
        }
        for resource in &*resources {
            let scan = scan::run(
                Arc::clone(resource),
                Arc::clone(&shared),
                self.scan_interval,
                self.observer.clone(),
            );
            tasks.spawn(scan);
        }
        info!(instance = %shared.instance, resources = resources.len(), "the participant has started");
        Ok(Participant { shared, tasks, shutdown_grace: self.shutdown_grace })
    }
}

/// A participant could not be started. Nothing runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No coordinator, or too many.
    #[error("1 to {max} addresses of coordinators are needed")]
    Addresses {
        /// How many there may be.
        max: usize,
    },
    /// An address or a TLS setting that cannot be used.
    #[error(transparent)]
    Address(#[from] ConnectError),
    /// No resource, or too many.
    #[error("1 to {RESOURCES_MAX} resources are needed")]
    Resources,
    /// Two resources have the same name.
    #[error("resource {resource} was added twice")]
    ResourceTwice {
        /// The name.
        resource: ResourceName,
    },
    /// A resource cannot do what the protocol needs.
    #[error("resource {resource} cannot take part: {problem}")]
    Check {
        /// The resource.
        resource: ResourceName,
        /// What is wrong, and what to do about it.
        problem: String,
    },
}
