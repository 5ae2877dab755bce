//! One entry of the audit, as it is printed, exported and read back: nothing of it may be lost on the
//! way, or its hash could not be computed again.

use jiff::Timestamp;
use pactum_coordinator::decision_log::{AuditDraft, AuditEntry, AuditHash, AuditKind};
use pactum_core::id::Incarnation;
use pactum_proto::v1;
use serde::{Deserialize, Serialize};

/// One entry of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditEntryView {
    pub(crate) number: u64,
    /// For people; what is hashed is `at_microseconds`.
    pub(crate) at: Option<Timestamp>,
    pub(crate) at_microseconds: i64,
    /// `begun`, `done`, `refused`, `failed` or `found`.
    pub(crate) kind: String,
    /// The beginning that it is the end of; null in a beginning.
    pub(crate) begun: Option<u64>,
    pub(crate) who: String,
    pub(crate) origin: String,
    pub(crate) act: String,
    pub(crate) target: String,
    pub(crate) reason: String,
    pub(crate) plan: String,
    /// JSON, as the text that was hashed.
    pub(crate) before: String,
    /// JSON, as the text that was hashed; empty in a beginning.
    pub(crate) after: String,
    pub(crate) result: String,
    /// Null if a command wrote it without a coordinator.
    pub(crate) incarnation: Option<String>,
    pub(crate) previous: String,
    pub(crate) hash: String,
}

/// An entry that no coordinator can have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {number}: its {field} cannot be read")]
pub(crate) struct BrokenEntry {
    number: u64,
    field: &'static str,
}

impl From<v1::AuditEntry> for AuditEntryView {
    fn from(from: v1::AuditEntry) -> Self {
        Self {
            number: from.number,
            at: Timestamp::from_microsecond(from.at_microseconds).ok(),
            at_microseconds: from.at_microseconds,
            kind: from.kind,
            begun: Some(from.begun).filter(|begun| *begun != 0),
            who: from.who,
            origin: from.origin,
            act: from.act,
            target: from.target,
            reason: from.reason,
            plan: from.plan,
            before: from.before,
            after: from.after,
            result: from.result,
            // What is no incarnation is kept as it came: the hash then says that it is wrong.
            incarnation: match from.incarnation.as_slice() {
                [] => None,
                bytes => Some(super::incarnation(bytes).unwrap_or_else(|| hex(bytes))),
            },
            previous: hex(&from.previous),
            hash: hex(&from.hash),
        }
    }
}

impl TryFrom<&AuditEntryView> for AuditEntry {
    type Error = BrokenEntry;

    fn try_from(from: &AuditEntryView) -> Result<Self, BrokenEntry> {
        let broken = |field| BrokenEntry { number: from.number, field };
        let incarnation = match &from.incarnation {
            None => None,
            Some(text) => Some(text.parse::<Incarnation>().map_err(|_not_one| broken("incarnation"))?),
        };
        Ok(Self {
            number: from.number,
            at_microseconds: from.at_microseconds,
            draft: AuditDraft {
                kind: AuditKind::from_name(&from.kind).ok_or_else(|| broken("kind"))?,
                begun: from.begun,
                who: from.who.clone(),
                origin: from.origin.clone(),
                act: from.act.clone(),
                target: from.target.clone(),
                reason: from.reason.clone(),
                plan: from.plan.clone(),
                before: from.before.clone(),
                after: from.after.clone(),
                result: from.result.clone(),
                incarnation,
            },
            previous: unhex(&from.previous).ok_or_else(|| broken("previous hash"))?,
            hash: unhex(&from.hash).ok_or_else(|| broken("hash"))?,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string never fails");
        text
    })
}

/// The hash of 64 hexadecimal digits.
pub(super) fn unhex(text: &str) -> Option<AuditHash> {
    let mut hash = AuditHash::default();
    if text.len() != 2 * hash.0.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in hash.0.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_whole_from_its_json() {
        let draft = AuditDraft {
            kind: AuditKind::Begun,
            begun: None,
            who: "ops \"\n".into(),
            origin: "127.0.0.1 grpc".into(),
            act: "resolve".into(),
            target: "0199".into(),
            reason: "caf\u{e9}".into(),
            plan: "p".into(),
            before: "{\"state\": 1}".into(),
            after: String::new(),
            result: String::new(),
            incarnation: Some(Incarnation::NIL),
        };
        let entry = AuditEntry::link(1, 1_700_000_000_123_456, draft, AuditHash::default());
        let wire = v1::AuditEntry {
            number: entry.number,
            at_microseconds: entry.at_microseconds,
            kind: entry.draft.kind.name().into(),
            who: entry.draft.who.clone(),
            origin: entry.draft.origin.clone(),
            act: entry.draft.act.clone(),
            target: entry.draft.target.clone(),
            reason: entry.draft.reason.clone(),
            plan: entry.draft.plan.clone(),
            before: entry.draft.before.clone(),
            incarnation: vec![0; 16],
            previous: entry.previous.0.to_vec(),
            hash: entry.hash.0.to_vec(),
            ..v1::AuditEntry::default()
        };
        let line = serde_json::to_string(&AuditEntryView::from(wire)).unwrap();
        let read: AuditEntryView = serde_json::from_str(&line).unwrap();
        let back = AuditEntry::try_from(&read).unwrap();
        assert_eq!(back, entry);
        assert!(back.is_whole() && back.follows(None));
    }

    #[test]
    fn what_is_no_hash_is_not_read_as_one() {
        assert!(unhex(&"0".repeat(63)).is_none());
        assert!(unhex(&"g".repeat(64)).is_none());
        assert!(unhex(&"+1".repeat(32)).is_none(), "a sign is no digit");
        assert!(unhex(&"ab".repeat(32)).is_some());
    }
}
