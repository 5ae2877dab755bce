//! What a message about a transaction meets at a coordinator, by name: for the checkers' tables, and in
//! their build only.

use super::Coordinator;
use super::memory::Ending;
use crate::id::TransactionId;

impl Coordinator {
    /// Every name that [`state_of`](Self::state_of) answers with.
    pub const STATES: [&str; 17] = [
        "not begun",
        "of a living owner",
        "of a dead owner",
        "below the floor",
        "active",
        "preparing",
        "one-phase",
        "settling",
        "proposing",
        "closing",
        "held",
        "committing",
        "aborting",
        "ended committed",
        "ended read-only",
        "ended aborted",
        "ended forgotten",
    ];

    /// Where a transaction is, by the order of authority: the table, memory, the floor, its owner.
    pub fn state_of(&self, id: TransactionId) -> &'static str {
        if let Some(open) = self.open.get(&id.gid).filter(|open| open.id() == id) {
            return open.state_name();
        }
        match self.memory.get(id.gid).filter(|ended| ended.id == id).map(|ended| &ended.ending) {
            Some(Ending::Committed { read_only: false, .. }) => "ended committed",
            Some(Ending::Committed { read_only: true, .. }) => "ended read-only",
            Some(Ending::Aborted { .. }) => "ended aborted",
            Some(Ending::Forgotten) => "ended forgotten",
            None if id.gid <= self.floor => "below the floor",
            None if Some(id.incarnation) == self.incarnation => "not begun",
            None if self.live.contains(&id.incarnation) => "of a living owner",
            None => "of a dead owner",
        }
    }
}
