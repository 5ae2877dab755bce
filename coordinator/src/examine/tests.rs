//! Who is asked, in which order, and what counts as an answer.

use std::future::Future;

use futures::StreamExt;
use pactum_core::id::Incarnation;
use pactum_proto::v1::BranchPresence::{Committed, Prepared};
use pactum_proto::v1::coordinator_message::Message as Down;
use uuid::Uuid;

use super::*;
use crate::outbox::{Drain, Outbox, OutboxLimits};
use crate::service::wire::ToParticipant;

/// No test waits for anything longer than this; what is to be silent is not waited for so long.
const LONG: Duration = Duration::from_mins(1);

fn bank() -> ResourceName {
    ResourceName::new("bank-a").unwrap()
}

fn instance(number: u8) -> InstanceId {
    InstanceId::from_slice(&[number; 16]).unwrap()
}

fn id() -> TransactionId {
    TransactionId {
        incarnation: Incarnation::from_uuid(Uuid::from_u128(1)),
        gid: Gid::from_uuid(Uuid::from_u128(2)),
    }
}

fn branch() -> Branch {
    Branch { id: BranchId::new(1), resource: bank(), instance: instance(7), marker: false }
}

fn question() -> v1::BranchQuestion {
    wire::question(id(), branch(), Some(Evidence::new("100", "here")))
}

fn finding(presence: v1::BranchPresence) -> v1::BranchFinding {
    v1::BranchFinding {
        id: Some(id().into()),
        branch: 1,
        presence: presence.into(),
        ..v1::BranchFinding::default()
    }
}

/// A participant whose messages the test reads and answers.
struct Peer {
    session: Arc<Session>,
    messages: Drain<ToParticipant>,
}

impl Peer {
    async fn attach(registry: &Registry, number: u8) -> Self {
        let limits = OutboxLimits { messages_max: 16, bytes_max: 1024 * 1024 };
        let (outbox, messages) = Outbox::new(limits);
        let session = Session::scripted(instance(number), &[&bank()], outbox);
        registry.attach(&session).await.unwrap();
        Self { session, messages }
    }

    async fn next(&mut self) -> Down {
        let batch = soon(self.messages.next()).await.unwrap().unwrap();
        batch.first().unwrap().decoded().message.unwrap()
    }

    async fn examine(&mut self) -> v1::Examine {
        let message = self.next().await;
        let Down::Examine(examine) = message else { panic!("a question was expected, not {message:?}") };
        examine
    }

    /// Answers; returns whether somebody waited for it.
    fn answers(&self, examiner: &Examiner, call_id: u64, findings: Vec<v1::BranchFinding>) -> bool {
        let found = Examined { resource: bank(), findings, problem: None, more: false };
        examiner.answered(&self.session, call_id, Answer::Examined(found))
    }

