//! Votes, decisions and repetitions.

use pactum::BranchId;
use pactum_core::id::{Cluster, PreparedName};
use pactum_proto::v1;
use pactum_proto::v1::BranchOutcome as Outcome;
use pactum_proto::v1::coordinator_message::Message as ToParticipant;
use pactum_proto::v1::register_answer::Register;
use pactum_proto::v1::vote::Vote;

use crate::coordinator::{Coordinator, abort, commit, one_phase, prepare, prepare_operation, settle};
use crate::memory::{AtPrepare, Held, Memory};
use crate::{OWNER, World, id, participant};

fn yes(execution: &str) -> Vote {
    Vote::Commit(v1::Evidence { execution: execution.into(), anchor: String::new() })
}

fn name(of: u128, branch: u64) -> PreparedName {
    PreparedName { cluster: Cluster::new("c1").unwrap(), id: id(of), branch: BranchId::new(branch) }
}

#[tokio::test]
async fn enlisted_work_votes_with_evidence_and_commits() {
    let mut world = World::start().await;
    let (id, branch) = world.enlisted().await;
    world.stream.send([prepare(&id, &branch)]).await;
    assert_eq!(world.stream.vote().await, yes("x1"));
    assert_eq!(world.bank.held(BranchId::new(branch.id)), Some(Held::Prepared("x1".into())));
    world.stream.send([commit(&id, &branch, "x1")]).await;
    assert_eq!(world.stream.finished().await, Outcome::Committed);
    assert_eq!(world.bank.held(BranchId::new(branch.id)), Some(Held::Committed("x1".into())));
    assert_eq!(world.participant.violations(), 0);
}

/// C7, E2, E6: hooks run once, and every repetition has the same answer.
#[tokio::test]
async fn repeated_messages_have_the_same_answer_and_run_no_hook() {
    let mut world = World::start().await;
    let (id, branch) = world.enlisted().await;
    world.stream.send([prepare(&id, &branch)]).await;
    world.stream.vote().await;
    world.stream.send([prepare(&id, &branch)]).await;
    assert_eq!(world.stream.vote().await, yes("x1"));
    world.stream.send([commit(&id, &branch, "x1")]).await;
    assert_eq!(world.stream.finished().await, Outcome::Committed);
    world.stream.send([commit(&id, &branch, "x1")]).await;
    assert_eq!(world.stream.finished().await, Outcome::Committed);
    assert_eq!(world.bank.calls(), ["prepare", "commit"]);
}

