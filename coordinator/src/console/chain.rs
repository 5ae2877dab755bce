//! Whether the audit is whole: every entry's hash is that of what it says, and follows the one before.

use pactum_core::id::Incarnation;
use pactum_proto::v1;

use crate::decision_log::{AuditDraft, AuditEntry, AuditHash, AuditKind};

/// Follows the chain from its first entry on.
#[derive(Debug, Default)]
pub(super) struct Chain {
    last: Option<AuditEntry>,
}

impl Chain {
    /// Takes the next entry.
    ///
    /// # Errors
    /// It breaks the chain, and how.
    pub(super) fn take(&mut self, entry: &v1::AuditEntry) -> Result<(), String> {
        let number = entry.number;
        let entry = read(entry).map_err(|field| format!("entry {number}: its {field} cannot be read"))?;
        if !entry.is_whole() {
            return Err(format!("entry {number} was changed: its hash is not that of what it says"));
        }
        if !entry.follows(self.last.as_ref()) {
            let before = self.last.as_ref().map_or(0, |last| last.number);
            return Err(format!("entry {number} does not follow entry {before}: one was removed or put in"));
        }
        self.last = Some(entry);
        Ok(())
    }

    /// The number of the newest entry taken, and its hash: what to keep elsewhere, so that a cut end
    /// would show.
    pub(super) fn head(&self) -> Option<(u64, String)> {
        self.last.as_ref().map(|last| (last.number, format!("{:?}", last.hash)))
    }
}

fn read(entry: &v1::AuditEntry) -> Result<AuditEntry, &'static str> {
    let hash = |bytes: &[u8], field| bytes.try_into().map(AuditHash).map_err(|_length| field);
    let incarnation = match &entry.incarnation[..] {
        [] => None,
        bytes => Some(Incarnation::from_slice(bytes).map_err(|_length| "incarnation")?),
    };
    Ok(AuditEntry {
        number: entry.number,
        at_microseconds: entry.at_microseconds,
        draft: AuditDraft {
            kind: AuditKind::from_name(&entry.kind).ok_or("kind")?,
            begun: Some(entry.begun).filter(|begun| *begun != 0),
            who: entry.who.clone(),
            origin: entry.origin.clone(),
            act: entry.act.clone(),
            target: entry.target.clone(),
            reason: entry.reason.clone(),
            plan: entry.plan.clone(),
            before: entry.before.clone(),
            after: entry.after.clone(),
            result: entry.result.clone(),
            incarnation,
        },
        previous: hash(&entry.previous, "previous hash")?,
        hash: hash(&entry.hash, "hash")?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A chain of that many entries, as the service would list them.
    pub(in crate::console) fn entries(count: u64) -> Vec<v1::AuditEntry> {
        let mut previous = AuditHash::default();
        (1..=count)
            .map(|number| {
                let draft = AuditDraft {
                    kind: if number % 2 == 1 { AuditKind::Begun } else { AuditKind::Done },
                    begun: (number % 2 == 0).then(|| number - 1),
                    who: "alice".into(),
                    origin: "127.0.0.1:5000 console".into(),
                    act: "retry".into(),
                    target: "0199c3aa-0000-7000-8000-0000004a7f2a".into(),
                    reason: "the bank is back <script>".into(),
                    plan: "p".into(),
                    before: "{}".into(),
                    after: String::new(),
                    result: if number % 2 == 0 { "told to try now".into() } else { String::new() },
                    incarnation: None,
                };
                let at = 1_795_269_678_000_000 + i64::try_from(number).unwrap();
                let entry = AuditEntry::link(number, at, draft, previous);
                previous = entry.hash;
                v1::AuditEntry {
                    number,
                    at_microseconds: entry.at_microseconds,
                    kind: entry.draft.kind.name().into(),
                    begun: entry.draft.begun.unwrap_or(0),
                    who: entry.draft.who,
                    origin: entry.draft.origin,
                    act: entry.draft.act,
                    target: entry.draft.target,
                    reason: entry.draft.reason,
                    plan: entry.draft.plan,
                    before: entry.draft.before,
                    after: entry.draft.after,
                    result: entry.draft.result,
                    incarnation: Vec::new(),
                    previous: entry.previous.0.to_vec(),
                    hash: entry.hash.0.to_vec(),
                }
            })
            .collect()
    }

    fn followed(entries: &[v1::AuditEntry]) -> Result<Option<(u64, String)>, String> {
        let mut chain = Chain::default();
        entries.iter().try_for_each(|entry| chain.take(entry))?;
        Ok(chain.head())
    }

    #[test]
    fn a_whole_chain_is_followed_to_its_end_and_every_kind_of_damage_is_named() {
        assert_eq!(followed(&[]), Ok(None));
        assert_eq!(followed(&entries(4)).unwrap().unwrap().0, 4);
        let mut changed = entries(4);
        changed[1].reason = "another".into();
        assert!(followed(&changed).unwrap_err().contains("entry 2 was changed"));
        let mut removed = entries(4);
        removed.remove(1);
        assert!(followed(&removed).unwrap_err().contains("entry 3 does not follow entry 1"));
        let mut headless = entries(4);
        headless.remove(0);
        assert!(followed(&headless).unwrap_err().contains("entry 2 does not follow entry 0"));
        let mut other = entries(4);
        other[2].kind = "forged".into();
        assert!(followed(&other).unwrap_err().contains("kind"));
    }
}
