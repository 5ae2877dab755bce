//! One attached participant: its stream's messages in, and its outbox.
//!
//! Frames are handled in the order in which they come, and each is handed on whole before the next
//! is read, so a participant that sends faster than the shards take feels it on its stream. It
//! may speak only for the resources that it registered and only as the instance that it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pactum_core::coordinator::Event;
use pactum_core::id::{Branch, Gid, InstanceId, ResourceName};
use pactum_proto::frames::Frame;
use pactum_proto::v1;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use crate::error::ServiceError;
use crate::examine::{Answer, Examiner};
use crate::lifecycle::Lifecycle;
use crate::metrics::{Metrics, Reject, Shed};
use crate::outbox::{BATCH_MESSAGES_MAX, NotTaken, Outbox};
use crate::registry::{Absence, Registry};
use crate::reply::ReplyTo;
use crate::service::wire::{self, FromParticipant, ToParticipant};
use crate::shard::{Input, Request, Shards};
use crate::tasks::Tasks;

/// One resource that a participant speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// What it is, so that a copy or a restored one is noticed.
    pub(crate) identity: String,
    /// Whether it keeps a marker table.
    pub(crate) marker: bool,
    /// Settings and versions that an operator may want to see.
    pub(crate) settings: BTreeMap<String, String>,
}

/// Who a participant says it is.
#[derive(Debug)]
pub(crate) struct Hello {
    pub(crate) instance: InstanceId,
    pub(crate) resources: BTreeMap<ResourceName, Registration>,
    pub(crate) version: String,
}

/// One attached participant.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) instance: InstanceId,
    pub(crate) resources: BTreeMap<ResourceName, Registration>,
    pub(crate) version: String,
    pub(crate) peer: String,
    pub(crate) attached_at: Instant,
    pub(crate) outbox: Outbox<ToParticipant>,
    /// By its own word it takes no new branches.
    draining: AtomicBool,
    pub(crate) metrics: Metrics,
    /// Ordered to end.
    ended: CancellationToken,
    /// Ended, off the list, and none of its frames is handled any more.
    pub(crate) gone: CancellationToken,
}

impl Session {
    /// Puts a message into the outbox; answers whether it was taken. If not, the participant is
    /// certain not to get it.
    pub(crate) fn send(&self, message: ToParticipant) -> bool {
        if self.outbox.push(message).is_ok() {
            return true;
        }
        self.metrics.outbox_rejected(Reject::Cut);
        self.ended.cancel();
        false
    }

    /// Puts a message into the outbox that was there before; answers whether it has been taken, then or now.
    /// While more than a batch waits, the one before is most likely among it: a stream loses nothing, and
    /// a participant that is behind would be told everything twice.
    pub(crate) fn repeat(&self, message: ToParticipant) -> bool {
        self.send_below(message, BATCH_MESSAGES_MAX) != Sent::No
    }

    /// Puts a message into the outbox unless so many wait there already.
    pub(crate) fn send_below(&self, message: ToParticipant, messages: usize) -> Sent {
        match self.outbox.push_below(message, messages) {
            Ok(()) => Sent::Yes,
            Err(NotTaken::Later) => Sent::Later,
            Err(NotTaken::Full | NotTaken::Closed) => {
                self.metrics.outbox_rejected(Reject::Cut);
                self.ended.cancel();
                Sent::No
            }
        }
    }

    /// Whether it has said that it takes no new branches.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Ends the stream, so.
    pub(crate) fn end(&self, error: ServiceError) {
        self.outbox.close(Some(error));
        self.ended.cancel();
    }
}

#[cfg(any(test, feature = "bench"))]
impl Session {
    /// One without a stream, for whoever reads its outbox himself.
    pub(crate) fn scripted(
        instance: InstanceId,
        resources: &[&ResourceName],
        outbox: Outbox<ToParticipant>,
    ) -> Arc<Self> {
        let registration = Registration { identity: String::new(), marker: false, settings: BTreeMap::new() };
        Arc::new(Self {
            instance,
            resources: resources.iter().map(|name| ((*name).clone(), registration.clone())).collect(),
            version: String::new(),
            peer: String::new(),
            attached_at: Instant::now(),
            outbox,
            metrics: Metrics::default(),
            draining: AtomicBool::new(false),
            ended: CancellationToken::new(),
            gone: CancellationToken::new(),
        })
    }

    /// It says whether it takes new branches.
    #[cfg(test)]
    pub(crate) fn says_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It will be sent, unless the stream ends.
    Yes,
    /// Not taken: too much is waiting.
    Later,
    /// The stream has ended.
    No,
}

/// What a session's task uses.
#[derive(Clone, Debug)]
pub(crate) struct SessionContext {
    pub(crate) shards: Arc<Shards>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) examiner: Examiner,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
    /// For the Hello to come.
    pub(crate) hello_timeout: Duration,
    /// See [`Config::participant_grace`](crate::Config::participant_grace).
    pub(crate) grace: Duration,
}

