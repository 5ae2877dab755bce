//! What is prepared in the databases, and what is known of each: this is where orphans and quarantined
//! branches are found.
//!
//! The participants are asked first, then our own shards, then the log. In that order a branch whose
//! transaction moves on meanwhile is found in one of them at least: what was prepared and is not open
//! any more has its record, if it ever gets one.

mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use pactum_core::coordinator::TransactionView;
use pactum_core::id::{BranchId, Gid, Incarnation, ResourceName, TransactionId};
use pactum_core::outcome::LookUpResult;
use pactum_core::vote::Evidence;
use pactum_proto::v1;

use super::Admin;
use crate::error::ServiceError;
use crate::examine::FINDINGS_MAX;
use crate::journal::chain;
use crate::shard::{Inspect, Selection};
use verdict::{Facts, Owner, Prepared};

/// Gids in one question to the log.
const LOOK_UP_MAX: usize = 256;

impl Admin {
    /// Asks participants which branches are prepared, and says what is known of each.
    pub(super) async fn branches(
        &self,
        request: v1::ListBranchesRequest,
    ) -> Result<v1::ListBranchesResponse, ServiceError> {
        let limit = match request.limit {
            0 => FINDINGS_MAX,
            1..=FINDINGS_MAX => request.limit,
            _ => return Err(ServiceError::malformed("limit", "at most 256 are shown")),
        };
        let resources: Vec<ResourceName> = if request.resource.is_empty() {
            self.registry.sessions().resources().cloned().collect()
        } else {
            let name = ResourceName::new(&request.resource);
            vec![name.map_err(|error| ServiceError::malformed("resource", error.to_string()))?]
        };
        let (prepared, problems) = self.prepared(resources, limit).await;
        let facts = self.facts(&prepared).await?;
        let mut branches: Vec<v1::PreparedBranch> =
            prepared.into_iter().map(|prepared| facts.show(prepared)).collect();
        if request.stuck {
            branches.retain(|shown| verdict::is_stuck(shown.verdict()));
        }
        Ok(v1::ListBranchesResponse { branches, problems })
    }

    /// What is prepared at resources, all asked at once, and whose word is missing.
    async fn prepared(
        &self,
        resources: Vec<ResourceName>,
        limit: u32,
    ) -> (Vec<Prepared>, Vec<v1::ResourceProblem>) {
        let asked = resources.into_iter().map(|resource| async move {
            let answer = self.examiner.prepared(&resource, limit).await;
            (resource, answer)
        });
        let (mut prepared, mut problems) = (Vec::new(), Vec::new());
        for (resource, answer) in join_all(asked).await {
            let problem = match answer {
                Ok((findings, more)) => {
                    prepared.extend(findings.into_iter().filter_map(|found| Prepared::new(&resource, found)));
                    more.then(|| {
                        format!("it has more than the {limit} that are listed, which are the oldest")
                    })
                }
                Err(silent) => Some(silent.to_string()),
            };
            let resource = resource.as_str().to_owned();
            problems.extend(problem.map(|problem| v1::ResourceProblem { resource, problem }));
        }
        (prepared, problems)
    }

    /// All that is known of the transactions of these branches.
    async fn facts(&self, prepared: &[Prepared]) -> Result<Known, ServiceError> {
        let gids: BTreeSet<Gid> = prepared.iter().map(|prepared| prepared.id.gid).collect();
        let mut known = Known { own: self.lifecycle.own(), ..Known::default() };
        if gids.is_empty() {
            return Ok(known);
        }
        let selection = Selection::These(gids.iter().copied().collect());
        for views in self.shards.inspect(|reply| Inspect::Transactions(selection.clone(), reply)).await? {
            known.open.extend(views.into_iter().map(|view| (view.id, view)));
        }
        let others = prepared.iter().filter(|prepared| !known.open.contains_key(&prepared.id));
        let others: BTreeSet<TransactionId> = others.map(|prepared| prepared.id).collect();
        let gids: Vec<Gid> = others.iter().map(|id| id.gid).collect::<BTreeSet<_>>().into_iter().collect();
        for gids in gids.chunks(LOOK_UP_MAX) {
            match self.log.look_up(gids).await {
                Ok(results) => known.records.extend(gids.iter().copied().zip(results)),
                Err(error) => known.silence = Some(chain(&error)),
            }
        }
        let without_record =
            |id: &&TransactionId| matches!(known.records.get(&id.gid), Some(LookUpResult::NoRecord));
        let owners: BTreeSet<Incarnation> =
            others.iter().filter(without_record).map(|id| id.incarnation).collect();
        known.owners = self.owners(owners).await;
        Ok(known)
    }

