//! How a plan looks to people: the same text for each act, before it is done.

use std::fmt::Write as _;

use super::view::PlanView;

/// The plan: what is known, what would be done, what may be lost by it, or why it would be refused.
pub(crate) fn text(plan: &PlanView) -> String {
    let mut text = format!("plan: {}", plan.title);
    section(&mut text, "known now", &plan.facts);
    if let Some(refusal) = &plan.refusal {
        write(
            &mut text,
            format_args!("\n  REFUSED: {} ({} {})", refusal.message, refusal.code, refusal.reason),
        );
        return text;
    }
    section(&mut text, "would be done", &plan.steps);
    if let Some(risk) = &plan.risk {
        write(&mut text, format_args!("\n  risk: {risk}"));
    }
    if let Some(heuristic) = &plan.heuristic {
        write(
            &mut text,
            format_args!("\n  afterwards: {heuristic}, kept beside the decision until it is forgotten"),
        );
    }
    text
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    write(text, format_args!("\n  {title}:"));
    for line in lines {
        write(text, format_args!("\n    - {line}"));
    }
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string never fails");
}

#[cfg(test)]
mod tests {
    use pactum_proto::error::{ErrorCode, call_error};
    use pactum_proto::v1;

    use super::*;

    fn plan() -> v1::Plan {
        v1::Plan {
            title: "overrule bank-b of 4a7f2a: roll back".into(),
            facts: vec!["the log says commit".into()],
            steps: vec!["bank-b rolls its branch back".into()],
            risk: "bank-a has committed: the books differ".into(),
            heuristic: v1::BranchOutcome::HeuristicMixed.into(),
            ..v1::Plan::default()
        }
    }

    #[test]
    fn a_plan_tells_what_is_known_what_is_done_and_what_may_be_lost() {
        let text = text(&PlanView::new("overrule", plan()));
        assert_eq!(
            text,
            "plan: overrule bank-b of 4a7f2a: roll back\n  known now:\n    - the log says commit\n  would be done:\n    \
             - bank-b rolls its branch back\n  risk: bank-a has committed: the books differ\n  afterwards: \
             heuristic_mixed, kept beside the decision until it is forgotten"
        );
    }

    #[test]
    fn a_refused_plan_promises_no_steps() {
        let refusal = Some(call_error(ErrorCode::AlreadyCommitted, "commit is decided", None));
        let text = text(&PlanView::new("resolve", v1::Plan { refusal, ..plan() }));
        assert!(text.ends_with("REFUSED: commit is decided (PACTUM-0007 ALREADY_COMMITTED)"), "{text}");
        assert!(!text.contains("would be done") && text.contains("the log says commit"), "{text}");
    }
}
