//! Gathering: what is known of a transaction that an act is on, from all who know something.
//!
//! The shards and the log say what it is, participants say what their databases hold, and the log says,
//! last and known durable, what stands. Nothing is concluded from silence: a log that does not answer is
//! an error, a participant that does not is [`Presence::Silent`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use pactum_core::coordinator::Phase;
use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{
    BranchOutcome, Decision, DecisionRecord, Details, HeuristicOutcome, LookUpResult, combine,
};
use pactum_core::vote::Evidence;
use pactum_proto::v1;

use super::super::Admin;
use super::super::find::Found;
use crate::decision_log::{
    DecisionLogError, HeuristicRecord, StoredState, StoredTransaction, UndecidedRecord,
};
use crate::error::ServiceError;
use crate::examine::FINDINGS_MAX;

/// What an act on a transaction is planned by.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) id: TransactionId,
    /// As it is shown, with what its databases say.
    pub(super) shown: v1::Transaction,
    /// What is open here, and what is stored.
    pub(super) found: Found,
    /// What stands in the log.
    pub(super) record: Option<DecisionRecord>,
    pub(super) verdict: Verdict,
    pub(super) heuristics: Vec<HeuristicRecord>,
    /// Every branch that is known, by its id.
    pub(super) branches: BTreeMap<BranchId, Seen>,
    pub(super) owner: Owner,
    /// Why the resource that was named did not say what is prepared there, if it did not.
    pub(super) silent: Option<String>,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Commit; whether every branch is known to have finished.
    Committed { finished: bool },
    /// Abort: recorded, or presumed by its owner here.
    Aborted,
    /// Nothing, and whoever closes it decides abort.
    Undecided,
    /// Nothing can be known: why.
    Quarantined(&'static str),
}

impl Verdict {
    /// The decision that stands.
    pub(super) fn decision(self) -> Option<Decision> {
        match self {
            Self::Committed { .. } => Some(Decision::Commit),
            Self::Aborted => Some(Decision::Abort),
            Self::Undecided | Self::Quarantined(_) => None,
        }
    }
}

/// Why nothing can be known.
pub(super) const DOUBTED: &str = "the log went back in time, and a commit of its coordinator may be lost";
pub(super) const FORGOTTEN: &str = "the log has forgotten it";

/// Where its coordinator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Here,
    /// Alive, at this address (empty if it does not say).
    Elsewhere(String),
    Ended,
}

/// A branch, as its database shows it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) branch: Branch,
    /// It voted read-only, and holds nothing.
    pub(super) read_only: bool,
    pub(super) presence: Presence,
    /// What its database told, whole.
    pub(super) finding: Option<v1::BranchFinding>,
}

/// What its database says of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nobody answered, and why. Nothing is known.
    Silent(String),
    Open,
    /// Prepared, by this execution.
    Prepared(Evidence),
    Committed,
    Aborted,
    /// It cannot be told.
    Unknown,
}

impl Presence {
    fn of(finding: &v1::BranchFinding) -> Self {
        match finding.presence() {
            v1::BranchPresence::Open => Self::Open,
            v1::BranchPresence::Prepared => {
                let evidence = finding.evidence.clone().map(Evidence::try_from);
                match evidence {
                    Some(Ok(evidence)) => Self::Prepared(evidence),
                    // Without evidence nobody can say which execution is meant.
                    Some(Err(_)) | None => Self::Unknown,
                }
            }
            v1::BranchPresence::Committed => Self::Committed,
            v1::BranchPresence::Aborted => Self::Aborted,
            v1::BranchPresence::Unknown | v1::BranchPresence::Unspecified => Self::Unknown,
        }
    }

    /// Its name in the audit.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Silent(_) => "silent",
            Self::Open => "open",
            Self::Prepared(_) => "prepared",
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
        }
    }
}

