//! A transaction for the tests of this folder: committing, one branch done, one not attached.

use super::super::view::{BranchView, FindingView, ReportView, TransactionView};

pub(super) fn branch(resource: &str, vote: Option<&str>, outcome: Option<&str>) -> BranchView {
    BranchView {
        branch: "00000000000000ab".into(),
        resource: resource.into(),
        instance: None,
        vote: vote.map(Into::into),
        evidence: None,
        evidence_anchor: None,
        outcome: outcome.map(Into::into),
        attempts: 14,
        last_error: None,
        attached: outcome.is_some(),
        next_attempt_in_ms: None,
        report: None,
    }
}

pub(super) fn report(presence: &str) -> ReportView {
    ReportView {
        answered: true,
        problem: None,
        finding: Some(FindingView {
            presence: presence.into(),
            evidence: Some("771".into()),
            prepared_for_ms: Some(372_000),
            locks: 2,
            blocked: Vec::new(),
            pinned_transactions: 0,
            note: None,
        }),
    }
}

pub(super) fn transaction(state: &str) -> TransactionView {
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
        steps: Vec::new(),
        driven_by: None,
        time_left_ms: None,
    }
}
