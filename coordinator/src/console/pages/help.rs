//! What the codes of errors mean and what to do about each, and the keys.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use pactum_proto::error::ErrorCode;

use super::{Frame, refused, render};
use crate::console::Console;
use crate::console::gate::Visitor;

#[derive(Template)]
#[template(path = "help.html")]
struct Page {
    frame: Frame,
    codes: Vec<Explained>,
    alone: bool,
}

struct Explained {
    code: String,
    reason: &'static str,
    meaning: &'static str,
    remedy: &'static str,
}

fn explained(code: ErrorCode) -> Explained {
    Explained { code: code.code(), reason: code.reason(), meaning: code.meaning(), remedy: code.remedy() }
}

pub(super) async fn page(State(console): State<Console>, Extension(visitor): Extension<Visitor>) -> Response {
    let frame = Frame::still(&console, &visitor, "Help", "Help");
    let codes = ErrorCode::ALL.iter().copied().map(explained).collect();
    render(&Page { frame, codes, alone: false })
}

pub(super) async fn code(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(code): Path<String>,
) -> Response {
    match code.parse::<ErrorCode>() {
        Ok(code) => {
            let frame = Frame::still(&console, &visitor, "Help", code.code());
            render(&Page { frame, codes: vec![explained(code)], alone: true })
        }
        Err(unknown) => {
            let what = (StatusCode::NOT_FOUND, "Help", "No such code");
            refused(&console, &visitor, what, unknown.to_string())
        }
    }
}
