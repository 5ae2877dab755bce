//! A bank's SQLite file: accounts, holds, and what became of ended branches.
//!
//! One task owns the connection. Whatever is waiting when a write returns becomes the next one, so
//! that all of it shares one force; within a batch each request stands by itself. A batch either
//! happened whole, or is answered as an error to each of its requests, which the hooks' caller
//! repeats: every request may be repeated.
//!
//! WAL with `synchronous = FULL`: a commit is on disk when it returns.

use std::path::Path;
use std::str::FromStr;

use pactum::resource::PreparedBranch;
use pactum_core::id::{Cluster, PreparedName};
use pactum_core::vote::Evidence;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::sqlite::Asked;

const SCHEMA: &str = "
CREATE TABLE bank (identity TEXT NOT NULL);
CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0));
-- Promises: money that a branch may still take or bring. `evidence` names the execution.
CREATE TABLE holds (
    name TEXT PRIMARY KEY, evidence TEXT NOT NULL,
    account INTEGER NOT NULL REFERENCES accounts (id), amount INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX holds_by_account ON holds (account);
-- What became of held branches, so that a repeated commit is told from one that never was.
CREATE TABLE ended (name TEXT PRIMARY KEY, evidence TEXT NOT NULL, committed INTEGER NOT NULL) WITHOUT ROWID;
";

/// Requests waiting for the writer. Its callers wait for their answers, so more than the
/// branches in flight never come.
const QUEUE_MAX: usize = 1024;

/// Requests in one write: enough to share a force well, few enough to keep each one's wait short.
const BATCH_MAX: usize = 256;

/// The file was not written, or may not have been.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database's own word.
    #[error("the bank's file did not do it")]
    Database(#[from] sqlx::Error),
    /// Part of a batch that failed.
    #[error("the bank's file did not do it: {0}")]
    Batch(String),
    /// A setting under which a promise could be lost.
    #[error("{setting} is {found}, which could lose a promise")]
    Setting {
        /// The pragma.
        setting: &'static str,
        /// What it was found to be.
        found: String,
    },
    /// The bank is being closed.
    #[error("the bank is closed")]
    Closed,
}

/// Answers a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HoldAnswer {
    /// It stands, durably.
    Held(Evidence),
    /// A rule of the bank; nothing stands.
    Refused(String),
}

/// Answers a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitAnswer {
    /// The decided execution is committed, durably; now or before.
    Committed,
    /// The decided execution was aborted.
    AbortedBefore,
    /// The decided execution was never held here, as far as this file knows.
    NotFound,
}

/// The open file.
#[derive(Clone, Debug)]
pub(super) struct Store {
    requests: mpsc::Sender<Request>,
    options: SqliteConnectOptions,
    identity: String,
}

#[derive(Debug)]
enum Request {
    Hold { name: PreparedName, asked: Asked, reply: Reply<HoldAnswer> },
    Commit { name: PreparedName, decided: Evidence, reply: Reply<CommitAnswer> },
    Abort { name: PreparedName, reply: Reply<bool> },
    Forget { name: PreparedName },
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Makes a bank's file with this many accounts.
pub(crate) async fn create(path: &Path, accounts: u32, balance: i64) -> Result<(), StoreError> {
    let mut connection = options(path).create_if_missing(true).connect().await?;
    sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
    let identity = format!("bank-{:032x}", rand::random::<u128>());
    sqlx::query("INSERT INTO bank (identity) VALUES (?)").bind(identity).execute(&mut connection).await?;
    let fill = "WITH RECURSIVE n (id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id + 1 < ?)
                INSERT INTO accounts (id, balance) SELECT id, ? FROM n";
    sqlx::query(fill).bind(accounts).bind(balance).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// All money in a bank's file, and the names that are held in it. For the count at the end, by
/// somebody other than the bank.
pub(crate) async fn survey(path: &Path) -> Result<(i64, Vec<String>), StoreError> {
    let mut connection = options(path).read_only(true).connect().await?;
    let sum = sqlx::query_scalar("SELECT coalesce(sum(balance), 0) FROM accounts")
        .fetch_one(&mut connection)
        .await?;
    let held = sqlx::query_scalar("SELECT name FROM holds").fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok((sum, held))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
}

impl Store {
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = options(path);
        let mut connection = options.connect().await?;
        let identity: String =
            sqlx::query_scalar("SELECT identity FROM bank").fetch_one(&mut connection).await?;
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        let writer =
            Writer { options: options.clone(), identity: identity.clone(), connection: Some(connection) };
        tokio::spawn(writer.run(queue));
        Ok(Self { requests, options, identity })
    }

    /// Tells this file from another.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Checks that what is committed is on disk.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let mut connection = self.options.connect().await?;
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await?;
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await?;
        connection.close().await?;
        match (mode.as_str(), synchronous) {
            ("wal", FULL..) => Ok(()),
            ("wal", _) => Err(StoreError::Setting { setting: "synchronous", found: synchronous.to_string() }),
            _ => Err(StoreError::Setting { setting: "journal_mode", found: mode }),
        }
    }

