//! Ended by an operator, through the participant.

use pactum::HeuristicOutcome;
use pactum::resource::{BranchPresence, Resource};
use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::Evidence;

use crate::bank::{Bank, resource, server, write, yes};
use crate::proxy::Proxy;

/// D8: what comes later finds out.
#[tokio::test]
async fn a_branch_is_ended_either_way_and_its_decision_finds_out() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    let stands = bank.restarted().overrule(&branch, &evidence, true).await;
    assert_eq!(stands, Ok(BranchPresence::Committed));
    assert!(bank.sees(1).await);
    let outcome = bank.resource.abort(&branch, Some(&evidence)).await;
    assert_eq!(outcome, Ok(BranchOutcome::Heuristic(HeuristicOutcome::Committed)));
    assert_eq!(bank.resource.commit(&branch, &evidence, None).await, Ok(BranchOutcome::Committed));

    let (branch, evidence) = bank.prepared(2).await;
    let stands = bank.resource.overrule(&branch, &evidence, false).await;
    assert_eq!(stands, Ok(BranchPresence::Aborted));
    for prepared in [Some(&evidence), None] {
        let outcome = bank.resource.commit(&branch, &evidence, prepared).await;
        assert_eq!(outcome, Ok(BranchOutcome::Heuristic(HeuristicOutcome::Aborted)));
    }
    assert_eq!(bank.resource.abort(&branch, Some(&evidence)).await, Ok(BranchOutcome::Aborted));
    assert!(!bank.sees(2).await);
    assert_eq!(bank.prepared_count().await, 0);
}

/// H3
#[tokio::test]
async fn another_execution_than_the_one_meant_is_left_alone() {
    let bank = Bank::open().await;
    let (branch, first) = bank.prepared(1).await;
    bank.by_hand("ROLLBACK", &branch).await;
    let mut work = bank.begin(&branch).await;
    write(&mut work, 2).await;
    work.enlist().await.unwrap();
    let second = yes(bank.resource.prepare(&branch, None).await);
    for commit in [true, false] {
        let error = bank.resource.overrule(&branch, &first, commit).await.unwrap_err().to_string();
        assert!(error.starts_with("nothing was done") && error.contains(&*second.execution), "{error}");
        assert_eq!(bank.prepared_count().await, 1);
    }
    let error = bank.resource.overrule(&branch, &Evidence::new("strange", ""), true).await.unwrap_err();
    assert!(error.to_string().starts_with("nothing was done"), "{error}");
    assert_eq!(bank.resource.overrule(&branch, &second, true).await, Ok(BranchPresence::Committed));
    assert!(bank.sees(2).await && !bank.sees(1).await);
}

#[tokio::test]
async fn a_branch_that_ended_before_is_told_as_it_ended() {
    let bank = Bank::open().await;
    for (verb, presence) in [("COMMIT", BranchPresence::Committed), ("ROLLBACK", BranchPresence::Aborted)] {
        let (branch, evidence) = bank.prepared(rand::random()).await;
        bank.by_hand(verb, &branch).await;
        for commit in [true, false] {
            assert_eq!(bank.resource.overrule(&branch, &evidence, commit).await, Ok(presence));
        }
        // H6: the xid proves nothing.
        let (system, rest) = evidence.anchor.split_once('/').unwrap();
        let void = Evidence::new(evidence.execution.clone(), format!("1{system}/{rest}"));
        assert_eq!(bank.resource.overrule(&branch, &void, true).await, Ok(BranchPresence::Unknown));
    }
    let open = bank.worked(7).await;
    let (_, some) = bank.prepared(8).await;
    assert_eq!(bank.resource.overrule(&open, &some, true).await, Ok(BranchPresence::Open));
    let elsewhere = bank.restarted().overrule(&open, &some, true).await;
    assert_eq!(elsewhere, Ok(BranchPresence::Unknown), "its xid is that of another branch, in progress");
    assert!(!bank.sees(7).await && !bank.sees(8).await);
}

/// D11
#[tokio::test]
async fn the_wrong_role_is_told_that_nothing_was_done() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    let role = format!("other_{:08x}", rand::random::<u32>());
    server().psql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")).unwrap();
    let (_, address) = bank.url.split_once('@').unwrap();
    let other = resource(&format!("postgres://{role}:x@{address}"));
    for commit in [true, false] {
        let error = other.overrule(&branch, &evidence, commit).await.unwrap_err().to_string();
        assert!(error.starts_with("nothing was done") && error.contains("42501"), "{error}");
    }
    assert_eq!(bank.prepared_count().await, 1);
}

/// D2: the server did it, and its answer was lost.
#[tokio::test]
async fn an_overruling_whose_answer_was_lost_is_told_by_evidence() {
    let bank = Bank::open().await;
    for (key, commit, statement, presence) in [
        (1, true, "COMMIT PREPARED", BranchPresence::Committed),
        (2, false, "ROLLBACK PREPARED", BranchPresence::Aborted),
    ] {
        let port = server().port();
        let proxy = Proxy::start(port).await;
        let resource = resource(&proxy.url(&bank.url, port));
        let (branch, evidence) = bank.prepared(key).await;
        proxy.lose_answer_to(statement);
        let stands = resource.overrule(&branch, &evidence, commit).await;
        assert!(proxy.has_lost_an_answer());
        assert_eq!(stands, Ok(presence));
        assert_eq!(bank.sees(key).await, commit);
    }
    assert_eq!(bank.prepared_count().await, 0);
}
