//! The usual messages, read from their bytes.
//!
//! Every function answers `None` for whatever it does not take: what is malformed, out of bounds, or only
//! unusual, such as a field given twice or one of a later version. The caller then decodes the
//! message by its generated type. So nothing here refuses anything.

use std::time::Duration;

use pactum_core::coordinator::Operation;
use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::{Evidence, Vote};
use prost::encoding::decode_varint;

use crate::v1;

/// A name of a resource or a handler, if it is one.
fn name(bytes: &[u8]) -> Option<ResourceName> {
    ResourceName::new(str::from_utf8(bytes).ok()?).ok()
}

/// A value on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    fn fixed64(self) -> Option<u64> {
        if let Self::Fixed64(number) = self { Some(number) } else { None }
    }

    fn varint(self) -> Option<u64> {
        if let Self::Varint(number) = self { Some(number) } else { None }
    }

    fn flag(self) -> Option<bool> {
        match self.varint()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// The fields of one message, in their order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value. `Err` for what is not a field.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, ()> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = decode_varint(&mut self.0).map_err(drop)?;
        let value = match key & 7 {
            0 => Value::Varint(decode_varint(&mut self.0).map_err(drop)?),
            1 => {
                let (number, rest) = self.0.split_first_chunk::<8>().ok_or(())?;
                self.0 = rest;
                Value::Fixed64(u64::from_le_bytes(*number))
            }
            2 => {
                let length = decode_varint(&mut self.0).map_err(drop)?;
                let length = usize::try_from(length).map_err(drop)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(())?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return Err(()),
        };
        Ok(Some((key >> 3, value)))
    }
}

/// Puts the fields of a message where they belong; a field that is given twice, or that the closure
/// does not take, ends it with `None`.
fn fields<'a>(bytes: &'a [u8], mut take: impl FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    let (mut fields, mut seen) = (Fields(bytes), 0_u64);
    while let Some((number, value)) = fields.next().ok()? {
        let bit = 1_u64.checked_shl(u32::try_from(number).ok()?)?;
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        take(number, value)?;
    }
    Some(())
}

/// The only field of a message: its number and content.
fn only(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut fields = Fields(bytes);
    let (number, value) = fields.next().ok()??;
    if fields.0.is_empty() { Some((number, value.bytes()?)) } else { None }
}

/// The entries of a batch: all of the frame's fields, if all have this number.
pub fn entries(frame: &[u8], field: u64) -> Option<Vec<&[u8]>> {
    let (mut fields, mut entries) = (Fields(frame), Vec::new());
    while let Some((number, value)) = fields.next().ok()? {
        match value {
            Value::Bytes(bytes) if number == field => entries.push(bytes),
            Value::Bytes(_) | Value::Varint(_) | Value::Fixed64(_) => return None,
        }
    }
    Some(entries)
}

fn uuid(bytes: &[u8]) -> Option<uuid::Uuid> {
    Some(uuid::Uuid::from_bytes(bytes.try_into().ok()?))
}

fn id(bytes: &[u8]) -> Option<TransactionId> {
    let (mut incarnation, mut gid) = (None, None);
    fields(bytes, |number, value| {
        match number {
            1 => incarnation = Some(uuid(value.bytes()?)?),
            2 => gid = Some(uuid(value.bytes()?)?),
            _ => return None,
        }
        Some(())
    })?;
    let gid = Gid::from_uuid(gid?);
    if gid.is_nil() {
        return None;
    }
    Some(TransactionId { incarnation: Incarnation::from_uuid(incarnation?), gid })
}

fn branch(bytes: &[u8]) -> Option<Branch> {
    let (mut id, mut resource, mut instance, mut marker) = (0, None, InstanceId::NIL, false);
    fields(bytes, |number, value| {
        match number {
            1 => id = value.fixed64()?,
            2 => resource = Some(name(value.bytes()?)?),
            3 => instance = InstanceId::from_uuid(uuid(value.bytes()?)?),
            4 => marker = value.flag()?,
            _ => return None,
        }
        Some(())
    })?;
    Some(Branch { id: BranchId::new(id), resource: resource?, instance, marker })
}

fn evidence(bytes: &[u8]) -> Option<Evidence> {
    let (mut execution, mut anchor) = ("", "");
    fields(bytes, |number, value| {
        let text = str::from_utf8(value.bytes()?).ok()?;
        if text.len() > Evidence::BYTES_MAX || text.contains('\0') {
            return None;
        }
        match number {
            1 => execution = text,
            2 => anchor = text,
            _ => return None,
        }
        Some(())
    })?;
    if execution.is_empty() { None } else { Some(Evidence::new(execution, anchor)) }
}

