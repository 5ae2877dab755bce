//! A participant with a database of its own, in memory: it enlists when told, votes, finishes, says what
//! it holds, and lets people overrule, unless it is told not to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use pactum_proto::v1;
use pactum_proto::v1::BranchPresence as Presence;
use pactum_proto::v1::coordinator_message::Message as Down;
use pactum_proto::v1::participant_message::Message as Up;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::{Node, Participant, evidence, soon};

/// What it does by itself.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a habit of its own")]
pub struct Habits {
    /// Votes commit.
    pub votes: bool,
    /// Carries decisions out; if not, it says that it could not.
    pub finishes: bool,
    /// Hears decisions at all.
    pub hears: bool,
    /// Answers questions of operators.
    pub answers: bool,
    /// What it does when it is told to end a branch by hand.
    pub overrules: Overrules,
}

/// What it does when it is told to end a branch by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overrules {
    /// Does it, and says so.
    Yes,
    /// Does it, and says nothing.
    Silently,
    /// Does not, and says why.
    No,
    /// Does nothing and says nothing.
    Not,
}

/// A branch in it.
#[derive(Clone, Debug)]
struct Held {
    id: v1::TransactionId,
    presence: Presence,
    evidence: v1::Evidence,
}

#[derive(Debug)]
struct Inside {
    habits: Habits,
    branches: BTreeMap<(Vec<u8>, u64), Held>,
    overruled: usize,
    draining: bool,
}

/// A participant with a database.
pub struct Database {
    pub instance: Uuid,
    pub resource: String,
    inside: Arc<Mutex<Inside>>,
    orders: mpsc::Sender<Up>,
    enlisted: mpsc::Receiver<v1::EnlistAnswer>,
    /// Counts what it handled.
    handled: watch::Receiver<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Database {
    pub async fn attach(node: &Node, resource: &str) -> Self {
        let (instance, inside) = (Uuid::now_v7(), Arc::new(Mutex::new(Inside::new())));
        Self::serve(node, resource, instance, inside).await
    }

    /// The same process at another coordinator, with the same database.
    pub async fn also_at(&self, node: &Node) -> Self {
        Self::serve(node, &self.resource, self.instance, Arc::clone(&self.inside)).await
    }

    async fn serve(node: &Node, resource: &str, instance: Uuid, inside: Arc<Mutex<Inside>>) -> Self {
        let participant = Participant::attach(node, instance, &[(resource, false)]).await.unwrap();
        let (orders, mut ordered) = mpsc::channel(16);
        let (enlist_answers, enlisted) = mpsc::channel(16);
        let (count, handled) = watch::channel(0);
        let shared = Arc::clone(&inside);
        let mut participant = participant;
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(order) = ordered.recv() => participant.send(order).await,
                    message = participant.down.message() => {
                        // The coordinator has gone, or the test ends.
                        let Ok(Some(batch)) = message else { return };
                        for message in batch.messages.into_iter().filter_map(|message| message.message) {
                            if let Down::EnlistAnswer(answer) = message {
                                drop(enlist_answers.send(answer).await);
                                continue;
                            }
                            let answer = shared.lock().unwrap().handle(message);
                            if let Some(answer) = answer {
                                participant.send(answer).await;
                            }
                        }
                    }
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Self { instance, resource: resource.to_owned(), inside, orders, enlisted, handled, task }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    pub fn habits(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.inside().habits);
    }

    pub fn branch(&self, number: u64) -> v1::Branch {
        v1::Branch {
            id: number,
            resource: self.resource.clone(),
            instance: self.instance.as_bytes().to_vec(),
            marker: false,
        }
    }

    pub async fn enlist(&mut self, id: &v1::TransactionId, number: u64) -> v1::Branch {
        let branch = self.branch(number);
        self.put(id, number, Presence::Open);
        let (id, branch_of) = (Some(id.clone()), Some(branch.clone()));
        let enlist = v1::Enlist { call_id: number, id, branch: branch_of, time_left: None };
        self.orders.send(Up::Enlist(enlist)).await.unwrap();
        let answer = soon("an answer", self.enlisted.recv()).await.unwrap();
        assert_eq!((answer.call_id, answer.error), (number, None));
        branch
    }

    /// How a branch stands there.
    pub fn presence(&self, id: &v1::TransactionId, number: u64) -> Option<Presence> {
        self.inside().branches.get(&(id.gid.clone(), number)).map(|held| held.presence)
    }

    /// Puts a branch there as it is, behind everybody's back.
    pub fn put(&self, id: &v1::TransactionId, number: u64, presence: Presence) {
        let held = Held { id: id.clone(), presence, evidence: evidence("1") };
        self.inside().branches.insert((id.gid.clone(), number), held);
    }

    /// Puts a prepared branch there, of that execution.
    pub fn put_execution(&self, id: &v1::TransactionId, number: u64, execution: &str) {
        let held = Held { id: id.clone(), presence: Presence::Prepared, evidence: evidence(execution) };
        self.inside().branches.insert((id.gid.clone(), number), held);
    }

    /// Waits until a branch stands so.
    pub async fn stands(&mut self, id: &v1::TransactionId, number: u64, presence: Presence) {
        let (inside, key) = (Arc::clone(&self.inside), (id.gid.clone(), number));
        let mut handled = self.handled.clone();
        let is_so =
            |_: &u64| inside.lock().unwrap().branches.get(&key).is_some_and(|held| held.presence == presence);
        soon("the branch's state", handled.wait_for(is_so)).await.unwrap();
    }

    /// How often it was told to end a branch by hand.
    pub fn overruled(&self) -> usize {
        self.inside().overruled
    }
}

impl Inside {
    fn new() -> Self {
        let habits =
            Habits { votes: true, finishes: true, hears: true, answers: true, overrules: Overrules::Yes };
        Self { habits, branches: BTreeMap::new(), overruled: 0, draining: false }
    }

