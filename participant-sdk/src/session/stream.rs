//! One open stream to one coordinator: opened, served, and closed.
//!
//! What it keeps: the first message says who we are; nothing that is read passes the driver by; a
//! reader that is too slow ends its stream rather than memory. It does not know whether the stream is
//! opened again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pactum_core::id::{Incarnation, ResourceName};
use pactum_core::participant::SessionId;
use pactum_proto::error::{ErrorCode, ErrorFacts};
use pactum_proto::frames::Frame;
use pactum_proto::frames::participants_service_client::ParticipantsServiceClient;
use pactum_proto::v1;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{debug, info};

use super::Input;
use super::attachment::Attachment;
use super::batch::{BATCH_MESSAGES_MAX, Outgoing, cut, frame};
use super::checks::recheck;
use super::hooks::DynResource;
use super::wire::{self, Clock, Incoming, Malformed, Welcome};
use crate::application::endpoint::{Target, chain};
use crate::observe::Step;
use crate::participant::SessionState;
use crate::resource::Registration;

/// Messages that wait for one stream. Beyond it the coordinator reads too slowly: the stream is
/// ended, what waited is dropped, and the protocol asks again, as after any lost message.
const OUTBOX_MAX: usize = 16_384;

/// Batches handed to the transport and not yet taken by it. One keeps it busy, and what comes
/// meanwhile becomes part of a larger batch.
const BATCHES_AHEAD: usize = 1;

/// When we end a stream, the coordinator gets this long to end its side.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// One open stream.
pub(super) struct Stream {
    session: SessionId,
    requests: mpsc::Sender<Frame>,
    responses: Streaming<Frame>,
    /// Messages that came with the Welcome.
    first: Vec<Result<Incoming, Malformed>>,
    pub(super) welcome: Welcome,
}

/// Why a stream is served no longer, or was not to be had.
pub(super) enum End {
    /// The participant stops.
    Stopped,
    /// A resource that was left out can take part now.
    Again(ResourceName, Registration),
    /// It broke.
    Broken(String),
    /// Another stream of ours to the same coordinator took its place.
    Superseded(String),
}

impl From<tonic::Status> for End {
    fn from(status: tonic::Status) -> Self {
        let problem = chain(&status);
        if ErrorFacts::from_status(&status).known() == Some(ErrorCode::StreamSuperseded) {
            return Self::Superseded(problem);
        }
        Self::Broken(problem)
    }
}

fn broken(problem: impl Into<String>) -> End {
    End::Broken(problem.into())
}

impl Stream {
    /// Opens one, says who we are, and waits for the Welcome.
    pub(super) async fn open(
        target: &Target,
        hello: v1::ParticipantMessage,
        session: SessionId,
        clock: Clock,
    ) -> Result<Self, End> {
        let channel = target.connect().await.map_err(|error| broken(chain(&error)))?;
        let (requests, outgoing) = mpsc::channel(BATCHES_AHEAD);
        let hello = v1::AttachRequest { messages: vec![hello] }.encode_to_vec();
        requests.try_send(hello.into()).map_err(|error| broken(error.to_string()))?;
        let response = ParticipantsServiceClient::new(channel).attach(ReceiverStream::new(outgoing)).await;
        let mut responses = response?.into_inner();
        let first = responses.message().await?;
        let first = first.ok_or_else(|| broken("the coordinator ended the stream at once"))?;
        let no_welcome = || broken("the stream did not open with a Welcome");
        let mut first = wire::frame(&first.0, session, clock.now());
        let welcome = match first.next().ok_or_else(no_welcome)? {
            Ok(Incoming::Welcome(welcome)) => welcome,
            Ok(_) => return Err(no_welcome()),
            Err(error) => return Err(broken(error.to_string())),
        };
        let first = first.collect();
        Ok(Self { session, requests, responses, first, welcome })
    }
}

impl Attachment {
    /// Serves one stream to its end. `led_to` is kept at whom it led to last.
    pub(super) async fn serve(
        &self,
        stream: Stream,
        left_out: Vec<Arc<dyn DynResource>>,
        led_to: &mut Option<Incarnation>,
    ) -> End {
        let Stream { session, requests, mut responses, first, welcome } = stream;
        info!(address = self.address, session = session.0, incarnation = ?welcome.incarnation, "attached to the coordinator");
        let (outbox, mut waiting) = mpsc::channel(OUTBOX_MAX);
        let attached = Input::Attached { session, place: self.place, welcome: welcome.clone(), outbox };
        if self.shared.inputs.send(attached).await.is_err() {
            return End::Stopped;
        }
        *led_to = welcome.incarnation.or(*led_to);
        self.note(SessionState::Attached { incarnation: welcome.incarnation });
        self.told(&welcome);
        self.shared.attached.send_modify(|times| *times += 1);

        let mut end = self.take_in(session, first, led_to).await.err();
        let recheck = recheck(left_out);
        tokio::pin!(recheck);
        let mut stopped = pin!(self.stop.cancelled());
        let mut batch: Vec<Outgoing> = Vec::new();
        let mut taken: Vec<Step> = Vec::new();
        let end = loop {
            if let Some(end) = end.take() {
                break end;
            }
            tokio::select! {
                () = &mut stopped => break End::Stopped,
                response = responses.message() => {
                    end = match response {
                        Ok(Some(response)) => {
                            let messages = wire::frame(&response.0, session, self.clock.now()).collect();
                            self.take_in(session, messages, led_to).await.err()
                        }
                        Ok(None) => Some(broken("the coordinator ended the stream")),
                        Err(status) => Some(status.into()),
                    };
                }
                count = waiting.recv_many(&mut batch, BATCH_MESSAGES_MAX), if batch.is_empty() => {
                    if count == 0 {
                        // The driver let go of its end: we read too slowly, or it has stopped.
                        let slow = || broken("more waits for the coordinator than it takes");
                        end = Some(if self.stop.is_cancelled() { End::Stopped } else { slow() });
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
                                taken = messages.iter().filter_map(|message| message.step.clone()).collect();
                            }
                            permit.send(frame(&messages));
                        }
                    }
                    // The transport lets go of its end before the responses end; those say why.
                    Err(_closed) => {
                        let rest = timeout(CLOSE_WAIT, responses.message()).await;
                        end = Some(match rest {
                            Ok(Err(status)) => status.into(),
                            _ => broken("the stream was closed"),
                        });
                    }
                },
                (name, registration) = &mut recheck => break End::Again(name, registration),
            }
        };
        if matches!(end, End::Stopped | End::Again(..)) {
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
    async fn take_in(
        &self,
        session: SessionId,
        messages: Vec<Result<Incoming, Malformed>>,
        led_to: &mut Option<Incarnation>,
    ) -> Result<(), End> {
        let mut read = Vec::with_capacity(messages.len());
        let mut broken = None;
        for message in messages {
            match message {
                Ok(Incoming::Welcome(welcome)) => {
                    if let Err(problem) = self.agree(&welcome) {
                        broken = Some(End::Broken(problem));
                        break;
                    }
                    *led_to = welcome.incarnation.or(*led_to);
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
        requests: mpsc::Sender<Frame>,
        mut responses: Streaming<Frame>,
        mut waiting: mpsc::Receiver<Outgoing>,
        mut batch: Vec<Outgoing>,
    ) {
        let closing = async {
            while let Ok(message) = waiting.try_recv() {
                batch.push(message);
            }
            while !batch.is_empty() {
                if requests.send(frame(&cut(&mut batch))).await.is_err() {
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
