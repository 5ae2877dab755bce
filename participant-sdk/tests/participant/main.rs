//! The participant's shell over a real stream, against a coordinator that says what each test
//! needs, with a resource in memory. Rows of the failure matrix are cited by id.
//!
//! Where delays matter the network is in memory too, and time is simulated.

#![allow(clippy::unwrap_used, reason = "a broken fixture shall stop its test, with the place")]
#![allow(clippy::wildcard_enum_match_arm, reason = "whatever else came is shown")]

mod attach;
mod branches;
mod coordinator;
mod enlist;
mod independence;
mod inquiry;
mod members;
mod memory;
#[path = "../network/mod.rs"]
mod network;
mod operators;
mod quarantine;
mod stop;

use std::time::Duration;

use pactum::participant::Participant;
use pactum::{BranchId, Context, Gid, Incarnation, TransactionId};
use pactum_proto::v1;
use uuid::Uuid;

use crate::coordinator::{Coordinator, Stream};
use crate::memory::Memory;

/// The incarnation of the only coordinator, where there is one.
pub(crate) const OWNER: u128 = 7;

pub(crate) fn id(incarnation: u128) -> TransactionId {
    TransactionId {
        incarnation: Incarnation::from_uuid(Uuid::from_u128(incarnation)),
        gid: Gid::from_uuid(Uuid::now_v7()),
    }
}

pub(crate) fn context(incarnation: u128) -> Context {
    Context::new(id(incarnation), Duration::from_secs(30))
}

pub(crate) async fn participant(coordinator: &Coordinator, resource: &Memory) -> Participant {
    Participant::builder([coordinator.address.clone()])
        .resource(resource.clone())
        .scan_interval(Duration::from_millis(50))
        .start()
        .await
        .unwrap()
}

/// One coordinator, one participant attached to it, one resource.
pub(crate) struct World {
    pub(crate) coordinator: Coordinator,
    pub(crate) stream: Stream,
    pub(crate) participant: Participant,
    pub(crate) bank: Memory,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Memory::new("bank-a")).await
    }

    pub(crate) async fn with(bank: Memory) -> Self {
        let mut coordinator = Coordinator::start().await;
        let participant = participant(&coordinator, &bank).await;
        let stream = coordinator.welcome(OWNER).await;
        Self { coordinator, stream, participant, bank }
    }

    /// Does local work and enlists it.
    pub(crate) async fn enlisted(&mut self) -> (v1::TransactionId, v1::Branch) {
        let context = context(OWNER);
        let branch = BranchId::new(rand::random());
        self.bank.open(branch);
        let enlister = self.bank.enlister();
        let (added, seen) = tokio::join!(
            enlister.enlist(&context, self.bank.resource_name(), branch),
            self.stream.accept_enlist()
        );
        assert_eq!(context.enlisted(), [added.unwrap()]);
        (seen.id.unwrap(), seen.branch.unwrap())
    }
}

/// Waits until it is so.
pub(crate) async fn until(test: impl Fn() -> bool) {
    let waiting = async {
        while !test() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), waiting).await.expect("it never came to be so");
}
