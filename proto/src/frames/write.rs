//! The usual messages, written as bytes: the same that the generated types make.

use std::time::Duration;

use pactum_core::coordinator::Operation;
use pactum_core::id::{Branch, TransactionId};
use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::Evidence;
use prost::encoding::encode_varint;

use crate::v1;

/// Room for one message of an ordinary commit, so that it is taken once.
const ROOM: usize = 192;

fn key(out: &mut Vec<u8>, field: u8, kind: u8) {
    // All fields here are numbered below 16: their keys are one byte.
    out.push(field << 3 | kind);
}

fn varint(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        key(out, field, 0);
        encode_varint(value, out);
    }
}

fn fixed64(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        key(out, field, 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if !value.is_empty() {
        entry(out, field, value);
    }
}

/// Appends a field with this content: an entry of a batch.
pub fn entry(out: &mut Vec<u8>, field: u8, content: &[u8]) {
    key(out, field, 2);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// Appends a message within a message.
fn nested(out: &mut Vec<u8>, field: u8, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, field, 2);
    // Nearly every one is shorter than 128 bytes: then its length is this one byte.
    let at = out.len();
    out.push(0);
    write(out);
    let length = out.len() - at - 1;
    if let Ok(short @ 0..128) = u8::try_from(length) {
        out[at] = short;
    } else {
        let mut prefix = Vec::with_capacity(10);
        encode_varint(length as u64, &mut prefix);
        out.splice(at..=at, prefix);
    }
}

fn id(out: &mut Vec<u8>, id: TransactionId) {
    nested(out, 1, |out| {
        bytes(out, 1, id.incarnation.as_uuid().as_bytes());
        bytes(out, 2, id.gid.as_uuid().as_bytes());
    });
}

fn branch(out: &mut Vec<u8>, branch: &Branch) {
    nested(out, 2, |out| {
        fixed64(out, 1, branch.id.number());
        bytes(out, 2, branch.resource.as_str().as_bytes());
        if !branch.instance.is_nil() {
            bytes(out, 3, branch.instance.as_uuid().as_bytes());
        }
        varint(out, 4, u64::from(branch.marker));
    });
}

fn evidence(out: &mut Vec<u8>, evidence: &Evidence) {
    nested(out, 3, |out| {
        bytes(out, 1, evidence.execution.as_bytes());
        bytes(out, 2, evidence.anchor.as_bytes());
    });
}

fn duration(out: &mut Vec<u8>, field: u8, length: Duration) {
    nested(out, field, |out| {
        // Beyond 290 000 million years the wire has no number for it.
        varint(out, 1, length.as_secs().min(i64::MAX.unsigned_abs()));
        varint(out, 2, u64::from(length.subsec_nanos()));
    });
}

fn operation(out: &mut Vec<u8>, field: u8, branch: u64, resource: &str, name: &str, payload: &[u8]) {
    nested(out, field, |out| {
        fixed64(out, 1, branch);
        bytes(out, 2, resource.as_bytes());
        bytes(out, 3, name.as_bytes());
        bytes(out, 4, payload);
    });
}

fn message(field: u8, room: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(room);
    nested(&mut out, field, write);
    out
}

/// A `CoordinatorMessage` that asks for a vote.
pub fn prepare(
    of: TransactionId,
    at: &Branch,
    given: Option<&Operation>,
    one_phase: bool,
    time_left: Duration,
    traceparent: &str,
) -> Vec<u8> {
    let room = ROOM + traceparent.len() + given.map_or(0, |given| given.payload.len());
    message(3, room, |out| {
        id(out, of);
        branch(out, at);
        varint(out, 3, u64::from(one_phase));
        if let Some(given) = given {
            operation(out, 4, at.id.number(), at.resource.as_str(), &given.name, &given.payload);
        }
        duration(out, 5, time_left);
        bytes(out, 6, traceparent.as_bytes());
    })
}

/// A `CoordinatorMessage` that tells commit.
pub fn commit(of: TransactionId, at: &Branch, decided: &Evidence) -> Vec<u8> {
    message(4, ROOM, |out| {
        id(out, of);
        branch(out, at);
        evidence(out, decided);
    })
}

/// A `CoordinatorMessage` that tells abort.
pub fn abort(of: TransactionId, at: &Branch) -> Vec<u8> {
    message(5, ROOM, |out| {
        id(out, of);
        branch(out, at);
    })
}

/// A `ParticipantMessage` that votes commit.
pub fn vote_commit(of: TransactionId, at: &Branch, promised: &Evidence) -> Vec<u8> {
    message(3, ROOM, |out| {
        id(out, of);
        branch(out, at);
        evidence(out, promised);
    })
}

/// A `ParticipantMessage` that says how a branch ended.
pub fn finished(of: TransactionId, at: &Branch, outcome: &BranchOutcome) -> Vec<u8> {
    let outcome = v1::BranchOutcome::from(outcome.clone());
    message(4, ROOM, |out| {
        id(out, of);
        branch(out, at);
        varint(out, 3, outcome as u64);
    })
}

/// A `PipelineCall` with a Submit that says nothing of itself.
pub fn pipeline_submit(
    call_id: u64,
    of: TransactionId,
    operations: &[v1::Operation],
    timeout: Option<Duration>,
    wait: v1::Wait,
) -> Vec<u8> {
    let payloads: usize = operations.iter().map(|operation| 64 + operation.payload.len()).sum();
    let mut out = Vec::with_capacity(ROOM + payloads);
    varint(&mut out, 1, call_id);
    nested(&mut out, 3, |out| {
        id(out, of);
        for v1::Operation { branch, resource, name, payload } in operations {
            operation(out, 2, *branch, resource, name, payload);
        }
        if let Some(timeout) = timeout {
            duration(out, 4, timeout);
        }
        varint(out, 5, wait as u64);
    });
    out
}

/// A `PipelineAnswer` that says committed, with all branches finished.
pub fn pipeline_committed(call_id: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    varint(&mut out, 1, call_id);
    nested(&mut out, 2, |out| varint(out, 1, v1::OutcomeState::Committed as u64));
    out
}
