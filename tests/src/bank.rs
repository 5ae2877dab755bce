//! A bank: accounts, and a ledger of what was done to them by whom.
//!
//! Every piece of work carries a *key* that the test drew. The ledger has no unique constraint
//! on purpose: work done twice must show, not fail.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pactum::context::Context;
use pactum::participant::Participant;
use pactum::resource::{BeginOptions, NoVote, PostgresBranch, PostgresResource};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool, Row};

/// What each account holds at first.
pub const OPENING: i64 = 1_000;
/// How many accounts a bank has: `0` to `9`.
pub const ACCOUNTS: i64 = 10;
/// The name of the one-shot operation that moves money.
pub const APPLY: &str = "apply";

/// `odd` refuses a second row of the same number only when the transaction is prepared.
const SCHEMA: &str = "
    create table accounts (id text primary key, balance bigint not null check (balance >= 0));
    create table ledger (key text not null, account text not null, amount bigint not null);
    create table odd (number int unique deferrable initially deferred);
    insert into accounts select generate_series::text, 1000 from generate_series(0, 9);
    insert into odd values (1);
";

/// One change to one account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Whose work it is.
    pub key: String,
    /// The account.
    pub account: String,
    /// Added to its balance.
    pub amount: i64,
}

impl Entry {
    /// One change.
    pub fn new(key: &str, account: &str, amount: i64) -> Self {
        Self { key: key.to_owned(), account: account.to_owned(), amount }
    }

    /// As the payload of the operation [`APPLY`].
    pub fn payload(&self) -> Vec<u8> {
        format!("{} {} {}", self.key, self.account, self.amount).into_bytes()
    }

    /// Reads a payload.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (key, account, amount) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
        words.next().is_none().then(|| Self::new(key, account, amount))
    }
}

/// Does the work in whatever transaction is open.
///
/// # Errors
/// What the database says: among others that the balance would be negative.
pub async fn apply(connection: &mut PgConnection, entry: &Entry) -> Result<(), sqlx::Error> {
    sqlx::query("update accounts set balance = balance + $2 where id = $1")
        .bind(&entry.account)
        .bind(entry.amount)
        .execute(&mut *connection)
        .await?;
    sqlx::query("insert into ledger values ($1, $2, $3)")
        .bind(&entry.key)
        .bind(&entry.account)
        .bind(entry.amount)
        .execute(connection)
        .await?;
    Ok(())
}

/// The bank's database, as an auditor reads it.
#[derive(Clone, Debug)]
pub struct Books {
    pool: PgPool,
}

impl Books {
    /// Creates the schema in an empty database.
    ///
    /// # Panics
    /// The database refuses.
    pub async fn create(url: &str) -> Self {
        let books = Self::open(url);
        sqlx::raw_sql(SCHEMA).execute(&books.pool).await.expect("the schema can be made");
        books
    }

    /// Reads a database that has the schema.
    ///
    /// # Panics
    /// The URL is malformed.
    pub fn open(url: &str) -> Self {
        Self { pool: pool(url, 2) }
    }

    /// Connections to the database, outside of every transaction of Pactum's.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The sum of all balances.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn total(&self) -> Result<i64, sqlx::Error> {
        sqlx::query("select sum(balance)::bigint from accounts").fetch_one(&self.pool).await?.try_get(0)
    }

    /// One balance.
    ///
    /// # Errors
    /// The database does not answer, or there is no such account.
    pub async fn balance(&self, account: &str) -> Result<i64, sqlx::Error> {
        let query = sqlx::query("select balance from accounts where id = $1").bind(account);
        query.fetch_one(&self.pool).await?.try_get(0)
    }

    /// Everything that was done, in no order.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn ledger(&self) -> Result<Vec<Entry>, sqlx::Error> {
        let rows = sqlx::query("select key, account, amount from ledger").fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| Ok(Entry { key: row.try_get(0)?, account: row.try_get(1)?, amount: row.try_get(2)? }))
            .collect()
    }

    /// The names of what is prepared in this database.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn prepared(&self) -> Result<Vec<String>, sqlx::Error> {
        let query = "select gid from pg_prepared_xacts where database = current_database() order by gid";
        sqlx::query(query).fetch_all(&self.pool).await?.iter().map(|row| row.try_get(0)).collect()
    }
}

