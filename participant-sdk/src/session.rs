//! One stream to one coordinator, kept open for as long as the participant lives.
//!
//! ```text
//!  driver (owns the core) ──outbox──▶ session ──AttachRequest: everything that waits──▶ coordinator
//!     ▲  ▲                              │  ◀── AttachResponse: batches ──
//!     │  └────────── inputs ────────────┘  re-attaches with back-off, each stream a new session
//!     └── hooks, scans, enlistments
//! ```
//!
//! What it keeps: the first message says who we are, after every resource was checked; a new stream
//! is opened only when the old one's frames have been handed over or dropped; nothing that is read
//! passes the driver by; a reader that is too slow ends its stream rather than memory.
//!
//! It does not know what the messages are for.

mod batch;
pub(crate) mod driver;
mod enlists;
pub(crate) mod hooks;
pub(crate) mod members;
mod owners;
pub(crate) mod scan;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backon::BackoffBuilder as _;
use futures::future::join_all;
use pactum_core::id::{BranchId, Cluster, InstanceId, ResourceName, TransactionId};
use pactum_core::participant::{Event, SessionId};
use pactum_proto::v1;
use pactum_proto::v1::participants_service_client::ParticipantsServiceClient;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Endpoint;
use tracing::{debug, info, warn};

use self::batch::{BATCH_MESSAGES_MAX, cut, step};
use self::enlists::Reply;
use self::hooks::{DynResource, caught};
use self::wire::{Clock, Incoming, Welcome};
use crate::application::endpoint::chain;
use crate::members::Member;
use crate::observe::{Observer, Step};
use crate::participant::{SessionState, SessionStatus};
use crate::resource::Registration;

/// Messages that wait for one stream. Beyond it the coordinator reads too slowly: the stream is
/// ended, what waited is dropped, and the protocol asks again, as after any lost message.
pub(crate) const OUTBOX_MAX: usize = 16_384;

/// Batches handed to the transport and not yet taken by it. One keeps it busy, and what comes
/// meanwhile becomes part of a larger batch.
const BATCHES_AHEAD: usize = 1;

/// Re-attaching waits at least and at most this long; jitter keeps a herd apart. A restarted
/// coordinator finds its participants again within the upper bound.
const REATTACH_DELAY_MIN: Duration = Duration::from_millis(50);
const REATTACH_DELAY_MAX: Duration = Duration::from_secs(2);

/// A resource that does not answer its check within this is left out of the attach.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// A resource that was left out is checked again this often, and then attached with.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// When we end a stream, the coordinator gets this long to end its side.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// What the driver takes in.
#[derive(Debug)]
pub(crate) enum Input {
    /// A stream was opened.
    Attached {
        session: SessionId,
        /// Which of the participant's addresses it leads to.
        place: usize,
        welcome: Welcome,
        outbox: mpsc::Sender<v1::ParticipantMessage>,
    },
    /// Messages came on a stream.
    Came { session: SessionId, messages: Vec<Incoming> },
    /// A stream has ended; nothing comes from it any more.
    Detached { session: SessionId },
    /// A hook ended.
    HookEnded(Event),
    /// A scan found branches.
    Found(Vec<Event>),
    /// Local work is to be enlisted.
    Enlist { id: TransactionId, resource: ResourceName, branch: BranchId, deadline: Instant, reply: Reply },
    /// Take nothing new, end what is open, and say when no hook runs any more.
    Stop { idle: oneshot::Sender<()> },
}

/// What all parts of one participant share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) instance: InstanceId,
    pub(crate) inputs: mpsc::Sender<Input>,
    /// The cluster, once a coordinator has named it; never another one after that.
    pub(crate) cluster: watch::Sender<Option<Cluster>>,
    /// How often a stream was opened.
    pub(crate) attached: watch::Sender<u64>,
    pub(crate) violations: AtomicU64,
    pub(crate) registrations: Mutex<BTreeMap<ResourceName, Registration>>,
    /// Every coordinator that is attached to, or tried, by its place.
    pub(crate) sessions: watch::Sender<BTreeMap<usize, SessionStatus>>,
    /// Whom each attached coordinator names.
    pub(crate) told: watch::Sender<BTreeMap<usize, Vec<Member>>>,
    pub(crate) last_session: AtomicU64,
    /// Cancelled when everything shall end.
    pub(crate) stop: CancellationToken,
}

