//! The settings, where each comes from, and what the log says of itself.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use pactum_proto::v1;

use super::{Frame, Problem, render};
use crate::console::gate::Visitor;
use crate::console::{Console, text};

#[derive(Template)]
#[template(path = "configuration.html")]
struct Page {
    frame: Frame,
    settings: Result<Vec<v1::Setting>, Problem>,
    log: Result<Log, Problem>,
}

struct Log {
    facts: Vec<v1::Fact>,
    write_latency: String,
    clock_difference: String,
    incarnations: Vec<Incarnation>,
}

struct Incarnation {
    id: String,
    address: String,
    started_at: String,
    ended_at: String,
    recovered: bool,
    doubted: bool,
}

pub(super) async fn page(State(console): State<Console>, Extension(visitor): Extension<Visitor>) -> Response {
    let frame = Frame::still(&console, &visitor, "Configuration", "Configuration");
    let settings = console.service.get_config(visitor.ask(v1::GetConfigRequest {})).await;
    let log = console.service.get_log_status(visitor.ask(v1::GetLogStatusRequest {})).await;
    render(&Page {
        frame,
        settings: settings
            .map(|settings| settings.into_inner().settings)
            .map_err(|status| Problem::new(&status)),
        log: log.map(|log| Log::new(log.into_inner())).map_err(|status| Problem::new(&status)),
    })
}

impl Log {
    fn new(from: v1::GetLogStatusResponse) -> Self {
        // A clock may be behind; both signs are worth knowing.
        let clock = from.clock_difference.map(|difference| {
            let milliseconds = difference.seconds * 1000 + i64::from(difference.nanos / 1_000_000);
            format!("{milliseconds:+} ms")
        });
        Self {
            facts: from.facts,
            write_latency: text::latency(from.write_latency),
            clock_difference: clock.unwrap_or_default(),
            incarnations: from
                .incarnations
                .into_iter()
                .map(|one| Incarnation {
                    id: text::id(&one.incarnation),
                    address: one.address,
                    started_at: text::time(one.started_at),
                    ended_at: text::time(one.ended_at),
                    recovered: one.recovered,
                    doubted: one.doubted,
                })
                .collect(),
        }
    }
}
