//! Between the wire and the core: what a request means as an event, and (in [`answers`]) an
//! answer or an order as a message.
//!
//! Single values are converted, and their limits checked, by `pactum_proto::convert`; here they
//! are put together. What operators ask of participants stands in [`examined`]. Nothing here knows a
//! state.

mod answers;
mod examined;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pactum_core::coordinator::{Event, Operation, RequestId, SubmittedBranch, Wait};
use pactum_core::id::{Branch, BranchId, Gid, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::Details;
use pactum_core::vote::{AbortKind, AbortReason, Evidence};
use pactum_proto::frames::read::{self, OperationFields, SubmitFields};
use pactum_proto::frames::{Frame, write};
use pactum_proto::limits::{BATCH_MESSAGES_MAX, PAYLOAD_BYTES_MAX, PAYLOADS_BYTES_MAX};
use pactum_proto::v1;
use pactum_proto::v1::participant_message::Message as FromParticipantMessage;
use pactum_proto::v1::pipeline_call::Call as PipelineCall;
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;

pub(crate) use answers::{
    abort, begun, commit, enlist_answer, inquiry_answer, known, member, outcome, past_step, pipeline_answer,
    prepare, replication, settle, welcome, welcome_participant,
};
pub(crate) use examined::{examine, examine_prepared, overrule, question, set_draining};

use crate::error::ServiceError;
use crate::examine::Answer;
use crate::outbox::Measured;
use crate::session::{Hello, Registration};

/// Limits and defaults that are this coordinator's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) timeout_default: Duration,
    pub(crate) timeout_max: Duration,
    pub(crate) branches_max: usize,
}

// ---- streams' messages ---------------------------------------------------------------------------

/// A message to a participant: an encoded `CoordinatorMessage`. It is encoded by the shard that has all of it
/// at hand; who serves the stream only puts what waits into one frame.
#[derive(Debug)]
pub(crate) struct ToParticipant(Vec<u8>);

impl From<v1::CoordinatorMessage> for ToParticipant {
    fn from(message: v1::CoordinatorMessage) -> Self {
        Self(message.encode_to_vec())
    }
}

