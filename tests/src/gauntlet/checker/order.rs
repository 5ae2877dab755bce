//! The order in which transfers committed has no cycle.
//!
//! A branch keeps its row locks from its work until the decision is carried out, so transfers that
//! share an account are ordered there, and all those orders must agree: a cycle would mean that
//! somebody let go of a lock before the decision. Edges join neighbours in each account's
//! turns, hence the check is linear (Kahn, *Topological sorting of large networks*, 1962).

use std::collections::HashMap;

use super::View;

pub(super) fn check(view: &mut View<'_>) {
    let places: HashMap<&str, usize> =
        view.lines.keys().enumerate().map(|(place, key)| (*key, place)).collect();
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); places.len()];
    let mut before = vec![0_usize; places.len()];
    for statement in &view.history.statements {
        let mut lines: Vec<_> = statement.lines.iter().collect();
        lines.sort_unstable_by_key(|line| (line.leg.account, line.turn));
        for pair in lines.windows(2) {
            let (first, second) = (places[&*pair[0].leg.key], places[&*pair[1].leg.key]);
            if pair[0].leg.account == pair[1].leg.account && first != second {
                after[first].push(second);
                before[second] += 1;
            }
        }
    }
    let mut free: Vec<usize> = (0..places.len()).filter(|place| before[*place] == 0).collect();
    let mut ordered = 0;
    while let Some(place) = free.pop() {
        ordered += 1;
        for next in &after[place] {
            before[*next] -= 1;
            if before[*next] == 0 {
                free.push(*next);
            }
        }
    }
    if ordered < places.len() {
        let mut tied: Vec<&str> =
            places.iter().filter(|(_, place)| before[**place] > 0).map(|(key, _)| *key).collect();
        tied.sort_unstable();
        let sample: Vec<String> =
            tied.iter().take(10).map(|key| format!("{key}: {:?}", view.lines[key])).collect();
        view.found.push(format!(
            "{} transfers committed in an order with a cycle, or after one; among them\n    {}",
            tied.len(),
            sample.join("\n    ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::gauntlet::checker::{check, testing::sound};

    #[test]
    fn a_cycle_across_the_banks_is_caught() {
        let mut history = sound();
        let lines = &mut history.statements[1].lines;
        (lines[0].turn, lines[1].turn) = (2, 1);
        assert!(check(&history).iter().any(|text| text.contains("cycle")));
    }
}
