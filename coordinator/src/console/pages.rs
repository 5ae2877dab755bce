//! The pages: one file for each, and here what all of them have in common.

pub(super) mod acting;
mod audit;
mod configuration;
mod help;
mod heuristics;
mod login;
mod many;
mod overview;
mod participants;
mod stuck;
mod transaction;
pub(super) mod transactions;

use std::time::SystemTime;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, http};
use http::{StatusCode, Uri};
use pactum_proto::error::{ErrorCode, ErrorFacts};
use tonic::{Code, Request, Status};

use super::gate::{Visitor, plain};
use super::live::{self, Live};
use super::{Console, assets, text};
use crate::operator::Role;

/// Everything that a browser asks for.
pub(super) fn routes(console: Console) -> Router {
    Router::new()
        .route("/", get(overview::page))
        .route("/transactions", get(transactions::page))
        .route("/transactions/{gid}", get(transaction::page))
        .route("/transactions/{gid}/raw", get(transaction::raw))
        .route("/in-doubt", get(transactions::in_doubt_page))
        .route("/stuck", get(stuck::page))
        .route("/participants", get(participants::page))
        .route("/heuristics", get(heuristics::page))
        .route("/audit", get(audit::page))
        .route("/audit/verify", get(audit::verify))
        .route("/audit/export", get(audit::export))
        .route("/configuration", get(configuration::page))
        .route("/help", get(help::page))
        .route("/help/{code}", get(help::code))
        .route("/act", get(acting::plan).post(acting::perform))
        .route("/act/retry-many", get(many::plan).post(many::perform))
        .route("/login", get(login::page).post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/events", get(live::events))
        .route("/assets/{name}", get(assets::serve))
        .with_state(console)
}

impl Visitor {
    /// A request in his name.
    pub(super) fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.operator.clone());
        request
    }

    /// Whether he may act.
    pub(super) fn may_act(&self) -> bool {
        self.operator.role == Role::Operator
    }
}

/// What surrounds the content of each page.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) title: String,
    /// The part of the console that it belongs to, as the navigation names it.
    pub(super) section: &'static str,
    /// Whose browser it is.
    pub(super) who: String,
    pub(super) may_act: bool,
    pub(super) read_only: bool,
    /// Whether he can log out.
    pub(super) session: bool,
    pub(super) seal: String,
    /// Where it hears of changes; empty if it does not change.
    pub(super) live: String,
    /// When it was made.
    pub(super) now: String,
    pub(super) version: &'static str,
}

impl Frame {
    /// Looks at the state first, so that what changes while the page is made is told to it.
    pub(super) async fn new(
        console: &Console,
        visitor: &Visitor,
        section: &'static str,
        title: impl Into<String>,
        live: Live,
    ) -> Self {
        let state = live.state(console, visitor).await;
        Self { live: live.address(&state), ..Self::still(console, visitor, section, title) }
    }

    /// Of a page that does not change.
    pub(super) fn still(
        console: &Console,
        visitor: &Visitor,
        section: &'static str,
        title: impl Into<String>,
    ) -> Self {
        Self {
            title: title.into(),
            section,
            who: visitor.operator.name.clone().unwrap_or_default(),
            may_act: visitor.may_act(),
            read_only: console.gate.is_read_only(),
            session: visitor.session,
            seal: visitor.seal.clone(),
            live: String::new(),
            now: text::time(Some(SystemTime::now().into())),
            version: &assets::VERSION,
        }
    }

    /// The links of the navigation.
    fn sections(&self) -> [Link; SECTIONS.len()] {
        SECTIONS.map(|(path, name)| Link { path, name, is_here: name == self.section })
    }
}

/// A link of the navigation.
struct Link {
    path: &'static str,
    name: &'static str,
    is_here: bool,
}

/// Where the parts of the console are, and what they are called.
const SECTIONS: [(&str, &str); 9] = [
    ("/", "Overview"),
    ("/in-doubt", "In doubt"),
    ("/transactions", "Transactions"),
    ("/stuck", "Stuck"),
    ("/participants", "Participants"),
    ("/heuristics", "Heuristics"),
    ("/audit", "Audit"),
    ("/configuration", "Configuration"),
    ("/help", "Help"),
];

/// Why something could not be shown or done, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) message: String,
    /// `PACTUM-nnnn`; empty if it has none.
    pub(super) code: String,
    pub(super) meaning: &'static str,
    pub(super) remedy: &'static str,
}

impl Problem {
    pub(super) fn new(status: &Status) -> Self {
        Self::from_facts(&ErrorFacts::from_status(status))
    }

    pub(super) fn from_facts(facts: &ErrorFacts) -> Self {
        let known = facts.known();
        Self {
            message: facts.message.clone(),
            code: facts.code.clone(),
            meaning: known.map_or("", ErrorCode::meaning),
            remedy: known.map_or("", ErrorCode::remedy),
        }
    }

    fn plain(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: String::new(), meaning: "", remedy: "" }
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    problem: Problem,
    back: String,
}

/// A page that tells only why there is no other.
fn failed(console: &Console, visitor: &Visitor, section: &'static str, status: &Status) -> Response {
    let frame = Frame::still(console, visitor, section, "Not shown");
    let page = ProblemPage { frame, problem: Problem::new(status), back: String::new() };
    (as_http(status.code()), render(&page)).into_response()
}

/// The same for a mistake in what was asked.
fn refused(
    console: &Console,
    visitor: &Visitor,
    (status, section, title): (StatusCode, &'static str, &str),
    message: impl Into<String>,
) -> Response {
    let frame = Frame::still(console, visitor, section, title);
    let page = ProblemPage { frame, problem: Problem::plain(message), back: String::new() };
    (status, render(&page)).into_response()
}

fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the page could not be written; see the coordinator's log\n",
            )
        }
    }
}

/// What a browser is told of a call's end.
fn as_http(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What is not here.
pub(super) async fn not_found(
    State(console): State<Console>,
    visitor: Option<Extension<Visitor>>,
    address: Uri,
) -> Response {
    if super::roles::is_call(address.path()) {
        return Status::unimplemented("no such call is served here").into_http::<axum::body::Body>();
    }
    match visitor {
        Some(Extension(visitor)) => {
            refused(&console, &visitor, (StatusCode::NOT_FOUND, "", "Not found"), "There is no such page.")
        }
        None => plain(StatusCode::NOT_FOUND, "not found\n"),
    }
}
