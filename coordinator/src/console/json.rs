//! The same shapes that the command prints with `-o json`: stable names, lengths of time in
//! milliseconds, moments in ISO 8601, ids as text, hashes in hexadecimal digits.

use std::collections::BTreeMap;
use std::time::Duration;

use pactum_proto::v1;
use serde_json::{Value, json};

use super::sessions::hex;
use super::text;

/// One transaction, as `pactum tx show -o json` has it.
pub(super) fn transaction(from: &v1::Transaction) -> Value {
    let id = from.id.clone().unwrap_or_default();
    let details = from.details.clone().unwrap_or_default();
    json!({
        "gid": text::id(&id.gid),
        "incarnation": text::id(&id.incarnation),
        "state": plain(from.state().as_str_name(), "TRANSACTION_STATE_"),
        "name": details.name,
        "labels": details.labels.into_iter().collect::<BTreeMap<_, _>>(),
        "age_ms": millis(from.age).unwrap_or(0),
        "decided_at": moment(from.decided_at),
        "abort": from.reason.as_ref().map(|reason| json!({
            "kind": plain(reason.kind().as_str_name(), "ABORT_KIND_"),
            "message": reason.message,
        })),
        "branches": from.branches.iter().map(branch).collect::<Vec<_>>(),
        "waits_for": some(&from.waits_for),
        "next_attempt_in_ms": millis(from.next_attempt_in),
        "heuristic": outcome(from.heuristic()),
        "steps": from.steps.iter().map(|step| json!({
            "at_ms": millis(step.at).unwrap_or(0),
            "step": step.step,
            "branch": (step.branch != 0).then(|| text::branch(step.branch)),
            "detail": some(&step.detail),
        })).collect::<Vec<_>>(),
        "driven_by": some(&from.driven_by),
        "time_left_ms": millis(from.time_left),
    })
}

fn branch(from: &v1::BranchStatus) -> Value {
    let name = from.branch.clone().unwrap_or_default();
    let evidence = from.evidence.clone().unwrap_or_default();
    json!({
        "branch": text::branch(name.id),
        "resource": name.resource,
        "instance": some(&text::id(&name.instance)),
        "vote": some(&from.vote),
        "evidence": some(&evidence.execution),
        "evidence_anchor": some(&evidence.anchor),
        "outcome": outcome(from.outcome()),
        "attempts": from.attempts,
        "last_error": some(&from.last_error),
        "attached": from.attached,
        "next_attempt_in_ms": millis(from.next_attempt_in),
        "report": from.report.as_ref().map(|report| json!({
            "answered": report.answered,
            "problem": some(&report.problem),
            "finding": report.finding.as_ref().map(finding),
        })),
    })
}

fn finding(from: &v1::BranchFinding) -> Value {
    json!({
        "presence": plain(from.presence().as_str_name(), "BRANCH_PRESENCE_"),
        "evidence": from.evidence.as_ref().and_then(|evidence| some(&evidence.execution)),
        "prepared_for_ms": millis(from.prepared_for),
        "locks": from.locks,
        "blocked": from.blocked.iter().map(|session| json!({
            "pid": session.pid,
            "user": session.user,
            "application": session.application,
            "waits_ms": millis(session.waits).unwrap_or(0),
        })).collect::<Vec<_>>(),
        "pinned_transactions": from.pinned_transactions,
        "note": some(&from.note),
    })
}

/// One entry of the audit, as `pactum audit export` has it: nothing of it may be lost on the way, or
/// its hash could not be computed again.
pub(super) fn audit_entry(from: &v1::AuditEntry) -> Value {
    let at = prost_types::Timestamp {
        seconds: from.at_microseconds.div_euclid(1_000_000),
        nanos: i32::try_from(from.at_microseconds.rem_euclid(1_000_000) * 1000).unwrap_or(0),
    };
    json!({
        "number": from.number,
        "at": moment(Some(at)),
        "at_microseconds": from.at_microseconds,
        "kind": from.kind,
        "begun": (from.begun != 0).then_some(from.begun),
        "who": from.who,
        "origin": from.origin,
        "act": from.act,
        "target": from.target,
        "reason": from.reason,
        "plan": from.plan,
        "before": from.before,
        "after": from.after,
        "result": from.result,
        "incarnation": some(&text::id(&from.incarnation)),
        "previous": hex(&from.previous),
        "hash": hex(&from.hash),
    })
}

fn plain(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

fn outcome(outcome: v1::BranchOutcome) -> Option<String> {
    (outcome != v1::BranchOutcome::Unspecified).then(|| plain(outcome.as_str_name(), "BRANCH_OUTCOME_"))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn millis(length: Option<prost_types::Duration>) -> Option<u64> {
    u64::try_from(Duration::try_from(length?).ok()?.as_millis()).ok()
}

fn moment(at: Option<prost_types::Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}