impl Measured for ToParticipant {
    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// All of a batch in one `AttachResponse`.
pub(crate) fn to_participant(batch: &[ToParticipant]) -> Frame {
    let mut frame = Vec::with_capacity(batch.iter().map(|message| message.0.len() + 4).sum());
    for message in batch {
        write::entry(&mut frame, 1, &message.0);
    }
    frame.into()
}

/// A message to an application, encoded; an answer holds its call's permit until it is read.
#[derive(Debug)]
pub(crate) enum ToApplication {
    /// A `Welcome`.
    Welcome(Vec<u8>),
    /// A `PipelineAnswer`.
    Answer(Vec<u8>, OwnedSemaphorePermit),
}

impl Measured for ToApplication {
    fn bytes(&self) -> usize {
        let (Self::Welcome(encoded) | Self::Answer(encoded, _)) = self;
        encoded.len()
    }
}

/// All of a batch in one `PipelineResponse`. Of several Welcomes the last one stands.
pub(crate) fn to_application(batch: &[ToApplication]) -> Frame {
    let mut frame = Vec::with_capacity(batch.iter().map(|message| message.bytes() + 4).sum());
    let mut welcomes = batch.iter().filter_map(|message| match message {
        ToApplication::Welcome(welcome) => Some(welcome),
        ToApplication::Answer(..) => None,
    });
    if let Some(welcome) = welcomes.next_back() {
        write::entry(&mut frame, 1, welcome);
    }
    for message in batch {
        if let ToApplication::Answer(answer, _permit) = message {
            write::entry(&mut frame, 2, answer);
        }
    }
    frame.into()
}

#[cfg(test)]
impl ToParticipant {
    /// What the participant reads.
    pub(crate) fn decoded(&self) -> v1::CoordinatorMessage {
        v1::CoordinatorMessage::decode(self.0.as_slice()).expect("what was encoded is decoded")
    }
}

/// A message from a participant.
#[derive(Debug)]
pub(crate) enum FromParticipant {
    /// Needs no answer.
    Fact(Gid, Event),
    Enlist {
        call_id: u64,
        id: TransactionId,
        branch: Branch,
        time_left: Duration,
    },
    Inquiry {
        id: TransactionId,
        branch: Branch,
        evidence: Evidence,
    },
    /// To a question or an order of an operator.
    Answer {
        call_id: u64,
        answer: Answer,
    },
    /// Whether it takes new branches.
    Draining(bool),
}

// ---- from the wire -------------------------------------------------------------------------------

fn need<T>(field: &str, value: Option<T>) -> Result<T, ServiceError> {
    value.ok_or_else(|| ServiceError::malformed(field, "it is missing"))
}

fn id(given: Option<v1::TransactionId>) -> Result<TransactionId, ServiceError> {
    Ok(TransactionId::try_from(need("id", given)?)?)
}

fn branch(given: Option<v1::Branch>) -> Result<Branch, ServiceError> {
    Ok(Branch::try_from(need("branch", given)?)?)
}

fn details(given: Option<v1::Details>) -> Result<Details, ServiceError> {
    given.map_or_else(|| Ok(Details::default()), |given| Ok(Details::try_from(given)?))
}

fn timeout(
    field: &str,
    given: Option<prost_types::Duration>,
    limits: &Limits,
) -> Result<Duration, ServiceError> {
    match given {
        None => Ok(limits.timeout_default),
        Some(given) => match Duration::try_from(given) {
            Ok(timeout) => Ok(timeout.min(limits.timeout_max)),
            Err(_negative) => Err(ServiceError::malformed(field, "it must not be negative")),
        },
    }
}

fn wait(given: i32) -> Result<Wait, ServiceError> {
    match v1::Wait::try_from(given) {
        Ok(v1::Wait::Unspecified | v1::Wait::Finished) => Ok(Wait::Finished),
        Ok(v1::Wait::Decision) => Ok(Wait::Decision),
        Err(_unknown) => Err(ServiceError::malformed("wait", "it is not a known value")),
    }
}

fn branches(given: Vec<v1::Branch>, limits: &Limits) -> Result<BTreeSet<Branch>, ServiceError> {
    if given.len() > limits.branches_max {
        let problem = format!("at most {} are taken", limits.branches_max);
        return Err(ServiceError::malformed("branches", problem));
    }
    let count = given.len();
    let branches: BTreeSet<Branch> = given.into_iter().map(Branch::try_from).collect::<Result<_, _>>()?;
    let ids: BTreeSet<BranchId> = branches.iter().map(|branch| branch.id).collect();
    if ids.len() < count {
        return Err(ServiceError::malformed("branches", "a branch is named twice"));
    }
    Ok(branches)
}

/// One call of a pipeline's frame.
pub(crate) enum PipelineEntry<'a> {
    /// A usual Submit.
    Submit(SubmitFields<'a>),
    /// Any other.
    Other(v1::PipelineCall),
}

/// A frame that cannot be read: as tonic tells it of a message.
fn undecodable(error: &prost::DecodeError) -> ServiceError {
    ServiceError::Broken { why: error.to_string() }
}

/// The calls of a `PipelineRequest`, in their order.
pub(crate) fn pipeline_calls(frame: &[u8]) -> Result<Vec<PipelineEntry<'_>>, ServiceError> {
    let read = |entry| match read::pipeline_submit(entry) {
        Some(submit) => Ok(PipelineEntry::Submit(submit)),
        None => v1::PipelineCall::decode(entry).map(PipelineEntry::Other),
    };
    let calls = match read::entries(frame, 1) {
        Some(entries) => entries.into_iter().map(read).collect::<Result<Vec<_>, _>>(),
        None => v1::PipelineRequest::decode(frame)
            .map(|request| request.calls.into_iter().map(PipelineEntry::Other).collect()),
    };
    let calls = calls.map_err(|error| undecodable(&error))?;
    if calls.len() > BATCH_MESSAGES_MAX {
        return Err(ServiceError::malformed("calls", "at most 1024 are taken"));
    }
    Ok(calls)
}