impl SessionContext {
    /// Serves one stream from its Hello to its end.
    pub(crate) async fn serve(
        self,
        mut inbound: Streaming<Frame>,
        outbox: Outbox<ToParticipant>,
        peer: String,
    ) {
        let (hello, rest) = match self.hello(&mut inbound).await {
            Ok(hello) => hello,
            Err(error) => {
                tracing::warn!(peer, %error, "a participant was turned away");
                outbox.close(Some(error));
                return;
            }
        };
        let session = Arc::new(Session {
            instance: hello.instance,
            resources: hello.resources,
            version: hello.version,
            peer,
            attached_at: Instant::now(),
            outbox,
            draining: AtomicBool::new(false),
            metrics: self.metrics.clone(),
            ended: CancellationToken::new(),
            gone: CancellationToken::new(),
        });
        // Also when this task is dropped or panics, nobody may wait for it for ever.
        let _detached = Detach { context: self.clone(), session: Arc::clone(&session) };
        let mut standing = self.lifecycle.subscribe();
        session.send(wire::welcome_participant(&standing.borrow_and_update()));
        if let Err(error) = self.registry.attach(&session).await {
            self.metrics.shed(Shed::Participants);
            tracing::warn!(peer = session.peer, %error, "a participant was turned away");
            session.end(error);
            return;
        }
        let resources: Vec<&str> = session.resources.keys().map(ResourceName::as_str).collect();
        tracing::info!(instance = %session.instance, peer = session.peer, ?resources, "participant attached");
        for resource in session.resources.keys() {
            let (resource, instance) = (resource.clone(), session.instance);
            self.shards.tell_all(&Event::InstanceAttached { resource, instance });
        }
        let error = self.converse(&session, &mut inbound, rest, &mut standing).await;
        match &error {
            Ok(()) => tracing::info!(instance = %session.instance, "participant left"),
            Err(error) => tracing::warn!(instance = %session.instance, %error, "participant's stream ended"),
        }
        session.outbox.close(error.err());
    }

    /// Reads the first request, which must open with a Hello.
    async fn hello(
        &self,
        inbound: &mut Streaming<Frame>,
    ) -> Result<(Hello, Vec<FromParticipant>), ServiceError> {
        let first = tokio::time::timeout(self.hello_timeout, inbound.message())
            .await
            .map_err(|_elapsed| ServiceError::malformed("messages", "no hello in time"))?
            .map_err(|status| ServiceError::from_stream(&status))?
            .ok_or_else(|| ServiceError::malformed("messages", "the stream ended before a hello"))?;
        let first = v1::AttachRequest::decode(first.0)
            .map_err(|error| ServiceError::Broken { why: error.to_string() })?;
        let mut messages = first.messages.into_iter();
        let hello = match messages.next().and_then(|first| first.message) {
            Some(v1::participant_message::Message::Hello(hello)) => wire::hello(hello)?,
            _ => return Err(ServiceError::malformed("messages", "the first message must be a hello")),
        };
        let rest = messages.map(wire::from_participant).collect::<Result<_, _>>()?;
        Ok((hello, rest))
    }

    /// Handles frames until one side ends.
    async fn converse(
        &self,
        session: &Arc<Session>,
        inbound: &mut Streaming<Frame>,
        rest: Vec<FromParticipant>,
        standing: &mut tokio::sync::watch::Receiver<crate::lifecycle::Standing>,
    ) -> Result<(), ServiceError> {
        self.hand_on(session, rest).await?;
        loop {
            tokio::select! {
                biased;
                () = session.ended.cancelled() => return Ok(()),
                Ok(()) = standing.changed() => {
                    session.send(wire::welcome_participant(&standing.borrow_and_update()));
                }
                frame = inbound.message() => match frame {
                    Ok(Some(frame)) => {
                        let messages = wire::participant_messages(&frame.0)?;
                        self.hand_on(session, messages).await?;
                    }
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(ServiceError::from_stream(&status)),
                },
            }
        }
    }

    /// Hands on what one frame held, whole, or none of it if a part is not this participant's to say.
    async fn hand_on(
        &self,
        session: &Arc<Session>,
        messages: Vec<FromParticipant>,
    ) -> Result<(), ServiceError> {
        let mut inputs = Vec::with_capacity(messages.len());
        let mut notices = Vec::new();
        for message in messages {
            match self.handed_on(session, message)? {
                HandedOn::Input(gid, input) => inputs.push((gid, input)),
                HandedOn::Notice(notice) => notices.push(notice),
            }
        }
        for notice in notices {
            self.noticed(session, notice);
        }
        // A stream that was ended while its frame waits for room is not waited for.
        tokio::select! {
            () = self.shards.send_all(inputs) => {}
            () = session.ended.cancelled() => {}
        }
        Ok(())
    }

    /// What the session itself takes in.
    fn noticed(&self, session: &Arc<Session>, notice: Notice) {
        match notice {
            Notice::Answer { call_id, answer } => {
                if !self.examiner.answered(session, call_id, answer) {
                    tracing::debug!(instance = %session.instance, call_id, "an answer that nobody waits for");
                }
            }
            Notice::Draining(draining) => {
                if session.draining.swap(draining, Ordering::Relaxed) != draining {
                    tracing::info!(instance = %session.instance, draining, "participant drains or resumes");
                }
            }
        }
    }

