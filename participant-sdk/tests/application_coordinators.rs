//! Applications and several coordinators, each of which answers by a script: finding them, leaving them,
//! and asking elsewhere about a commit whose coordinator died. In simulated time.
//!
//! What every coordinator was told is compared: one gid, one set of branches, whoever is asked.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, stop at what they did not expect")]

mod network;
#[path = "application/script.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod script;

use std::collections::BTreeSet;
use std::time::Duration;

use network::Network;
use pactum::{
    AbortKind, Certainty, CommitError, Gid, Incarnation, Outcome, Pactum, Transaction, TransactionId,
};
use pactum_core::coordinator::TransactionOutcome;
use pactum_proto::v1;
use pactum_proto::v1::pipeline_call::Call;
use script::{
    Coordinator, Greeting, Reply, aborted, branch, branches, committed, gid, welcome, welcome_naming,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Far longer than any delay of the SDK.
const LONG: Duration = Duration::from_mins(2);

fn incarnation(number: u128) -> Incarnation {
    Incarnation::from_uuid(Uuid::from_u128(number))
}

/// Both of two coordinators, as each names them.
fn both() -> [(Incarnation, &'static str); 2] {
    [(incarnation(1), "one:1"), (incarnation(2), "two:1")]
}

fn pending() -> Reply {
    Reply::Outcome(TransactionOutcome::Pending)
}

async fn until(test: impl Fn() -> bool) {
    let waiting = async {
        while !test() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.expect("it never came to be so");
}

/// World coordinators with a script each; the application was given the address of the first.
struct World {
    network: Network,
    one: Coordinator,
    two: Coordinator,
    pactum: Pactum,
}

impl World {
    async fn start(
        first: impl FnMut(usize, &Call) -> Reply + Send + 'static,
        second: impl FnMut(usize, &Call) -> Reply + Send + 'static,
    ) -> Self {
        let network = Network::default();
        let listen = |number, authority: &'static str, greeting| (incarnation(number), [authority], greeting);
        let (of_one, at, greeting) = listen(1, "one:1", welcome_naming(incarnation(1), &both()));
        let one = Coordinator::listen(&network, &at, of_one, greeting, first);
        let (of_two, at, greeting) = listen(2, "two:1", welcome_naming(incarnation(2), &both()));
        let two = Coordinator::listen(&network, &at, of_two, greeting, second);
        let pactum = connect(&network, &["one:1"]).await;
        until(|| pactum.coordinators().len() == 2).await;
        Self { network, one, two, pactum }
    }

    /// A transaction with two branches that the first coordinator owns.
    async fn begun(&self) -> Transaction {
        let transaction = owned_by(&self.pactum, self.one.incarnation).await;
        transaction.context().record_enlisted(branch(2));
        transaction.context().record_enlisted(branch(1));
        transaction
    }

    /// The first coordinator dies with what it was told.
    fn kill_one(&self) {
        self.network.close("one:1");
        self.one.greet(Greeting::Refuse);
    }

    fn kill_two(&self) {
        self.network.close("two:1");
        self.two.greet(Greeting::Refuse);
    }

    /// Everything that either was told names this transaction, and commits the same branches.
    fn assert_only(&self, id: TransactionId) {
        let calls = [self.one.calls(), self.two.calls()].concat();
        assert!(!calls.is_empty());
        for call in &calls {
            assert_eq!((gid(call), owner(call)), (id.gid, id.incarnation));
            assert_eq!(branches(call), [branch(1), branch(2)]);
        }
    }
}

async fn connect(network: &Network, authorities: &[&str]) -> Pactum {
    let addresses = authorities.iter().map(|authority| format!("http://{authority}"));
    Pactum::builder(addresses).connector(network.connector()).connect().await.unwrap()
}

async fn owned_by(pactum: &Pactum, owner: Incarnation) -> Transaction {
    // Half of all gids fall to it, or all; a dropped one that nobody heard of is told to nobody.
    for _ in 0..1000 {
        let transaction = pactum.begin().await.unwrap();
        if transaction.id().incarnation == owner {
            return transaction;
        }
    }
    panic!("no transaction falls to {owner}")
}

fn owner(call: &Call) -> Incarnation {
    let id = match call {
        Call::Commit(call) => &call.id,
        Call::Submit(call) => &call.id,
        Call::Abort(call) => &call.id,
        Call::GetTransaction(call) => &call.id,
    };
    Incarnation::from_slice(&id.as_ref().unwrap().incarnation).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_another_one_names_is_used() {
    let world = World::start(|_, _| committed(), |_, _| committed()).await;
    assert_eq!(world.pactum.coordinators(), ["http://one:1", "http://two:1"]);
    let transaction = owned_by(&world.pactum, incarnation(2)).await;
    transaction.context().record_enlisted(branch(1));
    let id = transaction.id();
    assert!(transaction.commit().await.unwrap().is_committed());
    assert_eq!(world.two.calls().iter().map(gid).collect::<Vec<_>>(), [id.gid]);
    assert_eq!(world.one.calls(), [], "its owner was there to be asked");
    // New transactions are spread over both, and each is committed at its owner.
    let mut owners = BTreeSet::new();
    for _ in 0..64 {
        owners.insert(world.pactum.begin().await.unwrap().id().incarnation);
    }
    assert_eq!(owners.len(), 2);
}

/// Each is named by another address in each view: the incarnation tells that they are two, and not four.
#[tokio::test(start_paused = true)]
async fn coordinators_are_told_apart_by_incarnation_and_not_by_address() {
    let world = World::start(|_, _| committed(), |_, _| committed()).await;
    let aliases = [(incarnation(1), "alias-of-one:1"), (incarnation(2), "alias-of-two:1")];
    let _nobody = world.network.listen(&["alias-of-one:1", "alias-of-two:1"]);
    world.one.greet(welcome_naming(incarnation(1), &aliases));
    world.two.greet(welcome_naming(incarnation(2), &aliases));
    sleep(LONG).await;
    assert_eq!((world.network.dials("alias-of-one:1"), world.network.dials("alias-of-two:1")), (0, 0));
    assert_eq!(world.pactum.coordinators().len(), 2);
    assert_eq!((world.one.opened(), world.two.opened()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_is_let_go_when_nobody_names_it_and_it_cannot_be_reached() {
    let world = World::start(|_, _| committed(), |_, _| committed()).await;
    world.kill_two();
    until(|| world.pactum.coordinators().len() == 1).await;
    sleep(LONG).await;
    let before = world.network.dials("two:1");
    assert!(before > 2, "it is named, so it is tried again");
    world.one.greet(welcome_naming(incarnation(1), &both()[..1]));
    sleep(LONG).await;
    let before = world.network.dials("two:1");
    sleep(LONG).await;
    assert_eq!(world.network.dials("two:1"), before);
    assert_eq!(world.pactum.coordinators(), ["http://one:1"]);
}

/// A4, A5: (a) the owner dies with the decision's write in flight, and it stands.
#[tokio::test(start_paused = true)]
async fn a_commit_whose_owner_died_is_told_committed_by_another() {
    let world =
        World::start(|_, _| Reply::Silence, |number, _| if number < 9 { pending() } else { committed() })
            .await;
    let transaction = world.begun().await;
    let id = transaction.id();
    let commit = tokio::spawn(transaction.commit().into_future());
    world.one.wait_for_calls(1).await;
    world.kill_one();
    let outcome = commit.await.unwrap().unwrap();
    assert!(outcome.is_committed());
    assert_eq!((world.one.calls().len(), world.two.calls().len()), (1, 10));
    world.assert_only(id);
}

/// A2, A3: (b) the owner dies before it decided, and its transaction is closed.
#[tokio::test(start_paused = true)]
async fn a_commit_whose_owner_died_is_told_aborted_by_another() {
    let world = World::start(
        |_, _| Reply::Silence,
        |number, _| if number < 3 { pending() } else { aborted(AbortKind::OwnerEnded) },
    )
    .await;
    let transaction = world.begun().await;
    let id = transaction.id();
    let commit = tokio::spawn(transaction.commit().into_future());
    world.one.wait_for_calls(1).await;
    let died = Instant::now();
    world.kill_one();
    let outcome = commit.await.unwrap().unwrap();
    assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::OwnerEnded);
    assert!(died.elapsed() < Duration::from_secs(3), "no delay grows: {:?}", died.elapsed());
    world.assert_only(id);
}

/// Law 5: (c) both die. Nothing is guessed, and the error says what to ask about.
#[tokio::test(start_paused = true)]
async fn a_commit_that_nobody_is_left_to_tell_of_is_unknown() {
    let world = World::start(|_, _| Reply::Silence, |_, _| pending()).await;
    let transaction = world.begun().await;
    let id = transaction.id();
    let commit = tokio::spawn(transaction.commit().into_future());
    world.one.wait_for_calls(1).await;
    world.kill_one();
    world.two.wait_for_calls(1).await;
    world.kill_two();
    let error = commit.await.unwrap().unwrap_err();
    assert_eq!((error.certainty(), error.id()), (Certainty::MayHaveHappened, Some(id)));
    let CommitError::Unknown { branches, .. } = error else { panic!("{error}") };
    assert_eq!(branches.iter().collect::<BTreeSet<_>>(), [branch(1), branch(2)].iter().collect());
    world.assert_only(id);
}

/// A11: (d) the owner is back as another incarnation, and is asked about the old one's transaction.
#[tokio::test(start_paused = true)]
async fn a_commit_is_asked_of_the_next_incarnation_of_its_owner() {
    let world =
        World::start(|number, _| if number == 0 { Reply::Silence } else { committed() }, |_, _| pending())
            .await;
    world.kill_two();
    until(|| world.pactum.coordinators().len() == 1).await;
    let transaction = world.begun().await;
    let id = transaction.id();
    let commit = tokio::spawn(transaction.commit().into_future());
    world.one.wait_for_calls(1).await;
    world.one.greet(Greeting::Refuse);
    until(|| world.pactum.coordinators().is_empty()).await;
    world.one.greet(welcome(Some(incarnation(3)), Gid::NIL));
    assert!(commit.await.unwrap().unwrap().is_committed());
    assert_eq!(world.one.calls().len(), 2);
    world.assert_only(id);
}

/// A10: the owner hangs with its stream open. It does not get all the time that there is: another one is
/// asked while there still is some.
#[tokio::test(start_paused = true)]
async fn an_owner_that_hangs_is_passed_over() {
    let world = World::start(|_, _| Reply::Silence, |_, _| aborted(AbortKind::OwnerEnded)).await;
    let addresses = ["http://one:1", "http://two:1"];
    let hasty = Pactum::builder(addresses).connector(world.network.connector()).grace(Duration::from_secs(3));
    let hasty = hasty.connect().await.unwrap();
    until(|| hasty.coordinators().len() == 2).await;
    let transaction = loop {
        // Less in all than an answer is waited for where there is nobody else to ask.
        let transaction = hasty.begin().timeout(Duration::from_secs(10)).await.unwrap();
        if transaction.id().incarnation == world.one.incarnation {
            break transaction;
        }
    };
    transaction.context().record_enlisted(branch(1));
    transaction.context().record_enlisted(branch(2));
    let id = transaction.id();
    let outcome = transaction.commit().await.unwrap();
    assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::OwnerEnded);
    world.assert_only(id);
}

/// A6: how long the lease of a dead owner lasts nobody knows; when it has lapsed the answer is had at once.
#[tokio::test(start_paused = true)]
async fn a_definite_answer_is_not_waited_for_longer_the_later_it_comes() {
    for seconds in [2, 3, 5, 8, 9, 13, 17, 21] {
        let known_at = Instant::now() + Duration::from_secs(seconds);
        let second = move |_: usize, _: &Call| {
            if Instant::now() < known_at { pending() } else { aborted(AbortKind::OwnerEnded) }
        };
        let world = World::start(|_, _| Reply::Silence, second).await;
        let transaction = world.begun().await;
        let commit = tokio::spawn(transaction.commit().into_future());
        world.one.wait_for_calls(1).await;
        world.kill_one();
        let outcome = commit.await.unwrap().unwrap();
        assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::OwnerEnded);
        let late = Instant::now().duration_since(known_at);
        assert!(late <= Duration::from_millis(600), "{late:?} late after {seconds} s");
    }
}

/// The coordinator that answers *undecided* is not asked for ever: another may know more.
#[tokio::test(start_paused = true)]
async fn who_knows_nothing_is_not_the_only_one_asked() {
    let world = World::start(|_, _| pending(), |_, _| aborted(AbortKind::OwnerEnded)).await;
    let transaction = world.begun().await;
    let id = transaction.id();
    let outcome = transaction.commit().await.unwrap();
    assert_eq!(outcome.abort_reason().unwrap().kind, AbortKind::OwnerEnded);
    assert_eq!(world.two.calls().len(), 1);
    world.assert_only(id);
}

/// H2: a one-shot transaction whose owner died is never executed a second time: whoever is asked gets the
/// same name and body, which to anybody but the owner is a look-up, and no other name is ever drawn.
#[tokio::test(start_paused = true)]
async fn a_submit_whose_owner_died_is_asked_about_and_never_submitted_anew() {
    let second = |number: usize, _: &Call| match number {
        0..4 => pending(),
        _ => Reply::Outcome(TransactionOutcome::NoRecord),
    };
    let network = Network::default();
    let greeting = welcome_naming(incarnation(1), &both());
    let one = Coordinator::listen(&network, &["one:1"], incarnation(1), greeting, |_, _| Reply::Silence);
    // Takes no new transactions, so that the first one owns this.
    let two = Coordinator::listen(&network, &["two:1"], incarnation(2), welcome(None, Gid::NIL), second);
    let pactum = connect(&network, &["one:1", "two:1"]).await;
    until(|| pactum.coordinators().len() == 2).await;
    let submit = tokio::spawn(pactum.submit().operation("bank-a", "debit", "1").into_future());
    let [Call::Submit(first)] = &one.wait_for_calls(1).await[..] else { panic!("not one submit") };
    network.close("one:1");
    one.greet(Greeting::Refuse);
    // From here on another owner is to be had, and a new name could be drawn.
    two.greet(welcome(Some(incarnation(2)), Gid::NIL));
    let error = submit.await.unwrap().unwrap_err();
    assert!(matches!(error, CommitError::NoRecord { .. }), "{error}");
    assert_eq!(error.certainty(), Certainty::MayHaveHappened);
    let without_time = |submit: &v1::SubmitRequest| v1::SubmitRequest { timeout: None, ..submit.clone() };
    for call in two.calls() {
        let Call::Submit(again) = &call else { panic!("{call:?}") };
        assert_eq!(without_time(again), without_time(first));
    }
    assert_eq!(two.calls().len(), 5);
}

/// World given addresses lead to one coordinator: one stream is kept, the other address is the reserve.
#[tokio::test(start_paused = true)]
async fn of_two_given_addresses_of_one_coordinator_one_waits_in_reserve() {
    let network = Network::default();
    let greeting = || welcome(Some(incarnation(1)), Gid::NIL);
    let of_one = incarnation(1);
    // One coordinator with two doors.
    let front = Coordinator::listen(&network, &["a:1"], of_one, greeting(), |_, _| Reply::Silence);
    let back = Coordinator::listen(&network, &["b:1"], of_one, greeting(), |_, _| committed());
    let pactum = connect(&network, &["a:1", "b:1"]).await;
    sleep(LONG).await;
    assert_eq!(pactum.coordinators().len(), 1);
    assert_eq!((front.opened(), back.opened()), (1, 1), "each was looked at once, and one is kept");
    let doors = if pactum.coordinators() == ["http://a:1"] { [&front, &back] } else { [&back, &front] };
    let [kept, reserve] = doors;

    kept.greet(Greeting::Refuse);
    until(|| pactum.coordinators() == [reserve.address.as_str()]).await;
    // The first is back: it is the reserve now.
    kept.greet(greeting());
    sleep(LONG).await;
    assert_eq!(pactum.coordinators(), [reserve.address.as_str()]);
    assert_eq!(kept.opened(), 2, "once more to see whom it leads to");

    // It takes over again, and behind the other address there is another coordinator now: both are used.
    reserve.greet(Greeting::Refuse);
    until(|| pactum.coordinators() == [kept.address.as_str()]).await;
    reserve.greet(welcome(Some(incarnation(2)), Gid::NIL));
    until(|| pactum.coordinators().len() == 2).await;

    // Until its coordinator takes the incarnation of the first, on the open stream.
    reserve.greet(greeting());
    until(|| pactum.coordinators() == [kept.address.as_str()]).await;
}

/// The same outcome is told to everybody who asks anybody.
#[tokio::test(start_paused = true)]
async fn an_outcome_is_asked_of_anybody_when_its_owner_is_gone() {
    let world = World::start(|_, _| Reply::Silence, |_, _| committed()).await;
    let id = world.begun().await.id();
    world.kill_one();
    until(|| world.pactum.coordinators() == ["http://two:1"]).await;
    let standing = world.pactum.outcome(id, [branch(1), branch(2)]).await.unwrap();
    let read_only = false;
    let expected = Outcome::Committed { read_only, unfinished: Vec::new(), heuristic: None };
    assert_eq!(standing, pactum::Standing::Decided(expected));
    let asked = world.two.calls();
    assert!(asked.iter().any(|call| matches!(call, Call::GetTransaction(_)) && gid(call) == id.gid));
}
