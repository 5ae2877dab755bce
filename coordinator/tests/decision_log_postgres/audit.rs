//! The audit where several add to it, where somebody meddles with it, and under a role that may not.

use std::sync::Arc;

use pactum_coordinator::decision_log::audit::verify;
use pactum_coordinator::decision_log::contract::{abort, beginning, gid};
use pactum_coordinator::decision_log::postgres::{PostgresLog, PostgresLogOptions};
use pactum_coordinator::decision_log::{AuditEntry, AuditPage, DecisionLog, DecisionLogError};
use pactum_core::outcome::ProposalResult;
use pactum_postgres_server::PostgresServer;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, LIMIT, execute, open, server};

/// Each on two connections at once.
const ADDERS: u64 = 8;
/// Each one after the other.
const EACH: u64 = 25;

async fn all(log: &PostgresLog) -> Vec<AuditEntry> {
    log.audit(AuditPage::After(0), 1000).await.unwrap()
}

async fn add(log: &PostgresLog, target: &str) -> Result<AuditEntry, DecisionLogError> {
    log.append_audit(&beginning(None, target)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_coordinators_that_add_at_once_make_one_chain() {
    let fixture = Fixture::new().await;
    let logs = [Arc::clone(&fixture.log), Arc::new(open(&fixture.url).await)];
    let mut adding = JoinSet::new();
    for adder in 0..ADDERS {
        let log = Arc::clone(&logs[usize::try_from(adder % 2).unwrap()]);
        adding.spawn(async move {
            let mut added = Vec::new();
            for n in 0..EACH {
                added.push(add(&log, &format!("{adder}/{n}")).await.unwrap());
            }
            assert!(added.is_sorted_by_key(|entry| entry.number), "in the order in which it was asked");
            added
        });
    }
    let mut added: Vec<AuditEntry> = adding.join_all().await.into_iter().flatten().collect();
    added.sort_by_key(|entry| entry.number);
    for log in &logs {
        let found = all(log).await;
        assert_eq!(found, added);
        assert_eq!(verify(found.iter(), None), Ok(()));
    }
    let numbers: Vec<u64> = added.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=ADDERS * EACH).collect::<Vec<_>>());
    let times: Vec<i64> = added.iter().map(|entry| entry.at_microseconds).collect();
    assert!(times.is_sorted(), "by one clock, read by one at a time: {times:?}");
}

/// An entry that failed leaves no gap, and one that waits waits for its turn.
#[tokio::test]
async fn an_adder_that_dies_leaves_neither_a_gap_nor_a_lock() {
    let fixture = Fixture::new().await;
    assert_eq!(add(&fixture.log, "1").await.unwrap().number, 1);
    let mut dying = fixture.connection().await;
    let hold = "BEGIN; SELECT pg_advisory_xact_lock('pactum.audit'::regclass::oid::int8); \
                INSERT INTO pactum.audit SELECT 2, at, kind, begun, who, origin, act, target, reason, plan, \
                state_before, state_after, result, incarnation, hash, hash FROM pactum.audit";
    execute(&mut dying, hold).await;
    let log = Arc::clone(&fixture.log);
    let waiting = tokio::spawn(async move { add(&log, "2").await });
    fixture.until_waiting(1).await;
    // Decisions are not behind it.
    let (own, mut writer) = fixture.started().await;
    assert_eq!(writer.write(own, &[abort(own, gid(1))]).await, [ProposalResult::Won]);
    assert!(!waiting.is_finished());
    drop(dying);
    assert_eq!(waiting.await.unwrap().unwrap().number, 2);
    assert_eq!(verify(all(&fixture.log).await.iter(), None), Ok(()));
}

async fn refusal(fixture: &Fixture, sql: &'static str) -> String {
    let mut meddler = fixture.connection().await;
    let refused = sqlx::raw_sql(sql).execute(&mut meddler).await;
    refused.map(|done| panic!("{sql}: {done:?}")).unwrap_err().to_string()
}

#[tokio::test]
async fn entries_are_neither_changed_nor_taken_out_nor_put_in_out_of_order() {
    let fixture = Fixture::new().await;
    for n in 1..=3 {
        add(&fixture.log, &n.to_string()).await.unwrap();
    }
    let before = all(&fixture.log).await;
    for (sql, word) in [
        ("UPDATE pactum.audit SET reason = 'another' WHERE number = 2", "UPDATE is refused"),
        ("UPDATE pactum.audit SET reason = 'another' WHERE false", "UPDATE is refused"),
        ("DELETE FROM pactum.audit WHERE number = 2", "DELETE is refused"),
        ("TRUNCATE pactum.audit", "TRUNCATE is refused"),
        ("SET session_replication_role = replica; DELETE FROM pactum.audit", "DELETE is refused"),
        (
            "INSERT INTO pactum.audit SELECT * FROM pactum.audit WHERE number = 2 \
             ON CONFLICT (number) DO UPDATE SET who = 'another'",
            "is refused",
        ),
        (
            "INSERT INTO pactum.audit SELECT 5, at, kind, begun, who, origin, act, target, reason, plan, \
             state_before, state_after, result, incarnation, hash, hash FROM pactum.audit WHERE number = 3",
            "an entry 5 after 3 is refused",
        ),
        (
            "INSERT INTO pactum.audit SELECT 4, at, kind, begun, who, origin, act, target, reason, plan, \
             state_before, state_after, result, incarnation, hash, hash FROM pactum.audit WHERE number = 2",
            "an entry 4 after 3 is refused",
        ),
    ] {
        let told = refusal(&fixture, sql).await;
        assert!(told.contains("the audit is") && told.contains(word), "{sql}: {told}");
    }
    assert_eq!(all(&fixture.log).await, before);
    // Whoever owns the table can do it all the same: then it shows.
    let mut owner = fixture.connection().await;
    execute(&mut owner, "ALTER TABLE pactum.audit DISABLE TRIGGER ALL").await;
    execute(&mut owner, "UPDATE pactum.audit SET reason = 'another' WHERE number = 2").await;
    let changed = all(&fixture.log).await;
    assert_eq!(verify(changed.iter(), None).unwrap_err().number, 2);
}