impl Subject {
    /// How branches stand to the decision, with one of them ended so by hand. Branches that have not
    /// ended count as ending as decided. Without a decision, as if it were the contrary of what is done.
    pub(super) fn combined(
        &self,
        decision: Decision,
        by_hand: Option<(BranchId, HeuristicOutcome)>,
    ) -> Option<HeuristicOutcome> {
        let as_decided = match decision {
            Decision::Commit => BranchOutcome::Committed,
            Decision::Abort => BranchOutcome::Aborted,
        };
        let recorded = |id: BranchId| {
            let record = self.heuristics.iter().find(|record| record.branch.id == id)?;
            Some(BranchOutcome::Heuristic(record.outcome))
        };
        let counted = self.branches.values().filter(|seen| !seen.read_only);
        let outcomes: Vec<BranchOutcome> = counted
            .map(|seen| match by_hand {
                Some((id, outcome)) if id == seen.branch.id => BranchOutcome::Heuristic(outcome),
                Some(_) | None => recorded(seen.branch.id).unwrap_or_else(|| match &seen.presence {
                    Presence::Committed => BranchOutcome::Committed,
                    Presence::Aborted => BranchOutcome::Aborted,
                    Presence::Silent(_) | Presence::Open | Presence::Prepared(_) | Presence::Unknown => {
                        as_decided.clone()
                    }
                }),
            })
            .collect();
        combine(decision, &outcomes)
    }

    /// How the branches of a decided transaction stand to its decision.
    pub(super) fn heuristic(&self) -> Option<HeuristicOutcome> {
        self.combined(self.verdict.decision()?, None)
    }

    /// Its gid, whole.
    pub(super) fn gid(&self) -> String {
        self.id.gid.to_string()
    }

    /// Its gid and name, for people.
    pub(super) fn name(&self) -> String {
        let name = self.shown.details.as_ref().map_or("", |details| details.name.as_str());
        if name.is_empty() { self.gid() } else { format!("{} ({name})", self.gid()) }
    }
}

/// What a log did not do for an act.
pub(super) fn log_failed(error: &DecisionLogError) -> ServiceError {
    ServiceError::LogFailed { why: crate::journal::chain(error) }
}

/// Pages of heuristic outcomes that are searched for a part of a gid at most.
const HEURISTIC_PAGES_MAX: usize = 20;
const HEURISTIC_PAGE: u32 = 1000;

impl Admin {
    /// All that is known of the transaction that a gid, or a part of one, fits. A whole gid may be
    /// that of an orphan: of a transaction of which nobody but a participant knows.
    pub(super) async fn subject(
        &self,
        name: &str,
        at: Option<&ResourceName>,
    ) -> Result<Subject, ServiceError> {
        let found = match self.find(name).await {
            Ok(found) => found,
            Err(ServiceError::NoTransaction { name }) => {
                if let Some(kept) = self.kept_only(&name).await? {
                    kept
                } else {
                    let orphan = self.orphan(&name, at).await;
                    orphan.ok_or(ServiceError::NoTransaction { name })?
                }
            }
            Err(error) => return Err(error),
        };
        self.gather(found, at).await
    }

    /// A transaction of which only heuristic outcomes are kept.
    async fn kept_only(&self, name: &str) -> Result<Option<Found>, ServiceError> {
        let part: String = name.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
        let mut kept: BTreeMap<TransactionId, Vec<HeuristicRecord>> = BTreeMap::new();
        if let Ok(gid) = part.parse::<Gid>() {
            let records = self.log.heuristics(&[gid]).await.map_err(|error| log_failed(&error))?;
            for record in records {
                kept.entry(record.id).or_default().push(record);
            }
        } else {
            let mut before = None;
            for _ in 0..HEURISTIC_PAGES_MAX {
                let page = self.log.list_heuristics(before, HEURISTIC_PAGE).await;
                let page = page.map_err(|error| log_failed(&error))?;
                let Some(last) = page.last() else { break };
                before = Some(last.record.id.gid);
                for stored in page {
                    let digits = stored.record.id.gid.as_uuid().simple().to_string();
                    if digits.starts_with(&part) || digits.ends_with(&part) {
                        kept.entry(stored.record.id).or_default().push(stored.record);
                    }
                }
            }
        }
        let mut kept = kept.into_iter();
        match (kept.next(), kept.next()) {
            (Some(_), Some(_)) => Err(ServiceError::Ambiguous { part: name.to_owned() }),
            (Some((id, heuristics)), None) => {
                let branches = heuristics.iter().map(|record| record.branch.clone()).collect();
                let stored = StoredTransaction { heuristics, ..undecided(id, branches) };
                Ok(Some(Found { open: None, stored: Some(stored) }))
            }
            (None, _) => Ok(None),
        }
    }

