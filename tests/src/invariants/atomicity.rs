//! AC1: all of a transaction's branches take effect or none, and which of the two is its outcome.
//!
//! Source: Bernstein, Hadzilacos, Goodman (1987), section 7.3: AC1, all processes that reach a
//! decision reach the same one; AC3, commit only if all voted yes.

use crate::history::Observed;

/// The entries in the ledgers are exactly those of the committed transfers.
///
/// # Errors
/// The transfer, the bank, and what is there instead.
pub fn check(observed: &Observed) -> Result<(), String> {
    for settled in &observed.transfers {
        for (bank, entry) in &settled.transfer.entries {
            let there = observed.banks[*bank].ledger.contains(entry);
            if there != settled.committed {
                let (is, decided) = (if there { "is" } else { "is not" }, settled.committed);
                return Err(format!("AC1: {entry:?} {is} at bank {bank}; committed: {decided}"));
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
    fn half_a_commit_is_caught() {
        let mut observed = sound();
        observed.banks[1].ledger.clear();
        assert!(super::check(&observed).unwrap_err().contains("is not at bank 1"));
    }

    #[test]
    fn half_an_abort_is_caught() {
        let mut observed = sound();
        observed.banks[0].ledger.push(Entry::new("a", "1", -5));
        assert!(super::check(&observed).unwrap_err().contains("is at bank 0"));
    }
}
