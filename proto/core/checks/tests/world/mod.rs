//! A whole cluster in one value: the real cores of both roles, around them a model of the log, of
//! the participants' databases, and of a network that loses, repeats, delays and reorders.
//!
//! `exhaustive.rs` walks every interleaving of small worlds; `simulation.rs` walks long random
//! paths through larger ones. Both take the same steps, and after each one the same invariants
//! (`invariants.rs`) are asked.
//!
//! What the model allows, beyond what the cores order:
//! * a message may be delivered never, late, repeatedly, and in any order, while the stream that
//!   carries it lives; with a crash its stream and all that is in it is gone;
//! * a log write may be applied and answered, applied with its answer lost, or refused an answer
//!   and applied later or never, also after its coordinator died;
//! * a database statement may land after the process that sent it died (D1);
//! * what is rarer stands in `misfortune.rs`: an instance that is lost, a branch ended by hand or back
//!   after its end, a floor that is raised, and a log that goes back in time.

#![allow(clippy::unwrap_used, reason = "a broken model shall stop the checker")]
#![allow(dead_code, unreachable_pub, reason = "each checker uses its part of the world")]

pub mod coordinators;
pub mod database;
pub mod encounters;
pub mod invariants;
pub mod log;
pub mod message;
pub mod misfortune;
pub mod network;
pub mod participants;
pub mod scope;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pactum_core_checked::coordinator::RequestId;
use pactum_core_checked::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core_checked::outcome::HeuristicOutcome;
use pactum_core_checked::participant::{self, BranchKey};
use pactum_core_checked::time::Timestamp;
use pactum_core_checked::vote::{AbortKind, AbortReason};
use uuid::Uuid;

pub use coordinators::CoordinatorNode;
pub use database::{DatabaseMutant, Held};
pub use encounters::Encounters;
pub use log::{Log, LogMutant, Write};
pub use message::{Asks, Message, ToCoordinator, ToParticipant};
use network::Asked;
pub use participants::ParticipantNode;
pub use scope::{Scope, Shared};

/// How long a transaction has, in the model.
pub const TIMEOUT: Duration = Duration::from_secs(10);

pub fn incarnation(n: usize) -> Incarnation {
    Incarnation::from_uuid(Uuid::from_u128(1000 + n as u128))
}

pub fn gid(n: usize) -> Gid {
    Gid::from_uuid(Uuid::from_u128(1 + n as u128))
}

/// What an application was told of one transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Told {
    Committed,
    /// Committed with nothing written: a later answer may be aborted, and no data differ (H9).
    ReadOnly,
    Aborted,
}

/// One transaction of the workload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Transaction {
    pub id: TransactionId,
    pub branches: BTreeSet<Branch>,
    pub told: BTreeSet<Told>,
    /// What anybody else was told who asked: operators, and whoever wants to know its outcome.
    pub shown: BTreeSet<Told>,
    /// The outcome against the decision that was last told with it.
    pub heuristic: Option<HeuristicOutcome>,
}

impl Transaction {
    /// Whether anybody was told that.
    pub fn was_told(&self, what: Told) -> bool {
        self.told.contains(&what) || self.shown.contains(&what)
    }
}

/// Everything, in one value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub scope: Shared,
    pub coordinators: Vec<CoordinatorNode>,
    pub runs: usize,
    pub log: Log,
    pub participants: Vec<ParticipantNode>,
    pub network: BTreeMap<Message, u8>,
    pub transactions: Vec<Transaction>,
    /// What must never happen, in words, once it has.
    pub broken: Option<String>,
    /// Requests not answered yet, and which transaction they are about. Inquiries: which branch.
    asked: BTreeMap<(usize, RequestId), Asked>,
    /// What met whom in which state, if that is kept.
    pub encounters: Encounters,
}

impl World {
    /// All processes up; every transaction's local work is done and enlisted at its participants;
    /// every application is about to ask its owner to commit.
    pub fn new(scope: Scope) -> Self {
        let scope = Shared::new(scope);
        let mut world = Self {
            coordinators: Vec::new(),
            runs: 0,
            log: Log::new(&scope),
            participants: Vec::new(),
            network: BTreeMap::new(),
            transactions: Vec::new(),
            broken: None,
            asked: BTreeMap::new(),
            encounters: Encounters::default(),
            scope: scope.clone(),
        };
        for _ in 0..scope.coordinators {
            world.coordinators.push(CoordinatorNode { core: None, run: 0, paused: false });
        }
        for place in 0..scope.coordinators {
            world.start_coordinator(place, Timestamp::ORIGIN);
        }
        for place in 0..scope.participants {
            world.participants.push(ParticipantNode::new(place, &scope));
        }
        world
    }

    /// Begins the next transaction of the scope at the owner in that place, does its local work,
    /// and has its application ask to commit.
    pub fn begin(&mut self, owner: usize, now: Timestamp) {
        let number = self.transactions.len();
        let run = self.coordinators[owner].run;
        let id = TransactionId { incarnation: incarnation(run), gid: gid(number) };
        let mut branches = BTreeSet::new();
        for place in self.scope.transactions[number % self.scope.transactions.len()].clone() {
            let branch = self.participants[place].branch(number, self.scope.marker);
            if self.scope.one_shot {
                branches.insert(branch);
                continue;
            }
            let home = self.scope.home(place);
            self.participants[home].database.begin(BranchKey { id, branch: branch.id });
            let deadline = now + TIMEOUT;
            let enlisted = participant::Event::Enlisted { branch: branch.clone(), id, deadline };
            self.tell_participant(place, enlisted, now);
            if self.scope.talkative {
                let body = ToCoordinator::Enlist { id, branch: branch.clone() };
                self.send(Message::ToCoordinator { to: run, from: place, body });
            }
            branches.insert(branch);
        }
        self.transactions.push(Transaction {
            id,
            branches,
            told: BTreeSet::new(),
            shown: BTreeSet::new(),
            heuristic: None,
        });
        self.send(Message::Commit { to: owner, transaction: number });
    }

    /// The owner's place, while the run that owns the transaction is the one in it.
    pub fn owner(&self, transaction: usize) -> Option<usize> {
        let incarnation_of = self.transactions[transaction].id.incarnation;
        self.coordinators
            .iter()
            .position(|node| node.core.is_some() && incarnation(node.run) == incarnation_of)
    }

    pub fn break_promise(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Whether a record that stands, or ever stood, for a transaction is a commit.
    pub fn logged_commit(&self, transaction: usize) -> bool {
        self.log.committed.contains(&self.transactions[transaction].id)
    }
}

pub fn reason(kind: AbortKind) -> AbortReason {
    AbortReason::new(kind, "because")
}

pub fn resource(place: usize) -> ResourceName {
    ResourceName::new(&format!("bank-{place}")).unwrap()
}

pub fn instance(place: usize, life: usize) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(1 + (place * 1000 + life) as u128))
}

pub fn branch_id(transaction: usize, place: usize) -> BranchId {
    BranchId::new((transaction * 100 + place) as u64)
}

/// The participant of a branch.
pub fn place_of(branch: BranchId) -> usize {
    usize::try_from(branch.number()).unwrap() % 100
}
