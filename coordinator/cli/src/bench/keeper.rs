//! A participant that speaks for a PostgreSQL database, as a service does with the SDK.

use std::str::FromStr as _;

use pactum::Participant;
use pactum::resource::PostgresResource;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::child::Parent;
use super::wire::{KeeperOrders, Report};
use crate::exit::Exit;
use crate::failure::Failure;

/// Of the service's own pool: here it does no work.
const SERVICE_CONNECTIONS: u32 = 2;

/// Attaches, reports, and serves until stdin ends.
pub(super) async fn run(orders: KeeperOrders, parent: &mut Parent) -> Result<(), Failure> {
    let failed = || Failure::new(Exit::Failed, "the participant could not be started");
    let options = PgConnectOptions::from_str(&orders.database).map_err(|error| failed().because(&error))?;
    let pool = PgPoolOptions::new().max_connections(SERVICE_CONNECTIONS).connect_lazy_with(options);
    let resource = PostgresResource::new(&orders.resource, pool).map_err(|error| failed().because(&error))?;
    let resource = resource.ending_connections(orders.connections);
    let started = Participant::builder([orders.coordinator]).resource(resource).start().await;
    let participant = started.map_err(|error| failed().because(&error))?;
    participant.attached().await;
    parent.report(&Report::Ready { public: None, admin: None }).await?;
    parent.gone().await;
    participant.shutdown().await;
    Ok(())
}
