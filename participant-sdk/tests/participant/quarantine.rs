//! What nobody can know the decision of is listed until somebody does (B5, B8, D5). In simulated time.

use std::time::SystemTime;

use pactum::BranchId;
use pactum::participant::Participant;
use pactum_core::id::{Cluster, PreparedName};
use pactum_proto::v1::inquiry_answer::Answer;

use crate::coordinator::{Coordinator, Stream};
use crate::memory::{Held, Memory};
use crate::network::Network;
use crate::{OWNER, id, until};

async fn world(network: &Network, bank: &Memory) -> (Coordinator, Stream, Participant) {
    let mut coordinator = Coordinator::listen(network, &["one:1"]);
    let builder = Participant::builder(["http://one:1"]).connector(network.connector());
    let participant = builder.resource(bank.clone()).start().await.unwrap();
    let stream = coordinator.welcome(OWNER).await;
    (coordinator, stream, participant)
}

#[tokio::test(start_paused = true)]
async fn branches_in_quarantine_are_listed_until_they_end() {
    let (network, bank) = (Network::default(), Memory::new("bank-a"));
    let name = |number| PreparedName {
        cluster: Cluster::new("c1").unwrap(),
        id: id(OWNER),
        branch: BranchId::new(number),
    };
    // Drawn in this order, so that the first is the older one.
    let (older, newer) = (name(1), name(2));
    bank.put_prepared(older.clone(), "x1");
    bank.put_prepared(newer.clone(), "x2");
    let begun = SystemTime::now();
    let (_coordinator, mut stream, participant) = world(&network, &bank).await;
    assert_eq!(participant.quarantined(), [], "what is merely in doubt is not in quarantine");
    for _ in 0..2 {
        let inquiry = stream.inquiry().await;
        stream.answer(inquiry, Answer::Quarantine(true)).await;
    }
    until(|| participant.quarantined().len() == 2).await;
    let listed = participant.quarantined();
    assert_eq!([&listed[0].name, &listed[1].name], [&older, &newer]);
    assert_eq!((listed[0].gid(), listed[0].resource.as_str()), (older.id.gid, "bank-a"));
    assert_eq!(&*listed[0].evidence.execution, "x1");
    assert!(listed[0].since >= begun && listed[0].since <= SystemTime::now());
    assert!(listed[0].why.contains("nobody can know the decision"), "{}", listed[0].why);

    // It is asked again by itself: an operator has released one and not the other.
    for _ in 0..2 {
        let inquiry = stream.inquiry().await;
        let released = inquiry.branch.as_ref().unwrap().id == 1;
        let answer = if released { Answer::Abort(true) } else { Answer::Quarantine(true) };
        stream.answer(inquiry, answer).await;
    }
    until(|| bank.held(older.branch) == Some(Held::Aborted)).await;
    assert_eq!(bank.held(newer.branch), Some(Held::Prepared("x2".into())), "nobody guessed");
    let still = participant.quarantined();
    assert_eq!(still, listed[1..], "the other one stands as it was, since then");

    // Wait says nothing: what nobody could know is still not known.
    let inquiry = stream.inquiry().await;
    stream.answer(inquiry, Answer::Wait(true)).await;
    let inquiry = stream.inquiry().await;
    assert_eq!(participant.quarantined(), still);
    let evidence = inquiry.evidence.clone().unwrap();
    stream.answer(inquiry, Answer::Commit(evidence)).await;
    until(|| participant.quarantined().is_empty()).await;
    until(|| bank.held(newer.branch) == Some(Held::Committed("x2".into()))).await;
}
