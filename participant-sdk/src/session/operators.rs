//! What operators ask of a participant: what its resources hold, and to end a branch by hand.
//!
//! Each runs in a task of its own beside the hooks, and the driver hears nothing but its answer, so
//! that a database that hangs here delays no branch and no stream. How many run at once for one
//! resource is bounded, and so is how many wait; more are refused, with words. The answer goes
//! to the stream that asked; if that is gone, nobody waits for it any more.
//!
//! Nothing that is answered here is a vote or an acknowledgement (law 8). The core is not told of it: it
//! finds out by itself, by evidence, when the branch's decision comes (D8).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pactum_core::id::{Cluster, PreparedName, ResourceName};
use pactum_core::participant::{BranchKey, SessionId};
use pactum_proto::v1;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::hooks::{DynResource, caught};
use super::wire::operators::{self as wire, About, Examine, Overrule};
use super::{Input, Shared};
use crate::resource::{
    BranchContext, BranchFinding, BranchPresence, BranchQuestion, HookError, PreparedFindings,
};

/// Questions that one resource is asked at once. They are a person's, and each may read a whole table of
/// locks: more would only make the database slower.
const AT_ONCE_MAX: usize = 4;

/// Questions that wait for their turn at one resource. More come from a program in a loop.
const WAITING_MAX: usize = 64;

/// How long a question may take, its turn included. An operator waits at the other end.
const EXAMINE_TIME_MAX: Duration = Duration::from_secs(5);

/// How long ending a branch may take: as long as a resource may try to find out what became of it.
/// After that it is told as unknown.
const OVERRULE_TIME_MAX: Duration = Duration::from_mins(2);

/// Runs what operators ask.
pub(super) struct Operators {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    turns: BTreeMap<ResourceName, Turns>,
}

/// Whose turn it is at one resource.
#[derive(Clone)]
struct Turns {
    resource: Arc<dyn DynResource>,
    asking: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Apart from the questions, so that none of those keeps an operator from acting.
    ending: Arc<Semaphore>,
}

impl Operators {
    pub(super) fn new(shared: Arc<Shared>, tasks: TaskTracker, resources: &[Arc<dyn DynResource>]) -> Self {
        let turns = resources.iter().map(|resource| {
            let turns = Turns {
                resource: Arc::clone(resource),
                asking: Arc::new(Semaphore::new(AT_ONCE_MAX)),
                waiting: Arc::new(Semaphore::new(WAITING_MAX)),
                ending: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            };
            (resource.name().clone(), turns)
        });
        Self { shared, tasks, turns: turns.collect() }
    }

    fn turns(&self, resource: &str) -> Result<Turns, String> {
        let turns = self.turns.iter().find(|(name, _)| name.as_str() == resource).map(|(_, turns)| turns);
        turns.cloned().ok_or_else(|| String::from("the resource is not one of this participant's"))
    }

    /// Answers what is held. `is_open` knows the branches whose local work is open here.
    pub(super) fn examine(
        &self,
        to: SessionId,
        examine: Examine,
        is_open: impl Fn(&BranchKey) -> bool,
    ) -> Option<v1::ParticipantMessage> {
        let Examine { call_id, resource, about } = examine;
        let refused = |problem: String| Some(wire::examined(call_id, &resource, Err(problem)));
        let turns = match self.turns(&resource) {
            Ok(turns) => turns,
            Err(problem) => return refused(problem),
        };
        let Some(cluster) = self.shared.cluster() else {
            return refused(String::from("no coordinator has named the cluster yet"));
        };
        let Ok(place) = Arc::clone(&turns.waiting).try_acquire_owned() else {
            return refused(String::from(
                "too many questions wait for this resource already: ask again later",
            ));
        };
        let asked = match about {
            About::Prepared(limit) => Asked::Prepared(cluster, limit),
            About::These(branches) => {
                let open =
                    branches.iter().map(|(id, branch, _)| is_open(&BranchKey { id: *id, branch: branch.id }));
                Asked::These {
                    open: open.collect(),
                    questions: branches.iter().map(|branch| wire::question(&cluster, branch)).collect(),
                }
            }
        };
        let inputs = self.shared.inputs.clone();
        self.tasks.spawn(async move {
            let work = async {
                // Never closed.
                let turn = turns.asking.acquire().await;
                drop(place);
                let found = look(&*turns.resource, asked).await;
                drop(turn);
                found
            };
            let found = timeout(EXAMINE_TIME_MAX, work)
                .await
                .unwrap_or_else(|_elapsed| Err(String::from("the resource did not answer in time")));
            if let Err(problem) = &found {
                debug!(resource, problem, "an operator's question could not be answered");
            }
            let message = wire::examined(call_id, &resource, found);
            // Without a driver nobody is left to hear it.
            inputs.send(Input::Answered { to, message }).await.ok();
        });
        None
    }

