//! What waits for a stream, cut into messages within the protocol's bounds.

use pactum_core::id::{BranchId, Gid};
use pactum_proto::v1;
use pactum_proto::v1::participant_message::Message as ToCoordinator;

use crate::observe::Step;

/// Messages in one batch, as the protocol bounds them.
pub(super) const BATCH_MESSAGES_MAX: usize = 1024;

/// Bytes in one batch: the protocol's 1 MiB, less what the framing of the messages takes.
const BATCH_BYTES_MAX: usize = (1 << 20) - BATCH_MESSAGES_MAX * 8;

/// Takes from the front what fits into one batch.
pub(super) fn cut(batch: &mut Vec<v1::ParticipantMessage>) -> Vec<v1::ParticipantMessage> {
    use prost::Message as _;
    let mut bytes = 0;
    let fitting = batch.iter().take(BATCH_MESSAGES_MAX).take_while(|message| {
        bytes += message.encoded_len();
        bytes <= BATCH_BYTES_MAX
    });
    // One message alone is far under the limit.
    let count = fitting.count().max(1).min(batch.len());
    let rest = batch.split_off(count);
    std::mem::replace(batch, rest)
}

/// The step that is done once the message is taken.
pub(super) fn step(message: &v1::ParticipantMessage) -> Option<Step> {
    let gid = |id: &Option<v1::TransactionId>| Gid::from_slice(&id.as_ref()?.gid).ok();
    let id = |branch: &Option<v1::Branch>| Some(BranchId::new(branch.as_ref()?.id));
    match message.message.as_ref()? {
        ToCoordinator::Vote(vote) => Some(Step::VoteSent { gid: gid(&vote.id)?, branch: id(&vote.branch)? }),
        ToCoordinator::RegisterAnswer(answer) => {
            Some(Step::VoteSent { gid: gid(&answer.id)?, branch: id(&answer.branch)? })
        }
        ToCoordinator::Finished(finished) => {
            Some(Step::AckSent { gid: gid(&finished.id)?, branch: id(&finished.branch)? })
        }
        ToCoordinator::Inquiry(inquiry) => {
            Some(Step::InquirySent { gid: gid(&inquiry.id)?, branch: id(&inquiry.branch)? })
        }
        ToCoordinator::Hello(_)
        | ToCoordinator::Enlist(_)
        | ToCoordinator::Failed(_)
        | ToCoordinator::Examined(_)
        | ToCoordinator::OverruleAnswer(_)
        | ToCoordinator::Draining(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use pactum_core::id::{Branch, Incarnation, InstanceId, ResourceName, TransactionId};

    use super::*;
    use crate::session::wire;

    fn messages(count: u64, text: &str) -> Vec<v1::ParticipantMessage> {
        let id = TransactionId { incarnation: Incarnation::NIL, gid: Gid::NIL };
        let branch = |number| Branch {
            id: BranchId::new(number),
            resource: ResourceName::new("bank-a").unwrap(),
            instance: InstanceId::NIL,
            marker: false,
        };
        (0..count).map(|number| wire::failed(id, branch(number), text)).collect()
    }

    #[test]
    fn batches_keep_the_order_and_the_bounds_of_the_protocol() {
        use prost::Message as _;
        for (count, text) in [(1, ""), (1024, "x"), (5000, "x"), (3000, &*"x".repeat(2000))] {
            let mut waiting = messages(count, text);
            let mut sent = Vec::new();
            while !waiting.is_empty() {
                let messages = cut(&mut waiting);
                assert!(!messages.is_empty() && messages.len() <= BATCH_MESSAGES_MAX);
                let batch = v1::AttachRequest { messages };
                assert!(batch.encoded_len() <= 1 << 20);
                sent.extend(batch.messages);
            }
            assert_eq!(sent, messages(count, text));
        }
    }

    #[test]
    fn a_long_failure_is_cut_at_a_character() {
        let [message] = messages(1, &"é".repeat(300)).try_into().unwrap();
        let Some(ToCoordinator::Failed(failed)) = message.message else { panic!("another message") };
        assert_eq!(failed.message, "é".repeat(256));
    }
}
