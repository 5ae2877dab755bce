//! I7 and I5: work takes effect at most once, whatever was repeated, and nothing takes effect
//! that nobody asked for.
//!
//! Source: testing.md, section 5; the ledger has no unique constraint that could hide a second
//! execution (failure-matrix H3).

use std::collections::BTreeMap;

use crate::history::Observed;

/// No key stands twice in one bank's ledger, and each is a transfer's.
///
/// # Errors
/// The key and the bank.
pub fn check(observed: &Observed) -> Result<(), String> {
    for (bank, statement) in observed.banks.iter().enumerate() {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in &statement.ledger {
            *seen.entry(&entry.key).or_default() += 1;
        }
        for (key, count) in seen {
            if count > 1 {
                return Err(format!("I7: {key} took effect {count} times at bank {bank}"));
            }
            if !observed.transfers.iter().any(|settled| settled.transfer.key == key) {
                return Err(format!("I7: {key} at bank {bank} was asked for by nobody"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::bank::Entry;
    use crate::invariants::testing::sound;

    #[test]
    fn work_done_twice_is_caught() {
        let mut observed = sound();
        observed.banks[0].ledger.push(Entry::new("c", "1", -5));
        assert!(super::check(&observed).unwrap_err().contains("2 times"));
    }

    #[test]
    fn work_that_nobody_asked_for_is_caught() {
        let mut observed = sound();
        observed.banks[0].ledger.push(Entry::new("stray", "1", -5));
        assert!(super::check(&observed).unwrap_err().contains("nobody"));
    }
}