/// The messages of an `AttachRequest`, in their order.
pub(crate) fn participant_messages(frame: &[u8]) -> Result<Vec<FromParticipant>, ServiceError> {
    let Some(entries) = read::entries(frame, 1) else {
        let request = v1::AttachRequest::decode(frame).map_err(|error| undecodable(&error))?;
        check_batch(request.messages.len())?;
        return request.messages.into_iter().map(from_participant).collect();
    };
    check_batch(entries.len())?;
    let read = |entry| match read::participant_message(entry) {
        Some(read::FromParticipant::Vote(id, branch, vote)) => {
            Ok(FromParticipant::Fact(id.gid, Event::VoteReceived { id, branch, vote }))
        }
        Some(read::FromParticipant::Finished(id, branch, outcome)) => {
            Ok(FromParticipant::Fact(id.gid, Event::BranchFinished { id, branch, outcome }))
        }
        None => from_participant(v1::ParticipantMessage::decode(entry).map_err(|error| undecodable(&error))?),
    };
    entries.into_iter().map(read).collect()
}

fn check_batch(messages: usize) -> Result<(), ServiceError> {
    if messages > BATCH_MESSAGES_MAX {
        return Err(ServiceError::malformed("messages", "at most 1024 are taken"));
    }
    Ok(())
}

/// A call for an outcome, as an event.
pub(crate) struct Call {
    pub(crate) gid: Gid,
    /// Whether it may open a transaction.
    pub(crate) starts: bool,
    pub(crate) event: Event,
}

/// What a call means.
pub(crate) fn call(call: PipelineCall, request: RequestId, limits: &Limits) -> Result<Call, ServiceError> {
    match call {
        PipelineCall::Commit(commit) => {
            let id = id(commit.id)?;
            let event = Event::CommitRequested {
                id,
                branches: branches(commit.branches, limits)?,
                details: Arc::new(details(commit.details)?),
                timeout: timeout("timeout", commit.timeout, limits)?,
                wait: wait(commit.wait)?,
                request,
            };
            Ok(Call { gid: id.gid, starts: true, event })
        }
        PipelineCall::Submit(submit) => submitted(submit, request, limits),
        PipelineCall::Abort(abort) => {
            let id = id(abort.id)?;
            if abort.message.len() > AbortReason::MESSAGE_BYTES_MAX {
                return Err(ServiceError::malformed("message", "at most 512 bytes are taken"));
            }
            let message =
                if abort.message.is_empty() { "the application aborted it" } else { abort.message.as_str() };
            let reason = AbortReason::new(AbortKind::Requested, message);
            let branches = Some(branches(abort.branches, limits)?).filter(|branches| !branches.is_empty());
            let event = Event::AbortRequested { id, branches, reason, request };
            Ok(Call { gid: id.gid, starts: false, event })
        }
        PipelineCall::GetTransaction(get) => {
            let id = id(get.id)?;
            let branches = Some(branches(get.branches, limits)?).filter(|branches| !branches.is_empty());
            Ok(Call { gid: id.gid, starts: false, event: Event::OutcomeRequested { id, branches, request } })
        }
    }
}

fn submitted(submit: v1::SubmitRequest, request: RequestId, limits: &Limits) -> Result<Call, ServiceError> {
    let id = id(submit.id)?;
    let operations: Vec<OperationFields<'_>> = submit.operations.iter().map(operation_fields).collect();
    let details = details(submit.details)?;
    let (timeout, wait) = (timeout("timeout", submit.timeout, limits)?, wait(submit.wait)?);
    one_shot(id, &operations, details, (timeout, wait), request, limits)
}

fn operation_fields(operation: &v1::Operation) -> OperationFields<'_> {
    OperationFields {
        branch: operation.branch,
        resource: operation.resource.as_bytes(),
        name: operation.name.as_bytes(),
        payload: &operation.payload,
    }
}

/// What a usual Submit means.
pub(crate) fn usual_submit(
    submit: &SubmitFields<'_>,
    request: RequestId,
    limits: &Limits,
) -> Result<Call, ServiceError> {
    let timeout = submit.timeout.map_or(limits.timeout_default, |given| given.min(limits.timeout_max));
    let wait = if submit.wait_decision { Wait::Decision } else { Wait::Finished };
    one_shot(submit.id, &submit.operations, Details::default(), (timeout, wait), request, limits)
}

