//! I4: at quiescence no branch is prepared, so no lock is held and nobody is in doubt.
//!
//! Source: Bernstein, Hadzilacos, Goodman, *Concurrency Control and Recovery in Database
//! Systems* (1987), section 7.3, AC5: once failures are repaired, all decide.

use crate::history::Observed;

/// Nothing is prepared anywhere.
///
/// # Errors
/// What is, and where.
pub fn check(observed: &Observed) -> Result<(), String> {
    for (bank, statement) in observed.banks.iter().enumerate() {
        if !statement.prepared.is_empty() {
            return Err(format!("I4: bank {bank} still holds {:?} prepared", statement.prepared));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::invariants::testing::sound;

    #[test]
    fn a_branch_left_prepared_is_caught() {
        let mut observed = sound();
        observed.banks[1].prepared.push("pactum:c:1:2:3".into());
        assert!(super::check(&observed).unwrap_err().contains("bank 1"));
    }
}
