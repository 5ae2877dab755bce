//! One multiplexed stream to one coordinator: many calls in flight, batched both ways.
//!
//! ```text
//!  callers ──queue──▶ task ──PipelineRequest: everything that waits──▶ coordinator
//!     ▲                │  ◀── PipelineResponse: answers, Welcome ──
//!     └── one answer ──┘  reconnects with back-off; the state says up (with the Welcome) or down
//! ```
//!
//! Invariant: a call is answered [`Answer::NotSent`] only if no byte of it was ever given to a
//! stream; one that was given and got no answer is [`Answer::Lost`], which is neither success nor
//! failure (law 5). The ticket decides between a caller that gives up and the task that is about to
//! send: exactly one of the two wins.
//!
//! This file does not know what a call means, nor whether to repeat it.

mod batch;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use backon::BackoffBuilder as _;
use pactum_core::id::{Cluster, Gid, Incarnation};
use pactum_proto::v1;
use pactum_proto::v1::pipeline_answer::Answer as WireAnswer;
use pactum_proto::v1::pipeline_call::Call;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{debug, info, warn};

use self::batch::{BATCH_CALLS_MAX, cut};
use super::claims::{Claim, Claims};
use super::endpoint::{Target, chain};
use crate::members::{self, Member};

/// Calls that wait for the task. A full queue holds callers back, each up to its own deadline.
const QUEUE_MAX: usize = 4096;

/// Messages handed to the transport and not yet taken by it. One is enough to keep it busy, and what
/// cannot be sent yet waits in the queue, where it becomes part of a larger batch.
const OUTBOX_MAX: usize = 1;

/// Calls without an answer on one stream. Beyond it no more are sent until answers come.
const IN_FLIGHT_MAX: usize = 65_536;

/// The largest response that is read: 1024 answers that list 64 unfinished branches each.
const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// Reconnecting waits at least and at most this long; jitter keeps a herd apart.
const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(50);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(3);

/// After the last handle is gone, the coordinator gets this long to end its side.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// What a coordinator said of itself.
#[derive(Clone, Debug)]
pub(super) struct Welcome {
    pub(super) cluster: Cluster,
    /// `None` while it takes no new transactions.
    pub(super) incarnation: Option<Incarnation>,
    pub(super) floor: Gid,
    /// Whom it knows to live, itself included.
    pub(super) members: Vec<Member>,
}

/// Whether a stream can be used.
#[derive(Clone, Debug)]
pub(super) enum State {
    Down { problem: Arc<str> },
    Up(Welcome),
}

/// What became of one call.
#[derive(Debug)]
pub(super) enum Answer {
    /// What the coordinator knows.
    Outcome(v1::Outcome),
    /// The coordinator's error.
    Error(v1::CallError),
    /// Nothing of it was ever sent, nor will be.
    NotSent { problem: Arc<str> },
    /// It was sent, or may have been, and no answer came.
    Lost { problem: Arc<str> },
}

/// A handle to the task. The task ends when the last handle is gone.
#[derive(Debug)]
pub(super) struct Pipeline {
    address: String,
    /// Named by another coordinator, not given.
    learned: bool,
    queue: mpsc::Sender<Queued>,
    state: watch::Receiver<State>,
}

#[derive(Debug)]
struct Queued {
    call: Call,
    ticket: Arc<Ticket>,
    /// `None` if nobody waits.
    answer: Option<oneshot::Sender<Answer>>,
}

/// Decides once whether a call is sent.
#[derive(Debug, Default)]
struct Ticket(AtomicU8);

impl Ticket {
    const WAITING: u8 = 0;
    const SENT: u8 = 1;
    const WITHDRAWN: u8 = 2;

