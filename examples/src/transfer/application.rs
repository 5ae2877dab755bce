//! The application: takes orders, and has each reserved by one service and charged by the other,
//! both or neither. It has no database.

use std::time::Duration;

use anyhow::bail;
use pactum::context::{Client, ClientService};
use pactum::{
    AbortReason, Branch, CommitError, ContextLayer, Outcome, Pactum, Standing, Transaction, TransactionId,
    WithTransaction as _,
};
use prost::Message as _;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::Layer as _;

use crate::wire::inventory::ReserveRequest;
use crate::wire::inventory::inventory_service_client::InventoryServiceClient;
use crate::wire::ledger::ChargeRequest;
use crate::wire::ledger::ledger_service_client::LedgerServiceClient;
use crate::{inventory, ledger};

/// How often and how long a lost answer is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(500);
const ASK_TIMES: u32 = 20;

/// Goods for somebody.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) item: &'static str,
    pub(crate) quantity: i64,
    pub(crate) account: &'static str,
    /// In cents.
    pub(crate) amount: i64,
}

impl Order {
    fn reservation(&self) -> ReserveRequest {
        ReserveRequest { order: self.id.clone(), item: self.item.into(), quantity: self.quantity }
    }

    fn charge(&self) -> ChargeRequest {
        ChargeRequest { order: self.id.clone(), account: self.account.into(), amount: self.amount }
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// Reserved and charged.
    Accepted,
    /// Neither: a service answered a call with this.
    Refused(String),
    /// Neither: the transaction aborted.
    Aborted(AbortReason),
}

/// The application's connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pactum: Pactum,
    // Ordinary clients that tonic generated. The layer round the channel makes calls carry the
    // transaction that they are made in, and brings back which branches enlisted.
    inventory: InventoryServiceClient<ClientService<Channel>>,
    ledger: LedgerServiceClient<ClientService<Channel>>,
}

impl Shop {
    /// Connects to the coordinator and to the services.
    pub(crate) async fn connect(coordinator: &str, inventory: &str, ledger: &str) -> anyhow::Result<Self> {
        let layer: ContextLayer<Client> = ContextLayer::client();
        let channel =
            async |address: &str| Endpoint::from_shared(format!("http://{address}"))?.connect().await;
        Ok(Self {
            pactum: Pactum::connect(coordinator).await?,
            inventory: InventoryServiceClient::new(layer.layer(channel(inventory).await?)),
            ledger: LedgerServiceClient::new(layer.layer(channel(ledger).await?)),
        })
    }

    /// Places an order: the usual shape.
    pub(crate) async fn order(&self, order: &Order) -> anyhow::Result<Placed> {
        let tx = self.begin(order, Duration::from_secs(10)).await?;
        // The databases lock rows in the order of these calls. All orders do it in the same one, so
        // that no two of them can wait for each other.
        let calls = async {
            self.reserve(&tx, order).await?;
            self.charge(&tx, order).await
        };
        if let Err(status) = calls.await {
            // Dropping `tx` would abort it as well; this also tells operators why, and waits until
            // what was reserved is free again.
            tx.abort().message(status.message()).await?;
            return Ok(Placed::Refused(status.message().to_owned()));
        }
        self.commit(tx).await
    }

    /// Places an order in one request: the coordinator has both operations carried out. One round
    /// trip less, and nothing is locked while we think; but neither can need the other's answer.
    pub(crate) async fn order_at_once(&self, order: &Order, time: Duration) -> anyhow::Result<Placed> {
        let submit = self.pactum.submit().name("order at once").label("order", &order.id).timeout(time);
        let submit = submit
            .operation(inventory::NAME, inventory::RESERVE, order.reservation().encode_to_vec())
            .operation(ledger::NAME, ledger::CHARGE, order.charge().encode_to_vec());
        self.settle(submit.await).await
    }

    /// Begins an order's transaction. Makes no call.
    pub(crate) async fn begin(&self, order: &Order, time: Duration) -> anyhow::Result<Transaction> {
        Ok(self.pactum.begin().name("order").label("order", &order.id).timeout(time).await?)
    }

    /// Has the goods reserved within the transaction.
    pub(crate) async fn reserve(&self, tx: &Transaction, order: &Order) -> Result<(), Status> {
        self.inventory.clone().reserve(order.reservation()).with(tx).await.map(drop)
    }

    /// Has the account charged within the transaction.
    pub(crate) async fn charge(&self, tx: &Transaction, order: &Order) -> Result<(), Status> {
        self.ledger.clone().charge(order.charge()).with(tx).await.map(drop)
    }

    /// Commits what calls have enlisted.
    pub(crate) async fn commit(&self, tx: Transaction) -> anyhow::Result<Placed> {
        self.settle(tx.commit().await).await
    }

    async fn settle(&self, result: Result<Outcome, CommitError>) -> anyhow::Result<Placed> {
        match result {
            Ok(outcome) => Ok(outcome.into()),
            // The SDK has repeated the question already. It is neither accepted nor refused: to place
            // the order again now might charge it twice.
            Err(CommitError::Unknown { id, branches, .. }) => self.ask(id, branches).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn ask(&self, id: TransactionId, branches: Vec<Branch>) -> anyhow::Result<Placed> {
        for _ in 0..ASK_TIMES {
            if let Standing::Decided(outcome) = self.pactum.outcome(id, branches.clone()).await? {
                return Ok(outcome.into());
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        bail!("whether transaction {id} committed is still not known: keep its name, and ask later")
    }
}

impl From<Outcome> for Placed {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Committed { .. } => Self::Accepted,
            Outcome::Aborted { reason, .. } => Self::Aborted(reason),
        }
    }
}
