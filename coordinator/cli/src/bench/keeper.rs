//! A participant that speaks for a PostgreSQL database, as a service does with the SDK.

use std::str::FromStr as _;

use pactum::resource::PostgresResource;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::child::{Parent, not_started, participate};
use super::wire::KeeperOrders;
use crate::failure::Failure;

/// Of the service's own pool: here it does no work.
const SERVICE_CONNECTIONS: u32 = 2;

/// Attaches, reports, and serves until stdin ends.
pub(super) async fn run(orders: KeeperOrders, parent: &mut Parent) -> Result<(), Failure> {
    let options = PgConnectOptions::from_str(&orders.database).map_err(|error| not_started(&error))?;
    let pool = PgPoolOptions::new().max_connections(SERVICE_CONNECTIONS).connect_lazy_with(options);
    let resource = PostgresResource::new(&orders.resource, pool).map_err(|error| not_started(&error))?;
    participate(resource.ending_connections(orders.connections), orders.coordinator, parent).await
}
