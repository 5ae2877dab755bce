//! `pactum log status`, `doubt` and `release`, on a log in a file and on one in PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use pactum_postgres_server::PostgresServer;
use support::{assert_exit, run, stderr, stdout};

fn document(args: &[&str]) -> serde_json::Value {
    let answer = run(&[args, &["-o", "json"]].concat());
    assert_exit(&answer, 0);
    serde_json::from_str(&stdout(&answer)).unwrap()
}

/// Doubt is seen and released by the command alone (B5).
fn doubts_are_seen_and_released(url: &str) {
    assert_exit(&run(&["log", "migrate", "--log", url]), 0);
    let fresh = document(&["log", "status", "--log", url]);
    assert_eq!((fresh["switches"].as_u64(), fresh["absent_doubted"].as_bool()), (Some(0), Some(false)));
    let doubted = document(&["log", "doubt", "--log", url, "--reason", "put back on Tuesday"]);
    assert_eq!(doubted["doubted"].as_array().unwrap().len(), 0, "nobody was on it");
    let status = document(&["log", "status", "--log", url]);
    assert_eq!((status["switches"].as_u64(), status["absent_doubted"].as_bool()), (Some(1), Some(true)));
    let told = status["events"][0]["detail"].as_str().unwrap();
    assert!(told.starts_with("put back on Tuesday"), "{told}");
    let page = run(&["log", "status", "--log", url]);
    assert_exit(&page, 0);
    assert!(stdout(&page).contains("owners that are not listed are in doubt"), "{}", stdout(&page));
    let one = "0199c3d0-0000-7000-8000-000000000001";
    let released =
        document(&["log", "release", "--log", url, "--incarnation", one, "--reason", "compared with bank-a"]);
    assert_eq!(released["released"], 1);
    let all = run(&["log", "release", "--log", url, "--all", "--reason", "compared with all banks"]);
    assert_exit(&all, 0);
    let status = document(&["log", "status", "--log", url]);
    assert_eq!(status["absent_doubted"], false);
    assert_eq!(status["events"][0]["kind"], "released");
    assert_eq!(status["events"].as_array().unwrap().len(), 3);
}

#[test]
fn doubts_of_a_log_in_a_file_are_seen_and_released() {
    let directory = tempfile::tempdir().unwrap();
    doubts_are_seen_and_released(&format!("sqlite:{}", directory.path().join("log.db").display()));
}

#[test]
fn doubts_of_a_log_in_postgresql_are_seen_and_released() {
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    doubts_are_seen_and_released(&url);
    let status = document(&["log", "status", "--log", &url]);
    assert_eq!(status["timeline"], 1);
    assert_eq!(status["replication"]["required"], 0);
    let password =
        url.split_once("postgres:").unwrap().1.split_once(':').unwrap().1.split_once('@').unwrap().0;
    assert!(!status.to_string().contains(password), "no password is shown: {status}");
    let who = status["events"][0]["who"].as_str().unwrap();
    assert!(who.starts_with("postgres from "), "{who}");
}

#[test]
fn what_is_not_meant_is_refused_before_the_log_is_touched() {
    let nowhere = "postgres://nobody@127.0.0.1:1/log";
    for (args, exit) in [
        (&["log", "release", "--log", nowhere, "--reason", "r"][..], 2),
        (&["log", "release", "--log", nowhere, "--all", "--incarnation", "0199", "--reason", "r"], 2),
        (&["log", "release", "--log", nowhere, "--all"], 2),
        (&["log", "release", "--log", nowhere, "--all", "--reason", " "], 2),
        (&["log", "release", "--log", nowhere, "--incarnation", "0199", "--reason", "r"], 2),
        (&["log", "status", "--log", "memory:"], 2),
        (&["log", "status", "--log", nowhere], 4),
    ] {
        let refused = run(args);
        assert_exit(&refused, exit);
        assert!(!stderr(&refused).is_empty());
    }
}
