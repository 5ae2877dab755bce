//! The contract of decision logs, held by the one in SQLite; and what only a file can show.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's failure")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pactum_coordinator::decision_log::audit::verify;
use pactum_coordinator::decision_log::contract::{abort, beginning, commit, end, gid};
use pactum_coordinator::decision_log::sqlite::{self, SqliteLog};
use pactum_coordinator::decision_log::{AuditKind, AuditPage, DecisionLog, DecisionLogError, Release};
use pactum_core::id::Gid;
use pactum_core::outcome::{LookUpResult, ProposalResult};
use tempfile::TempDir;

struct Fixture {
    log: Arc<SqliteLog>,
    _directory: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let log = SqliteLog::open(&directory.path().join("log.db")).await.unwrap();
        Self { log: Arc::new(log), _directory: directory }
    }

    fn log(&self) -> Arc<dyn DecisionLog> {
        self.log.clone()
    }
}

pactum_coordinator::decision_log_contract!(async || Fixture::new().await);

fn directory() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log.db");
    (directory, path)
}

#[tokio::test]
async fn a_log_that_is_open_is_refused_to_a_second_one_by_its_path() {
    let (_directory, path) = directory();
    let log = SqliteLog::open(&path).await.unwrap();
    let refused = SqliteLog::open(&path).await.unwrap_err();
    assert!(
        matches!(&refused, DecisionLogError::InUse { path: named } if *named == path.display().to_string())
    );
    drop(log);
    SqliteLog::open(&path).await.unwrap();
}

#[tokio::test]
async fn whoever_does_not_know_of_the_lock_file_is_kept_out_by_sqlite() {
    let (_directory, path) = directory();
    let _log = SqliteLog::open(&path).await.unwrap();
    let url = format!("sqlite://{}", path.display());
    let mut stranger = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).busy_timeout(Duration::ZERO);
    stranger = stranger.pragma("query_only", "1");
    let read = async {
        let mut connection = sqlx::ConnectOptions::connect(&stranger).await?;
        sqlx::query("SELECT cluster FROM log_state").fetch_one(&mut connection).await
    };
    let refused = read.await.err().unwrap_or_else(|| panic!("{url} could be read"));
    assert_eq!(refused.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref(), Some("5"));
}

#[tokio::test]
async fn decisions_and_names_are_there_after_a_restart() {
    let (_directory, path) = directory();
    let log = SqliteLog::open(&path).await.unwrap();
    let cluster = log.cluster().clone();
    let own = log.start_incarnation("here").await.unwrap();
    let proposal = commit(own, gid(1), 1);
    let mut writer = log.open_writer().await.unwrap();
    assert_eq!(writer.write(own, std::slice::from_ref(&proposal)).await, [ProposalResult::Won]);
    drop((writer, log));
    let log = SqliteLog::open(&path).await.unwrap();
    assert_eq!(*log.cluster(), cluster);
    assert_eq!(log.look_up(&[gid(1)]).await.unwrap(), [LookUpResult::Stands(Box::new(proposal.record))]);
    assert_eq!(
        sqlite::migrate(&path).await.unwrap_err().to_string(),
        format!("the log {} is in use by another process", path.display())
    );
    drop(log);
    assert_eq!(sqlite::migrate(&path).await.unwrap().applied, [0; 0], "it is up to date");
}

/// A connection that was dropped is closed by a thread of its own. One that was opened and closed after it
/// has put all into the file.
async fn let_go(path: &Path) {
    sqlite::migrate(path).await.unwrap();
}

/// B5: what the copy lacks may have been told as committed.
#[tokio::test]
async fn b5_a_log_that_was_put_back_from_a_copy_is_in_doubt_until_released() {
    let (directory, path) = directory();
    let log = SqliteLog::open(&path).await.unwrap();
    let ended = log.start_incarnation("here").await.unwrap();
    log.end_incarnation(ended).await.unwrap();
    let dead = log.start_incarnation("here").await.unwrap();
    drop(log);
    let_go(&path).await;
    let copy = directory.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let log = SqliteLog::open(&path).await.unwrap();
    let mut writer = log.open_writer().await.unwrap();
    assert_eq!(writer.write(dead, &[commit(dead, gid(1), 1)]).await, [ProposalResult::Won]);
    drop((writer, log));
    let_go(&path).await;
    std::fs::copy(&copy, &path).unwrap();
    let log = SqliteLog::open(&path).await.unwrap();
    let doubts = log.doubts().await.unwrap();
    assert_eq!(doubts.iter().map(|doubted| doubted.incarnation).collect::<Vec<_>>(), [dead]);
    let own = log.start_incarnation("here").await.unwrap();
    let mut writer = log.open_writer().await.unwrap();
    let closings = [abort(dead, gid(1)), abort(ended, gid(2))];
    let expected = [ProposalResult::Doubted, ProposalResult::Won];
    assert_eq!(writer.write(own, &closings).await, expected, "nobody guesses what became of the commit");
    // Opened again it is the same log, and the doubt stays.
    drop((writer, log));
    let log = SqliteLog::open(&path).await.unwrap();
    assert_eq!(log.status().await.unwrap().switches, 1);
    assert_eq!(log.doubts().await.unwrap(), doubts);
    assert_eq!(log.release(Release::All, "told the bank").await.unwrap(), 1);
    let mut writer = log.open_writer().await.unwrap();
    assert_eq!(writer.write(own, &closings[..1]).await, [ProposalResult::Won]);
    drop((writer, log));
    let_go(&path).await;
    std::fs::remove_file(&path).unwrap();
    let refused = SqliteLog::open(&path).await.unwrap_err();
    assert!(
        matches!(&refused, DecisionLogError::Refused { setting: "generation", .. }),
        "a new file is no log"
    );
}

