//! Each exit code of the command, against a server that answers as it is told to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use support::scripted::Server;
use support::{assert_exit, pactum, run, stderr, stdout};

#[test]
fn each_kind_of_answer_has_its_exit_code_and_names_its_error() {
    let server = Server::start();
    let resolve: &[&str] = &["--reason", "test", "--yes"];
    let cases: [(&[&str], &[&str], i32, &str); 26] = [
        (&["tx", "show", "3333"], &[], 0, ""),
        (&["tx", "show", "4444"], &[], 1, "INTERNAL (PACTUM-0022)"),
        (&["tx", "show", "6666"], &[], 1, "try again in 1s"),
        (&["tx", "show", "5555"], &[], 2, "gid: at least 4 digits are needed"),
        (&["tx", "list", "--filter", "colour=red"], &[], 2, "\"colour\" is no key"),
        (&["tx", "show", "0000"], &[], 3, "TRANSACTION_NOT_FOUND (PACTUM-0016)"),
        (&["participant", "show", "bank-z"], &[], 3, "attached are: bank-a"),
        (&["tx", "show", "1111", "--timeout", "200ms"], &[], 5, "TIMED_OUT (PACTUM-0038)"),
        (&["tx", "resolve", "1111", "--timeout", "200ms"], resolve, 5, "no answer from"),
        (&["tx", "resolve", "8888"], resolve, 6, "ALREADY_COMMITTED (PACTUM-0007)"),
        (&["tx", "resolve", "9999"], resolve, 6, "PLAN_CHANGED (PACTUM-0023)"),
        (&["tx", "show", "dddd"], &[], 6, "Give more digits"),
        (&["tx", "show", "2222"], &[], 7, "PERMISSION_DENIED (PACTUM-0043)"),
        (&["tx", "show", "aaaa"], &[], 7, "Give --token-file"),
        (&["tx", "show", "3333", "0000"], &[], 8, "there is no transaction 0000"),
        (&["tx", "resolve", "3333", "8888"], resolve, 8, "1 of 2 failed"),
        (&["quarantine", "list"], &[], 8, "not all of bank-c is known: no answer"),
        (&["tx", "retry", "0000", "0000"], &[], 3, "there is no transaction 0000"),
        (&["tx", "retry", "0000", "4444"], &[], 1, "a broken contract"),
        (&["tx", "resolve", "7777", "--timeout", "400ms"], resolve, 9, "may or may not have happened"),
        (&["tx", "resolve", "3333"], resolve, 0, ""),
        (&["tx", "watch", "3333"], &[], 0, ""),
        (&["tx", "watch", "9999"], &[], 10, ""),
        (&["tx", "watch", "7777"], &[], 4, "the server ended the stream"),
        (&["tx", "list", "--watch", "--filter", "name=ends"], &[], 4, "the server ended the stream"),
        (&["tx", "list", "--filter", "name=nobody"], &[], 0, "nothing fits"),
    ];
    for (args, more, code, said) in cases {
        let output = server.ask(&[args, more].concat());
        assert_exit(&output, code);
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_server_that_is_not_there_cannot_be_connected_to() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&["tx", "list", "--server", &format!("http://{free}")]);
    assert_exit(&output, 4);
    assert!(stderr(&output).contains("CANNOT_CONNECT (PACTUM-0037)"), "{}", stderr(&output));
    assert!(stdout(&output).is_empty());
}

#[test]
fn a_server_that_does_not_answer_is_given_up_on() {
    // Accepts (by the backlog) and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let output = run(&["tx", "list", "--server", &url, "--timeout", "300ms", "--connect-timeout", "300ms"]);
    assert!(matches!(output.status.code(), Some(4 | 5)), "{output:?}");
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    for args in [
        &["tx", "shwo"] as &[&str],
        &["tx", "show"],
        &["tx", "list", "--server", "nonsense"],
        &["tx", "list", "--server", "https://127.0.0.1:1"],
        &["tx", "list", "--timeout", "soon"],
        &["tx", "resolve", "3333", "--yes"],
        &["tx", "resolve", "3333", "--yes", "--reason", " "],
        &["tx", "overrule", "3333", "--resource", "bank-b", "--yes", "--reason", "r"],
        &["tx", "overrule", "3333", "--resource", "b", "--commit", "--rollback", "--yes", "--reason", "r"],
        &["tx", "overrule", "3333", "--commit", "--yes", "--reason", "r"],
        &["tx", "list", "--watch", "--page-token", "x"],
        &["quarantine", "release", "--yes", "--reason", "r"],
        &["quarantine", "release", "--incarnation", "0199", "--yes", "--reason", "r"],
        &["participant", "drain", "bank-a", "--yes"],
        &["audit", "verify", "--expect", "17"],
        &["audit", "verify", "--file", "/nowhere/audit.jsonl"],
        &["tx", "list", "--token-file", "/nowhere/token"],
        &["demo", "transfer", "--crash", "coordinator@lunch"],
    ] {
        assert_exit(&run(args), 2);
    }
}