    fn handed_on(&self, session: &Session, message: FromParticipant) -> Result<HandedOn, ServiceError> {
        let (gid, input) = match message {
            FromParticipant::Fact(gid, event) => {
                if let Event::VoteReceived { branch, .. } = &event {
                    speaks_as_itself(session, branch)?;
                } else if let Event::BranchFinished { branch, .. }
                | Event::BranchFailed { branch, .. }
                | Event::RegisterAnswered { branch, .. } = &event
                {
                    // Phase 2 and the register may be served by another instance than the branch's own.
                    speaks_for(session, branch)?;
                }
                (gid, Input::Event(event))
            }
            FromParticipant::Enlist { call_id, id, branch, time_left } => {
                let registration = speaks_as_itself(session, &branch)?;
                if registration.marker != branch.marker {
                    return Err(ServiceError::malformed("enlist.branch.marker", "it is not as registered"));
                }
                let request = self.shards.draw_request();
                let to = ReplyTo::Enlist { call_id, outbox: session.outbox.clone() };
                let event = Event::EnlistRequested { id, branch, time_left, request };
                (id.gid, Input::Request(Request { gid: id.gid, starts: true, event, name: request, to }))
            }
            FromParticipant::Inquiry { id, branch, evidence } => {
                if !session.resources.contains_key(&branch.resource) {
                    return Err(ServiceError::malformed("inquiry.branch.resource", "it was not registered"));
                }
                let request = self.shards.draw_request();
                let to = ReplyTo::Inquiry { id, branch: branch.id, outbox: session.outbox.clone() };
                let event = Event::InquiryReceived { id, branch, evidence, request };
                (id.gid, Input::Request(Request { gid: id.gid, starts: false, event, name: request, to }))
            }
            FromParticipant::Answer { call_id, answer } => {
                if let Answer::Examined(examined) = &answer
                    && !session.resources.contains_key(&examined.resource)
                {
                    return Err(ServiceError::malformed("examined.resource", "it was not registered"));
                }
                return Ok(HandedOn::Notice(Notice::Answer { call_id, answer }));
            }
            FromParticipant::Draining(draining) => {
                return Ok(HandedOn::Notice(Notice::Draining(draining)));
            }
        };
        Ok(HandedOn::Input(gid, input))
    }
}

/// Where a message of a participant goes.
enum HandedOn {
    /// To the shard of that gid.
    Input(Gid, Input),
    /// No further.
    Notice(Notice),
}

/// What a session itself takes in.
enum Notice {
    /// To a question or an order of an operator.
    Answer { call_id: u64, answer: Answer },
    /// Whether the participant takes new branches.
    Draining(bool),
}

/// A branch is enlisted and voted for by its own instance, for a resource that this registered.
fn speaks_as_itself<'a>(session: &'a Session, branch: &Branch) -> Result<&'a Registration, ServiceError> {
    if branch.instance != session.instance {
        return Err(ServiceError::malformed("branch.instance", "it is not the stream's own"));
    }
    speaks_for(session, branch)
}

/// Only for resources that were registered on this stream (G6).
fn speaks_for<'a>(session: &'a Session, branch: &Branch) -> Result<&'a Registration, ServiceError> {
    let registration = session.resources.get(&branch.resource);
    registration
        .ok_or_else(|| ServiceError::malformed("branch.resource", "it was not registered on this stream"))
}

/// Takes a session off the list when its task ends, however it ends.
struct Detach {
    context: SessionContext,
    session: Arc<Session>,
}

impl Drop for Detach {
    fn drop(&mut self) {
        self.session.outbox.close(None);
        let SessionContext { shards, registry, tasks, grace, .. } = &self.context;
        // Without a runtime all ends, and nobody is left to be told.
        if let Some(absence) = registry.detach(&self.session)
            && tokio::runtime::Handle::try_current().is_ok()
        {
            let lost = Lost {
                shards: Arc::clone(shards),
                registry: Arc::clone(registry),
                session: Arc::clone(&self.session),
                grace: *grace,
            };
            tasks.spawn(lost.unless_back(absence));
        }
    }
}

/// An instance whose stream has ended.
struct Lost {
    shards: Arc<Shards>,
    registry: Arc<Registry>,
    session: Arc<Session>,
    grace: Duration,
}

impl Lost {
    /// Tells the shards that it is gone, if it does not come back soon: whoever waits for its votes
    /// waits in vain.
    async fn unless_back(self, absence: Absence) {
        tokio::time::sleep(self.grace).await;
        let instance = self.session.instance;
        if self.registry.is_back(instance, absence) {
            return;
        }
        tracing::info!(%instance, "a participant has gone and not come back");
        for resource in self.session.resources.keys() {
            self.shards.tell_all(&Event::InstanceLost { resource: resource.clone(), instance });
        }
    }
}
