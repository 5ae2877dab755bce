//! A plan: what an act would do, by the state of this moment, or why it would be refused.

use std::fmt::Write as _;
use std::time::Duration;

use pactum_core::id::Branch;
use pactum_core::id::{BranchId, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{DecisionRecord, HeuristicOutcome};
use pactum_core::vote::Evidence;
use pactum_proto::error as public;
use pactum_proto::v1;

use super::super::Admin;
use super::gather::{Owner, Presence, Seen, Subject, Verdict};
use super::given::Act;
use super::state::{State, TransactionState, heuristic_name};
use super::{Proposal, Refusal, drain, forget, overrule, release, resolve, retry};
use crate::decision_log::Release;
use crate::error::ServiceError;

/// A plan, with what is needed to carry it out.
#[derive(Debug)]
pub(super) struct Planned {
    /// With whole names.
    pub(super) act: Act,
    pub(super) title: String,
    pub(super) facts: Vec<String>,
    pub(super) steps: Vec<String>,
    pub(super) risk: String,
    pub(super) heuristic: Option<HeuristicOutcome>,
    pub(super) work: Result<Work, Refusal>,
    pub(super) state: State,
    pub(super) hash: String,
    pub(super) confirmation: String,
    pub(super) subject: Option<Box<Subject>>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Drive it: it is open here, or this record is to be driven from here.
    Retry { id: TransactionId, record: Option<Box<DecisionRecord>> },
    /// Close it with abort.
    Resolve { id: TransactionId, branches: Vec<Branch> },
    /// End that branch by hand.
    Overrule { id: TransactionId, branch: Branch, evidence: Evidence, commit: bool, driven: bool },
    /// Forget what is kept of it.
    Forget { id: TransactionId },
    /// Release from doubt.
    Release(Release),
    /// Tell participants.
    Drain { resource: ResourceName, instance: Option<InstanceId>, draining: bool },
}

impl Admin {
    /// Plans an act. Changes nothing.
    pub(super) async fn plan(&self, act: &Act) -> Result<Planned, ServiceError> {
        let Some(gid) = act.gid() else {
            return match act {
                Act::Release(which) => self.plan_release(*which).await,
                Act::Drain { resource, instance, draining } => {
                    Ok(self.plan_drain(resource, *instance, *draining))
                }
                Act::Retry { .. } | Act::Resolve { .. } | Act::Overrule { .. } | Act::Forget { .. } => {
                    Err(ServiceError::Internal)
                }
            };
        };
        let at = if let Act::Overrule { resource, .. } = act { Some(resource) } else { None };
        let subject = self.subject(gid, at).await.map_err(|error| overrule::without_the_log(act, error))?;
        let mut chosen = None;
        let proposal = match act {
            Act::Retry { .. } => retry::propose(&subject),
            Act::Resolve { .. } => resolve::propose(&subject),
            Act::Forget { .. } => forget::propose(&subject),
            Act::Overrule { resource, branch, commit, .. } => {
                let seen = overrule::choose(&subject, resource, *branch)?;
                chosen = seen.map(|seen| seen.branch.id);
                overrule::propose(&subject, resource, seen, *commit)
            }
            Act::Release(_) | Act::Drain { .. } => return Err(ServiceError::Internal),
        };
        Ok(Planned::on(subject, act, chosen, proposal))
    }

    async fn plan_release(&self, which: Release) -> Result<Planned, ServiceError> {
        let (state, facts, proposal) = release::propose(self, which).await?;
        let confirmation = match which {
            Release::One(incarnation) => last_digits(&incarnation.as_uuid().simple().to_string()),
            Release::All => "release".to_owned(),
        };
        Ok(Planned::new(Act::Release(which), State::Doubt(state), facts, confirmation, proposal, None))
    }

    fn plan_drain(&self, resource: &ResourceName, instance: Option<InstanceId>, draining: bool) -> Planned {
        let (state, facts, proposal) = drain::propose(self, resource, instance, draining);
        let act = Act::Drain { resource: resource.clone(), instance, draining };
        Planned::new(act, State::Participants(state), facts, resource.to_string(), proposal, None)
    }
}

impl Planned {
    fn on(subject: Subject, act: &Act, chosen: Option<BranchId>, proposal: Proposal) -> Self {
        let gid = subject.gid();
        let act = act.on(&gid, chosen);
        let state = State::Transaction(TransactionState::from(&subject));
        let confirmation = last_digits(&gid);
        Self::new(act, state, facts(&subject), confirmation, proposal, Some(Box::new(subject)))
    }

    fn new(
        act: Act,
        state: State,
        facts: Vec<String>,
        confirmation: String,
        proposal: Proposal,
        subject: Option<Box<Subject>>,
    ) -> Self {
        let Proposal { title, steps, risk, heuristic, work } = proposal;
        let hash = state.hash(act.name(), &act.target());
        Self { act, title, facts, steps, risk, heuristic, work, state, hash, confirmation, subject }
    }

    /// The plan for the audit: what the operator saw, with its hash.
    pub(super) fn text(&self) -> String {
        let mut text = self.title.clone();
        for step in &self.steps {
            let _written = write!(text, "\n- {step}");
        }
        if !self.risk.is_empty() {
            let _written = write!(text, "\nrisk: {}", self.risk);
        }
        if let Err(Refusal { code, message }) = &self.work {
            let _written = write!(text, "\nrefused: {code}: {message}");
        }
        let _written = write!(text, "\nhash: {}", self.hash);
        text
    }

    /// What has changed, for whoever had planned it for another state.
    pub(super) fn now(&self) -> String {
        let mut text = self.facts.join("; ");
        if let Err(Refusal { code, message }) = &self.work {
            let _written = write!(text, ". It would be refused now: {code}: {message}");
        }
        cut(&text)
    }
}

/// A status is told in HTTP headers, whose size is limited.
fn cut(text: &str) -> String {
    const BYTES_MAX: usize = 1500;
    let mut end = text.len().min(BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let rest = if end < text.len() { "…" } else { "" };
    format!("{}{rest}", &text[..end])
}

fn last_digits(name: &str) -> String {
    name[name.len().saturating_sub(6)..].to_owned()
}

impl From<Planned> for v1::Plan {
    fn from(planned: Planned) -> Self {
        let refusal = planned.work.as_ref().err();
        Self {
            command: planned.act.command(),
            title: planned.title,
            facts: planned.facts,
            steps: planned.steps,
            risk: planned.risk,
            heuristic: v1::BranchOutcome::from_heuristic(planned.heuristic).into(),
            refusal: refusal.map(|Refusal { code, message }| public::call_error(*code, message, None)),
            hash: planned.hash,
            transaction: planned.subject.map(|subject| subject.shown),
            confirmation: planned.confirmation,
            act: Some(planned.act.into()),
        }
    }
}

/// What is known now: the log's word, its coordinator, and each database.
fn facts(subject: &Subject) -> Vec<String> {
    let mut facts = vec![match (subject.verdict, &subject.record) {
        (Verdict::Committed { finished }, Some(record)) => {
            let branches = record.branches.len();
            let rest =
                if finished { "all of them have finished" } else { "not all are known to have finished" };
            format!("the log says commit, of {}; {rest}", count(branches, "branch", "branches"))
        }
        (Verdict::Committed { .. }, None) => {
            "its one branch's own database says commit; the log has no part in it".to_owned()
        }
        (Verdict::Aborted, Some(_)) => "the log says abort".to_owned(),
        (Verdict::Aborted, None) => "its coordinator has aborted it; the log need not say so".to_owned(),
        (Verdict::Undecided, _) => "the log says nothing: it is undecided".to_owned(),
        (Verdict::Quarantined(why), _) => format!("the log says nothing, which proves nothing: {why}"),
    }];
    facts.push(match &subject.owner {
        Owner::Here => "its coordinator is this one".to_owned(),
        Owner::Elsewhere(address) if address.is_empty() => "its coordinator is another one, alive".to_owned(),
        Owner::Elsewhere(address) => format!("its coordinator is {address}, alive"),
        Owner::Ended => "its coordinator has ended".to_owned(),
    });
    facts.extend(subject.branches.values().map(|seen| format!("{}: {}", named(seen), in_database(seen))));
    let many = |resource: &ResourceName| {
        subject.branches.values().filter(|seen| seen.branch.resource == *resource).count() > 1
    };
    facts.extend(subject.heuristics.iter().map(|record| {
        let which = if many(&record.branch.resource) {
            format!("{} (branch {})", record.branch.resource, record.branch.id)
        } else {
            record.branch.resource.to_string()
        };
        format!("kept: {which} ended without the decision: {}", heuristic_name(record.outcome))
    }));
    facts
}

/// A branch, for people.
pub(super) fn named(seen: &Seen) -> String {
    format!("{} (branch {})", seen.branch.resource, seen.branch.id)
}

/// What a branch's database says of it, for people.
pub(super) fn in_database(seen: &Seen) -> String {
    match &seen.presence {
        Presence::Silent(why) => format!("nothing is known of its database: {why}"),
        Presence::Open => "open: its local work is not prepared".to_owned(),
        Presence::Prepared(evidence) => {
            let mut text = format!("prepared as {}", evidence.execution);
            if let Some(finding) = &seen.finding {
                let length = finding.prepared_for.and_then(|length| Duration::try_from(length).ok());
                if let Some(length) = length {
                    let _written = write!(text, " for {}", spoken(length));
                }
                if finding.locks > 0 {
                    let _written = write!(text, ", holds {}", count(finding.locks as usize, "lock", "locks"));
                }
                if !finding.blocked.is_empty() {
                    let waiting = count(finding.blocked.len(), "session waits", "sessions wait");
                    let _written = write!(text, ", {waiting} for it");
                }
            }
            text
        }
        Presence::Committed => "committed, by its database's evidence".to_owned(),
        Presence::Aborted => "aborted or never prepared, by its database's evidence".to_owned(),
        Presence::Unknown => match seen.finding.as_ref().map(|finding| finding.note.as_str()) {
            Some(note) if !note.is_empty() => format!("its database cannot tell: {note}"),
            Some(_) | None => "its database cannot tell".to_owned(),
        },
    }
}

/// A number of things.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

fn spoken(length: Duration) -> String {
    let seconds = length.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes:02}m"),
        (days, hours, ..) => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_told_in_its_two_largest_units() {
        for (seconds, expected) in [(0, "0s"), (59, "59s"), (61, "1m01s"), (3661, "1h01m"), (90_000, "1d01h")]
        {
            assert_eq!(spoken(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "é".repeat(1000);
        let short = cut(&text);
        assert!(short.len() <= 1500 + "…".len() && short.ends_with('…'));
        assert_eq!(cut("short"), "short");
    }
}