    /// A transaction of which nobody but participants know: those of this resource, or of each that is
    /// attached.
    async fn orphan(&self, name: &str, at: Option<&ResourceName>) -> Option<Found> {
        let gid: Gid = name.parse().ok()?;
        let resources: BTreeSet<ResourceName> = match at {
            Some(resource) => BTreeSet::from([resource.clone()]),
            None => self.registry.sessions().resources().cloned().collect(),
        };
        let asked = join_all(resources.iter().map(|resource| self.prepared_of(resource, gid))).await;
        let mut by_id: BTreeMap<TransactionId, Vec<Branch>> = BTreeMap::new();
        for (id, branch, _) in asked.into_iter().filter_map(Result::ok).flatten() {
            by_id.entry(id).or_default().push(branch);
        }
        // One gid under two owners' names is no transaction of ours that an act could be on.
        let mut only = by_id.into_iter();
        let (id, branches) = only.next().filter(|_| only.next().is_none())?;
        Some(Found { open: None, stored: Some(undecided(id, branches)) })
    }

    /// The prepared branches of a transaction at a resource.
    async fn prepared_of(
        &self,
        resource: &ResourceName,
        gid: Gid,
    ) -> Result<Vec<(TransactionId, Branch, v1::BranchFinding)>, String> {
        let (findings, _) =
            self.examiner.prepared(resource, FINDINGS_MAX).await.map_err(|silent| silent.to_string())?;
        let of_it = findings.into_iter().filter_map(|finding| {
            let id = TransactionId::try_from(finding.id.clone()?).ok().filter(|id| id.gid == gid)?;
            // Its database cannot say who enlisted it. What is prepared has the log as its register: a
            // branch that is its own register is never prepared (H5).
            let branch = Branch {
                id: BranchId::new(finding.branch),
                resource: resource.clone(),
                instance: InstanceId::NIL,
                marker: false,
            };
            Some((id, branch, finding))
        });
        Ok(of_it.collect())
    }

    /// Asks the databases, then the log.
    async fn gather(&self, found: Found, at: Option<&ResourceName>) -> Result<Subject, ServiceError> {
        let id = found.id();
        let mut shown = self.examined(&found).await;
        let heuristics = self.log.heuristics(&[id.gid]).await.map_err(|error| log_failed(&error))?;
        let heuristics: Vec<HeuristicRecord> =
            heuristics.into_iter().filter(|record| record.id == id).collect();
        let mut others = missing(&shown, heuristics.iter().map(|record| &record.branch));
        self.examine(&found, &mut others).await;
        shown.branches.append(&mut others);
        let mut silent = None;
        if let Some(resource) = at
            && !shown.branches.iter().any(|status| at_resource(status, resource))
        {
            // A prepare record need not name every branch, and an abort's record names none.
            match self.prepared_of(resource, id.gid).await {
                Ok(prepared) => {
                    for (_, branch, finding) in prepared.into_iter().filter(|(other, ..)| *other == id) {
                        shown.branches.push(v1::BranchStatus {
                            branch: Some(branch.into()),
                            attached: true,
                            report: Some(v1::BranchReport {
                                answered: true,
                                finding: Some(finding),
                                ..v1::BranchReport::default()
                            }),
                            ..v1::BranchStatus::default()
                        });
                    }
                }
                Err(why) => silent = Some(why),
            }
        }
        let branches = shown.branches.iter().filter_map(seen).map(|seen| (seen.branch.id, seen)).collect();
        let (mut record, forgotten) = self.stands(id).await?;
        if forgotten {
            record = kept_under_the_floor(&found);
        }
        let verdict = self.verdict(&found, id, record.as_ref(), forgotten).await?;
        let owner = self.owner(id.incarnation);
        Ok(Subject { id, shown, found, record, verdict, heuristics, branches, owner, silent })
    }