    /// Ends a branch by hand.
    pub(super) fn overrule(&self, to: SessionId, overrule: Overrule) -> Option<v1::ParticipantMessage> {
        let Overrule { call_id, id, branch, evidence, commit } = overrule;
        let refused = |problem: &str| Some(wire::overrule_answer(call_id, BranchPresence::Unknown, problem));
        let turns = match self.turns(branch.resource.as_str()) {
            Ok(turns) => turns,
            Err(problem) => return refused(&format!("nothing was done: {problem}")),
        };
        let Some(cluster) = self.shared.cluster() else {
            return refused("nothing was done: no coordinator has named the cluster yet");
        };
        let Ok(turn) = Arc::clone(&turns.ending).try_acquire_owned() else {
            return refused("nothing was done: other branches are being ended by hand: try again");
        };
        let name = PreparedName { cluster, id, branch: branch.id };
        warn!(branch = %name, %branch.resource, commit, "an operator ends the branch, whatever is decided");
        let inputs = self.shared.inputs.clone();
        self.tasks.spawn(async move {
            let context = BranchContext { name, deadline: Instant::now() + OVERRULE_TIME_MAX };
            let work = caught(turns.resource.overrule(&context, &evidence, commit));
            let (stands, problem) = match timeout(OVERRULE_TIME_MAX, work).await {
                Ok(Ok(Ok(stands))) => (stands, not_as_asked(stands, commit).to_owned()),
                Ok(Ok(Err(error))) => {
                    // Nothing was done: then this is how it stands.
                    let question = BranchQuestion::new(context.name.clone(), Some(evidence));
                    (stands(&*turns.resource, question).await, error.to_string())
                }
                Ok(Err(panic)) => (
                    BranchPresence::Unknown,
                    format!("the overrule hook panicked, so that nothing is known: {panic}"),
                ),
                Err(_elapsed) => {
                    (BranchPresence::Unknown, not_as_asked(BranchPresence::Unknown, commit).to_owned())
                }
            };
            drop(turn);
            warn!(branch = %context.name, ?stands, problem, "what came of the operator's ending");
            let message = wire::overrule_answer(call_id, stands, &problem);
            // Without a driver nobody is left to hear it.
            inputs.send(Input::Answered { to, message }).await.ok();
        });
        None
    }
}

/// What is asked of a resource.
enum Asked {
    These { questions: Vec<BranchQuestion>, open: Vec<bool> },
    Prepared(Cluster, usize),
}

async fn look(resource: &dyn DynResource, asked: Asked) -> Result<PreparedFindings, String> {
    let found = match asked {
        Asked::Prepared(cluster, limit) => caught(resource.examine_all(&cluster, limit)).await.map(|found| {
            found.map(|mut found| {
                found.findings.retain(|finding| finding.name.cluster == cluster);
                found.more |= found.findings.len() > limit;
                found.findings.truncate(limit);
                found
            })
        }),
        Asked::These { questions, open } => caught(resource.examine(&questions))
            .await
            .map(|found| found.map(|found| answers(questions, &open, found))),
    };
    match found {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(HookError::to_string(&error)),
        Err(panic) => Err(format!("the examine hook panicked: {panic}")),
    }
}

/// One finding for each question: what was not answered is unknown, or open here.
fn answers(questions: Vec<BranchQuestion>, open: &[bool], mut found: Vec<BranchFinding>) -> PreparedFindings {
    let answer = |(question, open): (BranchQuestion, &bool)| {
        let place = found.iter().position(|finding| finding.name == question.name);
        let mut finding = place.map_or_else(
            || {
                BranchFinding::new(question.name, BranchPresence::Unknown)
                    .with_note("the resource said nothing of it")
            },
            |place| found.swap_remove(place),
        );
        if *open && finding.presence == BranchPresence::Unknown {
            finding.presence = BranchPresence::Open;
        }
        finding
    };
    let findings: Vec<BranchFinding> = questions.into_iter().zip(open).map(answer).collect();
    PreparedFindings::first(findings.len(), findings)
}

/// How one branch stands.
async fn stands(resource: &dyn DynResource, question: BranchQuestion) -> BranchPresence {
    let asked = Asked::These { questions: vec![question], open: vec![false] };
    match timeout(EXAMINE_TIME_MAX, look(resource, asked)).await {
        Ok(Ok(found)) => found.findings.first().map_or(BranchPresence::Unknown, |finding| finding.presence),
        Ok(Err(_)) | Err(_) => BranchPresence::Unknown,
    }
}

/// Why a branch that stands so was not ended as asked; empty if it was.
fn not_as_asked(stands: BranchPresence, commit: bool) -> &'static str {
    match (stands, commit) {
        (BranchPresence::Committed, true) | (BranchPresence::Aborted, false) => "",
        (BranchPresence::Committed, false) => "it had been committed already",
        (BranchPresence::Aborted, true) => "it had been rolled back already, or never was prepared",
        (BranchPresence::Open, _) => "nothing was done: it is open, and not prepared",
        (BranchPresence::Prepared, _) => "it is still prepared",
        (BranchPresence::Unknown, _) => "it is not known whether it was done: look at the branch again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_resource_leaves_out_is_unknown_or_open_and_never_gone() {
        use BranchPresence::{Aborted, Committed, Open, Unknown};
        let name = |branch: u64| -> PreparedName {
            let ids = "00000000000000000000000000000001:00000000000000000000000000000002";
            format!("pactum:c:{ids}:{branch:016x}").parse().unwrap()
        };
        let questions = [1, 2, 3, 4].map(|branch| BranchQuestion::new(name(branch), None));
        let found = vec![
            BranchFinding::new(name(3), Committed),
            BranchFinding::new(name(9), Aborted),
            BranchFinding::new(name(2), Unknown),
        ];
        let answers = answers(questions.into(), &[false, true, true, true], found);
        let presences: Vec<_> = answers.findings.iter().map(|finding| finding.presence).collect();
        assert_eq!(presences, [Unknown, Open, Committed, Open]);
        assert!(answers.findings.iter().zip(1..).all(|(finding, branch)| finding.name == name(branch)));
        assert!(!answers.more);
    }
}
