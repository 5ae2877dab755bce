//! `pactum bench` where something goes wrong, in sizes that say nothing of speed: real processes, and
//! figures that must agree with each other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use support::{assert_exit, pactum, run, send, stderr, stdout, until, wait};

/// Runs it to its end, which must be a good one, and reads what it prints.
#[track_caller]
fn bench(args: &[&str]) -> Value {
    let output = run(&[&["bench"], args, &["-o", "json"]].concat());
    assert_exit(&output, 0);
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[track_caller]
fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {path}: {value:#}"))
}

#[track_caller]
fn count(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no count at {path}: {value:#}"))
}

/// The row whose field says this.
fn row<'a>(report: &'a Value, field: &str, is: &str) -> &'a Value {
    let mut rows = report["runs"].as_array().unwrap().iter();
    rows.find(|row| row[field] == is).unwrap_or_else(|| panic!("no run with {field} {is}: {report:#}"))
}

#[test]
fn recovery_finishes_every_commit_and_every_prepared_branch() {
    let report =
        bench(&["recover", "--commits", "300", "--prepared", "40", "--connections", "2", "--rounds", "2"]);
    assert_eq!((&report["bench"], &report["rounds"]), (&"recover".into(), &2.into()));
    assert_eq!(count(&report, "/errors"), 0);
    let log = row(&report, "kind", "log");
    assert_eq!((count(log, "/transactions"), count(log, "/branches")), (300, 600));
    assert!(log.get("ratio_to_bare_loop").is_none());
    let prepared = row(&report, "kind", "prepared");
    assert_eq!((count(prepared, "/transactions"), count(prepared, "/branches")), (20, 40));
    assert_eq!(count(prepared, "/connections_per_database"), 2);
    assert!(number(prepared, "/ratio_to_bare_loop/median") > 0.0);
    for row in [log, prepared] {
        let seconds = number(row, "/seconds/median");
        assert!(seconds > 0.0 && number(row, "/recorded_seconds/median") >= seconds, "{row:#}");
        let per_second = number(row, "/branches") / seconds;
        assert!((number(row, "/branches_per_second") / per_second - 1.0).abs() < 1e-9, "{row:#}");
    }
}

#[test]
fn one_part_of_recovery_can_be_left_out() {
    let report = bench(&["recover", "--log-only", "--commits", "20", "--rounds", "1"]);
    assert_eq!(report["runs"].as_array().unwrap().len(), 1);
    row(&report, "kind", "log");
}

#[test]
fn a_participant_that_is_gone_for_a_moment_costs_no_outcome() {
    let report =
        bench(&["blip", "--gone", "300ms", "--measure", "300ms", "--in-flight", "4", "--rounds", "1"]);
    assert!((number(&report, "/gone_ms") - 300.0).abs() < 1e-6);
    for absence in ["pause", "restart"] {
        let row = row(&report, "absence", absence);
        assert_eq!(count(row, "/errors"), 0, "{row:#}");
        assert!(number(row, "/absent_ms/median") >= 300.0, "{row:#}");
        assert!(number(row, "/others_per_second_before/median") > 0.0, "{row:#}");
        assert!(number(row, "/others_per_second_during/median") > 0.0, "{row:#}");
        // Those have nothing to do with whoever is gone.
        assert!(row["others_aborted"].as_object().unwrap().is_empty(), "{row:#}");
    }
    // Whoever only stood still has lost nothing.
    let paused = row(&report, "absence", "pause");
    assert!(paused["touching_aborted"].as_object().unwrap().is_empty(), "{paused:#}");
    // Four were under way all the time, so some waited for nearly as long as it was gone.
    assert!(number(paused, "/touching_longest_commit_ms/median") >= 250.0, "{paused:#}");
}

#[test]
fn open_transactions_are_counted_and_recorded_as_told() {
    let report = bench(&["open", "--transactions", "700"]);
    for (records, recorded) in [("without", 0), ("with", 700)] {
        let row = row(&report, "records", records);
        assert_eq!(count(row, "/recorded"), recorded);
        assert_eq!(count(row, "/transactions"), 700);
        assert!(number(row, "/resident_mib") <= number(row, "/peak_mib"), "{row:#}");
        assert!(number(row, "/bytes_per_transaction") <= number(&report, "/bytes_per_transaction"));
    }
}

#[test]
fn under_overload_what_is_accepted_is_committed_and_stands_in_the_log() {
    let args = ["--in-flight", "4,16", "--applications", "2", "--measure", "300ms", "--rounds", "1"];
    let report = bench(&[&["overload"], &args[..]].concat());
    assert_eq!((count(&report, "/lost"), count(&report, "/errors")), (0, 0), "{report:#}");
    let row = &report["runs"][0];
    assert!([4, 16].contains(&count(row, "/in_flight")));
    assert_eq!(count(row, "/unanswered"), 0);
    assert_eq!(count(row, "/committed"), count(row, "/committed_in_log"));
    let (sustainable, offered) = (number(row, "/sustainable_per_second"), number(row, "/offered_per_second"));
    assert!((offered / sustainable - 2.0).abs() < 0.1, "twice the rate is offered: {row:#}");
    assert!(number(row, "/peak_memory_mib") >= number(row, "/peak_memory_mib_before"));
}

#[test]
fn people_get_a_table() {
    let output = run(&["bench", "open", "--transactions", "100", "--records", "without"]);
    assert_exit(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("BYTES EACH") && text.contains(" cores of "), "{text}");
}

#[test]
fn wrong_input_is_refused_before_anything_is_started() {
    let cases: [(&[&str], &str); 9] = [
        (&["recover", "--prepared", "3"], "an even number is needed"),
        (&["recover", "--prepared", "0"], "between 2 and 200000"),
        (&["recover", "--commits", "0"], "1..=10000000"),
        (&["recover", "--log-only", "--prepared-only"], "cannot be used with"),
        (&["blip", "--gone", "1m"], "between 10ms and 10s"),
        (&["blip", "--absence", "asleep"], "pause, restart"),
        (&["open", "--transactions", "1000001"], "100..=1000000"),
        (&["overload", "--factor", "0"], "between 0.1 and 10"),
        (&["overload", "--measure", "1ms"], "between 100ms and 1m"),
    ];
    for (args, said) in cases {
        let output = run(&[&["bench"], args].concat());
        assert_exit(&output, 2);
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
}

/// The processes that a process has started and that live.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let listed = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let ids: Vec<String> = listed.collect();
    ids.iter().flat_map(|ids| ids.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupt_in_the_middle_leaves_no_process_behind() {
    let args = ["bench", "blip", "--measure", "1m", "--in-flight", "2", "--rounds", "1"];
    let mut bench = pactum(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The server with its watchdog, a coordinator, three participants and two loads.
    let started = until("everything has been started", || {
        let children = children(bench.id());
        (children.len() >= 7).then_some(children)
    });
    send(&bench, Signal::INT);
    assert_eq!(wait(&mut bench).code(), Some(130));
    for pid in started {
        until("its children have ended", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    }
}
