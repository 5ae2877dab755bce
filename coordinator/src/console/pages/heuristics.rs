//! Branches that ended without the decision, kept until somebody has taken note.

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use pactum_proto::v1;
use serde::Deserialize;

use super::{Frame, failed, render};
use crate::console::gate::Visitor;
use crate::console::live::Live;
use crate::console::show::{self, Word};
use crate::console::{Console, link, text};

const PAGE: u32 = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HeuristicsQuery {
    page: String,
}

#[derive(Template)]
#[template(path = "heuristics.html")]
struct Page {
    frame: Frame,
    heuristics: Vec<Heuristic>,
    first: bool,
    next: String,
}

struct Heuristic {
    gid: String,
    short: String,
    resource: String,
    branch: String,
    outcome: Option<Word>,
    decision: Option<Word>,
    recorded_at: String,
}

pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(query): Query<HeuristicsQuery>,
) -> Response {
    let first = query.page.is_empty();
    let live = if first { Live::Heuristics } else { Live::Still };
    let frame = Frame::new(&console, &visitor, "Heuristics", "Heuristic outcomes", live).await;
    let request = v1::ListHeuristicsRequest { page_size: PAGE, page_token: query.page };
    let listed = match console.service.list_heuristics(visitor.ask(request)).await {
        Ok(listed) => listed.into_inner(),
        Err(status) => return failed(&console, &visitor, "Heuristics", &status),
    };
    let next = match listed.next_page_token.as_str() {
        "" => String::new(),
        token => format!("/heuristics{}", link::query([("page", token)])),
    };
    let heuristics = listed.heuristics.into_iter().map(Heuristic::new).collect();
    render(&Page { frame, heuristics, first, next })
}

impl Heuristic {
    fn new(from: v1::Heuristic) -> Self {
        let gid = show::gid(from.id.as_ref());
        let (outcome, decision) = (show::outcome(from.outcome()), show::outcome(from.decision()));
        let branch = from.branch.unwrap_or_default();
        Self {
            short: text::short(&gid),
            gid,
            resource: branch.resource,
            branch: text::branch(branch.id),
            outcome,
            decision,
            recorded_at: text::time(from.recorded_at),
        }
    }
}
