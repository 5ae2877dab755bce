//! The parts of a bundle: each asked for by itself, each either there or missing with its reason.

use std::fmt::Write as _;
use std::future::Future;

use pactum_coordinator::config::LogUrl;
use pactum_proto::v1;
use serde::Serialize;

use super::scrub::Scrub;
use crate::admin::{Admin, AdminClient, Effect};
use crate::args::Global;
use crate::command::config::running_settings;
use crate::command::doctor;
use crate::failure::Failure;
use crate::output::view::{
    AuditEntryView, HeuristicView, ParticipantView, PreparedView, StatusView, TransactionView,
};

/// Rows of a list.
const PAGE: u32 = 1000;

/// What was had, by name, and what was not, with why.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    parts: Vec<(&'static str, String)>,
    missing: Vec<(String, String)>,
}

/// What the log told its coordinator.
#[derive(Serialize)]
struct LogStatusFacts {
    facts: Vec<(String, String)>,
    write_latency_ms: Option<f64>,
    clock_difference_ms: Option<f64>,
    incarnations: Vec<IncarnationFacts>,
}

#[derive(Serialize)]
struct IncarnationFacts {
    incarnation: String,
    address: String,
    recovered: bool,
    doubted: bool,
}

impl Gathered {
    /// Asks for everything. Nothing that fails stops the rest.
    pub(super) async fn gather(global: &Global, log: Option<&LogUrl>, audit: u32) -> Self {
        let mut all = Self::default();
        all.json(
            "versions.json",
            Ok(serde_json::json!({
                "pactum": env!("CARGO_PKG_VERSION"),
                "system": std::env::consts::OS,
                "architecture": std::env::consts::ARCH,
                "kernel": rustix::system::uname().release().to_string_lossy(),
            })),
        );
        all.json("doctor.json", Ok(doctor::all(global, log).await));
        match Admin::connect(global).await {
            Ok(admin) => all.ask(&admin, audit).await,
            Err(failure) => all.missing("everything that a coordinator tells", &failure),
        }
        all
    }

    async fn ask(&mut self, admin: &Admin, audit: u32) {
        let client = admin.client.clone();
        let list = |in_doubt: bool, finished: bool| v1::ListTransactionsRequest {
            page_size: if in_doubt { PAGE } else { PAGE / 5 },
            in_doubt,
            finished,
            ..v1::ListTransactionsRequest::default()
        };
        let transactions = |found: v1::ListTransactionsResponse| {
            found.transactions.into_iter().map(TransactionView::from).collect::<Vec<_>>()
        };
        let call = Call { admin, client };
        self.json(
            "coordinator.json",
            call.of(async |mut c| c.get_server_info(v1::GetServerInfoRequest {}).await, StatusView::from)
                .await,
        );
        self.json(
            "log.json",
            call.of(async |mut c| c.get_log_status(v1::GetLogStatusRequest {}).await, log_status).await,
        );
        self.json("configuration.json", running_settings(admin).await);
        self.json(
            "in-doubt.json",
            call.of(async |mut c| c.list_transactions(list(true, false)).await, transactions).await,
        );
        self.json(
            "transactions.json",
            call.of(async |mut c| c.list_transactions(list(false, true)).await, transactions).await,
        );
        self.json(
            "participants.json",
            call.of(
                async |mut c| c.list_participants(v1::ListParticipantsRequest {}).await,
                |found| found.participants.into_iter().map(ParticipantView::from).collect::<Vec<_>>(),
            )
            .await,
        );
        self.json(
            "branches.json",
            call.of(
                async |mut c| c.list_branches(v1::ListBranchesRequest::default()).await,
                PreparedView::from,
            )
            .await,
        );
        let heuristics = v1::ListHeuristicsRequest { page_size: PAGE, page_token: String::new() };
        self.json(
            "heuristics.json",
            call.of(
                async |mut c| c.list_heuristics(heuristics).await,
                |found| found.heuristics.into_iter().map(HeuristicView::from).collect::<Vec<_>>(),
            )
            .await,
        );
        let newest = v1::ListAuditRequest { page_size: audit, after: None, before: None };
        self.json(
            "audit.json",
            call.of(
                async |mut c| c.list_audit(newest).await,
                |found| found.entries.into_iter().map(AuditEntryView::from).collect::<Vec<_>>(),
            )
            .await,
        );
        match admin.get("/metrics").await {
            Ok(text) => self.parts.push(("metrics.txt", text)),
            Err(failure) => self.missing("metrics.txt", &failure),
        }
    }