fn duration(bytes: &[u8]) -> Option<Duration> {
    let (mut seconds, mut nanos) = (0, 0);
    fields(bytes, |number, value| {
        match number {
            1 => seconds = value.varint()?,
            2 => nanos = value.varint()?,
            _ => return None,
        }
        Some(())
    })?;
    // Neither negative nor more than a year: what is, is looked at more closely elsewhere.
    let plain = seconds <= 31_536_000 && nanos < 1_000_000_000;
    plain.then(|| Duration::new(seconds, u32::try_from(nanos).unwrap_or(0)))
}

/// A usual message of a participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromParticipant {
    /// A vote to commit, or read-only.
    Vote(TransactionId, Branch, Vote),
    /// An end by a decision.
    Finished(TransactionId, Branch, BranchOutcome),
}

/// Reads a `ParticipantMessage`.
pub fn participant_message(bytes: &[u8]) -> Option<FromParticipant> {
    let (kind, bytes) = only(bytes)?;
    let (mut of, mut at) = (None, None);
    match kind {
        3 => {
            let mut vote = None;
            fields(bytes, |number, value| {
                match number {
                    1 => of = Some(id(value.bytes()?)?),
                    2 => at = Some(branch(value.bytes()?)?),
                    3 if vote.is_none() => vote = Some(Vote::Commit(evidence(value.bytes()?)?)),
                    4 if vote.is_none() && value.flag()? => vote = Some(Vote::ReadOnly),
                    _ => return None,
                }
                Some(())
            })?;
            Some(FromParticipant::Vote(of?, at?, vote?))
        }
        4 => {
            let mut outcome = None;
            fields(bytes, |number, value| {
                match number {
                    1 => of = Some(id(value.bytes()?)?),
                    2 => at = Some(branch(value.bytes()?)?),
                    3 => outcome = Some(plain_outcome(value.varint()?)?),
                    _ => return None,
                }
                Some(())
            })?;
            Some(FromParticipant::Finished(of?, at?, outcome?))
        }
        _ => None,
    }
}

fn plain_outcome(number: u64) -> Option<BranchOutcome> {
    match v1::BranchOutcome::try_from(i32::try_from(number).ok()?).ok()? {
        v1::BranchOutcome::Committed => Some(BranchOutcome::Committed),
        v1::BranchOutcome::Aborted => Some(BranchOutcome::Aborted),
        v1::BranchOutcome::Unspecified
        | v1::BranchOutcome::HeuristicCommitted
        | v1::BranchOutcome::HeuristicAborted
        | v1::BranchOutcome::HeuristicMixed
        | v1::BranchOutcome::HeuristicHazard => None,
    }
}

/// A usual message of a coordinator to a participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToParticipant {
    /// Asks for a vote.
    Prepare {
        /// The transaction.
        id: TransactionId,
        /// The branch.
        branch: Branch,
        /// To be executed first.
        operation: Option<Operation>,
        /// Commit at once through the marker.
        one_phase: bool,
        /// Until the transaction's deadline.
        time_left: Duration,
        /// Of whoever asks; may be empty.
        traceparent: String,
    },
    /// Tells commit.
    Commit(TransactionId, Branch, Evidence),
    /// Tells abort.
    Abort(TransactionId, Branch),
}

