//! The ceiling: rows like those that a coordinator writes, into the same table with the same indexes,
//! by the same driver, and nothing else.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use uuid::Uuid;

use super::load::Worker;
use super::wire::RowsWork;
use crate::exit::Exit;
use crate::failure::Failure;

/// Neither fence nor floor nor conflicts nor answers: what a log of decisions cannot do without
/// is Pactum's to pay for.
const INSERT: &str = "\
INSERT INTO pactum.decisions (gid, incarnation, number, decision, branches, details)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int8[], $4::text[], $5::text[], $6::text[])";

/// Writers with a connection each.
pub(super) async fn workers(work: &RowsWork, connections: usize) -> Result<Vec<Rows>, Failure> {
    let failed = |error: sqlx::Error| {
        Failure::new(Exit::CannotConnect, "no connection to the log's server").because(&error)
    };
    let options = PgConnectOptions::from_str(&work.url).map_err(failed)?;
    let mut workers = Vec::with_capacity(connections);
    for _ in 0..connections {
        workers.push(Rows {
            connection: options.connect().await.map_err(failed)?,
            incarnation: Uuid::new_v4(),
            number: 0,
            work: work.clone(),
        });
    }
    Ok(workers)
}

/// One connection.
pub(super) struct Rows {
    connection: PgConnection,
    incarnation: Uuid,
    number: i64,
    work: RowsWork,
}

impl Worker for Rows {
    async fn once(&mut self) -> Result<u64, String> {
        let RowsWork { batch, branches, details, .. } = &self.work;
        let first = self.number + 1;
        let numbers: Vec<i64> = (first..).take(*batch).collect();
        self.number = numbers.last().copied().unwrap_or(self.number);
        // Made in this order, they sort in this order.
        let gids: Vec<Uuid> = numbers.iter().map(|_| Uuid::now_v7()).collect();
        let written = sqlx::query(INSERT)
            .bind(gids)
            .bind(vec![self.incarnation; *batch])
            .bind(numbers)
            .bind(vec!["commit"; *batch])
            .bind(vec![branches.as_str(); *batch])
            .bind(vec![details.as_str(); *batch])
            .execute(&mut self.connection)
            .await
            .map_err(|error| error.to_string())?;
        Ok(written.rows_affected())
    }
}
