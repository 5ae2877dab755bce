//! Why a transaction waits: one sentence that is true now, and says what to do where a person can do
//! something.
//!
//! The sentence completes "waits for …". It is made of what the core, the log, the registry of attached
//! participants and (if they were asked) the databases say; it decides nothing.

use std::fmt;
use std::time::Duration;

use pactum_core::coordinator::{BranchView, Phase, TransactionView};
use pactum_core::id::{Gid, ResourceName};
use pactum_core::outcome::Decision;
use pactum_proto::v1;

use super::find::Found;
use super::show::Surroundings;
use crate::decision_log::{StoredState, StoredTransaction};
use crate::registry::Presence;

/// Branches that a sentence names; more make it no clearer.
const NAMED_MAX: usize = 4;

/// What a transaction waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Waits {
    /// Nothing: it has ended.
    Nothing,
    /// The application, which has asked for neither commit nor abort.
    Application { time_left: Option<Duration> },
    /// Answers to Prepare.
    Votes { of: Vec<Missing>, time_left: Option<Duration> },
    /// A write of the decision that the log has not acknowledged yet.
    Decision { log_problem: Option<String> },
    /// The log's word on a write whose answer was lost.
    LogAnswer { log_problem: Option<String> },
    /// The decision of its one branch, which stands in that branch's own database.
    OwnRegister { of: Vec<Missing> },
    /// Branches that have not ended as was decided.
    Finish { decision: Decision, of: Vec<Missing>, next_try: Option<Duration> },
    /// Another coordinator, which lives and drives it.
    Coordinator { address: String },
    /// The lazy record of its end; all branches have ended.
    EndRecord,
    /// Whoever takes over from its coordinator, which has ended, to finish its branches.
    Successor,
    /// Somebody to close it: its coordinator ended without a decision. `doubt_unknown`: the log did not say
    /// whether it has lost commits of it.
    Closing { gid: Gid, doubt_unknown: bool },
    /// A person: the log went back in time, and what it lacks of it proves nothing.
    Doubt,
}

/// A branch that something is awaited of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Missing {
    pub(super) resource: ResourceName,
    pub(super) presence: Presence,
    pub(super) attempts: u32,
    pub(super) last_error: String,
    /// What its database says, if it was asked.
    pub(super) report: Option<v1::BranchReport>,
}

impl Waits {
    /// What is waited for; `shown` are its branches as they are shown, in the same order.
    pub(super) fn of(found: &Found, shown: &[v1::BranchStatus], around: &Surroundings) -> Self {
        match (&found.open, &found.stored) {
            (Some(open), _) => Self::of_open(open, shown, around),
            (None, Some(stored)) => Self::of_stored(stored, around),
            (None, None) => Self::Nothing,
        }
    }

    fn of_open(open: &TransactionView, shown: &[v1::BranchStatus], around: &Surroundings) -> Self {
        let log_problem = || around.log_problem.as_deref().map(str::to_owned);
        let missing = |wanted: fn(&BranchView) -> bool| {
            let branches = open.branches.iter().zip(shown).filter(|(view, _)| wanted(view));
            branches.map(|(view, shown)| Missing::of(view, shown, around)).collect::<Vec<_>>()
        };
        if open.held.is_some() {
            return Self::Doubt;
        }
        let finish = |decision| Self::Finish {
            decision,
            of: missing(|view| view.outcome.is_none()),
            next_try: open.next_attempt_in,
        };
        match open.phase {
            Phase::Active => Self::Application { time_left: open.time_left },
            Phase::Preparing => {
                Self::Votes { of: missing(|view| view.vote.is_none()), time_left: open.time_left }
            }
            Phase::Deciding if open.own_register => Self::OwnRegister { of: missing(|_| true) },
            Phase::Deciding if open.log_unknown => Self::LogAnswer { log_problem: log_problem() },
            Phase::Deciding => Self::Decision { log_problem: log_problem() },
            Phase::Committing => finish(Decision::Commit),
            Phase::Aborting => finish(Decision::Abort),
        }
    }

    fn of_stored(stored: &StoredTransaction, around: &Surroundings) -> Self {
        let is_over = match &stored.state {
            StoredState::Undecided { .. } => false,
            StoredState::Decided { record, finished, .. } => *finished || record.decision == Decision::Abort,
        };
        if is_over {
            return Self::Nothing;
        }
        let owner = stored.id.incarnation;
        if around.own == Some(owner) {
            // What is ours and not open has just ended.
            return Self::EndRecord;
        }
        if let Some(member) = around.member(owner) {
            return Self::Coordinator { address: member.address.as_ref().to_owned() };
        }
        match (&stored.state, around.is_doubted(owner)) {
            (StoredState::Decided { .. }, _) => Self::Successor,
            (StoredState::Undecided { .. }, Some(true)) => Self::Doubt,
            (StoredState::Undecided { .. }, doubted) => {
                Self::Closing { gid: stored.id.gid, doubt_unknown: doubted.is_none() }
            }
        }
    }
}

impl Missing {
    fn of(view: &BranchView, shown: &v1::BranchStatus, around: &Surroundings) -> Self {
        Self {
            resource: view.branch.resource.clone(),
            presence: around.presence(&view.branch),
            attempts: view.attempts,
            last_error: shown.last_error.clone(),
            report: shown.report.clone(),
        }
    }

