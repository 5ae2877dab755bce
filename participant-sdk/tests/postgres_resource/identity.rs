//! [H6] A database that was restored or failed over: the xid proves nothing.

use pactum::HeuristicOutcome;
use pactum::resource::{BeginOptions, PostgresResource, Resource};
use pactum::testing;
use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::Evidence;

use crate::bank::{Bank, write, yes};

const HAZARD: BranchOutcome = BranchOutcome::Heuristic(HeuristicOutcome::Hazard);

/// The evidence as it would read had the server gone back or been replaced since.
fn from_before_a_restore(evidence: &Evidence) -> Vec<Evidence> {
    let anchor: Vec<&str> = evidence.anchor.split('/').collect();
    let [system, timeline, high, low] = anchor[..] else { panic!("{evidence:?}") };
    [
        format!("{system}/{timeline}/FFFF/{low}"),
        format!("{system}/000000FF/{high}/{low}"),
        format!("1{system}/{timeline}/{high}/{low}"),
    ]
    .into_iter()
    .map(|anchor| Evidence::new(evidence.execution.clone(), anchor))
    .collect()
}

/// The xid says committed, and may be somebody else's.
#[tokio::test]
async fn a_branch_gone_from_a_database_that_went_back_is_a_hazard() {
    let bank = Bank::open().await;
    let (branch, evidence) = bank.prepared(1).await;
    bank.by_hand("COMMIT", &branch).await;
    for void in from_before_a_restore(&evidence) {
        for prepared in [Some(&void), None] {
            let outcome = bank.resource.commit(&branch, &void, prepared).await;
            assert_eq!(outcome, Ok(HAZARD), "{void:?}");
        }
    }
}

/// What is still prepared under the name and xid is the decided work.
#[tokio::test]
async fn a_branch_still_prepared_in_a_database_that_went_back_is_finished() {
    let bank = Bank::open().await;
    for (key, kind) in (1..).zip(0..3) {
        let (branch, evidence) = bank.prepared(key).await;
        let void = &from_before_a_restore(&evidence)[kind];
        let outcome = bank.resource.commit(&branch, void, None).await;
        assert_eq!(outcome, Ok(BranchOutcome::Committed));
        assert!(bank.sees(key).await);
    }
}

/// The row inside the branch is proof where the xid is none; and where the xid is, too.
#[tokio::test]
async fn a_witness_row_tells_after_a_restore() {
    let bank = Bank::open_with_marker().await;
    let resource: PostgresResource = bank.restarted().witnessed();
    for (verb, expected) in [
        ("COMMIT", BranchOutcome::Committed),
        ("ROLLBACK", BranchOutcome::Heuristic(HeuristicOutcome::Aborted)),
    ] {
        let branch = bank.branch();
        let mut work = testing::begin(&resource, &branch, BeginOptions::new()).await.unwrap();
        write(&mut work, rand::random()).await;
        work.enlist().await.unwrap();
        let evidence = yes(resource.prepare(&branch, None).await);
        bank.by_hand(verb, &branch).await;
        for void in from_before_a_restore(&evidence) {
            let outcome = resource.commit(&branch, &void, None).await;
            assert_eq!(outcome.as_ref(), Ok(&expected), "{void:?}");
        }
        // Forgotten, it proves nothing in either direction.
        resource.forget_markers(branch.name.id.gid).await.unwrap();
        let void = &from_before_a_restore(&evidence)[0];
        assert_eq!(resource.commit(&branch, void, None).await, Ok(HAZARD));
        let outcome = resource.commit(&branch, &evidence, None).await;
        assert_eq!(outcome.as_ref(), Ok(&expected));
    }
}
