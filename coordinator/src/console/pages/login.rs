//! The way in and the way out.

use std::net::IpAddr;

use askama::Template;
use axum::extract::{Form, Query, Request, State};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use axum::{Extension, RequestExt as _};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::{Frame, render};
use crate::connection::peer_in;
use crate::console::Console;
use crate::console::gate::{LoginError, Visitor, plain};
use crate::console::link::own_path;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoginQuery {
    next: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Page {
    frame: Frame,
    next: String,
    problem: &'static str,
}

pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(query): Query<LoginQuery>,
) -> Response {
    if !console.gate.asks() || visitor.session {
        return Redirect::to(own_path(&query.next)).into_response();
    }
    show(&console, &visitor, query.next, "")
}

fn show(console: &Console, visitor: &Visitor, next: String, problem: &'static str) -> Response {
    let frame = Frame::still(console, visitor, "", "Log in");
    render(&Page { frame, next, problem })
}

#[derive(Deserialize)]
struct LoginForm {
    token: String,
    #[serde(default)]
    next: String,
    #[serde(default)]
    seal: String,
}

pub(super) async fn log_in(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Response {
    let (headers, peer) = (request.headers().clone(), peer_in(request.extensions()));
    let Ok(Form(form)) = request.extract::<Form<LoginForm>, _>().await else {
        return plain(StatusCode::BAD_REQUEST, "the form is not one of ours\n");
    };
    if !console.gate.is_own_form(&headers, &form.seal) {
        let response = show(&console, &visitor, form.next, "This page was too old. Please try again.");
        return (StatusCode::FORBIDDEN, response).into_response();
    }
    let peer: Option<IpAddr> = peer.map(|peer| peer.ip());
    match console.gate.log_in(peer, &form.token) {
        Ok(cookie) => {
            let cookies = AppendHeaders([(header::SET_COOKIE, cookie)]);
            (cookies, Redirect::to(own_path(&form.next))).into_response()
        }
        Err(LoginError::Unknown) => {
            let response = show(&console, &visitor, form.next, "This token is not known.");
            (StatusCode::UNAUTHORIZED, response).into_response()
        }
        Err(LoginError::TooOften) => {
            let problem = "Too many tokens from your address were wrong. Please wait a minute.";
            (StatusCode::TOO_MANY_REQUESTS, show(&console, &visitor, form.next, problem)).into_response()
        }
    }
}

#[derive(Deserialize)]
pub(super) struct SealForm {
    #[serde(default)]
    seal: String,
}

pub(super) async fn log_out(
    State(console): State<Console>,
    headers: HeaderMap,
    Form(form): Form<SealForm>,
) -> Response {
    if !console.gate.is_own_form(&headers, &form.seal) {
        return plain(StatusCode::FORBIDDEN, "this was sent by a page of another site, and was not done\n");
    }
    let cookies = AppendHeaders([(header::SET_COOKIE, console.gate.log_out(&headers))]);
    (cookies, Redirect::to("/login")).into_response()
}
