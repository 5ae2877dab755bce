//! `pactum demo transfer` in its forms, and that nothing of it outlives it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use support::{assert_exit, pactum, run, stderr, stdout};

/// Runs it, and answers its one object.
fn transfer(args: &[&str]) -> Value {
    let output = run(&[&["demo", "transfer", "--transfers", "40", "-o", "json"], args].concat());
    assert_exit(&output, 0);
    let text = stdout(&output);
    let summary: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(summary["ok"], true, "{summary}");
    assert_eq!(summary["in_doubt"], 0, "{summary}");
    assert_eq!(summary["sum_before"], summary["sum_after"], "{summary}");
    let (committed, aborted) = (summary["committed"].as_u64().unwrap(), summary["aborted"].as_u64().unwrap());
    assert_eq!(committed + aborted, 40, "{summary}");
    assert!(committed > 0 && aborted > 0, "{summary}");
    for number in ["transfers_per_second", "p50_ms", "p99_ms"] {
        assert!(summary[number].as_f64().unwrap() > 0.0, "{summary}");
    }
    summary
}

#[test]
fn money_is_moved_and_none_is_lost() {
    let summary = transfer(&[]);
    assert_eq!(summary["database"], "sqlite");
    // Exactly the tenth that asks for too much.
    assert_eq!(
        (summary["committed"].as_u64(), summary["refused"].as_u64()),
        (Some(36), Some(4)),
        "{summary}"
    );
}

#[test]
fn money_is_moved_between_postgresql_databases() {
    let summary = transfer(&["--postgres"]);
    assert_eq!(summary["database"], "postgres");
    assert_eq!(
        (summary["committed"].as_u64(), summary["refused"].as_u64()),
        (Some(36), Some(4)),
        "{summary}"
    );
}

#[test]
fn a_coordinator_killed_after_the_decision_commits_all_the_same() {
    let summary = transfer(&["--crash", "coordinator@decided"]);
    assert_eq!(summary["crash"]["happened"], true);
    // Law 2 from the other side: what is durable is told, whoever is killed.
    assert_eq!(summary["crash"]["outcome"], "committed", "{summary}");
}

#[test]
fn a_participant_killed_after_its_vote_keeps_its_promise() {
    let summary = transfer(&["--crash", "participant@prepared"]);
    assert_eq!(summary["crash"]["happened"], true);
    assert!(summary["crash"]["down_ms"].as_f64().unwrap() > 0.0, "{summary}");
}

#[test]
fn crashes_lose_no_money_in_postgresql_either() {
    for crash in ["coordinator@decided", "participant@prepared"] {
        let summary = transfer(&["--postgres", "--crash", crash]);
        assert_eq!(summary["crash"]["happened"], true, "{crash}");
    }
}

#[test]
fn every_other_step_can_be_crashed_at_too() {
    for crash in ["coordinator@vote-received", "participant@prepare-received", "participant@branch-ended"] {
        let summary = transfer(&["--crash", crash]);
        assert_eq!(summary["crash"]["happened"], true, "{crash}");
    }
}

#[test]
fn databases_made_on_a_server_that_was_given_are_dropped_again() {
    let server = pactum_postgres_server::PostgresServer::start().unwrap();
    transfer(&["--postgres", &server.superuser_url()]);
    let left = server
        .psql("postgres", "select count(*) from pg_database where datname like 'pactum_demo%'")
        .unwrap();
    assert_eq!(left.trim(), "0");
}

#[test]
fn people_see_the_steps_the_crash_and_the_sums() {
    let output = run(&["demo", "transfer", "--transfers", "20", "--crash", "coordinator@decided"]);
    assert_exit(&output, 0);
    let page = stdout(&output);
    for word in [
        "prepare",
        "COMMIT durable",
        "bank-a committed",
        "refused: bank-",
        "KILLED",
        "STARTED AGAIN",
        "the same",
    ] {
        assert!(page.contains(word), "{word}:\n{page}");
    }
    assert!(stderr(&output).contains("Next: pactum demo transfer"), "{}", stderr(&output));
}

#[test]
fn a_run_too_short_for_a_refusal_does_not_count_as_done() {
    let output = run(&["demo", "transfer", "--transfers", "1", "-o", "json"]);
    assert_exit(&output, 1);
    let summary: Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
    assert_eq!(summary["ok"], false);
    assert!(stderr(&output).contains("PACTUM-0041"), "{}", stderr(&output));
}

/// The processes whose parent is this one.
fn children_of(parent: u32) -> BTreeSet<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let its_parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (its_parent == parent).then_some(pid)
    });
    processes.collect()
}

/// Whether it runs; a zombie does not.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

#[test]
fn no_child_outlives_the_command_however_that_ends() {
    for signal in [Signal::KILL, Signal::INT, Signal::TERM] {
        let directory = tempfile::tempdir().unwrap();
        let mut parent = pactum(&["demo", "transfer", "--transfers", "1000000", "-o", "json"])
            .env("TMPDIR", directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let children = support::until("three children run", || {
            Some(children_of(parent.id())).filter(|children| children.len() == 3)
        });
        support::send(&parent, signal);
        let status = support::wait(&mut parent);
        if signal != Signal::KILL {
            assert_eq!(status.code(), Some(130), "{signal:?}");
        }
        for child in children {
            support::until("the child has ended", || (!runs(child)).then_some(()));
        }
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert!(left.is_empty(), "{signal:?} left {left:?}");
    }
}
