//! The contract of [`Resource`]: what the coordinator's safety rests on, rule by rule.

mod operators;

use std::future::Future;
use std::time::Duration;

use pactum_core::coordinator::{Operation, RegisterAnswer};
use pactum_core::id::Cluster;
use pactum_core::outcome::{BranchOutcome, HeuristicOutcome};
use pactum_core::vote::Evidence;

use super::{Fixture, branch_context};
use crate::resource::{BranchContext, Prepared, PreparedBranch, Resource};

/// Long enough for any single rule on a slow machine.
const TIME_LEFT: Duration = Duration::from_mins(1);

/// A rule of the contract that a resource does not keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the contract is broken: {rule}: {found}")]
pub struct ContractBroken {
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// What was found instead.
    pub found: String,
}

type Checked = Result<(), String>;

/// Checks every rule, in an order in which a later one may rely on the earlier. Returns the
/// rules checked; those about operations and one-phase commit are left out where the fixture or
/// the registration says that the resource has none.
///
/// # Errors
/// The first rule that is broken.
pub async fn contract<F: Fixture>(fixture: &F) -> Result<Vec<&'static str>, ContractBroken> {
    let mut suite = Suite { checked: Vec::new() };
    let cluster =
        cluster().map_err(|found| ContractBroken { rule: "a cluster's name can be drawn", found })?;
    let c = &Case { fixture, cluster };

    suite.run("its identity is the same for every process", c.identity()).await?;
    suite.run("a prepared branch is invisible until committed, then visible once", c.commit()).await?;
    suite.run("a repeated commit answers committed and does nothing", c.commit_again()).await?;
    suite.run("a prepared branch that is aborted leaves nothing", c.abort()).await?;
    suite.run("an open branch that is aborted leaves nothing and cannot be prepared", c.abort_open()).await?;
    suite.run("aborting a branch that never was answers aborted", c.abort_unknown()).await?;
    suite.run("preparing a branch that never was votes no", c.prepare_unknown()).await?;
    suite.run("a restarted process finds what is prepared, and commits it", c.commit_after_restart()).await?;
    suite.run("a restarted process aborts what is prepared", c.abort_after_restart()).await?;
    suite.run("a restart ends open branches without effect", c.restart_while_open()).await?;
    suite.run("another cluster's branches are not listed", c.other_cluster()).await?;
    suite.run("commit of an aborted branch is a heuristic outcome", c.commit_after_abort()).await?;
    suite.run("abort of a committed branch is a heuristic outcome", c.abort_after_commit()).await?;
    suite.run("commit of a lost execution leaves another one alone", c.lost_execution()).await?;
    suite
        .run("a second execution is rolled back once the decided one committed", c.second_execution())
        .await?;
    suite.run("what is prepared is shown as prepared, and listed", c.examine_prepared()).await?;
    suite.run("what is gone is never shown as it did not end", c.examine_gone()).await?;
    suite.run("a question without a branch of ours lists none", c.examine_other_cluster()).await?;
    suite.run("overruled either way, a branch ends so or not at all", c.overrule()).await?;
    suite.run("overruling another execution does nothing", c.overrule_other_execution()).await?;
    if fixture.operation(0).is_some() {
        suite.run("an operation runs at prepare and commits like any branch", c.operation()).await?;
        suite.run("an unknown operation votes no", c.operation_unknown()).await?;
    }
    if let Some(refused) = fixture.refused_operation() {
        suite.run("a refused operation votes no and leaves nothing", c.operation_refused(&refused)).await?;
    }
    let registration = fixture.restart().await.check().await;
    if registration.is_ok_and(|registration| registration.marker) {
        suite.run("one-phase commit is durable, and its register says so", c.one_phase()).await?;
        suite
            .run("a register that was closed first keeps one-phase commit out", c.one_phase_closed())
            .await?;
        suite.run("a register answers the same to every asker", c.one_phase_asked_twice()).await?;
    }
    Ok(suite.checked)
}

struct Suite {
    checked: Vec<&'static str>,
}

impl Suite {
    async fn run(
        &mut self,
        rule: &'static str,
        check: impl Future<Output = Checked>,
    ) -> Result<(), ContractBroken> {
        match check.await {
            Ok(()) => {
                self.checked.push(rule);
                Ok(())
            }
            Err(found) => Err(ContractBroken { rule, found }),
        }
    }
}

