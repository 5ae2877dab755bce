//! What waits for a stream: encoded by whoever has it at hand, and put into frames within the protocol's
//! bounds.

use pactum_core::id::{BranchId, Gid};
use pactum_proto::frames::{Frame, write};
use pactum_proto::v1;
use pactum_proto::v1::participant_message::Message as ToCoordinator;
use prost::Message as _;

use crate::observe::Step;

/// Messages in one batch, as the protocol bounds them.
pub(super) const BATCH_MESSAGES_MAX: usize = 1024;

/// Bytes in one batch: the protocol's 1 MiB, less what the framing of the messages takes.
const BATCH_BYTES_MAX: usize = (1 << 20) - BATCH_MESSAGES_MAX * 8;

/// One message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// A `ParticipantMessage`.
    pub(super) encoded: Vec<u8>,
    /// What is done once the transport has taken it.
    pub(super) step: Option<Step>,
}

impl From<v1::ParticipantMessage> for Outgoing {
    fn from(message: v1::ParticipantMessage) -> Self {
        Self { encoded: message.encode_to_vec(), step: step(&message) }
    }
}

/// Takes from the front what fits into one batch.
pub(super) fn cut(batch: &mut Vec<Outgoing>) -> Vec<Outgoing> {
    let mut bytes = 0;
    let fitting = batch.iter().take(BATCH_MESSAGES_MAX).take_while(|message| {
        bytes += message.encoded.len();
        bytes <= BATCH_BYTES_MAX
    });
    // One message alone is far under the limit.
    let count = fitting.count().max(1).min(batch.len());
    let rest = batch.split_off(count);
    std::mem::replace(batch, rest)
}

/// All of a batch in one `AttachRequest`.
pub(super) fn frame(batch: &[Outgoing]) -> Frame {
    let mut frame = Vec::with_capacity(batch.iter().map(|message| message.encoded.len() + 4).sum());
    for message in batch {
        write::entry(&mut frame, 1, &message.encoded);
    }
    frame.into()
}

/// The step that is done once the message is taken.
fn step(message: &v1::ParticipantMessage) -> Option<Step> {
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
    use pactum_core::outcome::{BranchOutcome, HeuristicOutcome};
    use pactum_core::vote::{AbortKind, AbortReason, Evidence, Vote};
    use uuid::Uuid;

    use super::*;
    use crate::session::wire;

    fn messages(count: u64, text: &str) -> Vec<Outgoing> {
        let id = TransactionId { incarnation: Incarnation::NIL, gid: Gid::NIL };
        let branch = |number| Branch {
            id: BranchId::new(number),
            resource: ResourceName::new("bank-a").unwrap(),
            instance: InstanceId::NIL,
            marker: false,
        };
        (0..count).map(|number| wire::failed(id, branch(number), text).into()).collect()
    }

    #[test]
    fn batches_keep_the_order_and_the_bounds_of_the_protocol() {
        for (count, text) in [(1, ""), (1024, "x"), (5000, "x"), (3000, &*"x".repeat(2000))] {
            let mut waiting = messages(count, text);
            let mut sent = Vec::new();
            while !waiting.is_empty() {
                let messages = cut(&mut waiting);
                assert!(!messages.is_empty() && messages.len() <= BATCH_MESSAGES_MAX);
                let batch = frame(&messages);
                assert!(batch.0.len() <= 1 << 20);
                sent.extend(
                    v1::AttachRequest::decode(batch.0).unwrap().messages.into_iter().map(Outgoing::from),
                );
            }
            assert_eq!(sent, messages(count, text));
        }
    }

    #[test]
    fn what_is_written_by_hand_is_what_the_generated_type_says() {
        let most = Uuid::from_u128(u128::MAX);
        let id = TransactionId { incarnation: Incarnation::from_uuid(most), gid: Gid::from_uuid(most) };
        let branch = || Branch {
            id: BranchId::new(u64::MAX),
            resource: ResourceName::new(&"r".repeat(64)).unwrap(),
            instance: InstanceId::from_uuid(most),
            marker: true,
        };
        let (gid, number) = (id.gid, BranchId::new(u64::MAX));
        let vote_sent = Step::VoteSent { gid, branch: number };
        let votes = [
            Vote::Commit(Evidence::new("1", "2")),
            Vote::ReadOnly,
            Vote::Abort(AbortReason::new(AbortKind::LogRefused, "no")),
        ];
        for vote in votes {
            let written = wire::vote(id, branch(), vote.clone());
            let generated = ToCoordinator::Vote(v1::Vote {
                id: Some(id.into()),
                branch: Some(branch().into()),
                vote: Some(vote.into()),
            });
            let generated = Outgoing::from(v1::ParticipantMessage { message: Some(generated) });
            assert_eq!((&written, &written.step), (&generated, &Some(vote_sent.clone())));
        }
        for outcome in [BranchOutcome::Committed, BranchOutcome::Heuristic(HeuristicOutcome::Hazard)] {
            let written = wire::finished(id, &branch(), &outcome);
            let generated = ToCoordinator::Finished(v1::Finished {
                id: Some(id.into()),
                branch: Some(branch().into()),
                outcome: v1::BranchOutcome::from(outcome).into(),
            });
            let generated = Outgoing::from(v1::ParticipantMessage { message: Some(generated) });
            assert_eq!((&written, &written.step), (&generated, &Some(Step::AckSent { gid, branch: number })));
        }
    }

    #[test]
    fn a_long_failure_is_cut_at_a_character() {
        let [message] = messages(1, &"é".repeat(300)).try_into().unwrap();
        let message = v1::ParticipantMessage::decode(&message.encoded[..]).unwrap();
        let Some(ToCoordinator::Failed(failed)) = message.message else { panic!("another message") };
        assert_eq!(failed.message, "é".repeat(256));
    }
}
