//! The messages of operators: questions about branches, ending one by hand, draining.

use pactum_core::id::{Branch, Cluster, PreparedName, TransactionId};
use pactum_core::vote::Evidence;
use pactum_proto::v1;
use pactum_proto::v1::participant_message::Message as ToCoordinator;
use prost::Message as _;

use super::{Malformed, cut, malformed, message, read_branch, read_evidence, read_id};
use crate::resource::{
    BLOCKED_SESSIONS_MAX, BlockedSession, BranchFinding, BranchPresence, BranchQuestion, PreparedFindings,
};

/// Branches in one question, as the protocol bounds them.
pub(crate) const QUESTIONS_MAX: usize = 64;

/// Findings in one answer, as the protocol bounds them.
pub(crate) const FINDINGS_MAX: usize = 256;

/// An answer with more than this is cut: a batch holds 1 MiB, and the answer is one message.
const ANSWER_BYTES_MAX: usize = 768 * 1024;

/// Longest text of a problem or a note, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Longest name of a blocked session's user or application, in bytes: what PostgreSQL allows.
const NAME_BYTES_MAX: usize = 64;

/// What an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Examine {
    pub(crate) call_id: u64,
    /// As it was asked for: it need not be one of ours.
    pub(crate) resource: String,
    pub(crate) about: About,
}

/// Which branches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    These(Vec<(TransactionId, Branch, Option<Evidence>)>),
    /// Whatever is prepared, at most so many.
    Prepared(usize),
}

/// A branch that an operator ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overrule {
    pub(crate) call_id: u64,
    pub(crate) id: TransactionId,
    pub(crate) branch: Branch,
    pub(crate) evidence: Evidence,
    pub(crate) commit: bool,
}

pub(super) fn read_examine(examine: v1::Examine) -> Result<Examine, Malformed> {
    if examine.branches.len() > QUESTIONS_MAX {
        return Err(malformed(format_args!("more than {QUESTIONS_MAX} branches in one Examine")));
    }
    let limit = match usize::try_from(examine.limit) {
        Ok(limit @ 1..FINDINGS_MAX) => limit,
        _ => FINDINGS_MAX,
    };
    let question = |question: v1::BranchQuestion| {
        let evidence = question.evidence.map(|evidence| read_evidence(Some(evidence))).transpose()?;
        Ok((read_id(question.id)?, read_branch(question.branch)?, evidence))
    };
    let about = if examine.branches.is_empty() {
        About::Prepared(limit)
    } else {
        About::These(examine.branches.into_iter().map(question).collect::<Result<_, Malformed>>()?)
    };
    Ok(Examine { call_id: examine.call_id, resource: examine.resource, about })
}

pub(super) fn read_overrule(overrule: v1::Overrule) -> Result<Overrule, Malformed> {
    Ok(Overrule {
        call_id: overrule.call_id,
        id: read_id(overrule.id)?,
        branch: read_branch(overrule.branch)?,
        evidence: read_evidence(overrule.evidence)?,
        commit: overrule.commit,
    })
}

/// What to ask the resource.
pub(crate) fn question(
    cluster: &Cluster,
    (id, branch, evidence): &(TransactionId, Branch, Option<Evidence>),
) -> BranchQuestion {
    let name = PreparedName { cluster: cluster.clone(), id: *id, branch: branch.id };
    BranchQuestion::new(name, evidence.clone()).with_marker(branch.marker)
}

/// What was found, or why nothing was.
pub(crate) fn examined(
    call_id: u64,
    resource: &str,
    found: Result<PreparedFindings, String>,
) -> v1::ParticipantMessage {
    let (found, problem) = match found {
        Ok(found) => (found, String::new()),
        Err(problem) => (PreparedFindings::default(), problem),
    };
    let mut bytes = 0;
    let all = found.findings.len();
    let findings: Vec<v1::BranchFinding> = found
        .findings
        .into_iter()
        .take(FINDINGS_MAX)
        .map(finding)
        .take_while(|finding| {
            bytes += finding.encoded_len();
            bytes <= ANSWER_BYTES_MAX
        })
        .collect();
    message(ToCoordinator::Examined(v1::Examined {
        call_id,
        resource: resource.to_owned(),
        more: found.more || findings.len() < all,
        findings,
        problem: cut(&problem, TEXT_BYTES_MAX).into(),
    }))
}

