//! What a participant's core is told once, and the faulty variants that the checkers catch.

use std::time::Duration;

/// What one participant's core is told once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// How many ended branches are remembered, to answer repeated messages and to vote no to
    /// late ones; the oldest is forgotten first. More costs memory (about 400 bytes each).
    pub remembered_max: usize,
    /// How long after its vote a branch waits for its decision before it inquires. More leaves its
    /// locks longer when its coordinator died; less asks about transactions that are merely slow.
    pub patience: Duration,
    /// An inquiry for one branch is repeated after this, and no sooner: whether it was answered *wait*
    /// or was not answered at all, since its coordinator or its stream was gone.
    pub inquiry_interval: Duration,
    /// A branch in quarantine inquires again after this, so that it ends soon after an operator has
    /// released its coordinator's incarnation, wherever nobody scans its resource.
    pub quarantine_interval: Duration,
    /// The fault to play, for the checkers.
    #[cfg(pactum_mutants)]
    pub mutant: Option<Mutant>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            remembered_max: 100_000,
            patience: Duration::from_secs(5),
            inquiry_interval: Duration::from_secs(1),
            quarantine_interval: Duration::from_secs(10),
            #[cfg(pactum_mutants)]
            mutant: None,
        }
    }
}

impl Config {
    /// Whether the core plays this fault. Always false in a shipped build.
    #[cfg(pactum_mutants)]
    pub(super) fn plays(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether the core plays this fault. Always false in a shipped build.
    #[cfg(not(pactum_mutants))]
    #[expect(clippy::unused_self, reason = "the checkers' build reads a field that this build does not have")]
    pub(super) const fn plays(&self, _mutant: Mutant) -> bool {
        false
    }
}

/// Faulty variants of the participant's role. Each must be caught by the model checker and by the
/// simulator; they exist only in the crate `pactum-core-checks`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mutant {
    /// Rolls back a prepared branch when it has waited long enough.
    AbortsAloneInDoubt,
    /// Sends its vote before the hook has said that it is durable.
    VotesBeforeDurable,
    /// Acknowledges a commit before the hook has ended it.
    AcknowledgesEarly,
    /// Prepares although the branch was aborted here before (E3).
    PreparesAfterAbort,
}
