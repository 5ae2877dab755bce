//! How transactions look to people: a line in a list, a line while watched, and a page of its own.

mod help;
mod page;
#[cfg(test)]
mod sample;

use std::time::Duration;

use super::table::{age, cut, gid_tail, render, short_gid, table};
use super::times::{Times, length};
use super::view::{BranchView, TransactionView};

pub(crate) use help::{footer, next};
pub(crate) use page::page;

/// Characters of the sentence in a list; `tx show` has it whole.
const SENTENCE: usize = 60;

/// The table of `tx list`.
pub(crate) fn list(transactions: &[TransactionView], times: Times) -> String {
    let mut table = table(["TRANSACTION", "NAME", "STATE", "AGE", "PARTICIPANTS", "WAITING FOR", "NEXT TRY"]);
    for transaction in transactions {
        let dash = || "-".to_owned();
        table.add_row([
            short_gid(transaction.gid()),
            transaction.name.clone(),
            transaction.state.to_uppercase(),
            times.age(transaction.age_ms),
            branches(&transaction.branches),
            transaction.waits_for.as_deref().map_or_else(dash, |sentence| cut(sentence, SENTENCE)),
            next_attempt(transaction.next_attempt_in_ms).unwrap_or_else(dash),
        ]);
    }
    render(&table)
}

/// One line under the table, and what to type next.
pub(crate) fn list_footer(transactions: &[TransactionView], more: bool, narrowed: bool) -> String {
    let in_doubt: Vec<_> = transactions.iter().filter(|transaction| transaction.may_be_in_doubt()).collect();
    let oldest = in_doubt.iter().max_by_key(|transaction| transaction.age_ms);
    let count = transactions.len();
    let plus = if more { "+" } else { "" };
    match (oldest, transactions.first()) {
        (Some(oldest), _) => format!(
            "{count}{plus} shown, {} may be in doubt (oldest {}). Next: pactum tx show {}",
            in_doubt.len(),
            age(Duration::from_millis(oldest.age_ms)),
            gid_tail(oldest.gid())
        ),
        (None, Some(first)) => {
            format!("{count}{plus} shown, none in doubt. Next: pactum tx show {}", gid_tail(first.gid()))
        }
        (None, None) if narrowed => {
            "nothing fits. Next: pactum tx list without conditions, or with --finished; branches without a \
             transaction: pactum quarantine list"
                .to_owned()
        }
        (None, None) => {
            "nothing is open. Next: pactum tx list --finished, or pactum participant list".to_owned()
        }
    }
}

/// One line of `tx watch`.
pub(crate) fn watch_line(transaction: &TransactionView) -> String {
    let mut line = format!(
        "{}  {:<10}  {:>7}  {}",
        short_gid(transaction.gid()),
        transaction.state.to_uppercase(),
        length(transaction.age_ms),
        branches(&transaction.branches)
    );
    if let Some(waits_for) = &transaction.waits_for {
        line.push_str("  waits for ");
        line.push_str(waits_for);
    }
    line
}

/// `bank-a done, bank-b ?`
fn branches(branches: &[BranchView]) -> String {
    let each = branches.iter().map(|branch| format!("{} {}", branch.resource, standing(branch)));
    each.collect::<Vec<_>>().join(", ")
}

/// How a branch stands, in a word or two.
fn standing(branch: &BranchView) -> &str {
    match (branch.outcome.as_deref(), branch.vote.as_deref()) {
        (Some("committed" | "aborted"), _) => "done",
        (Some(heuristic), _) => heuristic,
        (None, Some("commit")) => "voted yes",
        (None, Some("abort")) => "voted no",
        (None, Some(vote)) => vote,
        (None, None) => "?",
    }
}

fn next_attempt(ms: Option<u64>) -> Option<String> {
    ms.map(|ms| format!("in {}", length(ms)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_list_shows_both_ends_of_the_gid_and_ends_with_the_next_command() {
        let transactions = [sample::transaction("committing")];
        let text = list(&transactions, Times::new(None, Timestamp::UNIX_EPOCH));
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("TRANSACTION     NAME      STATE       AGE"), "{text}");
        assert!(
            lines
                .next()
                .unwrap()
                .starts_with("0199c3..4a7f2a  transfer  COMMITTING  6m12s  bank-a done, bank-b ?")
        );
        assert_eq!(
            list_footer(&transactions, false, false),
            "1 shown, 1 may be in doubt (oldest 6m12s). Next: pactum tx show 4a7f2a"
        );
        assert!(list_footer(&[], false, false).contains("nothing is open"));
        assert!(list_footer(&[], false, true).contains("quarantine list"));
    }
}
