//! One act: the plan, the form that confirms it, and what came of it.
//!
//! The plan is the coordinator's own, the same that the command prints. Its hash stands in the form;
//! if by then another plan would be made, nothing is done, and what has changed is shown.

use askama::Template;
use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use pactum_proto::error::{ErrorCode, ErrorFacts};
use pactum_proto::v1;
use tonic::Status;

use super::{Frame, Problem, as_http, refused, render};
use crate::console::Console;
use crate::console::act::{self, Pairs, value};
use crate::console::gate::Visitor;
use crate::console::show::{self, Word};

/// The longest reason, as the service takes it.
pub(super) const REASON_BYTES_MAX: usize = 512;

/// The longest name of somebody who acts without a token.
const WHO_BYTES_MAX: usize = 128;

/// The facts of a plan, in a form, by which the next plan is compared with it; for the eye only.
const SEEN_BYTES_MAX: usize = 32 * 1024;

#[derive(Template)]
#[template(path = "plan.html")]
struct Page {
    frame: Frame,
    plan: Shown,
    hidden: Pairs,
    seen: String,
    reason: String,
    who: String,
    /// Whether he must say who he is, because no token does.
    asks_who: bool,
    problem: Option<Problem>,
    changed: Option<Changed>,
    button: &'static str,
    grave: bool,
    back: String,
}

/// A plan, as shown.
pub(super) struct Shown {
    pub(super) title: String,
    pub(super) facts: Vec<String>,
    pub(super) steps: Vec<String>,
    pub(super) risk: String,
    pub(super) heuristic: Option<Word>,
    pub(super) refusal: Option<Problem>,
    pub(super) hash: String,
    pub(super) command: String,
    pub(super) confirmation: String,
}

impl Shown {
    pub(super) fn new(plan: &v1::Plan) -> Self {
        Self {
            title: plan.title.clone(),
            facts: plan.facts.clone(),
            steps: plan.steps.clone(),
            risk: plan.risk.clone(),
            heuristic: show::outcome(plan.heuristic()),
            refusal: plan
                .refusal
                .as_ref()
                .map(|refusal| Problem::from_facts(&ErrorFacts::from_call_error(refusal))),
            hash: plan.hash.clone(),
            command: plan.command.clone(),
            confirmation: plan.confirmation.clone(),
        }
    }
}

/// What is otherwise than when the form was made.
struct Changed {
    gone: Vec<String>,
    new: Vec<String>,
}

impl Changed {
    fn between(seen: &str, now: &v1::Plan) -> Self {
        // A browser sends the ends of lines its own way.
        let before: Vec<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
        let after = seen_of(now);
        let after: Vec<&str> = after.lines().filter(|line| !line.is_empty()).collect();
        let missing = |from: &[&str], of: &[&str]| {
            of.iter().filter(|line| !from.contains(line)).map(|line| (*line).to_owned()).collect()
        };
        Self { gone: missing(&after, &before), new: missing(&before, &after) }
    }
}

/// What a plan says, in lines.
fn seen_of(plan: &v1::Plan) -> String {
    let refusal = plan.refusal.as_ref().map(|refusal| format!("refused: {}", refusal.message));
    let risk = Some(plan.risk.clone()).filter(|risk| !risk.is_empty());
    let lines = plan.facts.iter().cloned().chain(plan.steps.iter().cloned()).chain(risk).chain(refusal);
    lines.map(|line| line.replace(['\n', '\r'], " ")).collect::<Vec<_>>().join("\n")
}

/// What somebody filled in, to be shown again.
#[derive(Default)]
struct Filled {
    reason: String,
    who: String,
    problem: Option<Problem>,
    changed: Option<Changed>,
}

pub(super) async fn make_plan(
    console: &Console,
    visitor: &Visitor,
    act: v1::Act,
) -> Result<v1::Plan, Status> {
    let request = visitor.ask(v1::PlanActRequest { act: Some(act) });
    let plan = console.service.plan_act(request).await?.into_inner().plan;
    plan.ok_or_else(|| Status::internal("a plan is missing"))
}

/// Performs it, if he may.
pub(super) async fn do_it(
    console: &Console,
    visitor: &Visitor,
    request: v1::PerformActRequest,
) -> Result<v1::PerformActResponse, Status> {
    // The gate lets viewers plan; that they may not act stands in its table for gRPC, and here.
    if !visitor.may_act() {
        let why = if console.gate.is_read_only() {
            "the admin address is read-only"
        } else {
            "a viewer may look and not act"
        };
        return Err(pactum_proto::error::status(ErrorCode::PermissionDenied, why, None));
    }
    Ok(console.service.perform_act(visitor.ask(request)).await?.into_inner())
}

fn show_plan(console: &Console, visitor: &Visitor, plan: &v1::Plan, filled: Filled) -> Response {
    let act = plan.act.clone().unwrap_or_default();
    let frame = Frame::still(console, visitor, "", "Plan");
    render(&Page {
        frame,
        hidden: act::pairs(&act),
        seen: seen_of(plan).chars().take(SEEN_BYTES_MAX / 4).collect(),
        plan: Shown::new(plan),
        reason: filled.reason,
        who: filled.who,
        asks_who: visitor.operator.name.is_none(),
        problem: filled.problem,
        changed: filled.changed,
        button: act::button(&act),
        grave: act::is_grave(&act),
        back: act::back(&act),
    })
}

