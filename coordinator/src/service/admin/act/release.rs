//! Release: a person says that no commit of an incarnation is missing, though the log went back in time.
//!
//! From then on its undecided transactions may be closed with abort again, and quarantined branches are
//! told so at their next inquiry. If a commit of theirs was lost after all, databases will differ: that
//! is for a person to find out first, and for nobody else to guess (B4, B5).

use pactum_core::id::Incarnation;
use pactum_proto::error::ErrorCode;

use super::super::Admin;
use super::gather::log_failed;
use super::plan::{Work, count};
use super::state::DoubtState;
use super::{End, Proposal, Refusal};
use crate::decision_log::{LogStatus, Release};
use crate::error::ServiceError;

/// What a release would do: the state, the facts, the proposal.
pub(super) async fn propose(
    admin: &Admin,
    which: Release,
) -> Result<(DoubtState, Vec<String>, Proposal), ServiceError> {
    let doubts = admin.log.doubts().await.map_err(|error| log_failed(&error))?;
    let status = admin.log.status().await.map_err(|error| log_failed(&error))?;
    let meant: Vec<&(Incarnation, String)>;
    let doubted: Vec<(Incarnation, String)> =
        doubts.into_iter().map(|doubted| (doubted.incarnation, doubted.address)).collect();
    let (title, is_doubted) = match which {
        Release::All => {
            meant = doubted.iter().collect();
            ("Release every incarnation from doubt".to_owned(), !doubted.is_empty() || status.absent_doubted)
        }
        Release::One(one) => {
            let of_it = admin.log.doubted_of(&[one]).await.map_err(|error| log_failed(&error))?;
            meant = doubted.iter().filter(|(incarnation, _)| *incarnation == one).collect();
            (format!("Release incarnation {one} from doubt"), of_it.contains(&one))
        }
    };
    let facts = facts(&doubted, &status);
    let state = state(doubted.iter().map(|(incarnation, _)| *incarnation), status.absent_doubted);
    if !is_doubted {
        return Ok((state, facts, Proposal::refused(title, ErrorCode::NothingToDo, "it is not in doubt")));
    }
    let mut steps: Vec<String> = meant
        .iter()
        .map(|(incarnation, address)| format!("release {}", named(*incarnation, address)))
        .collect();
    match which {
        Release::All if status.absent_doubted => {
            steps.push("release owners whose rows the log lost".to_owned());
        }
        Release::One(one) if steps.is_empty() => steps.push(format!("release {one}, whose row the log lost")),
        Release::One(_) | Release::All => {}
    }
    steps.push(
        "their transactions without a record are closed with abort when a participant inquires".to_owned(),
    );
    let risk = "a commit that the log has lost, and on which a database has acted, would be contradicted: its other \
                branches would roll back. Compare what the participants committed first";
    let proposal =
        Proposal { title, steps, risk: risk.to_owned(), heuristic: None, work: Ok(Work::Release(which)) };
    Ok((state, facts, proposal))
}

fn facts(doubted: &[(Incarnation, String)], status: &LogStatus) -> Vec<String> {
    let mut facts = vec![match status.switches {
        0 => "the log never went back in time".to_owned(),
        times => {
            let times = count(usize::try_from(times).unwrap_or(usize::MAX), "time", "times");
            format!("the log went back {times}: what it lacks of those in doubt proves nothing")
        }
    }];
    facts.extend(
        doubted.iter().map(|(incarnation, address)| format!("in doubt: {}", named(*incarnation, address))),
    );
    if status.absent_doubted {
        facts.push("in doubt: every owner whose row the log lost".to_owned());
    }
    facts
}

fn named(incarnation: Incarnation, address: &str) -> String {
    if address.is_empty() { incarnation.to_string() } else { format!("{incarnation} (served at {address})") }
}

fn state(doubted: impl Iterator<Item = Incarnation>, absent_doubted: bool) -> DoubtState {
    let mut doubted: Vec<String> = doubted.map(|incarnation| incarnation.to_string()).collect();
    doubted.sort_unstable();
    DoubtState { doubted, absent_doubted }
}

impl Admin {
    /// Who is in doubt now.
    pub(super) async fn doubt_state(&self) -> Result<DoubtState, ServiceError> {
        let doubts = self.log.doubts().await.map_err(|error| log_failed(&error))?;
        let status = self.log.status().await.map_err(|error| log_failed(&error))?;
        Ok(state(doubts.into_iter().map(|doubted| doubted.incarnation), status.absent_doubted))
    }

    /// Lifts the doubts. Durable on return.
    pub(super) async fn release(&self, which: Release, reason: &str) -> End {
        match self.log.release(which, reason).await {
            Ok(lifted) => {
                let lifted = usize::try_from(lifted).unwrap_or(usize::MAX);
                End::Done(format!("{} lifted", count(lifted, "doubt was", "doubts were")))
            }
            Err(error) => {
                let why = log_failed(&error).to_string();
                End::Failed(Refusal::new(
                    ErrorCode::LogUnavailable,
                    format!("the doubts may be lifted or not: {why}"),
                ))
            }
        }
    }
}
