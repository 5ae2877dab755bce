//! `/metrics`, `/health/live` and `/health/ready`: what is counted, and what is read at the moment of a
//! scrape, as pages over HTTP.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry as Registered;
use tokio::sync::watch;

use super::exposition::{self, Page};
use super::health::{self, Report};
use super::histogram::{Histogram, to_float};
use super::shards::{ABORTS, Ended, Phase};
use super::{Metrics, Shed};
use crate::journal::Journal;
use crate::lifecycle::Lifecycle;
use crate::registry::Registry;
use crate::shard::Shards;

/// What is shown to whoever monitors this coordinator.
#[derive(Clone)]
pub(crate) struct Monitoring {
    pub(crate) metrics: Metrics,
    pub(crate) journal: Journal,
    pub(crate) shards: Arc<Shards>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// Which task has failed.
    pub(crate) failures: watch::Receiver<Option<&'static str>>,
}

impl fmt::Debug for Monitoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Monitoring")
    }
}

/// The pages, to be merged into whatever is served to operators.
pub(crate) fn routes(monitoring: Monitoring) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .with_state(Arc::new(monitoring))
}

async fn metrics(State(monitoring): State<Arc<Monitoring>>, headers: HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let is_open = accepts.into_iter().any(exposition::wants_open_metrics);
    match monitoring.open_metrics() {
        Ok(page) if is_open => ([(header::CONTENT_TYPE, exposition::OPEN_METRICS)], page).into_response(),
        Ok(page) => ([(header::CONTENT_TYPE, exposition::TEXT)], exposition::as_text(&page)).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn live(State(monitoring): State<Arc<Monitoring>>) -> Response {
    let failed = *monitoring.failures.borrow();
    told(&Report::live(failed))
}

async fn ready(State(monitoring): State<Arc<Monitoring>>) -> Response {
    told(&Report::ready(health::not_ready(&monitoring.lifecycle)))
}

fn told(report: &Report) -> Response {
    let status = if report.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(report).unwrap_or_default();
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

impl Monitoring {
    /// A scrape in the older format.
    ///
    /// # Errors
    /// None that is known: writing into memory does not fail.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        Ok(exposition::as_text(&self.open_metrics()?))
    }

    fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut registered = Registered::default();
        registered.register_collector(Box::new(self.clone()));
        let mut page = String::with_capacity(16 * 1024);
        text::encode(&mut page, &registered)?;
        Ok(page)
    }
}

impl Collector for Monitoring {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.transactions(&mut page)?;
        self.resources(&mut page)?;
        self.log(&mut page)?;
        self.recovery(&mut page)?;
        self.operators(&mut page)?;
        self.process(&mut page)
    }
}

fn gauge_of(count: usize) -> f64 {
    to_float(count as u64)
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

fn load(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Relaxed)
}

impl Monitoring {
    fn transactions(&self, page: &mut Page<'_>) -> fmt::Result {
        let shards = self.metrics.shards().clone();
        page.counters(
            "pactum_transactions",
            "Transactions of this coordinator by outcome: a commit when it is durable, an abort at its end.",
            Ended::ALL.map(|(ended, name)| {
                ([("outcome", name)], shards.iter().map(|shard| shard.count_of(ended)).sum())
            }),
        )?;
        page.counters(
            "pactum_aborts",
            "Transactions of this coordinator that aborted, by reason.",
            ABORTS.map(|(kind, name)| {
                ([("reason", name)], shards.iter().map(|shard| shard.aborts_of(kind)).sum())
            }),
        )?;
        page.gauge(
            "pactum_transactions_in_flight",
            "Open transactions: begun, being decided, or with branches that have not ended.",
            gauge_of(self.shards.open()),
        )?;
        page.gauge(
            "pactum_transactions_in_doubt",
            "Open transactions whose decision is on its way into the log or not yet at every branch.",
            to_float(shards.iter().map(|shard| shard.in_doubt()).sum()),
        )?;
        let since = shards.iter().filter_map(|shard| shard.in_doubt_since()).min();
        let age = since.map_or(0, |since| self.shards.seconds().saturating_sub(since));
        page.gauge(
            "pactum_in_doubt_oldest_age_seconds",
            "For how long this coordinator has had the oldest of those, in whole seconds; 0 if there is none.",
            to_float(age),
        )?;
        page.histograms(
            "pactum_phase_duration_seconds",
            "How long the parts of a committing transaction take.",
            Phase::ALL.iter().filter_map(|(phase, name)| {
                let all = shards.iter().map(|shard| shard.phase(*phase));
                Some(([("phase", *name)], Histogram::total(all)?))
            }),
        )
    }

