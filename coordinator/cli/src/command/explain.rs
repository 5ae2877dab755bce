//! `pactum explain`: what an error code means, offline.

use clap::Args;
use pactum_proto::error::ErrorCode;
use tonic::Code;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::aligned;
use crate::pages;

/// What can be typed after `explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A code like PACTUM-0007 (or 7), or a reason like `NOT_OWNER`; without one, all are listed
    code: Option<String>,
}

impl Explain {
    /// Prints what it means.
    pub(crate) fn run(&self, output: &Output) -> Result<Exit, Failure> {
        let Some(asked) = &self.code else { return list(output) };
        let code: ErrorCode = asked.parse().map_err(|error| {
            Failure::new(Exit::NotFound, "there is no such error")
                .because(&error)
                .next("pactum explain lists them all")
        })?;
        if output.for_people() {
            output.text(pages::page(code).trim_end())?;
        } else {
            output.document(&json(code))?;
        }
        Ok(Exit::Ok)
    }
}

fn list(output: &Output) -> Result<Exit, Failure> {
    if output.for_people() {
        let row =
            |code: &ErrorCode| vec![code.code(), code.reason().to_owned(), pages::sentence(*code).to_owned()];
        output.text(aligned(ErrorCode::ALL.iter().map(row)))?;
        output.hint("Next: pactum explain CODE, for example pactum explain 7");
    } else {
        let all: Vec<_> = ErrorCode::ALL.iter().copied().map(json).collect();
        output.document(&serde_json::json!({ "errors": all }))?;
    }
    Ok(Exit::Ok)
}

fn json(code: ErrorCode) -> serde_json::Value {
    serde_json::json!({
        "code": code.code(),
        "reason": code.reason(),
        "meaning": code.meaning(),
        "remedy": code.remedy(),
        "page": pages::page(code),
        // The rule of the wire: these two promise that nothing happened.
        "retryable": matches!(code.grpc(), Code::Unavailable | Code::ResourceExhausted),
    })
}
