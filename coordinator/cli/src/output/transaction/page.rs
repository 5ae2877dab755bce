//! The page of `tx show`: the transaction, its branches here and in their databases, its course, and
//! why it waits.

use std::fmt::Write as _;

use super::super::table::{aligned, render, table};
use super::super::times::{Times, length};
use super::super::view::{BranchView, FindingView, TransactionView};
use super::{next_attempt, standing};

/// The page, without what would help: see [`next`](super::next).
pub(crate) fn page(transaction: &TransactionView, times: Times) -> String {
    let mut text = head(transaction, times);
    text.push_str("\n\n");
    text.push_str(&branch_table(&transaction.branches));
    for branch in &transaction.branches {
        let told = details(branch, times);
        if !told.is_empty() {
            write_to(&mut text, format_args!("\n\n{} {}\n{}", branch.resource, branch.branch, aligned(told)));
        }
    }
    if !transaction.steps.is_empty() {
        write_to(&mut text, format_args!("\n\ncourse\n{}", course(transaction)));
    }
    if let Some(waits_for) = &transaction.waits_for {
        write_to(&mut text, format_args!("\n\nwaits for {waits_for}"));
        if let Some(next) = next_attempt(transaction.next_attempt_in_ms) {
            write_to(&mut text, format_args!("; next try {next}"));
        }
    }
    text
}

fn head(transaction: &TransactionView, times: Times) -> String {
    let mut text = transaction.gid.clone();
    if !transaction.name.is_empty() {
        write_to(&mut text, format_args!("  {}", transaction.name));
    }
    for (key, value) in &transaction.labels {
        write_to(&mut text, format_args!("  {key}={value}"));
    }
    write_to(
        &mut text,
        format_args!("\n  {}  age {}", transaction.state.to_uppercase(), times.age(transaction.age_ms)),
    );
    if let Some(at) = transaction.decided_at {
        write_to(&mut text, format_args!("  decided {}", times.moment(at)));
    }
    if let Some(left) = transaction.time_left_ms {
        write_to(&mut text, format_args!("  deadline in {}", length(left)));
    }
    if let Some(driver) = &transaction.driven_by {
        write_to(&mut text, format_args!("\n  driven by {driver}"));
    }
    if let Some(abort) = &transaction.abort {
        write_to(&mut text, format_args!("\n  aborted: {} ({})", abort.message, abort.kind));
    }
    if let Some(heuristic) = &transaction.heuristic {
        write_to(&mut text, format_args!("\n  branches ended against the decision: {heuristic}"));
    }
    text
}

fn branch_table(branches: &[BranchView]) -> String {
    let mut table =
        table(["BRANCH", "RESOURCE", "VOTE", "HERE", "IN ITS DATABASE", "TRIES", "NEXT TRY", "ATTACHED"]);
    for branch in branches {
        let dash = || "-".to_owned();
        table.add_row([
            branch.branch.clone(),
            branch.resource.clone(),
            branch.vote.clone().map_or_else(dash, |vote| vote.to_uppercase()),
            standing(branch).to_owned(),
            there(branch),
            branch.attempts.to_string(),
            next_attempt(branch.next_attempt_in_ms).unwrap_or_else(dash),
            if branch.attached { "yes" } else { "no" }.to_owned(),
        ]);
    }
    render(&table)
}

/// What the branch's database says. No answer is shown as such, never as a branch that is gone.
fn there(branch: &BranchView) -> String {
    let Some(report) = &branch.report else { return "not asked".to_owned() };
    let Some(finding) = report.finding.as_ref().filter(|_| report.answered) else {
        return "no answer".to_owned();
    };
    match finding.presence.as_str() {
        "committed" => "gone, committed".to_owned(),
        "aborted" => "gone, aborted".to_owned(),
        "unknown" | "unspecified" => "not to be told".to_owned(),
        other => other.to_owned(),
    }
}

