//! Three coordinators on one log, each killed in turn under load: no application sees more than an
//! abort that it may retry, and no answer is later contradicted. A5, A6, A11, A12.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]
#![allow(clippy::print_stdout, reason = "the counts are part of the output of a run")]

use std::process::Command;

#[test]
fn a_rolling_kill_of_every_coordinator_costs_retries_and_no_answer() {
    let output = Command::new(env!("CARGO_BIN_EXE_gauntlet"))
        .args(["rolling-kill", "--seconds", "20", "--seed", "3", "-o", "json"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    assert!(output.status.success(), "it ended with {}", output.status);
    let report: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"));
    assert_eq!((number("violations"), number("left_in_doubt")), (0, 0));
    assert!(number("kills") >= 3 && number("kills") % 3 == 0, "{report}");
    // Every answer was definite, and none was an error: an abort is an outcome, to be retried.
    assert_eq!((number("unknown_answers"), number("refused"), number("unheard")), (0, 0, 0), "{report}");
    assert!(number("committed") >= 100, "{report}");
}
