//! How long the transactions of a killed coordinator take to be finished.
//!
//! A branch's database-side name holds the incarnation that owns its transaction, so what belonged
//! to a killed coordinator can be seen in `pg_prepared_xacts`. Both banks are looked at
//! every 100 ms; a recovery has taken from the kill to the first look without such a
//! branch after the last one that had any. If a database or the log was down meanwhile, or a
//! link cut, it counts from when all were whole again: nobody can finish anything earlier.
//! Processes that are killed or stopped meanwhile excuse nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pactum::resource::PreparedName;

use super::stage::Stage;
use super::tally::Death;

const LOOK: Duration = Duration::from_millis(100);
/// No branch for so long after a death, and after the last one seen: none comes any more.
const SETTLED: Duration = Duration::from_secs(6);
/// A look that takes longer than this met a database that is being killed.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// What the recoveries came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recoveries {
    /// Deaths that left a branch prepared.
    pub(crate) measured: u64,
    /// Those of them that no outage touched.
    pub(crate) undisturbed: u64,
    pub(crate) worst: Duration,
    pub(crate) worst_undisturbed: Duration,
    /// What the worst one was, for people.
    pub(crate) worst_was: String,
}

/// A death that is being watched.
#[derive(Debug)]
struct Watched {
    death: Death,
    counts_from: Instant,
    disturbed: bool,
    /// The look that last saw a branch of it, and what it saw.
    last_seen: Option<Instant>,
    /// The first look after that.
    gone: Option<Instant>,
    sample: String,
}

/// Looks until told to stop.
#[derive(Debug)]
pub(crate) struct Clock {
    stage: Arc<Stage>,
    watched: Vec<Watched>,
    recoveries: Recoveries,
}

impl Clock {
    pub(crate) fn new(stage: Arc<Stage>) -> Self {
        Self { stage, watched: Vec::new(), recoveries: Recoveries::default() }
    }

    /// Watches until nothing is left to watch after `stop` was called.
    pub(crate) async fn run(mut self, stop: tokio::sync::watch::Receiver<bool>) -> Recoveries {
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let deaths = std::mem::take(&mut self.stage.tally.lock().deaths);
            self.watched.extend(deaths.into_iter().map(|death| Watched {
                counts_from: death.at,
                disturbed: false,
                last_seen: None,
                gone: None,
                sample: String::new(),
                death,
            }));
            if self.watched.is_empty() {
                if *stop.borrow() {
                    return self.recoveries;
                }
                continue;
            }
            let prepared = self.prepared().await;
            self.look(prepared.as_ref(), Instant::now());
        }
    }

    /// What is prepared at both banks; `None` if one cannot be asked.
    async fn prepared(&self) -> Option<Vec<PreparedName>> {
        let mut all = Vec::new();
        for books in &self.stage.servers.books {
            let names = tokio::time::timeout(LOOK_MAX, books.prepared()).await.ok()?.ok()?;
            all.extend(names.iter().filter_map(|name| name.parse::<PreparedName>().ok()));
        }
        Some(all)
    }

    fn look(&mut self, prepared: Option<&Vec<PreparedName>>, now: Instant) {
        let owners: Option<BTreeSet<_>> =
            prepared.map(|names| names.iter().map(|name| name.id.incarnation).collect());
        for watched in &mut self.watched {
            let from = self.stage.calm.counts_from(watched.counts_from);
            // An outage after its branches were gone has not touched it.
            if watched.gone.is_none() && from != Some(watched.counts_from) {
                watched.disturbed = true;
                watched.counts_from = from.unwrap_or(now);
            }
            let Some(owners) = &owners else { continue };
            if watched.death.incarnations.iter().any(|incarnation| owners.contains(incarnation)) {
                watched.last_seen = Some(now);
                watched.gone = None;
                let its = prepared
                    .into_iter()
                    .flatten()
                    .find(|name| watched.death.incarnations.contains(&name.id.incarnation));
                watched.sample = its.map(ToString::to_string).unwrap_or_default();
            } else if watched.last_seen.is_some() && watched.gone.is_none() {
                watched.gone = Some(now);
            }
        }
        let done = |watched: &Watched| {
            owners.is_some()
                && now.duration_since(watched.death.at) >= SETTLED
                && watched.last_seen.is_none_or(|seen| now.duration_since(seen) >= SETTLED)
        };
        let (settled, rest): (Vec<Watched>, Vec<Watched>) = self.watched.drain(..).partition(done);
        self.watched = rest;
        for watched in settled {
            self.recoveries.count(&watched);
        }
    }
}

impl Recoveries {
    fn count(&mut self, watched: &Watched) {
        let Some(gone) = watched.gone else { return }; // it left nothing behind
        let took = gone.saturating_duration_since(watched.counts_from);
        self.measured += 1;
        if !watched.disturbed {
            self.undisturbed += 1;
            self.worst_undisturbed = self.worst_undisturbed.max(took);
        }
        if took > self.worst {
            self.worst = took;
            let disturbed = if watched.disturbed { "after outages" } else { "undisturbed" };
            self.worst_was = format!(
                "{} was killed; the last branch was {} ({disturbed})",
                watched.death.coordinator, watched.sample
            );
        }
    }
}
