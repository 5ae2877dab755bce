//! What a run is told as: a line of JSON, a table, and the counters of the evidence.

use std::fs::OpenOptions;
use std::io::Write;

use serde::Serialize;

use super::arguments::Format;
use super::audit::Audit;
use super::recovery::Recoveries;
use super::tally::Counts;

/// The file that the checking layers append their counters to.
const EVIDENCE: &str = "PACTUM_EVIDENCE";

/// The result. The names are what scripts read.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// `gauntlet` or `rolling-kill`.
    pub(crate) mode: &'static str,
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    /// Transfers that an application began.
    pub(crate) transactions: usize,
    pub(crate) committed: usize,
    pub(crate) aborted: usize,
    /// SIGKILLs of coordinators, banks and applications.
    pub(crate) kills: u64,
    /// Those that met a transaction between its first Prepare and its last acknowledgement there, by
    /// crash point.
    pub(crate) kills_mid_commit: std::collections::BTreeMap<String, u64>,
    /// All of them by crash point.
    pub(crate) kills_at: std::collections::BTreeMap<String, u64>,
    /// SIGKILLs of whole PostgreSQL servers.
    pub(crate) postgres_kills: u64,
    /// SIGSTOPs longer than the lease.
    pub(crate) pauses: u64,
    pub(crate) network_faults: u64,
    /// Commits and submits that were answered with nothing definite.
    pub(crate) unknown_answers: usize,
    /// Those whose application was killed before it heard.
    pub(crate) unheard: usize,
    /// Errors that promised that nothing happened.
    pub(crate) refused: usize,
    pub(crate) violations: usize,
    pub(crate) left_in_doubt: usize,
    /// From the kill of a coordinator, or from when databases and links were whole again, to the last
    /// branch of its transactions finished.
    pub(crate) worst_recovery_ms: u128,
    /// The same over those kills that no outage of a database or link touched.
    pub(crate) worst_undisturbed_recovery_ms: u128,
    /// Kills of coordinators that left a branch prepared.
    pub(crate) recoveries: u64,
    pub(crate) undisturbed_recoveries: u64,
    /// Lines of level ERROR in the processes' logs.
    pub(crate) errors_logged: usize,
}

impl Report {
    pub(crate) fn new(
        mode: &'static str,
        (seed, seconds): (u64, u64),
        audit: &Audit,
        counts: &Counts,
        recoveries: &Recoveries,
        errors_logged: usize,
    ) -> Self {
        Self {
            mode,
            seed,
            seconds,
            transactions: audit.transfers,
            committed: audit.committed,
            aborted: audit.aborted,
            kills: counts.kills,
            kills_mid_commit: counts.kills_mid_commit.clone(),
            kills_at: counts.kills_at.clone(),
            postgres_kills: counts.postgres_kills,
            pauses: counts.pauses,
            network_faults: counts.network_faults,
            unknown_answers: audit.unknown_answers,
            unheard: audit.unheard,
            refused: audit.refused,
            violations: audit.violations.len(),
            left_in_doubt: audit.left_in_doubt,
            worst_recovery_ms: recoveries.worst.as_millis(),
            worst_undisturbed_recovery_ms: recoveries.worst_undisturbed.as_millis(),
            recoveries: recoveries.measured,
            undisturbed_recoveries: recoveries.undisturbed,
            errors_logged,
        }
    }

    /// Whether the run proved what it is to prove.
    pub(crate) fn is_good(&self) -> bool {
        self.violations == 0 && self.left_in_doubt == 0
    }

    /// Prints it, as the last thing on standard output.
    pub(crate) fn print(&self, format: Format) -> anyhow::Result<()> {
        match format {
            Format::Json => print(&serde_json::to_string(self)?),
            Format::Table => print(&self.table()?),
        }
    }

    fn table(&self) -> anyhow::Result<String> {
        let value = serde_json::to_value(self)?;
        let mut lines = Vec::new();
        for (name, value) in value.as_object().into_iter().flatten() {
            if let Some(points) = value.as_object() {
                lines.push(name.clone());
                lines.extend(points.iter().map(|(point, count)| format!("    {point:<40} {count:>8}")));
            } else {
                lines.push(format!("{name:<44} {:>8}", value.to_string().trim_matches('"')));
            }
        }
        Ok(lines.join("\n"))
    }

    /// Appends the counters to the evidence, if a run keeps any, and prints them.
    pub(crate) fn tell_evidence(&self) -> anyhow::Result<()> {
        evidence(&[
            ("transactions", self.transactions as u64),
            ("kills", self.kills),
            ("kills_mid_commit", self.kills_mid_commit.values().sum()),
            ("postgres_kills", self.postgres_kills),
            ("pauses", self.pauses),
            ("network_faults", self.network_faults),
        ])
    }
}

fn evidence(counters: &[(&str, u64)]) -> anyhow::Result<()> {
    let Some(path) = std::env::var_os(EVIDENCE) else { return Ok(()) };
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for (name, value) in counters {
        let line = format!("gauntlet {name} {value}");
        file.write_all(format!("{line}\n").as_bytes())?;
        print(&line)?;
    }
    Ok(())
}

/// Onto standard output, which carries nothing but results.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Onto standard error, for people. Nobody may be there to read it.
pub(crate) fn say(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