    /// Writes a hold, if the account can bear it and all that is held there already. Durable on
    /// return. Repeated, answers the evidence that stands.
    pub(super) async fn hold(&self, name: &PreparedName, asked: Asked) -> Result<HoldAnswer, StoreError> {
        self.ask(|reply| Request::Hold { name: name.clone(), asked, reply }).await
    }

    /// Applies the hold of the decided execution. Durable on return. Repeated, answers the same.
    pub(super) async fn commit(
        &self,
        name: &PreparedName,
        decided: &Evidence,
    ) -> Result<CommitAnswer, StoreError> {
        self.ask(|reply| Request::Commit { name: name.clone(), decided: decided.clone(), reply }).await
    }

    /// Releases the hold, if there is one. False: it was committed before.
    pub(super) async fn abort(&self, name: &PreparedName) -> Result<bool, StoreError> {
        self.ask(|reply| Request::Abort { name: name.clone(), reply }).await
    }

    /// Drops what is remembered of an ended branch, with the next write.
    pub(super) async fn forget(&self, name: &PreparedName) {
        // A closed bank forgets nothing, which is harmless.
        drop(self.requests.send(Request::Forget { name: name.clone() }).await);
    }

    /// Everything held for the cluster.
    pub(super) async fn held(&self, cluster: &Cluster) -> Result<Vec<PreparedBranch>, StoreError> {
        let mut connection = self.options.connect().await?;
        let rows = sqlx::query("SELECT name, evidence FROM holds").fetch_all(&mut connection).await?;
        connection.close().await?;
        let mut held = Vec::with_capacity(rows.len());
        for row in rows {
            let (name, evidence): (String, String) = (row.try_get("name")?, row.try_get("evidence")?);
            // Only the bank writes here, and only names of this form.
            let name = PreparedName::from_str(&name).map_err(|error| StoreError::Batch(error.to_string()))?;
            if name.cluster == *cluster {
                held.push(PreparedBranch { name, evidence: self.evidence(evidence) });
            }
        }
        Ok(held)
    }

    fn evidence(&self, execution: String) -> Evidence {
        Evidence::new(execution, self.identity.as_str())
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(request(reply)).await.is_err() {
            return Err(StoreError::Closed);
        }
        let dropped = || Err(StoreError::Batch("a request of the same write failed".to_owned()));
        answer.await.unwrap_or_else(|_closed| dropped())
    }
}

/// `PRAGMA synchronous`: each commit waits for the disk.
const FULL: i64 = 2;

/// The task that writes.
#[derive(Debug)]
struct Writer {
    options: SqliteConnectOptions,
    identity: String,
    /// None after an error: what a failed connection was doing is only known to a new one.
    connection: Option<SqliteConnection>,
}

/// An answer that waits for its batch to be durable.
type Answered = Box<dyn FnOnce(Result<(), String>) + Send>;

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let mut answers = Vec::with_capacity(batch.len());
            let written = self.write(&mut batch, &mut answers).await;
            let result = written.map_err(|error| {
                self.connection = None;
                error.to_string()
            });
            // Those that were not come to learn it by their senders being dropped.
            for answer in answers {
                answer(result.clone());
            }
            batch.clear();
        }
    }

    async fn write(
        &mut self,
        batch: &mut Vec<Request>,
        answers: &mut Vec<Answered>,
    ) -> Result<(), sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.options.connect().await?),
        };
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        for request in batch.drain(..) {
            match request {
                Request::Hold { name, asked, reply } => {
                    answers.push(later(reply, hold(connection, &name, asked, &self.identity).await?));
                }
                Request::Commit { name, decided, reply } => {
                    answers.push(later(reply, commit(connection, &name, &decided).await?));
                }
                Request::Abort { name, reply } => answers.push(later(reply, abort(connection, &name).await?)),
                Request::Forget { name } => {
                    let forget = "DELETE FROM ended WHERE name = ?";
                    sqlx::query(forget).bind(name.to_string()).execute(&mut *connection).await?;
                }
            }
        }
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
        Ok(())
    }
}

