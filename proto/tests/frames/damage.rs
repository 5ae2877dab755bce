//! Every byte of every message, damaged: nothing panics, and whatever is still taken by hand means the same
//! by the generated types. (The other way round nothing is demanded: what is unusual goes to them.)

use std::time::Duration;

use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::Vote;
use pactum_proto::frames::{read, write};
use pactum_proto::v1;
use prost::Message as _;

use crate::samples::{TRACEPARENT, branch, branches, evidences, id, operation, submitted};
use crate::types;

/// The message with one bit turned, for each; with a byte replaced, left out or doubled, for each; and cut off
/// at each.
fn damaged(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![bytes.to_vec()];
    for at in 0..bytes.len() {
        let mut put = |byte: u8| {
            let mut other = bytes.to_vec();
            other[at] = byte;
            all.push(other);
        };
        (0..8).for_each(|bit| put(bytes[at] ^ 1 << bit));
        (0..16).for_each(|field| put(field << 3 | bytes[at] & 7));
        [0x00, 0x7f, 0x80, 0xff].into_iter().for_each(put);
        all.push(bytes[..at].to_vec());
        all.push([&bytes[..at], &bytes[at + 1..]].concat());
        all.push([&bytes[..=at], &bytes[at..]].concat());
    }
    all
}

/// Compares both ways on every damaged form of these. Both must happen: that damage is taken, and that it is not.
fn compare<T: PartialEq + std::fmt::Debug>(
    messages: &[Vec<u8>],
    by_hand: impl Fn(&[u8]) -> Option<T>,
    by_types: impl Fn(&[u8]) -> Option<T>,
) {
    let (mut taken, mut left) = (0_usize, 0_usize);
    for message in messages {
        assert!(by_hand(message).is_some(), "taken while whole: {message:02x?}");
        for bytes in damaged(message) {
            match by_hand(&bytes) {
                Some(value) => {
                    assert_eq!(by_types(&bytes).as_ref(), Some(&value), "{bytes:02x?}");
                    taken += 1;
                }
                None => left += 1,
            }
        }
    }
    assert!(taken > messages.len() && left > messages.len(), "{taken} taken, {left} left");
}

fn to_participants() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for branch in branches() {
        let operation = operation(40);
        messages.push(write::prepare(id(), &branch, None, false, Duration::ZERO, ""));
        let time_left = Duration::new(3600, 999_999_999);
        messages.push(write::prepare(id(), &branch, Some(&operation), true, time_left, TRACEPARENT));
        messages.push(write::commit(id(), &branch, &evidences()[0]));
        messages.push(write::abort(id(), &branch));
    }
    messages
}

fn from_participants() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for branch in branches() {
        messages.extend(evidences().iter().map(|evidence| write::vote_commit(id(), &branch, evidence)));
        messages.push(types::vote(id(), &branch, Vote::ReadOnly));
        messages.push(write::finished(id(), &branch, &BranchOutcome::Committed));
        messages.push(write::finished(id(), &branch, &BranchOutcome::Aborted));
    }
    messages
}

#[test]
fn a_damaged_message_to_a_participant_means_the_same_both_ways() {
    compare(&to_participants(), read::coordinator_message, types::coordinator_message);
}

#[test]
fn a_damaged_message_of_a_participant_means_the_same_both_ways() {
    compare(&from_participants(), read::participant_message, types::participant_message);
}

#[test]
fn a_damaged_answer_means_the_same_both_ways() {
    let answers: Vec<Vec<u8>> = [0, 7, 300, u64::MAX].map(write::pipeline_committed).into();
    compare(&answers, read::pipeline_committed, types::pipeline_committed);
}

#[test]
fn a_damaged_submit_means_the_same_both_ways() {
    let submits = [
        write::pipeline_submit(0, id(), &submitted()[..1], None, v1::Wait::Unspecified),
        write::pipeline_submit(7, id(), &submitted(), Some(Duration::from_secs(30)), v1::Wait::Decision),
    ];
    let (mut taken, mut left) = (0_usize, 0_usize);
    for submit in &submits {
        for bytes in damaged(submit) {
            let Some(by_hand) = read::pipeline_submit(&bytes) else {
                left += 1;
                continue;
            };
            taken += 1;
            match types::pipeline_submit(&bytes) {
                Some(by_types) => assert_eq!(by_hand, by_types.fields(), "{bytes:02x?}"),
                // Only of texts the reader is left to judge; then the whole call cannot be decoded.
                None => assert!(
                    by_hand.operations.iter().any(|operation| {
                        str::from_utf8(operation.resource).is_err() || str::from_utf8(operation.name).is_err()
                    }),
                    "{bytes:02x?}"
                ),
            }
        }
    }
    assert!(taken > submits.len() && left > submits.len(), "{taken} taken, {left} left");
}

#[test]
fn a_damaged_batch_has_the_same_entries_both_ways() {
    let mut frame = Vec::new();
    for message in [
        write::vote_commit(id(), &branch(), &evidences()[0]),
        write::finished(id(), &branch(), &BranchOutcome::Committed),
    ] {
        write::entry(&mut frame, 1, &message);
    }
    for bytes in damaged(&frame) {
        let Some(entries) = read::entries(&bytes, 1) else { continue };
        let each: Result<Vec<_>, _> = entries.into_iter().map(v1::ParticipantMessage::decode).collect();
        match (each, v1::AttachRequest::decode(bytes.as_slice())) {
            (Ok(each), Ok(whole)) => assert_eq!(each, whole.messages, "{bytes:02x?}"),
            (Err(_), Err(_)) => {}
            (each, whole) => panic!("{bytes:02x?}: {each:?}, {whole:?}"),
        }
    }
}
