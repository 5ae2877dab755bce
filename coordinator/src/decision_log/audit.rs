//! The audit: what operators did, as a chain of entries that are only ever added.
//!
//! An act is written down before it is done ([`AuditKind::Begun`]) and once more when it has ended.
//! Each entry holds the hash of the one before it, so that a change, a removal or an insertion
//! anywhere but at the end shows. What the chain cannot show is that its newest entries were cut
//! off: whoever wants to know that keeps a number and its hash elsewhere.

use std::fmt;
use std::time::{Duration, SystemTime};

use pactum_core::id::Incarnation;
use sha2::{Digest as _, Sha256};

use super::DecisionLogError;

/// Bytes of one text of an entry at most: a plan of some thousand branches.
pub const AUDIT_TEXT_BYTES_MAX: usize = 1 << 20;

/// Beginnings that [`unended_audits`](super::DecisionLog::unended_audits) answers at most.
pub(super) const UNENDED_MAX: u32 = 100;

/// A link's hash (SHA-256).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AuditHash(pub [u8; 32]);

impl fmt::Debug for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What an entry tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AuditKind {
    /// An act is about to be done.
    Begun,
    /// It was done.
    Done,
    /// It was refused, by the log or by a database: nothing happened.
    Refused,
    /// It failed; it may have happened in part.
    Failed,
    /// Its coordinator died in the middle of it: how things stood when that was found.
    Found,
}

impl AuditKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Begun, Self::Done, Self::Refused, Self::Failed, Self::Found];

    /// Its name, as stored and printed. Never changed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Found => "found",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// An entry to be added.
///
/// A log keeps it only if `who` and `act` say something, a beginning is the end of none and every other
/// one of some, and no text is longer than [`AUDIT_TEXT_BYTES_MAX`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditDraft {
    /// What it tells.
    pub kind: AuditKind,
    /// The beginning that it is the end of; `None` in a beginning.
    pub begun: Option<u64>,
    /// Who: a token's name, or what the caller said.
    pub who: String,
    /// From where.
    pub origin: String,
    /// The act, for example `resolve`.
    pub act: String,
    /// Its target.
    pub target: String,
    /// The operator's reason.
    pub reason: String,
    /// The plan, with its hash.
    pub plan: String,
    /// The state before, in JSON.
    pub before: String,
    /// The state after, in JSON; empty in a beginning.
    pub after: String,
    /// What came of it; empty in a beginning.
    pub result: String,
    /// The coordinator; `None` if a command wrote it without one.
    pub incarnation: Option<Incarnation>,
}

impl AuditDraft {
    /// Its texts, by name, in the order in which they are hashed.
    fn texts(&mut self) -> [(&'static str, &mut String); 9] {
        [
            ("who", &mut self.who),
            ("origin", &mut self.origin),
            ("act", &mut self.act),
            ("target", &mut self.target),
            ("reason", &mut self.reason),
            ("plan", &mut self.plan),
            ("before", &mut self.before),
            ("after", &mut self.after),
            ("result", &mut self.result),
        ]
    }

    /// As every log can hold it; the hash is of this.
    ///
    /// # Errors
    /// [`DecisionLogError::Refused`].
    pub(super) fn storable(&self) -> Result<Self, DecisionLogError> {
        let refused = |found: String, remedy| {
            Err(DecisionLogError::Refused { setting: "an entry of the audit", found, remedy })
        };
        let mut draft = self.clone();
        for (name, text) in draft.texts() {
            if text.contains('\0') {
                *text = text.replace('\0', "\u{fffd}");
            }
            if text.len() > AUDIT_TEXT_BYTES_MAX {
                return refused(format!("too long: {name} has {} bytes", text.len()), "keep it under 1 MiB");
            }
            if text.is_empty() && ["who", "act"].contains(&name) {
                return refused(format!("without `{name}`"), "say it");
            }
        }
        if (draft.kind == AuditKind::Begun) != draft.begun.is_none() {
            let found = format!("{:?}, and the end of {:?}", draft.kind, draft.begun);
            return refused(found, "let a beginning be the end of none, and every other one the end of some");
        }
        if draft.begun.is_some_and(|begun| begun == 0 || i64::try_from(begun).is_err()) {
            return refused(format!("the end of {:?}", draft.begun), "use the number of its beginning");
        }
        Ok(draft)
    }
}

/// A link of the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEntry {
    /// From 1, without gaps.
    pub number: u64,
    /// When, by the log's clock, in whole microseconds since 1970.
    pub at_microseconds: i64,
    /// What it says.
    pub draft: AuditDraft,
    /// The hash of the entry before; zeros in the first.
    pub previous: AuditHash,
    /// The hash of this one.
    pub hash: AuditHash,
}

