//! The properties that must hold whatever happened, one a file, each with its source.
//!
//! Each is a function of what was observed, so that its own test can show that it fails where it
//! should: a checker that cannot fail proves nothing.

pub mod answers;
pub mod atomicity;
pub mod conservation;
pub mod once;
pub mod quiescence;

use crate::history::Observed;

/// Checks all of them.
///
/// # Errors
/// The first that does not hold, in words.
pub fn check(observed: &Observed) -> Result<(), String> {
    quiescence::check(observed)?;
    once::check(observed)?;
    atomicity::check(observed)?;
    conservation::check(observed)?;
    answers::check(observed)
}

#[cfg(test)]
pub(crate) mod testing {
    //! A small history that holds, for the tests to spoil.

    use crate::bank::Entry;
    use crate::history::{Observed, Settled, Statement, Told, Transfer};

    /// `c` committed and `a` aborted, between two banks.
    pub(crate) fn sound() -> Observed {
        let transfer = |key: &str, told| Transfer {
            key: key.into(),
            id: None,
            branches: Vec::new(),
            entries: vec![(0, Entry::new(key, "1", -5)), (1, Entry::new(key, "1", 5))],
            told,
            outcome: None,
            problem: String::new(),
        };
        Observed {
            banks: vec![
                Statement { total: 95, ledger: vec![Entry::new("c", "1", -5)], prepared: vec![] },
                Statement { total: 105, ledger: vec![Entry::new("c", "1", 5)], prepared: vec![] },
            ],
            transfers: vec![
                Settled { transfer: transfer("c", Told::Committed), committed: true },
                Settled { transfer: transfer("a", Told::Aborted), committed: false },
            ],
            opening_total: 200,
        }
    }

    #[test]
    fn a_sound_history_passes() {
        super::check(&sound()).unwrap();
    }
}