#[tokio::test]
async fn a_crash_between_the_two_halves_of_a_generation_is_no_rewind() {
    let (directory, path) = directory();
    drop(SqliteLog::open(&path).await.unwrap());
    let beside = directory.path().join("log.db.generation");
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "1\n");
    std::fs::write(&beside, "1 2\n").unwrap();
    drop(SqliteLog::open(&path).await.unwrap());
    std::fs::write(&beside, "2 3\n").unwrap();
    drop(SqliteLog::open(&path).await.unwrap());
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "3\n");
    let log = SqliteLog::open(&path).await.unwrap();
    assert_eq!(log.status().await.unwrap().switches, 0);
    drop(log);
    std::fs::remove_file(&beside).unwrap();
    let log = SqliteLog::open(&path).await.unwrap();
    assert_eq!(log.status().await.unwrap().switches, 1, "parted from its file, it may be any copy");
}

#[tokio::test]
async fn the_audit_is_only_added_to_and_stands_after_a_restart() {
    let (_directory, path) = directory();
    let log = SqliteLog::open(&path).await.unwrap();
    let begun = log.append_audit(&beginning(None, "1")).await.unwrap();
    let ended = log.append_audit(&end(&begun, AuditKind::Done)).await.unwrap();
    drop(log);
    let_go(&path).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut meddler = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for (sql, word) in [
        ("UPDATE audit SET reason = 'another'", "UPDATE is refused"),
        ("DELETE FROM audit WHERE number = 2", "DELETE is refused"),
        ("INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE number = 1", "does not follow"),
        (
            "INSERT INTO audit SELECT 4, at, kind, begun, who, origin, act, target, reason, plan, state_before, \
             state_after, result, incarnation, hash, hash FROM audit WHERE number = 2",
            "does not follow",
        ),
        (
            "INSERT INTO audit SELECT 3, at, kind, begun, who, origin, act, target, reason, plan, state_before, \
             state_after, result, incarnation, hash, hash FROM audit WHERE number = 1",
            "does not follow",
        ),
    ] {
        let refused = sqlx::raw_sql(sql).execute(&mut meddler).await.unwrap_err().to_string();
        assert!(refused.contains("the audit is") && refused.contains(word), "{sql}: {refused}");
    }
    sqlx::Connection::close(meddler).await.unwrap();
    let log = SqliteLog::open(&path).await.unwrap();
    assert_eq!(log.audit(AuditPage::After(0), 10).await.unwrap(), [begun, ended.clone()]);
    let next = log.append_audit(&beginning(None, "2")).await.unwrap();
    assert!(next.follows(Some(&ended)));
    drop(log);
    // Whoever owns the file can take the triggers off: then it shows.
    let_go(&path).await;
    let mut owner = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let sql = "DROP TRIGGER audit_refuses_delete; DELETE FROM audit WHERE number = 2";
    sqlx::raw_sql(sql).execute(&mut owner).await.unwrap();
    sqlx::Connection::close(owner).await.unwrap();
    let log = SqliteLog::open(&path).await.unwrap();
    let left = log.audit(AuditPage::After(0), 10).await.unwrap();
    assert_eq!(verify(left.iter(), None).unwrap_err().number, 3);
}

/// A statement that ran and whose COMMIT fails: a deferred foreign key is checked only then.
async fn fail_commits_of(path: &Path, gid: Gid) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let sql = format!(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY);
         CREATE TABLE children (parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
         CREATE TRIGGER fail AFTER INSERT ON decisions WHEN new.gid = '{gid}'
         BEGIN INSERT INTO children VALUES (1); END"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
}

#[tokio::test]
async fn an_error_on_commit_is_unknown_and_the_file_is_opened_again_with_a_barrier() {
    let (_directory, path) = directory();
    sqlite::migrate(&path).await.unwrap();
    fail_commits_of(&path, gid(2)).await;
    let log = SqliteLog::open(&path).await.unwrap();
    let own = log.start_incarnation("here").await.unwrap();
    let mut writer = log.open_writer().await.unwrap();
    let batch = [abort(own, gid(1)), abort(own, gid(2))];
    assert_eq!(writer.write(own, &batch).await, vec![ProposalResult::Unknown; 2]);
    assert_eq!(writer.write(own, &batch[..1]).await, [ProposalResult::Unknown], "the writer is spent");
    drop(writer);
    let mut writer = log.open_writer().await.unwrap();
    assert_eq!(writer.write(own, &batch[..1]).await, [ProposalResult::Won]);
    assert_eq!(log.look_up(&[gid(2)]).await.unwrap(), [LookUpResult::NoRecord]);
    drop((writer, log));
    drop(SqliteLog::open(&path).await.unwrap());
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(&path).busy_timeout(Duration::from_secs(5));
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let barriers: i64 =
        sqlx::query_scalar("SELECT barriers FROM log_state").fetch_one(&mut connection).await.unwrap();
    assert_eq!(barriers, 1);
}
