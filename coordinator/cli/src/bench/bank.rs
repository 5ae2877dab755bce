//! The banks of `pactum bench transfer`: a database with accounts, the one statement that everybody changes
//! them by, and the participant that speaks for one of them. Whoever transfers, by whatever protocol, uses
//! the pool and the statement of this file.

use std::str::FromStr as _;
use std::sync::Arc;

use pactum::resource::{NoVote, PostgresResource};
use pactum_postgres_server::PostgresServer;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::{Duration, Instant, sleep};

use super::child::{Parent, not_started, participate};
use super::place::{connect, settings, start_server};
use super::wire::BankOrders;
use crate::exit::Exit;
use crate::failure::Failure;

/// Accounts of a bank: enough that their rows lie on many pages, few enough to be made at once.
pub(super) const ACCOUNTS: u32 = 100_000;
/// What each holds at first: more than any run can move.
const BALANCE: i64 = 1_000_000_000;

/// Connections of one database's pool at most, for whatever number of transfers: PostgreSQL gains
/// nothing from more.
pub(super) const CONNECTIONS_MAX: u32 = 64;

/// Connections that the server admits beyond one pool: Pactum's for ending branches, and ours for counting.
const CONNECTIONS_MORE: u32 = 86;

/// How long a decided branch may take to end after the last transfer was answered.
const SETTLE_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The operation that moves money.
pub(super) const MOVE: &str = "move";

/// The statement of every transfer.
pub(super) const UPDATE: &str = "UPDATE accounts SET balance = balance + $1 WHERE id = $2";

const SCHEMA: &str = "\
CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0)) WITH (fillfactor = 50)";
const FILL: &str = "INSERT INTO accounts SELECT id, $1 FROM generate_series(1, $2::bigint) AS id";

/// A bank's database: a throw-away server of its own, as two services would have, so that each branch's
/// forced writes are its own.
#[derive(Debug)]
pub(super) struct Bank {
    server: PostgresServer,
}

impl Bank {
    /// Starts the server and opens the accounts.
    pub(super) async fn open(in_flight: u32) -> Result<Self, Failure> {
        let mut settings = settings(None);
        settings.push(("max_connections", (CONNECTIONS_MAX + CONNECTIONS_MORE).to_string()));
        // Branches of transfers that were answered may still be ending.
        settings.push(("max_prepared_transactions", (2 * in_flight + 64).to_string()));
        let bank = Self { server: start_server(&settings).await? };
        let mut connection = connect(&bank.url()).await?;
        let made = async {
            sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
            sqlx::query(FILL).bind(BALANCE).bind(i64::from(ACCOUNTS)).execute(&mut connection).await?;
            sqlx::raw_sql("VACUUM ANALYZE accounts").execute(&mut connection).await?;
            sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await?;
            connection.close().await
        };
        made.await.map_err(|error| failed(&error))?;
        Ok(bank)
    }

    /// Where its database is.
    pub(super) fn url(&self) -> String {
        self.server.superuser_url()
    }

    /// Its server's process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// What all its accounts hold together, once nothing is prepared any more.
    ///
    /// # Errors
    /// A branch has not ended in good time.
    async fn holds(&self) -> Result<i64, Failure> {
        let mut connection = connect(&self.url()).await?;
        let until = Instant::now() + SETTLE_WITHIN;
        loop {
            let prepared: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_prepared_xacts")
                .fetch_one(&mut connection)
                .await
                .map_err(|error| failed(&error))?;
            if prepared == 0 {
                break;
            }
            if Instant::now() >= until {
                return Err(Failure::new(Exit::Failed, format!("{prepared} branches were left prepared")));
            }
            sleep(LOOK_AGAIN_AFTER).await;
        }
        let sum =
            sqlx::query_scalar("SELECT sum(balance)::bigint FROM accounts").fetch_one(&mut connection).await;
        let sum = sum.map_err(|error| failed(&error))?;
        connection.close().await.map_err(|error| failed(&error))?;
        Ok(sum)
    }

    /// Stops the server, which blocks, and removes everything.
    pub(super) async fn close(self) {
        // A server that does not stop is stopped by its watchdog.
        drop(tokio::task::spawn_blocking(move || drop(self)).await);
    }
}

