//! Acts: what one would do, and what came of it.

use pactum_proto::v1;
use serde::Serialize;

use super::{TransactionView, branch_outcome, text};

/// What an act would do now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PlanView {
    /// `retry`, `resolve`, `overrule`, `forget`, `release`, `drain` or `resume`.
    pub(crate) act: String,
    pub(crate) title: String,
    pub(crate) facts: Vec<String>,
    pub(crate) steps: Vec<String>,
    /// What may be lost by it; null if nothing.
    pub(crate) risk: Option<String>,
    /// How branches would stand to the decision afterwards: `heuristic_...`, or null.
    pub(crate) heuristic: Option<String>,
    /// Why it would be refused; null if it would not.
    pub(crate) refusal: Option<RefusalView>,
    pub(crate) hash: String,
    pub(crate) command: String,
    /// What is typed to confirm.
    pub(crate) confirmation: String,
    /// Null if the act is on none.
    pub(crate) transaction: Option<TransactionView>,
}

/// Why an act would be refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RefusalView {
    pub(crate) message: String,
    pub(crate) reason: String,
    /// `PACTUM-nnnn`.
    pub(crate) code: String,
}

/// What came of an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ActView {
    /// As in the plan.
    pub(crate) act: String,
    pub(crate) summary: String,
    /// The audit's entry that tells the end of it.
    pub(crate) audit_number: u64,
    pub(crate) plan_hash: String,
    pub(crate) transaction: Option<TransactionView>,
}

impl PlanView {
    /// The plan, made for an act of that name.
    pub(crate) fn new(act: &str, from: v1::Plan) -> Self {
        Self {
            act: act.to_owned(),
            title: from.title,
            facts: from.facts,
            steps: from.steps,
            risk: text(from.risk),
            heuristic: branch_outcome(from.heuristic),
            refusal: from.refusal.map(|refusal| RefusalView {
                message: refusal.message,
                reason: refusal.reason,
                code: refusal.pactum_code,
            }),
            hash: from.hash,
            command: from.command,
            confirmation: from.confirmation,
            transaction: from.transaction.map(Into::into),
        }
    }
}

impl ActView {
    /// What came of an act of that name, done by the plan with that hash.
    pub(crate) fn new(act: &str, plan_hash: &str, from: v1::PerformActResponse) -> Self {
        Self {
            act: act.to_owned(),
            summary: from.summary,
            audit_number: from.audit_number,
            plan_hash: plan_hash.to_owned(),
            transaction: from.transaction.map(Into::into),
        }
    }
}
