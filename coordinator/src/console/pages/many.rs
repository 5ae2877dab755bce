//! Retry of several transactions at once: a plan for each, one reason, and a result for each.

use askama::Template;
use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use pactum_proto::v1;
use pactum_proto::v1::act::Act as Kind;

use super::acting::{REASON_BYTES_MAX, do_it, make_plan};
use super::{Frame, Problem, refused, render};
use crate::console::act::{Pairs, value};
use crate::console::gate::Visitor;
use crate::console::{Console, text};

/// Transactions in one form. Each is planned, and so each participant of it asked.
const MANY_MAX: usize = 50;

#[derive(Template)]
#[template(path = "many.html")]
struct Page {
    frame: Frame,
    plans: Vec<One>,
    ready: usize,
    confirmation: String,
    reason: String,
    who: String,
    asks_who: bool,
    problem: &'static str,
}

struct One {
    gid: String,
    short: String,
    title: String,
    hash: String,
    refusal: Option<Problem>,
}

fn retry(gid: &str) -> v1::Act {
    v1::Act { act: Some(Kind::Retry(v1::RetryAct { gid: gid.to_owned() })) }
}

/// The transactions that are named: each once.
fn gids(pairs: &Pairs) -> Vec<&str> {
    let mut gids: Vec<&str> =
        pairs.iter().filter(|(key, _)| key == "gid").map(|(_, gid)| gid.as_str()).collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

fn refuse(console: &Console, visitor: &Visitor, status: StatusCode, message: &str) -> Response {
    refused(console, visitor, (status, "In doubt", "Not planned"), message)
}

async fn page(console: &Console, visitor: &Visitor, form: &Pairs, problem: &'static str) -> Page {
    let mut plans = Vec::new();
    for gid in gids(form) {
        plans.push(match make_plan(console, visitor, retry(gid)).await {
            Ok(plan) => One {
                gid: gid.to_owned(),
                short: text::short(gid),
                title: plan.title,
                hash: plan.hash,
                refusal: plan.refusal.map(|refusal| {
                    Problem::from_facts(&pactum_proto::error::ErrorFacts::from_call_error(&refusal))
                }),
            },
            Err(status) => One {
                gid: gid.to_owned(),
                short: text::short(gid),
                title: String::new(),
                hash: String::new(),
                refusal: Some(Problem::new(&status)),
            },
        });
    }
    let ready = plans.iter().filter(|plan| plan.refusal.is_none()).count();
    Page {
        frame: Frame::still(console, visitor, "In doubt", "Retry several"),
        plans,
        ready,
        confirmation: confirmation(ready),
        reason: value(form, "reason").to_owned(),
        who: value(form, "who").to_owned(),
        asks_who: visitor.operator.name.is_none(),
        problem,
    }
}

fn confirmation(ready: usize) -> String {
    format!("retry {ready}")
}

pub(super) async fn plan(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(form): Query<Pairs>,
) -> Response {
    match gids(&form).len() {
        0 => refuse(
            &console,
            &visitor,
            StatusCode::BAD_REQUEST,
            "No transaction was chosen: tick some in the list.",
        ),
        1..=MANY_MAX => render(&page(&console, &visitor, &form, "").await),
        _ => refuse(
            &console,
            &visitor,
            StatusCode::BAD_REQUEST,
            "At most 50 transactions are retried at once.",
        ),
    }
}

#[derive(Template)]
#[template(path = "many_done.html")]
struct Done {
    frame: Frame,
    results: Vec<Ended>,
    failed: usize,
}

struct Ended {
    gid: String,
    short: String,
    outcome: Result<(String, u64), Problem>,
}

pub(super) async fn perform(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Form(form): Form<Pairs>,
) -> Response {
    // Each chosen one comes as `GID=HASH`, so that each is done as it was planned or not at all.
    let planned: Vec<(&str, &str)> = form
        .iter()
        .filter(|(key, _)| key == "planned")
        .filter_map(|(_, planned)| planned.split_once('='))
        .collect();
    if planned.is_empty() || planned.len() > MANY_MAX {
        return refuse(
            &console,
            &visitor,
            StatusCode::BAD_REQUEST,
            "1 to 50 transactions are retried at once.",
        );
    }
    let again = |status: StatusCode, problem: &'static str| {
        let mut form = form.clone();
        form.extend(planned.iter().map(|(gid, _)| ("gid".to_owned(), (*gid).to_owned())));
        let (console, visitor) = (console.clone(), visitor.clone());
        async move { (status, render(&page(&console, &visitor, &form, problem).await)).into_response() }
    };
    if !console.gate.is_own_form(&headers, value(&form, "seal")) {
        let problem = "This form was too old, or not one of ours. Nothing was done.";
        return again(StatusCode::FORBIDDEN, problem).await;
    }
    let (reason, who) = (value(&form, "reason").trim(), value(&form, "who").trim());
    if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
        return again(StatusCode::BAD_REQUEST, "A reason is needed: 1 to 512 bytes. Nothing was done.").await;
    }
    if value(&form, "confirmation").trim() != confirmation(planned.len()) {
        let problem = "What was typed to confirm is not what was asked for. Nothing was done.";
        return again(StatusCode::BAD_REQUEST, problem).await;
    }
    let mut results = Vec::new();
    for (gid, hash) in planned {
        let request = v1::PerformActRequest {
            act: Some(retry(gid)),
            plan_hash: hash.to_owned(),
            reason: reason.to_owned(),
            who: who.to_owned(),
        };
        let outcome = do_it(&console, &visitor, request).await;
        results.push(Ended {
            gid: gid.to_owned(),
            short: text::short(gid),
            outcome: outcome
                .map(|done| (done.summary, done.audit_number))
                .map_err(|status| Problem::new(&status)),
        });
    }
    let failed = results.iter().filter(|result| result.outcome.is_err()).count();
    let frame = Frame::still(&console, &visitor, "In doubt", "Retried");
    render(&Done { frame, results, failed })
}