impl Shared {
    pub(crate) fn cluster(&self) -> Option<Cluster> {
        self.cluster.borrow().clone()
    }

    /// What the resource said of itself at its last check.
    pub(crate) fn registration(&self, resource: &ResourceName) -> Option<Registration> {
        self.lock_registrations().get(resource).cloned()
    }

    pub(crate) fn lock_registrations(&self) -> MutexGuard<'_, BTreeMap<ResourceName, Registration>> {
        // The map is whole between statements.
        self.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks one resource.
pub(crate) async fn check(resource: &dyn DynResource) -> Result<Registration, String> {
    match timeout(CHECK_TIMEOUT, caught(resource.check())).await {
        Ok(Ok(Ok(registration))) => Ok(registration),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(panic)) => Err(format!("the check hook panicked: {panic}")),
        Err(_elapsed) => Err(String::from("it did not answer in time")),
    }
}

/// Keeps one stream open.
pub(crate) struct Session {
    /// Its number among the participant's coordinators; never used again for another address.
    pub(crate) place: usize,
    pub(crate) address: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) connect_timeout: Duration,
    pub(crate) resources: Arc<[Arc<dyn DynResource>]>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Clock,
    pub(crate) observer: Observer,
    /// Cancelled when this one shall end, alone or with the participant.
    pub(crate) stop: CancellationToken,
}

/// One open stream.
struct Stream {
    requests: mpsc::Sender<v1::AttachRequest>,
    responses: Streaming<v1::AttachResponse>,
    /// Messages that came with the Welcome.
    first: Vec<v1::CoordinatorMessage>,
    welcome: Welcome,
    /// Resources that did not pass their check, and are not part of this stream.
    left_out: Vec<Arc<dyn DynResource>>,
}

/// Why a stream is served no longer.
enum End {
    /// The participant stops.
    Stopped,
    /// A resource that was left out can take part now.
    Again,
    /// It broke.
    Broken(String),
}