#[tokio::test]
async fn what_is_no_entry_is_refused_by_the_table_too() {
    let fixture = Fixture::new().await;
    add(&fixture.log, "1").await.unwrap();
    for (columns, constraint) in [
        ("'begun', 1, 'me', 'act', 'plan', hash, hash", "exactly_beginnings_end_nothing"),
        ("'done', NULL, 'me', 'act', 'plan', hash, hash", "exactly_beginnings_end_nothing"),
        ("'done', 0, 'me', 'act', 'plan', hash, hash", "begun_is_a_number"),
        ("'ended', 1, 'me', 'act', 'plan', hash, hash", "kind_is_known"),
        ("'begun', NULL, '', 'act', 'plan', hash, hash", "somebody_did_something"),
        ("'begun', NULL, 'me', '', 'plan', hash, hash", "somebody_did_something"),
        ("'begun', NULL, 'me', 'act', repeat('x', 1048577), hash, hash", "texts_are_bounded"),
        ("'begun', NULL, 'me', 'act', 'plan', hash, 'short'::bytea", "hashes_are_sha256"),
    ] {
        let sql = format!(
            "INSERT INTO pactum.audit (number, at, kind, begun, who, act, plan, previous, hash, origin, target, \
             reason, state_before, state_after, result) \
             SELECT 2, at, {columns}, '', '', '', '', '', '' FROM pactum.audit"
        );
        let mut meddler = fixture.connection().await;
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut meddler).await.unwrap_err();
        let named = refused.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
        assert_eq!(named, Some(constraint), "{refused}");
    }
}

/// A serving role that may add entries and read them needs no more.
#[tokio::test]
async fn a_role_that_may_not_change_the_audit_adds_to_it_all_the_same() {
    let fixture = Fixture::new().await;
    let name = fixture.url.rsplit('/').next().unwrap();
    let sql = format!(
        "CREATE ROLE adding_{name} LOGIN PASSWORD 'adding';
         GRANT USAGE ON SCHEMA pactum TO adding_{name};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pactum TO adding_{name};
         REVOKE UPDATE, DELETE ON pactum.audit FROM adding_{name}"
    );
    server().psql(name, &sql).unwrap();
    let url = format!("postgres://adding_{name}:adding@127.0.0.1:{}/{name}", server().port());
    let serving = PostgresLog::open(PostgresLogOptions::from_url(&url).unwrap()).await.unwrap();
    let own = serving.start_incarnation("here").await.unwrap();
    let begun = serving.append_audit(&beginning(Some(own), "1")).await.unwrap();
    assert_eq!(add(&fixture.log, "2").await.unwrap().number, 2);
    serving.end_incarnation(own).await.unwrap();
    assert_eq!(serving.unended_audits().await.unwrap(), [begun]);
    let serving = Fixture { log: Arc::new(serving), url };
    for sql in
        ["UPDATE pactum.audit SET who = 'another'", "DELETE FROM pactum.audit", "TRUNCATE pactum.audit"]
    {
        let told = refusal(&serving, sql).await;
        assert!(told.contains("permission denied"), "{told}");
    }
}

/// What was answered is on the disk: not in memory, for the server to write some day.
#[tokio::test]
async fn an_entry_that_was_answered_survives_the_death_of_its_server() {
    let server = PostgresServer::start().unwrap();
    server.set("wal_writer_delay", "10s").unwrap();
    let url = server.create_database("log").unwrap();
    let log = open(&url).await;
    let mut added = Vec::new();
    for n in 0..3 {
        added.push(add(&log, &n.to_string()).await.unwrap());
        server.kill().unwrap();
        server.restart().unwrap();
        // Connections that the server took along are found out when they are used.
        let reading = async {
            loop {
                match log.audit(AuditPage::After(0), 10).await {
                    Ok(found) => return found,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        assert_eq!(tokio::time::timeout(LIMIT, reading).await.unwrap(), added);
        let ready = async {
            while log.doubted_of(&[]).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, ready).await.unwrap();
    }
    assert_eq!(verify(added.iter(), None), Ok(()));
}
