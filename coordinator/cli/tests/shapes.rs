//! The JSON that scripts read: every field by name, and a value of each. A field may be added here; one
//! that is missing or renamed breaks somebody's script.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::samples::{GID, INCARNATION, INSTANCE};
use support::scripted::Server;
use support::{assert_exit, stderr, stdout};

/// What the command prints with `-o json`.
#[track_caller]
fn document(server: &Server, args: &[&str], code: i32) -> Value {
    let output = server.ask(&[args, &["-o", "json"]].concat());
    assert_exit(&output, code);
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn transaction() -> Value {
    json!({
        "gid": GID,
        "incarnation": INCARNATION,
        "state": "committing",
        "name": "transfer",
        "labels": { "app": "pay" },
        "age_ms": 372_152,
        "decided_at": "2026-01-31T02:41:18.152Z",
        "abort": null,
        "branches": [
            {
                "branch": "00000000000000aa",
                "resource": "bank-a",
                "instance": INSTANCE,
                "vote": "commit",
                "evidence": "771",
                "evidence_anchor": "7412/1 0/1A2B3C",
                "outcome": "committed",
                "attempts": 1,
                "last_error": null,
                "attached": true,
                "next_attempt_in_ms": null,
                "report": null,
            },
            {
                "branch": "00000000000000ab",
                "resource": "bank-b",
                "instance": INSTANCE,
                "vote": "commit",
                "evidence": "771",
                "evidence_anchor": "7412/1 0/1A2B3C",
                "outcome": null,
                "attempts": 14,
                "last_error": "connection refused",
                "attached": true,
                "next_attempt_in_ms": 2000,
                "report": { "answered": true, "problem": null, "finding": finding() },
            },
            {
                "branch": "00000000000000ac",
                "resource": "bank-c",
                "instance": INSTANCE,
                "vote": "commit",
                "evidence": null,
                "evidence_anchor": null,
                "outcome": null,
                "attempts": 3,
                "last_error": null,
                "attached": false,
                "next_attempt_in_ms": null,
                "report": { "answered": false, "problem": "no instance is attached", "finding": null },
            },
        ],
        "waits_for": "bank-b: connection refused, 14 tries",
        "next_attempt_in_ms": 2000,
        "heuristic": null,
        "steps": [
            { "at_ms": 0, "step": "begun", "branch": null, "detail": null },
            { "at_ms": 4, "step": "voted", "branch": "00000000000000ab", "detail": "commit" },
        ],
        "driven_by": INCARNATION,
        "time_left_ms": null,
    })
}

fn finding() -> Value {
    json!({
        "presence": "prepared",
        "evidence": "771",
        "prepared_for_ms": 372_000,
        "locks": 2,
        "blocked": [{ "pid": 4711, "user": "app", "application": "psql", "waits_ms": 5000 }],
        "pinned_transactions": 1034,
        "note": "the oldest in its database",
    })
}

#[test]
fn a_transaction_has_these_fields_and_what_would_help_it() {
    let server = Server::start();
    let mut shown = document(&server, &["tx", "show", "ffff"], 0);
    let next = shown.as_object_mut().unwrap().remove("next").unwrap();
    assert_eq!(shown, transaction());
    assert!(server.seen().inspected[0].examine, "the databases are asked unless told otherwise");
    for offered in next.as_array().unwrap() {
        assert_eq!(offered.as_object().unwrap().keys().collect::<Vec<_>>(), ["command", "why"]);
    }
    assert_eq!(next[0]["command"], "pactum tx watch 4a7f2a");
    let unasked = server.ask(&["tx", "show", "ffff", "--no-examine"]);
    assert_exit(&unasked, 0);
    assert!(!server.seen().inspected[1].examine);
}

/// Whoever writes a script reads the fields there.
#[test]
fn every_field_is_in_the_reference() {
    fn names(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    found.push(name.clone());
                    // The application's own.
                    if name != "labels" && name != "settings" {
                        names(value, found);
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| names(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let reference = include_str!("../../../docs/cli.md");
    let server = Server::start();
    for (args, code) in [
        (&["tx", "show", "ffff"][..], 0),
        (&["tx", "list"], 0),
        (&["tx", "resolve", "8888", "--dry-run"], 6),
        (&["tx", "resolve", "ffff", "--reason", "test", "--yes"], 0),
        (&["quarantine", "list"], 8),
        (&["heuristic", "list"], 0),
        (&["participant", "list"], 0),
        (&["audit", "list"], 0),
        (&["audit", "verify"], 0),
    ] {
        let mut found = Vec::new();
        names(&document(&server, args, code), &mut found);
        assert!(found.len() > 2, "{args:?}");
        for name in found {
            assert!(reference.contains(&format!("`{name}`")), "{args:?}: {name}");
        }
    }
}

#[test]
fn a_page_shows_people_all_of_it() {
    let server = Server::start();
    let output = server.ask(&["tx", "show", "ffff"]);
    assert_exit(&output, 0);
    let page = stdout(&output);
    for part in [
        GID,
        "COMMITTING  age 6m12s  decided 2026-01-31T02:41:18Z",
        "last error  connection refused",
        "evidence    771 (7412/1 0/1A2B3C)",
        "holds       2 locks, prepared for 6m12s",
        "pins        1034 transactions",
        "blocks      pid 4711 of app (psql) for 5.0s",
        "its database  nothing was found out: no instance is attached",
        "4ms  voted  bank-b  commit",
        "waits for bank-b: connection refused, 14 tries; next try in 2.0s",
    ] {
        assert!(page.contains(part), "{part}:\n{page}");
    }
    assert!(page.lines().any(|line| line.contains("bank-c") && line.contains("no answer")), "{page}");
    let help = stderr(&output);
    assert!(
        help.contains("pactum tx retry 4a7f2a") && help.contains("pactum participant show bank-c"),
        "{help}"
    );
    let iso = stdout(&server.ask(&["tx", "show", "ffff", "--time", "unix"]));
    assert!(iso.contains("decided 1769827278"), "{iso}");
}

#[test]
fn a_list_has_these_fields() {
    let server = Server::start();
    let list = document(&server, &["tx", "list"], 0);
    assert_eq!(list.as_object().unwrap().keys().collect::<Vec<_>>(), ["next_page_token", "transactions"]);
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&list["transactions"][0]), fields(&transaction()));
}

#[test]
fn a_plan_and_a_result_have_these_fields() {
    let server = Server::start();
    let mut plan = document(&server, &["tx", "resolve", "ffff", "--dry-run"], 0);
    assert_eq!(plan["transaction"].take(), transaction());
    let wanted = json!({
        "act": "resolve",
        "title": "end what was named",
        "facts": ["the log says nothing", "bank-b says prepared"],
        "steps": ["the log closes it with abort"],
        "risk": "the books may differ",
        "heuristic": "heuristic_mixed",
        "refusal": null,
        "hash": "5f".repeat(32),
        "command": format!("pactum tx resolve {GID} --reason TEXT"),
        "confirmation": "4a7f2a",
        "transaction": null,
    });
    assert_eq!(plan, wanted);
    let refused = document(&server, &["tx", "resolve", "8888", "--dry-run"], 6);
    let refusal =
        json!({ "message": "commit is decided", "reason": "ALREADY_COMMITTED", "code": "PACTUM-0007" });
    assert_eq!(refused["refusal"], refusal);
    let mut done = document(&server, &["tx", "resolve", "ffff", "--reason", "test", "--yes"], 0);
    assert_eq!(done["transaction"].take(), transaction());
    let wanted = json!({
        "act": "resolve",
        "summary": "done as planned",
        "audit_number": 12,
        "plan_hash": "5f".repeat(32),
        "transaction": null,
    });
    assert_eq!(done, wanted);
}

#[test]
fn prepared_branches_have_these_fields() {
    let server = Server::start();
    let branch = |verdict: &str, explanation: &str| {
        json!({
            "resource": "bank-b",
            "gid": GID,
            "incarnation": INCARNATION,
            "branch": "00000000000000ab",
            "verdict": verdict,
            "explanation": explanation,
            "finding": finding(),
        })
    };
    let wanted = json!({
        "branches": [
            branch("orphan", "its owner has ended; the next inquiry rolls it back"),
            branch("quarantined", "the log went back in time; a person must end it"),
        ],
        "problems": [{ "resource": "bank-c", "problem": "no answer" }],
    });
    assert_eq!(document(&server, &["quarantine", "list"], 8), wanted, "8: not all of it is known");
    let quiet = document(&server, &["quarantine", "list", "--all", "--resource", "quiet"], 0);
    assert_eq!(quiet, json!({ "branches": [], "problems": [] }));
    let seen = server.seen();
    assert_eq!((seen.branches[0].stuck, seen.branches[0].limit), (true, 256));
    assert!(!seen.branches[1].stuck);
    drop(seen);
    let table = server.ask(&["quarantine", "list", "--resource", "bank-a"]);
    assert_exit(&table, 0);
    assert!(stdout(&table).contains("bank-b  the log went back in time; a person must end it"), "{table:?}");
    assert!(stderr(&table).contains(&format!("quarantine release --incarnation {INCARNATION}")), "{table:?}");
}

#[test]
fn heuristics_and_participants_have_these_fields() {
    let server = Server::start();
    let wanted = json!({
        "heuristics": [{
            "gid": GID,
            "resource": "bank-b",
            "branch": "00000000000000ab",
            "outcome": "heuristic_aborted",
            "decision": "committed",
            "recorded_at": "2026-01-31T02:41:18.152Z",
        }],
        "next_page_token": "",
    });
    assert_eq!(document(&server, &["heuristic", "list"], 0), wanted);
    let wanted = json!({
        "resource": "bank-a",
        "instance": INSTANCE,
        "identity": "7412/1",
        "marker": true,
        "peer": "127.0.0.1:50000",
        "version": "0.1.0",
        "attached_ms": 60_000,
        "branches_open": 3,
        "draining": true,
        "settings": { "max_prepared_transactions": "64" },
    });
    let list = document(&server, &["participant", "list"], 0);
    assert_eq!(list["participants"][0], wanted);
    assert_eq!(list["participants"].as_array().unwrap().len(), 2);
    let shown = document(&server, &["participant", "show", "beef"], 0);
    assert_eq!(shown, json!({ "participants": [wanted] }));
}

#[test]
fn entries_of_the_audit_have_these_fields() {
    let server = Server::start();
    let list = document(&server, &["audit", "list", "--after", "1", "--limit", "1"], 0);
    let entry = &support::scripted::audit()[1];
    let wanted = json!({
        "number": 2,
        "at": "2026-01-31T02:41:18.152Z",
        "at_microseconds": 1_769_827_278_152_000_i64,
        "kind": "done",
        "begun": 1,
        "who": "ann",
        "origin": "127.0.0.1:5 grpc",
        "act": "resolve",
        "target": "33333333-3333-3333-3333-333333333333",
        "reason": "nobody \"will\" commit it",
        "plan": "resolve it, 00",
        "before": "{\"state\":\"undecided\"}",
        "after": "{\"state\":\"aborted\"}",
        "result": "aborted, durably",
        "incarnation": INCARNATION,
        "previous": format!("{:?}", entry.previous),
        "hash": format!("{:?}", entry.hash),
    });
    assert_eq!(list, json!({ "entries": [wanted] }));
}

#[test]
fn jsonl_is_one_object_a_line_everywhere() {
    let server = Server::start();
    for (args, lines) in [
        (&["tx", "list"][..], 2),
        (&["tx", "show", "ffff"], 1),
        (&["tx", "resolve", "ffff", "--dry-run"], 1),
        (&["heuristic", "list"], 1),
        (&["participant", "list"], 2),
        (&["audit", "list"], 50),
        (&["audit", "verify"], 1),
        (&["quarantine", "list", "--resource", "bank-a"], 2),
        (&["explain", "7"], 1),
    ] {
        let output = server.ask(&[args, &["-o", "jsonl"]].concat());
        assert_exit(&output, 0);
        let text = stdout(&output);
        assert_eq!(text.lines().count(), lines, "{args:?}: {text}");
        for line in text.lines() {
            assert!(serde_json::from_str::<Value>(line).unwrap().is_object(), "{args:?}: {line}");
        }
    }
}
