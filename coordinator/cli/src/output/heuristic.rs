//! How heuristic outcomes look to people.

use super::table::{gid_tail, render, short_gid, table};
use super::times::Times;
use super::view::HeuristicView;

/// The table of `heuristic list`.
pub(crate) fn list(heuristics: &[HeuristicView], times: Times) -> String {
    let mut table = table(["TRANSACTION", "RESOURCE", "BRANCH", "ENDED", "DECISION", "RECORDED"]);
    for heuristic in heuristics {
        table.add_row([
            short_gid(heuristic.gid()),
            heuristic.resource.clone(),
            heuristic.branch.clone(),
            heuristic.outcome.as_deref().map_or("?", word).to_owned(),
            heuristic.decision.clone().unwrap_or_else(|| "none stands".to_owned()),
            heuristic.recorded_at.map_or_else(|| "-".to_owned(), |at| times.moment(at)),
        ]);
    }
    render(&table)
}

/// `heuristic_committed` in a column that says HEURISTIC already.
fn word(outcome: &str) -> &str {
    outcome.strip_prefix("heuristic_").unwrap_or(outcome)
}

/// What to do about them.
pub(crate) fn footer(heuristics: &[HeuristicView], more: bool) -> String {
    match heuristics.first() {
        None => "no branch ended without the decision. Next: pactum tx list --in-doubt".to_owned(),
        Some(first) => format!(
            "{}{} shown. Set the data right in each database, then: pactum tx forget {} --reason \"...\"",
            heuristics.len(),
            if more { "+" } else { "" },
            gid_tail(first.gid())
        ),
    }
}