fn later<T: Send + 'static>(reply: Reply<T>, answer: T) -> Answered {
    Box::new(move |written| {
        // Whoever asked may have gone; what was written stands.
        drop(reply.send(written.map(|()| answer).map_err(StoreError::Batch)));
    })
}

async fn hold(
    connection: &mut SqliteConnection,
    name: &PreparedName,
    asked: Asked,
    identity: &str,
) -> Result<HoldAnswer, sqlx::Error> {
    let name = name.to_string();
    let stands: Option<String> = sqlx::query_scalar("SELECT evidence FROM holds WHERE name = ?")
        .bind(&name)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(execution) = stands {
        return Ok(HoldAnswer::Held(Evidence::new(execution, identity)));
    }
    // Debits that are held count as gone, credits that are held do not count yet: whichever of
    // them commit, the balance stays at or above zero.
    let free: Option<i64> = sqlx::query_scalar(
        "SELECT balance + (SELECT coalesce(sum(amount), 0) FROM holds WHERE account = ?1 AND amount < 0)
         FROM accounts WHERE id = ?1",
    )
    .bind(asked.account)
    .fetch_optional(&mut *connection)
    .await?;
    match free {
        None => return Ok(HoldAnswer::Refused(format!("there is no account {}", asked.account))),
        Some(free) if free + asked.amount.min(0) < 0 => {
            let (account, wanted) = (asked.account, -asked.amount);
            return Ok(HoldAnswer::Refused(format!("account {account} has {free} free, less than {wanted}")));
        }
        Some(_) => {}
    }
    let execution = format!("{:032x}", rand::random::<u128>());
    sqlx::query("INSERT INTO holds (name, evidence, account, amount) VALUES (?, ?, ?, ?)")
        .bind(&name)
        .bind(&execution)
        .bind(asked.account)
        .bind(asked.amount)
        .execute(&mut *connection)
        .await?;
    Ok(HoldAnswer::Held(Evidence::new(execution, identity)))
}

async fn commit(
    connection: &mut SqliteConnection,
    name: &PreparedName,
    decided: &Evidence,
) -> Result<CommitAnswer, sqlx::Error> {
    let name = name.to_string();
    let held = sqlx::query("SELECT evidence, account, amount FROM holds WHERE name = ?")
        .bind(&name)
        .fetch_optional(&mut *connection)
        .await?;
    let held_execution: Option<String> = held.as_ref().map(|row| row.try_get("evidence")).transpose()?;
    if let Some(row) = held.filter(|_| held_execution.as_deref() == Some(&*decided.execution)) {
        let (account, amount): (i64, i64) = (row.try_get("account")?, row.try_get("amount")?);
        sqlx::query("UPDATE accounts SET balance = balance + ? WHERE id = ?")
            .bind(amount)
            .bind(account)
            .execute(&mut *connection)
            .await?;
        end(connection, &name, &decided.execution, true).await?;
        return Ok(CommitAnswer::Committed);
    }
    let ended: Option<bool> =
        sqlx::query_scalar("SELECT committed FROM ended WHERE name = ? AND evidence = ?")
            .bind(&name)
            .bind(&*decided.execution)
            .fetch_optional(&mut *connection)
            .await?;
    if ended == Some(true) && held_execution.is_some() {
        // Another execution of the branch, and the decided one is known committed (law 1).
        sqlx::query("DELETE FROM holds WHERE name = ?").bind(&name).execute(&mut *connection).await?;
    }
    Ok(match ended {
        Some(true) => CommitAnswer::Committed,
        Some(false) => CommitAnswer::AbortedBefore,
        None => CommitAnswer::NotFound,
    })
}

async fn abort(connection: &mut SqliteConnection, name: &PreparedName) -> Result<bool, sqlx::Error> {
    let name = name.to_string();
    let held: Option<String> = sqlx::query_scalar("SELECT evidence FROM holds WHERE name = ?")
        .bind(&name)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(execution) = held {
        end(connection, &name, &execution, false).await?;
        return Ok(true);
    }
    let committed: Option<bool> = sqlx::query_scalar("SELECT committed FROM ended WHERE name = ?")
        .bind(&name)
        .fetch_optional(&mut *connection)
        .await?;
    Ok(committed != Some(true))
}

