//! Several coordinators: learning, keeping and letting go of them; two addresses of one. In simulated
//! time, with default settings.

use std::time::Duration;

use pactum::participant::{Participant, SessionState, SessionStatus};
use tokio::time::{Instant, sleep};

use crate::coordinator::Coordinator;
use crate::memory::Memory;
use crate::network::Network;
use crate::until;

/// Far longer than any delay of the SDK.
const LONG: Duration = Duration::from_mins(2);

async fn attach(network: &Network, addresses: &[&str]) -> Participant {
    Participant::builder(addresses.iter().map(|authority| format!("http://{authority}")))
        .connector(network.connector())
        .resource(Memory::new("bank-a"))
        .start()
        .await
        .unwrap()
}

/// The addresses attached to, and whether each was learned.
fn attached(participant: &Participant) -> Vec<(String, bool)> {
    let sessions = participant.sessions().into_iter();
    sessions.filter(SessionStatus::is_attached).map(|it| (it.address, it.learned)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_another_one_names_is_attached_to() {
    let network = Network::default();
    let mut one = Coordinator::listen(&network, &["one:1"]);
    let mut two = Coordinator::listen(&network, &["two:1"]);
    let participant = attach(&network, &["one:1"]).await;
    let _first = one.welcome_naming(1, &[(1, "one:1"), (2, "two:1")]).await;
    let (second, hello) = two.accept().await;
    assert_eq!(hello.instance, participant.instance().as_uuid().as_bytes());
    second.name(2, &[(1, "one:1"), (2, "two:1")]).await;
    until(|| participant.sessions().iter().all(SessionStatus::is_attached)).await;
    let expected = [("http://one:1".to_owned(), false), ("http://two:1".to_owned(), true)];
    assert_eq!(attached(&participant), expected);
    sleep(LONG).await;
    assert!(!one.is_called() && !two.is_called(), "each is attached to once");
}

/// The same coordinator has another address in each view: the incarnation tells that it is one.
#[tokio::test(start_paused = true)]
async fn coordinators_are_told_apart_by_incarnation_and_not_by_address() {
    let network = Network::default();
    let mut one = Coordinator::listen(&network, &["one:1", "alias-of-one:1"]);
    let mut two = Coordinator::listen(&network, &["two:1", "alias-of-two:1"]);
    let participant = attach(&network, &["one:1"]).await;
    let first = one.welcome_naming(1, &[(1, "alias-of-one:1"), (2, "two:1")]).await;
    let second = two.welcome_naming(2, &[(1, "one:1"), (2, "alias-of-two:1")]).await;
    until(|| attached(&participant).len() == 2).await;
    first.name(1, &[(1, "alias-of-one:1"), (2, "alias-of-two:1")]).await;
    second.name(2, &[(1, "alias-of-one:1"), (2, "two:1")]).await;
    sleep(LONG).await;
    assert_eq!((network.dials("alias-of-one:1"), network.dials("alias-of-two:1")), (0, 0));
    assert_eq!(participant.sessions().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_is_let_go_when_nobody_names_it_and_it_cannot_be_reached() {
    let network = Network::default();
    let mut one = Coordinator::listen(&network, &["one:1"]);
    let mut two = Coordinator::listen(&network, &["two:1"]);
    let participant = attach(&network, &["one:1"]).await;
    let first = one.welcome_naming(1, &[(1, "one:1"), (2, "two:1")]).await;
    let second = two.welcome_naming(2, &[(1, "one:1"), (2, "two:1")]).await;
    until(|| attached(&participant).len() == 2).await;

    // Named no longer, but there: it is kept.
    first.name(1, &[(1, "one:1")]).await;
    second.name(2, &[(2, "two:1")]).await;
    sleep(LONG).await;
    assert_eq!(attached(&participant).len(), 2);

    // Not there, but named: it is tried again and again.
    first.name(1, &[(1, "one:1"), (2, "two:1")]).await;
    network.close("two:1");
    drop((second, two));
    sleep(LONG).await;
    assert_eq!(participant.sessions().len(), 2);
    let before = network.dials("two:1");
    sleep(LONG).await;
    assert!(network.dials("two:1") > before);

    // Neither: it is let go, and nobody tries any more.
    first.name(1, &[(1, "one:1")]).await;
    until(|| participant.sessions().len() == 1).await;
    let before = network.dials("two:1");
    sleep(LONG).await;
    assert_eq!(network.dials("two:1"), before);

    // It is back, and named: attached to again.
    let mut two = Coordinator::listen(&network, &["two:1"]);
    first.name(1, &[(1, "one:1"), (3, "two:1")]).await;
    let _second = two.welcome_naming(3, &[(1, "one:1"), (3, "two:1")]).await;
    until(|| attached(&participant).len() == 2).await;
}

/// Whoever is away for a moment is attached to again a moment later, however often attempts failed meanwhile.
#[tokio::test(start_paused = true)]
async fn an_absence_of_a_second_costs_little_more_than_a_second() {
    let network = Network::default();
    let mut one = Coordinator::listen(&network, &["one:1"]);
    let participant = attach(&network, &["one:1"]).await;
    let mut stream = one.welcome(1).await;
    for _ in 0..20 {
        participant.attached().await;
        sleep(LONG).await;
        network.close("one:1");
        drop((stream, one));
        let away_since = Instant::now();
        sleep(Duration::from_secs(1)).await;
        one = Coordinator::listen(&network, &["one:1"]);
        stream = one.welcome(1).await;
        assert!(away_since.elapsed() < Duration::from_millis(1500), "{:?}", away_since.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn without_discovery_only_the_given_addresses_are_attached_to() {
    let network = Network::default();
    let mut one = Coordinator::listen(&network, &["one:1"]);
    let mut two = Coordinator::listen(&network, &["two:1"]);
    let _participant = Participant::builder(["http://one:1"])
        .connector(network.connector())
        .discovery(false)
        .resource(Memory::new("bank-a"))
        .start()
        .await
        .unwrap();
    let _first = one.welcome_naming(1, &[(1, "one:1"), (2, "two:1")]).await;
    sleep(LONG).await;
    assert!(!two.is_called());
}

/// One live session per coordinator: without the reserve the two streams would end each other for ever.
#[tokio::test(start_paused = true)]
async fn of_two_given_addresses_of_one_coordinator_one_waits_in_reserve() {
    let network = Network::default();
    let mut one = Coordinator::listen(&network, &["a:1"]);
    let mut same = Coordinator::listen(&network, &["b:1"]);
    let participant = attach(&network, &["a:1", "b:1"]).await;
    let by_a = one.welcome_naming(1, &[(1, "a:1")]).await;
    until(|| attached(&participant).len() == 1).await;
    // The coordinator ends the older stream before it welcomes the newer.
    let (by_b, _) = same.accept().await;
    by_a.supersede().await;
    by_b.name(1, &[(1, "a:1")]).await;
    sleep(LONG).await;
    assert!(!one.is_called() && !same.is_called(), "nobody ends the stream that is left");
    let states: Vec<_> = participant.sessions().into_iter().map(|session| session.state).collect();
    assert_eq!(states[0], SessionState::InReserve { of: "http://b:1".to_owned() });
    assert!(matches!(states[1], SessionState::Attached { incarnation: Some(_) }));

    // The one that is left is lost: the other one takes over, and they do not fight for it.
    network.close("b:1");
    drop(by_b);
    let by_a = one.welcome_naming(1, &[(1, "a:1")]).await;
    until(|| attached(&participant) == [("http://a:1".to_owned(), false)]).await;
    let mut same = Coordinator::listen(&network, &["b:1"]);
    sleep(LONG).await;
    assert!(!one.is_called() && !same.is_called());

    // A's process is another one now, and B leads to the first again: two coordinators, two streams.
    drop(by_a);
    let _another = one.welcome_naming(9, &[(9, "a:1")]).await;
    let _first = same.welcome_naming(1, &[(1, "b:1")]).await;
    until(|| attached(&participant).len() == 2).await;
}

/// A given address wins over a learned one, whichever was attached first.
#[tokio::test(start_paused = true)]
async fn a_learned_address_gives_way_to_a_given_one_of_the_same_coordinator() {
    let network = Network::default();
    let mut one = Coordinator::listen(&network, &["one:1"]);
    // The given address of the second one is not there yet.
    let mut learned = Coordinator::listen(&network, &["inside:1"]);
    let participant = attach(&network, &["one:1", "outside:1"]).await;
    let names = [(1, "one:1"), (2, "inside:1")];
    let _first = one.welcome_naming(1, &names).await;
    let by_learned = learned.welcome_naming(2, &names).await;
    until(|| attached(&participant).len() == 2).await;
    let mut given = Coordinator::listen(&network, &["outside:1"]);
    let (by_given, _) = given.accept().await;
    by_learned.supersede().await;
    by_given.name(2, &names).await;
    until(|| participant.sessions().len() == 2).await;
    let expected = [("http://one:1".to_owned(), false), ("http://outside:1".to_owned(), false)];
    until(|| attached(&participant) == expected).await;
    sleep(LONG).await;
    assert!(!one.is_called() && !given.is_called());

    // While the given one is away the learned one stands in, and gives way again.
    network.close("outside:1");
    drop((by_given, given));
    let by_learned = learned.welcome_naming(2, &names).await;
    until(|| attached(&participant).len() == 2).await;
    let mut given = Coordinator::listen(&network, &["outside:1"]);
    let (by_given, _) = given.accept().await;
    by_learned.supersede().await;
    by_given.name(2, &names).await;
    until(|| attached(&participant) == expected).await;
    sleep(LONG).await;
    assert!(!one.is_called() && !given.is_called() && !learned.is_called());
}
