//! `pactum bench transfer`, as small as it goes: everything is measured, counted and told. How fast it was
//! is not looked at.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{assert_exit, run, stdout};

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"))
}

#[test]
fn a_small_run_measures_everybody_and_counts_their_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("chart.svg");
    let options = ["--rounds", "1", "--measure", "500ms", "--in-flight", "4", "-o", "json"];
    let output = run(&[&["bench", "transfer", "--chart", chart.to_str().unwrap()], &options[..]].concat());
    // Zero also says that the money was all there, and nothing left prepared, after each measurement.
    assert_exit(&output, 0);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();

    assert_eq!(
        (&report["bench"], &report["rounds"]),
        (&Value::from("transfer"), &Value::from(1)),
        "{report}"
    );
    let runs = report["runs"].as_array().unwrap();
    let beside = report["beside"].as_array().unwrap();
    let kinds =
        |rows: &[Value]| rows.iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(kinds(runs), ["transfer"]);
    let drawn = std::fs::read_to_string(&chart).unwrap();
    let drawn = roxmltree::Document::parse(&drawn).unwrap();
    let named =
        drawn.descendants().filter_map(|node| node.text()).any(|text| text.starts_with("hand-written-safe"));
    assert!(named, "everybody stands in the chart: {drawn:?}");
    assert_eq!(kinds(beside), ["hand-written-safe", "hand-written-unsafe", "one-database"]);
    for row in runs.iter().chain(beside) {
        assert_eq!((&row["in_flight"], &row["errors"]), (&Value::from(4), &Value::from(0)), "{row}");
        for figure in ["tx_per_second", "p50_ms", "p99_ms", "sql_bytes_per_tx"] {
            assert!(number(row, figure) > 0.0, "{figure} in {row}");
        }
    }
    // What hurts one of a pair hurts the other, but a tiny run shows nothing else than that there are figures.
    assert!(number(&report, "ratio_to_safe") > 0.0 && number(&report, "ratio_to_unsafe") > 0.0, "{report}");

    let (own, safe, unsafe_, one) = (&runs[0], &beside[0], &beside[1], &beside[2]);
    // Each branch: BEGIN, UPDATE, PREPARE, COMMIT PREPARED and the pool's own question when the connection
    // comes back; the decision is one more, with that question. Transactions that were under way
    // when the counting began or ended are counted in part.
    let trips = |row: &Value| number(row, "sql_round_trips_per_tx");
    let about = |row: &Value, expected: f64| {
        assert!((trips(row) / expected - 1.0).abs() < 0.25, "about {expected} round trips: {row}");
    };
    about(unsafe_, 10.0);
    about(safe, 12.0);
    about(one, 5.0);
    // Begin, work, look, promise, give back, and end, at two branches; and a share of a write of the log.
    assert!(trips(own) > 10.0 && trips(own) < 16.0, "{own}");

    // Its request, two orders and votes, two decisions and what became of them, its answer: at most one
    // message each.
    let messages = number(own, "messages_per_tx");
    assert!(messages > 0.5 && messages < 12.0, "{own}");
    assert!(number(own, "bytes_per_tx") > 200.0, "{own}");
    assert!(number(safe, "messages_per_tx") < f64::EPSILON, "by hand there is no coordinator: {safe}");

    // The log is forced at most once for each, and a few times while the coordinator starts; by those who keep
    // no decision not at all.
    assert!(number(own, "log_syncs_per_tx") > 0.0 && number(own, "log_syncs_per_tx") < 3.0, "{own}");
    assert!(number(safe, "log_syncs_per_tx") > 0.0 && number(safe, "log_syncs_per_tx") < 1.5, "{safe}");
    assert!(number(unsafe_, "log_syncs_per_tx") < 0.1, "{unsafe_}");
}

#[test]
fn a_chart_that_cannot_be_written_is_refused_before_anything_is_measured() {
    for bench in ["commit", "transfer"] {
        let output = run(&["bench", bench, "--chart", "no/such/folder/chart.svg"]);
        assert_exit(&output, 1);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("the chart cannot be written to no/such/folder/chart.svg"), "{told}");
        assert!(!told.contains("warming up"), "{told}");
    }
}
