//! `pactum branch list` and `finish`: the worst day, on real databases and a real log, without a coordinator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "branch/scene.rs"]
mod scene;
mod support;

use std::process::Stdio;

use pactum_coordinator::decision_log::AuditKind;
use pactum_core::outcome::{Decision, HeuristicOutcome};
use pactum_postgres_server::PostgresServer;
use scene::Scene;
use support::{Coordinator, assert_exit, pactum, run, stderr, stdout, until, wait};

fn gid(name: &pactum_core::id::PreparedName) -> String {
    name.id.gid.to_string()
}

#[test]
fn a_branch_is_ended_as_the_log_says_and_the_audit_tells_it() {
    let scene = Scene::new();
    let (committed, aborted) = (scene.name(), scene.name());
    scene.prepare(&committed, 1);
    scene.prepare(&aborted, 2);
    scene.decide_commit(&committed);
    scene.decide_abort(&aborted);
    scene.owner_ends();
    assert_eq!(scene.says(&committed), ("commit".into(), "commit".into()));
    assert_eq!(scene.says(&aborted), ("abort".into(), "roll-back".into()));

    let output = scene.finish(&["-o", "json", "--who", "ada", &gid(&committed)]);
    assert_exit(&output, 0);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["branches"][0]["did"], "committed");
    assert_eq!(json["branches"][0]["closed"], false);
    assert!(json["branches"][0]["heuristic"].is_null());
    assert_eq!(json["branches"][0]["audit_number"], 2);
    assert!(!scene.is_prepared(&committed) && scene.is_prepared(&aborted));
    assert_eq!(scene.balance(1), 90);

    // By the end of its gid, and for people.
    let tail = gid(&aborted)[28..].to_owned();
    let output = scene.finish(&[&tail]);
    assert_exit(&output, 0);
    assert!(stdout(&output).contains("rolled-back (audit 4)"), "{}", stdout(&output));
    assert!(!scene.is_prepared(&aborted));
    assert_eq!(scene.balance(2), 100);

    assert_eq!(scene.audited(), ["begun finish", "done finish", "begun finish", "done finish"]);
    let first = &scene.audit()[0].draft;
    assert_eq!((first.who.as_str(), first.reason.as_str()), ("ada", "no coordinator left"));
    assert_eq!(first.target, format!("{} {}", gid(&committed), committed.branch));
    assert!(first.before.contains(&committed.to_string()) && first.incarnation.is_none());
    assert_eq!(scene.audit()[1].draft.begun, Some(1));
    assert!(scene.heuristics(&committed).is_empty() && scene.heuristics(&aborted).is_empty());
    assert!(scene.list().is_empty());

    // Repeated: what has ended as decided is no failure.
    for name in [&committed, &aborted] {
        let again = scene.finish(&[&gid(name)]);
        assert_exit(&again, 0);
        assert!(stderr(&again).contains("nothing is left to do"), "{}", stderr(&again));
    }
    assert_eq!(scene.audit().len(), 4);
}

/// Law 4: whoever is not the owner closes first.
#[test]
fn where_the_log_says_nothing_it_is_closed_before_the_branch_is_rolled_back() {
    let scene = Scene::new();
    let one = scene.name();
    let two = scene.name_of(one.id.gid, 2);
    scene.prepare(&one, 1);
    scene.prepare(&two, 2);
    scene.owner_ends();
    assert_eq!(scene.says(&one), ("nothing".into(), "close-then-roll-back".into()));
    let output = scene.finish(&["-o", "jsonl", &one.to_string()]);
    assert_exit(&output, 0);
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((line["did"].as_str(), line["closed"].as_bool()), (Some("rolled-back"), Some(true)));
    let decision = scene.decision(&one).unwrap();
    assert_eq!(decision.decision, Decision::Abort);
    assert!(decision.reason.unwrap().message.contains("no coordinator left"));
    assert!(!scene.is_prepared(&one) && scene.is_prepared(&two), "only the one that was named");
    // The other branch is aborted by now.
    assert_eq!(scene.says(&two), ("abort".into(), "roll-back".into()));
    assert_exit(&scene.finish(&["--all"]), 0);
    assert!(scene.list().is_empty());
    assert_eq!((scene.balance(1), scene.balance(2)), (100, 100));
}