/// Lets a hold go, and remembers what became of it.
async fn end(
    connection: &mut SqliteConnection,
    name: &str,
    execution: &str,
    committed: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM holds WHERE name = ?").bind(name).execute(&mut *connection).await?;
    sqlx::query("INSERT OR REPLACE INTO ended (name, evidence, committed) VALUES (?, ?, ?)")
        .bind(name)
        .bind(execution)
        .bind(committed)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use pactum_core::id::{BranchId, Gid, Incarnation, TransactionId};
    use uuid::Uuid;

    use super::*;

    fn name(gid: u128) -> PreparedName {
        let incarnation = Incarnation::from_uuid(Uuid::from_u128(1));
        PreparedName {
            cluster: "test".parse().unwrap(),
            id: TransactionId { incarnation, gid: Gid::from_uuid(Uuid::from_u128(gid)) },
            branch: BranchId::new(7),
        }
    }

    async fn bank() -> (tempfile::TempDir, std::path::PathBuf, Store) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bank.db");
        create(&path, 4, 100).await.unwrap();
        let store = Store::open(&path).await.unwrap();
        store.check().await.unwrap();
        (directory, path, store)
    }

    fn held(answer: HoldAnswer) -> Evidence {
        match answer {
            HoldAnswer::Held(evidence) => evidence,
            HoldAnswer::Refused(why) => panic!("{why}"),
        }
    }

    #[tokio::test]
    async fn a_hold_takes_effect_at_commit_and_only_once() {
        let (_directory, path, store) = bank().await;
        let evidence = held(store.hold(&name(1), Asked { account: 0, amount: -30 }).await.unwrap());
        assert_eq!(survey(&path).await.unwrap(), (400, vec![name(1).to_string()]));
        for _ in 0..2 {
            assert_eq!(store.commit(&name(1), &evidence).await.unwrap(), CommitAnswer::Committed);
            assert_eq!(survey(&path).await.unwrap(), (370, vec![]));
        }
        // A late abort is told that it comes too late.
        assert!(!store.abort(&name(1)).await.unwrap());
    }

    #[tokio::test]
    async fn held_debits_count_as_gone_and_held_credits_do_not_count() {
        let (_directory, _path, store) = bank().await;
        let hold = |gid, amount| {
            let store = store.clone();
            async move { store.hold(&name(gid), Asked { account: 1, amount }).await.unwrap() }
        };
        held(hold(1, 1000).await);
        held(hold(2, -60).await);
        assert!(matches!(hold(3, -60).await, HoldAnswer::Refused(_)));
        assert!(store.abort(&name(2)).await.unwrap());
        held(hold(4, -60).await);
    }

    #[tokio::test]
    async fn a_repeated_hold_answers_the_evidence_that_stands() {
        let (_directory, _path, store) = bank().await;
        let asked = Asked { account: 1, amount: -60 };
        let first = held(store.hold(&name(1), asked).await.unwrap());
        assert_eq!(held(store.hold(&name(1), asked).await.unwrap()), first);
    }

    #[tokio::test]
    async fn commit_of_another_execution_changes_nothing() {
        let (_directory, path, store) = bank().await;
        held(store.hold(&name(1), Asked { account: 0, amount: -30 }).await.unwrap());
        let other = Evidence::new("other", "x");
        assert_eq!(store.commit(&name(1), &other).await.unwrap(), CommitAnswer::NotFound);
        assert_eq!(survey(&path).await.unwrap().0, 400);
    }

    #[tokio::test]
    async fn commit_after_an_abort_by_hand_says_so() {
        let (_directory, _path, store) = bank().await;
        let evidence = held(store.hold(&name(1), Asked { account: 0, amount: -30 }).await.unwrap());
        assert!(store.abort(&name(1)).await.unwrap());
        assert_eq!(store.commit(&name(1), &evidence).await.unwrap(), CommitAnswer::AbortedBefore);
    }

    #[tokio::test]
    async fn what_is_held_is_found_again_after_a_restart_for_its_own_cluster() {
        let (_directory, path, store) = bank().await;
        let evidence = held(store.hold(&name(1), Asked { account: 0, amount: -30 }).await.unwrap());
        drop(store);
        let store = Store::open(&path).await.unwrap();
        let found = store.held(&"test".parse().unwrap()).await.unwrap();
        assert_eq!(found, [PreparedBranch { name: name(1), evidence }]);
        assert!(store.held(&"other".parse().unwrap()).await.unwrap().is_empty());
    }
}