    /// What stands for this very transaction, known durable; and whether the log has forgotten it.
    async fn stands(&self, id: TransactionId) -> Result<(Option<DecisionRecord>, bool), ServiceError> {
        let looked_up = self.log.look_up(&[id.gid]).await.map_err(|error| log_failed(&error))?;
        match looked_up.into_iter().next() {
            // Another owner's under the same gid is none of this one.
            Some(LookUpResult::Stands(record)) => Ok((Some(*record).filter(|record| record.id == id), false)),
            Some(LookUpResult::NoRecord) => Ok((None, false)),
            Some(LookUpResult::Forgotten) => Ok((None, true)),
            Some(LookUpResult::Unknown) | None => {
                Err(ServiceError::LogFailed { why: "the record could not be read".to_owned() })
            }
        }
    }

    async fn verdict(
        &self,
        found: &Found,
        id: TransactionId,
        record: Option<&DecisionRecord>,
        forgotten: bool,
    ) -> Result<Verdict, ServiceError> {
        if let Some(record) = record {
            let finished = found.open.is_none()
                && found.stored.as_ref().is_some_and(|stored| {
                    matches!(stored.state, StoredState::Decided { finished: true, .. })
                });
            return Ok(match record.decision {
                Decision::Commit => Verdict::Committed { finished },
                Decision::Abort => Verdict::Aborted,
            });
        }
        match found.open.as_ref().map(|open| open.phase) {
            // Decided in its one branch's own register.
            Some(Phase::Committing) => return Ok(Verdict::Committed { finished: false }),
            Some(Phase::Aborting) => return Ok(Verdict::Aborted),
            Some(Phase::Active | Phase::Preparing | Phase::Deciding) | None => {}
        }
        if forgotten {
            return Ok(Verdict::Quarantined(FORGOTTEN));
        }
        let doubted = self.log.doubted_of(&[id.incarnation]).await.map_err(|error| log_failed(&error))?;
        Ok(if doubted.contains(&id.incarnation) { Verdict::Quarantined(DOUBTED) } else { Verdict::Undecided })
    }

    fn owner(&self, incarnation: Incarnation) -> Owner {
        if self.lifecycle.own() == Some(incarnation) {
            return Owner::Here;
        }
        let members = self.lifecycle.members();
        match members.iter().find(|member| member.incarnation == incarnation) {
            Some(member) => Owner::Elsewhere(member.address.as_ref().to_owned()),
            None => Owner::Ended,
        }
    }
}

/// A record that is kept although the floor has passed it: of a straggler, or for its heuristic outcomes.
/// It is durable, since the raise of the floor is, which came after it.
fn kept_under_the_floor(found: &Found) -> Option<DecisionRecord> {
    match &found.stored.as_ref()?.state {
        StoredState::Decided { record, .. } => Some(record.clone()),
        StoredState::Undecided { .. } => None,
    }
}

fn undecided(id: TransactionId, branches: Vec<Branch>) -> StoredTransaction {
    let record = UndecidedRecord { id, branches, details: Details::default(), age: Duration::ZERO };
    StoredTransaction { id, state: StoredState::Undecided { record }, heuristics: Vec::new() }
}

/// Those of these branches that are not shown yet.
fn missing<'a>(shown: &v1::Transaction, branches: impl Iterator<Item = &'a Branch>) -> Vec<v1::BranchStatus> {
    let is_shown = |branch: &Branch| {
        let mut names = shown.branches.iter().filter_map(|status| status.branch.as_ref());
        names.any(|known| known.id == branch.id.number())
    };
    let others = branches.filter(|branch| !is_shown(branch));
    others
        .map(|branch| v1::BranchStatus { branch: Some(branch.clone().into()), ..Default::default() })
        .collect()
}

fn at_resource(status: &v1::BranchStatus, resource: &ResourceName) -> bool {
    status.branch.as_ref().is_some_and(|branch| branch.resource == resource.as_str())
}

fn seen(status: &v1::BranchStatus) -> Option<Seen> {
    let branch = Branch::try_from(status.branch.clone()?).ok()?;
    let report = status.report.as_ref();
    let finding = report.and_then(|report| report.finding.clone());
    let presence = finding.as_ref().map_or_else(
        || Presence::Silent(report.map(|report| report.problem.clone()).unwrap_or_default()),
        Presence::of,
    );
    Some(Seen { branch, read_only: status.vote == "read-only", presence, finding })
}
