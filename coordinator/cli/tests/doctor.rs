//! `pactum check`, `doctor`, `debug bundle` and `config`, with real coordinators and real logs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use pactum_postgres_server::PostgresServer;
use support::{Coordinator, assert_exit, pactum, run, stderr, stdout};

fn serve(log: &str) -> Coordinator {
    let addresses = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "-o", "json"];
    Coordinator::start(pactum(&[&["serve", "--log", log], &addresses[..]].concat()))
}

fn json(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_check_answers_with_the_numbers_that_monitors_know() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::dev(directory.path());
    let well = coordinator.ask(&["check"]);
    assert_exit(&well, 0);
    assert!(stdout(&well).contains("OK  log           can be written"), "{}", stdout(&well));
    let nagios = coordinator.ask(&["check", "--format", "nagios"]);
    assert_exit(&nagios, 0);
    assert!(
        stdout(&nagios).starts_with("PACTUM OK - all is well | coordinators=1 log_writable=1"),
        "{}",
        stdout(&nagios)
    );
    let prometheus = coordinator.ask(&["check", "--format", "prometheus"]);
    assert!(
        stdout(&prometheus).contains("\npactum_check_status{item=\"log\"} 0\n"),
        "{}",
        stdout(&prometheus)
    );
    let document = json(&coordinator.ask(&["check", "-o", "json"]));
    assert_eq!(document["status"], "ok");
    assert!(document["items"].as_array().unwrap().len() >= 6);

    let missing = coordinator.ask(&["check", "--expect", "bank-a", "--format", "json"]);
    assert_exit(&missing, 2);
    assert_eq!(json(&missing)["status"], "critical");
    assert_exit(&coordinator.ask(&["check", "--min-coordinators", "2"]), 2);
    // Wrong usage says nothing of the coordinator; 2 would be taken for critical.
    assert_exit(&coordinator.ask(&["check", "--max-age", "soon"]), 3);
    assert_exit(&coordinator.ask(&["status", "--timeout", "soon"]), 2);
    // The public port has no such service: nothing can be said.
    let other = run(&["check", "--server", &coordinator.public]);
    assert_exit(&other, 3);
    let admin = coordinator.admin.clone();
    drop(coordinator);
    let gone = run(&["check", "--server", &admin, "--format", "nagios"]);
    assert_exit(&gone, 2);
    assert!(stdout(&gone).starts_with("PACTUM CRITICAL - coordinator: no connection"), "{}", stdout(&gone));
}

#[test]
fn a_check_sees_a_log_that_is_gone() {
    let server = PostgresServer::start().unwrap();
    let log = server.create_database("log").unwrap();
    let coordinator = serve(&log);
    assert_exit(&coordinator.ask(&["check"]), 0);
    assert_exit(&coordinator.ask(&["check", "--min-standbys", "1"]), 1);
    server.stop().unwrap();
    let critical = support::until("the coordinator has noticed", || {
        let seen = coordinator.ask(&["check"]);
        (seen.status.code() == Some(2)).then_some(seen)
    });
    assert!(stdout(&critical).contains("CRITICAL"), "{}", stdout(&critical));
}

#[test]
fn the_doctor_finds_what_is_wrong_with_a_log_and_says_what_to_do() {
    let server = PostgresServer::start().unwrap();
    let log = server.create_database("log").unwrap();
    let look =
        |args: &[&str]| run(&[&["doctor", "--no-coordinator", "--log", &log, "-o", "json"], args].concat());
    let find = |document: &serde_json::Value, what: &str| {
        let findings = document["findings"].as_array().unwrap();
        findings
            .iter()
            .find(|finding| finding["what"] == what)
            .unwrap_or_else(|| panic!("no {what}: {document}"))
            .clone()
    };
    // No schema yet; and it is not made by looking.
    for _ in 0..2 {
        let empty = look(&[]);
        assert_exit(&empty, 1);
        assert_eq!(find(&json(&empty), "schema")["found"], "there is none");
    }
    assert_exit(&run(&["log", "migrate", "--log", &log]), 0);
    let well = look(&[]);
    assert_exit(&well, 0);
    let document = json(&well);
    assert_eq!(document["bad"], 0);
    for what in [
        "server version",
        "fsync",
        "full_page_writes",
        "synchronous_commit",
        "autovacuum",
        "clock, against ours",
        "write latency, from here",
        "size",
        "schema",
        "oldest decision",
        "dead rows",
        "connections",
    ] {
        assert!(find(&document, what)["found"].as_str().is_some());
    }
    let standbys = find(&document, "synchronous standbys");
    assert_eq!(standbys["level"], "warn");
    assert!(standbys["next"].as_str().unwrap().contains("ANY 1 (a, b)") && standbys["reference"].is_string());
    assert_exit(&look(&["--strict"]), 1);

    server.set("synchronous_commit", "off").unwrap();
    let loses = look(&["--problems"]);
    assert_exit(&loses, 1);
    let document = json(&loses);
    assert_eq!(find(&document, "synchronous_commit")["level"], "bad");
    assert_eq!(document["findings"][0]["level"], "bad", "the worst first");
    assert!(document["findings"].as_array().unwrap().iter().all(|finding| finding["level"] != "ok"));
    let password =
        log.split_once("postgres:").unwrap().1.split_once(':').unwrap().1.split_once('@').unwrap().0;
    assert!(!stdout(&loses).contains(password) && !stderr(&loses).contains(password));
    let table = run(&["doctor", "--no-coordinator", "--log", &log]);
    assert!(stdout(&table).contains("-> set it to on"), "{}", stdout(&table));

    server.stop().unwrap();
    let gone = look(&[]);
    assert_exit(&gone, 1);
    assert_eq!(find(&json(&gone), "answers")["level"], "bad");
    assert_exit(&run(&["doctor", "--no-coordinator"]), 2);
}

