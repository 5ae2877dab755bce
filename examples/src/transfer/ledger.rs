//! The ledger service: customers' accounts, in a PostgreSQL database of its own. The same shape as
//! the inventory, which has the comments.

use std::sync::Arc;

use pactum::resource::{NoVote, PostgresResource};
use pactum::{Context, Participant};
use prost::Message as _;
use sqlx::{PgConnection, PgPool};
use tonic::{Request, Response, Status};

use crate::service::{self, Environment};
use crate::wire::ledger::ledger_service_server::{LedgerService, LedgerServiceServer};
use crate::wire::ledger::{ChargeRequest, ChargeResponse};

/// Its name as a resource.
pub(crate) const NAME: &str = "ledger";

/// The one-shot operation; its payload is a [`ChargeRequest`].
pub(crate) const CHARGE: &str = "charge";

const SCHEMA: &str = "
    CREATE TABLE accounts (id text PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
    CREATE TABLE charges (
        order_id text PRIMARY KEY,
        account text NOT NULL REFERENCES accounts,
        amount bigint NOT NULL CHECK (amount > 0)
    );
    INSERT INTO accounts VALUES ('ada', 100000), ('blaise', 30000);
";

/// Makes the tables, with money in the accounts.
pub(crate) async fn create(database: &PgPool) -> sqlx::Result<()> {
    sqlx::raw_sql(SCHEMA).execute(database).await.map(drop)
}

/// The service's process.
pub(crate) async fn run(environment: Environment) -> anyhow::Result<()> {
    let resource = PostgresResource::new(NAME, environment.database)?
        .operation(CHARGE, |connection, payload| {
            Box::pin(async move { charge_whole(connection, payload).await })
        });
    let builder = Participant::builder([environment.coordinator]).resource(resource.clone());
    let participant = builder.start().await?;
    service::attached(&participant).await?;
    let server = LedgerServiceServer::new(Ledger { resource });
    service::serve(tonic::service::Routes::new(server)).await?;
    participant.shutdown().await;
    Ok(())
}

#[derive(Debug)]
struct Ledger {
    resource: PostgresResource,
}

#[tonic::async_trait]
impl LedgerService for Ledger {
    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<ChargeResponse>, Status> {
        let context = Context::current().ok_or_else(service::outside)?;
        let mut branch = self.resource.begin(&context).await.map_err(service::not_now)?;
        let balance = charge(&mut branch, request.get_ref()).await.map_err(|no| service::refused(&no))?;
        branch.enlist().await.map_err(service::not_now)?;
        Ok(Response::new(ChargeResponse { balance }))
    }
}

async fn charge_whole(connection: &mut PgConnection, payload: Arc<[u8]>) -> Result<(), NoVote> {
    let request = ChargeRequest::decode(&*payload)
        .map_err(|error| NoVote::new(format!("the payload is no charge: {error}")))?;
    charge(connection, &request).await.map(drop)
}

async fn charge(connection: &mut PgConnection, request: &ChargeRequest) -> Result<i64, NoVote> {
    let ChargeRequest { order, account, amount } = request;
    let balance: Option<i64> = sqlx::query_scalar(
        "UPDATE accounts SET balance = balance - $2 WHERE id = $1 AND balance >= $2 RETURNING balance",
    )
    .bind(account)
    .bind(amount)
    .fetch_optional(&mut *connection)
    .await?;
    let balance = balance
        .ok_or_else(|| NoVote::new(format!("the account of {account} holds less than {amount} cents")))?;
    sqlx::query("INSERT INTO charges VALUES ($1, $2, $3)")
        .bind(order)
        .bind(account)
        .bind(amount)
        .execute(connection)
        .await?;
    Ok(balance)
}
