//! The chain, link by link, in bounded memory: whether each entry is whole and follows the one before,
//! and whether one that is known from elsewhere is among them.

use std::str::FromStr;

use pactum_coordinator::decision_log::AuditEntry;
use pactum_proto::error::ErrorCode;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::AuditEntryView;

/// A number and its hash, kept from an earlier look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    number: u64,
    hash: String,
}

/// Reads `NUMBER:HASH`.
impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HASH_DIGITS: usize = 64;
        let malformed =
            || "write it like 17:5f3c.., as `audit export` and `audit verify` print it".to_owned();
        let (number, hash) = text.split_once(':').ok_or_else(malformed)?;
        let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(malformed)?;
        if hash.len() != HASH_DIGITS || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        Ok(Self { number, hash: hash.to_ascii_lowercase() })
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Chain {
    last: Option<AuditEntry>,
    expected: Option<Expected>,
    met: bool,
    /// The first thing that is wrong.
    broken: Option<String>,
}

impl Chain {
    /// Before the first entry.
    pub(super) fn new(expected: Option<Expected>) -> Self {
        Self { expected, ..Self::default() }
    }

    /// The next entry. Goes on after a break, so that an export is written to its end.
    pub(super) fn add(&mut self, view: &AuditEntryView) {
        let entry = match AuditEntry::try_from(view) {
            Ok(entry) => entry,
            Err(error) => return self.breaks(error.to_string()),
        };
        let number = entry.number;
        if !entry.is_whole() {
            self.breaks(format!("entry {number} was changed: its hash is not that of what it says"));
        } else if !entry.follows(self.last.as_ref()) {
            self.breaks(match &self.last {
                None => format!("the first entry has the number {number}: what stood before it is gone"),
                Some(last) if number != last.number + 1 => {
                    format!(
                        "entry {number} comes after entry {}: entries are missing or repeated",
                        last.number
                    )
                }
                Some(last) => {
                    format!("entry {number} follows another entry {} than the one that is here", last.number)
                }
            });
        }
        if let Some(expected) = self.expected.as_ref().filter(|expected| expected.number == number) {
            self.met = true;
            if expected.hash != view.hash {
                let text =
                    format!("entry {number} has the hash {}, not the expected {}", view.hash, expected.hash);
                self.breaks(text);
            }
        }
        self.last = Some(entry);
    }

    /// After the last entry: the last number, 0 if there is none, and its hash in hexadecimal digits.
    pub(super) fn end(self) -> Result<(u64, String), Failure> {
        let (number, hash) = match &self.last {
            None => (0, String::new()),
            Some(last) => (last.number, format!("{:?}", last.hash)),
        };
        let cut_off = self.expected.filter(|_| !self.met).map(|expected| {
            format!(
                "entry {} is expected, and the last one is {number}: the end was cut off",
                expected.number
            )
        });
        match self.broken.or(cut_off) {
            None => Ok((number, hash)),
            Some(broken) => Err(Failure::new(Exit::Failed, "the audit is broken")
                .cause(broken)
                .code(ErrorCode::AuditBroken)),
        }
    }

    /// What is wrong after the first break may only follow from it.
    fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }
}

#[cfg(test)]
mod tests {
    use pactum_coordinator::decision_log::{AuditDraft, AuditHash, AuditKind};
    use pactum_proto::v1;

    use super::*;

    fn entries(count: u64) -> Vec<AuditEntryView> {
        let mut previous = AuditHash::default();
        (1..=count)
            .map(|number| {
                let draft = AuditDraft {
                    kind: if number % 2 == 1 { AuditKind::Begun } else { AuditKind::Done },
                    begun: (number % 2 == 0).then(|| number - 1),
                    who: "ops".into(),
                    origin: "test".into(),
                    act: "resolve".into(),
                    target: "0199".into(),
                    reason: format!("reason {number}"),
                    plan: String::new(),
                    before: "{}".into(),
                    after: String::new(),
                    result: String::new(),
                    incarnation: None,
                };
                let entry = AuditEntry::link(number, 1_700_000_000_000_000, draft, previous);
                previous = entry.hash;
                AuditEntryView::from(v1::AuditEntry {
                    number,
                    at_microseconds: entry.at_microseconds,
                    kind: entry.draft.kind.name().into(),
                    begun: entry.draft.begun.unwrap_or(0),
                    who: entry.draft.who,
                    origin: entry.draft.origin,
                    act: entry.draft.act,
                    target: entry.draft.target,
                    reason: entry.draft.reason,
                    before: entry.draft.before,
                    previous: entry.previous.0.to_vec(),
                    hash: entry.hash.0.to_vec(),
                    ..v1::AuditEntry::default()
                })
            })
            .collect()
    }

