//! How the audit looks to people.

use std::fmt::Write as _;

use super::table::{cut, render, table, tail};
use super::times::Times;
use super::view::AuditEntryView;

/// Characters of a free text in the table; `-o json` has it whole.
const TEXT: usize = 48;

/// The table of `audit list`, in the order given.
pub(crate) fn list(entries: &[AuditEntryView], times: Times) -> String {
    let mut table = table(["NO", "WHEN", "WHO", "ACT", "TARGET", "ENTRY", "REASON OR RESULT"]);
    for entry in entries {
        let begun = entry.begun.map(|begun| format!(" of {begun}")).unwrap_or_default();
        table.add_row([
            entry.number.to_string(),
            entry.at.map_or_else(|| entry.at_microseconds.to_string(), |at| times.moment(at)),
            entry.who.clone(),
            entry.act.clone(),
            target(&entry.target),
            format!("{}{begun}", entry.kind),
            cut(if entry.result.is_empty() { &entry.reason } else { &entry.result }, TEXT),
        ]);
    }
    render(&table)
}

/// A gid is shown by its end, which is what is typed; names are short already.
fn target(target: &str) -> String {
    let mut words = target.split_whitespace();
    let Some(first) = words.next() else { return "-".to_owned() };
    let mut text = if first.len() >= 32 { format!("..{}", tail(first)) } else { first.to_owned() };
    for word in words {
        write!(text, " {word}").expect("writing to a string never fails");
    }
    cut(&text, TEXT)
}
