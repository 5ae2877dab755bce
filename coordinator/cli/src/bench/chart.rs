//! The figures of a report as a picture: `--chart`.
//!
//! One SVG file without scripts, fonts or anything from elsewhere. It holds every figure in words as well,
//! for whoever cannot see it.

mod bars;
mod lines;
mod svg;

use std::fs::OpenOptions;
use std::path::Path;

use self::bars::{Bar, Bars};
use self::lines::{Lines, Point, Series};
use self::svg::{Anchor, Svg, Text, figure};
use super::options::Common;
use super::report::{Report, Row};
use crate::exit::Exit;
use crate::failure::Failure;

/// The width of the picture, and the room around what it holds.
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 28.0;
const HEADER: f64 = 96.0;

/// Finds out whether the file can be written, if one is wanted: before minutes are spent on measuring. A
/// file that is there already is left as it is.
///
/// # Errors
/// It cannot be.
pub(super) fn check(common: &Common) -> Result<(), Failure> {
    let Some(path) = &common.chart else { return Ok(()) };
    let there = path.exists();
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| unwritable(path, &error))?;
    if !there {
        std::fs::remove_file(path).map_err(|error| unwritable(path, &error))?;
    }
    Ok(())
}

/// Draws the report into the file, if one is wanted.
///
/// # Errors
/// The file cannot be written any more.
pub(super) fn save(report: &Report, common: &Common) -> Result<(), Failure> {
    let Some(path) = &common.chart else { return Ok(()) };
    std::fs::write(path, draw(report)).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the chart cannot be written to {}", path.display()))
        .because(error)
        .next("give --chart a file in a directory that exists and that you may write to")
}

/// A part of the picture.
enum Panel {
    /// Two that stand beside each other.
    Lines([Lines; 2]),
    Bars(Bars),
}

impl Panel {
    fn height(&self) -> f64 {
        match self {
            Self::Lines(both) => both.iter().map(lines::height).fold(0.0, f64::max),
            Self::Bars(bars) => bars::height(bars),
        }
    }

    fn draw(&self, svg: &mut Svg, y: f64) {
        let (width, gap) = (WIDTH - 2.0 * MARGIN, 32.0);
        match self {
            Self::Lines([left, right]) => {
                let half = (width - gap) / 2.0;
                left.draw(svg, (MARGIN, y), half);
                right.draw(svg, (MARGIN + half + gap, y), half);
            }
            Self::Bars(bars) => bars.draw(svg, (MARGIN, y), width),
        }
    }
}

/// The whole picture.
fn draw(report: &Report) -> String {
    let panels = if report.head.bench == "commit" { commit(report) } else { side_by_side(report) };
    let mut svg = Svg::default();
    let title = format!("pactum bench {}", report.head.bench);
    svg.text((MARGIN, 36.0), Anchor::Start, &title, Text::Title);
    svg.text((MARGIN, 58.0), Anchor::Start, &facts(report), Text::Note);
    svg.text((MARGIN, 76.0), Anchor::Start, &report.head.machine, Text::Note);
    let mut y = HEADER;
    for panel in panels {
        panel.draw(&mut svg, y);
        y += panel.height() + 26.0;
    }
    svg.document((WIDTH, y), &title, &in_words(report))
}

/// What was measured, and how.
fn facts(report: &Report) -> String {
    let delay = report.head.log_delay_ms.map(|delay| format!(", each force {} ms longer", figure(delay)));
    format!(
        "Pactum {}, log: {}{}, median of {} rounds with the least and the most",
        report.head.version,
        report.head.log,
        delay.unwrap_or_default(),
        report.head.rounds.unwrap_or(1)
    )
}

/// Every run in a sentence.
fn in_words(report: &Report) -> String {
    let run = |row: &Row| {
        let [least, most] = row.tx_per_second_range.map(figure);
        let (rate, p50, p99) = (figure(row.tx_per_second), figure(row.p50_ms), figure(row.p99_ms));
        format!("{}: {rate} per second ({least} to {most}), p50 {p50} ms, p99 {p99} ms.", called(row))
    };
    let ratios = [
        ("the ceiling", report.ratio_to_ceiling),
        ("hand-written, safe", report.ratio_to_safe),
        ("hand-written, unsafe", report.ratio_to_unsafe),
    ];
    let ratio = |(what, ratio): (&str, Option<f64>)| Some(format!("Ratio to {what}: {}.", figure(ratio?)));
    let mut all = vec![format!("{}; {}.", facts(report), report.head.machine)];
    all.extend(report.runs.iter().chain(&report.beside).map(run));
    all.extend(ratios.into_iter().filter_map(ratio));
    all.join(" ")
}

/// What a run is called.
fn called(row: &Row) -> String {
    let participants = match row.participants {
        0 => String::new(),
        1 => ", 1 participant".to_owned(),
        more => format!(", {more} participants"),
    };
    format!("{}{participants}, {} in flight", row.kind, row.in_flight)
}

