//! Charts are well-formed, say everything in words as well, and tell early of a file that cannot be.

use std::path::PathBuf;

use roxmltree::Document;

use super::super::options::LogKind;
use super::super::sample::Sample;
use super::super::wire::Measured;
use super::*;

/// So many transactions a second, in three rounds that differ by a tenth.
fn samples(rate: u32, p99_ms: f64) -> Vec<Sample> {
    let sample = |tenths: u32| {
        let done = u64::from(rate) * u64::from(tenths) / 10;
        Sample {
            measured: Measured {
                seconds: 1.0,
                done,
                done_in_all: done,
                p50_ms: p99_ms / 2.0,
                p99_ms: p99_ms * f64::from(tenths) / 10.0,
                p999_ms: p99_ms * 1.5,
                ..Measured::default()
            },
            cpu: [("coordinator", 0.7), ("participants", 0.6), ("log_postgres", 0.3), ("load", 0.2)]
                .map(|(role, seconds)| (role.to_owned(), seconds * f64::from(tenths) / 10.0))
                .into(),
            ..Sample::default()
        }
    };
    [9, 10, 11].map(sample).into()
}

fn commit_report() -> Report {
    let mut report = Report::new("commit", LogKind::Postgres, None, 3);
    report.head.machine = "2 cores of R&D <fast> \"model\"".to_owned();
    for (in_flight, rate, p99) in
        [(1, 1_150, 1.4), (16, 7_300, 4.1), (256, 21_000, 19.0), (2048, 30_200, 88.0)]
    {
        report.runs.push(Row::new("submit", 2, in_flight, &samples(rate, p99)));
    }
    report.runs.push(Row::new("unary-submit", 2, 256, &samples(16_000, 30.0)));
    report.beside.push(Row::new("unary-nothing", 0, 256, &samples(79_000, 7.0)));
    report.beside.push(Row::new("ceiling", 0, 2, &samples(61_000, 20.0)));
    report.beside.push(Row::new("single-row-commit", 0, 1, &samples(4_000, 0.5)));
    report.ceiling_rows_per_second = Some(61_000.0);
    report.ratio_to_ceiling = Some(0.49);
    report
}

fn transfer_report() -> Report {
    let mut report = Report::new("transfer", LogKind::Postgres, Some(std::time::Duration::from_millis(1)), 3);
    report.runs.push(Row::new("transfer", 2, 64, &samples(2_900, 60.0)));
    for (kind, participants, rate) in
        [("hand-written-safe", 2, 2_800), ("hand-written-unsafe", 2, 3_400), ("one-database", 1, 9_000)]
    {
        report.beside.push(Row::new(kind, participants, 64, &samples(rate, 40.0)));
    }
    (report.ratio_to_safe, report.ratio_to_unsafe) = (Some(1.04), Some(0.85));
    report
}

fn texts(document: &Document<'_>) -> Vec<String> {
    let texts = document.descendants().filter(|node| node.has_tag_name((SVG, "text")));
    texts.filter_map(|node| node.text().map(str::to_owned)).collect()
}

const SVG: &str = "http://www.w3.org/2000/svg";

fn only<'a>(document: &'a Document<'_>, name: &str) -> &'a str {
    let mut all = document.descendants().filter(|node| node.has_tag_name((SVG, name)));
    let (Some(node), None) = (all.next(), all.next()) else { panic!("there must be one {name}") };
    node.text().unwrap_or_default()
}

#[test]
fn a_chart_names_every_run_to_those_who_see_it_and_to_those_who_do_not() {
    for report in [commit_report(), transfer_report()] {
        let drawn = draw(&report);
        let document = Document::parse(&drawn).unwrap();
        assert_eq!(document.root_element().attribute("role"), Some("img"));
        assert_eq!(only(&document, "title"), format!("pactum bench {}", report.head.bench));
        let description = only(&document, "desc");
        assert!(
            description.contains(&report.head.machine),
            "what was given reads back as it was: {description}"
        );
        let seen = texts(&document);
        for row in report.runs.iter().chain(&report.beside) {
            assert!(description.contains(&called(row)), "{} in {description}", called(row));
        }
        for row in &report.runs {
            assert!(seen.contains(&called(row)), "{} in {seen:?}", called(row));
        }
        for unit in ["transactions per second", "milliseconds", "microseconds per transaction"] {
            assert!(seen.iter().any(|text| text.starts_with(unit)), "{unit} in {seen:?}");
        }
    }
}

#[test]
fn everything_is_drawn_within_the_picture() {
    for report in [commit_report(), transfer_report(), Report::new("commit", LogKind::Memory, None, 1)] {
        let drawn = draw(&report);
        let document = Document::parse(&drawn).unwrap();
        let root = document.root_element();
        let size = |name: &str| root.attribute(name).unwrap().parse::<f64>().unwrap();
        let (width, height) = (size("width"), size("height"));
        let inside = |name: &str, value: f64| {
            let most = if name.starts_with('x') || name == "cx" { width } else { height };
            assert!((0.0..=most).contains(&value), "{name} {value} is outside: {drawn}");
        };
        for node in root.descendants() {
            if let (Some(text), Some(anchor)) = (node.text(), node.attribute("text-anchor")) {
                let x: f64 = node.attribute("x").unwrap().parse().unwrap();
                let width =
                    if node.attribute("font-size") == Some("12") { svg::text_width(text) } else { 0.0 };
                match anchor {
                    "start" => inside("x", x + width),
                    "end" => inside("x", x - width),
                    _ => [x - width / 2.0, x + width / 2.0].into_iter().for_each(|end| inside("x", end)),
                }
            }
            for name in ["x", "x1", "x2", "cx", "y", "y1", "y2", "cy"] {
                if let Some(value) = node.attribute(name) {
                    inside(name, value.parse().unwrap());
                }
            }
            for point in node.attribute("points").unwrap_or_default().split_whitespace() {
                let (x, y) = point.split_once(',').unwrap();
                inside("x", x.parse().unwrap());
                inside("y", y.parse().unwrap());
            }
        }
    }
}

#[test]
fn figures_of_nothing_are_drawn_as_nothing() {
    let mut report = Report::new("commit", LogKind::Memory, None, 1);
    report.runs.push(Row::new("submit", 2, 1, &[Sample::default()]));
    let drawn = draw(&report);
    assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    Document::parse(&drawn).unwrap();
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_anything_is_measured_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let common = |path: PathBuf| Common { log_delay: None, rounds: None, measure: None, chart: Some(path) };
    let nowhere = common(folder.path().join("missing").join("chart.svg"));
    let told = check(&nowhere).unwrap_err().line();
    assert!(told.contains("the chart cannot be written to") && told.contains("missing"), "{told}");

    let there = folder.path().join("chart.svg");
    check(&common(there.clone())).unwrap();
    assert!(!there.exists(), "only looked at");
    std::fs::write(&there, "of last time").unwrap();
    check(&common(there.clone())).unwrap();
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "of last time", "only looked at");
    save(&commit_report(), &common(there.clone())).unwrap();
    Document::parse(&std::fs::read_to_string(&there).unwrap()).unwrap();
}
