//! The audit, tokens, lists that keep up, and the pages of errors: what is read, written and shown.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use pactum_proto::error::ErrorCode;
use support::scripted::{AUDIT_ENTRIES, Server};
use support::{assert_exit, pactum, run, stderr, stdout};

#[test]
fn an_audit_is_exported_page_by_page_verified_and_never_written_over() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let file = path.to_str().unwrap();
    let exported = server.ask(&["audit", "export", "--file", file]);
    assert_exit(&exported, 0);
    let kept = stderr(&exported).split("--expect ").nth(1).unwrap().trim().to_owned();
    assert!(kept.starts_with(&format!("{AUDIT_ENTRIES}:")), "{kept}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count() as u64, AUDIT_ENTRIES);
    assert!(server.seen().audits.len() >= 3, "no page holds it all");
    assert_eq!(stdout(&server.ask(&["audit", "export"])), text, "the same on stdout");

    // Whole: from the server, from the file, from stdin.
    for source in [&[][..], &["--file", file]] {
        let verified = server.ask(&[&["audit", "verify", "--expect", &kept, "-o", "json"], source].concat());
        assert_exit(&verified, 0);
        let told: serde_json::Value = serde_json::from_str(&stdout(&verified)).unwrap();
        assert_eq!((told["whole"].as_bool(), told["entries"].as_u64()), (Some(true), Some(AUDIT_ENTRIES)));
        let last = &told["last"];
        assert_eq!(format!("{}:{}", last["number"], last["hash"].as_str().unwrap()), kept);
    }
    let stdin = std::fs::File::open(&path).unwrap();
    assert_exit(&pactum(&["audit", "verify", "--file", "-"]).stdin(stdin).output().unwrap(), 0);

    let again = server.ask(&["audit", "export", "--file", file]);
    assert_exit(&again, 2);
    assert!(stderr(&again).contains("never written over"), "{}", stderr(&again));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn an_export_that_was_tampered_with_or_cut_off_is_found() {
    let server = Server::start();
    let text = stdout(&server.ask(&["audit", "export"]));
    let entries = support::scripted::audit();
    let last = entries.last().unwrap();
    let kept = format!("{}:{:?}", last.number, last.hash);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let lines: Vec<&str> = text.lines().collect();
    let forged = lines[6].replace("nobody", "somebody");
    let without = [&lines[..6], &lines[7..]].concat().join("\n");
    let changed = [&lines[..6], &[forged.as_str()], &lines[7..]].concat().join("\n");
    let cut = lines[..2000].join("\n");
    for (content, expect, said) in [
        (changed.as_str(), None, "entry 7 was changed"),
        (&without, None, "entry 8 comes after entry 6"),
        (&cut, Some(kept.as_str()), "the end was cut off"),
    ] {
        std::fs::write(&path, content).unwrap();
        let mut args = vec!["audit", "verify", "--file", path.to_str().unwrap()];
        args.extend(expect.iter().flat_map(|kept| ["--expect", kept]));
        let output = run(&args);
        assert_exit(&output, 1);
        assert!(stderr(&output).contains(said) && stderr(&output).contains("PACTUM-0046"), "{output:?}");
    }
    std::fs::write(&path, &cut).unwrap();
    assert_exit(&run(&["audit", "verify", "--file", path.to_str().unwrap()]), 0);
    std::fs::write(&path, "no json\n").unwrap();
    let output = run(&["audit", "verify", "--file", path.to_str().unwrap()]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("line 1 of"), "{output:?}");
}

#[test]
fn the_audit_is_listed_newest_first_and_in_pages() {
    let server = Server::start();
    let output = server.ask(&["audit", "list", "--limit", "3"]);
    assert_exit(&output, 0);
    let text = stdout(&output);
    let numbers: Vec<_> = text.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(numbers, ["2345", "2344", "2343"]);
    assert!(text.contains("..333333") && text.contains("done of 2343"), "{text}");
    assert!(stderr(&output).contains("more: --before 2343"), "{}", stderr(&output));
}

#[test]
fn a_token_is_shown_once_kept_as_a_hash_and_sent_with_each_call() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("tokens.toml");
    let file = place.to_str().unwrap();
    let created = run(&["token", "create", "--name", "ann", "--role", "operator", "--file", file]);
    assert_exit(&created, 0);
    let token = stdout(&created).trim().to_owned();
    assert!(token.starts_with("pactum_") && token.len() == 7 + 43, "{token}");
    let json = run(&["token", "create", "--name", "bob", "--role", "viewer", "--file", file, "-o", "json"]);
    let bob: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!((bob["name"].as_str(), bob["role"].as_str()), (Some("bob"), Some("viewer")));
    let text = std::fs::read_to_string(&place).unwrap();
    assert!(!text.contains(&token) && text.matches("sha256 = ").count() == 2, "{text}");
    assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);

    let twice = run(&["token", "create", "--name", "ann", "--role", "viewer", "--file", file]);
    assert_exit(&twice, 6);
    let listed = run(&["token", "list", "--file", file, "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&stdout(&listed)).unwrap();
    let names: Vec<_> = listed["tokens"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["ann", "bob"]);
    assert!(listed["tokens"][0].get("sha256").is_none());
    assert_exit(&run(&["token", "revoke", "carl", "ann", "--file", file]), 3);
    assert_exit(&run(&["token", "revoke", "ann", "--file", file]), 0);
    let left = std::fs::read_to_string(&place).unwrap();
    assert!(!left.contains("ann") && left.contains("bob"), "all or none: {left}");
    assert_exit(&run(&["token", "list", "--file", "/nowhere/tokens"]), 3);
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = run(&["token", "list", "--file", file]);
    assert_exit(&open, 2);
    assert!(stderr(&open).contains("chmod 600"), "{}", stderr(&open));

    let secret = directory.path().join("secret");
    std::fs::write(&secret, format!("{token}\n")).unwrap();
    let secret = secret.to_str().unwrap();
    let output =
        server.ask(&["tx", "resolve", "3333", "--reason", "r", "--yes", "--token-file", secret, "-vvv"]);
    assert_exit(&output, 0);
    assert!(!(stdout(&output) + &stderr(&output)).contains(&token), "it is printed nowhere");
    let by_variable =
        pactum(&["status", "--server", &server.url]).env("PACTUM_TOKEN_FILE", secret).output().unwrap();
    assert_exit(&by_variable, 0);
    assert_exit(&server.ask(&["status"]), 0);
    let bearer = Some(format!("Bearer {token}"));
    assert_eq!(server.seen().authorization, [bearer.clone(), bearer.clone(), bearer, None]);
    std::fs::write(secret, "two words").unwrap();
    let malformed = server.ask(&["status", "--token-file", secret]);
    assert_exit(&malformed, 2);
    assert!(!stderr(&malformed).contains("two words"), "what may be a secret is not printed");
}

#[test]
fn conditions_are_sent_as_typed_and_stuck_is_in_doubt_for_a_while() {
    let server = Server::start();
    assert_exit(&server.ask(&["tx", "list", "--filter", "age>5m label.app=pay", "--page-token", "t"]), 0);
    assert_exit(&server.ask(&["tx", "list", "--stuck"]), 0);
    let seen = server.seen();
    assert_eq!(
        (seen.listed[0].filter.as_str(), seen.listed[0].page_token.as_str()),
        ("age>5m label.app=pay", "t")
    );
    assert!(seen.listed[1].in_doubt && seen.listed[1].older_than.unwrap().seconds == 30);
}

#[test]
fn a_watched_list_is_a_line_a_change_and_an_object_a_list() {
    let server = Server::start();
    let watch = |form: &str| {
        let output = server.ask(&["tx", "list", "--watch", "--filter", "name=ends", "-o", form]);
        assert_exit(&output, 4);
        stdout(&output)
    };
    let lines = watch("table");
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("333333..333333  ACTIVE") && lines[1].starts_with("777777.."), "{lines:?}");
    assert_eq!(lines[2], "333333..333333  not listed any more");
    let lengths: Vec<usize> = watch("json")
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|list| list["transactions"].as_array().unwrap().len())
        .collect();
    assert_eq!(lengths, [2, 2, 1]);
}