/// Reads a `CoordinatorMessage`.
pub fn coordinator_message(bytes: &[u8]) -> Option<ToParticipant> {
    let (kind, bytes) = only(bytes)?;
    let (mut of, mut at) = (None, None);
    match kind {
        3 => {
            let (mut one_phase, mut operation, mut time_left, mut traceparent) =
                (false, None, None, String::new());
            fields(bytes, |number, value| {
                match number {
                    1 => of = Some(id(value.bytes()?)?),
                    2 => at = Some(branch(value.bytes()?)?),
                    3 => one_phase = value.flag()?,
                    4 => operation = Some(read_operation(value.bytes()?)?),
                    5 => time_left = Some(duration(value.bytes()?)?),
                    6 => str::from_utf8(value.bytes()?).ok()?.clone_into(&mut traceparent),
                    _ => return None,
                }
                Some(())
            })?;
            let operation: Option<OperationFields<'_>> = operation;
            let operation = match operation {
                None => None,
                Some(given) => {
                    // Said once more with the branch; the generated type refuses what is no text.
                    str::from_utf8(given.resource).ok()?;
                    Some(Operation { name: name(given.name)?.as_str().into(), payload: given.payload.into() })
                }
            };
            let (id, branch, time_left) = (of?, at?, time_left?);
            Some(ToParticipant::Prepare { id, branch, operation, one_phase, time_left, traceparent })
        }
        4 => {
            let mut decided = None;
            fields(bytes, |number, value| {
                match number {
                    1 => of = Some(id(value.bytes()?)?),
                    2 => at = Some(branch(value.bytes()?)?),
                    3 => decided = Some(evidence(value.bytes()?)?),
                    _ => return None,
                }
                Some(())
            })?;
            Some(ToParticipant::Commit(of?, at?, decided?))
        }
        5 => {
            fields(bytes, |number, value| {
                match number {
                    1 => of = Some(id(value.bytes()?)?),
                    2 => at = Some(branch(value.bytes()?)?),
                    _ => return None,
                }
                Some(())
            })?;
            Some(ToParticipant::Abort(of?, at?))
        }
        _ => None,
    }
}

/// One operation of a Submit; what its texts are is for the reader to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationFields<'a> {
    /// The branch's number.
    pub branch: u64,
    /// The resource's name.
    pub resource: &'a [u8],
    /// The handler's name.
    pub name: &'a [u8],
    /// What the handler is given.
    pub payload: &'a [u8],
}

fn read_operation(bytes: &[u8]) -> Option<OperationFields<'_>> {
    let mut operation = OperationFields { branch: 0, resource: &[], name: &[], payload: &[] };
    fields(bytes, |number, value| {
        match number {
            1 => operation.branch = value.fixed64()?,
            2 => operation.resource = value.bytes()?,
            3 => operation.name = value.bytes()?,
            4 => operation.payload = value.bytes()?,
            _ => return None,
        }
        Some(())
    })?;
    Some(operation)
}

/// A Submit on a pipeline.
#[derive(Debug, PartialEq, Eq)]
pub struct SubmitFields<'a> {
    /// Names the call on its stream.
    pub call_id: u64,
    /// The transaction.
    pub id: TransactionId,
    /// Its operations, in their order.
    pub operations: Vec<OperationFields<'a>>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Whether to answer at the commit point; else when all branches have finished.
    pub wait_decision: bool,
}

/// Reads a `PipelineCall` that is a Submit without details.
pub fn pipeline_submit(bytes: &[u8]) -> Option<SubmitFields<'_>> {
    let (mut call_id, mut submit) = (0, None);
    fields(bytes, |number, value| {
        match number {
            1 => call_id = value.varint()?,
            3 => submit = Some(value.bytes()?),
            _ => return None,
        }
        Some(())
    })?;
    let (mut of, mut timeout, mut wait) = (None, None, 0);
    let mut operations = Vec::with_capacity(2);
    let mut rest = Fields(submit?);
    let mut seen = 0_u8;
    while let Some((number, value)) = rest.next().ok()? {
        if number == 2 {
            operations.push(read_operation(value.bytes()?)?);
            continue;
        }
        let bit = 1_u8.checked_shl(u32::try_from(number).ok()?)?;
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        match number {
            1 => of = Some(id(value.bytes()?)?),
            // Given and empty, as if it were not given.
            3 if value.bytes()?.is_empty() => {}
            4 => timeout = Some(duration(value.bytes()?)?),
            5 => wait = value.varint()?,
            _ => return None,
        }
    }
    let wait_decision = match v1::Wait::try_from(i32::try_from(wait).ok()?).ok()? {
        v1::Wait::Unspecified | v1::Wait::Finished => false,
        v1::Wait::Decision => true,
    };
    Some(SubmitFields { call_id, id: of?, operations, timeout, wait_decision })
}

/// Reads a `PipelineAnswer` that says committed, with all branches finished; answers the call.
pub fn pipeline_committed(bytes: &[u8]) -> Option<u64> {
    let (mut call_id, mut outcome) = (0, None);
    fields(bytes, |number, value| {
        match number {
            1 => call_id = value.varint()?,
            2 => outcome = Some(value.bytes()?),
            _ => return None,
        }
        Some(())
    })?;
    let mut fields = Fields(outcome?);
    let state = fields.next().ok()??;
    (fields.0.is_empty() && state == (1, Value::Varint(v1::OutcomeState::Committed as u64)))
        .then_some(call_id)
}