    fn json(&mut self, name: &'static str, part: Result<impl Serialize, Failure>) {
        match part.map(|part| serde_json::to_string_pretty(&part)) {
            Ok(Ok(text)) => self.parts.push((name, text)),
            Ok(Err(error)) => self.missing.push((name.to_owned(), error.to_string())),
            Err(failure) => self.missing(name, &failure),
        }
    }

    fn missing(&mut self, name: &str, failure: &Failure) {
        self.missing.push((name.to_owned(), failure.line()));
    }

    /// What could not be had, and why.
    pub(super) fn missing_parts(&self) -> &[(String, String)] {
        &self.missing
    }

    /// The files, a README before them; without secrets.
    pub(super) fn files(&self, at: &str, scrub: &Scrub) -> Vec<(String, String)> {
        let mut files = vec![("README.txt".to_owned(), scrub.apply(&self.readme(at)))];
        files.extend(self.parts.iter().map(|(name, text)| ((*name).to_owned(), scrub.apply(text))));
        files
    }

    fn readme(&self, at: &str) -> String {
        let mut text = format!(
            "Pactum, gathered at {at} by pactum debug bundle {}.\n\nParts:\n",
            env!("CARGO_PKG_VERSION")
        );
        let mut line = |words: std::fmt::Arguments<'_>| {
            writeln!(text, "{words}").expect("writing to a String cannot fail");
        };
        for (name, _) in &self.parts {
            line(format_args!("  {name:<20}{}", about(name)));
        }
        if !self.missing.is_empty() {
            line(format_args!("\nLeft out, because it could not be had:"));
            for (name, why) in &self.missing {
                line(format_args!("  {name}: {why}"));
            }
        }
        line(format_args!(
            "\nLeft out on purpose:\n  \
             passwords, tokens and keys: a URL is shown without its password, files are named and not read;\n  \
             what transactions did: operations, SQL statements and rows never reach a coordinator's reports;\n  \
             the coordinator's own log output: it is where its standard error goes.\n\n\
             Inside, because it is needed: names, labels and reasons that people typed, names of resources,\n\
             databases, roles and hosts, and who did what in the audit. Look through it before you hand it on."
        ));
        text
    }
}

/// A client and who waits for its answers.
struct Call<'a> {
    admin: &'a Admin,
    client: AdminClient,
}

impl Call<'_> {
    async fn of<T, V, F>(
        &self,
        call: impl FnOnce(AdminClient) -> F,
        view: impl FnOnce(T) -> V,
    ) -> Result<V, Failure>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.admin.call(Effect::None, call(self.client.clone())).await.map(view)
    }
}

fn about(name: &str) -> &'static str {
    match name {
        "versions.json" => "of this command and its machine",
        "doctor.json" => "what pactum doctor finds",
        "coordinator.json" => "what the coordinator says of itself",
        "log.json" => "what the decision log says of itself",
        "configuration.json" => "every setting, with its origin",
        "in-doubt.json" => "transactions with branches that may be in doubt, newest first",
        "transactions.json" => "the newest transactions, finished ones too",
        "participants.json" => "who is attached, and what each tells of its database",
        "branches.json" => "what is prepared in their databases",
        "heuristics.json" => "branches that ended without the decision",
        "audit.json" => "the newest acts of operators",
        "metrics.txt" => "one scrape",
        _ => "",
    }
}

fn log_status(from: v1::GetLogStatusResponse) -> LogStatusFacts {
    let milliseconds = |time: prost_types::Duration| {
        #[expect(clippy::cast_precision_loss, reason = "a length of time for people")]
        let seconds = time.seconds as f64;
        seconds * 1e3 + f64::from(time.nanos) / 1e6
    };
    LogStatusFacts {
        facts: from.facts.into_iter().map(|fact| (fact.name, fact.value)).collect(),
        write_latency_ms: from.write_latency.map(milliseconds),
        clock_difference_ms: from.clock_difference.map(milliseconds),
        incarnations: from
            .incarnations
            .into_iter()
            .map(|one| IncarnationFacts {
                incarnation: uuid::Uuid::from_slice(&one.incarnation).unwrap_or_default().to_string(),
                address: one.address,
                recovered: one.recovered,
                doubted: one.doubted,
            })
            .collect(),
    }
}
