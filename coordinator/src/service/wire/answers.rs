//! Answers and orders of the core, as messages.

use std::time::Duration;

use pactum_core::coordinator::{Answer, InquiryAnswer, Operation, TransactionOutcome};
use pactum_core::id::{Branch, BranchId, TransactionId};
use pactum_core::vote::Evidence;
use pactum_proto::frames::write;
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as ToParticipantMessage;
use prost::Message as _;

use super::ToParticipant;
use crate::decision_log::Replication;
use crate::error::ServiceError;
use crate::lifecycle::{Member, Standing};
use crate::reply::Reply;
use crate::shard::history::PastStep;

/// The answer to a call for an outcome.
pub(crate) fn outcome(answer: Answer) -> Result<v1::Outcome, ServiceError> {
    known(answer).map(Into::into)
}

/// What an answer says of an outcome.
pub(crate) fn known(answer: Answer) -> Result<TransactionOutcome, ServiceError> {
    match answer {
        Answer::Outcome(outcome) => Ok(outcome),
        Answer::Refused(refusal) => Err(ServiceError::Refused(refusal)),
        answer @ (Answer::Begun | Answer::Enlisted | Answer::Inquiry(_)) => {
            Err(ServiceError::unexpected(&answer))
        }
    }
}

/// The same on a pipeline, encoded.
pub(crate) fn pipeline_answer(call_id: u64, reply: Reply) -> Vec<u8> {
    if let Ok(Answer::Outcome(TransactionOutcome::Committed {
        read_only: false,
        unfinished,
        heuristic: None,
    })) = &reply
        && unfinished.is_empty()
    {
        return write::pipeline_committed(call_id);
    }
    let answer = match reply.and_then(outcome) {
        Ok(outcome) => v1::pipeline_answer::Answer::Outcome(outcome),
        Err(error) => v1::pipeline_answer::Answer::Error(error.call_error()),
    };
    v1::PipelineAnswer { call_id, answer: Some(answer) }.encode_to_vec()
}

/// The answer to Begin.
pub(crate) fn begun(id: TransactionId, timeout: Duration) -> v1::BeginResponse {
    let (incarnation, gid) = (id.incarnation.as_uuid().simple(), id.gid.as_uuid().simple());
    let context = format!("{incarnation}-{gid}-{}", timeout.as_millis());
    v1::BeginResponse { id: Some(id.into()), context }
}

/// The answer to Enlist.
pub(crate) fn enlist_answer(call_id: u64, reply: Reply) -> ToParticipant {
    let error = match reply {
        Ok(Answer::Enlisted) => None,
        Ok(Answer::Refused(refusal)) => Some(ServiceError::Refused(refusal)),
        Ok(answer) => Some(ServiceError::unexpected(&answer)),
        Err(error) => Some(error),
    };
    let error = error.map(|error| error.call_error());
    message(ToParticipantMessage::EnlistAnswer(v1::EnlistAnswer { call_id, error }))
}

/// The answer to an inquiry, if there is one.
pub(crate) fn inquiry_answer(id: TransactionId, branch: BranchId, reply: Reply) -> Option<ToParticipant> {
    use v1::inquiry_answer::Answer as Told;
    let told = match reply {
        Ok(Answer::Inquiry(InquiryAnswer::Commit(evidence))) => Told::Commit(evidence.into()),
        Ok(Answer::Inquiry(InquiryAnswer::Abort)) => Told::Abort(true),
        Ok(Answer::Inquiry(InquiryAnswer::Wait { .. })) => Told::Wait(true),
        Ok(Answer::Inquiry(InquiryAnswer::Quarantine)) => Told::Quarantine(true),
        // Nothing was established: it asks again.
        Ok(Answer::Refused(_) | Answer::Outcome(_) | Answer::Begun | Answer::Enlisted) | Err(_) => {
            return None;
        }
    };
    let answer = v1::InquiryAnswer { id: Some(id.into()), branch: branch.number(), answer: Some(told) };
    Some(message(ToParticipantMessage::InquiryAnswer(answer)))
}

pub(super) fn message(message: ToParticipantMessage) -> ToParticipant {
    v1::CoordinatorMessage { message: Some(message) }.into()
}

fn duration(length: Duration) -> prost_types::Duration {
    // Fails beyond 290 000 million years only.
    length.try_into().unwrap_or_default()
}

/// Coordinators in a Welcome: what the wire allows.
const COORDINATORS_MAX: usize = 64;

/// A living coordinator.
pub(crate) fn member(member: &Member) -> v1::Coordinator {
    v1::Coordinator {
        incarnation: member.incarnation.as_uuid().as_bytes().to_vec(),
        address: member.address.as_ref().to_owned(),
    }
}

/// How the log is replicated.
pub(crate) fn replication(replication: Replication) -> v1::LogReplication {
    let Replication { configured, required, confirmed, visible } = replication;
    v1::LogReplication { configured, required, confirmed, visible }
}

/// A Welcome to an application.
pub(crate) fn welcome(standing: &Standing) -> v1::Welcome {
    v1::Welcome {
        cluster: standing.cluster.as_str().to_owned(),
        incarnation: standing
            .incarnation
            .map(|incarnation| incarnation.as_uuid().as_bytes().to_vec())
            .unwrap_or_default(),
        floor: standing.floor.as_uuid().as_bytes().to_vec(),
        coordinators: standing
            .coordinators
            .iter()
            .filter(|member| !member.address.is_empty())
            .take(COORDINATORS_MAX)
            .map(member)
            .collect(),
    }
}

/// A Welcome to a participant.
pub(crate) fn welcome_participant(standing: &Standing) -> ToParticipant {
    message(ToParticipantMessage::Welcome(welcome(standing)))
}

/// Prepare.
pub(crate) fn prepare(
    id: TransactionId,
    branch: &Branch,
    operation: Option<&Operation>,
    one_phase: bool,
    time_left: Duration,
    traceparent: &str,
) -> ToParticipant {
    ToParticipant(write::prepare(id, branch, operation, one_phase, time_left, traceparent))
}

/// Commit.
pub(crate) fn commit(id: TransactionId, branch: &Branch, evidence: &Evidence) -> ToParticipant {
    ToParticipant(write::commit(id, branch, evidence))
}

/// Abort.
pub(crate) fn abort(id: TransactionId, branch: &Branch) -> ToParticipant {
    ToParticipant(write::abort(id, branch))
}

/// Settle.
pub(crate) fn settle(id: TransactionId, branch: &Branch) -> ToParticipant {
    let branch = Some(branch.clone().into());
    message(ToParticipantMessage::Settle(v1::Settle { id: Some(id.into()), branch }))
}

/// A step of a transaction's course.
pub(crate) fn past_step(step: PastStep) -> v1::TransactionStep {
    v1::TransactionStep {
        at: Some(duration(step.at)),
        step: step.step.to_owned(),
        branch: step.branch,
        detail: step.detail,
    }
}
