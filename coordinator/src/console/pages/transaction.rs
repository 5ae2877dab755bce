//! One transaction: why it waits, its branches here and in their databases, its course, and what may
//! be done about it.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::header;
use pactum_proto::v1;
use serde::Deserialize;

use super::{Frame, failed, render};
use crate::console::gate::Visitor;
use crate::console::live::Live;
use crate::console::show::{self, Branch, There, Word};
use crate::console::timeline::{self, Timeline};
use crate::console::{Console, json, text};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ShowQuery {
    examine: String,
}

#[derive(Template)]
#[template(path = "transaction.html")]
struct Page {
    frame: Frame,
    gid: String,
    incarnation: String,
    name: String,
    labels: Vec<(String, String)>,
    state: Word,
    heuristic: Option<Word>,
    age: String,
    decided_at: String,
    time_left: String,
    next_try: String,
    driven_by: String,
    reason: String,
    waits_for: String,
    traceparent: String,
    branches: Vec<Branch>,
    examined: bool,
    /// Whether there is anything left that an act could change.
    can_act: bool,
    timeline: Option<Timeline>,
    steps: Vec<Step>,
}

struct Step {
    at: String,
    what: String,
    branch: String,
    detail: String,
}

async fn inspect(
    console: &Console,
    visitor: &Visitor,
    gid: String,
    examine: bool,
) -> Result<v1::Transaction, tonic::Status> {
    let request = v1::InspectTransactionRequest { gid, examine };
    let shown = console.service.inspect_transaction(visitor.ask(request)).await?;
    Ok(shown.into_inner().transaction.unwrap_or_default())
}

pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(gid): Path<String>,
    Query(query): Query<ShowQuery>,
) -> Response {
    let live = Live::Transaction { gid: gid.clone() };
    let frame = Frame::new(&console, &visitor, "Transactions", "Transaction", live).await;
    let examined = query.examine == "1";
    let transaction = match inspect(&console, &visitor, gid, examined).await {
        Ok(transaction) => transaction,
        Err(status) => return failed(&console, &visitor, "Transactions", &status),
    };
    render(&Page::new(frame, &transaction, examined))
}

impl Page {
    fn new(mut frame: Frame, transaction: &v1::Transaction, examined: bool) -> Self {
        let gid = show::gid(transaction.id.as_ref());
        let details = transaction.details.clone().unwrap_or_default();
        let branches: Vec<Branch> =
            transaction.branches.iter().map(|status| show::branch(&gid, status)).collect();
        let resource_of = |id: u64| {
            let named =
                |status: &&v1::BranchStatus| status.branch.as_ref().is_some_and(|branch| branch.id == id);
            let status = transaction.branches.iter().find(named);
            status.and_then(|status| status.branch.as_ref()).map_or_else(
                || if id == 0 { String::new() } else { text::branch(id) },
                |branch| branch.resource.clone(),
            )
        };
        let ended =
            matches!(transaction.state(), v1::TransactionState::Committed | v1::TransactionState::Aborted);
        let heuristic = show::outcome(transaction.heuristic());
        frame.title = format!("Transaction {}", text::short(&gid));
        Self {
            frame,
            incarnation: transaction.id.as_ref().map(|id| text::id(&id.incarnation)).unwrap_or_default(),
            name: details.name,
            labels: show::labels(transaction.details.as_ref()),
            state: show::state(transaction.state()),
            heuristic,
            age: text::age(transaction.age),
            decided_at: text::time(transaction.decided_at),
            time_left: text::age(transaction.time_left),
            next_try: text::age(transaction.next_attempt_in),
            driven_by: transaction.driven_by.clone(),
            reason: transaction.reason.as_ref().map(|reason| reason.message.clone()).unwrap_or_default(),
            waits_for: transaction.waits_for.clone(),
            traceparent: details.traceparent,
            branches,
            examined,
            can_act: !ended || heuristic.is_some(),
            timeline: timeline::draw(transaction),
            steps: transaction
                .steps
                .iter()
                .map(|step| Step {
                    at: text::age(step.at),
                    what: step.step.clone(),
                    branch: resource_of(step.branch),
                    detail: step.detail.clone(),
                })
                .collect(),
            gid,
        }
    }
}

/// The same for programs.
pub(super) async fn raw(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(gid): Path<String>,
    Query(query): Query<ShowQuery>,
) -> Response {
    match inspect(&console, &visitor, gid, query.examine == "1").await {
        Ok(transaction) => {
            let text = format!("{:#}\n", json::transaction(&transaction));
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(status) => failed(&console, &visitor, "Transactions", &status),
    }
}