// ---- commit --------------------------------------------------------------------------------------

fn commit(report: &Report) -> Vec<Panel> {
    let beside = |kind: &str| report.beside.iter().find(|row| row.kind == kind);
    let throughput = Lines {
        heading: "Throughput",
        unit: "transactions per second (both axes logarithmic)",
        series: series(report, |row| (row.tx_per_second, row.tx_per_second_range)),
        across: report.ceiling_rows_per_second.map(|rate| ("ceiling, rows per second", rate)),
    };
    let latency = Lines {
        heading: "Latency: 99 of 100 take at most",
        unit: "milliseconds (both axes logarithmic)",
        series: series(report, |row| (row.p99_ms, row.p99_ms_range)),
        across: beside("single-row-commit").map(|row| ("commit of a single row of the log, p50", row.p50_ms)),
    };
    let mut panels = vec![Panel::Lines([throughput, latency])];
    if let Some(ceiling) = report.ceiling_rows_per_second.filter(|rate| *rate > 0.0) {
        let bar = |row: &Row| {
            let range = row.tx_per_second_range.map(|rate| rate / ceiling);
            Bar::plain(called(row), row.tx_per_second / ceiling, Some(range))
        };
        panels.push(Panel::Bars(Bars {
            heading: "Against the ceiling",
            unit: "transactions for each row that the same client could at best write to the same table",
            parts: Vec::new(),
            each: report.runs.iter().map(bar).collect(),
        }));
    }
    panels.extend(calls(report));
    panels.push(processor_time(report));
    panels
}

/// A line for each number of participants.
fn series(report: &Report, figures: impl Fn(&Row) -> (f64, [f64; 2])) -> Vec<Series> {
    let submits = || report.runs.iter().filter(|row| row.kind == "submit");
    let mut counts: Vec<u16> = submits().map(|row| row.participants).collect();
    counts.sort_unstable();
    counts.dedup();
    let line = |participants: u16| {
        let mut points: Vec<Point> = submits()
            .filter(|row| row.participants == participants)
            .map(|row| {
                let (value, range) = figures(row);
                Point { in_flight: row.in_flight, value, range }
            })
            .collect();
        points.sort_by_key(|point| point.in_flight);
        Series { name: format!("submit, {participants} participants"), points }
    };
    counts.into_iter().map(line).collect()
}

/// Unary calls, beside those that do nothing.
fn calls(report: &Report) -> Option<Panel> {
    let rows = report.runs.iter().chain(&report.beside).filter(|row| row.kind.starts_with("unary"));
    let each: Vec<Bar> = rows.map(rate).collect();
    (!each.is_empty()).then(|| {
        Panel::Bars(Bars { heading: "Unary calls", unit: "calls per second", parts: Vec::new(), each })
    })
}

// ---- others --------------------------------------------------------------------------------------

/// What stands beside each other in a report without a curve.
fn side_by_side(report: &Report) -> Vec<Panel> {
    let rows = || report.runs.iter().chain(&report.beside);
    let latency = |row: &Row| Bar::plain(called(row), row.p99_ms, Some(row.p99_ms_range));
    vec![
        Panel::Bars(Bars {
            heading: "Throughput",
            unit: "transactions per second",
            parts: Vec::new(),
            each: rows().map(rate).collect(),
        }),
        Panel::Bars(Bars {
            heading: "Latency: 99 of 100 take at most",
            unit: "milliseconds",
            parts: Vec::new(),
            each: rows().map(latency).collect(),
        }),
        processor_time(report),
    ]
}

fn rate(row: &Row) -> Bar {
    Bar::plain(called(row), row.tx_per_second, Some(row.tx_per_second_range))
}

/// What each process takes for one transaction, of all that are transactions.
fn processor_time(report: &Report) -> Panel {
    let transactions = |row: &&Row| !matches!(row.kind, "ceiling" | "single-row-commit" | "unary-nothing");
    let rows: Vec<&Row> = report.runs.iter().chain(&report.beside).filter(transactions).collect();
    let mut roles: Vec<String> =
        rows.iter().flat_map(|row| row.cpu_seconds_per_1000_tx.keys().cloned()).collect();
    roles.sort_unstable();
    roles.dedup();
    let bar = |row: &Row| {
        let part = |(role, seconds): (&String, &f64)| {
            // Seconds for a thousand are milliseconds for one.
            Some((roles.iter().position(|known| known == role)?, seconds * 1000.0))
        };
        Bar {
            name: called(row),
            parts: row.cpu_seconds_per_1000_tx.iter().filter_map(part).collect(),
            range: None,
        }
    };
    let each = rows.into_iter().map(bar).collect();
    let parts = roles.iter().map(|role| role.replace('_', " ")).collect();
    Panel::Bars(Bars {
        heading: "Processor time by process",
        unit: "microseconds per transaction",
        parts,
        each,
    })
}

#[cfg(test)]
mod tests;
