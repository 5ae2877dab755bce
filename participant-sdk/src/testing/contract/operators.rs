//! The rules about what operators ask: a resource shows what is so or says that it does not know, and
//! ends a branch as told or not at all.

use pactum_core::outcome::{BranchOutcome, HeuristicOutcome};
use pactum_core::vote::Evidence;

use super::{Case, Checked, cluster, expect, is_lost_work, require, text};
use crate::resource::{BranchContext, BranchFinding, BranchPresence, BranchQuestion, Resource as _};
use crate::testing::Fixture;

impl<F: Fixture> Case<'_, F> {
    /// What the resource shows of one branch.
    async fn shown(
        &self,
        resource: &F::Resource,
        branch: &BranchContext,
        evidence: Option<&Evidence>,
    ) -> Result<BranchFinding, String> {
        let question = BranchQuestion::new(branch.name.clone(), evidence.cloned());
        let mut shown = resource.examine(&[question]).await.map_err(text)?;
        match (shown.pop(), shown.len()) {
            (Some(shown), 0) if shown.name == branch.name => Ok(shown),
            (shown, more) => Err(format!("one question was answered with {shown:?} and {more} more")),
        }
    }

    pub(super) async fn examine_prepared(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let done = self.prepared(&resource).await?;
        for asked in [self.fixture.restart().await, resource] {
            for evidence in [Some(&done.evidence), None] {
                let shown = self.shown(&asked, &done.branch, evidence).await?;
                let found = shown.evidence.as_ref();
                let same = found.is_some_and(|found| found.same_execution(&done.evidence));
                require(shown.presence == BranchPresence::Prepared && same, || {
                    format!("it showed {shown:?}")
                })?;
            }
            let listed = asked.examine_all(&self.cluster, 1000).await.map_err(text)?;
            let is_listed = listed
                .findings
                .iter()
                .any(|found| found.name == done.branch.name && found.presence == BranchPresence::Prepared);
            require(is_listed && !listed.more, || format!("it listed {listed:?}"))?;
        }
        expect(
            self.fixture.restart().await.abort(&done.branch, Some(&done.evidence)).await,
            &BranchOutcome::Aborted,
        )
    }

    pub(super) async fn examine_gone(&self) -> Checked {
        let resource = self.fixture.restart().await;
        for (commit, presence) in [(true, BranchPresence::Committed), (false, BranchPresence::Aborted)] {
            let done = self.prepared(&resource).await?;
            let evidence = &done.evidence;
            let outcome = if commit {
                resource.commit(&done.branch, evidence, Some(evidence)).await
            } else {
                resource.abort(&done.branch, Some(evidence)).await
            };
            let plain = if commit { BranchOutcome::Committed } else { BranchOutcome::Aborted };
            expect(outcome, &plain)?;
            for evidence in [Some(evidence), None] {
                let shown = self.shown(&resource, &done.branch, evidence).await?;
                // Not to know is honest.
                let honest = shown.presence == presence || shown.presence == BranchPresence::Unknown;
                require(honest && shown.evidence.is_none(), || {
                    format!("of a branch that is {presence:?} it showed {shown:?}")
                })?;
            }
        }
        let (open, _) = self.open(&resource).await?;
        let shown = self.shown(&resource, &open, None).await?;
        let honest = matches!(shown.presence, BranchPresence::Open | BranchPresence::Unknown);
        require(honest, || format!("of an open branch it showed {shown:?}"))?;
        expect(resource.abort(&open, None).await, &BranchOutcome::Aborted)
    }

    pub(super) async fn examine_other_cluster(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let done = self.prepared(&resource).await?;
        let listed = resource.examine_all(&cluster()?, 1000).await.map_err(text)?;
        require(listed.findings.is_empty() && !listed.more, || format!("{listed:?} was listed"))?;
        let none = resource.examine(&[]).await.map_err(text)?;
        require(none.is_empty(), || format!("no question was answered with {none:?}"))?;
        let limited = resource.examine_all(&self.cluster, 0).await.map_err(text)?;
        require(limited.findings.is_empty() && limited.more, || format!("{limited:?} was listed"))?;
        expect(resource.abort(&done.branch, Some(&done.evidence)).await, &BranchOutcome::Aborted)
    }

    pub(super) async fn overrule(&self) -> Checked {
        for commit in [true, false] {
            let resource = self.fixture.restart().await;
            let done = self.prepared(&resource).await?;
            let evidence = &done.evidence;
            let ended = if commit { BranchPresence::Committed } else { BranchPresence::Aborted };
            let overruled = resource.overrule(&done.branch, evidence, commit).await;
            let found = self.found(&resource, &done.branch).await?;
            match overruled {
                // Refused: then nothing has happened.
                Err(_) => {
                    require(found.is_some(), || String::from("it refused, and the branch is gone"))?;
                    self.visible(done.key, 0).await?;
                    expect(resource.abort(&done.branch, Some(evidence)).await, &BranchOutcome::Aborted)?;
                }
                Ok(stands) => {
                    require(stands == ended && found.is_none(), || {
                        format!("it answered {stands:?}, and {found:?} is prepared")
                    })?;
                    self.visible(done.key, u64::from(commit)).await?;
                    let again = resource.overrule(&done.branch, evidence, !commit).await;
                    require(again.is_err() || again == Ok(ended), || {
                        format!("overruled again the other way, it answered {again:?}")
                    })?;
                    // The decision that comes later finds out, whatever it is.
                    let outcome = resource.commit(&done.branch, evidence, Some(evidence)).await;
                    if commit {
                        expect(outcome, &BranchOutcome::Committed)?;
                        let heuristic = BranchOutcome::Heuristic(HeuristicOutcome::Committed);
                        expect(resource.abort(&done.branch, Some(evidence)).await, &heuristic)?;
                    } else {
                        require(outcome.as_ref().is_ok_and(is_lost_work), || {
                            format!("it answered {outcome:?}")
                        })?;
                        expect(resource.abort(&done.branch, Some(evidence)).await, &BranchOutcome::Aborted)?;
                    }
                    self.visible(done.key, u64::from(commit)).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn overrule_other_execution(&self) -> Checked {
        let resource = self.fixture.restart().await;
        let first = self.prepared(&resource).await?;
        let outcome = resource.abort(&first.branch, Some(&first.evidence)).await;
        expect(outcome, &BranchOutcome::Aborted)?;
        let second = self.again(&resource, &first).await?;
        for commit in [true, false] {
            let overruled = resource.overrule(&first.branch, &first.evidence, commit).await;
            require(overruled != Ok(BranchPresence::Committed), || {
                String::from("it answered committed for an execution that was aborted")
            })?;
            let found = self.found(&resource, &first.branch).await?;
            let same = found.as_ref().is_some_and(|found| found.evidence.same_execution(&second.evidence));
            require(same, || format!("{:?} was prepared, and now {found:?} is", second.evidence))?;
        }
        self.visible(second.key, 0).await?;
        let outcome = resource.abort(&second.branch, Some(&second.evidence)).await;
        expect(outcome, &BranchOutcome::Aborted)
    }
}