/// Somebody who does work at one bank, in this process or in another.
pub trait Teller: Sync {
    /// Does the work as a branch of the context's transaction, and enlists it.
    fn apply(&self, context: &Context, entry: &Entry) -> impl Future<Output = Result<(), String>> + Send;

    /// The bank's books.
    fn books(&self) -> &Books;
}

/// A bank served by this process.
#[derive(Debug)]
pub struct Bank {
    /// The resource, to begin branches of every kind.
    pub resource: PostgresResource,
    /// Its books.
    pub books: Books,
    participant: Participant,
}

impl Bank {
    /// Starts the participant of the bank whose database has the schema, reached by `url`.
    ///
    /// # Panics
    /// It cannot attach.
    pub async fn start(name: &str, url: &str, coordinator: &str, markers: bool) -> Self {
        let resource = resource(name, url, markers).await;
        let participant = Participant::builder([coordinator.to_owned()])
            .resource(resource.clone())
            .start()
            .await
            .expect("the participant starts");
        crate::role::attached_everywhere(&participant).await;
        Self { resource, books: Books::open(url), participant }
    }

    /// Begins a branch, does the work in it, and hands it back un-enlisted.
    ///
    /// # Errors
    /// What the SDK or the database says.
    pub async fn work(&self, context: &Context, entry: &Entry) -> Result<PostgresBranch, String> {
        let mut branch = self.resource.begin(context).await.map_err(|error| error.to_string())?;
        apply(&mut branch, entry).await.map_err(|error| error.to_string())?;
        Ok(branch)
    }

    /// Reads the sum of all balances in a branch that was begun read-only, and enlists it.
    ///
    /// # Errors
    /// What the SDK or the database says.
    pub async fn audit(&self, context: &Context) -> Result<i64, String> {
        let begun = self.resource.begin_with(context, BeginOptions::new().read_only()).await;
        let mut branch = begun.map_err(|error| error.to_string())?;
        let query = sqlx::query("select sum(balance)::bigint from accounts").fetch_one(&mut *branch).await;
        let sum = query.and_then(|row| row.try_get(0)).map_err(|error| error.to_string())?;
        branch.enlist().await.map_err(|error| error.to_string())?;
        Ok(sum)
    }

    /// Ends the participant in good order.
    pub async fn stop(self) {
        self.participant.shutdown().await;
    }
}

impl Teller for Bank {
    async fn apply(&self, context: &Context, entry: &Entry) -> Result<(), String> {
        let branch = self.work(context, entry).await?;
        branch.enlist().await.map_err(|error| error.to_string())
    }

    fn books(&self) -> &Books {
        &self.books
    }
}

/// The resource of a bank, with the one-shot operation [`APPLY`] and some that misbehave:
/// `swallow` hides a failed statement, `odd` fails when it is prepared, `refuse` and `panic` do so.
///
/// # Panics
/// The marker tables cannot be made.
pub async fn resource(name: &str, url: &str, markers: bool) -> PostgresResource {
    let pool = pool(url, 8);
    if markers {
        PostgresResource::install(&pool).await.expect("the marker tables can be made");
    }
    PostgresResource::new(name, pool)
        .expect("a valid name")
        .operation(APPLY, |bank, payload| Box::pin(async move { one_shot(bank, payload).await }))
        .operation("swallow", |bank, payload| {
            Box::pin(async move {
                one_shot(&mut *bank, payload).await?;
                drop(sqlx::query("select 1 / 0").execute(bank).await);
                Ok(())
            })
        })
        .operation("odd", |bank, payload| {
            Box::pin(async move {
                one_shot(&mut *bank, payload).await?;
                sqlx::query("insert into odd values (1)").execute(bank).await?;
                Ok(())
            })
        })
        .operation("refuse", |_, _| Box::pin(async { Err(NoVote::new("we are closed today")) }))
        .operation("panic", |_, _| Box::pin(async { panic!("the teller fainted") }))
}

async fn one_shot(bank: &mut PgConnection, payload: Arc<[u8]>) -> Result<(), NoVote> {
    let entry = std::str::from_utf8(&payload).ok().and_then(Entry::parse);
    let entry = entry.ok_or_else(|| NoVote::new("the payload is not an entry"))?;
    Ok(apply(bank, &entry).await?)
}

/// A pool that opens connections when they are needed.
fn pool(url: &str, connections_max: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_mins(1))
        .connect_lazy(url)
        .expect("a URL of PostgreSQL")
}