#[test]
fn the_doctor_asks_a_coordinator_and_one_that_is_gone_is_a_finding() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::dev(directory.path());
    let output = coordinator.ask(&["doctor", "-o", "jsonl"]);
    assert_exit(&output, 0);
    let lines: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = |about: &str, what: &str| {
        let line = lines.iter().find(|line| line["about"] == about && line["what"] == what);
        line.unwrap_or_else(|| panic!("no {about} {what}: {lines:?}"))["level"].as_str().unwrap().to_owned()
    };
    assert_eq!(found("coordinator", "version"), "ok");
    assert_eq!(found("log", "can be written"), "ok");
    assert_eq!(found("log", "kind"), "warn");
    assert!(["ok", "warn", "bad"].contains(&found("log", "write latency, from the coordinator").as_str()));
    assert_eq!(found("participants", "attached"), "warn");
    assert_eq!(found("participants", "prepared branches"), "ok");
    let admin = coordinator.admin.clone();
    drop(coordinator);
    let gone = run(&["doctor", "--server", &admin]);
    assert_exit(&gone, 1);
    assert!(stdout(&gone).contains("BAD  coordinator  answers  no connection"), "{}", stdout(&gone));
    assert!(stdout(&gone).contains("pactum branch list"), "{}", stdout(&gone));
}

/// Names and texts of a bundle's files.
fn read(path: &Path) -> Vec<(String, String)> {
    let file = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.push((name.strip_prefix("pactum-debug/").unwrap().to_owned(), text));
    }
    files
}

#[test]
fn a_bundle_holds_every_part_and_no_secret_and_overwrites_nothing() {
    let server = PostgresServer::start().unwrap();
    let log = server.create_database("log").unwrap();
    let coordinator = serve(&log);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bundle.tar.gz");
    let file = path.display().to_string();
    let output = coordinator.ask(&["debug", "bundle", "--file", &file, "--log", &log, "-o", "json"]);
    let document = json(&output);
    assert_eq!(document["left_out"].as_array().unwrap().len(), 0, "{document}");
    assert_exit(&output, 0);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let files = read(&path);
    let text =
        |name: &str| &files.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name}")).1;
    for name in [
        "versions.json",
        "doctor.json",
        "coordinator.json",
        "log.json",
        "configuration.json",
        "in-doubt.json",
        "transactions.json",
        "participants.json",
        "branches.json",
        "heuristics.json",
        "audit.json",
    ] {
        serde_json::from_str::<serde_json::Value>(text(name)).unwrap();
        assert!(text("README.txt").contains(name), "{name} is not told of");
    }
    assert!(text("metrics.txt").contains("pactum_"), "{}", text("metrics.txt"));
    assert!(text("README.txt").contains("Left out on purpose"));
    assert!(
        text("configuration.json").contains("postgres://postgres@127.0.0.1"),
        "{}",
        text("configuration.json")
    );
    assert!(text("doctor.json").contains("write latency, from here"));
    let password =
        log.split_once("postgres:").unwrap().1.split_once(':').unwrap().1.split_once('@').unwrap().0;
    assert!(password.len() > 3);
    for (name, text) in &files {
        assert!(!text.contains(password), "{name} shows the password");
    }

    let before = std::fs::read(&path).unwrap();
    assert_exit(&coordinator.ask(&["debug", "bundle", "--file", &file]), 6);
    assert_eq!(std::fs::read(&path).unwrap(), before);

    // Wanted most when nothing answers.
    let admin = coordinator.admin.clone();
    drop(coordinator);
    let partial = directory.path().join("partial.tar.gz");
    let output = run(&[
        "debug",
        "bundle",
        "--file",
        &partial.display().to_string(),
        "--server",
        &admin,
        "--log",
        &log,
    ]);
    assert_exit(&output, 8);
    let files = read(&partial);
    assert!(files[0].1.contains("everything that a coordinator tells"), "{}", files[0].1);
    assert!(
        files.iter().any(|(name, text)| name == "doctor.json" && text.contains("write latency, from here"))
    );
}

