//! `pactum bench floors`: what is judged, and that its word and its exit code agree. How fast anything was is not
//! looked at.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{assert_exit, run, stderr, stdout};

#[test]
fn transactions_that_force_nothing_are_measured_and_judged() {
    let options = ["--only", "unforced", "--rounds", "1", "--measure", "1s", "-o", "json"];
    let output = run(&[&["bench", "floors"], &options[..]].concat());
    let report: Value =
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    assert_eq!(report["bench"], "floors");
    assert!(report.get("failed").is_none(), "{report:#}");
    let floors = report["floors"].as_array().unwrap();
    let names: Vec<&str> = floors.iter().map(|floor| floor["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "commit: forced log writes each, aborted",
            "commit: forced log writes each, read-only",
            "commit: forced log writes each, one branch with its marker table",
        ]
    );
    for floor in floors {
        assert_eq!((&floor["must_be"], floor["floor"].as_f64()), (&"below".into(), Some(0.01)), "{floor}");
        let value = floor["value"].as_f64().unwrap();
        // With sixteen in flight, each force is shared by sixteen at most. A build that is not for speed does few
        // in a second, so that one force by chance weighs more here than where it is judged.
        assert!(value < 1.0 / 32.0, "something forces: {floor}");
        assert_eq!(floor["held"], value < 0.01, "{floor}");
    }
    let held = floors.iter().all(|floor| floor["held"] == true);
    assert_eq!(report["held"], held, "{report:#}");
    assert_exit(&output, i32::from(!held));

    let runs = report["reports"]["unforced"]["runs"].as_array().unwrap();
    let kinds: Vec<&str> = runs.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["aborted", "read-only", "one-branch"]);
    for row in runs {
        assert_eq!(row["errors"], 0, "{row}");
        assert!(row["tx_per_second"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn people_read_what_is_missed_and_a_script_sees_it_by_the_exit_code() {
    let output = run(&["bench", "floors", "--only", "unforced", "--rounds", "1", "--measure", "100ms"]);
    let text = stdout(&output);
    let rows = text.lines().filter(|line| line.starts_with("commit: "));
    let missed = rows.filter(|line| line.ends_with(" missed")).count();
    assert!(text.contains("WHAT") && text.contains(&format!("3 floors, {missed} missed")), "{text}");
    assert_exit(&output, i32::from(missed > 0));
}

#[test]
fn wrong_input_is_refused_before_anything_is_started() {
    let cases: [(&[&str], &str); 3] = [
        (&["--only", "everything"], "log-delay, unforced"),
        (&["--measure", "1ms"], "between 100ms and 1m"),
        (&["--rounds", "0"], "1..=99"),
    ];
    for (args, said) in cases {
        let output = run(&[&["bench", "floors"], args].concat());
        assert_exit(&output, 2);
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
}