/// What else there is to say of a branch, a fact a line.
fn details(branch: &BranchView, times: Times) -> Vec<Vec<String>> {
    let mut told = Vec::new();
    let mut tell = |name: &str, value: String| told.push(vec![format!("  {name}"), value]);
    if let Some(error) = &branch.last_error {
        tell("last error", error.clone());
    }
    if let Some(evidence) = &branch.evidence {
        let anchor = branch.evidence_anchor.as_ref().map(|anchor| format!(" ({anchor})")).unwrap_or_default();
        tell("evidence", format!("{evidence}{anchor}"));
    }
    let Some(report) = &branch.report else { return told };
    if let Some(problem) = &report.problem {
        tell("its database", format!("nothing was found out: {problem}"));
    } else if !report.answered {
        tell("its database", "nobody answered: nothing is known of it".to_owned());
    }
    if let Some(finding) = report.finding.as_ref().filter(|_| report.answered) {
        if let (Some(found), Some(voted)) = (&finding.evidence, &branch.evidence)
            && found != voted
        {
            tell("found there", format!("another execution: {found}"));
        }
        holds(finding, times, &mut tell);
    }
    told
}

/// What a branch holds in its database.
fn holds(finding: &FindingView, times: Times, tell: &mut impl FnMut(&str, String)) {
    if finding.presence == "prepared" {
        let since = finding.prepared_for_ms.map(|ms| format!(" for {}", times.age(ms))).unwrap_or_default();
        let locks = match finding.locks {
            0 => "no lock".to_owned(),
            1 => "1 lock".to_owned(),
            count => format!("{count} locks"),
        };
        tell("holds", format!("{locks}, prepared{since}"));
    }
    if finding.pinned_transactions > 0 {
        tell("pins", format!("{} transactions that cannot be cleaned up", finding.pinned_transactions));
    }
    for session in &finding.blocked {
        let application = match session.application.as_str() {
            "" => String::new(),
            name => format!(" ({name})"),
        };
        tell(
            "blocks",
            format!("pid {} of {}{application} for {}", session.pid, session.user, length(session.waits_ms)),
        );
    }
    if let Some(note) = &finding.note {
        tell("note", note.clone());
    }
}

/// Its steps, a line each.
fn course(transaction: &TransactionView) -> String {
    let resource = |branch: &str| {
        let of = transaction.branches.iter().find(|known| known.branch == branch);
        of.map_or_else(|| branch.to_owned(), |known| known.resource.clone())
    };
    aligned(transaction.steps.iter().map(|step| {
        vec![
            format!("  {}", length(step.at_ms)),
            step.step.clone(),
            step.branch.as_deref().map(resource).unwrap_or_default(),
            step.detail.clone().unwrap_or_default(),
        ]
    }))
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string never fails");
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::super::view::ReportView;
    use super::super::sample;
    use super::*;

    fn shown(transaction: &TransactionView) -> String {
        page(transaction, Times::new(None, Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn a_page_says_what_it_waits_for_and_what_each_database_says() {
        let mut transaction = sample::transaction("committing");
        transaction.branches[1].report = Some(sample::report("prepared"));
        let text = shown(&transaction);
        assert!(text.ends_with("waits for bank-b: not attached; next try in 8.0s"), "{text}");
        assert!(text.contains("holds  2 locks, prepared for 6m12s"), "{text}");
    }

    /// A participant that does not answer says nothing of its branch.
    #[test]
    fn silence_is_never_shown_as_gone() {
        let silent = ReportView { answered: false, problem: None, finding: None };
        // A finding beside "did not answer" is no finding either.
        let confused = ReportView { answered: false, ..sample::report("committed") };
        for report in [silent, confused] {
            let mut transaction = sample::transaction("committing");
            transaction.branches[1].report = Some(report);
            let text = shown(&transaction);
            assert!(text.contains("no answer") && text.contains("nobody answered"), "{text}");
            assert!(!text.contains("gone"), "{text}");
        }
        let mut transaction = sample::transaction("committing");
        transaction.branches[1].report = Some(sample::report("unknown"));
        assert!(!shown(&transaction).contains("gone"), "it cannot be told");
    }

    #[test]
    fn another_execution_than_the_one_that_voted_is_pointed_out() {
        let mut transaction = sample::transaction("committing");
        transaction.branches[1].evidence = Some("770".into());
        transaction.branches[1].report = Some(sample::report("prepared"));
        assert!(shown(&transaction).contains("another execution: 771"), "{}", shown(&transaction));
    }
}