    fn take(&self, to: u8) -> bool {
        self.0.compare_exchange(Self::WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Pipeline {
    /// Starts the task. `changes` is counted up whenever the state changes. An address that was given
    /// comes with the claims of all of them; one that another coordinator named, without.
    pub(super) fn start(
        address: String,
        target: Target,
        connect_timeout: Duration,
        changes: watch::Sender<u64>,
        claims: Option<Claims>,
    ) -> Self {
        let (queue, calls) = mpsc::channel(QUEUE_MAX);
        let (state_sender, state) = watch::channel(State::Down { problem: "not connected yet".into() });
        let learned = claims.is_none();
        let task = Task {
            address: address.clone(),
            target,
            connect_timeout,
            calls,
            state: state_sender,
            changes,
            claims,
            claim: None,
        };
        tokio::spawn(task.run());
        Self { address, learned, queue, state }
    }

    pub(super) fn is_learned(&self) -> bool {
        self.learned
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Whether calls can be sent.
    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// Whether calls can be sent, and transactions of this incarnation are owned there.
    pub(super) fn owns(&self, incarnation: Incarnation) -> bool {
        match &*self.state.borrow() {
            State::Up(welcome) => welcome.incarnation == Some(incarnation),
            State::Down { .. } => false,
        }
    }

    /// The incarnation that new transactions belong to here, and the floor that their gids must lie
    /// above; `None` if none can be begun now.
    pub(super) fn takes_new(&self) -> Option<(Incarnation, Gid)> {
        match &*self.state.borrow() {
            State::Up(welcome) => Some((welcome.incarnation?, welcome.floor)),
            State::Down { .. } => None,
        }
    }

    /// Sends one call and waits for its answer until then.
    pub(super) async fn call(&self, call: Call, until: Instant) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let queued = Queued { call, ticket: Arc::clone(&ticket), answer: Some(answer) };
        let ended = || Answer::NotSent { problem: "the stream's task has ended".into() };
        match self.queue.try_send(queued) {
            Ok(()) => {}
            // Only who has to wait for room needs an alarm.
            Err(TrySendError::Full(queued)) => match timeout_at(until, self.queue.send(queued)).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return ended(),
                Err(_elapsed) => return Answer::NotSent { problem: "too many calls are waiting".into() },
            },
            Err(TrySendError::Closed(_)) => return ended(),
        }
        let problem: Arc<str> = match timeout_at(until, answered).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(_dropped)) => "the stream's task has ended".into(),
            Err(_elapsed) => "no answer came in time".into(),
        };
        if ticket.take(Ticket::WITHDRAWN) { Answer::NotSent { problem } } else { Answer::Lost { problem } }
    }

    /// Sends one call if there is room, and nobody waits for its answer.
    pub(super) fn send_and_forget(&self, call: Call) {
        let queued = Queued { call, ticket: Arc::default(), answer: None };
        if self.queue.try_send(queued).is_err() {
            debug!(address = self.address, "a call that nobody waits for was dropped");
        }
    }
}

/// Owns the connection.
struct Task {
    address: String,
    target: Target,
    connect_timeout: Duration,
    calls: mpsc::Receiver<Queued>,
    state: watch::Sender<State>,
    changes: watch::Sender<u64>,
    /// What all given addresses lead to; `None` for a learned one.
    claims: Option<Claims>,
    /// What this one leads to, while its stream is open.
    claim: Option<Claim>,
}

/// One open stream.
struct Open {
    outbox: mpsc::Sender<v1::PipelineRequest>,
    responses: Streaming<v1::PipelineResponse>,
    in_flight: HashMap<u64, oneshot::Sender<Answer>>,
    next_call_id: u64,
}

/// Why a stream is served no longer.
enum End {
    /// Nobody holds a handle any more.
    Closed,
    /// It broke.
    Broken(String),
    /// Another given address leads to the same coordinator.
    Double(Incarnation),
}