/// Law 1: commit applies to the execution that voted (H3).
#[test]
fn another_execution_than_the_decided_one_goes_only_if_that_has_committed() {
    let scene = Scene::new();
    let (done, lost) = (scene.name(), scene.name());
    for (name, account) in [(&done, 1), (&lost, 2)] {
        scene.prepare(name, account);
        scene.decide_commit(name);
    }
    scene.server.psql("bank", &format!("COMMIT PREPARED '{done}'")).unwrap();
    scene.server.psql("bank", &format!("ROLLBACK PREPARED '{lost}'")).unwrap();
    scene.prepare(&done, 1);
    scene.prepare(&lost, 2);
    scene.owner_ends();
    assert_eq!(scene.says(&done), ("commit-of-another-execution".into(), "roll-back".into()));
    assert_eq!(scene.says(&lost), ("commit-of-another-execution".into(), "leave".into()));

    assert_exit(&scene.finish(&[&gid(&done)]), 0);
    assert_eq!(scene.balance(1), 90, "once, not twice");
    let refused = scene.finish(&[&gid(&lost)]);
    assert_exit(&refused, 6);
    assert!(stderr(&refused).contains("PACTUM-0044"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("which was rolled back"), "{}", stderr(&refused));
    assert!(scene.is_prepared(&lost));
    // All that can be finished: nothing, which is no failure.
    let all = scene.finish(&["--all"]);
    assert_exit(&all, 0);
    assert!(stderr(&all).contains("is left as it is"), "{}", stderr(&all));
    assert!(scene.is_prepared(&lost));
    // A person who has looked may say that it is the work.
    let overruled = scene.finish(&["--overrule", "commit", &gid(&lost)]);
    assert_exit(&overruled, 0);
    assert_eq!(scene.heuristics(&lost)[0].outcome, HeuristicOutcome::Hazard);
    assert_eq!(scene.balance(2), 90);
}

/// B4, B5: a log that went back in time, or has forgotten, proves nothing by what it lacks.
#[test]
fn what_is_in_quarantine_is_left_and_ended_by_overruling_only() {
    let scene = Scene::new();
    let (doubted, other) = (scene.name(), scene.name());
    scene.prepare(&doubted, 1);
    scene.prepare(&other, 2);
    scene.wait(scene.log.doubt_all("restored")).unwrap();
    assert_eq!(scene.says(&doubted), ("in-doubt".into(), "leave".into()));
    let refused = scene.finish(&[&gid(&doubted)]);
    assert_exit(&refused, 6);
    assert!(stderr(&refused).contains("IN_QUARANTINE (PACTUM-0045)"), "{}", stderr(&refused));
    assert!(scene.is_prepared(&doubted) && scene.decision(&doubted).is_none());

    let output = scene.finish(&["--overrule", "rollback", "-o", "json", &gid(&doubted)]);
    assert_exit(&output, 0);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["branches"][0]["heuristic"], "aborted");
    assert_eq!(scene.heuristics(&doubted)[0].outcome, HeuristicOutcome::Aborted);
    assert!(scene.decision(&doubted).is_none(), "nothing is concluded");
    assert_eq!(scene.audited(), ["begun overrule-rollback", "done overrule-rollback"]);

    scene.wait(scene.log.raise_floor(other.id.gid)).unwrap();
    assert_eq!(scene.says(&other), ("forgotten".into(), "leave".into()));
    let refused = scene.finish(&[&gid(&other)]);
    assert_exit(&refused, 6);
    assert!(stderr(&refused).contains("PACTUM-0045"), "{}", stderr(&refused));
    assert!(scene.is_prepared(&other));
}

