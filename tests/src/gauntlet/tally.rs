//! What has happened so far, counted by everybody.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pactum::Incarnation;

/// A coordinator was killed, and these were its names.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    pub(crate) coordinator: String,
    pub(crate) at: Instant,
    pub(crate) incarnations: Vec<Incarnation>,
}

/// Counts, and what was seen broken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// SIGKILLs of coordinators, banks and applications.
    pub(crate) kills: u64,
    /// The same by crash point, `random` for the harness's own moment; each crash point is there.
    pub(crate) kills_at: BTreeMap<String, u64>,
    /// Those that met a transaction between its first Prepare and its last acknowledgement there.
    pub(crate) kills_mid_commit: BTreeMap<String, u64>,
    pub(crate) postgres_kills: u64,
    /// SIGSTOPs, each longer than the lease.
    pub(crate) pauses: u64,
    pub(crate) network_faults: u64,
    /// What was seen broken while it ran, in words.
    pub(crate) violations: Vec<String>,
    /// Coordinators' deaths that nobody has looked into yet.
    pub(crate) deaths: Vec<Death>,
    /// Unplanned events that are no violation but worth a look.
    pub(crate) notes: Vec<String>,
}

/// The counts, shared, and a list of everything that was done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Mutex<Counts>,
    /// For whoever looks into a violation.
    list: Mutex<Option<File>>,
}

impl Tally {
    /// Also lists every fault, with the time of day as in the processes' logs, in that file.
    pub(crate) fn listing(path: &Path) -> std::io::Result<Self> {
        Ok(Self { list: Mutex::new(Some(File::create(path)?)), ..Self::default() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a fault.
    pub(crate) fn list(&self, text: &str) {
        let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() % 86_400_000;
        let (seconds, milliseconds) = (day / 1000, day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if let Some(file) = self.list.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // A full disk is told by somebody who needs it.
            drop(writeln!(file, "{hour:02}:{minute:02}:{second:02}.{milliseconds:03} {text}"));
        }
    }

    /// A process died by SIGKILL at that point.
    pub(crate) fn killed(&self, name: &str, point: &str, mid_commit: bool) {
        self.list(&format!("{name} was killed at {point}"));
        let mut counts = self.lock();
        counts.kills += 1;
        *counts.kills_at.entry(point.to_owned()).or_default() += 1;
        let met = counts.kills_mid_commit.entry(point.to_owned()).or_default();
        *met += u64::from(mid_commit);
    }

    pub(crate) fn violation(&self, text: impl Into<String>) {
        self.lock().violations.push(text.into());
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        self.lock().notes.push(text.into());
    }
}
