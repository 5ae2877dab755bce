//! The figures, as a table and as one JSON document.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::chart;
use super::options::{Common, LogKind};
use super::sample::{Sample, Spread};
use super::usage;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::{aligned, render, table};

/// What every report begins with.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Head {
    pub(super) bench: &'static str,
    pub(super) machine: String,
    pub(super) version: &'static str,
    pub(super) log: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_delay_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rounds: Option<u32>,
}

impl Head {
    /// Of a measurement that was made on this machine.
    pub(super) fn new(
        bench: &'static str,
        log: LogKind,
        delay: Option<Duration>,
        rounds: impl Into<Option<u32>>,
    ) -> Self {
        Self {
            bench,
            machine: usage::machine(),
            version: env!("CARGO_PKG_VERSION"),
            log: log.name(),
            log_delay_ms: delay.map(|delay| delay.as_secs_f64() * 1000.0),
            rounds: rounds.into(),
        }
    }
}

/// Everything that one command measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) head: Head,
    /// Transactions.
    pub(super) runs: Vec<Row>,
    /// What they are compared with.
    pub(super) beside: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ceiling_rows_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio_to_ceiling: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio_to_safe: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio_to_unsafe: Option<f64>,
}

/// Figures of one kind of run: medians over the rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) kind: &'static str,
    pub(super) participants: u16,
    pub(super) in_flight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows_per_statement: Option<usize>,
    pub(super) tx_per_second: f64,
    pub(super) tx_per_second_range: [f64; 2],
    pub(super) p50_ms: f64,
    pub(super) p50_ms_range: [f64; 2],
    pub(super) p99_ms: f64,
    pub(super) p99_ms_range: [f64; 2],
    #[serde(rename = "p99_9_ms")]
    pub(super) p999_ms: f64,
    pub(super) log_syncs_per_tx: Option<f64>,
    /// Times that somebody sent statements to PostgreSQL and waited for the answer, at the log and at the
    /// participants' databases together. This and the next are of a run of their own, through relays; null
    /// where nothing was counted.
    pub(super) sql_round_trips_per_tx: Option<f64>,
    /// Bytes to and from PostgreSQL.
    pub(super) sql_bytes_per_tx: Option<f64>,
    /// gRPC messages to and from the coordinator. A message of a stream holds as many requests or answers
    /// as were waiting when it was sent: hence far below one each where much is in flight.
    pub(super) messages_per_tx: Option<f64>,
    /// Bytes to and from the coordinator, with all that HTTP/2 adds.
    pub(super) bytes_per_tx: Option<f64>,
    /// Seconds of processor time for 1 000 transactions, by process.
    pub(super) cpu_seconds_per_1000_tx: BTreeMap<String, f64>,
    pub(super) peak_memory_mib: BTreeMap<String, f64>,
    pub(super) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
}

impl Report {
    pub(super) fn new(bench: &'static str, log: LogKind, delay: Option<Duration>, rounds: u32) -> Self {
        Self {
            head: Head::new(bench, log, delay, rounds),
            runs: Vec::new(),
            beside: Vec::new(),
            ceiling_rows_per_second: None,
            ratio_to_ceiling: None,
            ratio_to_safe: None,
            ratio_to_unsafe: None,
        }
    }

    /// Prints it, and then draws it if that is wanted: what took minutes is told whatever becomes of a file.
    pub(super) fn show(&self, common: &Common, output: &Output) -> Result<(), Failure> {
        self.print(output)?;
        chart::save(self, common)
    }

    fn print(&self, output: &Output) -> Result<(), Failure> {
        if !output.for_people() {
            return output.document(self);
        }
        let mut rows = table([
            "WHAT",
            "PARTICIPANTS",
            "IN FLIGHT",
            "PER SECOND",
            "RANGE",
            "P50 MS",
            "P99 MS",
            "P99.9 MS",
            "LOG SYNCS",
            "SQL TRIPS",
            "MESSAGES",
            "BYTES",
            "ERRORS",
        ]);
        for row in self.runs.iter().chain(&self.beside) {
            let [min, max] = row.tx_per_second_range;
            rows.add_row([
                row.kind.to_owned(),
                if row.participants == 0 { "-".to_owned() } else { row.participants.to_string() },
                row.in_flight.to_string(),
                format!("{:.0}", row.tx_per_second),
                format!("{min:.0}-{max:.0}"),
                format!("{:.2}", row.p50_ms),
                format!("{:.2}", row.p99_ms),
                format!("{:.2}", row.p999_ms),
                known(row.log_syncs_per_tx, 3),
                known(row.sql_round_trips_per_tx, 2),
                known(row.messages_per_tx, 2),
                known(row.bytes_per_tx, 0),
                row.errors.to_string(),
            ]);
        }
        output.text(render(&rows))?;
        let ratios = [
            ("to the ceiling", self.ratio_to_ceiling),
            ("to hand-written, safe", self.ratio_to_safe),
            ("to hand-written, unsafe", self.ratio_to_unsafe),
        ];
        let ratios = ratios
            .into_iter()
            .filter_map(|(what, ratio)| Some(vec![what.to_owned(), format!("{:.2}", ratio?)]));
        output.text(format_args!("\n{}\n{}", aligned(ratios), self.head.machine))
    }

