//! How transactions look to people: a line in a list, a page of its own, a line while watched.

use std::fmt::Write as _;
use std::time::Duration;

use super::table::{age, gid_tail, render, short_gid, table};
use super::view::{BranchView, TransactionView};

/// The table of `tx list`.
pub(crate) fn list(transactions: &[TransactionView]) -> String {
    let mut table = table(["TRANSACTION", "NAME", "STATE", "AGE", "PARTICIPANTS", "WAITING FOR", "NEXT TRY"]);
    for transaction in transactions {
        table.add_row([
            short_gid(transaction.gid()),
            transaction.name.clone(),
            transaction.state.to_uppercase(),
            age(Duration::from_millis(transaction.age_ms)),
            branches(&transaction.branches),
            transaction.waits_for.clone().unwrap_or_else(|| "-".to_owned()),
            next_attempt(transaction).unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    render(&table)
}

/// One line under the table, and what to type next.
pub(crate) fn list_footer(transactions: &[TransactionView], more: bool) -> String {
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
        (None, None) => {
            "nothing is open. Next: pactum tx list --finished, or pactum participant list".to_owned()
        }
    }
}

/// The page of `tx show`.
pub(crate) fn page(transaction: &TransactionView) -> String {
    let mut text = transaction.gid.clone();
    if !transaction.name.is_empty() {
        write_to(&mut text, format_args!("  {}", transaction.name));
    }
    for (key, value) in &transaction.labels {
        write_to(&mut text, format_args!("  {key}={value}"));
    }
    write_to(
        &mut text,
        format_args!("\n  {}  age {}", transaction.state.to_uppercase(), millis(transaction.age_ms)),
    );
    if let Some(at) = transaction.decided_at {
        write_to(&mut text, format_args!("  decided {at:.3}"));
    }
    if let Some(abort) = &transaction.abort {
        write_to(&mut text, format_args!("\n  aborted: {} ({})", abort.message, abort.kind));
    }
    if let Some(heuristic) = &transaction.heuristic {
        write_to(&mut text, format_args!("\n  branches ended against the decision: {heuristic}"));
    }
    text.push_str("\n\n");
    let mut table = table(["BRANCH", "RESOURCE", "VOTE", "ENDED", "TRIES", "ATTACHED", "LAST ERROR"]);
    for branch in &transaction.branches {
        let dash = || "-".to_owned();
        table.add_row([
            branch.branch.clone(),
            branch.resource.clone(),
            branch.vote.clone().map_or_else(dash, |vote| vote.to_uppercase()),
            branch.outcome.clone().unwrap_or_else(dash),
            branch.attempts.to_string(),
            if branch.attached { "yes" } else { "no" }.to_owned(),
            branch.last_error.clone().unwrap_or_else(dash),
        ]);
    }
    text.push_str(&render(&table));
    if let Some(waits_for) = &transaction.waits_for {
        write_to(&mut text, format_args!("\n\nwaits for {waits_for}"));
        if let Some(next) = next_attempt(transaction) {
            write_to(&mut text, format_args!("; next try {next}"));
        }
    }
    text
}

/// What a person can do about it.
pub(crate) fn page_footer(transaction: &TransactionView) -> String {
    let id = gid_tail(transaction.gid());
    match transaction.state.as_str() {
        "committing" | "aborting" => {
            format!("It is decided and safe to wait. You can: pactum tx retry {id} | pactum participant list")
        }
        "active" | "preparing" | "undecided" => format!(
            "It is undecided. You can: pactum tx watch {id} | pactum tx resolve {id} --reason \"...\" (aborts it)"
        ),
        "deciding" => format!("Its decision is being written. You can: pactum tx watch {id}"),
        _ => "It has ended. You can: pactum tx list --finished".to_owned(),
    }
}

/// One line of `tx watch`.
pub(crate) fn watch_line(transaction: &TransactionView) -> String {
    let mut line = format!(
        "{}  {:<10}  {:>7}  {}",
        short_gid(transaction.gid()),
        transaction.state.to_uppercase(),
        millis(transaction.age_ms),
        branches(&transaction.branches)
    );
    if let Some(waits_for) = &transaction.waits_for {
        write_to(&mut line, format_args!("  waits for {waits_for}"));
    }
    line
}

/// `bank-a done, bank-b ?`
fn branches(branches: &[BranchView]) -> String {
    let each = branches.iter().map(|branch| {
        let mark = match (branch.outcome.as_deref(), branch.vote.as_deref()) {
            (Some("committed" | "aborted"), _) => "done",
            (Some(heuristic), _) => heuristic,
            (None, Some("commit")) => "voted yes",
            (None, Some("abort")) => "voted no",
            (None, Some(vote)) => vote,
            (None, None) => "?",
        };
        format!("{} {mark}", branch.resource)
    });
    each.collect::<Vec<_>>().join(", ")
}

fn next_attempt(transaction: &TransactionView) -> Option<String> {
    transaction.next_attempt_in_ms.map(|ms| format!("in {}", millis(ms)))
}

fn millis(ms: u64) -> String {
    age(Duration::from_millis(ms))
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string never fails");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(state: &str) -> TransactionView {
        let branch = |resource: &str, vote: Option<&str>, outcome: Option<&str>| BranchView {
            branch: "00000000000000ab".into(),
            resource: resource.into(),
            instance: None,
            vote: vote.map(Into::into),
            evidence: None,
            outcome: outcome.map(Into::into),
            attempts: 14,
            last_error: None,
            attached: outcome.is_some(),
        };
        TransactionView {
            gid: "0199c3d0-0000-7000-8000-0000004a7f2a".into(),
            incarnation: "0199c3d0-0000-7000-8000-000000000002".into(),
            state: state.into(),
            name: "transfer".into(),
            labels: [("app".to_owned(), "pay".to_owned())].into(),
            age_ms: 372_000,
            decided_at: None,
            abort: None,
            branches: vec![branch("bank-a", Some("commit"), Some("committed")), branch("bank-b", None, None)],
            waits_for: Some("bank-b: not attached".into()),
            next_attempt_in_ms: Some(8_000),
            heuristic: None,
        }
    }

    #[test]
    fn a_list_shows_both_ends_of_the_gid_and_ends_with_the_next_command() {
        let transactions = [transaction("committing")];
        let text = list(&transactions);
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("TRANSACTION     NAME      STATE       AGE"), "{text}");
        assert!(
            lines
                .next()
                .unwrap()
                .starts_with("0199c3..4a7f2a  transfer  COMMITTING  6m12s  bank-a done, bank-b ?")
        );
        assert_eq!(
            list_footer(&transactions, false),
            "1 shown, 1 may be in doubt (oldest 6m12s). Next: pactum tx show 4a7f2a"
        );
        assert!(list_footer(&[], false).contains("nothing is open"));
    }

    #[test]
    fn a_decided_transaction_is_never_offered_a_resolve() {
        for (state, offered) in [
            ("committing", false),
            ("aborting", false),
            ("committed", false),
            ("active", true),
            ("undecided", true),
        ] {
            assert_eq!(page_footer(&transaction(state)).contains("tx resolve"), offered, "{state}");
        }
        assert!(
            page(&transaction("committing")).contains("waits for bank-b: not attached; next try in 8.0s")
        );
    }
}
