//! The banks' databases: accounts, and a ledger that tells in which order each account was used.
//!
//! Every change of an account takes the account's next *turn* under the account's row lock, which
//! is held until the branch ends. So the turns of one account are the order in which its
//! transactions committed, without a gap, since a turn that was taken by an aborted branch is
//! given back with everything else. There is no unique constraint: what is done twice must
//! show, not fail.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool, Row};

/// The two banks' names, by their place.
pub(crate) const BANKS: [&str; 2] = ["bank-a", "bank-b"];
/// How many accounts a bank has: enough that transfers seldom wait for one another.
pub(crate) const ACCOUNTS: i32 = 4000;
/// These are chosen more often, so that they do wait for one another.
pub(crate) const POPULAR: i32 = 40;
/// What each holds at first.
pub(crate) const OPENING: i64 = 1_000_000;
/// The one-shot operation that moves money.
pub(crate) const MOVE: &str = "move";
/// The one-shot operation that moves money and then changes its mind.
pub(crate) const REFUSE: &str = "refuse";

const SCHEMA: &str = "
    create table accounts (id int primary key, balance bigint not null, turns bigint not null) with (fillfactor = 50);
    create table ledger (key text not null, account int not null, turn bigint not null, amount bigint not null);
    insert into accounts select id, 1000000, 0 from generate_series(0, 3999) id;
";

/// One change to one account: one leg of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    /// Whose work it is: drawn by the application, one for each transfer.
    pub(crate) key: String,
    pub(crate) account: i32,
    pub(crate) amount: i64,
}

impl Leg {
    /// As it travels.
    pub(crate) fn text(&self) -> String {
        format!("{} {} {}", self.key, self.account, self.amount)
    }

    /// Reads that.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (key, account, amount) =
            (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then(|| Self { key: key.to_owned(), account, amount })
    }
}

/// Does the work in whatever transaction is open.
pub(crate) async fn apply(connection: &mut PgConnection, leg: &Leg) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with moved as (update accounts set balance = balance + $2, turns = turns + 1 where id = $1 returning turns)
         insert into ledger select $3, $1, turns, $2 from moved",
    )
    .bind(leg.account)
    .bind(leg.amount)
    .bind(&leg.key)
    .execute(connection)
    .await?;
    Ok(())
}

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) leg: Leg,
    pub(crate) turn: i64,
}

/// What a bank's database says at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statement {
    /// By account, in order.
    pub(crate) balances: Vec<i64>,
    /// How often each account was used.
    pub(crate) turns: Vec<i64>,
    pub(crate) lines: Vec<Line>,
    /// Names of what is prepared in the whole server.
    pub(crate) prepared: Vec<String>,
    /// Locks of prepared transactions in the whole server.
    pub(crate) locks: i64,
}

/// A bank's database, as an auditor reads it, past all links.
#[derive(Clone, Debug)]
pub(crate) struct Books(PgPool);

impl Books {
    /// Reads a database; connects when asked the first time, and again after the server was killed.
    pub(crate) fn open(url: &str) -> Self {
        let options = PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(5));
        Self(options.connect_lazy(url).expect("a URL of a server of ours"))
    }

    /// Makes the schema in an empty database.
    pub(crate) async fn create(&self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(SCHEMA).execute(&self.0).await.map(drop)
    }

    /// Names of everything that is prepared in the server.
    pub(crate) async fn prepared(&self) -> Result<Vec<String>, sqlx::Error> {
        let rows = sqlx::query("select gid from pg_prepared_xacts").fetch_all(&self.0).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// How many that are.
    pub(crate) async fn prepared_count(&self) -> Result<usize, sqlx::Error> {
        let count: i64 =
            sqlx::query("select count(*) from pg_prepared_xacts").fetch_one(&self.0).await?.try_get(0)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Reads everything. Also takes and lets go every account's lock, so that it fails if
    /// anybody holds one.
    pub(crate) async fn statement(&self) -> Result<Statement, sqlx::Error> {
        let mut statement = Statement { prepared: self.prepared().await?, ..Statement::default() };
        let mut transaction = self.0.begin().await?;
        sqlx::query("set local lock_timeout = '5s'").execute(&mut *transaction).await?;
        let accounts = sqlx::query("select balance, turns from accounts order by id for update");
        for row in accounts.fetch_all(&mut *transaction).await? {
            statement.balances.push(row.try_get(0)?);
            statement.turns.push(row.try_get(1)?);
        }
        // A prepared transaction's locks belong to no process.
        let locks = sqlx::query("select count(*) from pg_locks where pid is null");
        statement.locks = locks.fetch_one(&mut *transaction).await?.try_get(0)?;
        for row in
            sqlx::query("select key, account, turn, amount from ledger").fetch_all(&mut *transaction).await?
        {
            let leg = Leg { key: row.try_get(0)?, account: row.try_get(1)?, amount: row.try_get(3)? };
            statement.lines.push(Line { leg, turn: row.try_get(2)? });
        }
        transaction.rollback().await?;
        Ok(statement)
    }
}

/// Connections for a bank's own process. A link may swallow what is sent: the database is asked to
/// notice, as one would in production.
pub(crate) fn pool(url: &str, connections_max: u32) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = url.parse()?;
    Ok(PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options))
}