impl AuditEntry {
    /// The entry that follows `last`, or the first.
    pub(super) fn after(last: Option<(u64, AuditHash)>, at_microseconds: i64, draft: AuditDraft) -> Self {
        let (number, previous) = last.map_or((1, AuditHash::default()), |(number, hash)| (number + 1, hash));
        Self::link(number, at_microseconds, draft, previous)
    }

    /// The entry that follows one of `number - 1` with the hash `previous`.
    pub fn link(number: u64, at_microseconds: i64, draft: AuditDraft, previous: AuditHash) -> Self {
        let hash = hash(number, at_microseconds, &draft, previous);
        Self { number, at_microseconds, draft, previous, hash }
    }

    /// Whether its hash is that of what it says.
    pub fn is_whole(&self) -> bool {
        self.hash == hash(self.number, self.at_microseconds, &self.draft, self.previous)
    }

    /// Whether it follows that entry; without one, whether it is the first.
    pub fn follows(&self, before: Option<&Self>) -> bool {
        match before {
            None => self.number == 1 && self.previous == AuditHash::default(),
            Some(before) => self.number == before.number + 1 && self.previous == before.hash,
        }
    }

    /// When it was written.
    pub fn at(&self) -> SystemTime {
        let since = Duration::from_micros(self.at_microseconds.unsigned_abs());
        SystemTime::UNIX_EPOCH + since
    }
}

/// Each part with its length before it, so that no two entries run together. Stored in logs and in
/// exports: never to be changed.
fn hash(number: u64, at_microseconds: i64, draft: &AuditDraft, previous: AuditHash) -> AuditHash {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(b"pactum audit 1");
    part(&number.to_be_bytes());
    part(&at_microseconds.to_be_bytes());
    part(draft.kind.name().as_bytes());
    part(&draft.begun.unwrap_or(0).to_be_bytes());
    for text in [
        &draft.who,
        &draft.origin,
        &draft.act,
        &draft.target,
        &draft.reason,
        &draft.plan,
        &draft.before,
        &draft.after,
        &draft.result,
    ] {
        part(text.as_bytes());
    }
    part(draft.incarnation.as_ref().map_or(&[][..], |incarnation| incarnation.as_uuid().as_bytes()));
    part(&previous.0);
    AuditHash(hash.finalize().into())
}

/// Now by this machine's clock, in whole microseconds since 1970.
pub(super) fn now_microseconds() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
}

/// An entry as both databases hold it.
pub(super) struct AuditColumns {
    pub(super) number: i64,
    pub(super) at_microseconds: i64,
    pub(super) kind: String,
    pub(super) begun: Option<i64>,
    /// But for kind, beginning and incarnation, which are here and below.
    pub(super) texts: [String; 9],
    pub(super) incarnation: Option<Incarnation>,
    pub(super) previous: Vec<u8>,
    pub(super) hash: Vec<u8>,
}

impl AuditColumns {
    /// The entry, whether or not it is whole.
    ///
    /// # Errors
    /// [`DecisionLogError::Corrupt`].
    pub(super) fn entry(self) -> Result<AuditEntry, DecisionLogError> {
        let number = self.number;
        self.read().map_err(|problem| DecisionLogError::Corrupt {
            gid: format!("entry {number} of the audit"),
            problem: problem.to_owned(),
        })
    }

