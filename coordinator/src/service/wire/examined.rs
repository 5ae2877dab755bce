//! Questions of operators to participants, as messages, and what comes back, checked.
//!
//! Texts and lists of a participant reach people's screens: each has a limit, and what exceeds one is
//! malformed like anything else on a stream.

use std::collections::BTreeMap;

use pactum_core::id::{Branch, ResourceName, TransactionId};
use pactum_core::vote::Evidence;
use pactum_proto::limits::MESSAGE_BYTES_MAX;
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as ToParticipantMessage;

use super::ToParticipant;
use super::answers::message;
use crate::error::ServiceError;
use crate::examine::{Answer, Examined, FINDINGS_MAX};

/// Blocked sessions in one finding.
const BLOCKED_MAX: usize = 16;
/// Longest name of a blocked session's user or application, in bytes.
const BLOCKED_NAME_BYTES_MAX: usize = 256;

const SETTINGS_MAX: usize = 32;
const SETTING_KEY_BYTES_MAX: usize = 64;
const SETTING_VALUE_BYTES_MAX: usize = 256;

/// Asks what a database holds of these branches.
pub(crate) fn examine(
    call_id: u64,
    resource: &ResourceName,
    branches: Vec<v1::BranchQuestion>,
) -> ToParticipant {
    let resource = resource.as_str().to_owned();
    message(ToParticipantMessage::Examine(v1::Examine { call_id, resource, branches, limit: 0 }))
}

/// Asks what is prepared in a database.
pub(crate) fn examine_prepared(call_id: u64, resource: &ResourceName, limit: u32) -> ToParticipant {
    let resource = resource.as_str().to_owned();
    message(ToParticipantMessage::Examine(v1::Examine { call_id, resource, branches: Vec::new(), limit }))
}

/// Has a prepared branch ended as a person says.
pub(crate) fn overrule(
    call_id: u64,
    id: TransactionId,
    branch: &Branch,
    evidence: &Evidence,
    commit: bool,
) -> ToParticipant {
    message(ToParticipantMessage::Overrule(v1::Overrule {
        call_id,
        id: Some(id.into()),
        branch: Some(branch.clone().into()),
        evidence: Some(evidence.clone().into()),
        commit,
    }))
}

/// Has a participant take new branches, or none.
pub(crate) fn set_draining(draining: bool) -> ToParticipant {
    message(ToParticipantMessage::SetDraining(v1::SetDraining { draining }))
}

/// A question about a branch.
pub(crate) fn question(id: TransactionId, branch: Branch, evidence: Option<Evidence>) -> v1::BranchQuestion {
    v1::BranchQuestion {
        id: Some(id.into()),
        branch: Some(branch.into()),
        evidence: evidence.map(Into::into),
    }
}

fn text(field: &str, given: &str, bytes_max: usize) -> Result<(), ServiceError> {
    if given.len() > bytes_max {
        return Err(ServiceError::malformed(field, format!("at most {bytes_max} bytes are taken")));
    }
    Ok(())
}

fn problem(field: &str, given: String) -> Result<Option<String>, ServiceError> {
    text(field, &given, MESSAGE_BYTES_MAX)?;
    Ok(Some(given).filter(|given| !given.is_empty()))
}

fn presence(field: &str, given: i32) -> Result<v1::BranchPresence, ServiceError> {
    match v1::BranchPresence::try_from(given) {
        Ok(v1::BranchPresence::Unspecified) | Err(_) => {
            Err(ServiceError::malformed(field, "it is not a known value"))
        }
        Ok(known) => Ok(known),
    }
}

/// Checks one finding.
fn finding(finding: v1::BranchFinding) -> Result<v1::BranchFinding, ServiceError> {
    super::id(finding.id.clone())?;
    presence("examined.findings.presence", finding.presence)?;
    if let Some(evidence) = finding.evidence.clone() {
        Evidence::try_from(evidence)?;
    }
    text("examined.findings.note", &finding.note, MESSAGE_BYTES_MAX)?;
    if finding.blocked.len() > BLOCKED_MAX {
        return Err(ServiceError::malformed("examined.findings.blocked", "at most 16 are taken"));
    }
    for blocked in &finding.blocked {
        text("examined.findings.blocked.user", &blocked.user, BLOCKED_NAME_BYTES_MAX)?;
        text("examined.findings.blocked.application", &blocked.application, BLOCKED_NAME_BYTES_MAX)?;
    }
    Ok(finding)
}

/// The answer to Examine.
pub(super) fn examined(given: v1::Examined) -> Result<Examined, ServiceError> {
    let resource = ResourceName::new(&given.resource)
        .map_err(|error| ServiceError::malformed("examined.resource", error.to_string()))?;
    if u32::try_from(given.findings.len()).is_ok_and(|count| count > FINDINGS_MAX) {
        return Err(ServiceError::malformed("examined.findings", "at most 256 are taken"));
    }
    Ok(Examined {
        resource,
        findings: given.findings.into_iter().map(finding).collect::<Result<_, _>>()?,
        problem: problem("examined.problem", given.problem)?,
        more: given.more,
    })
}

