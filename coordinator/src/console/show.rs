//! Messages as what a page shows of them: words and tones, with nothing concluded that they do not
//! say.

use pactum_proto::v1;
use pactum_proto::v1::{BranchOutcome, BranchPresence, BranchVerdict, TransactionState};

use super::link::encode;
use super::text;

/// How much somebody should care; a class of the style sheet.
pub(super) type Tone = &'static str;

/// A word with its tone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: &'static str,
    pub(super) tone: Tone,
}

const fn word(text: &'static str, tone: Tone) -> Word {
    Word { text, tone }
}

/// The state of a transaction.
pub(super) fn state(state: TransactionState) -> Word {
    match state {
        TransactionState::Unspecified => word("unknown", "warn"),
        TransactionState::Active => word("active", "plain"),
        TransactionState::Preparing => word("preparing", "plain"),
        TransactionState::Deciding => word("deciding", "warn"),
        TransactionState::Committing => word("committing", "warn"),
        TransactionState::Aborting => word("aborting", "warn"),
        TransactionState::Committed => word("committed", "good"),
        TransactionState::Aborted => word("aborted", "plain"),
        TransactionState::Undecided => word("undecided", "warn"),
    }
}

/// How a branch ended, or a whole transaction stands to its decision; `None` if it has not ended.
pub(super) fn outcome(outcome: BranchOutcome) -> Option<Word> {
    Some(match outcome {
        BranchOutcome::Unspecified => return None,
        BranchOutcome::Committed => word("committed", "good"),
        BranchOutcome::Aborted => word("aborted", "plain"),
        BranchOutcome::HeuristicCommitted => word("heuristic: committed", "bad"),
        BranchOutcome::HeuristicAborted => word("heuristic: aborted", "bad"),
        BranchOutcome::HeuristicMixed => word("heuristic: mixed", "bad"),
        BranchOutcome::HeuristicHazard => word("heuristic: hazard", "bad"),
    })
}

fn presence(presence: BranchPresence) -> Word {
    match presence {
        BranchPresence::Unspecified => word("nobody was asked", "plain"),
        BranchPresence::Open => word("open, not prepared", "plain"),
        BranchPresence::Prepared => word("prepared", "warn"),
        BranchPresence::Committed => word("gone, committed", "good"),
        BranchPresence::Aborted => word("gone, aborted", "plain"),
        BranchPresence::Unknown => word("unknown, perhaps prepared", "bad"),
    }
}

/// What is known of a prepared branch's transaction.
pub(super) fn verdict(verdict: BranchVerdict) -> Word {
    match verdict {
        BranchVerdict::Unspecified | BranchVerdict::Unknown => word("not known", "bad"),
        BranchVerdict::Owned => word("at work", "plain"),
        BranchVerdict::Commit => word("to be committed", "good"),
        BranchVerdict::Abort => word("to be aborted", "plain"),
        BranchVerdict::Orphan => word("orphan", "warn"),
        BranchVerdict::Quarantined => word("quarantined", "bad"),
    }
}

/// A transaction in a list.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) gid: String,
    pub(super) short: String,
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) state: Word,
    pub(super) heuristic: Option<Word>,
    pub(super) age: String,
    pub(super) age_exact: std::time::Duration,
    pub(super) branches: Vec<Chip>,
    pub(super) waits_for: String,
    pub(super) next_try: String,
}

/// A branch in a list of transactions.
#[derive(Clone, Debug)]
pub(super) struct Chip {
    pub(super) resource: String,
    pub(super) state: Word,
}

/// The labels, in one order.
pub(super) fn labels(details: Option<&v1::Details>) -> Vec<(String, String)> {
    let mut labels: Vec<_> = details
        .into_iter()
        .flat_map(|details| &details.labels)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    labels.sort();
    labels
}

/// The gid of a transaction, whole.
pub(super) fn gid(id: Option<&v1::TransactionId>) -> String {
    id.map(|id| text::id(&id.gid)).unwrap_or_default()
}

pub(super) fn row(transaction: &v1::Transaction) -> Row {
    let gid = gid(transaction.id.as_ref());
    Row {
        short: text::short(&gid),
        gid,
        name: transaction.details.as_ref().map(|details| details.name.clone()).unwrap_or_default(),
        labels: labels(transaction.details.as_ref()),
        state: state(transaction.state()),
        heuristic: outcome(transaction.heuristic()),
        age: text::age(transaction.age),
        age_exact: transaction.age.and_then(|age| age.try_into().ok()).unwrap_or_default(),
        branches: transaction
            .branches
            .iter()
            .map(|branch| Chip { resource: resource(branch).to_owned(), state: here(branch) })
            .collect(),
        waits_for: transaction.waits_for.clone(),
        next_try: text::age(transaction.next_attempt_in),
    }
}