#[test]
fn a_watched_list_is_left_by_an_interrupt() {
    let server = Server::start();
    let mut child =
        pactum(&["tx", "list", "--watch", "--server", &server.url]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    support::send(&child, rustix::process::Signal::INT);
    assert_eq!(support::wait(&mut child).code(), Some(130));
}

#[test]
fn errors_are_explained_offline_each_on_its_page() {
    for (asked, part) in [
        ("PACTUM-0007", "ALREADY_COMMITTED"),
        ("7", "a decision is never reversed"),
        ("plan_changed", "another operator"),
    ] {
        let output = run(&["explain", asked]);
        assert_exit(&output, 0);
        let page = stdout(&output);
        assert!(page.contains("What to do\n") && page.contains("$ pactum "), "{page}");
        assert!(page.contains(part), "{page}");
    }
    let wrong = run(&["explain", "PACTUM-9999"]);
    assert_exit(&wrong, 3);
    assert!(stderr(&wrong).contains("pactum explain lists them all"), "{}", stderr(&wrong));
    let list = stdout(&run(&["explain"]));
    assert_eq!(list.lines().count(), ErrorCode::ALL.len());
    assert!(list.lines().all(|line| line.ends_with('.')), "{list}");
    let all: serde_json::Value = serde_json::from_str(&stdout(&run(&["explain", "-o", "json"]))).unwrap();
    assert_eq!(all["errors"].as_array().unwrap().len(), ErrorCode::ALL.len());
    assert!(all["errors"][0]["page"].as_str().unwrap().starts_with("PACTUM-0001"));
}
