//! Between the messages of an Attach stream and what the participant's core knows.
//!
//! Everything that a coordinator sends is checked here, once. A message that breaks the protocol
//! ends the stream: what could not be read cannot be answered either. What operators ask stands in
//! `wire/operators.rs`.

pub(crate) mod operators;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use pactum_core::coordinator::{InquiryAnswer, Operation, RegisterAnswer};
use pactum_core::id::{Branch, BranchId, Cluster, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::BranchOutcome;
use pactum_core::participant::{BranchKey, Event, SessionId};
use pactum_core::time::Timestamp;
use pactum_core::vote::{Evidence, Vote};
use pactum_proto::frames::read::{self as read_frame, ToParticipant};
use pactum_proto::frames::write;
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as FromCoordinator;
use pactum_proto::v1::participant_message::Message as ToCoordinator;
use prost::Message as _;
use tokio::time::Instant;

use super::batch::Outgoing;
use crate::error::Refusal;
use crate::members::{self, Member};
use crate::observe::Step;
use crate::resource::Registration;

/// Longest text of a failure that is sent, in bytes.
const FAILURE_BYTES_MAX: usize = 512;

/// Settings of a resource that are told, and the longest name and value of one, in bytes.
const SETTINGS_MAX: usize = 32;
const SETTING_NAME_BYTES_MAX: usize = 64;
const SETTING_BYTES_MAX: usize = 256;

/// Taken where a Prepare does not say how long its transaction has.
const TIME_LEFT_DEFAULT: Duration = Duration::from_secs(30);

/// No transaction lasts longer.
const TIME_LEFT_MAX: Duration = Duration::from_hours(1);

/// The core's time: a length since the participant's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(self) -> Timestamp {
        self.at(Instant::now())
    }

    pub(crate) fn at(self, instant: Instant) -> Timestamp {
        Timestamp::from_origin(instant.saturating_duration_since(self.origin))
    }

    pub(crate) fn instant(self, timestamp: Timestamp) -> Instant {
        self.origin.checked_add(timestamp.since_origin()).unwrap_or_else(|| Instant::now() + TIME_LEFT_MAX)
    }
}

/// What a coordinator said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) cluster: Cluster,
    /// `None` while it takes no new transactions.
    pub(crate) incarnation: Option<Incarnation>,
    /// Whom it knows to live, itself included.
    pub(crate) members: Vec<Member>,
}

/// One message of a coordinator.
#[derive(Debug)]
pub(crate) enum Incoming {
    Welcome(Welcome),
    EnlistAnswer {
        call_id: u64,
        refusal: Option<Refusal>,
    },
    Fact(Event),
    /// A Prepare of that branch, and the `traceparent` of whoever asks for its vote; may be empty.
    Prepare {
        key: BranchKey,
        event: Event,
        traceparent: String,
    },
    Examine(operators::Examine),
    Overrule(operators::Overrule),
    SetDraining(bool),
}

/// A message that breaks the protocol.
#[derive(Debug, thiserror::Error)]
#[error("a message of the coordinator breaks the protocol: {0}")]
pub(crate) struct Malformed(String);

fn malformed(problem: impl fmt::Display) -> Malformed {
    Malformed(format!("{problem}"))
}

/// Reads what one frame holds, in its order. Whoever meets an error reads no further.
pub(crate) fn frame(
    frame: &[u8],
    from: SessionId,
    now: Timestamp,
) -> impl Iterator<Item = Result<Incoming, Malformed>> {
    let entries = read_frame::entries(frame, 1);
    let others = match &entries {
        Some(_) => Ok(Vec::new()),
        None => v1::AttachResponse::decode(frame).map(|response| response.messages),
    };
    let (others, undecodable) = match others {
        Ok(others) => (others, None),
        Err(error) => (Vec::new(), Some(Err(malformed(error)))),
    };
    let usual = entries.into_iter().flatten().map(move |encoded| entry(encoded, from, now));
    let others = others.into_iter().map(move |message| read(message, from, now));
    usual.chain(others).chain(undecodable)
}

