//! What a person can do about a transaction: exact commands, the likeliest first, each with why.

use super::super::table::{aligned, gid_tail};
use super::super::view::{BranchView, NextView, TransactionView};

/// The commands that would help it.
pub(crate) fn next(transaction: &TransactionView) -> Vec<NextView> {
    let id = gid_tail(transaction.gid());
    let mut next = Vec::new();
    let mut add = |command: String, why: &str| next.push(NextView { command, why: why.to_owned() });
    match transaction.state.as_str() {
        "committing" | "aborting" => {
            let unfinished: Vec<_> =
                transaction.branches.iter().filter(|branch| branch.outcome.is_none()).collect();
            add(format!("pactum tx watch {id}"), "it is decided and safe to wait: follow it to its end");
            if unfinished.iter().any(|branch| branch.attached) {
                add(format!("pactum tx retry {id}"), "try its unfinished branches now, not at the next try");
            }
            for branch in unfinished.iter().filter(|branch| !branch.attached) {
                add(
                    format!("pactum participant show {}", branch.resource),
                    "nobody speaks for it: start its participant, and the branch ends by itself",
                );
            }
            for branch in unfinished.iter().filter(|branch| !branch.attached || is_stuck(branch)) {
                let against = if transaction.state == "committing" { "--rollback" } else { "--commit" };
                add(
                    format!(
                        "pactum tx overrule {id} --resource {} {against} --reason \"...\" --dry-run",
                        branch.resource
                    ),
                    "last resort: what ending it by hand against the decision would break",
                );
            }
        }
        "active" | "preparing" | "undecided" => {
            if transaction.state != "undecided" {
                add(format!("pactum tx watch {id}"), "its owner is at work on it");
            }
            add(
                format!("pactum tx resolve {id} --reason \"...\" --dry-run"),
                "have it decided: aborted, through the log",
            );
        }
        "deciding" => {
            add(format!("pactum tx watch {id}"), "its decision is being written");
            add("pactum status".to_owned(), "whether the log can be written");
        }
        _ => {}
    }
    if transaction.heuristic.is_some() {
        add("pactum heuristic list".to_owned(), "which branches ended without the decision");
        add(
            format!("pactum tx forget {id} --reason \"...\""),
            "once the data is right again in every database",
        );
    }
    next
}

/// An attached participant that has failed at it again and again.
fn is_stuck(branch: &BranchView) -> bool {
    const OFTEN: u32 = 20;
    branch.attempts >= OFTEN && branch.last_error.is_some()
}

/// The same as text; where nothing would help, how to go on.
pub(crate) fn footer(transaction: &TransactionView) -> String {
    let next = next(transaction);
    if next.is_empty() {
        return "It has ended. Next: pactum tx list --finished".to_owned();
    }
    let rows = next.into_iter().map(|next| vec![format!("  {}", next.command), next.why]);
    format!("You can:\n{}", aligned(rows))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn commands(transaction: &TransactionView) -> Vec<String> {
        next(transaction).into_iter().map(|next| next.command).collect()
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
            let offers = commands(&sample::transaction(state)).iter().any(|it| it.contains("tx resolve"));
            assert_eq!(offers, offered, "{state}");
        }
    }

    #[test]
    fn an_unattached_branch_names_its_participant_and_overruling_comes_last() {
        let commands = commands(&sample::transaction("committing"));
        assert_eq!(
            commands,
            [
                "pactum tx watch 4a7f2a",
                "pactum participant show bank-b",
                "pactum tx overrule 4a7f2a --resource bank-b --rollback --reason \"...\" --dry-run",
            ]
        );
    }

    #[test]
    fn an_attached_branch_is_tried_again_before_anything_else_is_thought_of() {
        let mut transaction = sample::transaction("committing");
        transaction.branches[1].attached = true;
        assert_eq!(commands(&transaction), ["pactum tx watch 4a7f2a", "pactum tx retry 4a7f2a"]);
        transaction.branches[1].attempts = 20;
        transaction.branches[1].last_error = Some("disk full".into());
        assert!(commands(&transaction).last().unwrap().contains("overrule"));
    }

    #[test]
    fn a_heuristic_outcome_is_forgotten_only_after_it_was_set_right() {
        let mut transaction = sample::transaction("committed");
        transaction.heuristic = Some("heuristic_aborted".into());
        assert_eq!(commands(&transaction).len(), 2);
        assert!(footer(&sample::transaction("committed")).starts_with("It has ended"));
    }
}
