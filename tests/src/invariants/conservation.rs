//! The sum over all banks never changes: what transfers move, they do not make.
//!
//! Source: testing.md, section 5 (workload); Gray and Reuter, *Transaction Processing* (1993),
//! the debit and credit consistency constraint.

use crate::history::Observed;

/// The sum of all balances is what it was.
///
/// # Errors
/// Both sums.
pub fn check(observed: &Observed) -> Result<(), String> {
    let total: i64 = observed.banks.iter().map(|statement| statement.total).sum();
    if total == observed.opening_total {
        return Ok(());
    }
    Err(format!("the banks hold {total} together, and held {} at first", observed.opening_total))
}

#[cfg(test)]
mod tests {
    use crate::invariants::testing::sound;

    #[test]
    fn money_made_is_caught() {
        let mut observed = sound();
        observed.banks[1].total += 5;
        assert!(super::check(&observed).unwrap_err().contains("205"));
    }
}
