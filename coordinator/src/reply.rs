//! Where an answer goes. Each request is answered exactly once.

use pactum_core::coordinator::Answer;
use pactum_core::id::{BranchId, Gid, TransactionId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::ServiceError;
use crate::outbox::Outbox;
use crate::service::wire::{self, ToApplication, ToParticipant};

/// An answer, or why there is none.
pub(crate) type Reply = Result<Answer, ServiceError>;

/// Where the answer to one request goes.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// A unary call's task.
    Unary(oneshot::Sender<Reply>),
    /// A call on a pipeline. The permit is given back when the answer has been read.
    Pipeline { call_id: u64, permit: OwnedSemaphorePermit, outbox: Outbox<ToApplication> },
    /// A participant's Enlist.
    Enlist { call_id: u64, outbox: Outbox<ToParticipant> },
    /// A participant's Inquiry.
    Inquiry { id: TransactionId, branch: BranchId, outbox: Outbox<ToParticipant> },
}

impl ReplyTo {
    /// Sends the answer. One that nobody waits for any more is dropped: it was a caller who hung
    /// up, and what he asked for has been done.
    pub(crate) fn send(self, reply: Reply) {
        match self {
            Self::Unary(sender) => {
                if sender.send(reply).is_err() {
                    tracing::debug!("a caller hung up before its answer");
                }
            }
            Self::Pipeline { call_id, permit, outbox } => {
                let answer = wire::pipeline_answer(call_id, reply);
                hung_up(outbox.push(ToApplication::Answer(answer, permit)).is_err());
            }
            Self::Enlist { call_id, outbox } => {
                hung_up(outbox.push(wire::enlist_answer(call_id, reply)).is_err());
            }
            Self::Inquiry { id, branch, outbox } => {
                // Without an answer the participant asks again by itself.
                if let Some(answer) = wire::inquiry_answer(id, branch, reply) {
                    hung_up(outbox.push(answer).is_err());
                }
            }
        }
    }

    /// Whether somebody outside is told an outcome by this.
    pub(crate) fn tells_an_application(&self) -> bool {
        matches!(self, Self::Unary(_) | Self::Pipeline { .. })
    }
}

fn hung_up(yes: bool) {
    if yes {
        tracing::debug!("a stream ended before its answer");
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) gid: Gid,
    pub(crate) to: ReplyTo,
}