impl Task {
    async fn run(mut self) {
        let mut delays = reconnect_delays();
        loop {
            let opening = open(self.target.clone());
            let opened = timeout(self.connect_timeout, opening);
            let problem = match self.meanwhile(opened).await {
                None => return,
                Some(Ok(Ok((open, welcome)))) => {
                    info!(address = self.address, "connected to the coordinator");
                    delays = reconnect_delays();
                    let end = match self.welcomed(welcome) {
                        Ok(()) => self.serve(open).await,
                        Err(end) => end,
                    };
                    self.claim = None;
                    match end {
                        End::Closed => return,
                        End::Broken(problem) => problem,
                        End::Double(incarnation) => match self.wait_in_reserve(incarnation).await {
                            None => return,
                            Some(()) => continue,
                        },
                    }
                }
                Some(Ok(Err(problem))) => problem,
                Some(Err(_elapsed)) => String::from("no answer within the connect timeout"),
            };
            warn!(address = self.address, problem, "not connected to the coordinator; trying again");
            self.set(State::Down { problem: problem.into() });
            let delay = delays.next().unwrap_or(RECONNECT_DELAY_MAX);
            if self.meanwhile(sleep(delay)).await.is_none() {
                return;
            }
        }
    }

    /// Takes a Welcome in, if no other given address leads to that coordinator.
    fn welcomed(&mut self, welcome: Welcome) -> Result<(), End> {
        if let (Some(claims), Some(incarnation)) = (&self.claims, welcome.incarnation)
            && self.claim.as_ref().is_none_or(|claim| claim.incarnation != incarnation)
        {
            // Lets go of the one before.
            self.claim = None;
            self.claim = Some(claims.take(incarnation).ok_or(End::Double(incarnation))?);
        }
        self.set(State::Up(welcome));
        Ok(())
    }

    /// Waits until the other address has lost its stream. `None` if nobody holds a handle any more.
    async fn wait_in_reserve(&mut self, incarnation: Incarnation) -> Option<()> {
        info!(address = self.address, "the address leads to a coordinator that is connected by another");
        self.set(State::Down { problem: "another address leads to the same coordinator".into() });
        let claims = self.claims.clone()?;
        self.meanwhile(claims.free(incarnation)).await
    }