/// The answer to Overrule.
pub(super) fn overruled(given: v1::OverruleAnswer) -> Result<Answer, ServiceError> {
    let problem = problem("overrule_answer.problem", given.problem)?;
    let presence = match presence("overrule_answer.presence", given.presence) {
        Ok(presence) => presence,
        // Who could do nothing may have nothing to say of it.
        Err(_) if problem.is_some() && given.presence == 0 => v1::BranchPresence::Unknown,
        Err(error) => return Err(error),
    };
    Ok(Answer::Overruled { presence, problem })
}

/// The settings of a registration.
pub(super) fn settings(
    given: std::collections::HashMap<String, String>,
) -> Result<BTreeMap<String, String>, ServiceError> {
    let field = "hello.resources.settings";
    if given.len() > SETTINGS_MAX {
        return Err(ServiceError::malformed(field, "at most 32 are taken"));
    }
    for (key, value) in &given {
        text(field, key, SETTING_KEY_BYTES_MAX)?;
        text(field, value, SETTING_VALUE_BYTES_MAX)?;
    }
    Ok(given.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> v1::BranchFinding {
        v1::BranchFinding {
            id: Some(v1::TransactionId { incarnation: vec![1; 16], gid: vec![2; 16] }),
            branch: 1,
            presence: v1::BranchPresence::Prepared.into(),
            ..v1::BranchFinding::default()
        }
    }

    fn answer(findings: Vec<v1::BranchFinding>) -> v1::Examined {
        v1::Examined { call_id: 1, resource: "bank-a".to_owned(), findings, ..v1::Examined::default() }
    }

    fn field_of(error: ServiceError) -> String {
        let ServiceError::Malformed { field, .. } = error else { panic!("{error}") };
        field
    }

    #[test]
    fn an_answer_within_the_limits_is_taken() {
        assert_eq!(examined(answer(vec![found(); 256])).unwrap().findings.len(), 256);
    }

    #[test]
    fn what_exceeds_a_limit_or_is_of_no_known_value_is_malformed() {
        let blocked = |user: String| v1::BlockedSession { user, ..v1::BlockedSession::default() };
        let nameless = v1::BranchFinding { id: None, ..found() };
        let unheard = v1::BranchFinding { presence: 77, ..found() };
        let unsaid = v1::BranchFinding { presence: 0, ..found() };
        let noted = v1::BranchFinding { note: "x".repeat(513), ..found() };
        let crowded = v1::BranchFinding { blocked: vec![blocked(String::new()); 17], ..found() };
        let named = v1::BranchFinding { blocked: vec![blocked("x".repeat(257))], ..found() };
        let evidence = v1::Evidence { execution: "x".repeat(129), anchor: String::new() };
        let evident = v1::BranchFinding { evidence: Some(evidence), ..found() };
        for bad in [nameless, unheard, unsaid, noted, crowded, named, evident] {
            assert!(examined(answer(vec![bad.clone()])).is_err(), "{bad:?}");
        }
        let field = field_of(examined(answer(vec![found(); 257])).unwrap_err());
        assert_eq!(field, "examined.findings");
        let field =
            field_of(examined(v1::Examined { problem: "x".repeat(513), ..answer(vec![]) }).unwrap_err());
        assert_eq!(field, "examined.problem");
        let field =
            field_of(examined(v1::Examined { resource: "Bank A".to_owned(), ..answer(vec![]) }).unwrap_err());
        assert_eq!(field, "examined.resource");
    }

    #[test]
    fn an_overrule_without_a_problem_says_how_the_branch_stands() {
        let given = |presence: i32, problem: &str| {
            overruled(v1::OverruleAnswer { call_id: 1, presence, problem: problem.to_owned() })
        };
        assert!(given(0, "").is_err());
        assert!(given(99, "").is_err());
        assert!(given(99, "no").is_err());
        assert!(matches!(given(0, "no"), Ok(Answer::Overruled { problem: Some(_), .. })));
        let committed = v1::BranchPresence::Committed;
        assert!(
            matches!(given(committed.into(), ""), Ok(Answer::Overruled { presence, problem: None }) if presence == committed)
        );
    }

    #[test]
    fn settings_are_few_and_short() {
        let many = |count: usize| (0..count).map(|n| (n.to_string(), String::new())).collect();
        assert_eq!(settings(many(32)).unwrap().len(), 32);
        assert!(settings(many(33)).is_err());
        let one = |key: usize, value: usize| settings([("k".repeat(key), "v".repeat(value))].into());
        assert!(one(64, 256).is_ok());
        assert!(one(65, 1).is_err());
        assert!(one(1, 257).is_err());
    }
}
