//! `pactum bench floors`: every figure that must hold, measured and judged.
//!
//! The measurements are those of the other commands, made as they make them. One that fails (an error,
//! nothing done) is not a floor that is missed: nothing is known then. The others are made all the same.

mod delay;
mod faults;
mod floor;
mod speed;
mod unforced;

use std::collections::BTreeMap;

use clap::ValueEnum as _;
use serde::Serialize;
use serde_json::Value;

use self::floor::{Floor, plain};
use super::options::{Floors, Part};
use super::{report, usage};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::{render, table};

/// What was measured, and how it is judged.
#[derive(Clone, Debug, Serialize)]
struct Report {
    bench: &'static str,
    machine: String,
    version: &'static str,
    floors: Vec<Floor>,
    /// Every floor is, and nothing failed.
    held: bool,
    /// What could not be measured, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    failed: BTreeMap<&'static str, String>,
    /// The whole report of each measurement.
    reports: BTreeMap<&'static str, Value>,
}

/// One measurement, judged.
struct Judged {
    floors: Vec<Floor>,
    report: Value,
}

impl Judged {
    /// These floors, and the report that they are of.
    fn new(floors: Vec<Floor>, report: &impl Serialize) -> Result<Self, Failure> {
        let report = serde_json::to_value(report)
            .map_err(|error| Failure::new(Exit::Failed, "no JSON can be made of this").because(&error))?;
        Ok(Self { floors, report })
    }
}

/// Runs it.
pub(super) async fn run(options: &Floors, output: &Output) -> Result<Exit, Failure> {
    let report = measure_all(options, output).await;
    report.show(output)?;
    report.exit()
}

/// Measures what was asked for; what fails is told, and the rest is measured all the same.
async fn measure_all(options: &Floors, output: &Output) -> Report {
    let mut report = Report {
        bench: "floors",
        machine: usage::machine(),
        version: env!("CARGO_PKG_VERSION"),
        floors: Vec::new(),
        held: true,
        failed: BTreeMap::new(),
        reports: BTreeMap::new(),
    };
    for &part in Part::value_variants() {
        if !options.only.is_empty() && !options.only.contains(&part) {
            continue;
        }
        output.note(format_args!("measuring {}", part.name()));
        match Box::pin(measure(part, options, output)).await {
            Ok(judged) => {
                for floor in &judged.floors {
                    output.note(format_args!(
                        "  {}: {} ({}), {}",
                        floor.name,
                        plain(floor.value.median),
                        floor.bound.text(),
                        floor.words()
                    ));
                }
                report.add(part, judged);
            }
            Err(failure) => {
                output.note(format_args!("  {} could not be measured: {failure}", part.name()));
                report.fail(part, failure.to_string());
            }
        }
    }
    report
}

async fn measure(part: Part, options: &Floors, output: &Output) -> Result<Judged, Failure> {
    match part {
        Part::Commit => speed::commit(options, output).await,
        Part::LogDelay => delay::log_delay(options, output).await,
        Part::Unforced => unforced::unforced(options, output).await,
        Part::Transfer => speed::transfer(options, output).await,
        Part::Recover => faults::recover(options, output).await,
        Part::Blip => faults::blip(options, output).await,
        Part::Open => faults::open(output).await,
        Part::Overload => faults::overload(options, output).await,
    }
}

/// Figures of measurements in which something went wrong, or nothing was done, say nothing.
fn sound(report: &report::Report) -> Result<(), Failure> {
    for row in report.runs.iter().chain(&report.beside) {
        let what = format!("{} with {} in flight", row.kind, row.in_flight);
        if row.errors > 0 {
            return Err(unsound(format!("{what}: {} errors", row.errors), row.first_error.as_deref()));
        }
        if row.tx_per_second_range[0] <= 0.0 {
            return Err(unsound(format!("{what}: nothing was done in a whole round"), None));
        }
    }
    Ok(())
}

/// A measurement that says nothing.
fn unsound(sentence: String, error: Option<&str>) -> Failure {
    let failure = Failure::new(Exit::Failed, sentence);
    match error {
        Some(error) => failure.cause(error),
        None => failure,
    }
}