/// Law 11.
#[test]
fn overruling_asks_the_log_first_and_is_kept_next_to_the_decision() {
    let scene = Scene::new();
    let names: Vec<_> = (1..=6)
        .map(|account| {
            let name = scene.name();
            scene.prepare(&name, account);
            name
        })
        .collect();
    let [against_abort, against_commit, agrees_commit, agrees_abort, ahead, undecided] = &names[..] else {
        unreachable!()
    };
    for name in [against_commit, agrees_commit] {
        scene.decide_commit(name);
    }
    for name in [against_abort, agrees_abort] {
        scene.decide_abort(name);
    }
    scene.owner_ends();
    let overrule = |how: &str, name| scene.finish(&["--overrule", how, &gid(name)]);

    let output = overrule("commit", against_abort);
    assert_exit(&output, 0);
    assert!(stdout(&output).contains("a heuristic outcome: committed"), "{}", stdout(&output));
    assert_eq!(scene.balance(1), 90);
    let kept = scene.heuristics(against_abort);
    assert_eq!(kept[0].outcome, HeuristicOutcome::Committed);
    assert_eq!(kept[0].branch.id, against_abort.branch);

    assert_exit(&overrule("rollback", against_commit), 0);
    assert_eq!(scene.balance(2), 100);
    let kept = scene.heuristics(against_commit);
    assert_eq!(kept[0].outcome, HeuristicOutcome::Aborted);
    assert_eq!(kept[0].branch, Scene::branch(against_commit), "as the decision names it");

    // What agrees is no overruling.
    assert_exit(&overrule("commit", agrees_commit), 0);
    assert_exit(&overrule("rollback", agrees_abort), 0);
    assert!(scene.heuristics(agrees_commit).is_empty() && scene.heuristics(agrees_abort).is_empty());

    // No commit ahead of a decision that the log can be asked for; a rollback becomes a resolve.
    let refused = overrule("commit", ahead);
    assert_exit(&refused, 6);
    assert!(stderr(&refused).contains("PACTUM-0025"), "{}", stderr(&refused));
    assert!(scene.is_prepared(ahead) && scene.decision(ahead).is_none());
    assert_exit(&overrule("rollback", undecided), 0);
    assert_eq!(scene.decision(undecided).unwrap().decision, Decision::Abort);
    assert!(scene.heuristics(undecided).is_empty());

    let acts: Vec<String> = scene
        .audit()
        .iter()
        .filter(|entry| entry.draft.kind == AuditKind::Done)
        .map(|entry| entry.draft.act.clone())
        .collect();
    assert_eq!(acts, ["overrule-commit", "overrule-rollback", "finish", "finish", "finish"]);

    // One branch, and with a reason.
    let second = scene.name_of(ahead.id.gid, 9);
    scene.prepare(&second, 9);
    assert_exit(&overrule("rollback", ahead), 2);
    assert!(scene.is_prepared(ahead) && scene.is_prepared(&second));
    assert_exit(&scene.finish(&["--all", "--overrule", "rollback"]), 2);
}

#[test]
fn without_the_log_only_an_overruling_that_says_so_goes_on_and_leaves_a_row() {
    let scene = Scene::apart();
    let (name, other) = (scene.name(), scene.name());
    scene.prepare(&name, 1);
    scene.prepare(&other, 2);
    scene.owner_ends();
    // The log is there: nothing is done ahead of it, whatever is said.
    let refused = scene.finish(&["--overrule", "commit", "--log-unreachable", &gid(&name)]);
    assert_exit(&refused, 6);
    assert!(stderr(&refused).contains("PACTUM-0025"), "{}", stderr(&refused));

    let log_server = scene.log_server.as_ref().unwrap();
    log_server.stop().unwrap();
    assert_eq!(scene.says(&name), ("unreachable".into(), "leave".into()));
    for args in [&["--all"][..], &[&gid(&name)], &["--overrule", "commit", &gid(&name)]] {
        let refused = scene.finish(args);
        assert_exit(&refused, 4);
        assert!(stderr(&refused).contains("LOG_UNREACHABLE (PACTUM-0032)"), "{}", stderr(&refused));
    }
    assert!(scene.is_prepared(&name) && scene.is_prepared(&other));

    let args = ["--overrule", "commit", "--log-unreachable", "--who", "ada", "-o", "json", &gid(&name)];
    let output = scene.finish(&args);
    assert_exit(&output, 0);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (json["branches"][0]["did"].as_str(), json["branches"][0]["overruled_row"].as_i64()),
        (Some("committed"), Some(1))
    );
    assert!(json["branches"][0]["notes"].to_string().contains("coordinators learn it by evidence"), "{json}");
    assert_eq!(scene.balance(1), 90);
    let row = scene
        .server
        .psql("bank", "SELECT name, action, who, reason, result, ended_at >= begun_at FROM pactum_participant.overruled")
        .unwrap();
    assert_eq!(row.trim(), format!("{name}|commit|ada|no coordinator left|committed|t"));
    assert_exit(&scene.finish(&["--overrule", "rollback", "--log-unreachable", &gid(&other)]), 0);
    assert_eq!(scene.balance(2), 100);

    // Back again: a server that answers is no unreachable log, also if it does not let us in.
    log_server.restart().unwrap();
    let third = scene.name();
    scene.prepare(&third, 3);
    let wrong = scene.log_url.replace("/log", "/nowhere");
    let refused = run(&[
        "branch",
        "finish",
        "--database",
        &scene.bank_url,
        "--log",
        &wrong,
        "--yes",
        "--reason",
        "r",
        "--overrule",
        "commit",
        "--log-unreachable",
        &gid(&third),
    ]);
    assert_exit(&refused, 4);
    assert!(stderr(&refused).contains("somebody answers there"), "{}", stderr(&refused));
    assert!(scene.is_prepared(&third));
    // One that takes connections and says nothing is as good as gone.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hung = format!("postgres://u@{}/log", silent.local_addr().unwrap());
    let gid = gid(&third);
    let args = ["branch", "finish", "--database", &scene.bank_url, "--log", &hung, "--yes", "--reason", "r"];
    let overrule = ["--overrule", "rollback", "--log-unreachable", &gid];
    assert_exit(&run(&[&args[..], &overrule[..]].concat()), 0);
    assert!(!scene.is_prepared(&third));
}