/// A cluster of its own for this run: stores may be shared.
fn cluster() -> Result<Cluster, String> {
    Cluster::new(&format!("contract-{:08x}", rand::random::<u32>())).map_err(|e| e.to_string())
}

fn require(holds: bool, found: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(found()) }
}

struct Case<'f, F> {
    fixture: &'f F,
    cluster: Cluster,
}

/// A branch that has been prepared.
struct Done {
    branch: BranchContext,
    evidence: Evidence,
    key: u64,
}

impl<F: Fixture> Case<'_, F> {
    fn branch(&self) -> BranchContext {
        branch_context(&self.cluster, TIME_LEFT)
    }

    async fn open(&self, resource: &F::Resource) -> Result<(BranchContext, u64), String> {
        let (branch, key) = (self.branch(), rand::random());
        self.fixture.work(resource, &branch, key).await?;
        Ok((branch, key))
    }

    async fn prepared(&self, resource: &F::Resource) -> Result<Done, String> {
        let (branch, key) = self.open(resource).await?;
        let evidence = yes(resource.prepare(&branch, None).await)?;
        Ok(Done { branch, evidence, key })
    }

    async fn visible(&self, key: u64, times: u64) -> Checked {
        let count = self.fixture.count(key).await?;
        require(count == times, || format!("the change is visible {count} times, not {times}"))
    }

    async fn found(
        &self,
        resource: &F::Resource,
        branch: &BranchContext,
    ) -> Result<Option<PreparedBranch>, String> {
        let all = resource.recover(&self.cluster).await.map_err(text)?;
        Ok(all.into_iter().find(|found| found.name == branch.name))
    }

    async fn identity(&self) -> Checked {
        let first = self.fixture.restart().await.check().await.map_err(text)?;
        let second = self.fixture.restart().await.check().await.map_err(text)?;
        // Settings may differ from one look to the next.
        let same = (&first.identity, first.marker) == (&second.identity, second.marker);
        require(same, || format!("{first:?}, then {second:?}"))?;
        require((1..=256).contains(&first.identity.len()), || {
            format!("the identity has {} bytes", first.identity.len())
        })
    }

    async fn commit(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let done = self.prepared(&resource).await?;
        self.visible(done.key, 0).await?;
        let length = done.evidence.execution.len().max(done.evidence.anchor.len());
        require(length <= Evidence::BYTES_MAX && !done.evidence.execution.is_empty(), || {
            format!("the evidence {:?} is empty or too long", done.evidence)
        })?;
        let evidence = &done.evidence;
        let outcome = resource.commit(&done.branch, evidence, Some(evidence)).await;
        expect(outcome, &BranchOutcome::Committed)?;
        self.visible(done.key, 1).await
    }

    async fn commit_again(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let done = self.prepared(&resource).await?;
        for prepared in [Some(&done.evidence), Some(&done.evidence), None] {
            let outcome = resource.commit(&done.branch, &done.evidence, prepared).await;
            expect(outcome, &BranchOutcome::Committed)?;
        }
        let restarted = self.fixture.restart().await;
        let outcome = restarted.commit(&done.branch, &done.evidence, None).await;
        expect(outcome, &BranchOutcome::Committed)?;
        self.visible(done.key, 1).await
    }

    async fn abort(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let done = self.prepared(&resource).await?;
        for prepared in [Some(&done.evidence), Some(&done.evidence), None] {
            let outcome = resource.abort(&done.branch, prepared).await;
            expect(outcome, &BranchOutcome::Aborted)?;
        }
        self.visible(done.key, 0).await?;
        let found = self.found(&resource, &done.branch).await?;
        require(found.is_none(), || format!("{found:?} is still prepared"))
    }

    async fn abort_open(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let (branch, key) = self.open(&resource).await?;
        expect(resource.abort(&branch, None).await, &BranchOutcome::Aborted)?;
        let vote = resource.prepare(&branch, None).await;
        require(vote.is_err(), || format!("then it voted {vote:?}"))?;
        self.visible(key, 0).await
    }

    async fn abort_unknown(&self) -> Checked {
        let resource = self.fixture.restart().await;
        expect(resource.abort(&self.branch(), None).await, &BranchOutcome::Aborted)
    }

    async fn prepare_unknown(&self) -> Checked {
        let vote = self.fixture.restart().await.prepare(&self.branch(), None).await;
        require(vote.is_err(), || format!("it voted {vote:?}"))
    }

    async fn commit_after_restart(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let done = self.prepared(&resource).await?;
        drop(resource);
        let restarted = self.fixture.restart().await;
        let found = self.found(&restarted, &done.branch).await?;
        let evidence = &done.evidence;
        require(found.as_ref().is_some_and(|found| found.evidence.same_execution(evidence)), || {
            format!("{evidence:?} was prepared, and the scan found {found:?}")
        })?;
        self.visible(done.key, 0).await?;
        let outcome = restarted.commit(&done.branch, evidence, None).await;
        expect(outcome, &BranchOutcome::Committed)?;
        self.visible(done.key, 1).await?;
        let found = self.found(&restarted, &done.branch).await?;
        require(found.is_none(), || format!("{found:?} is still prepared"))
    }

    async fn abort_after_restart(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let done = self.prepared(&resource).await?;
        drop(resource);
        let restarted = self.fixture.restart().await;
        let outcome = restarted.abort(&done.branch, None).await;
        expect(outcome, &BranchOutcome::Aborted)?;
        self.visible(done.key, 0).await?;
        let found = self.found(&restarted, &done.branch).await?;
        require(found.is_none(), || format!("{found:?} is still prepared"))
    }

    async fn restart_while_open(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let (branch, key) = self.open(&resource).await?;
        drop(resource);
        let restarted = self.fixture.restart().await;
        let found = self.found(&restarted, &branch).await?;
        require(found.is_none(), || format!("{found:?} was never prepared"))?;
        let vote = restarted.prepare(&branch, None).await;
        require(vote.is_err(), || format!("it voted {vote:?}"))?;
        expect(restarted.abort(&branch, None).await, &BranchOutcome::Aborted)?;
        self.visible(key, 0).await
    }

    async fn other_cluster(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let done = self.prepared(&resource).await?;
        let listed = resource.recover(&cluster()?).await.map_err(text)?;
        require(listed.is_empty(), || format!("{listed:?} was listed"))?;
        let outcome = resource.abort(&done.branch, Some(&done.evidence)).await;
        expect(outcome, &BranchOutcome::Aborted)
    }

    async fn commit_after_abort(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let done = self.prepared(&resource).await?;
        let evidence = &done.evidence;
        expect(resource.abort(&done.branch, Some(evidence)).await, &BranchOutcome::Aborted)?;
        for prepared in [Some(evidence), None] {
            let outcome = resource.commit(&done.branch, evidence, prepared).await;
            require(outcome.as_ref().is_ok_and(is_lost_work), || format!("it answered {outcome:?}"))?;
        }
        self.visible(done.key, 0).await
    }

    async fn abort_after_commit(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let done = self.prepared(&resource).await?;
        let evidence = &done.evidence;
        let outcome = resource.commit(&done.branch, evidence, Some(evidence)).await;
        expect(outcome, &BranchOutcome::Committed)?;
        expect(
            resource.abort(&done.branch, Some(evidence)).await,
            &BranchOutcome::Heuristic(HeuristicOutcome::Committed),
        )
    }

    /// Prepares a second execution under the name of `first`.
    async fn again(&self, resource: &F::Resource, first: &Done) -> Result<Done, String> {
        let key = rand::random();
        self.fixture.work(resource, &first.branch, key).await?;
        let evidence = yes(resource.prepare(&first.branch, None).await)?;
        require(!evidence.same_execution(&first.evidence), || {
            format!("two executions have the evidence {evidence:?}")
        })?;
        Ok(Done { branch: first.branch.clone(), evidence, key })
    }

    async fn lost_execution(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let first = self.prepared(&resource).await?;
        let outcome = resource.abort(&first.branch, Some(&first.evidence)).await;
        expect(outcome, &BranchOutcome::Aborted)?;
        let second = self.again(&resource, &first).await?;
        for prepared in [Some(&second.evidence), None] {
            let outcome = resource.commit(&first.branch, &first.evidence, prepared).await;
            require(outcome.is_err() || outcome.as_ref().is_ok_and(is_lost_work), || {
                format!("it answered {outcome:?}")
            })?;
            self.visible(second.key, 0).await?;
        }
        let outcome = resource.abort(&second.branch, Some(&second.evidence)).await;
        expect(outcome, &BranchOutcome::Aborted)
    }

    async fn second_execution(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let first = self.prepared(&resource).await?;
        let decided = &first.evidence;
        let outcome = resource.commit(&first.branch, decided, Some(decided)).await;
        expect(outcome, &BranchOutcome::Committed)?;
        let second = self.again(&resource, &first).await?;
        let outcome = resource.commit(&first.branch, decided, Some(&second.evidence)).await;
        expect(outcome, &BranchOutcome::Committed)?;
        let found = self.found(&resource, &first.branch).await?;
        require(found.is_none(), || format!("{found:?} is still prepared"))?;
        self.visible(second.key, 0).await?;
        self.visible(first.key, 1).await
    }

    async fn operation(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let (branch, key) = (self.branch(), rand::random());
        let operation = self.fixture.operation(key);
        let evidence = yes(resource.prepare(&branch, operation.as_ref()).await)?;
        self.visible(key, 0).await?;
        let outcome = resource.commit(&branch, &evidence, Some(&evidence)).await;
        expect(outcome, &BranchOutcome::Committed)?;
        self.visible(key, 1).await
    }

    async fn operation_unknown(&self) -> Checked {
        let unknown = Operation { name: "no-such-operation".into(), payload: Vec::new().into() };
        let resource = self.fixture.restart().await;
        let vote = resource.prepare(&self.branch(), Some(&unknown)).await;
        require(vote.is_err(), || format!("it voted {vote:?}"))
    }

    async fn operation_refused(&self, refused: &Operation) -> Checked {
        let resource = self.fixture.restart().await;
        let branch = self.branch();
        let vote = resource.prepare(&branch, Some(refused)).await;
        require(vote.is_err(), || format!("it voted {vote:?}"))?;
        let found = self.found(&resource, &branch).await?;
        require(found.is_none(), || format!("{found:?} is prepared"))
    }

    async fn one_phase(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let (branch, key) = self.open(&resource).await?;
        let answer = resource.commit_one_phase(&branch, None).await;
        require(answer == RegisterAnswer::Committed, || format!("it answered {answer:?}"))?;
        self.visible(key, 1).await?;
        let again = resource.commit_one_phase(&branch, None).await;
        require(again == RegisterAnswer::Committed, || format!("repeated, it answered {again:?}"))?;
        let asked = self.fixture.restart().await.settle(&branch).await;
        require(asked == RegisterAnswer::Committed, || format!("asked, it answered {asked:?}"))?;
        self.visible(key, 1).await
    }

    async fn one_phase_closed(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let (branch, key) = self.open(&resource).await?;
        let asked = self.fixture.restart().await.settle(&branch).await;
        require(matches!(asked, RegisterAnswer::Aborted(_)), || format!("asked, it answered {asked:?}"))?;
        let answer = resource.commit_one_phase(&branch, None).await;
        require(matches!(answer, RegisterAnswer::Aborted(_)), || format!("it answered {answer:?}"))?;
        self.visible(key, 0).await
    }

    async fn one_phase_asked_twice(&self) -> Checked {
        let branch = self.branch();
        for _ in 0..2 {
            let answer = self.fixture.restart().await.settle(&branch).await;
            require(matches!(answer, RegisterAnswer::Aborted(_)), || format!("it answered {answer:?}"))?;
        }
        Ok(())
    }
}

/// Whether an outcome admits that the decided work is not there.
fn is_lost_work(outcome: &BranchOutcome) -> bool {
    matches!(outcome, BranchOutcome::Heuristic(HeuristicOutcome::Aborted | HeuristicOutcome::Hazard))
}

fn yes<E: std::fmt::Debug>(vote: Result<Prepared, E>) -> Result<Evidence, String> {
    match vote {
        Ok(Prepared::Yes(evidence)) => Ok(evidence),
        other => Err(format!("it voted {other:?}, not yes")),
    }
}

fn expect<E: std::fmt::Debug>(outcome: Result<BranchOutcome, E>, expected: &BranchOutcome) -> Checked {
    match outcome {
        Ok(outcome) if outcome == *expected => Ok(()),
        other => Err(format!("it answered {other:?}, not {expected:?}")),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
