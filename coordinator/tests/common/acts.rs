//! Operators' acts, planned and performed as the command does it.

use pactum_proto::error::{ErrorCode, ErrorFacts};
use pactum_proto::v1;
use pactum_proto::v1::act::Act;
use tonic::Status;

use super::Node;

/// A gid, whole.
pub fn digits(gid: &[u8]) -> String {
    uuid::Uuid::from_slice(gid).unwrap().to_string()
}

pub fn retry(gid: &[u8]) -> Act {
    Act::Retry(v1::RetryAct { gid: digits(gid) })
}

pub fn resolve(gid: &[u8]) -> Act {
    Act::Resolve(v1::ResolveAct { gid: digits(gid) })
}

pub fn forget(gid: &[u8]) -> Act {
    Act::Forget(v1::ForgetAct { gid: digits(gid) })
}

pub fn overrule(gid: &[u8], resource: &str, commit: bool) -> Act {
    let resource = resource.to_owned();
    Act::Overrule(v1::OverruleAct { gid: digits(gid), resource, branch: 0, commit })
}

/// The public error that a status is.
pub fn code(status: &Status) -> ErrorCode {
    let facts = ErrorFacts::from_status(status);
    facts.known().unwrap_or_else(|| panic!("{status:?} is none of ours"))
}

/// Why a plan is refused.
pub fn refusal(plan: &v1::Plan) -> Option<ErrorCode> {
    let refusal = plan.refusal.as_ref()?;
    Some(ErrorFacts::from_call_error(refusal).known().unwrap())
}

impl Node {
    pub async fn plan(&self, act: Act) -> Result<v1::Plan, Status> {
        let request = v1::PlanActRequest { act: Some(v1::Act { act: Some(act) }) };
        Ok(self.admin.clone().plan_act(request).await?.into_inner().plan.unwrap())
    }

    pub async fn perform(&self, plan: &v1::Plan, reason: &str) -> Result<v1::PerformActResponse, Status> {
        let request = v1::PerformActRequest {
            act: plan.act.clone(),
            plan_hash: plan.hash.clone(),
            reason: reason.to_owned(),
            who: "olga".to_owned(),
        };
        Ok(self.admin.clone().perform_act(request).await?.into_inner())
    }

    /// Plans and performs.
    pub async fn act(&self, act: Act, reason: &str) -> Result<v1::PerformActResponse, Status> {
        let plan = self.plan(act).await?;
        self.perform(&plan, reason).await
    }

    /// The audit, oldest first.
    pub async fn audit(&self) -> Vec<v1::AuditEntry> {
        let request = v1::ListAuditRequest { page_size: 1000, after: Some(0), before: None };
        self.admin.clone().list_audit(request).await.unwrap().into_inner().entries
    }

    /// The audit's entries as (kind, act), oldest first.
    pub async fn trail(&self) -> Vec<(String, String)> {
        self.audit().await.into_iter().map(|entry| (entry.kind, entry.act)).collect()
    }
}
