//! What came of the demo, for people and for scripts, and whether it counts as well done.

use hdrhistogram::Histogram;
use pactum_proto::error::ErrorCode;
use serde::Serialize;

use super::steps::CrashSeen;
use super::workload::{Ending, Finished};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::aligned;

/// The one object of `-o json`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) demo: &'static str,
    /// `sqlite` or `postgres`: of the log and the banks.
    pub(super) database: &'static str,
    pub(super) transfers: u32,
    pub(super) in_flight: u32,
    pub(super) committed: u32,
    /// All that did not happen: refused ones, and those that failed for another reason.
    pub(super) aborted: u32,
    /// Aborted because a bank said no.
    pub(super) refused: u32,
    /// Transactions that somebody holds something for, or whose outcome nobody could say, at the end.
    pub(super) in_doubt: usize,
    pub(super) sum_before: i64,
    pub(super) sum_after: i64,
    /// Of those that were made at once, not of the first few.
    pub(super) transfers_per_second: f64,
    /// From begin to the answer of commit, of committed transfers.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) crash: Option<CrashSummary>,
    /// Whether the exit code is 0.
    pub(super) ok: bool,
}

/// What `--crash` did.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CrashSummary {
    /// Who and where, as ordered.
    pub(super) at: String,
    /// Whether it came to that.
    pub(super) happened: bool,
    /// The transaction that was at the step.
    pub(super) gid: Option<String>,
    /// `committed`, `aborted` or `unknown`, as its application was told in the end.
    pub(super) outcome: Option<&'static str>,
    /// From the kill until the process served again.
    pub(super) down_ms: Option<f64>,
}

/// Counts while the demo runs.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) committed: u32,
    pub(super) refused: u32,
    pub(super) aborted: u32,
    pub(super) unknown: Vec<Finished>,
    /// Why transfers aborted other than by a bank's no, for people: the first few reasons, each once.
    pub(super) why_aborted: Vec<String>,
    latency_us: Histogram<u64>,
}

/// A hundredth of a percent is finer than anybody reads.
const SIGNIFICANT_FIGURES: u8 = 3;

/// More reasons than this tell nobody more.
const REASONS_MAX: usize = 5;

/// Ten minutes; a longer one counts as that. More than a transfer and all asking for it can last.
const LATENCY_US_MAX: u64 = 600_000_000;

impl Tally {
    pub(super) fn new() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_FIGURES)
            .expect("the bounds are far enough apart, and 1 to 5 significant figures are allowed");
        Self {
            committed: 0,
            refused: 0,
            aborted: 0,
            unknown: Vec::new(),
            why_aborted: Vec::new(),
            latency_us,
        }
    }

    /// Takes in one transfer; `timed` if its time counts.
    pub(super) fn count(&mut self, finished: &Finished, timed: bool) {
        match &finished.ending {
            Ending::Committed => {
                self.committed += 1;
                if timed {
                    self.latency_us.saturating_record(finished.told_us.saturating_sub(finished.began_us));
                }
            }
            Ending::Refused(_) => self.refused += 1,
            Ending::Aborted(why) => {
                self.aborted += 1;
                if self.why_aborted.len() < REASONS_MAX && !self.why_aborted.contains(why) {
                    self.why_aborted.push(why.clone());
                }
                let ms = finished.told_us.saturating_sub(finished.began_us) / 1000;
                tracing::debug!(id = ?finished.id, why, ms, "a transfer aborted");
            }
            Ending::Unknown(_) => self.unknown.push(finished.clone()),
        }
    }

    /// A quantile of the times, in milliseconds.
    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        let micros = u32::try_from(self.latency_us.value_at_quantile(quantile)).unwrap_or(u32::MAX);
        round(f64::from(micros) / 1000.0)
    }
}

/// Three decimals.
pub(super) fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

