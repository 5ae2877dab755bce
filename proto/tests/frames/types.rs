//! The same messages by the generated types and [`pactum_proto::convert`]: what they are to be compared with.

use std::time::Duration;

use pactum_core::coordinator::{Operation, TransactionOutcome};
use pactum_core::id::{Branch, ResourceName, TransactionId};
use pactum_core::outcome::{BranchOutcome, Details};
use pactum_core::vote::{Evidence, Vote};
use pactum_proto::frames::read::{FromParticipant, OperationFields, SubmitFields, ToParticipant};
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as Down;
use pactum_proto::v1::participant_message::Message as Up;
use pactum_proto::v1::pipeline_answer::Answer;
use pactum_proto::v1::pipeline_call::Call;
use prost::Message as _;

// ---- written -------------------------------------------------------------------------------------

pub(crate) fn down(message: Down) -> Vec<u8> {
    v1::CoordinatorMessage { message: Some(message) }.encode_to_vec()
}

pub(crate) fn up(message: Up) -> Vec<u8> {
    v1::ParticipantMessage { message: Some(message) }.encode_to_vec()
}

pub(crate) fn prepare(
    id: TransactionId,
    branch: &Branch,
    operation: Option<&Operation>,
    one_phase: bool,
    time_left: Duration,
    traceparent: &str,
) -> Vec<u8> {
    let operation = operation.map(|operation| v1::Operation {
        branch: branch.id.number(),
        resource: branch.resource.as_str().to_owned(),
        name: operation.name.as_ref().to_owned(),
        payload: operation.payload.to_vec(),
    });
    down(Down::Prepare(v1::Prepare {
        id: Some(id.into()),
        branch: Some(branch.clone().into()),
        one_phase,
        operation,
        time_left: Some(time_left.try_into().unwrap()),
        traceparent: traceparent.to_owned(),
    }))
}

pub(crate) fn commit(id: TransactionId, branch: &Branch, evidence: &Evidence) -> Vec<u8> {
    let (id, branch, evidence) =
        (Some(id.into()), Some(branch.clone().into()), Some(evidence.clone().into()));
    down(Down::Commit(v1::Commit { id, branch, evidence }))
}

pub(crate) fn abort(id: TransactionId, branch: &Branch) -> Vec<u8> {
    down(Down::Abort(v1::Abort { id: Some(id.into()), branch: Some(branch.clone().into()) }))
}

pub(crate) fn vote(id: TransactionId, branch: &Branch, vote: Vote) -> Vec<u8> {
    let (id, branch, vote) = (Some(id.into()), Some(branch.clone().into()), Some(vote.into()));
    up(Up::Vote(v1::Vote { id, branch, vote }))
}

pub(crate) fn finished(id: TransactionId, branch: &Branch, outcome: v1::BranchOutcome) -> Vec<u8> {
    let (id, branch, outcome) = (Some(id.into()), Some(branch.clone().into()), outcome.into());
    up(Up::Finished(v1::Finished { id, branch, outcome }))
}

pub(crate) fn submit(
    call_id: u64,
    id: TransactionId,
    operations: &[v1::Operation],
    timeout: Option<Duration>,
    wait: v1::Wait,
) -> Vec<u8> {
    let submit = v1::SubmitRequest {
        id: Some(id.into()),
        operations: operations.to_vec(),
        details: None,
        timeout: timeout.map(|timeout| timeout.try_into().unwrap()),
        wait: wait.into(),
    };
    v1::PipelineCall { call_id, call: Some(Call::Submit(submit)) }.encode_to_vec()
}

pub(crate) fn answer(call_id: u64, answer: Answer) -> Vec<u8> {
    v1::PipelineAnswer { call_id, answer: Some(answer) }.encode_to_vec()
}

// ---- read ----------------------------------------------------------------------------------------