    fn verdict(entries: &[AuditEntryView], expected: Option<&str>) -> Result<(u64, String), String> {
        let mut chain = Chain::new(expected.map(|text| text.parse().unwrap()));
        for entry in entries {
            chain.add(entry);
        }
        chain.end().map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_whole_chain_tells_its_last_number_and_hash() {
        let entries = entries(4);
        assert_eq!(verdict(&entries, None), Ok((4, entries[3].hash.clone())));
        assert_eq!(verdict(&[], None), Ok((0, String::new())));
        let kept = format!("3:{}", entries[2].hash);
        assert_eq!(verdict(&entries, Some(&kept)).unwrap().0, 4, "it has grown since");
    }

    /// Every way to tamper with it, of which each must be found.
    #[test]
    fn every_change_removal_and_insertion_is_found() {
        let whole = entries(5);
        let changed = |change: fn(&mut AuditEntryView)| {
            let mut entries = whole.clone();
            change(&mut entries[2]);
            entries
        };
        let mut removed = whole.clone();
        removed.remove(2);
        let mut swapped = whole.clone();
        swapped.swap(2, 3);
        let mut repeated = whole.clone();
        repeated.insert(3, whole[2].clone());
        // Rewritten with a right hash of its own: the next one does not follow it.
        let mut rewritten = whole.clone();
        let mut forged = AuditEntry::try_from(&whole[2]).unwrap();
        forged.draft.reason = "another".into();
        let forged = AuditEntry::link(3, forged.at_microseconds, forged.draft, forged.previous);
        rewritten[2].reason = "another".into();
        rewritten[2].hash = format!("{:?}", forged.hash);
        for (what, entries) in [
            ("was changed", changed(|entry| entry.reason.push('!'))),
            ("was changed", changed(|entry| entry.at_microseconds += 1)),
            ("was changed", changed(|entry| entry.who = "somebody".into())),
            ("was changed", changed(|entry| entry.begun = Some(1))),
            ("kind cannot be read", changed(|entry| entry.kind = "nothing".into())),
            ("hash cannot be read", changed(|entry| entry.hash.clear())),
            ("missing or repeated", removed),
            ("missing or repeated", swapped),
            ("missing or repeated", repeated),
            ("follows another entry 3", rewritten),
            ("what stood before it is gone", whole[1..].to_vec()),
        ] {
            let said = verdict(&entries, None).unwrap_err();
            assert!(said.contains(what) && said.contains("PACTUM-0046"), "{what}: {said}");
        }
    }

    #[test]
    fn an_end_that_was_cut_off_shows_against_what_was_kept() {
        let entries = entries(5);
        let kept = format!("5:{}", entries[4].hash);
        assert!(verdict(&entries[..4], None).is_ok(), "nothing shows it from inside");
        assert!(verdict(&entries[..4], Some(&kept)).unwrap_err().contains("cut off"));
        assert!(verdict(&[], Some(&kept)).unwrap_err().contains("cut off"));
        let other = format!("5:{}", "0".repeat(64));
        assert!(verdict(&entries, Some(&other)).unwrap_err().contains("not the expected"));
    }

    #[test]
    fn what_is_expected_is_a_number_and_a_hash() {
        let hash = "A".repeat(64);
        assert_eq!(format!("7:{hash}").parse::<Expected>(), Ok(Expected { number: 7, hash: "a".repeat(64) }));
        for bad in ["", "7", "7:", &hash, &format!("0:{hash}"), &format!("x:{hash}"), &format!("7:{hash}0")] {
            assert!(bad.parse::<Expected>().is_err(), "{bad}");
        }
    }
}
