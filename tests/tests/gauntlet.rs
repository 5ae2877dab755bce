//! The gauntlet, for as long as an ordinary test run has time for: real processes killed at named
//! steps and at random, servers killed, links cut. A1 to A12, B1, B2, B7, C1 to C5, C10, D1 to D4, D9, E1,
//! E9, E14, E15, F2, F3, F6, H10 and H12 all happen in it, unannounced.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]
#![allow(clippy::print_stdout, reason = "the counts are part of the output of a run")]

use std::process::Command;

/// Runs the program and returns what it printed last, which is one line of JSON. Its progress goes
/// where the test's own output goes.
fn gauntlet(arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_gauntlet"))
        .args(arguments)
        .args(["-o", "json"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    assert!(output.status.success(), "gauntlet {arguments:?} ended with {}", output.status);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn nothing_is_lost_done_twice_or_left_in_doubt_whatever_is_killed() {
    let report = gauntlet(&["--seconds", "45", "--seed", "20"]);
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"));
    assert_eq!((number("violations"), number("left_in_doubt")), (0, 0));
    // Far fewer than an idle machine does: what is asked for is that the run was not empty.
    assert!(number("transactions") >= 100, "{report}");
    assert!(number("committed") >= 20, "{report}");
    assert!(number("kills") >= 20, "{report}");
    assert!(number("postgres_kills") >= 1, "{report}");
    assert!(number("pauses") >= 1, "{report}");
    assert!(number("network_faults") >= 5, "{report}");
    let points = report["kills_mid_commit"].as_object().unwrap();
    let met: u64 = points.values().filter_map(serde_json::Value::as_u64).sum();
    assert!(met >= 10 && points.len() >= 6, "{report}");
    let definite = number("committed") + number("aborted");
    assert!(number("unknown_answers") * 2 <= definite, "most answers say something: {report}");
}
