//! The throw-away server on the real binaries of this machine.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic like the test itself")]
#![allow(clippy::print_stdout, reason = "one test is the parent of another and reads what it prints")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pactum_postgres_server::{PostgresServer, ServerError, binaries};

/// Waits for a condition, generously.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen within a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn acknowledged_commits_and_prepared_transactions_survive_a_kill_and_a_stop() {
    let server = PostgresServer::start().unwrap();
    server.create_database("one").unwrap();
    server.psql("one", "create table t (n int)").unwrap();
    for n in 1..=20 {
        server.psql("one", &format!("insert into t values ({n})")).unwrap();
    }
    server.psql("one", "begin; insert into t values (21); prepare transaction 'p'").unwrap();
    let (port, first) = (server.port(), server.pid().unwrap());
    server.kill().unwrap();
    assert_eq!(server.pid(), None);
    assert!(server.psql("one", "select 1").is_err(), "a killed server answers nobody");
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid().unwrap(), first);
    assert_eq!(server.psql("one", "select count(*) from t").unwrap(), "20");
    server.stop().unwrap();
    server.stop().unwrap();
    server.restart().unwrap();
    server.psql("one", "commit prepared 'p'").unwrap();
    assert_eq!(server.psql("one", "select sum(n) from t").unwrap(), "231");
}

#[test]
fn settings_are_durable_by_default_and_can_be_changed_in_flight() {
    let server = PostgresServer::start_with(&[("max_prepared_transactions", "7")]).unwrap();
    let show = |name: &str| server.psql("postgres", &format!("show {name}")).unwrap();
    assert_eq!(show("max_prepared_transactions"), "7");
    assert_eq!(show("max_connections"), "100");
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(show(name), "on", "{name}");
    }
    assert_eq!(show("listen_addresses"), "127.0.0.1");
    assert_eq!(show("unix_socket_directories"), "");
    server.set("synchronous_commit", "off").unwrap();
    assert_eq!(show("synchronous_commit"), "off");
    server.set("synchronous_commit", "on").unwrap();
    assert_eq!(show("synchronous_commit"), "on");
    let error = server.set("synchronous_commit", "perhaps").unwrap_err();
    assert!(error.to_string().contains("synchronous_commit"), "{error}");
    server.set("statement_timeout", "1h").unwrap(); // the bad one is not in the way
    assert_eq!(show("statement_timeout"), "1h");
}

#[test]
fn a_password_is_needed() {
    let server = PostgresServer::start().unwrap();
    let url = server.superuser_url();
    let (before, after) = url.split_once('@').unwrap();
    let (before, _) = before.rsplit_once(':').unwrap();
    let psql = server.bin().join("psql");
    let program = if psql.is_file() { psql } else { "psql".into() };
    let output = Command::new(program)
        .args(["-X", "-w", "-c", "select 1", &format!("{before}:guess@{after}")])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("password authentication failed"), "{text}");
}

#[test]
fn names_that_would_need_quoting_are_refused() {
    let server = PostgresServer::start().unwrap();
    for name in ["", "Upper", "a b", "a\"b", &"x".repeat(64)] {
        assert!(matches!(server.create_database(name), Err(ServerError::Invalid { .. })), "{name:?}");
    }
    let error = server.create_database("postgres").unwrap_err();
    assert!(error.to_string().contains("already exists"), "{error}");
}

#[test]
fn a_setting_that_the_server_refuses_is_an_error_with_its_log() {
    let error = PostgresServer::start_with(&[("shared_buffers", "many")]).unwrap_err();
    assert!(error.to_string().contains("shared_buffers"), "{error}");
}

#[test]
fn dropping_stops_the_server_and_removes_its_directory() {
    let server = PostgresServer::start().unwrap();
    let directory = server.log_path().parent().unwrap().to_owned();
    let pid = server.pid().unwrap();
    assert!(directory.is_dir());
    drop(server);
    assert!(!directory.exists());
    assert!(!is_alive(pid));
}

/// Not a claim of its own: the process that the next test kills. It runs by name only.
#[test]
fn the_binaries_are_found() {
    let bin = binaries::find().unwrap();
    assert!(bin.join("postgres").is_file() && bin.join("initdb").is_file());
    if std::env::var_os("PACTUM_SERVER_TEST_HOLD").is_some() {
        let server = PostgresServer::start().unwrap();
        println!("\nserver {} {}", server.pid().unwrap(), server.log_path().parent().unwrap().display());
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn a_server_does_not_outlive_a_killed_parent() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_binaries_are_found", "--nocapture"])
        .env("PACTUM_SERVER_TEST_HOLD", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("server ")).unwrap();
    let mut words = line.split(' ').skip(1);
    let pid: u32 = words.next().unwrap().parse().unwrap();
    let directory = Path::new(words.next().unwrap());
    assert!(is_alive(pid) && directory.is_dir());
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the end of the orphaned server", || !is_alive(pid));
    eventually("the removal of its directory", || !directory.exists());
}

/// Whether a process runs; one that is dead and not reaped does not.
fn is_alive(pid: u32) -> bool {
    let state = if Path::new("/proc/self/stat").exists() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").map_or_else(String::new, |(_, rest)| rest.to_owned())
    } else {
        let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    !state.is_empty() && !state.starts_with('Z')
}
