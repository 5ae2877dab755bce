//! `pactum log status`.

use std::time::SystemTime;

use clap::Args;
use jiff::Timestamp;
use pactum_coordinator::config::LogUrl;
use pactum_coordinator::decision_log::{IncarnationStatus, LogEvent, LogStatus, Replication};
use serde::Serialize;

use super::{Opened, URLS, Which};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::{aligned, render, table};

/// Which log to show.
#[derive(Debug, Args)]
#[command(after_help = URLS)]
pub(crate) struct Status {
    #[command(flatten)]
    which: Which,
}

impl Status {
    /// Does it.
    pub(super) async fn run(self, output: &Output) -> Result<Exit, Failure> {
        let opened = Opened::open(self.which).await?;
        let status = opened.log.status().await.map_err(|error| opened.not_read(&error))?;
        let view = StatusView::new(&opened.url, status);
        if output.for_people() {
            output.text(view.page())?;
            output.hint(view.next());
        } else {
            output.document(&view)?;
        }
        Ok(Exit::Ok)
    }
}

/// A log as scripts read it.
#[derive(Debug, Serialize)]
struct StatusView {
    log: LogUrl,
    kind: &'static str,
    cluster: String,
    floor: String,
    /// Decimal, as the server writes it.
    system_identifier: Option<String>,
    timeline: Option<u32>,
    switches: u64,
    absent_doubted: bool,
    replication: Option<ReplicationView>,
    incarnations: Vec<IncarnationView>,
    events: Vec<EventView>,
}

#[derive(Debug, Serialize)]
struct ReplicationView {
    configured: String,
    required: u32,
    confirmed: u32,
    visible: bool,
}

#[derive(Debug, Serialize)]
struct IncarnationView {
    incarnation: String,
    address: String,
    live: bool,
    recovered: bool,
    doubted: bool,
}

#[derive(Debug, Serialize)]
struct EventView {
    at: Option<Timestamp>,
    kind: &'static str,
    incarnation: Option<String>,
    who: String,
    detail: String,
}

impl StatusView {
    fn new(url: &LogUrl, status: LogStatus) -> Self {
        Self {
            log: url.clone(),
            kind: status.kind,
            cluster: status.cluster.to_string(),
            floor: status.floor.to_string(),
            system_identifier: status.server.map(|server| server.system.to_string()),
            timeline: status.server.map(|server| server.timeline),
            switches: status.switches,
            absent_doubted: status.absent_doubted,
            replication: status.replication.map(ReplicationView::from),
            incarnations: status.incarnations.into_iter().map(IncarnationView::from).collect(),
            events: status.events.into_iter().map(EventView::from).collect(),
        }
    }

    fn page(&self) -> String {
        let mut facts = vec![
            ("log", self.log.to_string()),
            ("cluster", self.cluster.clone()),
            ("floor", self.floor.clone()),
        ];
        if let (Some(system), Some(timeline)) = (&self.system_identifier, self.timeline) {
            facts.push(("server", format!("system {system}, timeline {timeline}")));
        }
        if let Some(replication) = &self.replication {
            facts.push(("replication", replication.sentence()));
        }
        facts.push(("went back", self.past()));
        let rows = facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]);
        let mut page = aligned(rows);
        if !self.incarnations.is_empty() {
            let mut table = table(["INCARNATION", "ADDRESS", "STATE"]);
            for seen in &self.incarnations {
                table.add_row([&*seen.incarnation, &*seen.address, seen.state()]);
            }
            page = format!("{page}\n\n{}", render(&table));
        }
        if !self.events.is_empty() {
            let mut table = table(["AT", "EVENT", "INCARNATION", "WHO", "DETAIL"]);
            for event in &self.events {
                table.add_row([
                    event.at.map_or_else(String::new, |at| format!("{at:.0}")),
                    event.kind.to_owned(),
                    event.incarnation.clone().unwrap_or_default(),
                    event.who.clone(),
                    event.detail.clone(),
                ]);
            }
            page = format!("{page}\n\n{}", render(&table));
        }
        page
    }

    fn past(&self) -> String {
        match (self.switches, self.absent_doubted) {
            (0, _) => "never".to_owned(),
            (times, true) => format!("{times} times; owners that are not listed are in doubt"),
            (times, false) => format!("{times} times; all that is not listed was released"),
        }
    }

    fn next(&self) -> String {
        let doubted = self.incarnations.iter().filter(|seen| seen.doubted).count();
        let short = self.replication.as_ref().is_some_and(|replication| replication.required == 0);
        match doubted {
            0 if short => {
                "a failover may lose decisions. Next: synchronous_standby_names = 'ANY 1 (a, b)'".to_owned()
            }
            0 => "nothing is in doubt".to_owned(),
            count => format!(
                "{count} in doubt: compare what their participants committed. Next: pactum log release --incarnation ID --reason TEXT"
            ),
        }
    }
}

impl ReplicationView {
    fn sentence(&self) -> String {
        if self.required == 0 {
            return "commits wait for no standby".to_owned();
        }
        let hidden = if self.visible { "" } else { " that this role may see" };
        format!(
            "commits wait for {} ({}); {} streaming{hidden}",
            self.required, self.configured, self.confirmed
        )
    }
}

impl From<Replication> for ReplicationView {
    fn from(from: Replication) -> Self {
        let Replication { configured, required, confirmed, visible } = from;
        Self { configured, required, confirmed, visible }
    }
}

impl IncarnationView {
    fn state(&self) -> &'static str {
        match (self.doubted, self.live, self.recovered) {
            (true, _, _) => "IN DOUBT",
            (false, true, _) => "LIVE",
            (false, false, false) => "ENDED",
            (false, false, true) => "RECOVERED",
        }
    }
}

impl From<IncarnationStatus> for IncarnationView {
    fn from(from: IncarnationStatus) -> Self {
        let IncarnationStatus { incarnation, address, live, recovered, doubted, .. } = from;
        Self { incarnation: incarnation.to_string(), address, live, recovered, doubted }
    }
}

impl From<LogEvent> for EventView {
    fn from(from: LogEvent) -> Self {
        let since_1970 = from.at.duration_since(SystemTime::UNIX_EPOCH).ok();
        let at = since_1970.and_then(|since| {
            let seconds = i64::try_from(since.as_secs()).ok()?;
            Timestamp::new(seconds, since.subsec_nanos().cast_signed()).ok()
        });
        Self {
            at,
            kind: from.kind.name(),
            incarnation: from.incarnation.map(|incarnation| incarnation.to_string()),
            who: from.who,
            detail: from.detail,
        }
    }
}