fn finding(found: BranchFinding) -> v1::BranchFinding {
    v1::BranchFinding {
        id: Some(found.name.id.into()),
        branch: found.name.branch.number(),
        presence: presence(found.presence).into(),
        evidence: found.evidence.map(Into::into),
        prepared_for: found.prepared_for.and_then(|since| since.try_into().ok()),
        locks: found.locks,
        blocked: found.blocked.iter().take(BLOCKED_SESSIONS_MAX).map(blocked).collect(),
        pinned_transactions: found.pinned_transactions,
        note: cut(&found.note, TEXT_BYTES_MAX).into(),
    }
}

fn blocked(session: &BlockedSession) -> v1::BlockedSession {
    v1::BlockedSession {
        pid: session.pid,
        user: cut(&session.user, NAME_BYTES_MAX).into(),
        application: cut(&session.application, NAME_BYTES_MAX).into(),
        waits: session.waits.try_into().ok(),
    }
}

fn presence(presence: BranchPresence) -> v1::BranchPresence {
    match presence {
        BranchPresence::Open => v1::BranchPresence::Open,
        BranchPresence::Prepared => v1::BranchPresence::Prepared,
        BranchPresence::Committed => v1::BranchPresence::Committed,
        BranchPresence::Aborted => v1::BranchPresence::Aborted,
        BranchPresence::Unknown => v1::BranchPresence::Unknown,
    }
}

/// How the branch stands, and why it was not ended as asked; empty if it was.
pub(crate) fn overrule_answer(call_id: u64, stands: BranchPresence, problem: &str) -> v1::ParticipantMessage {
    message(ToCoordinator::OverruleAnswer(v1::OverruleAnswer {
        call_id,
        presence: presence(stands).into(),
        problem: cut(problem, TEXT_BYTES_MAX).into(),
    }))
}

pub(crate) fn draining(draining: bool) -> v1::ParticipantMessage {
    message(ToCoordinator::Draining(v1::Draining { draining }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(branch: u64) -> PreparedName {
        let text = format!(
            "pactum:c:00000000000000000000000000000001:00000000000000000000000000000002:{branch:016x}"
        );
        text.parse().unwrap()
    }

    fn answer(found: PreparedFindings) -> v1::Examined {
        match examined(7, "bank-a", Ok(found)).message {
            Some(ToCoordinator::Examined(examined)) => examined,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_keeps_the_protocols_bounds_and_says_that_it_was_cut() {
        let mut large = BranchFinding::prepared(name(1), Evidence::new("1", "a")).with_note("ü".repeat(400));
        let session = BlockedSession::new(1, "u".repeat(100), "a".repeat(5000), Duration::from_secs(1));
        large.blocked = vec![session; 40];
        let some = PreparedFindings::first(1, [large.clone()]);
        let sent = answer(some);
        assert!(!sent.more);
        assert_eq!(sent.findings[0].blocked.len(), BLOCKED_SESSIONS_MAX);
        assert_eq!(sent.findings[0].blocked[0].application.len(), NAME_BYTES_MAX);
        assert_eq!(sent.findings[0].note.len(), TEXT_BYTES_MAX);
        let many = PreparedFindings::first(300, std::iter::repeat_n(large, 300));
        let sent = answer(many);
        assert!(sent.more && sent.findings.len() <= FINDINGS_MAX);
        assert!(sent.encoded_len() < 1 << 20);
    }

    #[test]
    fn a_question_without_branches_is_about_all_that_is_prepared() {
        let examine = |limit| v1::Examine { limit, ..v1::Examine::default() };
        let about = |limit| read_examine(examine(limit)).unwrap().about;
        assert_eq!(about(0), About::Prepared(FINDINGS_MAX));
        assert_eq!(about(7), About::Prepared(7));
        assert_eq!(about(u32::MAX), About::Prepared(FINDINGS_MAX));
        let branches = vec![v1::BranchQuestion::default(); QUESTIONS_MAX + 1];
        assert!(read_examine(v1::Examine { branches, ..v1::Examine::default() }).is_err());
    }
}
