//! I6 and AC2: what an application was told is the decision, and stays so; and the runs say
//! something, because most of them ended in a definite answer.
//!
//! Source: testing.md, section 5 (I6, and non-vacuity); design law 2: commit is told only after
//! it is durable, and law 8: "not found" is not success.

use crate::history::{Observed, Told};

/// Told committed is committed, told aborted is not; at most half were told nothing definite
/// where there are enough to count.
///
/// # Errors
/// The transfer, and what it was told.
pub fn check(observed: &Observed) -> Result<(), String> {
    for settled in &observed.transfers {
        let lie = match settled.transfer.told {
            Told::Committed => !settled.committed,
            Told::Aborted => settled.committed,
            Told::Unknown => false,
        };
        if lie {
            return Err(format!("I6: {} was told {:?}", settled.transfer.key, settled.transfer.told));
        }
    }
    let unknown = observed.transfers.iter().filter(|settled| settled.transfer.told == Told::Unknown).count();
    if observed.transfers.len() >= 10 && unknown * 2 > observed.transfers.len() {
        return Err(format!(
            "{unknown} of {} transfers were told nothing definite",
            observed.transfers.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::history::Told;
    use crate::invariants::testing::sound;

    #[test]
    fn a_lie_either_way_is_caught() {
        let mut observed = sound();
        observed.transfers[0].transfer.told = Told::Aborted;
        assert!(super::check(&observed).unwrap_err().contains("I6"));
        let mut observed = sound();
        observed.transfers[1].transfer.told = Told::Committed;
        assert!(super::check(&observed).unwrap_err().contains("I6"));
    }

    #[test]
    fn a_run_that_says_nothing_is_caught() {
        let mut observed = sound();
        let mut one = observed.transfers[0].clone();
        one.transfer.told = Told::Unknown;
        observed.transfers = vec![one; 10];
        assert!(super::check(&observed).unwrap_err().contains("nothing definite"));
    }
}