    /// What is known of it, for the brackets behind its name.
    fn remarks(&self, votes: bool) -> Vec<String> {
        let mut remarks = Vec::new();
        match self.presence {
            Presence::Nobody(Some(since)) => remarks.push(format!("not attached for {}", brief(since))),
            Presence::Nobody(None) => remarks.push("not attached".to_owned()),
            Presence::Others if votes => {
                remarks.push("the instance that holds its work has left; another one is attached".to_owned());
            }
            Presence::Itself | Presence::Others => {}
        }
        if let Some(report) = &self.report {
            remarks.extend(reported(report, votes));
        }
        match self.attempts {
            _ if votes => {}
            0 | 1 => {}
            attempts => remarks.push(format!("tried {attempts} times")),
        }
        if !self.last_error.is_empty() {
            remarks.push(format!("last error: {}", self.last_error));
        }
        remarks
    }
}

/// What a database said of a branch, as remarks. That nobody answered is one too.
fn reported(report: &v1::BranchReport, votes: bool) -> Vec<String> {
    let Some(finding) = &report.finding else {
        return vec![report.problem.clone()];
    };
    let mut remarks = Vec::new();
    let known = match (finding.presence(), votes) {
        (v1::BranchPresence::Open, _) => "its local work is still open",
        (v1::BranchPresence::Prepared, true) => "prepared: its vote is on the way",
        (v1::BranchPresence::Aborted, true) => "gone in its database: it cannot vote commit any more",
        (v1::BranchPresence::Prepared, false) => "still prepared",
        (v1::BranchPresence::Committed, false) => "committed there: its word for it is awaited",
        (v1::BranchPresence::Aborted, false) => "rolled back there: its word for it is awaited",
        (v1::BranchPresence::Unknown, _) => "its database cannot tell what became of it",
        (v1::BranchPresence::Committed | v1::BranchPresence::Unspecified, _) => "",
    };
    remarks.push(known.to_owned());
    match finding.blocked.len() {
        0 => {}
        1 => remarks.push("a session waits for its locks".to_owned()),
        count => remarks.push(format!("{count} sessions wait for its locks")),
    }
    remarks.push(finding.note.clone());
    remarks.retain(|remark| !remark.is_empty());
    remarks
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Application { time_left } => {
                f.write_str("the application to commit or abort")?;
                deadline(f, *time_left)
            }
            Self::Votes { of, time_left } => {
                write!(f, "votes of {}", Named { of, votes: true })?;
                deadline(f, *time_left)
            }
            Self::Decision { log_problem: None } => f.write_str("the decision to become durable in the log"),
            Self::Decision { log_problem: Some(why) } => {
                write!(f, "the log, which cannot be written now: {why}")
            }
            Self::LogAnswer { log_problem } => {
                f.write_str("the log's answer to a write that may have happened")?;
                match log_problem {
                    Some(why) => write!(f, "; it cannot be written now: {why}"),
                    None => Ok(()),
                }
            }
            Self::OwnRegister { of } => {
                write!(f, "the word of {}, in whose database the decision stands", Named { of, votes: false })
            }
            Self::Finish { decision, of, next_try } => {
                let verb = match decision {
                    Decision::Commit => "to finish",
                    Decision::Abort => "to finish its abort",
                };
                write!(f, "{} {verb}", Named { of, votes: false })?;
                match next_try {
                    Some(next_try) => write!(f, "; next try in {}", brief(*next_try)),
                    None => Ok(()),
                }
            }
            Self::Coordinator { address } if address.is_empty() => {
                f.write_str("another coordinator, which owns it and does not say where it is reached")
            }
            Self::Coordinator { address } => write!(f, "its coordinator at {address}, which is at work on it"),
            Self::EndRecord => f.write_str("the record of its end, which is written lazily"),
            Self::Successor => {
                f.write_str("a coordinator that takes over from its own, which has ended, to finish its branches")
            }
            Self::Closing { gid, doubt_unknown } => {
                let gid = gid.as_uuid().simple();
                write!(
                    f,
                    "an inquiry of a participant, or for `pactum tx resolve {gid}`: either closes it with abort, \
                     since its coordinator ended without a decision"
                )?;
                if *doubt_unknown {
                    f.write_str("; the log does not say now whether it went back in time")?;
                }
                Ok(())
            }
            Self::Doubt => f.write_str(
                "a person: the log went back in time and may have lost its commit; compare the databases, then \
                 `pactum quarantine release` lets it be aborted",
            ),
        }
    }
}

fn deadline(f: &mut fmt::Formatter<'_>, time_left: Option<Duration>) -> fmt::Result {
    match time_left {
        Some(time_left) => write!(f, "; it is aborted in {} otherwise", brief(time_left)),
        None => Ok(()),
    }
}

/// Branches by their resources, each with what is known of it.
struct Named<'a> {
    of: &'a [Missing],
    /// Whether their votes are awaited, and not their ends.
    votes: bool,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of.is_empty() {
            return f.write_str("nobody");
        }
        for (place, missing) in self.of.iter().take(NAMED_MAX).enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", missing.resource)?;
            let remarks = missing.remarks(self.votes);
            if !remarks.is_empty() {
                write!(f, " ({})", remarks.join("; "))?;
            }
        }
        match self.of.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A length of time for people: whole seconds, at least one.
pub(super) fn brief(length: Duration) -> String {
    humantime::format_duration(Duration::from_secs(length.as_secs().max(1))).to_string()
}

/// A sentence without its numbers, so that two looks at the same reason compare as equal.
pub(super) fn timeless(sentence: &str) -> String {
    let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    sentence.split(' ').filter(|word| !is_number(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
