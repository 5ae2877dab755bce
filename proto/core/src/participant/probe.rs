//! What a message about a branch meets at a participant, by name: for the checkers' tables, and in their
//! build only.

use super::Participant;
use super::event::BranchKey;

impl Participant {
    /// Every name that [`state_of`](Self::state_of) answers with.
    pub const STATES: [&str; 19] = [
        "not held",
        "commit failed",
        "open",
        "preparing",
        "preparing, then abort",
        "one-phase",
        "settling",
        "prepared",
        "in quarantine",
        "committing",
        "aborting",
        "abort failed",
        "refused",
        "read-only",
        "committed",
        "aborted",
        "ended without the decision",
        "register committed",
        "register aborted",
    ];

    /// Where a branch is. A branch that was forgotten, or that an earlier process knew, is not held.
    pub fn state_of(&self, key: BranchKey) -> &'static str {
        let ended = || self.ended.get(&key).map(|ended| ended.clone().recalled(key).state_name());
        self.branches.get(&key).map(|held| held.state_name()).or_else(ended).unwrap_or("not held")
    }
}