fn resource(branch: &v1::BranchStatus) -> &str {
    branch.branch.as_ref().map_or("", |branch| &branch.resource)
}

/// How a branch stands here, in a word.
fn here(branch: &v1::BranchStatus) -> Word {
    if let Some(ended) = outcome(branch.outcome()) {
        return ended;
    }
    match branch.vote.as_str() {
        "commit" => word("in doubt", "warn"),
        "read-only" => word("read-only", "plain"),
        "abort" => word("voted no", "plain"),
        _ => word("no vote", "plain"),
    }
}

/// A branch on the page of its transaction.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) id: String,
    pub(super) resource: String,
    pub(super) vote: String,
    pub(super) evidence: String,
    pub(super) anchor: String,
    pub(super) here: Word,
    pub(super) attempts: u32,
    pub(super) last_error: String,
    pub(super) next_try: String,
    pub(super) attached: bool,
    pub(super) there: There,
    pub(super) act_query: String,
}

/// What a branch's database says of it.
#[derive(Clone, Debug)]
pub(super) enum There {
    /// Nobody was asked.
    NotAsked,
    /// Nobody answered: nothing is known.
    Silent { problem: String },
    /// It answered.
    Found(Box<Finding>),
}

/// What was found in a database.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) presence: Word,
    pub(super) problem: String,
    pub(super) evidence: String,
    pub(super) prepared_for: String,
    pub(super) locks: u32,
    pub(super) blocked: Vec<Blocked>,
    pub(super) pinned: u64,
    pub(super) note: String,
}

/// A session that waits for a lock of a branch.
#[derive(Clone, Debug)]
pub(super) struct Blocked {
    pub(super) pid: i32,
    pub(super) user: String,
    pub(super) application: String,
    pub(super) waits: String,
}

pub(super) fn branch(gid: &str, status: &v1::BranchStatus) -> Branch {
    let name = status.branch.clone().unwrap_or_default();
    let evidence = status.evidence.clone().unwrap_or_default();
    Branch {
        id: text::branch(name.id),
        act_query: act_query(gid, &name.resource, name.id),
        resource: name.resource,
        vote: if status.vote.is_empty() { "none yet".to_owned() } else { status.vote.clone() },
        evidence: evidence.execution,
        anchor: evidence.anchor,
        here: here(status),
        attempts: status.attempts,
        last_error: status.last_error.clone(),
        next_try: text::age(status.next_attempt_in),
        attached: status.attached,
        there: status.report.as_ref().map_or(There::NotAsked, there),
    }
}

/// What names a branch in the address of an act.
fn act_query(gid: &str, resource: &str, branch: u64) -> String {
    format!("gid={}&resource={}&branch={}", encode(gid), encode(resource), text::branch(branch))
}

fn there(report: &v1::BranchReport) -> There {
    match &report.finding {
        Some(found) if report.answered => There::Found(Box::new(finding(found, &report.problem))),
        _ => There::Silent {
            problem: match report.problem.as_str() {
                "" => "nobody answered".to_owned(),
                problem => problem.to_owned(),
            },
        },
    }
}

fn finding(found: &v1::BranchFinding, problem: &str) -> Finding {
    Finding {
        presence: presence(found.presence()),
        problem: problem.to_owned(),
        evidence: found.evidence.as_ref().map(|evidence| evidence.execution.clone()).unwrap_or_default(),
        prepared_for: text::age(found.prepared_for),
        locks: found.locks,
        blocked: found
            .blocked
            .iter()
            .map(|session| Blocked {
                pid: session.pid,
                user: session.user.clone(),
                application: session.application.clone(),
                waits: text::age(session.waits),
            })
            .collect(),
        pinned: found.pinned_transactions,
        note: found.note.clone(),
    }
}

/// A prepared branch in the list of those that are stuck.
#[derive(Clone, Debug)]
pub(super) struct Stuck {
    pub(super) gid: String,
    pub(super) short: String,
    pub(super) incarnation: String,
    pub(super) branch: String,
    pub(super) resource: String,
    pub(super) verdict: Word,
    pub(super) explanation: String,
    pub(super) quarantined: bool,
    pub(super) finding: Finding,
    pub(super) act_query: String,
}

pub(super) fn stuck(prepared: &v1::PreparedBranch) -> Stuck {
    let found = prepared.finding.clone().unwrap_or_default();
    let gid = gid(found.id.as_ref());
    Stuck {
        short: text::short(&gid),
        act_query: act_query(&gid, &prepared.resource, found.branch),
        gid,
        incarnation: found.id.as_ref().map(|id| text::id(&id.incarnation)).unwrap_or_default(),
        branch: text::branch(found.branch),
        resource: prepared.resource.clone(),
        verdict: verdict(prepared.verdict()),
        explanation: prepared.explanation.clone(),
        quarantined: prepared.verdict() == BranchVerdict::Quarantined,
        finding: finding(&found, ""),
    }
}
