//! Why a call was not carried out, and the one mapping of that to gRPC.
//!
//! An outcome is data and never an error: none of these says that a transaction aborted. Each says
//! by its code how sure it is; where nothing happened and the same call may be repeated, it says
//! when.

use std::time::Duration;

use pactum_core::coordinator::{Answer, Refusal};
use pactum_proto::convert::ConvertError;
use pactum_proto::error::{self as public, ErrorCode};
use pactum_proto::v1;
use tonic::Status;

use crate::lifecycle::RETRY_AFTER;

/// Why a call was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServiceError {
    /// A malformed or oversized field. Nothing happened.
    #[error("{field}: {problem}")]
    Malformed { field: String, problem: String },
    /// There is no incarnation yet. Nothing happened.
    #[error("the coordinator is starting")]
    Starting,
    /// It finishes what is in flight and starts nothing new. Nothing happened.
    #[error("the coordinator is stopping and starts nothing new")]
    Draining,
    /// Too much at once. Nothing happened.
    #[error("the coordinator is overloaded: {what}")]
    Shed { what: &'static str, retry_after: Duration },
    /// The protocol refuses it. Nothing happened.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No such transaction, here or in the log.
    #[error("no transaction {name:?} is known")]
    NoTransaction { name: String },
    /// A part of a gid that fits several transactions.
    #[error("{part:?} fits several transactions: give more digits")]
    Ambiguous { part: String },
    /// A newer stream of the same participant instance took over.
    #[error("a newer stream of the same instance has taken over")]
    Superseded,
    /// The peer did not read what waited for it.
    #[error("the stream was read too slowly")]
    TooSlow,
    /// [`Config::participants_max`](crate::Config::participants_max).
    #[error("too many participants are attached")]
    TooManyParticipants,
    /// The log cannot be written now, in its own words why. Nothing happened.
    #[error("the decision log cannot be written now: {why}")]
    LogAway { why: String },
    /// The log could not be read for an operator. Nothing happened.
    #[error("the log could not be read: {why}")]
    LogFailed { why: String },
    /// The coordinator stopped before the answer. May have happened.
    #[error("the coordinator stopped before the answer")]
    Stopped,
    /// A stream broke; for our own log, its peer is gone.
    #[error("the stream broke: {why}")]
    Broken { why: String },
    /// An operator's act was not done, or its end is not known: the code says which.
    #[error("{message}")]
    Act { code: ErrorCode, message: String },
    /// A broken contract of ours. May have happened.
    #[error("internal error; see the coordinator's log")]
    Internal,
}

impl ServiceError {
    pub(crate) fn malformed(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Malformed { field: field.into(), problem: problem.into() }
    }

    /// Turned away by a limit; nobody knows when there will be room.
    pub(crate) fn shed(what: &'static str) -> Self {
        Self::Shed { what, retry_after: RETRY_AFTER }
    }

    /// A stream of a peer that could not be read on: too large a message is the peer's fault, all
    /// else is the network's.
    pub(crate) fn from_stream(status: &Status) -> Self {
        if status.code() == tonic::Code::OutOfRange {
            Self::malformed("message", status.message())
        } else {
            Self::Broken { why: status.message().to_owned() }
        }
    }

    /// An answer of another kind than the request's.
    pub(crate) fn unexpected(answer: &Answer) -> Self {
        tracing::error!(?answer, "an answer of another kind than its request");
        Self::Internal
    }

    /// The public code, and after how long the same call may be repeated.
    fn code(&self) -> (ErrorCode, Option<Duration>) {
        match self {
            Self::Malformed { .. } => (ErrorCode::InvalidArgument, None),
            Self::Starting => (ErrorCode::Starting, Some(RETRY_AFTER)),
            Self::Draining => (ErrorCode::Draining, Some(RETRY_AFTER)),
            Self::Shed { retry_after, .. } => (ErrorCode::Overloaded, Some(*retry_after)),
            Self::Refused(refusal) => refused(refusal),
            Self::NoTransaction { .. } => (ErrorCode::TransactionNotFound, None),
            Self::Ambiguous { .. } => (ErrorCode::AmbiguousGid, None),
            Self::Superseded => (ErrorCode::StreamSuperseded, None),
            Self::TooSlow => (ErrorCode::StreamTooSlow, Some(RETRY_AFTER)),
            Self::TooManyParticipants => (ErrorCode::TooManyParticipants, Some(RETRY_AFTER)),
            Self::LogAway { .. } | Self::LogFailed { .. } => (ErrorCode::LogUnavailable, Some(RETRY_AFTER)),
            Self::Stopped | Self::Broken { .. } => (ErrorCode::OutcomeUnknown, Some(RETRY_AFTER)),
            Self::Act { code, .. } => (*code, None),
            Self::Internal => (ErrorCode::Internal, None),
        }
    }

    /// As an error of one call inside a stream.
    pub(crate) fn call_error(&self) -> v1::CallError {
        let (code, retry_after) = self.code();
        public::call_error(code, &self.to_string(), retry_after)
    }
}

fn refused(refusal: &Refusal) -> (ErrorCode, Option<Duration>) {
    match refusal {
        Refusal::Forgotten => (ErrorCode::Forgotten, None),
        Refusal::TooOldToStart => (ErrorCode::TooOldToStart, None),
        Refusal::NotOwner => (ErrorCode::NotOwner, None),
        Refusal::CommitAlreadyAsked => (ErrorCode::CommitAlreadyAsked, None),
        Refusal::Ended => (ErrorCode::TransactionEnded, None),
        Refusal::BranchDiffers => (ErrorCode::BranchDiffers, None),
        Refusal::RequestDiffers => (ErrorCode::RequestDiffers, None),
        Refusal::TooManyBranches => (ErrorCode::TooManyBranches, None),
        Refusal::LogUnavailable => (ErrorCode::LogUnavailable, Some(RETRY_AFTER)),
        Refusal::NoIncarnation => (ErrorCode::Starting, Some(RETRY_AFTER)),
    }
}

impl From<ConvertError> for ServiceError {
    fn from(error: ConvertError) -> Self {
        Self::malformed(error.field, error.problem)
    }
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        if let ServiceError::Malformed { field, problem } = &error {
            return public::invalid_argument(field, problem);
        }
        let (code, retry_after) = error.code();
        public::status(code, error.to_string(), retry_after)
    }
}