    /// How these owners stand. Our own knowledge of who lives is up to a heartbeat old, so that whoever
    /// is not among them is looked for in the log.
    async fn owners(&self, owners: BTreeSet<Incarnation>) -> BTreeMap<Incarnation, Owner> {
        let mut standing = BTreeMap::new();
        for member in self.lifecycle.members() {
            standing.insert(member.incarnation, Owner::Alive { address: member.address.as_ref().to_owned() });
        }
        let unseen: Vec<Incarnation> =
            owners.into_iter().filter(|owner| !standing.contains_key(owner)).collect();
        if unseen.is_empty() {
            return standing;
        }
        let asked = async { Ok((self.log.doubted_of(&unseen).await?, self.log.status().await?)) };
        match asked.await {
            Ok((doubted, status)) => {
                for owner in unseen {
                    let seen = status.incarnations.iter().find(|seen| seen.incarnation == owner && seen.live);
                    let stands = match seen {
                        Some(seen) => Owner::Alive { address: seen.address.clone() },
                        None => Owner::Ended { doubted: doubted.contains(&owner) },
                    };
                    standing.insert(owner, stands);
                }
            }
            Err::<_, crate::decision_log::DecisionLogError>(error) => {
                let why = chain(&error);
                standing.extend(unseen.into_iter().map(|owner| (owner, Owner::Unknown { why: why.clone() })));
            }
        }
        standing
    }
}

/// What is known of transactions.
#[derive(Debug, Default)]
struct Known {
    own: Option<Incarnation>,
    open: BTreeMap<TransactionId, TransactionView>,
    records: BTreeMap<Gid, LookUpResult>,
    owners: BTreeMap<Incarnation, Owner>,
    /// Why the log did not answer.
    silence: Option<String>,
}

impl Known {
    /// One branch with what is known of it.
    fn show(&self, prepared: Prepared) -> v1::PreparedBranch {
        let owner = prepared.id.incarnation;
        let unasked = || Owner::Unknown { why: "it was not asked".to_owned() };
        let facts = match (self.open.get(&prepared.id), self.records.get(&prepared.id.gid)) {
            (Some(open), _) => Facts::Open(open),
            (None, None | Some(LookUpResult::Unknown)) => Facts::Silent(self.silence.as_deref()),
            (None, Some(LookUpResult::Forgotten)) => Facts::Forgotten,
            (None, Some(LookUpResult::Stands(record))) => {
                let owner =
                    if self.own == Some(owner) { Some(Owner::Us) } else { self.owners.get(&owner).cloned() };
                Facts::Decided(record, owner)
            }
            (None, Some(LookUpResult::NoRecord)) if self.own == Some(owner) => Facts::NoRecord(Owner::Us),
            (None, Some(LookUpResult::NoRecord)) => {
                Facts::NoRecord(self.owners.get(&owner).cloned().unwrap_or_else(unasked))
            }
        };
        let (verdict, explanation) = facts.judge(&prepared);
        v1::PreparedBranch {
            resource: prepared.resource.as_str().to_owned(),
            finding: Some(prepared.finding),
            verdict: verdict.into(),
            explanation,
        }
    }
}

impl Prepared {
    /// A finding, read. A finding was checked when it came, so that none is left out.
    fn new(resource: &ResourceName, finding: v1::BranchFinding) -> Option<Self> {
        let id = TransactionId::try_from(finding.id.clone()?).ok()?;
        let evidence = finding.evidence.clone().and_then(|evidence| Evidence::try_from(evidence).ok());
        let branch = BranchId::new(finding.branch);
        Some(Self { resource: resource.clone(), id, branch, evidence, finding })
    }
}