    fn resources(&self, page: &mut Page<'_>) -> fmt::Result {
        let mut attached = std::collections::BTreeMap::new();
        for session in self.registry.sessions().iter() {
            for resource in session.resources.keys() {
                // Its name is then known also when it has left: an alert can say that it is away.
                self.metrics.of_resource(resource.as_str());
                *attached.entry(resource.as_str().to_owned()).or_insert(0_usize) += 1;
            }
        }
        let resources = self.metrics.0.resources.all();
        page.counters(
            "pactum_participant_calls",
            "What participants were asked and answered, by resource.",
            resources.iter().flat_map(|(name, meter)| {
                meter.calls().map(move |(op, code, count)| {
                    ([("participant", &**name), ("op", op), ("code", code)], count)
                })
            }),
        )?;
        page.gauges(
            "pactum_participants_attached",
            "Attached participants that speak for a resource; 0 for one that was seen and has left.",
            resources.keys().map(|name| {
                let count = attached.get(&**name).copied().unwrap_or(0);
                ([("resource", &**name)], gauge_of(count))
            }),
        )?;
        page.gauges(
            "pactum_branches_unfinished",
            "Branches that were told a decision and have not ended, by resource.",
            resources.iter().map(|(name, meter)| {
                let count = u64::try_from(meter.unfinished()).unwrap_or(0);
                ([("resource", &**name)], to_float(count))
            }),
        )?;
        let rejects = &self.metrics.0.outbox_rejects;
        page.counters(
            "pactum_outbox_rejects",
            "Messages that a participant's outbox did not take: put off, or its stream was cut.",
            [([("reason", "later")], load(&rejects[0])), ([("reason", "cut")], load(&rejects[1]))],
        )
    }

    fn log(&self, page: &mut Page<'_>) -> fmt::Result {
        let counted = &self.metrics.0;
        page.gauge(
            "pactum_log_available",
            "Whether the decision log can be written.",
            flag(self.lifecycle.is_log_available()),
        )?;
        if let Some(counts) = Histogram::total(std::iter::once(&counted.append_duration)) {
            page.histogram(
                "pactum_log_append_duration_seconds",
                "How long the log takes for one batch of decisions, durably.",
                &counts,
            )?;
        }
        if let Some(counts) = Histogram::total(std::iter::once(&counted.append_rows)) {
            page.histogram("pactum_log_append_rows", "Decisions in one batch.", &counts)?;
        }
        page.counter(
            "pactum_log_appends_unknown",
            "Batches whose answer was lost: settled by proposing the same again.",
            load(&counted.appends_unknown),
        )?;
        page.gauge(
            "pactum_log_queue_rows",
            "Decisions that wait for the log writer.",
            gauge_of(self.journal.writer.waiting()),
        )?;
        let facts = self.lifecycle.log_facts();
        let (required, confirmed) =
            facts.replication.map_or((0, 0), |replication| (replication.required, replication.confirmed));
        page.gauge(
            "pactum_log_standbys_required",
            "Standbys of the log that each commit waits for; 0 without synchronous replication.",
            f64::from(required),
        )?;
        page.gauge(
            "pactum_log_standbys_confirmed",
            "Standbys of the log that stream now and count as synchronous.",
            f64::from(confirmed),
        )?;
        page.gauge(
            "pactum_log_doubted_incarnations",
            "Incarnations in doubt since the log went back in time: they wait for an operator.",
            to_float(facts.doubted),
        )?;
        page.counter(
            "pactum_forgotten_rows",
            "Rows under the floor that this coordinator deleted.",
            load(&counted.forgotten_rows),
        )
    }