impl CrashSummary {
    /// From what was seen.
    pub(super) fn new(at: String, seen: Option<&CrashSeen>, struck: Option<&Finished>) -> Self {
        let down_us = seen.and_then(|seen| Some(seen.back_us?.saturating_sub(seen.at_us)));
        Self {
            at,
            happened: seen.is_some(),
            gid: seen.and_then(|seen| seen.gid).map(|gid| gid.to_string()),
            outcome: struck.map(|finished| match finished.ending {
                Ending::Committed => "committed",
                Ending::Refused(_) | Ending::Aborted(_) => "aborted",
                Ending::Unknown(_) => "unknown",
            }),
            down_ms: down_us
                .map(|micros| round(f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1000.0)),
        }
    }
}

impl Summary {
    /// What is not as it should be, in sentences; empty if all is.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.sum_before != self.sum_after {
            faults.push(format!(
                "money was made or lost: {} before, {} after",
                self.sum_before, self.sum_after
            ));
        }
        if self.in_doubt > 0 {
            faults.push(format!("{} transactions are in doubt", self.in_doubt));
        }
        if self.committed == 0 {
            faults.push("no transfer committed".to_owned());
        }
        if self.aborted == 0 {
            faults.push("no transfer was refused: at least 3 are needed for one that is".to_owned());
        }
        if let Some(crash) = self.crash.as_ref().filter(|crash| !crash.happened) {
            faults.push(format!("nobody came to {}, so nobody was killed", crash.at));
        }
        faults
    }

    /// The exit, or what is wrong.
    pub(super) fn verdict(&self) -> Result<Exit, Failure> {
        let mut faults = self.faults().into_iter();
        match faults.next() {
            None => Ok(Exit::Ok),
            Some(first) => {
                Err(faults
                    .fold(Failure::new(Exit::Failed, first).code(ErrorCode::DemoFailed), Failure::cause))
            }
        }
    }

    /// For people.
    pub(super) fn page(&self) -> String {
        let same = if self.sum_before == self.sum_after { "the same" } else { "NOT the same" };
        let mut rows = vec![
            vec!["committed".to_owned(), self.committed.to_string()],
            vec!["refused".to_owned(), self.refused.to_string()],
        ];
        let others = self.aborted - self.refused;
        if others > 0 {
            rows.push(vec!["aborted otherwise".to_owned(), others.to_string()]);
        }
        rows.extend([
            vec!["in doubt".to_owned(), self.in_doubt.to_string()],
            vec!["money before".to_owned(), self.sum_before.to_string()],
            vec!["money after".to_owned(), format!("{}  {same}", self.sum_after)],
            vec![
                "speed".to_owned(),
                format!(
                    "{:.0} transfers/s, {} at once; half within {:.1} ms, 99 of 100 within {:.1} ms",
                    self.transfers_per_second, self.in_flight, self.p50_ms, self.p99_ms
                ),
            ],
        ]);
        if let Some(crash) = &self.crash {
            let down =
                crash.down_ms.map_or_else(|| "never back".to_owned(), |ms| format!("back after {ms:.0} ms"));
            let outcome = crash.outcome.unwrap_or("not begun by us");
            rows.push(vec!["crash".to_owned(), format!("{}: {down}; its transaction {outcome}", crash.at)]);
        }
        aligned(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            demo: "transfer",
            database: "sqlite",
            transfers: 10,
            in_flight: 2,
            committed: 9,
            aborted: 1,
            refused: 1,
            in_doubt: 0,
            sum_before: 100,
            sum_after: 100,
            transfers_per_second: 1.0,
            p50_ms: 1.0,
            p99_ms: 2.0,
            crash: None,
            ok: true,
        }
    }

    #[test]
    fn only_a_run_without_a_fault_ends_well() {
        assert!(matches!(summary().verdict(), Ok(Exit::Ok)));
        let crash = CrashSummary::new("coordinator@decision-durable".into(), None, None);
        let faulty = [
            Summary { sum_after: 99, ..summary() },
            Summary { in_doubt: 1, ..summary() },
            Summary { committed: 0, ..summary() },
            Summary { aborted: 0, refused: 0, ..summary() },
            Summary { crash: Some(crash), ..summary() },
        ];
        for summary in faulty {
            assert_eq!(summary.verdict().unwrap_err().exit(), Exit::Failed, "{summary:?}");
            assert!(!summary.page().is_empty());
        }
    }
}
