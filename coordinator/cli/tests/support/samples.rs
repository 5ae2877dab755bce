//! Messages with a value in every field.

use std::time::Duration;

use pactum_coordinator::decision_log::AuditEntry;
use pactum_proto::v1;

pub(crate) const INCARNATION: &str = "0199c3d0-0000-7000-8000-000000000002";
pub(crate) const GID: &str = "ffffffff-0000-7000-8000-0000004a7f2a";
pub(crate) const INSTANCE: &str = "0199c3d0-0000-7000-8000-00000000beef";

fn bytes(id: &str) -> Vec<u8> {
    uuid::Uuid::parse_str(id).unwrap().into_bytes().to_vec()
}

fn long(ms: u64) -> Option<prost_types::Duration> {
    Duration::from_millis(ms).try_into().ok()
}

fn moment() -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: 1_769_827_278, nanos: 152_000_000 }
}

fn id() -> v1::TransactionId {
    v1::TransactionId { incarnation: bytes(INCARNATION), gid: bytes(GID) }
}

fn evidence() -> v1::Evidence {
    v1::Evidence { execution: "771".into(), anchor: "7412/1 0/1A2B3C".into() }
}

fn branch(id: u64, resource: &str) -> v1::Branch {
    v1::Branch { id, resource: resource.into(), instance: bytes(INSTANCE), marker: false }
}

fn finding() -> v1::BranchFinding {
    v1::BranchFinding {
        id: Some(id()),
        branch: 0xab,
        presence: v1::BranchPresence::Prepared.into(),
        evidence: Some(evidence()),
        prepared_for: long(372_000),
        locks: 2,
        blocked: vec![v1::BlockedSession {
            pid: 4711,
            user: "app".into(),
            application: "psql".into(),
            waits: long(5_000),
        }],
        pinned_transactions: 1_034,
        note: "the oldest in its database".into(),
    }
}

/// Committing; one branch done, one waits, one whose participant is silent.
pub(crate) fn transaction() -> v1::Transaction {
    let done = v1::BranchStatus {
        branch: Some(branch(0xaa, "bank-a")),
        vote: "commit".into(),
        evidence: Some(evidence()),
        outcome: v1::BranchOutcome::Committed.into(),
        attempts: 1,
        attached: true,
        ..v1::BranchStatus::default()
    };
    let waiting = v1::BranchStatus {
        branch: Some(branch(0xab, "bank-b")),
        vote: "commit".into(),
        evidence: Some(evidence()),
        attempts: 14,
        last_error: "connection refused".into(),
        attached: true,
        report: Some(v1::BranchReport { answered: true, problem: String::new(), finding: Some(finding()) }),
        next_attempt_in: long(2_000),
        ..v1::BranchStatus::default()
    };
    let silent = v1::BranchStatus {
        branch: Some(branch(0xac, "bank-c")),
        vote: "commit".into(),
        attempts: 3,
        report: Some(v1::BranchReport {
            answered: false,
            problem: "no instance is attached".into(),
            finding: None,
        }),
        ..v1::BranchStatus::default()
    };
    v1::Transaction {
        id: Some(id()),
        state: v1::TransactionState::Committing.into(),
        details: Some(v1::Details {
            name: "transfer".into(),
            labels: [("app".to_owned(), "pay".to_owned())].into(),
            traceparent: String::new(),
        }),
        age: long(372_152),
        decided_at: Some(moment()),
        reason: None,
        branches: vec![done, waiting, silent],
        waits_for: "bank-b: connection refused, 14 tries".into(),
        next_attempt_in: long(2_000),
        heuristic: v1::BranchOutcome::Unspecified.into(),
        steps: vec![
            v1::TransactionStep { at: long(0), step: "begun".into(), branch: 0, detail: String::new() },
            v1::TransactionStep { at: long(4), step: "voted".into(), branch: 0xab, detail: "commit".into() },
        ],
        driven_by: INCARNATION.into(),
        time_left: None,
    }
}

/// One that ends a branch against the decision.
pub(crate) fn plan() -> v1::Plan {
    v1::Plan {
        act: None,
        title: "end what was named".into(),
        facts: vec!["the log says nothing".into(), "bank-b says prepared".into()],
        steps: vec!["the log closes it with abort".into()],
        risk: "the books may differ".into(),
        heuristic: v1::BranchOutcome::HeuristicMixed.into(),
        refusal: None,
        hash: "5f".repeat(32),
        command: "pactum quarantine release --all --reason TEXT".into(),
        transaction: None,
        confirmation: String::new(),
    }
}

/// An orphan, a quarantined branch, and a resource that did not answer.
pub(crate) fn branches() -> v1::ListBranchesResponse {
    let prepared = |verdict: v1::BranchVerdict, explanation: &str| v1::PreparedBranch {
        resource: "bank-b".into(),
        finding: Some(finding()),
        verdict: verdict.into(),
        explanation: explanation.into(),
    };
    v1::ListBranchesResponse {
        branches: vec![
            prepared(v1::BranchVerdict::Orphan, "its owner has ended; the next inquiry rolls it back"),
            prepared(v1::BranchVerdict::Quarantined, "the log went back in time; a person must end it"),
        ],
        problems: vec![v1::ResourceProblem { resource: "bank-c".into(), problem: "no answer".into() }],
    }
}

pub(crate) fn heuristic() -> v1::Heuristic {
    v1::Heuristic {
        id: Some(id()),
        branch: Some(branch(0xab, "bank-b")),
        outcome: v1::BranchOutcome::HeuristicAborted.into(),
        recorded_at: Some(moment()),
        decision: v1::BranchOutcome::Committed.into(),
    }
}

/// Two instances of one resource.
pub(crate) fn participants() -> Vec<v1::Participant> {
    let first = v1::Participant {
        resource: "bank-a".into(),
        instance: bytes(INSTANCE),
        identity: "7412/1".into(),
        marker: true,
        peer: "127.0.0.1:50000".into(),
        version: "0.1.0".into(),
        attached_for: long(60_000),
        branches_open: 3,
        draining: true,
        settings: [("max_prepared_transactions".to_owned(), "64".to_owned())].into(),
    };
    let second = v1::Participant { instance: vec![7; 16], draining: false, ..first.clone() };
    vec![first, second]
}

pub(crate) fn audit_entry(entry: &AuditEntry) -> v1::AuditEntry {
    let draft = entry.draft.clone();
    v1::AuditEntry {
        number: entry.number,
        at_microseconds: entry.at_microseconds,
        kind: draft.kind.name().into(),
        begun: draft.begun.unwrap_or(0),
        who: draft.who,
        origin: draft.origin,
        act: draft.act,
        target: draft.target,
        reason: draft.reason,
        plan: draft.plan,
        before: draft.before,
        after: draft.after,
        result: draft.result,
        incarnation: draft.incarnation.map(|it| it.as_uuid().as_bytes().to_vec()).unwrap_or_default(),
        previous: entry.previous.0.to_vec(),
        hash: entry.hash.0.to_vec(),
    }
}