    fn recovery(&self, page: &mut Page<'_>) -> fmt::Result {
        let counted = &self.metrics.0;
        let runs = &counted.recovery_runs;
        page.counters(
            "pactum_recovery_runs",
            "Looks at what ended incarnations left unfinished.",
            [([("result", "ok")], load(&runs[0])), ([("result", "failed")], load(&runs[1]))],
        )?;
        page.gauge(
            "pactum_recovery_unfinished",
            "Commits of ended incarnations that are being driven here and have not finished.",
            gauge_of(self.shards.recovering()),
        )?;
        let recovery = self.lifecycle.recovery();
        let behind = recovery.behind_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        page.gauge(
            "pactum_recovery_behind_seconds",
            "Since when commits of ended incarnations have not been read to the end; 0 if they have.",
            behind,
        )?;
        page.gauge(
            "pactum_recovery_stuck_incarnations",
            "Ended incarnations with a record that cannot be read: they wait for an operator.",
            gauge_of(recovery.stuck),
        )?;
        let shards = self.metrics.shards().clone();
        page.counter(
            "pactum_recovered_transactions",
            "Transactions of other incarnations that were brought to their end here.",
            shards.iter().map(|shard| shard.count_recovered()).sum(),
        )?;
        page.counter(
            "pactum_incarnation_takeovers",
            "Incarnations of others that this coordinator ended because their heartbeat had stopped.",
            load(&counted.takeovers),
        )?;
        page.counter(
            "pactum_incarnations_started",
            "Incarnations of our own: more than one means that another coordinator had ended ours.",
            load(&counted.incarnations),
        )
    }

    fn operators(&self, page: &mut Page<'_>) -> fmt::Result {
        let counted = &self.metrics.0;
        page.counters(
            "pactum_heuristic",
            "Branches that ended without the decision, by how they ended.",
            ["committed", "aborted", "mixed", "hazard"]
                .iter()
                .zip(&counted.heuristics)
                .map(|(kind, count)| ([("kind", *kind)], load(count))),
        )?;
        page.counters(
            "pactum_overruled_branches",
            "Branches that an operator ended by hand.",
            [
                ([("kind", "commit")], load(&counted.overruled[0])),
                ([("kind", "rollback")], load(&counted.overruled[1])),
            ],
        )?;
        let acts = counted.acts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        page.counters(
            "pactum_acts",
            "Operators' acts by what came of them.",
            acts.iter().map(|((act, result), count)| ([("act", *act), ("result", *result)], *count)),
        )
    }

    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let shed = |why: Shed| {
            let queue = if why == Shed::Queue { self.shards.shed() } else { 0 };
            load(&self.metrics.0.shed[why as usize]) + queue
        };
        page.counters(
            "pactum_shed",
            "Calls that were turned away, by reason. Nothing happened to them; callers retry.",
            Shed::ALL.map(|why| ([("reason", why.name())], shed(why))),
        )?;
        page.counter(
            "pactum_violations",
            "Contracts seen broken, by a peer, the log or ourselves. 0 in a healthy system.",
            self.shards.violations(),
        )?;
        page.gauge(
            "pactum_ready",
            "Whether new transactions are taken: as /health/ready.",
            flag(health::not_ready(&self.lifecycle).is_empty()),
        )?;
        page.gauge(
            "pactum_coordinators_live",
            "Living coordinators on the same log, this one included, as it sees them.",
            gauge_of(self.lifecycle.members().len()),
        )?;
        let log = self.journal.log.kind();
        page.gauges(
            "pactum_build_info",
            "Always 1; which version runs, over which kind of log.",
            [([("version", env!("CARGO_PKG_VERSION")), ("log", log)], 1.0)],
        )
    }
}