pub(super) async fn plan(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(pairs): Query<Pairs>,
) -> Response {
    let act = match act::read(&pairs) {
        Ok(act) => act,
        Err(problem) => return malformed(&console, &visitor, problem),
    };
    let back = act::back(&act);
    match make_plan(&console, &visitor, act).await {
        Ok(plan) => show_plan(&console, &visitor, &plan, Filled::default()),
        Err(status) => not_done(&console, &visitor, &status, back),
    }
}

fn malformed(console: &Console, visitor: &Visitor, problem: String) -> Response {
    refused(console, visitor, (StatusCode::BAD_REQUEST, "", "Not planned"), problem)
}

#[derive(Template)]
#[template(path = "problem.html")]
struct NotDone {
    frame: Frame,
    problem: Problem,
    back: String,
}

fn not_done(console: &Console, visitor: &Visitor, status: &Status, back: String) -> Response {
    let frame = Frame::still(console, visitor, "", "Not done");
    let page = NotDone { frame, problem: Problem::new(status), back };
    (as_http(status.code()), render(&page)).into_response()
}

#[derive(Template)]
#[template(path = "done.html")]
struct Done {
    frame: Frame,
    summary: String,
    audit_number: u64,
    back: String,
    state: Option<Word>,
}

pub(super) async fn perform(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Form(form): Form<Pairs>,
) -> Response {
    let act = match act::read(&form) {
        Ok(act) => act,
        Err(problem) => return malformed(&console, &visitor, problem),
    };
    let back = act::back(&act);
    let now = match make_plan(&console, &visitor, act).await {
        Ok(plan) => plan,
        Err(status) => return not_done(&console, &visitor, &status, back),
    };
    let (reason, who) = (value(&form, "reason").trim().to_owned(), value(&form, "who").trim().to_owned());
    let again = |status: StatusCode, problem: Option<Problem>, changed: Option<Changed>, plan: &v1::Plan| {
        let filled = Filled { reason: reason.clone(), who: who.clone(), problem, changed };
        (status, show_plan(&console, &visitor, plan, filled)).into_response()
    };
    let wrong = |text: &str| again(StatusCode::BAD_REQUEST, Some(Problem::plain(text)), None, &now);
    if !console.gate.is_own_form(&headers, value(&form, "seal")) {
        let problem = Problem::plain("This form was too old, or not one of ours. Nothing was done.");
        return again(StatusCode::FORBIDDEN, Some(problem), None, &now);
    }
    let hash = value(&form, "plan_hash");
    if hash != now.hash {
        let changed = Changed::between(value(&form, "seen"), &now);
        return again(StatusCode::CONFLICT, None, Some(changed), &now);
    }
    if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
        return wrong("A reason is needed: 1 to 512 bytes. Nothing was done.");
    }
    if who.len() > WHO_BYTES_MAX {
        return wrong("The name is too long: 128 bytes are taken. Nothing was done.");
    }
    if value(&form, "confirmation").trim() != now.confirmation {
        return wrong("What was typed to confirm is not what was asked for. Nothing was done.");
    }
    let request = v1::PerformActRequest {
        act: now.act.clone(),
        plan_hash: hash.to_owned(),
        reason: reason.clone(),
        who: who.clone(),
    };
    match do_it(&console, &visitor, request).await {
        Ok(done) => {
            let frame = Frame::still(&console, &visitor, "", "Done");
            render(&Done {
                frame,
                summary: done.summary,
                audit_number: done.audit_number,
                back,
                state: done.transaction.map(|transaction| show::state(transaction.state())),
            })
        }
        // It changed in the moment between: the new plan says how.
        Err(status) if ErrorFacts::from_status(&status).known() == Some(ErrorCode::PlanChanged) => {
            match make_plan(&console, &visitor, now.act.clone().unwrap_or_default()).await {
                Ok(newer) => {
                    let changed = Changed::between(&seen_of(&now), &newer);
                    again(StatusCode::CONFLICT, None, Some(changed), &newer)
                }
                Err(status) => not_done(&console, &visitor, &status, back),
            }
        }
        Err(status) => not_done(&console, &visitor, &status, back),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_between_two_plans_is_told_line_by_line() {
        let plan = |facts: &[&str], refusal: Option<&str>| v1::Plan {
            facts: facts.iter().map(|&fact| fact.to_owned()).collect(),
            refusal: refusal
                .map(|message| v1::CallError { message: message.to_owned(), ..v1::CallError::default() }),
            ..v1::Plan::default()
        };
        let before = plan(&["the log says nothing", "bank-a:\nprepared"], None);
        let after = plan(&["the log says commit", "bank-a:\nprepared"], Some("commit is decided already"));
        let changed = Changed::between(&seen_of(&before), &after);
        assert_eq!(changed.gone, ["the log says nothing"]);
        assert_eq!(changed.new, ["the log says commit", "refused: commit is decided already"]);
        let sent = seen_of(&before).replace('\n', "\r\n");
        let same = Changed::between(&sent, &before);
        assert!(same.gone.is_empty() && same.new.is_empty(), "{:?} {:?}", same.gone, same.new);
    }
}
