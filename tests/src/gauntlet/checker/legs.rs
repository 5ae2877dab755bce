//! AC1 and I7: both legs of a transfer or none, as they were asked for, and none of them twice.
//!
//! Source: Bernstein, Hadzilacos, Goodman, *Concurrency Control and Recovery in Database Systems*
//! (1987), section 7.3: all participants that decide, decide alike.

use std::collections::HashSet;

use super::View;
use crate::gauntlet::ledger::Leg;

pub(super) fn check(view: &mut View<'_>) {
    let history = view.history;
    let mut wrong = Vec::new();
    let mut known = HashSet::new();
    for transfer in &history.transfers {
        known.insert(&*transfer.key);
        let Some(lines) = view.lines.get(&*transfer.key) else { continue };
        let times = |bank: usize, leg: &Leg| {
            lines.iter().filter(|(at, line)| *at == bank && line.leg == *leg).count()
        };
        let what = match transfer.legs.iter().map(|(bank, leg)| times(*bank, leg)).max() {
            Some(2..) => Some("a leg was done twice (I7)"),
            _ if transfer.legs.iter().any(|(bank, leg)| times(*bank, leg) == 0) => {
                Some("one leg was done and the other was not (AC1)")
            }
            _ if lines.len() != transfer.legs.len() => Some("something was done that nobody asked for"),
            _ => None,
        };
        wrong.extend(what.map(|what| (transfer.key.clone(), what)));
    }
    let unknown = view.lines.keys().filter(|key| !known.contains(**key));
    wrong.extend(unknown.map(|key| ((*key).to_owned(), "a ledger names a transfer that nobody began")));
    for (key, what) in wrong {
        view.violation(&key, what);
    }
}

#[cfg(test)]
mod tests {
    use crate::gauntlet::checker::{check, testing::sound};

    fn complains(history: &crate::gauntlet::checker::History, of: &str) -> bool {
        check(history).iter().any(|text| text.contains(of))
    }

    #[test]
    fn half_a_transfer_is_caught() {
        let mut history = sound();
        history.statements[1].lines.remove(0);
        assert!(complains(&history, "AC1"));
    }

    #[test]
    fn a_leg_that_was_done_twice_is_caught() {
        let mut history = sound();
        let mut again = history.statements[0].lines[0].clone();
        again.turn = 3;
        history.statements[0].lines.push(again);
        assert!(complains(&history, "I7"));
    }

    #[test]
    fn a_leg_of_nobody_is_caught() {
        let mut history = sound();
        history.statements[0].lines[0].leg.key = "x".into();
        assert!(complains(&history, "nobody began"));
    }
}