#[test]
fn a_dry_run_and_a_list_change_nothing() {
    let scene = Scene::new();
    let (committed, undecided) = (scene.name(), scene.name());
    scene.prepare(&committed, 1);
    scene.prepare(&undecided, 2);
    scene.decide_commit(&committed);
    scene.owner_ends();
    let output = scene.pactum(&["finish", "--all", "--dry-run", "--reason", "r", "-o", "json"]);
    assert_exit(&output, 0);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["dry_run"], true);
    let does = |place: usize| json["branches"][place]["finish"]["does"].as_str().unwrap().to_owned();
    assert_eq!((does(0), does(1)), ("commit".into(), "close-then-roll-back".into()));
    let output =
        scene.pactum(&["finish", "--dry-run", "--reason", "r", "--overrule", "rollback", &gid(&committed)]);
    assert_exit(&output, 0);
    assert!(stderr(&output).contains("a heuristic outcome (aborted)"), "{}", stderr(&output));
    let table = scene.pactum(&["list"]);
    assert_exit(&table, 0);
    assert!(stdout(&table).contains("commit is decided, of this execution"), "{}", stdout(&table));
    let lines = scene.pactum(&["list", "-o", "jsonl"]);
    assert_eq!(stdout(&lines).lines().count(), 2);

    assert!(scene.is_prepared(&committed) && scene.is_prepared(&undecided));
    assert!(scene.decision(&undecided).is_none());
    assert!(scene.audit().is_empty());
    // Nobody can be asked: nothing is done without --yes.
    let refused = scene.pactum(&["finish", "--all", "--reason", "r"]);
    assert_exit(&refused, 2);
    assert!(stderr(&refused).contains("PACTUM-0040"), "{}", stderr(&refused));
}

