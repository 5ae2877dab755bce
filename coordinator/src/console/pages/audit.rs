//! The audit: what operators did, whether its chain is whole, and the whole of it to take away.

use askama::Template;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::header;
use pactum_proto::v1;
use serde::Deserialize;
use tonic::Status;

use super::{Frame, failed, render};
use crate::console::chain::Chain;
use crate::console::gate::Visitor;
use crate::console::live::Live;
use crate::console::sessions::hex;
use crate::console::{Console, json, link, text};

/// Entries on one page.
const PAGE: u32 = 50;

/// Entries in one question while all of them are read.
const READ: u32 = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuditQuery {
    before: Option<u64>,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    entries: Vec<Entry>,
    first: bool,
    next: String,
}

struct Entry {
    number: u64,
    at: String,
    kind: String,
    tone: &'static str,
    begun: u64,
    who: String,
    origin: String,
    act: String,
    target: String,
    target_link: String,
    reason: String,
    plan: String,
    before: String,
    after: String,
    result: String,
    hash: String,
}

pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(query): Query<AuditQuery>,
) -> Response {
    let first = query.before.is_none();
    let live = if first { Live::Audit } else { Live::Still };
    let frame = Frame::new(&console, &visitor, "Audit", "Audit", live).await;
    let request = v1::ListAuditRequest { page_size: PAGE, after: None, before: query.before };
    let listed = match console.service.list_audit(visitor.ask(request)).await {
        Ok(listed) => listed.into_inner(),
        Err(status) => return failed(&console, &visitor, "Audit", &status),
    };
    let next = match listed.entries.last() {
        Some(last) if last.number > 1 => format!("/audit?before={}", last.number),
        _ => String::new(),
    };
    let entries = listed.entries.into_iter().map(Entry::new).collect();
    render(&Page { frame, entries, first, next })
}

impl Entry {
    fn new(from: v1::AuditEntry) -> Self {
        // A target may name more than a transaction; its first word is the gid where it names one.
        let gid = from.target.split([' ', '/']).find_map(|word| word.parse::<uuid::Uuid>().ok());
        let on_transaction = ["retry", "resolve", "overrule-commit", "overrule-rollback", "forget"]
            .contains(&from.act.as_str());
        let target_link = match gid {
            Some(gid) if on_transaction => format!("/transactions/{}", link::encode(&gid.to_string())),
            _ => String::new(),
        };
        Self {
            number: from.number,
            at: text::time_of_microseconds(from.at_microseconds),
            tone: match from.kind.as_str() {
                "done" => "good",
                "failed" | "refused" => "bad",
                "found" => "warn",
                _ => "plain",
            },
            kind: from.kind,
            begun: from.begun,
            who: from.who,
            origin: from.origin,
            act: from.act,
            target_link,
            target: from.target,
            reason: from.reason,
            plan: from.plan,
            before: from.before,
            after: from.after,
            result: from.result,
            hash: hex(&from.hash),
        }
    }
}

/// All entries, oldest first, a thousand at a time: never all of them in memory.
fn all(
    console: Console,
    visitor: Visitor,
) -> impl stream::Stream<Item = Result<Vec<v1::AuditEntry>, Status>> + Send {
    stream::try_unfold(Some(0u64), move |after| {
        let (console, visitor) = (console.clone(), visitor.clone());
        async move {
            let Some(after) = after else { return Ok(None) };
            let request = v1::ListAuditRequest { page_size: READ, after: Some(after), before: None };
            let entries = console.service.list_audit(visitor.ask(request)).await?.into_inner().entries;
            let next = entries.last().map(|last| last.number);
            Ok(next.map(|next| (entries, Some(next))))
        }
    })
}

#[derive(Template)]
#[template(path = "audit_verified.html")]
struct Verified {
    frame: Frame,
    head: Option<(u64, String)>,
    broken: Option<String>,
}

pub(super) async fn verify(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
) -> Response {
    let frame = Frame::still(&console, &visitor, "Audit", "Audit verified");
    let mut chain = Chain::default();
    let mut pages = Box::pin(all(console.clone(), visitor.clone()));
    let mut broken = None;
    while broken.is_none() {
        match pages.try_next().await {
            Ok(Some(entries)) => broken = entries.iter().try_for_each(|entry| chain.take(entry)).err(),
            Ok(None) => break,
            Err(status) => return failed(&console, &visitor, "Audit", &status),
        }
    }
    render(&Verified { frame, head: chain.head(), broken })
}

pub(super) async fn export(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
) -> Response {
    let lines = all(console, visitor).map(|page| {
        page.map(|entries| {
            let lines =
                entries.iter().flat_map(|entry| [json::audit_entry(entry).to_string(), "\n".to_owned()]);
            Bytes::from(lines.collect::<String>())
        })
        // The download then ends as a broken one, and not as if that were all.
        .map_err(|status| std::io::Error::other(status.message().to_owned()))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/jsonl"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"pactum-audit.jsonl\""),
    ];
    (headers, Body::from_stream(lines)).into_response()
}
