//! Which message must be met in which state of its receiver, and which cannot be.
//!
//! Every row names the states in which a message must be met, in a full run a hundred times each; those
//! that take several accidents at once, which are counted but not demanded; and why it is never met in any
//! other. That it is not is demanded too: a pair that cannot be and is met shows a fault, of the core or of
//! this list.

use pactum_core_checked::coordinator::Coordinator;
use pactum_core_checked::participant::Participant;

use super::pairs_at_coordinators::AT_COORDINATORS;
use super::pairs_at_participants::AT_PARTICIPANTS;
use super::world::encounters::{TO_COORDINATOR, TO_PARTICIPANT, Table};

/// One message, and the states that it meets.
pub(crate) struct Row {
    pub(crate) message: &'static str,
    pub(crate) met: &'static [&'static str],
    pub(crate) seldom: &'static [&'static str],
    pub(crate) else_never: &'static str,
}

/// How often each pair was met.
#[derive(Debug, Default)]
pub(crate) struct Pairs(pub(crate) Box<Table>);

impl Pairs {
    pub(crate) fn add(&mut self, other: &Self) {
        fn sum<const STATES: usize>(rows: &mut [[u64; STATES]], others: &[[u64; STATES]]) {
            for (count, more) in rows.as_flattened_mut().iter_mut().zip(others.as_flattened()) {
                *count += more;
            }
        }
        sum(&mut self.0.at_coordinators, &other.0.at_coordinators);
        sum(&mut self.0.at_participants, &other.0.at_participants);
    }

    /// How many pairs there are that must be met.
    pub(crate) fn demanded() -> u64 {
        AT_COORDINATORS.iter().chain(&AT_PARTICIPANTS).map(|row| row.met.len() as u64).sum()
    }

    /// Says how often each pair was met, and what is wrong with that: what must be met fewer than `least`
    /// times, and what cannot be met at all. Gives the smallest count of those that must be.
    pub(crate) fn judge(&self, least: u64) -> (u64, Vec<String>) {
        let mut wrong = Vec::new();
        let mut smallest = u64::MAX;
        let mut look = |row: &Row, state: &str, count: u64| {
            println!("met: {} | {state} | {count}", row.message);
            if row.met.contains(&state) {
                smallest = smallest.min(count);
                if count < least {
                    wrong.push(format!("{} met \"{state}\" {count} times, fewer than {least}", row.message));
                }
            } else if !row.seldom.contains(&state) && count > 0 {
                wrong.push(format!("{} met \"{state}\" {count} times, but {}", row.message, row.else_never));
            }
        };
        for ((row, message), counts) in AT_COORDINATORS.iter().zip(TO_COORDINATOR).zip(self.0.at_coordinators)
        {
            assert_eq!(row.message, message, "the list follows the table");
            Coordinator::STATES.iter().zip(counts).for_each(|(state, count)| look(row, state, count));
        }
        for ((row, message), counts) in AT_PARTICIPANTS.iter().zip(TO_PARTICIPANT).zip(self.0.at_participants)
        {
            assert_eq!(row.message, message, "the list follows the table");
            Participant::STATES.iter().zip(counts).for_each(|(state, count)| look(row, state, count));
        }
        (smallest, wrong)
    }
}

/// Every name in the list is one of a state, and none stands twice.
#[test]
fn the_list_of_pairs_names_states() {
    for (rows, states) in
        [(&AT_COORDINATORS[..], &Coordinator::STATES[..]), (&AT_PARTICIPANTS[..], &Participant::STATES[..])]
    {
        for row in rows {
            let mut named: Vec<_> = row.met.iter().chain(row.seldom).collect();
            assert!(named.iter().all(|name| states.contains(name)), "{}", row.message);
            named.sort_unstable();
            named.dedup();
            assert_eq!(named.len(), row.met.len() + row.seldom.len(), "{}", row.message);
        }
    }
}
