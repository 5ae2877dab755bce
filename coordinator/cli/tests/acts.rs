//! Acts: the plan that is shown, the question that is asked, and that exactly what was planned is done.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::process::{Output, Stdio};

use pactum_proto::v1::act::Act;
use support::scripted::Server;
use support::terminal::terminal;
use support::{assert_exit, pactum, stderr, stdout};

/// The command with a terminal as stdin, at which that is typed.
fn typed(server: &Server, args: &[&str], text: &str) -> Output {
    let (mut keyboard, screen) = terminal();
    let mut command = pactum(&[args, &["--server", &server.url]].concat());
    let child = command.stdin(screen).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    keyboard.write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The command with that as stdin.
fn piped(server: &Server, args: &[&str], text: &str) -> Output {
    let mut command = pactum(&[args, &["--server", &server.url]].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who refuses before reading has gone by now.
    drop(child.stdin.take().unwrap().write_all(text.as_bytes()));
    child.wait_with_output().unwrap()
}

const OVERRULE: [&str; 6] = ["tx", "overrule", "3333", "--resource", "bank-b", "--rollback"];
const WHOLE: &str = "33333333-3333-3333-3333-333333333333";

#[test]
fn on_a_terminal_an_act_shows_its_plan_and_asks_for_the_end_of_the_gid() {
    let server = Server::start();
    for (text, code) in [("333333\n", 0), ("yes\n", 1), ("\n", 1)] {
        let output = typed(&server, &["tx", "resolve", "3333", "--reason", "test"], text);
        assert_exit(&output, code);
        let said = stderr(&output);
        for part in ["plan: end what was named", "- the log says nothing", "risk: the books", "type 333333"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(stdout(&output).contains("done as planned (audit 12)"), code == 0);
        assert_eq!(said.contains("nothing was done"), code == 1, "{said}");
    }
    assert_eq!(server.seen().performed.len(), 1, "only the one that was confirmed");
}

#[test]
fn what_is_done_is_what_was_planned_with_its_hash_the_reason_and_who() {
    let server = Server::start();
    let output =
        server.ask(&[&OVERRULE[..], &["--branch", "00000000000000ab", "--reason", "test", "--yes"]].concat());
    assert_exit(&output, 0);
    let seen = server.seen();
    let Some(Act::Overrule(planned)) = seen.planned[0].act.clone() else { panic!("{seen:?}") };
    assert_eq!((planned.gid.as_str(), planned.branch, planned.commit), ("3333", 0xab, false));
    let performed = &seen.performed[0];
    let Some(Act::Overrule(act)) = performed.act.clone().unwrap().act else { panic!("{performed:?}") };
    assert_eq!(act.gid, WHOLE, "the plan's act, with the whole name");
    assert_eq!((performed.plan_hash.len(), performed.reason.as_str()), (64, "test"));
    assert!(performed.who.contains('@'), "{}", performed.who);
}

#[test]
fn every_act_fails_instead_of_asking_where_nobody_can_answer() {
    let server = Server::start();
    let acts: [&[&str]; 5] = [
        &["tx", "resolve", "3333"],
        &["tx", "forget", "3333"],
        &OVERRULE,
        &["quarantine", "release", "--all"],
        &["participant", "drain", "bank-a"],
    ];
    for act in acts {
        for more in [&["-o", "table"][..], &["-o", "json"], &["--no-input"]] {
            let args = [act, &["--reason", "test"], more].concat();
            // Stdin is no terminal; and with a terminal, JSON or --no-input asks nothing either.
            let mut outputs = vec![server.ask(&args)];
            if more != ["-o", "table"] {
                outputs.push(typed(&server, &args, "333333\n"));
            }
            for output in outputs {
                assert_exit(&output, 2);
                assert!(stderr(&output).contains("PACTUM-0040"), "{args:?}: {}", stderr(&output));
                assert!(stdout(&output).is_empty());
            }
        }
    }
    assert!(server.seen().planned.is_empty(), "the server was not even asked");
}

/// What goes against a decision is never confirmed by a variable that was set for something else.
#[test]
fn a_variable_says_yes_only_to_what_breaks_no_decision() {
    let server = Server::start();
    let with_variable = |args: &[&str]| {
        let args = [args, &["--reason", "test", "--server", &server.url]].concat();
        pactum(&args).env("PACTUM_YES", "true").env("CI", "true").output().unwrap()
    };
    assert_exit(&with_variable(&["tx", "resolve", "3333"]), 0);
    for strict in [&OVERRULE[..], &["quarantine", "release", "--all"]] {
        let output = with_variable(strict);
        assert_exit(&output, 2);
        assert!(stderr(&output).contains("PACTUM-0040"), "{}", stderr(&output));
    }
    assert_eq!(server.seen().performed.len(), 1);
}

#[test]
fn a_dry_run_needs_no_reason_does_nothing_and_ends_with_6_if_it_would_be_refused() {
    let server = Server::start();
    let table = server.ask(&[&OVERRULE[..], &["--dry-run"]].concat());
    assert_exit(&table, 0);
    assert!(stdout(&table).starts_with("plan: end what was named"), "the plan is the data: {table:?}");
    let json = server.ask(&["tx", "resolve", "8888", "--dry-run", "-o", "json"]);
    assert_exit(&json, 6);
    let plan: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(plan["refusal"]["code"], "PACTUM-0007");
    assert_eq!((plan["act"].as_str(), plan["hash"].as_str().map(str::len)), (Some("resolve"), Some(64)));
    let error: serde_json::Value = serde_json::from_str(&stderr(&json)).unwrap();
    assert_eq!(error["reason"], "ALREADY_COMMITTED");
    assert!(server.seen().performed.is_empty());
}

#[test]
fn a_refused_plan_is_never_sent_to_be_done() {
    let server = Server::start();
    let output = server.ask(&["tx", "resolve", "8888", "--reason", "test", "--yes"]);
    assert_exit(&output, 6);
    let said = stderr(&output);
    assert!(said.contains("REFUSED: commit is decided (PACTUM-0007"), "{said}");
    assert!(server.seen().performed.is_empty());
}

/// Two operators at once: the second is refused, with what changed.
#[test]
fn a_state_that_changed_is_refused_with_the_new_plan() {
    let server = Server::start();
    let output = server.ask(&["tx", "resolve", "9999", "--reason", "test", "--yes"]);
    assert_exit(&output, 6);
    let said = stderr(&output);
    assert!(said.contains("PLAN_CHANGED (PACTUM-0023)"), "{said}");
    assert!(said.contains("as of now:") && said.contains("- another operator was first"), "{said}");
    assert_eq!(server.seen().performed.len(), 1, "nothing is tried again by itself");
    let json = server.ask(&["tx", "resolve", "9999", "--reason", "test", "--yes", "-o", "json"]);
    assert_exit(&json, 6);
    let error: serde_json::Value = serde_json::from_str(&stderr(&json)).unwrap();
    let causes = error["causes"].as_array().unwrap();
    assert!(causes.contains(&"now: another operator was first".into()), "{error}");
}

#[test]
fn several_ids_come_from_the_line_and_from_stdin_and_each_is_done() {
    let server = Server::start();
    let output = piped(&server, &["tx", "retry", "3333", "-"], "bbbb\n\ncccc\n");
    assert_exit(&output, 0);
    assert_eq!(stdout(&output).lines().count(), 3);
    assert_eq!(server.seen().performed.len(), 3);
    assert_eq!(server.seen().performed[0].reason, "by hand");
    let some = piped(&server, &["tx", "resolve", "-", "--reason", "test", "--yes"], "3333\n8888\n");
    assert_exit(&some, 8);
    // Whoever gives ids that way cannot answer there.
    let asks = piped(&server, &["tx", "resolve", "-", "--reason", "test"], "3333\n");
    assert_exit(&asks, 2);
    let none = piped(&server, &["tx", "retry", "-"], "\n");
    assert_exit(&none, 0);
    assert!(stderr(&none).contains("no id was given"), "{}", stderr(&none));
}

#[test]
fn a_participant_is_drained_by_name_or_by_a_part_of_one_instance() {
    let server = Server::start();
    let reason = ["--reason", "upgrade", "--yes"];
    assert_exit(&server.ask(&[&["participant", "drain", "bank-a"][..], &reason].concat()), 0);
    let one = ["participant", "resume", "bank-a", "--instance", "beef"];
    assert_exit(&server.ask(&[&one[..], &reason].concat()), 0);
    let seen = server.seen();
    let Some(Act::Drain(all)) = seen.planned[0].act.clone() else { panic!("{seen:?}") };
    assert_eq!((all.resource.as_str(), all.instance.len()), ("bank-a", 0));
    let Some(Act::Resume(one)) = seen.planned[1].act.clone() else { panic!("{seen:?}") };
    assert_eq!(one.instance, uuid::Uuid::parse_str(support::samples::INSTANCE).unwrap().into_bytes());
    drop(seen);
    for (instance, resource, code) in [("0000", "bank-a", 3), ("beef", "bank-z", 3)] {
        let args = ["participant", "drain", resource, "--instance", instance];
        let refused = server.ask(&[&args[..], &reason].concat());
        assert_exit(&refused, code);
        assert!(stderr(&refused).contains("next:"), "{}", stderr(&refused));
    }
}

#[test]
fn a_release_is_of_one_incarnation_or_plainly_of_all() {
    let server = Server::start();
    let reason = ["--reason", "compared", "--yes"];
    let one = ["quarantine", "release", "--incarnation", support::samples::INCARNATION];
    assert_exit(&server.ask(&[&one[..], &reason].concat()), 0);
    assert_exit(&server.ask(&[&["quarantine", "release", "--all"][..], &reason].concat()), 0);
    let seen = server.seen();
    let lengths: Vec<usize> = seen
        .planned
        .iter()
        .map(|act| match act.act.clone() {
            Some(Act::Release(release)) => release.incarnation.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [16, 0]);
}

/// An interrupt while an act is under way leaves its outcome unknown, and says so.
#[test]
fn an_interrupt_in_mid_act_says_that_it_may_have_happened() {
    let server = Server::start();
    let args = ["tx", "resolve", "7777", "--reason", "test", "--yes", "--timeout", "5m"];
    let mut command = pactum(&[&args[..], &["--server", &server.url]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    support::until("the act is under way", || (!server.seen().performed.is_empty()).then_some(()));
    support::send(&child, rustix::process::Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_exit(&output, 9);
    assert!(stderr(&output).contains("it may or may not have happened"), "{}", stderr(&output));
}