    fn refuses(&self, examiner: &Examiner, call_id: u64, why: &str) -> bool {
        let problem = Some(why.to_owned());
        let found = Examined { resource: bank(), findings: vec![], problem, more: false };
        examiner.answered(&self.session, call_id, Answer::Examined(found))
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("it came in time")
}

fn examiner(limit: Duration) -> (Arc<Registry>, Examiner) {
    let registry = Arc::new(Registry::new(8));
    let examiner = Examiner::new(Arc::clone(&registry), limit);
    (registry, examiner)
}

type Answered = tokio::task::JoinHandle<Result<v1::BranchPresence, Silent>>;

/// Asks of the one branch.
fn ask(examiner: &Examiner) -> Answered {
    let examiner = examiner.clone();
    tokio::spawn(async move {
        let mut answers = examiner.each(&bank(), vec![question()]).await;
        let answer = answers.remove(&(id().gid, BranchId::new(1))).unwrap();
        answer.map(|finding| finding.presence())
    })
}

#[tokio::test]
async fn where_nobody_is_attached_nothing_is_known() {
    let (_registry, examiner) = examiner(LONG);
    assert_eq!(soon(ask(&examiner)).await.unwrap(), Err(Silent::NotAttached));
    assert_eq!(soon(examiner.prepared(&bank(), 10)).await, Err(Silent::NotAttached));
}

#[tokio::test]
async fn the_instance_that_enlisted_the_branch_is_asked_and_no_other() {
    let (registry, examiner) = examiner(LONG);
    let (mut other, mut own) = (Peer::attach(&registry, 6).await, Peer::attach(&registry, 7).await);
    let asked = ask(&examiner);
    let question = own.examine().await;
    assert_eq!((question.resource.as_str(), question.branches.len(), question.limit), ("bank-a", 1, 0));
    assert!(own.answers(&examiner, question.call_id, vec![finding(v1::BranchPresence::Open)]));
    assert_eq!(soon(asked).await.unwrap(), Ok(v1::BranchPresence::Open));
    let prepared = tokio::spawn({
        let examiner = examiner.clone();
        async move { examiner.prepared(&bank(), 10).await }
    });
    let question = other.examine().await;
    assert_eq!((question.branches.len(), question.limit), (0, 10), "the one that attached first");
    other.answers(&examiner, question.call_id, vec![]);
    assert_eq!(soon(prepared).await.unwrap(), Ok((vec![], false)));
}

#[tokio::test]
async fn a_second_instance_is_asked_where_the_first_is_silent_and_the_first_may_still_answer() {
    let (registry, examiner) = examiner(Duration::from_secs(2));
    let (mut other, mut own) = (Peer::attach(&registry, 6).await, Peer::attach(&registry, 7).await);
    let asked = ask(&examiner);
    let first = own.examine().await;
    let second = other.examine().await;
    assert_ne!(first.call_id, second.call_id);
    assert_eq!(first.branches, second.branches);
    assert!(own.answers(&examiner, first.call_id, vec![finding(Prepared)]));
    assert_eq!(soon(asked).await.unwrap(), Ok(Prepared));
    let late = other.answers(&examiner, second.call_id, vec![finding(Committed)]);
    assert!(!late, "nobody waits for the other one any more");
}

#[tokio::test]
async fn a_second_instance_is_asked_at_once_where_the_first_found_nothing_out_or_is_gone() {
    let (registry, examiner) = examiner(LONG);
    let mut own = Peer::attach(&registry, 7).await;
    let mut other = Peer::attach(&registry, 6).await;
    let asked = ask(&examiner);
    let question = own.examine().await;
    assert!(own.refuses(&examiner, question.call_id, "no connection"));
    let question = other.examine().await;
    assert!(other.refuses(&examiner, question.call_id, "none either"));
    assert!(matches!(soon(asked).await.unwrap(), Err(Silent::Refused(_))));

    let asked = ask(&examiner);
    own.examine().await;
    registry.detach(&own.session);
    let question = other.examine().await;
    other.answers(&examiner, question.call_id, vec![finding(Committed)]);
    assert_eq!(soon(asked).await.unwrap(), Ok(Committed));
}

#[tokio::test]
async fn silence_is_told_when_the_limit_has_passed_and_at_once_when_the_session_ends() {
    let (registry, quick) = examiner(Duration::from_millis(100));
    let mut own = Peer::attach(&registry, 7).await;
    let asked = ask(&quick);
    let question = own.examine().await;
    assert_eq!(soon(asked).await.unwrap(), Err(Silent::NoAnswer));
    assert!(!own.answers(&quick, question.call_id, vec![finding(Prepared)]), "too late");
    let patient = Examiner::new(Arc::clone(&registry), LONG * 2);
    let asked = ask(&patient);
    own.examine().await;
    registry.detach(&own.session);
    assert_eq!(soon(asked).await.unwrap(), Err(Silent::NoAnswer));
}

#[tokio::test]
async fn an_answer_counts_from_whom_was_asked_and_of_what_was_asked_only() {
    let (registry, examiner) = examiner(LONG);
    let mut own = Peer::attach(&registry, 7).await;
    let other = Peer::attach(&registry, 6).await;
    let asked = ask(&examiner);
    let call_id = own.examine().await.call_id;
    let committed = || vec![finding(Committed)];
    assert!(!other.answers(&examiner, call_id, committed()), "of another session");
    assert!(!own.answers(&examiner, call_id + 1, committed()), "of another call");
    let elsewhere = Examined {
        resource: ResourceName::new("bank-b").unwrap(),
        findings: committed(),
        problem: None,
        more: false,
    };
    assert!(!examiner.answered(&own.session, call_id, Answer::Examined(elsewhere)), "of another resource");
    let overruled = Answer::Overruled { presence: Committed, problem: None };
    assert!(!examiner.answered(&own.session, call_id, overruled), "of another kind");
    assert!(own.answers(&examiner, call_id, vec![finding(Prepared)]));
    assert!(!own.answers(&examiner, call_id, committed()), "repeated");
    assert_eq!(soon(asked).await.unwrap(), Ok(Prepared));
}

#[tokio::test]
async fn what_is_prepared_is_cut_at_the_limit_and_holds_nothing_else() {
    let (registry, examiner) = examiner(LONG);
    let mut own = Peer::attach(&registry, 7).await;
    let asked = tokio::spawn({
        let examiner = examiner.clone();
        async move { examiner.prepared(&bank(), 2).await }
    });
    let call_id = own.examine().await.call_id;
    let findings = vec![finding(Committed), finding(Prepared), finding(Prepared), finding(Prepared)];
    own.answers(&examiner, call_id, findings);
    let (found, more) = soon(asked).await.unwrap().unwrap();
    assert_eq!((found.len(), more), (2, true));
    assert!(found.iter().all(|finding| finding.presence() == Prepared));
}

fn overrule(examiner: &Examiner) -> tokio::task::JoinHandle<Result<v1::BranchPresence, OverruleError>> {
    let examiner = examiner.clone();
    tokio::spawn(async move { examiner.overrule(id(), &branch(), &Evidence::new("100", "here"), true).await })
}

async fn order(peer: &mut Peer) -> v1::Overrule {
    let message = peer.next().await;
    let Down::Overrule(overrule) = message else { panic!("an order was expected, not {message:?}") };
    overrule
}

#[tokio::test]
async fn an_overrule_that_reaches_nobody_has_not_happened() {
    let (registry, examiner) = examiner(LONG);
    let nobody = OverruleError::NotSent(Silent::NotAttached);
    assert_eq!(soon(overrule(&examiner)).await.unwrap(), Err(nobody.clone()));
    let closed = Peer::attach(&registry, 7).await;
    closed.session.outbox.close(None);
    assert_eq!(soon(overrule(&examiner)).await.unwrap(), Err(nobody));
}

#[tokio::test]
async fn an_overrule_goes_to_one_instance_once_and_brings_its_answer() {
    let (registry, examiner) = examiner(LONG);
    let (mut other, mut own) = (Peer::attach(&registry, 6).await, Peer::attach(&registry, 7).await);
    let ordered = overrule(&examiner);
    let given = order(&mut own).await;
    assert_eq!(given.evidence.unwrap().execution, "100");
    assert!(given.commit);
    let done = Answer::Overruled { presence: Committed, problem: None };
    assert!(examiner.answered(&own.session, given.call_id, done));
    assert_eq!(soon(ordered).await.unwrap(), Ok(Committed));

    let ordered = overrule(&examiner);
    let given = order(&mut own).await;
    let problem = Some("another execution is prepared".to_owned());
    let refused = Answer::Overruled { presence: Prepared, problem };
    assert!(examiner.answered(&own.session, given.call_id, refused));
    let error = soon(ordered).await.unwrap().unwrap_err();
    assert_eq!(error, OverruleError::Refused("another execution is prepared".to_owned()));
    // All that this one has got: a question of the test's own.
    other.session.send(wire::set_draining(true));
    assert!(matches!(other.next().await, Down::SetDraining(_)), "it was not asked too");
}

#[tokio::test]
async fn a_lost_answer_to_an_overrule_is_unknown_and_asked_of_nobody_else() {
    let (registry, quick) = examiner(Duration::from_millis(50));
    let mut own = Peer::attach(&registry, 7).await;
    let mut other = Peer::attach(&registry, 6).await;
    let ordered = overrule(&quick);
    order(&mut own).await;
    assert!(matches!(soon(ordered).await.unwrap(), Err(OverruleError::Unknown(_))));
    let patient = Examiner::new(Arc::clone(&registry), LONG);
    let ordered = overrule(&patient);
    order(&mut own).await;
    registry.detach(&own.session);
    assert!(matches!(soon(ordered).await.unwrap(), Err(OverruleError::Unknown(_))));
    other.session.send(wire::set_draining(true));
    assert!(matches!(other.next().await, Down::SetDraining(_)), "it was not asked too");
}

#[tokio::test]
async fn draining_is_told_to_those_that_are_meant() {
    let (registry, examiner) = examiner(LONG);
    let (mut one, mut two) = (Peer::attach(&registry, 1).await, Peer::attach(&registry, 2).await);
    assert_eq!(examiner.set_draining(&bank(), Some(instance(2)), true), 1);
    assert!(matches!(two.next().await, Down::SetDraining(v1::SetDraining { draining: true })));
    assert_eq!(examiner.set_draining(&bank(), None, false), 2);
    for peer in [&mut one, &mut two] {
        assert!(matches!(peer.next().await, Down::SetDraining(v1::SetDraining { draining: false })));
    }
    assert_eq!(examiner.set_draining(&ResourceName::new("bank-b").unwrap(), None, true), 0);
}

#[tokio::test]
async fn something_new_goes_to_one_that_drains_only_where_there_is_no_other() {
    let (registry, _examiner) = examiner(LONG);
    let (one, two) = (Peer::attach(&registry, 1).await, Peer::attach(&registry, 2).await);
    let chosen = || -> Vec<InstanceId> {
        let sessions = registry.sessions();
        (0..4).map(|turn| sessions.for_new(&bank(), turn).unwrap().instance).collect()
    };
    let (first, second) = (instance(1), instance(2));
    assert_eq!(chosen(), [first, second, first, second]);
    one.session.says_draining(true);
    assert_eq!(chosen(), [second; 4]);
    two.session.says_draining(true);
    assert_eq!(chosen(), [first, second, first, second]);
    one.session.says_draining(false);
    assert_eq!(chosen(), [first; 4]);
    one.session.outbox.close(None);
    assert_eq!(chosen(), [second; 4], "one that drains, rather than one whose stream has ended");
}
