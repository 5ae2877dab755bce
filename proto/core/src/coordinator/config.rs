//! What a coordinator's core is told once, and the faulty variants that the checkers catch.

use std::time::Duration;

use crate::time::RetryDelay;

/// What one coordinator's core is told once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// More branches than this in one transaction are refused.
    pub branches_max: usize,
    /// A deadline further away than this is brought nearer.
    pub timeout_max: Duration,
    /// How long after the decision a [`Wait::Finished`](super::Wait::Finished) request is answered
    /// although branches are unfinished; also how long an aborted transaction's branches are awaited.
    pub finished_bound: Duration,
    /// How long a request waits for a register whose answer is missing before it is told
    /// [`Unknown`](super::TransactionOutcome::Unknown).
    pub unknown_bound: Duration,
    /// Between attempts to deliver a decision, to have a vote, and to write the log.
    pub retry: RetryDelay,
    /// A transaction still undecided after this is recorded for operators; zero: at once.
    pub undecided_record_after: Duration,
    /// How many ended gids are remembered. More costs memory (about 100 bytes each); fewer raises
    /// the start floor sooner, so that slow applications must draw a new gid.
    pub remembered_max: usize,
    /// The fault to play, for the checkers.
    #[cfg(pactum_mutants)]
    pub mutant: Option<Mutant>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            branches_max: 64,
            timeout_max: Duration::from_hours(1),
            finished_bound: Duration::from_secs(5),
            unknown_bound: Duration::from_secs(2),
            retry: RetryDelay { first: Duration::from_millis(100), cap: Duration::from_secs(3) },
            undecided_record_after: Duration::from_secs(1),
            remembered_max: 100_000,
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

/// Faulty variants of the coordinator's role. Each must be caught by the model checker and by the
/// simulator; they exist only in the crate `pactum-core-checks`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(not(pactum_mutants), allow(dead_code, reason = "constructed by the checkers only"))]
pub enum Mutant {
    /// Sends Commit when the decision is handed over, before the log has acknowledged it (law 2).
    CommitBeforeRecorded,
    /// Takes a commit for finished while one branch has not acknowledged it (I2).
    FinishedBeforeLastAck,
    /// Answers abort to an inquiry while the votes are still coming in.
    AbortToInquiryWhileVoting,
    /// Aborts by deadline after the proposal was handed over (law 4).
    DeadlineAfterProposed,
    /// Takes an unknown log write for a failed one (law 5).
    UnknownTakenForAborted,
    /// Forgets which gids have ended, and starts them again (law 10).
    StartsTwice,
    /// Aborts freely after one-phase commit was handed over (H5).
    FreeAbortAfterOnePhase,
    /// Runs a retried Commit of a transaction that another coordinator owns (H4).
    ForeignCommitRuns,
    /// Takes a log that went back in time at its word: nothing stands, so it aborts (B4, B5).
    DoubtTakenForAborted,
    /// Aborts freely after it has proposed, when its incarnation was ended (H10).
    EndedAbortsProposed,
    /// Presumes abort from a look-up that finds nothing (law 5, I3).
    NothingFoundTakenForAborted,
    /// Aborts freely after it has proposed, when an instance was lost (law 4).
    LostInstanceAbortsProposed,
}
