//! Prepared branches of which nobody will take care: orphans, and quarantined ones.

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use pactum_proto::v1;
use serde::Deserialize;

use super::{Frame, failed, render};
use crate::console::Console;
use crate::console::gate::Visitor;
use crate::console::show::{self, Stuck};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StuckQuery {
    all: String,
    resource: String,
}

#[derive(Template)]
#[template(path = "stuck.html")]
struct Page {
    frame: Frame,
    all: bool,
    branches: Vec<Stuck>,
    problems: Vec<(String, String)>,
    /// Incarnations from whose doubt quarantined branches could be released.
    doubted: Vec<String>,
}

/// Asks every participant, so it does so only when somebody looks, and does not follow changes.
pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(query): Query<StuckQuery>,
) -> Response {
    let frame = Frame::still(&console, &visitor, "Stuck", "Stuck branches");
    let all = query.all == "1";
    let request = v1::ListBranchesRequest { resource: query.resource, stuck: !all, limit: 0 };
    let listed = match console.service.list_branches(visitor.ask(request)).await {
        Ok(listed) => listed.into_inner(),
        Err(status) => return failed(&console, &visitor, "Stuck", &status),
    };
    let branches: Vec<Stuck> = listed.branches.iter().map(show::stuck).collect();
    let mut doubted: Vec<String> = branches
        .iter()
        .filter(|branch| branch.quarantined)
        .map(|branch| branch.incarnation.clone())
        .collect();
    doubted.sort();
    doubted.dedup();
    let problems = listed.problems.into_iter().map(|problem| (problem.resource, problem.problem)).collect();
    render(&Page { frame, all, branches, problems, doubted })
}
