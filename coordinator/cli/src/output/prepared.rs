//! How prepared branches look to people.

use std::fmt::Write as _;

use super::table::{aligned, render, short_gid, table};
use super::times::Times;
use super::view::{PreparedBranchView, PreparedView};

/// The table of `quarantine list`, with a sentence under it for each branch that nobody takes care of.
pub(crate) fn list(prepared: &PreparedView, times: Times) -> String {
    let mut table = table(["RESOURCE", "TRANSACTION", "BRANCH", "PREPARED", "LOCKS", "VERDICT"]);
    for branch in &prepared.branches {
        table.add_row([
            branch.resource.clone(),
            short_gid(branch.gid()),
            branch.branch.clone(),
            branch.finding.prepared_for_ms.map_or_else(|| "-".to_owned(), |ms| times.age(ms)),
            branch.finding.locks.to_string(),
            branch.verdict.clone(),
        ]);
    }
    let mut text = render(&table);
    let told = prepared.branches.iter().filter_map(|branch| {
        let explanation = branch.explanation.as_deref()?;
        Some(vec![format!("  {}", short_gid(branch.gid())), branch.resource.clone(), explanation.to_owned()])
    });
    let told = aligned(told);
    if !told.is_empty() {
        write!(text, "\n\n{told}").expect("writing to a string never fails");
    }
    text
}

/// What to do next.
pub(crate) fn footer(prepared: &PreparedView, all: bool) -> String {
    let count = |verdict: &str| prepared.branches.iter().filter(|branch| branch.verdict == verdict).count();
    let quarantined = prepared.branches.iter().find(|branch| branch.verdict == "quarantined");
    if let Some(branch) = quarantined {
        return format!(
            "{} quarantined, {} orphaned. Compare the databases; then: {} | {}",
            count("quarantined"),
            count("orphan"),
            overrule(branch),
            release(branch)
        );
    }
    match (count("orphan"), prepared.branches.len()) {
        (0, 0) if all => "nothing is prepared in any database that answered".to_owned(),
        (0, 0) => "nothing is stuck in any database that answered. Next: pactum tx list --stuck".to_owned(),
        (0, shown) => format!("{shown} prepared, none stuck. Next: pactum tx list --in-doubt"),
        (orphans, _) => format!(
            "{orphans} orphaned: the next inquiry of their participants rolls them back. Next: pactum quarantine list"
        ),
    }
}

fn overrule(branch: &PreparedBranchView) -> String {
    format!(
        "pactum tx overrule {} --resource {} --commit|--rollback --reason \"...\"",
        branch.gid, branch.resource
    )
}

fn release(branch: &PreparedBranchView) -> String {
    match &branch.incarnation {
        Some(incarnation) => {
            format!("pactum quarantine release --incarnation {incarnation} --reason \"...\"")
        }
        None => "pactum quarantine release --all --reason \"...\"".to_owned(),
    }
}
