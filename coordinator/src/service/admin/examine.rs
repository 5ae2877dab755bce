//! One transaction with what its participants' databases say of its branches.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use pactum_core::id::{Branch, BranchId, Incarnation, ResourceName};
use pactum_proto::v1;

use super::Admin;
use super::find::Found;
use super::show::{self, Surroundings};
use super::why::Waits;
use crate::examine::Silent;
use crate::journal::chain;
use crate::service::wire;

impl Admin {
    /// What is shown of transactions, in their order.
    pub(super) async fn shown(&self, found: &[Found]) -> Vec<v1::Transaction> {
        let around = self.surroundings(found).await;
        found.iter().map(|found| show::transaction(found, &around)).collect()
    }

    /// What is shown of one transaction.
    pub(super) async fn shown_one(&self, found: &Found) -> v1::Transaction {
        let around = self.surroundings(std::slice::from_ref(found)).await;
        show::transaction(found, &around)
    }

    /// What is shown of one transaction, with what its participants' databases say: all resources are asked
    /// at once. A branch of which nobody answered is shown so.
    pub(super) async fn examined(&self, found: &Found) -> v1::Transaction {
        let around = self.surroundings(std::slice::from_ref(found)).await;
        let mut shown = show::transaction(found, &around);
        self.examine(found, &mut shown.branches).await;
        shown.waits_for = Waits::of(found, &shown.branches, &around).to_string();
        shown
    }

    /// What is to be known around these transactions before they are shown.
    async fn surroundings(&self, found: &[Found]) -> Surroundings {
        let own = self.lifecycle.own();
        let members = self.lifecycle.members();
        let lives = |owner: &Incarnation| members.iter().any(|member| member.incarnation == *owner);
        let owners: BTreeSet<Incarnation> = found
            .iter()
            .filter(|found| found.open.is_none() && show::state(found) == v1::TransactionState::Undecided)
            .map(|found| found.id().incarnation)
            .filter(|owner| Some(*owner) != own && !lives(owner))
            .collect();
        let owners: Vec<Incarnation> = owners.into_iter().collect();
        let doubted = match owners.as_slice() {
            [] => Some(BTreeSet::new()),
            owners => match self.log.doubted_of(owners).await {
                Ok(doubted) => Some(doubted),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the log did not say which owners are in doubt");
                    None
                }
            },
        };
        let (log_problem, registry) = (self.lifecycle.log_problem(), self.registry.clone());
        Surroundings { own, members, doubted, log_problem, registry }
    }

    /// Asks the participants of every branch, and fills in what they say.
    pub(super) async fn examine(&self, found: &Found, branches: &mut [v1::BranchStatus]) {
        let id = found.id();
        let mut questions: BTreeMap<ResourceName, Vec<v1::BranchQuestion>> = BTreeMap::new();
        for shown in branches.iter() {
            // Made from our own names just now.
            if let Some(Ok(branch)) = shown.branch.clone().map(Branch::try_from) {
                let evidence = shown.evidence.clone().and_then(|evidence| evidence.try_into().ok());
                let resource = branch.resource.clone();
                questions.entry(resource).or_default().push(wire::question(id, branch, evidence));
            }
        }
        let asked = questions
            .into_iter()
            .map(|(resource, questions)| async move { self.examiner.each(&resource, questions).await });
        let mut answers: BTreeMap<BranchId, Result<v1::BranchFinding, Silent>> = join_all(asked)
            .await
            .into_iter()
            .flatten()
            .map(|((_, branch), answer)| (branch, answer))
            .collect();
        for shown in branches {
            let number = shown.branch.as_ref().map(|branch| BranchId::new(branch.id));
            let answer = number.and_then(|number| answers.remove(&number));
            shown.report = Some(report(answer.unwrap_or(Err(Silent::NoAnswer))));
        }
    }
}

/// An answer, as it is shown. Who found nothing out has answered; that nobody did is never "gone".
fn report(answer: Result<v1::BranchFinding, Silent>) -> v1::BranchReport {
    match answer {
        Ok(finding) => v1::BranchReport { answered: true, problem: String::new(), finding: Some(finding) },
        Err(why) => v1::BranchReport {
            answered: matches!(why, Silent::Refused(_)),
            problem: why.to_string(),
            finding: None,
        },
    }
}