    fn set(&self, state: State) {
        self.state.send_replace(state);
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Waits for something while there is no stream; calls that come are turned away at once, since
    /// another coordinator may be able to answer them. `None` if nobody holds a handle any more.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                queued = self.calls.recv() => {
                    let problem: Arc<str> = match &*self.state.borrow() {
                        State::Down { problem } => Arc::clone(problem),
                        State::Up(_) => "not connected".into(),
                    };
                    if let Some(waiter) = queued?.answer {
                        // A caller that has gone needs no answer.
                        waiter.send(Answer::NotSent { problem }).ok();
                    }
                }
            }
        }
    }

    async fn serve(&mut self, mut open: Open) -> End {
        let mut batch: Vec<Queued> = Vec::new();
        let end = loop {
            let room = open.in_flight.len() < IN_FLIGHT_MAX;
            tokio::select! {
                response = open.responses.message() => match response {
                    Ok(Some(response)) => {
                        if let Err(end) = self.take_in(response, &mut open.in_flight) {
                            break end;
                        }
                    }
                    Ok(None) => break End::Broken(String::from("the coordinator ended the stream")),
                    Err(status) => break End::Broken(status_text(&status)),
                },
                taken = self.calls.recv_many(&mut batch, BATCH_CALLS_MAX), if batch.is_empty() && room => {
                    if taken == 0 {
                        break End::Closed;
                    }
                }
                permit = open.outbox.reserve(), if !batch.is_empty() => match permit {
                    Ok(permit) => {
                        while batch.len() < BATCH_CALLS_MAX
                            && let Ok(queued) = self.calls.try_recv()
                        {
                            batch.push(queued);
                        }
                        let calls = cut(&mut batch, &mut open.in_flight, &mut open.next_call_id);
                        if !calls.is_empty() {
                            permit.send(v1::PipelineRequest { calls });
                        }
                    }
                    // The transport lets go of its end before the responses end; those say why.
                    Err(_closed) => {
                        let rest = timeout(CLOSE_WAIT, open.responses.message()).await;
                        break End::Broken(match rest {
                            Ok(Err(status)) => status_text(&status),
                            _ => String::from("the stream was closed"),
                        });
                    }
                },
            }
            if open.in_flight.len() >= IN_FLIGHT_MAX {
                // Callers that gave up need no room.
                open.in_flight.retain(|_, waiter| !waiter.is_closed());
            }
        };
        let Open { outbox, mut responses, in_flight, .. } = open;
        // Ends our side of the stream, after what was handed over has gone out.
        drop(outbox);
        match &end {
            End::Closed => {
                let drained =
                    timeout(CLOSE_WAIT, async { while let Ok(Some(_)) = responses.message().await {} });
                if drained.await.is_err() {
                    debug!(address = self.address, "the coordinator did not end the stream in time");
                }
            }
            End::Broken(_) | End::Double(_) => {
                let problem: Arc<str> = match &end {
                    End::Broken(problem) => problem.as_str().into(),
                    End::Double(_) | End::Closed => "the stream was given up for another".into(),
                };
                for waiter in in_flight.into_values() {
                    waiter.send(Answer::Lost { problem: Arc::clone(&problem) }).ok();
                }
                for queued in batch {
                    if let Some(waiter) = queued.answer {
                        waiter.send(Answer::NotSent { problem: Arc::clone(&problem) }).ok();
                    }
                }
            }
        }
        end
    }

    fn take_in(
        &mut self,
        response: v1::PipelineResponse,
        in_flight: &mut HashMap<u64, oneshot::Sender<Answer>>,
    ) -> Result<(), End> {
        for answer in response.answers {
            let Some(waiter) = in_flight.remove(&answer.call_id) else {
                continue;
            };
            // A caller that has gone needs no answer.
            waiter
                .send(match answer.answer {
                    Some(WireAnswer::Outcome(outcome)) => Answer::Outcome(outcome),
                    Some(WireAnswer::Error(error)) => Answer::Error(error),
                    None => Answer::Lost { problem: "an answer came without content".into() },
                })
                .ok();
        }
        if let Some(welcome) = response.welcome {
            self.welcomed(read_welcome(&welcome).map_err(End::Broken)?)?;
        }
        Ok(())
    }
}

async fn open(target: Target) -> Result<(Open, Welcome), String> {
    let channel = target.connect().await.map_err(|error| chain(&error))?;
    let mut client = TransactionsServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let (outbox, requests) = mpsc::channel(OUTBOX_MAX);
    let response = client.pipeline(ReceiverStream::new(requests)).await;
    let mut responses = response.map_err(|status| status_text(&status))?.into_inner();
    let first = responses.message().await.map_err(|status| status_text(&status))?;
    let welcome = first.and_then(|first| first.welcome);
    let welcome = welcome.ok_or("the stream did not open with a Welcome")?;
    let welcome = read_welcome(&welcome)?;
    let open = Open { outbox, responses, in_flight: HashMap::new(), next_call_id: 1 };
    Ok((open, welcome))
}

fn read_welcome(welcome: &v1::Welcome) -> Result<Welcome, String> {
    let malformed = |error| format!("the Welcome is malformed: {error}");
    Ok(Welcome {
        cluster: Cluster::new(&welcome.cluster).map_err(malformed)?,
        incarnation: if welcome.incarnation.is_empty() {
            None
        } else {
            Some(Incarnation::from_slice(&welcome.incarnation).map_err(malformed)?)
        },
        floor: Gid::from_slice(&welcome.floor).map_err(malformed)?,
        members: members::read(welcome),
    })
}

fn status_text(status: &tonic::Status) -> String {
    chain(status)
}

fn reconnect_delays() -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(RECONNECT_DELAY_MIN)
        .with_max_delay(RECONNECT_DELAY_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}
