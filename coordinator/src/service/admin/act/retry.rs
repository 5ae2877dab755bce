//! Retry: unfinished branches are driven now instead of at their next try.
//!
//! Harmless at any time: a decision is delivered once more, and whoever has carried it out answers as
//! before. A commit that another coordinator drives is driven from here as well, by its record, which
//! was read known durable.

use pactum_core::coordinator::{Event, Phase};
use pactum_core::id::TransactionId;
use pactum_core::outcome::DecisionRecord;
use pactum_proto::error::ErrorCode;

use super::super::Admin;
use super::gather::{DOUBTED, Owner, Presence, Seen, Subject, Verdict};
use super::plan::{Work, in_database, named};
use super::resolve::quarantined;
use super::{End, Proposal};

/// What a retry would do.
pub(super) fn propose(subject: &Subject) -> Proposal {
    let title = format!("Retry {}: drive what is unfinished now", subject.name());
    let id = subject.id;
    if let Some(open) = &subject.found.open {
        if open.phase == Phase::Active {
            let message = "it waits for its application to commit or abort: there is nothing to be retried";
            return Proposal::refused(title, ErrorCode::NothingToDo, message);
        }
        if open.held.is_some() {
            return Proposal::refused(title, ErrorCode::InQuarantine, quarantined(DOUBTED));
        }
        let steps = match open.phase {
            Phase::Preparing => vec!["ask each branch that has not voted again".to_owned()],
            Phase::Deciding => vec!["ask the register again for the decision".to_owned()],
            Phase::Active | Phase::Committing | Phase::Aborting => deliveries(subject),
        };
        let work = Ok(Work::Retry { id, record: None });
        return Proposal { title, steps, risk: String::new(), heuristic: subject.heuristic(), work };
    }
    match subject.verdict {
        Verdict::Committed { finished: false } if subject.record.is_some() => {
            let mut steps = vec!["drive it from this coordinator, by its record in the log".to_owned()];
            steps.extend(deliveries(subject));
            let work = Ok(Work::Retry { id, record: subject.record.clone().map(Box::new) });
            Proposal { title, steps, risk: String::new(), heuristic: subject.heuristic(), work }
        }
        Verdict::Committed { .. } => {
            let message = "it is committed, and every branch has finished";
            Proposal::refused(title, ErrorCode::NothingToDo, message)
        }
        Verdict::Aborted => {
            let message = "it is aborted: a branch that is still prepared is told so when it inquires";
            Proposal::refused(title, ErrorCode::NothingToDo, message)
        }
        Verdict::Quarantined(why) => Proposal::refused(title, ErrorCode::InQuarantine, quarantined(why)),
        Verdict::Undecided => match &subject.owner {
            Owner::Elsewhere(address) => {
                let address = if address.is_empty() { "another coordinator" } else { address };
                let message = format!("it is undecided, and {address} is at work on it: retry it there");
                Proposal::refused(title, ErrorCode::NotOwner, message)
            }
            Owner::Here | Owner::Ended => {
                let message = "it is undecided and its coordinator has ended: there is nothing to be driven. An \
                               inquiry of its participants closes it with abort, or `pactum tx resolve` does";
                Proposal::refused(title, ErrorCode::NothingToDo, message)
            }
        },
    }
}

/// One step for each branch that is not known to have ended.
fn deliveries(subject: &Subject) -> Vec<String> {
    let unfinished = subject.branches.values().filter(|seen| !seen.read_only && !has_ended(seen));
    let steps: Vec<String> = unfinished
        .map(|seen| format!("deliver the decision to {} ({})", named(seen), in_database(seen)))
        .collect();
    if steps.is_empty() { vec!["ask its participants to acknowledge its end".to_owned()] } else { steps }
}

fn has_ended(seen: &Seen) -> bool {
    matches!(seen.presence, Presence::Committed | Presence::Aborted)
}

impl Admin {
    /// Has it driven. Nothing is waited for.
    pub(super) fn retry(&self, id: TransactionId, record: Option<Box<DecisionRecord>>) -> End {
        if let Some(record) = record {
            self.shards.recover(*record);
        }
        self.shards.tell(id.gid, Event::RetryRequested { gid: id.gid });
        End::Done("its unfinished branches are being tried now".to_owned())
    }
}