/// Counts the money: no transfer makes or loses any, and none leaves a branch prepared.
///
/// # Errors
/// It is not what it was, or a branch has not ended: what was measured were not transfers.
pub(super) async fn audit(banks: &[Bank; 2]) -> Result<(), Failure> {
    let (one, other) = tokio::try_join!(banks[0].holds(), banks[1].holds())?;
    let (all, then) = (one + other, 2 * i64::from(ACCOUNTS) * BALANCE);
    if all == then {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!("the banks held {then} at first and now hold {all}: transfers were torn"),
    ))
}

/// A pool as everybody has it who transfers: nothing is asked of a connection before it is used, and all
/// of them are opened at once, so that no measurement pays for that.
pub(super) async fn pool(url: &str, connections: u32) -> Result<PgPool, Failure> {
    let options = PgConnectOptions::from_str(url).map_err(|error| unreachable(&error))?;
    PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(connections)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|error| unreachable(&error))
}

/// Runs a participant until its parent is gone.
pub(super) async fn run(orders: BankOrders, parent: &mut Parent) -> Result<(), Failure> {
    let pool = pool(&orders.url, orders.connections).await?;
    let resource = PostgresResource::new(&orders.resource, pool).map_err(|error| not_started(&error))?;
    let resource = resource.operation(MOVE, |connection, payload| Box::pin(carry_out(connection, payload)));
    participate(resource, orders.coordinator, parent).await
}

async fn carry_out(connection: &mut PgConnection, payload: Arc<[u8]>) -> Result<(), NoVote> {
    let Some(Change { account, amount }) = Change::read(&payload) else {
        return Err(NoVote::new("the payload is not an account and an amount"));
    };
    let updated = sqlx::query(UPDATE).bind(amount).bind(account).execute(connection).await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(NoVote::new("there is no such account")) }
}

/// One account, and what is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) account: i64,
    pub(super) amount: i64,
}

impl Change {
    /// As the payload of an operation.
    pub(super) fn payload(self) -> Vec<u8> {
        [self.account.to_be_bytes(), self.amount.to_be_bytes()].concat()
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (account, amount) = payload.split_first_chunk::<8>()?;
        let amount = amount.try_into().ok()?;
        Some(Self { account: i64::from_be_bytes(*account), amount: i64::from_be_bytes(amount) })
    }
}

/// Draws transfers for one of several workers. Each worker has accounts of its own in every bank, so that
/// no transfer waits for another's locks: what is compared are protocols, and a deadlock across two
/// databases is nobody's to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfers {
    place: u32,
    of: u32,
}

impl Transfers {
    /// For the worker at that place of so many.
    pub(super) fn new(place: usize, of: usize) -> Self {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self { place: small(place), of: small(of).clamp(1, ACCOUNTS) }
    }

    /// A random amount from a random account of one bank to one of the other's.
    pub(super) fn draw(self) -> [Change; 2] {
        let amount = i64::from(rand::random_range(1..=100_u32)) * if rand::random() { 1 } else { -1 };
        let account = || {
            let own = rand::random_range(0..ACCOUNTS / self.of);
            i64::from(own * self.of + self.place % self.of) + 1
        };
        [Change { account: account(), amount: -amount }, Change { account: account(), amount }]
    }
}

fn failed(error: &sqlx::Error) -> Failure {
    Failure::new(Exit::Failed, "a bank's PostgreSQL server does not answer as it should").because(error)
}

fn unreachable(error: &sqlx::Error) -> Failure {
    Failure::new(Exit::CannotConnect, "no connections to a throw-away PostgreSQL server").because(error)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_change_is_read_as_it_was_written_and_nothing_else_is() {
        let change = Change { account: 77, amount: -3 };
        assert_eq!(Change::read(&change.payload()), Some(change));
        assert_eq!(Change::read(&change.payload()[..15]), None);
        assert_eq!(Change::read(&[change.payload(), vec![0]].concat()), None);
    }

    #[test]
    fn a_transfer_makes_no_money_and_stays_with_its_workers_accounts() {
        let mut seen: [BTreeSet<i64>; 3] = Default::default();
        for (place, seen) in seen.iter_mut().enumerate() {
            for _ in 0..1_000 {
                let [from, to] = Transfers::new(place, 3).draw();
                assert_eq!(from.amount + to.amount, 0);
                assert!((1..=i64::from(ACCOUNTS)).contains(&from.account), "{from:?}");
                seen.extend([from.account, to.account]);
            }
        }
        assert!(
            seen[0].is_disjoint(&seen[1]) && seen[1].is_disjoint(&seen[2]) && seen[0].is_disjoint(&seen[2])
        );
    }
}