#[test]
fn settings_are_shown_with_the_origin_of_each_and_the_running_ones_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pactum.toml");
    std::fs::write(&file, "lease = '9s'\nheartbeat = '1s'\nretry_cap = '4s'\n").unwrap();
    let file = file.display().to_string();
    let log = format!("sqlite:{}", directory.path().join("log.db").display());
    let settings = ["--config", &file, "--log", &log, "--set", "heartbeat=2s", "--listen", "127.0.0.1:0"];
    let origins = |output: &std::process::Output| -> Vec<(String, String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let document = json(output);
        let list = document["settings"].as_array().unwrap().clone();
        list.iter().map(|one| (text(&one["key"]), text(&one["value"]), text(&one["origin"]))).collect()
    };
    let expected = [
        ("admin_listen", "127.0.0.1:0", "environment PACTUM_ADMIN_LISTEN".to_owned()),
        ("drain", "7s", "environment PACTUM_DRAIN".to_owned()),
        ("heartbeat", "2s", "option --set".to_owned()),
        ("lease", "9s", format!("file {file}")),
        ("listen", "127.0.0.1:0", "option --listen".to_owned()),
        ("log", log.as_str(), "option --log".to_owned()),
        ("retry_cap", "4s", format!("file {file}")),
    ];
    let shows = |found: &[(String, String, String)]| {
        for (key, value, origin) in &expected {
            let one = (String::from(*key), String::from(*value), origin.clone());
            assert!(found.contains(&one), "{one:?} is not among {found:?}");
        }
    };
    let with_environment = |args: &[&str]| {
        let mut command = pactum(&[args, &settings[..]].concat());
        command.env("PACTUM_DRAIN", "7s").env("PACTUM_ADMIN_LISTEN", "127.0.0.1:0");
        command
    };
    let effective = with_environment(&["config", "show", "-o", "json"]).output().unwrap();
    assert_exit(&effective, 0);
    let found = origins(&effective);
    shows(&found);
    assert!(found.contains(&("retention".into(), "7days".into(), "default".into())), "{found:?}");
    let set = origins(&with_environment(&["config", "show", "--origin", "-o", "json"]).output().unwrap());
    assert_eq!(set.len(), expected.len(), "{set:?}");
    assert_exit(&with_environment(&["config", "check"]).output().unwrap(), 0);
    assert!(!directory.path().join("log.db").exists(), "looking opens no log");

    let coordinator = Coordinator::start(with_environment(&["serve", "-o", "json"]));
    let running = coordinator.ask(&["config", "show", "--running", "-o", "json"]);
    assert_exit(&running, 0);
    shows(&origins(&running));
    drop(coordinator);

    for (args, said) in [
        (&["config", "check"][..], "no decision log"),
        (&["config", "check", "--log", "sqlite:x", "--set", "lease=1s"], "lease"),
        (&["config", "check", "--log", "sqlite:x", "--set", "leese=1s"], "is lease meant?"),
        (
            &[
                "config",
                "check",
                "--log",
                "sqlite:x",
                "--tls-cert",
                "missing.pem",
                "--tls-key",
                "missing.pem",
            ],
            "missing.pem",
        ),
        (&["config", "show", "--set", "lease=soon"], "lease"),
    ] {
        let refused = run(args);
        assert_exit(&refused, 2);
        assert!(stderr(&refused).contains(said), "{args:?}: {}", stderr(&refused));
    }
    // Shown also where it cannot be served with; and never with its password.
    let told = run(&["config", "show", "--log", "postgres://u:canary@h/db", "--set", "lease=1s"]);
    assert_exit(&told, 0);
    assert!(stdout(&told).contains("postgres://u@h/db") && !stdout(&told).contains("canary"));
}
