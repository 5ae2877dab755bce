//! Standbys, promotion and restores, on the real binaries of this machine.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic like the test itself")]

use pactum_postgres_server::{PostgresServer, Restored, ServerError};

fn count(server: &PostgresServer) -> String {
    server.psql("postgres", "select count(*) from t").unwrap()
}

#[test]
fn the_standby_that_is_furthest_ahead_has_every_acknowledged_commit_and_is_promoted() {
    let primary = PostgresServer::start().unwrap();
    primary.psql("postgres", "create table t (n int)").unwrap();
    let (one, two) = (primary.standby("s1").unwrap(), primary.standby("s2").unwrap());
    primary.wait_for_standbys(&["s1", "s2"]).unwrap();
    assert_eq!(primary.timeline().unwrap(), 1);
    // Cut off, the second one falls behind; any one is enough.
    two.detach().unwrap();
    for n in 1..=5 {
        primary.psql("postgres", &format!("insert into t values ({n})")).unwrap();
    }
    primary.psql("postgres", "begin; insert into t values (6); prepare transaction 'p'").unwrap();
    assert!(one.wal_position().unwrap() > two.wal_position().unwrap());
    assert!(one.psql("postgres", "insert into t values (7)").is_err(), "a standby takes no writes");
    primary.kill().unwrap();
    one.promote().unwrap();
    assert_eq!(one.timeline().unwrap(), 2);
    two.follow(&one, "s2").unwrap();
    one.wait_for_standbys(&["s2"]).unwrap();
    one.psql("postgres", "commit prepared 'p'").unwrap();
    assert_eq!(count(&one), "6");
    two.detach().unwrap();
    two.promote().unwrap();
    assert_eq!(two.timeline().unwrap(), 3);
    assert_eq!(count(&two), "6");
    // The old primary comes back where it was, and knows nothing of all this.
    primary.set("synchronous_standby_names", "").unwrap_err();
    primary.restart().unwrap();
    assert_eq!(primary.timeline().unwrap(), 1);
    assert_eq!(count(&primary), "5");
}

#[test]
fn a_server_goes_back_to_a_copy_with_or_without_a_new_timeline() {
    let server = PostgresServer::start().unwrap();
    server.psql("postgres", "create table t (n int); insert into t values (1)").unwrap();
    server.psql("postgres", "begin; insert into t values (2); prepare transaction 'p'").unwrap();
    let identity = || server.psql("postgres", "select system_identifier from pg_control_system()").unwrap();
    let (port, first) = (server.port(), identity());
    let copy = server.copy().unwrap();
    server.psql("postgres", "commit prepared 'p'").unwrap();
    server.psql("postgres", "insert into t select generate_series(3, 2000)").unwrap();
    let position = server.wal_position().unwrap();
    for (how, timeline) in [(Restored::SameTimeline, 1), (Restored::NewTimeline, 2)] {
        server.restore(&copy, how).unwrap();
        assert_eq!((server.port(), identity()), (port, first.clone()));
        assert_eq!(server.timeline().unwrap(), timeline, "{how:?}");
        assert_eq!(count(&server), "1", "{how:?}");
        assert_eq!(server.psql("postgres", "select gid from pg_prepared_xacts").unwrap(), "p");
        assert!(how == Restored::NewTimeline || server.wal_position().unwrap() < position);
        server.psql("postgres", "insert into t values (3)").unwrap();
        server.kill().unwrap();
        server.restart().unwrap();
        assert_eq!(count(&server), "2", "{how:?}");
    }
}

#[test]
fn a_standby_with_a_name_that_needs_quoting_is_refused() {
    let server = PostgresServer::start().unwrap();
    for name in ["", "S1", "a b", "1s", "s-1"] {
        assert!(matches!(server.standby(name), Err(ServerError::Invalid { .. })), "{name:?}");
        assert!(matches!(server.wait_for_standbys(&[name]), Err(ServerError::Invalid { .. })), "{name:?}");
    }
    let error = server.promote().unwrap_err();
    assert!(error.to_string().contains("not in progress"), "{error}");
}