fn one_shot(
    id: TransactionId,
    operations: &[OperationFields<'_>],
    mut details: Details,
    (timeout, wait): (Duration, Wait),
    request: RequestId,
    limits: &Limits,
) -> Result<Call, ServiceError> {
    if operations.is_empty() || operations.len() > limits.branches_max {
        let problem = format!("1 to {} are taken", limits.branches_max);
        return Err(ServiceError::malformed("operations", problem));
    }
    let payloads: usize = operations.iter().map(|operation| operation.payload.len()).sum();
    if payloads > PAYLOADS_BYTES_MAX {
        return Err(ServiceError::malformed("operations.payload", "at most 262144 bytes in all are taken"));
    }
    details.digest = Some(digest(operations));
    let mut branches: Vec<SubmittedBranch> = Vec::with_capacity(operations.len());
    for operation in operations {
        let resource = name("operations.resource", operation.resource)?;
        // A handler's name has the alphabet of a resource.
        let name = name("operations.name", operation.name)?;
        if operation.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(ServiceError::malformed("operations.payload", "at most 65536 bytes are taken"));
        }
        // A few: 64 at most.
        if branches.iter().any(|other| other.branch.id.number() == operation.branch) {
            return Err(ServiceError::malformed("operations.branch", "a branch is named twice"));
        }
        // Its shard chooses an instance when the call's turn comes.
        let instance = InstanceId::NIL;
        branches.push(SubmittedBranch {
            // Never with the marker: who asks for the outcome elsewhere knows only the request, and
            // must find the same register by it alone. For a Submit that is the log (H5).
            branch: Branch { id: BranchId::new(operation.branch), resource, instance, marker: false },
            operation: Operation { name: name.as_str().into(), payload: operation.payload.into() },
        });
    }
    let details = Arc::new(details);
    let event = Event::SubmitRequested { id, branches, details, timeout, wait, request };
    Ok(Call { gid: id.gid, starts: true, event })
}

/// A name of a resource or a handler.
fn name(field: &str, given: &[u8]) -> Result<ResourceName, ServiceError> {
    let text = str::from_utf8(given).map_err(|error| ServiceError::malformed(field, error.to_string()))?;
    ResourceName::new(text).map_err(|error| ServiceError::malformed(field, error.to_string()))
}

