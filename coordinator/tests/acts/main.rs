//! Operators' acts: what a plan says, what is done and what is refused, and what the audit tells of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

#[path = "../common/mod.rs"]
mod common;

mod doubt;
mod ending;
mod lists;
mod overruling;
mod performing;
mod plans;
mod recovering;

use std::time::Duration;

use common::database::Database;
use common::{Node, soon, until};
use pactum_coordinator::Config;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::{DecisionLog as _, ListPage};
use pactum_core::id::Gid;
use pactum_proto::v1;
use v1::BranchPresence as Presence;

/// Questions of operators are given up soon, and prepare records are written at once.
fn config() -> Config {
    Config {
        examine_timeout: Duration::from_millis(300),
        finished_bound: Duration::from_millis(200),
        prepare_record_after: Duration::ZERO,
        ..common::config()
    }
}

/// A coordinator, and participants of `bank-a` and `bank-b`.
struct Scene {
    node: Node,
    a: Database,
    b: Database,
}

type Outcome = tokio::task::JoinHandle<Result<v1::Outcome, tonic::Status>>;

impl Scene {
    async fn new() -> Self {
        Self::on(MemoryLog::new()).await
    }

    async fn on(log: MemoryLog) -> Self {
        let node = Node::with(config(), log).await;
        let (a, b) = (Database::attach(&node, "bank-a").await, Database::attach(&node, "bank-b").await);
        Self { node, a, b }
    }

    /// Another coordinator on the same log, with the same participants.
    async fn another(&self) -> Self {
        let node = Node::with(config(), self.node.log.clone()).await;
        let (a, b) = (self.a.also_at(&node).await, self.b.also_at(&node).await);
        Self { node, a, b }
    }

    /// A transaction of which `bank-a` has voted and `bank-b` never will; its commit is asked for.
    async fn undecided(&mut self) -> (v1::TransactionId, Outcome) {
        self.b.habits(|habits| habits.votes = false);
        let id = self.node.draw().await;
        let (in_a, in_b) = (self.a.enlist(&id, 1).await, self.b.enlist(&id, 2).await);
        let commit = self.node.commit(&id, &[&in_a, &in_b], v1::Wait::Decision);
        self.a.stands(&id, 1, Presence::Prepared).await;
        (id, commit)
    }

    /// Waits for its prepare record, which names at least one of its branches.
    async fn recorded(&self, id: &v1::TransactionId) {
        let gid = Gid::from_slice(&id.gid).unwrap();
        let part = Some(gid.as_uuid().simple().to_string());
        let page = ListPage { limit: 1, part, ..ListPage::default() };
        until("the prepare record", async || !self.node.log.list(&page).await.unwrap().is_empty()).await;
    }

    /// A transaction that is committed, and that `bank-b` cannot finish.
    async fn committing(&mut self) -> v1::TransactionId {
        self.b.habits(|habits| habits.finishes = false);
        let id = self.node.draw().await;
        let (in_a, in_b) = (self.a.enlist(&id, 1).await, self.b.enlist(&id, 2).await);
        let commit = self.node.commit(&id, &[&in_a, &in_b], v1::Wait::Decision);
        let outcome = soon("the outcome", commit).await.unwrap().unwrap();
        assert_eq!(outcome.state(), v1::OutcomeState::Committed);
        self.a.stands(&id, 1, Presence::Committed).await;
        id
    }

    /// A transaction that is committed and finished, as the log knows.
    async fn committed(&mut self) -> v1::TransactionId {
        let id = self.node.draw().await;
        let (in_a, in_b) = (self.a.enlist(&id, 1).await, self.b.enlist(&id, 2).await);
        let commit = self.node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
        let outcome = soon("the outcome", commit).await.unwrap().unwrap();
        assert_eq!(outcome.state(), v1::OutcomeState::Committed);
        self.ended(&id, v1::TransactionState::Committed).await;
        id
    }

    /// A transaction that was resolved, while `bank-b` cannot roll its branch back.
    async fn aborted(&mut self) -> v1::TransactionId {
        let (id, commit) = self.undecided().await;
        self.b.put(&id, 2, Presence::Prepared);
        self.b.habits(|habits| habits.finishes = false);
        self.node.act(common::acts::resolve(&id.gid), "stuck").await.unwrap();
        let outcome = soon("the outcome", commit).await.unwrap().unwrap();
        assert_eq!(outcome.state(), v1::OutcomeState::Aborted);
        self.ended(&id, v1::TransactionState::Aborted).await;
        self.b.habits(|habits| habits.votes = true);
        id
    }

    async fn ended(&self, id: &v1::TransactionId, state: v1::TransactionState) {
        let gid = common::acts::digits(&id.gid);
        until("its end", async || {
            let request = v1::InspectTransactionRequest { gid: gid.clone(), examine: false };
            let shown = self.node.admin.clone().inspect_transaction(request).await.unwrap().into_inner();
            shown.transaction.unwrap().state() == state
        })
        .await;
    }

    /// Lets everything come to its end.
    async fn end(self) {
        let Self { node, a, b } = self;
        for bank in [&a, &b] {
            bank.habits(|habits| {
                habits.votes = true;
                habits.finishes = true;
                habits.hears = true;
            });
        }
        soon("the end", node.end()).await;
        drop((a, b));
    }
}