    /// Errors are failures.
    pub(super) fn exit(&self) -> Exit {
        let errors: u64 = self.runs.iter().chain(&self.beside).map(|row| row.errors).sum();
        if errors == 0 { Exit::Ok } else { Exit::Failed }
    }
}

impl Row {
    /// Puts the samples of one kind together.
    pub(super) fn new(kind: &'static str, participants: u16, in_flight: u32, samples: &[Sample]) -> Self {
        let of = |figure: fn(&Sample) -> f64| Spread::of(samples.iter().map(figure));
        let rate = of(|sample| sample.measured.per_second());
        let (p50, p99) = (of(|sample| sample.measured.p50_ms), of(|sample| sample.measured.p99_ms));
        let syncs: Vec<f64> = samples.iter().filter_map(|sample| sample.log_syncs_per_tx).collect();
        let mut cpu: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut memory: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for sample in samples {
            #[expect(clippy::cast_precision_loss, reason = "counts and bytes far below 2^52")]
            let (thousands, mib) =
                (sample.measured.done as f64 / 1000.0, |bytes: u64| bytes as f64 / 1_048_576.0);
            for (role, seconds) in &sample.cpu {
                cpu.entry(role.clone()).or_default().push(seconds / thousands.max(f64::MIN_POSITIVE));
            }
            for (role, bytes) in &sample.memory {
                memory.entry(role.clone()).or_default().push(mib(*bytes));
            }
        }
        let medians = |all: BTreeMap<String, Vec<f64>>| {
            all.into_iter().map(|(role, values)| (role, round(Spread::of(values).median))).collect()
        };
        Self {
            kind,
            participants,
            in_flight,
            rows_per_statement: None,
            tx_per_second: round(rate.median),
            tx_per_second_range: [round(rate.min), round(rate.max)],
            p50_ms: round(p50.median),
            p50_ms_range: [round(p50.min), round(p50.max)],
            p99_ms: round(p99.median),
            p99_ms_range: [round(p99.min), round(p99.max)],
            p999_ms: round(of(|sample| sample.measured.p999_ms).median),
            sql_round_trips_per_tx: None,
            sql_bytes_per_tx: None,
            messages_per_tx: None,
            bytes_per_tx: None,
            log_syncs_per_tx: (!syncs.is_empty()).then(|| round(Spread::of(syncs).median)),
            cpu_seconds_per_1000_tx: medians(cpu),
            peak_memory_mib: medians(memory),
            errors: samples.iter().map(|sample| sample.measured.errors).sum(),
            first_error: samples.iter().find_map(|sample| sample.measured.first_error.clone()),
        }
    }
}

impl Row {
    /// Adds what went over the wires in a run that was counted. Its errors are errors like all others.
    pub(super) fn counted(mut self, sample: Option<&Sample>) -> Self {
        let Some(sample) = sample else { return self };
        self.errors += sample.measured.errors;
        self.first_error = self.first_error.or_else(|| sample.measured.first_error.clone());
        let done = sample.measured.done;
        if let (Some(traffic), 1..) = (sample.traffic, done) {
            #[expect(clippy::cast_precision_loss, reason = "counts and bytes far below 2^52")]
            let per_tx = |count: u64| Some(round(count as f64 / done as f64));
            self.sql_round_trips_per_tx = per_tx(traffic.sql_round_trips);
            self.sql_bytes_per_tx = per_tx(traffic.sql_bytes);
            self.messages_per_tx = per_tx(traffic.messages);
            self.bytes_per_tx = per_tx(traffic.bytes);
        }
        self
    }
}

fn known(figure: Option<f64>, places: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.places$}"))
}

/// To four places: nobody measures finer here.
fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
