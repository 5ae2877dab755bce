//! The inventory service: goods on a shelf, in a PostgreSQL database of its own.
//!
//! It knows no other service. What it does within somebody's transaction it does on an ordinary
//! connection, and then *enlists*: from there on the transaction's decision commits or rolls back.

use std::sync::Arc;

use pactum::resource::{NoVote, PostgresResource};
use pactum::{Context, Participant};
use prost::Message as _;
use sqlx::{PgConnection, PgPool};
use tonic::{Request, Response, Status};

use crate::service::{self, Environment};
use crate::wire::inventory::inventory_service_server::{InventoryService, InventoryServiceServer};
use crate::wire::inventory::{ReserveRequest, ReserveResponse};

/// Its name as a resource, which one-shot transactions address it by.
pub(crate) const NAME: &str = "inventory";

/// The one-shot operation; its payload is a [`ReserveRequest`].
pub(crate) const RESERVE: &str = "reserve";

const SCHEMA: &str = "
    CREATE TABLE items (id text PRIMARY KEY, on_hand bigint NOT NULL CHECK (on_hand >= 0));
    CREATE TABLE reservations (
        order_id text PRIMARY KEY,
        item text NOT NULL REFERENCES items,
        quantity bigint NOT NULL CHECK (quantity > 0)
    );
    INSERT INTO items VALUES ('lamp', 5), ('chair', 20);
";

/// Makes the tables, with goods to sell.
pub(crate) async fn create(database: &PgPool) -> sqlx::Result<()> {
    sqlx::raw_sql(SCHEMA).execute(database).await.map(drop)
}

/// The service's process.
pub(crate) async fn run(environment: Environment) -> anyhow::Result<()> {
    // A resource: this database, as transactions know it. The handler serves those that travel
    // whole in one request (`Pactum::submit`); calls are served below.
    let resource = PostgresResource::new(NAME, environment.database)?
        .operation(RESERVE, |connection, payload| {
            Box::pin(async move { reserve_whole(connection, payload).await })
        });
    // A participant: dials in to the coordinator, and stays attached. No port need be open for it.
    let builder = Participant::builder([environment.coordinator]).resource(resource.clone());
    let participant = builder.start().await?;
    service::attached(&participant).await?;
    let server = InventoryServiceServer::new(Inventory { resource });
    service::serve(tonic::service::Routes::new(server)).await?;
    participant.shutdown().await;
    Ok(())
}

#[derive(Debug)]
struct Inventory {
    resource: PostgresResource,
}

#[tonic::async_trait]
impl InventoryService for Inventory {
    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<ReserveResponse>, Status> {
        // The layer round the server found it in the request's headers.
        let context = Context::current().ok_or_else(service::outside)?;
        let mut branch = self.resource.begin(&context).await.map_err(service::not_now)?;
        // An error drops the branch, which rolls it back.
        let left = reserve(&mut branch, request.get_ref()).await.map_err(|no| service::refused(&no))?;
        branch.enlist().await.map_err(service::not_now)?;
        Ok(Response::new(ReserveResponse { left }))
    }
}

async fn reserve_whole(connection: &mut PgConnection, payload: Arc<[u8]>) -> Result<(), NoVote> {
    let request = ReserveRequest::decode(&*payload)
        .map_err(|error| NoVote::new(format!("the payload is no reservation: {error}")))?;
    reserve(connection, &request).await.map(drop)
}

/// The work itself: plain SQL, the same for a call and for a one-shot operation.
async fn reserve(connection: &mut PgConnection, request: &ReserveRequest) -> Result<i64, NoVote> {
    let ReserveRequest { order, item, quantity } = request;
    let left: Option<i64> = sqlx::query_scalar(
        "UPDATE items SET on_hand = on_hand - $2 WHERE id = $1 AND on_hand >= $2 RETURNING on_hand",
    )
    .bind(item)
    .bind(quantity)
    .fetch_optional(&mut *connection)
    .await?;
    let left = left.ok_or_else(|| NoVote::new(format!("there are not {quantity} of {item} on hand")))?;
    sqlx::query("INSERT INTO reservations VALUES ($1, $2, $3)")
        .bind(order)
        .bind(item)
        .bind(quantity)
        .execute(connection)
        .await?;
    Ok(left)
}
