//! What somebody writes who knows two-phase commit and has no coordinator: the same statements by the same
//! driver, both branches at once in each phase, a branch on one connection from begin to end. And what one
//! database alone does with the same two updates.

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgPool, Postgres};
use uuid::Uuid;

use super::bank::{Change, Transfers, UPDATE, pool};
use super::load::Worker;
use super::wire::{HandWrittenWork, OneDatabaseWork};
use crate::failure::Failure;

/// Where the safe variant keeps its decisions: a row for each committed transaction, and no row for others.
pub(super) const DECISIONS: &str = "CREATE TABLE hand_written_decisions (gid uuid PRIMARY KEY)";
/// Empties it.
pub(super) const FORGET: &str = "TRUNCATE hand_written_decisions";
/// Durable when it returns.
const DECIDE: &str = "INSERT INTO hand_written_decisions (gid) VALUES ($1)";

/// The pools of a service that does two-phase commit by itself.
pub(super) struct Pools {
    banks: [PgPool; 2],
    /// `None`: nothing is decided durably, and after a crash nobody knows what to do with what is prepared.
    decisions: Option<PgPool>,
}

impl Pools {
    /// Connects.
    pub(super) async fn open(work: &HandWrittenWork) -> Result<Self, Failure> {
        let banks =
            [pool(&work.banks[0], work.connections).await?, pool(&work.banks[1], work.connections).await?];
        let decisions = match &work.decisions {
            Some(url) => Some(pool(url, work.connections).await?),
            None => None,
        };
        Ok(Self { banks, decisions })
    }

    /// Tasks of the service.
    pub(super) fn workers(&self, in_flight: usize) -> Vec<HandWritten> {
        let worker = |place| HandWritten {
            banks: self.banks.clone(),
            decisions: self.decisions.clone(),
            transfers: Transfers::new(place, in_flight),
        };
        (0..in_flight).map(worker).collect()
    }

    /// Ends every connection: the servers are looked at once nobody is connected any more.
    pub(super) async fn close(self) {
        for pool in self.banks.into_iter().chain(self.decisions) {
            pool.close().await;
        }
    }
}

/// One of them.
pub(super) struct HandWritten {
    banks: [PgPool; 2],
    /// `None`: nothing is decided durably, and after a crash nobody knows what to do with what is prepared.
    decisions: Option<PgPool>,
    transfers: Transfers,
}

impl Worker for HandWritten {
    async fn once(&mut self) -> Result<u64, String> {
        let transaction = Uuid::now_v7();
        let [from, to] = self.transfers.draw();
        let (one, other) = tokio::join!(
            Branch::prepare(&self.banks[0], transaction, from),
            Branch::prepare(&self.banks[1], transaction, to),
        );
        let (one, other) = match (one, other) {
            (Ok(one), Ok(other)) => (one, other),
            (Ok(prepared), Err(error)) | (Err(error), Ok(prepared)) => {
                prepared.end("ROLLBACK PREPARED").await.ok();
                return Err(error.to_string());
            }
            (Err(error), Err(_)) => return Err(error.to_string()),
        };
        if let Some(decisions) = &self.decisions {
            let decided = sqlx::query(DECIDE).bind(transaction).execute(decisions).await;
            // Then nobody knows whether it was: both branches stay, and the audit finds them.
            decided.map_err(|error| error.to_string())?;
        }
        let (one, other) = tokio::join!(one.end("COMMIT PREPARED"), other.end("COMMIT PREPARED"));
        one.and(other).map(|()| 1).map_err(|error| error.to_string())
    }
}

/// A prepared branch, and the connection that it was prepared on.
struct Branch {
    connection: PoolConnection<Postgres>,
    name: Uuid,
}

impl Branch {
    async fn prepare(bank: &PgPool, name: Uuid, change: Change) -> Result<Self, sqlx::Error> {
        let mut connection = bank.acquire().await?;
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
        match Self::change(&mut connection, name, change).await {
            Ok(()) => Ok(Self { connection, name }),
            Err(error) => {
                // In the middle of something: not to be used again.
                connection.close_on_drop();
                Err(error)
            }
        }
    }

    async fn change(
        connection: &mut PoolConnection<Postgres>,
        name: Uuid,
        change: Change,
    ) -> Result<(), sqlx::Error> {
        let update = sqlx::query(UPDATE).bind(change.amount).bind(change.account);
        if update.execute(&mut **connection).await?.rows_affected() != 1 {
            return Err(sqlx::Error::RowNotFound);
        }
        // Cannot bind. A UUID holds nothing that could end the string.
        let prepare = format!("PREPARE TRANSACTION '{name}'");
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut **connection).await.map(drop)
    }

    async fn end(mut self, verb: &'static str) -> Result<(), sqlx::Error> {
        let end = format!("{verb} '{}'", self.name);
        sqlx::raw_sql(AssertSqlSafe(end)).execute(&mut *self.connection).await.map(drop)
    }
}

/// Tasks of a service whose accounts are all in one database.
pub(super) async fn in_one_database(
    work: &OneDatabaseWork,
    in_flight: usize,
) -> Result<Vec<OneDatabase>, Failure> {
    let bank = pool(&work.bank, work.connections).await?;
    let worker = |place| OneDatabase { bank: bank.clone(), transfers: Transfers::new(place, in_flight) };
    Ok((0..in_flight).map(worker).collect())
}

/// One of them.
pub(super) struct OneDatabase {
    bank: PgPool,
    transfers: Transfers,
}

impl Worker for OneDatabase {
    async fn once(&mut self) -> Result<u64, String> {
        let moved = async {
            let mut local = self.bank.begin().await?;
            for Change { account, amount } in self.transfers.draw() {
                sqlx::query(UPDATE).bind(amount).bind(account).execute(&mut *local).await?;
            }
            local.commit().await
        };
        moved.await.map(|()| 1).map_err(|error: sqlx::Error| error.to_string())
    }
}