fn entry(encoded: &[u8], from: SessionId, now: Timestamp) -> Result<Incoming, Malformed> {
    Ok(match read_frame::coordinator_message(encoded) {
        Some(ToParticipant::Prepare { id, branch, operation, one_phase, time_left, traceparent }) => {
            let key = BranchKey { id, branch: branch.id };
            let deadline = now + time_left.min(TIME_LEFT_MAX);
            let event = Event::PrepareReceived { from, id, branch, operation, one_phase, deadline };
            Incoming::Prepare { key, event, traceparent }
        }
        Some(ToParticipant::Commit(id, branch, evidence)) => {
            Incoming::Fact(Event::CommitReceived { from, id, branch, evidence })
        }
        Some(ToParticipant::Abort(id, branch)) => Incoming::Fact(Event::AbortReceived { from, id, branch }),
        None => read(v1::CoordinatorMessage::decode(encoded).map_err(malformed)?, from, now)?,
    })
}

/// Reads one message that came on this session, about now.
pub(crate) fn read(
    message: v1::CoordinatorMessage,
    from: SessionId,
    now: Timestamp,
) -> Result<Incoming, Malformed> {
    Ok(match message.message.ok_or_else(|| malformed("an empty message"))? {
        FromCoordinator::Welcome(welcome) => Incoming::Welcome(read_welcome(&welcome)?),
        FromCoordinator::EnlistAnswer(answer) => {
            Incoming::EnlistAnswer { call_id: answer.call_id, refusal: answer.error.map(refusal) }
        }
        FromCoordinator::Prepare(prepare) => {
            let left = prepare.time_left.and_then(|left| Duration::try_from(left).ok());
            let left = left.unwrap_or(TIME_LEFT_DEFAULT).min(TIME_LEFT_MAX);
            let (id, branch) = (read_id(prepare.id)?, read_branch(prepare.branch)?);
            let key = BranchKey { id, branch: branch.id };
            let event = Event::PrepareReceived {
                from,
                id,
                branch,
                operation: prepare.operation.map(|operation| Operation {
                    name: operation.name.into(),
                    payload: operation.payload.into(),
                }),
                one_phase: prepare.one_phase,
                deadline: now + left,
            };
            Incoming::Prepare { key, event, traceparent: prepare.traceparent }
        }
        FromCoordinator::Commit(commit) => Incoming::Fact(Event::CommitReceived {
            from,
            id: read_id(commit.id)?,
            branch: read_branch(commit.branch)?,
            evidence: read_evidence(commit.evidence)?,
        }),
        FromCoordinator::Abort(abort) => Incoming::Fact(Event::AbortReceived {
            from,
            id: read_id(abort.id)?,
            branch: read_branch(abort.branch)?,
        }),
        FromCoordinator::Settle(settle) => Incoming::Fact(Event::SettleReceived {
            from,
            id: read_id(settle.id)?,
            branch: read_branch(settle.branch)?,
        }),
        FromCoordinator::InquiryAnswer(answer) => {
            use v1::inquiry_answer::Answer;
            let id = read_id(answer.id)?;
            let key = BranchKey { id, branch: BranchId::new(answer.branch) };
            let answer = match answer.answer {
                Some(Answer::Commit(evidence)) => InquiryAnswer::Commit(read_evidence(Some(evidence))?),
                Some(Answer::Abort(true)) => InquiryAnswer::Abort,
                Some(Answer::Wait(true)) => InquiryAnswer::Wait { owner: id.incarnation },
                Some(Answer::Quarantine(true)) => InquiryAnswer::Quarantine,
                Some(Answer::Abort(false) | Answer::Wait(false) | Answer::Quarantine(false)) | None => {
                    return Err(malformed("an inquiry was answered with nothing"));
                }
            };
            Incoming::Fact(Event::InquiryAnswered { key, answer })
        }
        FromCoordinator::Examine(examine) => Incoming::Examine(operators::read_examine(examine)?),
        FromCoordinator::Overrule(overrule) => Incoming::Overrule(operators::read_overrule(overrule)?),
        FromCoordinator::SetDraining(set) => Incoming::SetDraining(set.draining),
    })
}

fn read_welcome(welcome: &v1::Welcome) -> Result<Welcome, Malformed> {
    let incarnation = match welcome.incarnation.as_slice() {
        [] => None,
        bytes => Some(Incarnation::from_slice(bytes).map_err(malformed)?),
    };
    let cluster = Cluster::new(&welcome.cluster).map_err(malformed)?;
    Ok(Welcome { cluster, incarnation, members: members::read(welcome) })
}