#[test]
fn two_that_finish_at_once_both_find_it_ended_as_decided() {
    let scene = Scene::new();
    let names: Vec<_> = (1..=8)
        .map(|account| {
            let name = scene.name();
            scene.prepare(&name, account);
            if account % 2 == 0 {
                scene.decide_commit(&name);
            }
            name
        })
        .collect();
    scene.owner_ends();
    let start = || {
        let args = scene.args(&["finish", "--all", "--yes", "--reason", "both", "-o", "json"]);
        pactum(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (one, two) = (start(), start());
    for child in [one, two] {
        assert_exit(&child.wait_with_output().unwrap(), 0);
    }
    for (name, account) in names.iter().zip(1..) {
        assert!(!scene.is_prepared(name));
        assert_eq!(scene.balance(account), if account % 2 == 0 { 90 } else { 100 });
        assert!(scene.heuristics(name).is_empty());
    }
    let begun = scene.audit().iter().filter(|entry| entry.draft.kind == AuditKind::Begun).count();
    assert_eq!(scene.audit().len(), begun * 2, "each beginning has its end: {:?}", scene.audited());
}

#[test]
fn killed_in_the_middle_it_is_repeated() {
    let scene = Scene::new();
    let name = scene.name();
    scene.prepare(&name, 1);
    scene.owner_ends();
    // Killed before the closing is answered: somebody holds the log's table.
    let hold = "BEGIN; LOCK TABLE pactum.decisions IN EXCLUSIVE MODE; SELECT pg_sleep(120)";
    let ended = std::thread::scope(|threads| {
        let holder = threads.spawn(|| scene.server.psql("log", hold));
        let waiting =
            |what: &str| format!("SELECT count(*) FROM pg_stat_activity WHERE datname = 'log' AND {what}");
        let count = |sql: &str| scene.server.psql("log", sql).unwrap().trim() != "0";
        until("the lock is held", || count(&waiting("wait_event = 'PgSleep'")).then_some(()));
        let gid = gid(&name);
        let args = scene.args(&["finish", "--yes", "--reason", "killed", "--timeout", "60s", &gid]);
        let mut child = pactum(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("it waits to close", || {
            count(&waiting("wait_event_type = 'Lock' AND query LIKE '%INSERT INTO pactum.decisions%'"))
                .then_some(())
        });
        child.kill().unwrap();
        wait(&mut child);
        scene
            .server
            .psql(
                "log",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
            )
            .unwrap();
        holder.join().unwrap()
    });
    assert!(ended.is_err(), "it was ended");
    assert!(scene.is_prepared(&name), "the branch is touched last");
    assert_eq!(scene.audited(), ["begun finish"], "a beginning without an end");
    assert_exit(&scene.finish(&[&gid(&name)]), 0);
    assert_eq!(scene.decision(&name).unwrap().decision, Decision::Abort);
    assert!(!scene.is_prepared(&name));

    // Killed while COMMIT PREPARED waits for a standby that is not there.
    let scene = Scene::apart();
    let name = scene.name();
    scene.prepare(&name, 1);
    scene.decide_commit(&name);
    scene.owner_ends();
    scene.server.set("synchronous_standby_names", "nobody").unwrap();
    let gid = gid(&name);
    let args = scene.args(&["finish", "--yes", "--reason", "killed", "--timeout", "60s", &gid]);
    let mut child = pactum(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("it waits for the standby", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'COMMIT PREPARED%'";
        (scene.server.psql("bank", sql).unwrap().trim() == "1").then_some(())
    });
    child.kill().unwrap();
    wait(&mut child);
    // Whoever comes now must not take it for ended.
    let busy = scene.finish(&["--timeout", "1s", &gid]);
    assert_exit(&busy, 9);
    assert!(stderr(&busy).contains("another session is ending it"), "{}", stderr(&busy));
    scene.server.set("synchronous_standby_names", "").unwrap();
    until("it has ended", || (!scene.is_prepared(&name)).then_some(()));
    let again = scene.finish(&[&gid]);
    assert_exit(&again, 0);
    assert!(stderr(&again).contains("it has committed, as the log says"), "{}", stderr(&again));
    assert_eq!(scene.balance(1), 90);
}

#[test]
fn what_a_living_coordinator_is_at_work_on_is_left_to_it() {
    let mut scene = Scene::new();
    scene.owner_ends();
    let log_url = scene.log_url.clone();
    let coordinator = Coordinator::start(pactum(&[
        "serve",
        "--log",
        &log_url,
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "-o",
        "json",
    ]));
    let status: serde_json::Value =
        serde_json::from_str(&stdout(&coordinator.ask(&["status", "-o", "json"]))).unwrap();
    scene.owner = status["incarnation"].as_str().unwrap().parse().unwrap();
    let name = scene.name();
    scene.prepare(&name, 1);
    assert_eq!(scene.says(&name), ("nothing-owner-alive".into(), "leave".into()));
    let refused = scene.finish(&[&gid(&name)]);
    assert_exit(&refused, 6);
    assert!(stderr(&refused).contains("lives: it is at work"), "{}", stderr(&refused));
    assert_exit(&scene.finish(&["--all"]), 0);
    assert!(scene.is_prepared(&name) && scene.decision(&name).is_none());
    assert_exit(&scene.finish(&["--close-owned", &gid(&name)]), 0);
    assert!(!scene.is_prepared(&name));
    assert_eq!(scene.decision(&name).unwrap().decision, Decision::Abort);
    drop(coordinator);
}

#[test]
fn a_coordinator_that_was_killed_is_not_taken_for_alive() {
    let scene = Scene::new();
    let name = scene.name();
    scene.prepare(&name, 1);
    // Its row has not ended, and its heartbeat stands still.
    let list = scene.list();
    assert_eq!(list[0]["log"]["says"], "nothing");
    assert!(list[0]["log"]["sentence"].as_str().unwrap().contains("stands still"), "{}", list[0]);
    assert_exit(&scene.finish(&["--all"]), 0);
    assert!(!scene.is_prepared(&name));
}

#[test]
fn the_list_shows_who_waits_and_what_is_locked() {
    let scene = Scene::new();
    let name = scene.name();
    scene.prepare(&name, 1);
    scene.owner_ends();
    std::thread::scope(|threads| {
        let update = "SET application_name = 'cashier'; UPDATE account SET balance = 0 WHERE id = 1";
        let waiter = threads.spawn(|| scene.server.psql("bank", update));
        let row = until("somebody waits", || {
            let row = scene.list().remove(0);
            (!row["blocks"].as_array().unwrap().is_empty()).then_some(row)
        });
        let blocked = &row["blocks"][0];
        assert_eq!(
            (blocked["application"].as_str(), blocked["user"].as_str()),
            (Some("cashier"), Some("postgres"))
        );
        assert!(blocked["directly"].as_bool().unwrap() && blocked["pid"].as_i64().unwrap() > 0);
        assert!(!row.to_string().contains("balance"), "no statement is shown: {row}");
        let locked: Vec<_> =
            row["locks"].as_array().unwrap().iter().map(|lock| lock["relation"].as_str().unwrap()).collect();
        assert!(locked.contains(&"public.account"), "{locked:?}");
        assert_eq!(row["owner"], "postgres");
        assert!(row["xid_age"].as_i64().unwrap() >= 0);
        let table = scene.pactum(&["list"]);
        assert!(stdout(&table).contains("cashier"), "{}", stdout(&table));
        assert_exit(&scene.finish(&["--all"]), 0);
        waiter.join().unwrap().unwrap();
    });
}

/// Its register is its own database: nothing is written of it in the log.
#[test]
fn a_branch_whose_marker_says_that_it_has_committed_is_not_closed_in_the_log() {
    let scene = Scene::new();
    let name = scene.name();
    let marker = "CREATE SCHEMA pactum_participant; CREATE TABLE pactum_participant.marker \
                  (gid uuid, incarnation uuid, branch text, committed boolean, PRIMARY KEY (gid, incarnation, branch))";
    scene.server.psql("bank", marker).unwrap();
    let row = format!(
        "INSERT INTO pactum_participant.marker VALUES ('{}', '{}', '{}', true)",
        name.id.gid, name.id.incarnation, name.branch
    );
    scene.server.psql("bank", &row).unwrap();
    scene.prepare(&name, 1);
    scene.owner_ends();
    let refused = scene.finish(&[&gid(&name)]);
    assert_exit(&refused, 6);
    assert!(stderr(&refused).contains("in one phase"), "{}", stderr(&refused));
    assert!(scene.decision(&name).is_none() && scene.is_prepared(&name));
    assert_exit(&scene.finish(&["--overrule", "rollback", &gid(&name)]), 0);
    assert!(scene.decision(&name).is_none() && !scene.is_prepared(&name));
}

#[test]
fn what_is_not_meant_is_refused_and_no_password_is_shown() {
    let scene = Scene::new();
    let name = scene.name();
    scene.prepare(&name, 1);
    // Of another cluster, and in another spelling.
    let stranger = pactum_core::id::PreparedName { cluster: "other".parse().unwrap(), ..scene.name() };
    scene.prepare(&stranger, 2);
    scene
        .server
        .psql("bank", "BEGIN; UPDATE account SET balance = 1 WHERE id = 3; PREPARE TRANSACTION 'pactum:x'")
        .unwrap();
    scene.owner_ends();
    assert_eq!(scene.list().len(), 1, "the log's cluster only");
    let others = scene.pactum(&["list", "--cluster", "other", "-o", "json"]);
    assert!(stdout(&others).contains("other-cluster"), "{}", stdout(&others));
    let refused = scene.finish(&["--cluster", "other", &gid(&stranger)]);
    assert_exit(&refused, 3);
    assert!(stderr(&refused).contains("decides nothing of this branch"), "{}", stderr(&refused));
    assert!(scene.is_prepared(&stranger));

    let password = scene
        .bank_url
        .split_once("postgres:")
        .unwrap()
        .1
        .split_once(':')
        .unwrap()
        .1
        .split_once('@')
        .unwrap()
        .0;
    for (args, exit, said) in [
        (
            &["finish", "--reason", "r", "--yes", "0199c3d0-0000-7000-8000-000000000001"][..],
            3,
            "nothing that fits",
        ),
        (&["finish", "--reason", "r", "--yes", "xyz"], 2, "is no gid"),
        (&["finish", "--reason", " ", "--yes", "--all"], 2, "--reason"),
        (&["finish", "--reason", "r", "--yes"], 2, "required"),
        (&["finish", "--reason", "r", "--yes", "--all", "--log-unreachable"], 2, "--overrule"),
    ] {
        let refused = scene.pactum(args);
        assert_exit(&refused, exit);
        assert!(stderr(&refused).contains(said), "{args:?}: {}", stderr(&refused));
        assert!(!stderr(&refused).contains(password));
    }
    let shown = scene.pactum(&["list", "-o", "json"]);
    assert!(!stdout(&shown).contains(password) && stdout(&shown).contains("postgres@127.0.0.1"));
    let without_log = run(&["branch", "list", "--database", &scene.bank_url]);
    assert_exit(&without_log, 0);
    assert!(stdout(&without_log).contains("other:") && stdout(&without_log).contains("no log was named"));

    let same = scene.name_of(name.id.gid, 2);
    scene.prepare(&same, 4);
    // Of another transaction, whose gid begins alike.
    let alike = uuid::Uuid::from_u128(name.id.gid.as_uuid().as_u128() ^ 1);
    let cousin = scene.name_of(pactum_core::id::Gid::from_uuid(alike), 1);
    scene.prepare(&cousin, 5);
    let start = &gid(&name)[..20];
    let ambiguous = scene.finish(&[start]);
    assert_exit(&ambiguous, 6);
    assert!(stderr(&ambiguous).contains("PACTUM-0017"), "{}", stderr(&ambiguous));
    let nowhere = "postgres://nobody:canary@127.0.0.1:1/bank";
    let refused = run(&["branch", "list", "--database", nowhere]);
    assert_exit(&refused, 4);
    assert!(!stderr(&refused).contains("canary"), "{}", stderr(&refused));
    assert_exit(&run(&["branch", "list", "--database", "sqlite:x"]), 2);
}

#[test]
fn a_log_in_a_file_is_asked_only_if_nobody_has_it_and_never_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let server = PostgresServer::start().unwrap();
    let bank = server.create_database("bank").unwrap();
    let missing = directory.path().join("missing.db");
    let log = format!("sqlite:{}", missing.display());
    let args = ["branch", "finish", "--database", &bank, "--log", &log, "--yes", "--reason", "r", "--all"];
    let refused = run(&args);
    assert_exit(&refused, 4);
    assert!(stderr(&refused).contains("there is no such file") && !missing.exists(), "{}", stderr(&refused));

    let used = directory.path().join("used.db");
    let log = format!("sqlite:{}", used.display());
    let coordinator = Coordinator::start(pactum(&[
        "serve",
        "--log",
        &log,
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "-o",
        "json",
    ]));
    let args = ["branch", "finish", "--database", &bank, "--log", &log, "--yes", "--reason", "r", "--all"];
    let refused = run(&args);
    assert_exit(&refused, 6);
    assert!(stderr(&refused).contains("LOG_IN_USE (PACTUM-0035)"), "{}", stderr(&refused));
    drop(coordinator);
    let free = run(&args);
    assert_exit(&free, 0);
    assert!(stderr(&free).contains("there is nothing to finish"), "{}", stderr(&free));
}