    fn read(self) -> Result<AuditEntry, &'static str> {
        let number = |number: i64| u64::try_from(number).or(Err("a negative number"));
        let hash = |bytes: Vec<u8>| bytes.try_into().map(AuditHash).or(Err("a hash of another length"));
        let [who, origin, act, target, reason, plan, before, after, result] = self.texts;
        Ok(AuditEntry {
            number: number(self.number)?,
            at_microseconds: self.at_microseconds,
            draft: AuditDraft {
                kind: AuditKind::from_name(&self.kind).ok_or("of an unknown kind")?,
                begun: self.begun.map(number).transpose()?,
                who,
                origin,
                act,
                target,
                reason,
                plan,
                before,
                after,
                result,
                incarnation: self.incarnation,
            },
            previous: hash(self.previous)?,
            hash: hash(self.hash)?,
        })
    }
}

/// Which part of the audit to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuditPage {
    /// Entries after that number, oldest first.
    After(u64),
    /// Entries before that number, newest first; `None`: the newest.
    Before(Option<u64>),
}

/// Where an audit does not hold together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit is broken at entry {number}: {why}")]
pub struct Broken {
    /// The number of the first entry that does not fit, as it is written there.
    pub number: u64,
    /// What does not fit, for people.
    pub why: &'static str,
}