fn read_id(id: Option<v1::TransactionId>) -> Result<TransactionId, Malformed> {
    id.ok_or_else(|| malformed("a transaction's name is missing"))?.try_into().map_err(malformed)
}

fn read_branch(branch: Option<v1::Branch>) -> Result<Branch, Malformed> {
    branch.ok_or_else(|| malformed("a branch's name is missing"))?.try_into().map_err(malformed)
}

fn read_evidence(evidence: Option<v1::Evidence>) -> Result<Evidence, Malformed> {
    evidence.ok_or_else(|| malformed("the evidence is missing"))?.try_into().map_err(malformed)
}

fn refusal(error: v1::CallError) -> Refusal {
    Refusal {
        code: error.pactum_code,
        reason: error.reason,
        message: error.message,
        retry_after: error.retry_after.and_then(|after| Duration::try_from(after).ok()),
    }
}

fn message(message: ToCoordinator) -> v1::ParticipantMessage {
    v1::ParticipantMessage { message: Some(message) }
}

pub(crate) fn hello<'a>(
    instance: InstanceId,
    resources: impl IntoIterator<Item = (&'a ResourceName, &'a Registration)>,
) -> v1::ParticipantMessage {
    let resources = resources.into_iter().map(|(name, registration)| v1::Registration {
        resource: name.to_string(),
        identity: registration.identity.clone(),
        marker: registration.marker,
        settings: settings(&registration.settings),
    });
    message(ToCoordinator::Hello(v1::Hello {
        instance: instance.as_uuid().as_bytes().to_vec(),
        resources: resources.collect(),
        version: concat!("pactum-rust/", env!("CARGO_PKG_VERSION")).into(),
    }))
}

/// What is told of a resource's settings.
fn settings(settings: &BTreeMap<String, String>) -> HashMap<String, String> {
    let told = settings.iter().take(SETTINGS_MAX).map(|(key, value)| {
        (cut(key, SETTING_NAME_BYTES_MAX).to_owned(), cut(value, SETTING_BYTES_MAX).to_owned())
    });
    told.collect()
}

/// The beginning of a text, in whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

pub(crate) fn enlist(
    call_id: u64,
    id: TransactionId,
    branch: &Branch,
    time_left: Duration,
) -> v1::ParticipantMessage {
    message(ToCoordinator::Enlist(v1::Enlist {
        call_id,
        id: Some(id.into()),
        branch: Some(branch.clone().into()),
        // Bounded by the context's own limit, which a protobuf duration holds.
        time_left: time_left.min(TIME_LEFT_MAX).try_into().ok(),
    }))
}

pub(crate) fn vote(id: TransactionId, branch: Branch, vote: Vote) -> Outgoing {
    if let Vote::Commit(evidence) = &vote {
        let step = Some(Step::VoteSent { gid: id.gid, branch: branch.id });
        return Outgoing { encoded: write::vote_commit(id, &branch, evidence), step };
    }
    let vote = v1::Vote { id: Some(id.into()), branch: Some(branch.into()), vote: Some(vote.into()) };
    message(ToCoordinator::Vote(vote)).into()
}

pub(crate) fn finished(id: TransactionId, branch: &Branch, outcome: &BranchOutcome) -> Outgoing {
    let step = Some(Step::AckSent { gid: id.gid, branch: branch.id });
    Outgoing { encoded: write::finished(id, branch, outcome), step }
}

pub(crate) fn failed(id: TransactionId, branch: Branch, error: &str) -> v1::ParticipantMessage {
    message(ToCoordinator::Failed(v1::Failed {
        id: Some(id.into()),
        branch: Some(branch.into()),
        message: cut(error, FAILURE_BYTES_MAX).into(),
    }))
}

pub(crate) fn register_answer(
    id: TransactionId,
    branch: Branch,
    answer: RegisterAnswer,
) -> v1::ParticipantMessage {
    message(ToCoordinator::RegisterAnswer(v1::RegisterAnswer {
        id: Some(id.into()),
        branch: Some(branch.into()),
        register: Some(answer.into()),
    }))
}

pub(crate) fn inquiry(id: TransactionId, branch: Branch, evidence: Evidence) -> v1::ParticipantMessage {
    message(ToCoordinator::Inquiry(v1::Inquiry {
        id: Some(id.into()),
        branch: Some(branch.into()),
        evidence: Some(evidence.into()),
    }))
}