/// The runtime itself would panic at it.
#[test]
fn a_number_of_threads_that_cannot_be_is_refused() {
    for threads in ["0", "-1", "many", ""] {
        let output =
            pactum(&["explain", "PACTUM-1001"]).env("TOKIO_WORKER_THREADS", threads).output().unwrap();
        assert_exit(&output, 2);
        assert!(stderr(&output).contains("at least 1"), "{}", stderr(&output));
    }
    let output = pactum(&["explain"]).env("TOKIO_WORKER_THREADS", "3").output().unwrap();
    assert_exit(&output, 0);
}

#[test]
fn an_interrupt_has_its_own_code() {
    let server = Server::start();
    let mut child =
        pactum(&["tx", "watch", "8888", "--server", &server.url]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("ACTIVE"), "{line}");
    support::send(&child, rustix::process::Signal::INT);
    assert_eq!(support::wait(&mut child).code(), Some(130));
}

#[test]
fn json_is_data_alone_and_jsonl_is_a_line_each() {
    let server = Server::start();
    let list = |form: &str| {
        let output = run(&["tx", "list", "--in-doubt", "--limit", "7", "-o", form, "--server", &server.url]);
        assert_exit(&output, 0);
        assert!(stderr(&output).is_empty(), "{}", stderr(&output));
        stdout(&output)
    };
    let json: serde_json::Value = serde_json::from_str(&list("json")).unwrap();
    assert_eq!(json["next_page_token"], "next");
    let asked = server.seen().listed[0].clone();
    assert_eq!((asked.page_size, asked.in_doubt, asked.finished), (7, true, false));
    assert_eq!(json["transactions"][0]["gid"], "77777777-7777-7777-7777-777777777777");
    assert_eq!(json["transactions"][0]["state"], "active");
    let lines: Vec<serde_json::Value> =
        list("jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);

    let failed = run(&["tx", "show", "0000", "-o", "json", "--server", &server.url]);
    let error: serde_json::Value = serde_json::from_str(&stderr(&failed)).unwrap();
    assert_eq!((error["code"].as_str(), error["exit_code"].as_u64()), (Some("PACTUM-0016"), Some(3)));
}

#[test]
fn every_option_has_a_variable_and_what_is_typed_wins() {
    let server = Server::start();
    let from_variable = pactum(&["participant", "list"])
        .env("PACTUM_SERVER", &server.url)
        .env("PACTUM_OUTPUT", "json")
        .output();
    let json: serde_json::Value = serde_json::from_slice(&from_variable.unwrap().stdout).unwrap();
    assert_eq!(json["participants"][0]["resource"], "bank-a");
    let typed = pactum(&["participant", "list", "-o", "table"])
        .env("PACTUM_SERVER", &server.url)
        .env("PACTUM_OUTPUT", "json")
        .output();
    assert!(stdout(&typed.unwrap()).starts_with("RESOURCE"));
}

#[test]
fn the_help_tells_the_exit_codes_and_the_variables() {
    let help = stdout(&run(&["--help"]));
    for word in ["Exit codes:", "130", "PACTUM_SERVER", "PACTUM_TIMEOUT", "demo", "completion"] {
        assert!(help.contains(word), "{word}:\n{help}");
    }
    assert!(!help.contains("demo-bank"), "hidden commands are shown:\n{help}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&run(&["completion", shell])).contains("pactum"), "{shell}");
    }
}