/// The stream is cut while the prepare hook runs; the coordinator asks again on the next one.
#[tokio::test]
async fn a_vote_is_replayed_on_the_stream_that_asks_again() {
    let mut world = World::start().await;
    let (id, branch) = world.enlisted().await;
    world.bank.gate(false);
    world.stream.send([prepare(&id, &branch)]).await;
    world.bank.until(|calls| calls == ["prepare"]).await;
    drop(world.stream);
    let mut stream = world.coordinator.welcome(OWNER).await;
    world.bank.gate(true);
    stream.send([prepare(&id, &branch)]).await;
    // It may be found prepared by a scan before, and asked about.
    let vote = loop {
        match stream.recv().await {
            v1::participant_message::Message::Vote(vote) => break vote,
            v1::participant_message::Message::Inquiry(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(vote.vote, Some(yes("x1")));
    assert_eq!(world.bank.calls(), ["prepare"]);
}

#[tokio::test]
async fn a_refusal_is_a_vote_of_no_with_its_reason() {
    let mut world = World::start().await;
    world.bank.script(|script| script.prepare = AtPrepare::Refuses);
    let (id, branch) = world.enlisted().await;
    world.stream.send([prepare(&id, &branch)]).await;
    let Vote::Abort(reason) = world.stream.vote().await else { panic!("a no was expected") };
    assert_eq!((reason.kind(), &*reason.message), (v1::AbortKind::VotedNo, "not enough money"));
}

#[tokio::test]
async fn a_panic_in_the_prepare_hook_is_a_vote_of_no_and_ends_the_work() {
    let mut world = World::start().await;
    world.bank.script(|script| script.prepare = AtPrepare::Panics);
    let (id, branch) = world.enlisted().await;
    world.stream.send([prepare(&id, &branch)]).await;
    let Vote::Abort(reason) = world.stream.vote().await else { panic!("a no was expected") };
    assert!(reason.message.contains("the user's hook has a defect"), "{}", reason.message);
    assert_eq!(world.bank.calls(), ["prepare", "abort"]);
    assert_eq!(world.bank.held(BranchId::new(branch.id)), Some(Held::Aborted));
}

/// C8: a commit hook that fails or panics is a failure to be repeated, never an abort.
#[tokio::test]
async fn a_failing_commit_hook_is_repeated_until_it_succeeds() {
    let mut world = World::start().await;
    let (id, branch) = world.enlisted().await;
    world.stream.send([prepare(&id, &branch)]).await;
    world.stream.vote().await;
    world.bank.script(|script| script.commit_failures = 1);
    world.stream.send([commit(&id, &branch, "x1")]).await;
    assert_eq!(world.stream.failed().await, "the store is busy");
    world.bank.script(|script| script.commit_panics = 1);
    world.stream.send([commit(&id, &branch, "x1")]).await;
    // The participant may have repeated it by itself, and met the panic there.
    let mut outcome = None;
    while outcome.is_none() {
        match world.stream.recv().await {
            v1::participant_message::Message::Failed(failed) => {
                assert!(failed.message.contains("the user's hook has a defect"), "{}", failed.message);
                world.stream.send([commit(&id, &branch, "x1")]).await;
            }
            v1::participant_message::Message::Finished(finished) => outcome = Some(finished.outcome()),
            v1::participant_message::Message::Inquiry(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(outcome, Some(Outcome::Committed));
    assert_eq!(world.bank.held(BranchId::new(branch.id)), Some(Held::Committed("x1".into())));
    assert!(!world.bank.calls().contains(&"abort".into()));
}

/// E3, E4: Abort of an unknown branch leaves a memory, and the operation of a late Prepare is not run.
#[tokio::test]
async fn a_late_prepare_after_abort_votes_no() {
    let mut world = World::start().await;
    let id: v1::TransactionId = id(OWNER).into();
    let branch = v1::Branch {
        id: 4,
        resource: "bank-a".into(),
        instance: world.participant.instance().as_uuid().as_bytes().to_vec(),
        marker: false,
    };
    world.stream.send([abort(&id, &branch)]).await;
    assert_eq!(world.stream.finished().await, Outcome::Aborted);
    world.stream.send([prepare_operation(&id, &branch, "debit")]).await;
    assert!(matches!(world.stream.vote().await, Vote::Abort(_)));
    assert_eq!(world.bank.calls(), ["abort"]);
}

/// H3: phase 1 is for the instance that is named, and for no other.
#[tokio::test]
async fn an_operation_for_another_instance_is_not_executed() {
    let mut world = World::start().await;
    let id: v1::TransactionId = id(OWNER).into();
    let branch = v1::Branch { id: 4, resource: "bank-a".into(), instance: vec![9; 16], marker: false };
    world.stream.send([prepare_operation(&id, &branch, "debit")]).await;
    assert!(matches!(world.stream.vote().await, Vote::Abort(_)));
    // Phase 2 may come to any instance (C5).
    world.stream.send([abort(&id, &v1::Branch { id: 5, ..branch })]).await;
    assert_eq!(world.stream.finished().await, Outcome::Aborted);
    assert_eq!(world.bank.calls(), ["abort"]);
}

#[tokio::test]
async fn a_one_shot_operation_is_executed_and_commits() {
    let mut world = World::start().await;
    let id: v1::TransactionId = id(OWNER).into();
    let instance = world.participant.instance().as_uuid().as_bytes().to_vec();
    let branch = v1::Branch { id: 4, resource: "bank-a".into(), instance, marker: false };
    world.stream.send([prepare_operation(&id, &branch, "debit")]).await;
    assert_eq!(world.stream.vote().await, yes("x1"));
    world.stream.send([commit(&id, &branch, "x1")]).await;
    assert_eq!(world.stream.finished().await, Outcome::Committed);
}

/// C2, C3, C10: a restarted participant asks about what it finds prepared, and obeys.
#[tokio::test]
async fn what_a_restart_finds_prepared_is_asked_about_and_ended() {
    let bank = Memory::new("bank-a");
    let (committed, aborted) = (name(OWNER, 1), name(OWNER, 2));
    bank.put_prepared(committed.clone(), "x8");
    bank.put_prepared(aborted.clone(), "x9");
    let mut world = World::with(bank).await;
    for _ in 0..2 {
        let inquiry = world.stream.inquiry().await;
        let branch = inquiry.branch.unwrap();
        assert!(branch.instance.is_empty(), "nobody here enlisted it");
        let evidence = inquiry.evidence.unwrap();
        let commits = branch.id == 1;
        assert_eq!(evidence.execution, if commits { "x8" } else { "x9" });
        let answer = if commits {
            v1::inquiry_answer::Answer::Commit(evidence)
        } else {
            v1::inquiry_answer::Answer::Abort(true)
        };
        let answer = v1::InquiryAnswer { id: inquiry.id, branch: branch.id, answer: Some(answer) };
        world.stream.send([ToParticipant::InquiryAnswer(answer)]).await;
    }
    world.bank.until(|calls| calls.len() == 2).await;
    world.bank.until(|calls| calls.contains(&"commit".into()) && calls.contains(&"abort".into())).await;
    assert_eq!(world.bank.held(aborted.branch), Some(Held::Aborted));
    // Commit says that it was called before it takes effect; shutting down waits for it.
    world.participant.shutdown().await;
    assert_eq!(world.bank.held(committed.branch), Some(Held::Committed("x8".into())));
}

/// The owner is asked if it is attached to, else anybody.
#[tokio::test]
async fn an_inquiry_goes_to_the_owner_or_else_to_anybody() {
    let bank = Memory::new("bank-a");
    let (mut one, mut two) = (Coordinator::start().await, Coordinator::start().await);
    let participant = pactum::participant::Participant::builder([one.address.clone(), two.address.clone()])
        .resource(bank.clone())
        .scan_interval(std::time::Duration::from_millis(50))
        .start()
        .await
        .unwrap();
    let mut first = one.welcome(1).await;
    let mut second = two.welcome(2).await;
    for _ in 0..2 {
        let mut states = participant.sessions();
        while states.iter().any(|state| !state.is_attached()) {
            tokio::task::yield_now().await;
            states = participant.sessions();
        }
    }
    bank.put_prepared(name(1, 1), "x1");
    assert_eq!(first.inquiry().await.branch.unwrap().id, 1);
    // An owner that hangs is not asked alone (A5, E9): the other one hears of its branch too.
    assert_eq!(second.inquiry().await.branch.unwrap().id, 1);
    bank.put_prepared(name(2, 2), "x2");
    while second.inquiry().await.branch.unwrap().id != 2 {}
    bank.put_prepared(name(3, 3), "x3");
    // Others are asked about again meanwhile.
    loop {
        let asked = tokio::select! { asked = first.inquiry() => asked, asked = second.inquiry() => asked };
        if asked.branch.unwrap().id == 3 {
            break;
        }
    }
}

/// H5: one register; what it holds is answered again and again, and a closed one stays closed.
#[tokio::test]
async fn one_branch_commits_through_its_register_or_is_closed() {
    let bank = Memory::new("bank-a");
    bank.script(|script| script.marker = true);
    let mut world = World::with(bank).await;
    let (id, branch) = world.enlisted().await;
    assert!(branch.marker);
    world.stream.send([one_phase(&id, &branch)]).await;
    assert_eq!(world.stream.register().await, Register::Committed(true));
    world.stream.send([settle(&id, &branch)]).await;
    assert_eq!(world.stream.register().await, Register::Committed(true));
    assert_eq!(world.bank.calls(), ["one-phase"]);

    let (id, branch) = world.enlisted().await;
    world.stream.send([settle(&id, &branch)]).await;
    assert!(matches!(world.stream.register().await, Register::Aborted(_)));
    world.stream.send([one_phase(&id, &branch)]).await;
    assert!(matches!(world.stream.register().await, Register::Aborted(_)));
    assert_eq!(world.bank.held(BranchId::new(branch.id)), Some(Held::Aborted));
    let (coordinator, bank) = (&mut world.coordinator, &world.bank);
    // Another process of the same resource knows nothing of either, and asks the register.
    let other = participant(coordinator, bank).await;
    let mut stream = coordinator.welcome(OWNER).await;
    stream.send([settle(&id, &branch)]).await;
    assert!(matches!(stream.register().await, Register::Aborted(_)));
    other.shutdown().await;
}

#[tokio::test]
async fn thousands_of_branches_travel_in_bounded_batches() {
    const BRANCHES: u64 = 5000;
    let mut world = World::start().await;
    let id: v1::TransactionId = id(OWNER).into();
    let instance = world.participant.instance().as_uuid().as_bytes().to_vec();
    let branch = |id| v1::Branch { id, resource: "bank-a".into(), instance: instance.clone(), marker: false };
    let numbers: Vec<u64> = (0..BRANCHES).collect();
    for some in numbers.chunks(1000) {
        world.stream.send(some.iter().map(|number| prepare_operation(&id, &branch(*number), "debit"))).await;
    }
    for _ in 0..BRANCHES {
        let message = world.stream.recv().await;
        assert!(!matches!(message, v1::participant_message::Message::Failed(_)), "{message:?}");
    }
    assert!(world.stream.largest > 1, "votes that wait are sent together");
    assert!(world.stream.largest <= 1024);
}