    /// The answer to a message, if it gives one.
    fn handle(&mut self, message: Down) -> Option<Up> {
        match message {
            Down::Prepare(prepare) => self.prepare(prepare),
            Down::Commit(v1::Commit { id, branch, .. }) => self.decided(id?, branch?, true),
            Down::Abort(v1::Abort { id, branch }) => self.decided(id?, branch?, false),
            Down::Examine(examine) => self.habits.answers.then(|| self.examine(&examine)),
            Down::Overrule(overrule) => self.overrule(overrule),
            Down::SetDraining(v1::SetDraining { draining }) => {
                self.draining = draining;
                Some(Up::Draining(v1::Draining { draining }))
            }
            Down::Welcome(_) | Down::InquiryAnswer(_) => None,
            other => panic!("{other:?} is not served"),
        }
    }

    fn prepare(&mut self, prepare: v1::Prepare) -> Option<Up> {
        if !self.habits.votes {
            return None;
        }
        let (id, branch) = (prepare.id?, prepare.branch?);
        let held = self.branches.entry((id.gid.clone(), branch.id)).or_insert(Held {
            id: id.clone(),
            presence: Presence::Open,
            evidence: evidence("1"),
        });
        held.presence = Presence::Prepared;
        let vote = Some(v1::vote::Vote::Commit(held.evidence.clone()));
        Some(Up::Vote(v1::Vote { id: Some(id), branch: Some(branch), vote }))
    }

    fn decided(&mut self, id: v1::TransactionId, branch: v1::Branch, commit: bool) -> Option<Up> {
        if !self.habits.hears {
            return None;
        }
        let held = self.branches.get_mut(&(id.gid.clone(), branch.id))?;
        if !self.habits.finishes && held.presence == Presence::Prepared {
            let message = "the disk is full".to_owned();
            return Some(Up::Failed(v1::Failed { id: Some(id), branch: Some(branch), message }));
        }
        let outcome = match (held.presence, commit) {
            (Presence::Committed, true) => v1::BranchOutcome::Committed,
            (Presence::Aborted, false) => v1::BranchOutcome::Aborted,
            (Presence::Committed, false) => v1::BranchOutcome::HeuristicCommitted,
            (Presence::Aborted, true) => v1::BranchOutcome::HeuristicAborted,
            (_, true) => {
                held.presence = Presence::Committed;
                v1::BranchOutcome::Committed
            }
            (_, false) => {
                held.presence = Presence::Aborted;
                v1::BranchOutcome::Aborted
            }
        };
        Some(Up::Finished(v1::Finished { id: Some(id), branch: Some(branch), outcome: outcome.into() }))
    }

    fn examine(&self, examine: &v1::Examine) -> Up {
        let finding = |(key, held): (&(Vec<u8>, u64), &Held)| v1::BranchFinding {
            id: Some(held.id.clone()),
            branch: key.1,
            presence: held.presence.into(),
            evidence: (held.presence == Presence::Prepared).then(|| held.evidence.clone()),
            prepared_for: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..v1::BranchFinding::default()
        };
        let findings = if examine.branches.is_empty() {
            let prepared = self.branches.iter().filter(|(_, held)| held.presence == Presence::Prepared);
            prepared.map(finding).collect()
        } else {
            let asked = examine.branches.iter().map(|question| {
                let id = question.id.clone().unwrap();
                let key = (id.gid.clone(), question.branch.as_ref().unwrap().id);
                let gone = v1::BranchFinding {
                    id: Some(id),
                    branch: key.1,
                    presence: Presence::Aborted.into(),
                    ..v1::BranchFinding::default()
                };
                self.branches.get_key_value(&key).map_or(gone, finding)
            });
            asked.collect()
        };
        Up::Examined(v1::Examined {
            call_id: examine.call_id,
            resource: examine.resource.clone(),
            findings,
            ..v1::Examined::default()
        })
    }

    fn overrule(&mut self, overrule: v1::Overrule) -> Option<Up> {
        self.overruled += 1;
        let mut answer = v1::OverruleAnswer { call_id: overrule.call_id, ..v1::OverruleAnswer::default() };
        let key = (overrule.id?.gid, overrule.branch?.id);
        match self.habits.overrules {
            Overrules::Not => return None,
            Overrules::No => answer.problem.push_str("it is locked away"),
            Overrules::Yes | Overrules::Silently => {
                let held = self.branches.get_mut(&key)?;
                if held.presence == Presence::Prepared && Some(&held.evidence) == overrule.evidence.as_ref() {
                    held.presence = if overrule.commit { Presence::Committed } else { Presence::Aborted };
                }
                answer.presence = held.presence.into();
            }
        }
        (self.habits.overrules != Overrules::Silently).then_some(Up::OverruleAnswer(answer))
    }
}