/// `None` for what is refused, and for messages of other kinds.
pub(crate) fn participant_message(bytes: &[u8]) -> Option<FromParticipant> {
    let message = v1::ParticipantMessage::decode(bytes).ok()?.message?;
    if let Up::Vote(vote) = message {
        let (id, branch) = (vote.id?.try_into().ok()?, vote.branch?.try_into().ok()?);
        Some(FromParticipant::Vote(id, branch, Vote::try_from(vote.vote?).ok()?))
    } else if let Up::Finished(finished) = message {
        let (id, branch) = (finished.id?.try_into().ok()?, finished.branch?.try_into().ok()?);
        let outcome = v1::BranchOutcome::try_from(finished.outcome).ok()?;
        Some(FromParticipant::Finished(id, branch, BranchOutcome::try_from(outcome).ok()?))
    } else {
        None
    }
}

/// `None` for what is refused, and for messages of other kinds.
pub(crate) fn coordinator_message(bytes: &[u8]) -> Option<ToParticipant> {
    let message = v1::CoordinatorMessage::decode(bytes).ok()?.message?;
    if let Down::Prepare(prepare) = message {
        let operation = match prepare.operation {
            None => None,
            Some(given) => Some(Operation {
                name: ResourceName::new(&given.name).ok()?.as_str().into(),
                payload: given.payload.into(),
            }),
        };
        Some(ToParticipant::Prepare {
            id: prepare.id?.try_into().ok()?,
            branch: prepare.branch?.try_into().ok()?,
            operation,
            one_phase: prepare.one_phase,
            time_left: prepare.time_left?.try_into().ok()?,
            traceparent: prepare.traceparent,
        })
    } else if let Down::Commit(commit) = message {
        let (id, branch) = (commit.id?.try_into().ok()?, commit.branch?.try_into().ok()?);
        Some(ToParticipant::Commit(id, branch, commit.evidence?.try_into().ok()?))
    } else if let Down::Abort(abort) = message {
        Some(ToParticipant::Abort(abort.id?.try_into().ok()?, abort.branch?.try_into().ok()?))
    } else {
        None
    }
}

/// A Submit on a pipeline without details, with its texts.
#[derive(Debug)]
pub(crate) struct Submit {
    call_id: u64,
    id: TransactionId,
    operations: Vec<v1::Operation>,
    timeout: Option<Duration>,
    wait_decision: bool,
}

impl Submit {
    /// As it is read by hand.
    pub(crate) fn fields(&self) -> SubmitFields<'_> {
        let operations = self.operations.iter().map(|operation| OperationFields {
            branch: operation.branch,
            resource: operation.resource.as_bytes(),
            name: operation.name.as_bytes(),
            payload: &operation.payload,
        });
        SubmitFields {
            call_id: self.call_id,
            id: self.id,
            operations: operations.collect(),
            timeout: self.timeout,
            wait_decision: self.wait_decision,
        }
    }
}

/// `None` for what is refused, for other calls, and for one with details.
pub(crate) fn pipeline_submit(bytes: &[u8]) -> Option<Submit> {
    let v1::PipelineCall { call_id, call } = v1::PipelineCall::decode(bytes).ok()?;
    let Some(Call::Submit(submit)) = call else { return None };
    if let Some(details) = submit.details
        && Details::try_from(details).ok()? != Details::default()
    {
        return None;
    }
    let timeout = match submit.timeout {
        None => None,
        Some(timeout) => Some(timeout.try_into().ok()?),
    };
    Some(Submit {
        call_id,
        id: submit.id?.try_into().ok()?,
        operations: submit.operations,
        timeout,
        wait_decision: v1::Wait::try_from(submit.wait).ok()? == v1::Wait::Decision,
    })
}

/// `None` for every answer but a plain committed.
pub(crate) fn pipeline_committed(bytes: &[u8]) -> Option<u64> {
    let v1::PipelineAnswer { call_id, answer } = v1::PipelineAnswer::decode(bytes).ok()?;
    let Some(Answer::Outcome(outcome)) = answer else { return None };
    let plain = TransactionOutcome::Committed { read_only: false, unfinished: Vec::new(), heuristic: None };
    (TransactionOutcome::try_from(outcome).ok()? == plain).then_some(call_id)
}