impl Session {
    /// Attaches, serves, and attaches again, until the participant stops.
    pub(crate) async fn run(self) {
        let mut delays = reattach_delays();
        let mut said = None;
        loop {
            let opened = tokio::select! {
                () = self.stop.cancelled() => return,
                opened = self.open() => opened,
            };
            let problem = match opened {
                Ok(stream) => {
                    let since = Instant::now();
                    said = None;
                    let end = self.serve(stream).await;
                    // Two streams that end each other must not do so in a tight loop.
                    if since.elapsed() >= REATTACH_DELAY_MAX {
                        delays = reattach_delays();
                    }
                    match end {
                        End::Stopped => return,
                        End::Again => {
                            info!(
                                address = self.address,
                                "attaching again, with a resource that was left out"
                            );
                            continue;
                        }
                        End::Broken(problem) => problem,
                    }
                }
                Err(problem) => problem,
            };
            // Said once: a long outage is one piece of news.
            if said.as_ref() == Some(&problem) {
                debug!(address = self.address, problem, "still not attached to the coordinator");
            } else {
                warn!(address = self.address, problem, "not attached to the coordinator; trying again");
                said = Some(problem.clone());
            }
            self.note(SessionState::Detached { problem });
            let delay = delays.next().unwrap_or(REATTACH_DELAY_MAX);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(delay) => {}
            }
        }
    }

    fn note(&self, state: SessionState) {
        self.shared.sessions.send_modify(|sessions| {
            if let Some(status) = sessions.get_mut(&self.place) {
                status.state = state;
            }
        });
    }

    /// Keeps whom the coordinator names.
    fn told(&self, welcome: &Welcome) {
        self.shared.told.send_if_modified(|told| {
            let before = told.insert(self.place, welcome.members.clone());
            before.as_ref() != Some(&welcome.members)
        });
    }

    async fn open(&self) -> Result<Stream, String> {
        let checks = join_all(self.resources.iter().map(|resource| check(&**resource))).await;
        let mut passed = Vec::new();
        let mut left_out = Vec::new();
        let mut problem = String::new();
        for (resource, checked) in self.resources.iter().zip(checks) {
            match checked {
                Ok(registration) => {
                    self.shared.lock_registrations().insert(resource.name().clone(), registration.clone());
                    passed.push((resource.name(), registration));
                }
                Err(error) => {
                    warn!(resource = %resource.name(), error, "the resource cannot take part now");
                    problem = format!("resource {}: {error}", resource.name());
                    left_out.push(Arc::clone(resource));
                }
            }
        }
        if passed.is_empty() {
            return Err(problem);
        }
        let hello = wire::hello(self.shared.instance, passed.iter().map(|(name, passed)| (*name, passed)));
        match timeout(self.connect_timeout, self.attach(hello)).await {
            Ok(Ok(stream)) => Ok(Stream { left_out, ..stream }),
            Ok(Err(problem)) => Err(problem),
            Err(_elapsed) => Err(String::from("no answer within the connect timeout")),
        }
    }

    async fn attach(&self, hello: v1::ParticipantMessage) -> Result<Stream, String> {
        let channel = self.endpoint.connect().await.map_err(|error| chain(&error))?;
        let (requests, outgoing) = mpsc::channel(BATCHES_AHEAD);
        let hello = v1::AttachRequest { messages: vec![hello] };
        requests.try_send(hello).map_err(|error| error.to_string())?;
        let response = ParticipantsServiceClient::new(channel).attach(ReceiverStream::new(outgoing)).await;
        let mut responses = response.map_err(|status| chain(&status))?.into_inner();
        let first = responses.message().await.map_err(|status| chain(&status))?;
        let mut first = first.ok_or("the coordinator ended the stream at once")?.messages.into_iter();
        let welcome = first.next().ok_or("the stream did not open with a Welcome")?;
        // The session's number has no say in a Welcome.
        let welcome = match wire::read(welcome, SessionId(0), self.clock) {
            Ok(Incoming::Welcome(welcome)) => welcome,
            Ok(_) => return Err(String::from("the stream did not open with a Welcome")),
            Err(error) => return Err(error.to_string()),
        };
        self.agree(&welcome)?;
        Ok(Stream { requests, responses, first: first.collect(), welcome, left_out: Vec::new() })
    }

    /// All coordinators of one participant belong to one cluster: else a branch's name, which holds
    /// the cluster, would be another one for each of them.
    fn agree(&self, welcome: &Welcome) -> Result<(), String> {
        let mut other = None;
        self.shared.cluster.send_if_modified(|cluster| {
            let first = cluster.is_none();
            let known = cluster.get_or_insert_with(|| welcome.cluster.clone());
            other = (*known != welcome.cluster).then(|| known.clone());
            first
        });
        match other {
            Some(known) => {
                Err(format!("it belongs to cluster {}, and another coordinator to {known}", welcome.cluster))
            }
            None => Ok(()),
        }
    }

    async fn serve(&self, stream: Stream) -> End {
        let session = SessionId(self.shared.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        let Stream { requests, mut responses, first, welcome, left_out } = stream;
        info!(address = self.address, session = session.0, incarnation = ?welcome.incarnation, "attached to the coordinator");
        let (outbox, mut waiting) = mpsc::channel(OUTBOX_MAX);
        let attached = Input::Attached { session, place: self.place, welcome: welcome.clone(), outbox };
        if self.shared.inputs.send(attached).await.is_err() {
            return End::Stopped;
        }
        self.note(SessionState::Attached { incarnation: welcome.incarnation });
        self.told(&welcome);
        self.shared.attached.send_modify(|times| *times += 1);

        let mut end = self.take_in(session, first).await.err();
        let recheck = recheck(left_out);
        tokio::pin!(recheck);
        let mut batch: Vec<v1::ParticipantMessage> = Vec::new();
        let mut taken: Vec<Step> = Vec::new();
        let end = loop {
            if let Some(end) = end.take() {
                break end;
            }
            tokio::select! {
                () = self.stop.cancelled() => break End::Stopped,
                response = responses.message() => {
                    end = match response {
                        Ok(Some(response)) => self.take_in(session, response.messages).await.err(),
                        Ok(None) => Some(End::Broken(String::from("the coordinator ended the stream"))),
                        Err(status) => Some(End::Broken(chain(&status))),
                    };
                }
                count = waiting.recv_many(&mut batch, BATCH_MESSAGES_MAX), if batch.is_empty() => {
                    if count == 0 {
                        // The driver let go of its end: we read too slowly, or it has stopped.
                        let problem = String::from("more waits for the coordinator than it takes");
                        end = Some(if self.stop.is_cancelled() { End::Stopped } else { End::Broken(problem) });
                    }
                }
                permit = requests.reserve(), if !(batch.is_empty() && taken.is_empty()) => match permit {
                    Ok(permit) => {
                        // There is room again: the transport has taken what was handed over before.
                        self.tell_taken(&mut taken).await;
                        while batch.len() < BATCH_MESSAGES_MAX
                            && let Ok(message) = waiting.try_recv()
                        {
                            batch.push(message);
                        }
                        if !batch.is_empty() {
                            let messages = cut(&mut batch);
                            if self.observer.looks() {
                                taken = messages.iter().filter_map(step).collect();
                            }
                            permit.send(v1::AttachRequest { messages });
                        }
                    }
                    // The transport lets go of its end before the responses end; those say why.
                    Err(_closed) => {
                        let rest = timeout(CLOSE_WAIT, responses.message()).await;
                        end = Some(End::Broken(match rest {
                            Ok(Err(status)) => chain(&status),
                            _ => String::from("the stream was closed"),
                        }));
                    }
                },
                () = &mut recheck => break End::Again,
            }
        };
        if matches!(end, End::Stopped | End::Again) {
            self.close(requests, responses, waiting, batch).await;
        }
        self.shared.told.send_if_modified(|told| told.remove(&self.place).is_some());
        // Nothing of this stream comes after this, and the next one is not opened before.
        self.shared.inputs.send(Input::Detached { session }).await.ok();
        end
    }

    /// Tells an observer what the transport has taken. One that kills the process most likely wants
    /// the message out before, so the connection's task goes first.
    async fn tell_taken(&self, taken: &mut Vec<Step>) {
        const TURNS: usize = 16;
        if taken.is_empty() {
            return;
        }
        for _ in 0..TURNS {
            yield_now().await;
        }
        for step in taken.drain(..) {
            self.observer.see(&step);
        }
    }

    /// Hands a batch of messages to the driver.
    async fn take_in(&self, session: SessionId, messages: Vec<v1::CoordinatorMessage>) -> Result<(), End> {
        let mut read = Vec::with_capacity(messages.len());
        let mut broken = None;
        for message in messages {
            match wire::read(message, session, self.clock) {
                Ok(Incoming::Welcome(welcome)) => {
                    if let Err(problem) = self.agree(&welcome) {
                        broken = Some(End::Broken(problem));
                        break;
                    }
                    self.note(SessionState::Attached { incarnation: welcome.incarnation });
                    self.told(&welcome);
                    read.push(Incoming::Welcome(welcome));
                }
                Ok(incoming) => read.push(incoming),
                Err(error) => {
                    broken = Some(End::Broken(error.to_string()));
                    break;
                }
            }
        }
        if !read.is_empty() && self.shared.inputs.send(Input::Came { session, messages: read }).await.is_err()
        {
            return Err(End::Stopped);
        }
        broken.map_or(Ok(()), Err)
    }

    /// Sends what still waits, and ends the stream in good order.
    async fn close(
        &self,
        requests: mpsc::Sender<v1::AttachRequest>,
        mut responses: Streaming<v1::AttachResponse>,
        mut waiting: mpsc::Receiver<v1::ParticipantMessage>,
        mut batch: Vec<v1::ParticipantMessage>,
    ) {
        let closing = async {
            while let Ok(message) = waiting.try_recv() {
                batch.push(message);
            }
            while !batch.is_empty() {
                if requests.send(v1::AttachRequest { messages: cut(&mut batch) }).await.is_err() {
                    break;
                }
            }
            drop(requests);
            // What still comes is not served any more: the coordinator asks again elsewhere.
            while let Ok(Some(_)) = responses.message().await {}
        };
        if timeout(CLOSE_WAIT, closing).await.is_err() {
            debug!(address = self.address, "the coordinator did not end the stream in time");
        }
    }
}

/// Ends when one of them passes its check; never, if there are none.
async fn recheck(left_out: Vec<Arc<dyn DynResource>>) {
    if left_out.is_empty() {
        return std::future::pending().await;
    }
    loop {
        sleep(RECHECK_INTERVAL).await;
        let checks = join_all(left_out.iter().map(|resource| check(&**resource))).await;
        if checks.iter().any(Result::is_ok) {
            return;
        }
    }
}

fn reattach_delays() -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(REATTACH_DELAY_MIN)
        .with_max_delay(REATTACH_DELAY_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}