impl Report {
    fn add(&mut self, part: Part, judged: Judged) {
        self.held &= judged.floors.iter().all(Floor::held);
        self.floors.extend(judged.floors);
        self.reports.insert(part.name(), judged.report);
    }

    fn fail(&mut self, part: Part, error: String) {
        self.held = false;
        self.failed.insert(part.name(), error);
    }

    fn show(&self, output: &Output) -> Result<(), Failure> {
        if !output.for_people() {
            return output.document(self);
        }
        let mut rows = table(["WHAT", "VALUE", "RANGE", "FLOOR", "AIM", "HELD"]);
        for floor in &self.floors {
            rows.add_row([
                floor.name.clone(),
                plain(floor.value.median),
                format!("{} to {}", plain(floor.value.min), plain(floor.value.max)),
                floor.bound.text(),
                floor.aim.map_or_else(|| "-".to_owned(), plain),
                floor.words().to_owned(),
            ]);
        }
        output.text(render(&rows))?;
        for floor in &self.floors {
            if let Some(note) = &floor.note {
                output.text(format_args!("\n{}: {note}", floor.name))?;
            }
        }
        let missed = self.floors.iter().filter(|floor| !floor.held()).count();
        output.text(format_args!("\n{} floors, {missed} missed\n{}", self.floors.len(), self.machine))
    }

    /// A floor that is missed is told by the exit code alone: it is what was asked for.
    fn exit(&self) -> Result<Exit, Failure> {
        if !self.failed.is_empty() {
            let parts: Vec<&str> = self.failed.keys().copied().collect();
            let sentence = format!("not everything could be measured: {}", parts.join(", "));
            let again = format!("to repeat it alone: pactum bench floors --only {}", parts.join(","));
            return Err(Failure::new(Exit::Failed, sentence).next(again));
        }
        Ok(if self.held { Exit::Ok } else { Exit::Failed })
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::LogKind;
    use super::super::report::Row;
    use super::super::sample::{Sample, Spread};
    use super::super::wire::Measured;
    use super::floor::Bound;
    use super::*;

    fn report() -> Report {
        Report {
            bench: "floors",
            machine: String::new(),
            version: "0",
            floors: Vec::new(),
            held: true,
            failed: BTreeMap::new(),
            reports: BTreeMap::new(),
        }
    }

    fn judged(value: f64) -> Judged {
        let floor = Floor::new("a ratio", Spread::of([value]), Bound::AtLeast(0.5));
        Judged::new(vec![floor], &()).expect("a null")
    }

    #[test]
    fn one_floor_that_is_missed_fails_the_whole() {
        let mut report = report();
        report.add(Part::Commit, judged(0.6));
        assert!(report.held);
        assert_eq!(report.exit().expect("nothing failed"), Exit::Ok);
        report.add(Part::Transfer, judged(0.4));
        report.add(Part::Open, judged(0.6));
        assert!(!report.held);
        assert_eq!(report.exit().expect("nothing failed"), Exit::Failed);
        assert_eq!(report.floors.len(), 3);
    }

    #[test]
    fn a_measurement_that_fails_is_a_failure_and_no_missed_floor() {
        let mut report = report();
        report.add(Part::Commit, judged(0.6));
        report.fail(Part::Open, "no memory".to_owned());
        assert!(!report.held && report.floors.iter().all(Floor::held));
        let failure = report.exit().expect_err("something failed");
        assert!(failure.to_string().contains("open"), "{failure}");
    }

    #[test]
    fn a_report_with_errors_or_of_nothing_is_no_measurement() {
        let of = |measured: Measured| {
            let mut report = report::Report::new("commit", LogKind::Memory, None, 1);
            let samples = [Sample { measured, ..Sample::default() }];
            report.beside.push(Row::new("submit", 2, 1, &samples));
            sound(&report)
        };
        let good = Measured { seconds: 1.0, done: 100, ..Measured::default() };
        assert!(of(good.clone()).is_ok());
        assert!(of(Measured { errors: 1, ..good.clone() }).is_err());
        assert!(of(Measured { done: 0, ..good }).is_err());
    }
}