/// Whether these entries, oldest first, are links of one chain: each whole, each following the one before.
///
/// `first_before` is the entry before the first of them, known from elsewhere to be right; without one
/// they must begin with number 1. No entries are a chain. An entry that was changed, taken out, put in or
/// moved shows; entries cut off at the end do not, nor a chain that was made anew from some entry on:
/// whoever wants to see those compares the last entry with one that he kept elsewhere.
///
/// # Errors
/// [`Broken`]: the first entry that does not fit. Up to the one before it all is as it was written.
pub fn verify<'a>(
    entries: impl Iterator<Item = &'a AuditEntry>,
    first_before: Option<&AuditEntry>,
) -> Result<(), Broken> {
    let mut last = first_before.map(|before| (before.number, before.hash));
    for entry in entries {
        let broken = |why| Err(Broken { number: entry.number, why });
        let (expected, previous) =
            last.map_or((1, AuditHash::default()), |(number, hash)| (number + 1, hash));
        if entry.number < expected {
            return broken("its number comes twice, or out of order");
        }
        if entry.number > expected {
            return broken("entries before it are missing");
        }
        if entry.previous != previous {
            return broken("it does not follow the entry before it: one of the two was changed or replaced");
        }
        if !entry.is_whole() {
            return broken("it was changed after it had been written");
        }
        last = Some((entry.number, entry.hash));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::decision_log::contract::{beginning, end};

    /// Four entries: two acts.
    fn chain() -> Vec<AuditEntry> {
        let own = Some(Incarnation::from_uuid(Uuid::from_u128(7)));
        let mut chain: Vec<AuditEntry> = Vec::new();
        for step in 0..4 {
            let last = chain.last().map(|last| (last.number, last.hash));
            let draft = match chain.last() {
                Some(begun) if step % 2 == 1 => end(begun, AuditKind::Done),
                _ => beginning(own, &step.to_string()),
            };
            chain.push(AuditEntry::after(last, 1_790_000_000_123_456 + step, draft));
        }
        chain
    }

    fn broken_at(entries: &[AuditEntry]) -> Option<u64> {
        verify(entries.iter(), None).err().map(|broken| broken.number)
    }

    #[test]
    fn a_chain_and_each_part_of_it_are_whole() {
        let chain = chain();
        assert_eq!(broken_at(&chain), None);
        for start in 1..chain.len() {
            assert_eq!(verify(chain[start..].iter(), Some(&chain[start - 1])), Ok(()));
        }
        assert_eq!(verify([].iter(), None), Ok(()));
        assert_eq!(broken_at(&chain[..3]), None, "what is cut off at the end does not show");
    }

    #[test]
    fn a_change_of_any_field_shows_where_it_was_made() {
        type Change = fn(&mut AuditEntry);
        let cases: [(&str, Change); 16] = [
            ("time", |entry| entry.at_microseconds += 1),
            ("kind", |entry| entry.draft.kind = AuditKind::Refused),
            ("begun", |entry| entry.draft.begun = Some(9)),
            ("who", |entry| entry.draft.who.push('x')),
            ("origin", |entry| entry.draft.origin.push('x')),
            ("act", |entry| entry.draft.act.push('x')),
            ("target", |entry| entry.draft.target.push('x')),
            ("reason", |entry| entry.draft.reason.push('x')),
            ("plan", |entry| entry.draft.plan.push('x')),
            ("before", |entry| entry.draft.before.push('x')),
            ("after", |entry| entry.draft.after.push('x')),
            ("result", |entry| entry.draft.result.push('x')),
            ("incarnation", |entry| entry.draft.incarnation = None),
            ("previous", |entry| entry.previous.0[31] ^= 1),
            ("hash", |entry| entry.hash.0[0] ^= 1),
            // A letter that moves from one text to the next.
            ("border", |entry| {
                let letter = entry.draft.who.pop().unwrap();
                entry.draft.origin.insert(0, letter);
            }),
        ];
        for (name, change) in cases {
            for place in 0..4 {
                let mut changed = chain();
                change(&mut changed[place]);
                assert_ne!(changed, chain(), "{name}");
                assert_eq!(broken_at(&changed), Some(place as u64 + 1), "{name} of entry {}", place + 1);
            }
        }
    }

    #[test]
    fn an_entry_that_was_taken_out_put_in_or_moved_shows() {
        let chain = chain();
        for place in 0..3 {
            let mut removed = chain.clone();
            removed.remove(place);
            assert_eq!(broken_at(&removed), Some(place as u64 + 2), "the one after it");
            let mut twice = chain.clone();
            twice.insert(place + 1, chain[place].clone());
            assert_eq!(broken_at(&twice), Some(place as u64 + 1));
            let mut moved = chain.clone();
            moved.swap(place, place + 1);
            assert_eq!(broken_at(&moved), Some(moved[place].number));
        }
        // Whole by itself, and numbered as if it belonged there.
        for place in 1..3 {
            let last = &chain[place - 1];
            let forged = AuditEntry::link(last.number + 1, 1, beginning(None, "forged"), last.hash);
            let mut put_in = chain.clone();
            put_in.insert(place, forged.clone());
            assert_eq!(broken_at(&put_in), Some(chain[place].number), "the number comes twice");
            let mut replaced = chain.clone();
            replaced[place] = forged;
            assert_eq!(broken_at(&replaced), Some(chain[place].number + 1), "the next one followed another");
        }
        // A chain that does not begin with the first.
        assert_eq!(broken_at(&chain[1..]), Some(2));
        assert_eq!(verify(chain[2..].iter(), Some(&chain[0])).unwrap_err().number, 3);
    }

    /// What was exported once is verified years later: how it is hashed never changes.
    #[test]
    fn the_hash_is_what_it_always_was() {
        let hashes: Vec<String> = chain().iter().map(|entry| format!("{:?}", entry.hash)).collect();
        let expected = [
            "5b0b2f8a62191b85eb2016390dfce04a3bd1be3cc85814807e1d8261f5127f39",
            "bba27acd0c29ec20591b9e8a87a9f6abeed3389638746c47d8c6a5a5063b8f2b",
            "743965ea941849af27df9825299fa3c56d35dca7b26efd9fdc6c4afef12ebdb9",
            "969a12ec15e123c7a1b6e148926841a0af6b7d7fbcaeade822d246cb6964650b",
        ];
        assert_eq!(hashes, expected);
    }
}