/// What tells two one-shot requests apart (I8): their operations, with each part's length before
/// it so that no two requests run together. Stored in the log: never to be changed.
fn digest(operations: &[OperationFields<'_>]) -> [u8; 16] {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    for operation in operations {
        hash.update(operation.branch.to_be_bytes());
        for part in [operation.resource, operation.name, operation.payload] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

/// A Begin, checked.
pub(crate) struct Begin {
    pub(crate) details: Arc<Details>,
    pub(crate) timeout: Duration,
    pub(crate) request_id: Option<String>,
}

/// What a Begin means.
pub(crate) fn begin(request: v1::BeginRequest, limits: &Limits) -> Result<Begin, ServiceError> {
    if request.request_id.len() > 64 {
        return Err(ServiceError::malformed("request_id", "at most 64 bytes are taken"));
    }
    Ok(Begin {
        details: Arc::new(details(request.details)?),
        timeout: timeout("timeout", request.timeout, limits)?,
        request_id: Some(request.request_id).filter(|request_id| !request_id.is_empty()),
    })
}

/// The most resources of one participant.
const RESOURCES_MAX: usize = 64;

/// Who a participant says it is.
pub(crate) fn hello(hello: v1::Hello) -> Result<Hello, ServiceError> {
    let instance = InstanceId::from_slice(&hello.instance)
        .map_err(|error| ServiceError::malformed("hello.instance", error.to_string()))?;
    if instance.is_nil() {
        return Err(ServiceError::malformed("hello.instance", "it must not be all zero"));
    }
    if hello.resources.is_empty() || hello.resources.len() > RESOURCES_MAX {
        return Err(ServiceError::malformed("hello.resources", "1 to 64 are taken"));
    }
    if hello.version.len() > 64 {
        return Err(ServiceError::malformed("hello.version", "at most 64 bytes are taken"));
    }
    let mut resources = BTreeMap::new();
    for given in hello.resources {
        let name = ResourceName::new(&given.resource)
            .map_err(|error| ServiceError::malformed("hello.resources.resource", error.to_string()))?;
        if given.identity.len() > 256 {
            return Err(ServiceError::malformed("hello.resources.identity", "at most 256 bytes are taken"));
        }
        let settings = examined::settings(given.settings)?;
        let registration = Registration { identity: given.identity, marker: given.marker, settings };
        if resources.insert(name, registration).is_some() {
            return Err(ServiceError::malformed("hello.resources", "a resource is named twice"));
        }
    }
    Ok(Hello { instance, resources, version: hello.version })
}

/// An enlistment whose context did not say how much time is left.
const ENLIST_TIME_LEFT_DEFAULT: Duration = Duration::from_secs(30);

/// What a participant's message means.
pub(crate) fn from_participant(message: v1::ParticipantMessage) -> Result<FromParticipant, ServiceError> {
    Ok(match need("message", message.message)? {
        FromParticipantMessage::Hello(_) => {
            return Err(ServiceError::malformed("hello", "it was said already"));
        }
        FromParticipantMessage::Enlist(enlist) => {
            let time_left = match enlist.time_left {
                None => ENLIST_TIME_LEFT_DEFAULT,
                // A context that has run out is of no time left: the core's deadline says the rest.
                Some(given) => Duration::try_from(given).unwrap_or(Duration::ZERO),
            };
            FromParticipant::Enlist {
                call_id: enlist.call_id,
                id: id(enlist.id)?,
                branch: branch(enlist.branch)?,
                time_left,
            }
        }
        FromParticipantMessage::Vote(vote) => {
            let (id, branch) = (id(vote.id)?, branch(vote.branch)?);
            let vote = need("vote.vote", vote.vote)?.try_into()?;
            FromParticipant::Fact(id.gid, Event::VoteReceived { id, branch, vote })
        }
        FromParticipantMessage::Finished(finished) => {
            let id = id(finished.id)?;
            let outcome = v1::BranchOutcome::try_from(finished.outcome)
                .map_err(|_unknown| ServiceError::malformed("finished.outcome", "it is not a known value"))?
                .try_into()?;
            let branch = branch(finished.branch)?;
            FromParticipant::Fact(id.gid, Event::BranchFinished { id, branch, outcome })
        }
        FromParticipantMessage::Failed(failed) => {
            let id = id(failed.id)?;
            let branch = branch(failed.branch)?;
            let error: Arc<str> = cut(&failed.message).into();
            tracing::warn!(gid = %id.gid, branch = %branch.id, %error, "a branch could not be ended yet");
            FromParticipant::Fact(id.gid, Event::BranchFailed { id, branch, error })
        }
        FromParticipantMessage::RegisterAnswer(answer) => {
            let id = id(answer.id)?;
            let branch = branch(answer.branch)?;
            let answer = need("register_answer.register", answer.register)?.try_into()?;
            FromParticipant::Fact(id.gid, Event::RegisterAnswered { id, branch, answer })
        }
        FromParticipantMessage::Examined(given) => FromParticipant::Answer {
            call_id: given.call_id,
            answer: Answer::Examined(examined::examined(given)?),
        },
        FromParticipantMessage::OverruleAnswer(given) => {
            FromParticipant::Answer { call_id: given.call_id, answer: examined::overruled(given)? }
        }
        FromParticipantMessage::Draining(given) => FromParticipant::Draining(given.draining),
        FromParticipantMessage::Inquiry(inquiry) => FromParticipant::Inquiry {
            id: id(inquiry.id)?,
            branch: branch(inquiry.branch)?,
            evidence: need("inquiry.evidence", inquiry.evidence)?.try_into()?,
        },
    })
}

/// A text of a participant for people, cut to what is kept.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(AbortReason::MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
