//! What changes while somebody looks: one stream of server-sent events for each open page.
//!
//! A page is in a *state*, named by a digest of what it shows without ages and countdowns. The stream
//! sends `changed` whenever the state is another than the one that the page (or, after a broken
//! connection, `Last-Event-ID`) says it has: so nothing that happened in between is missed, and
//! nothing has to be stored. The page then asks for itself again.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, http};
use futures::stream;
use http::{HeaderMap, StatusCode};
use pactum_proto::error::ErrorFacts;
use pactum_proto::v1;
use prost::Message as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tonic::Status;

use super::gate::{Visitor, plain};
use super::pages::transactions::{self, ListQuery};
use super::sessions::hex;
use super::{Console, link};

/// Between looks for one open page, at the least. People do not see faster.
const LOOK: Duration = Duration::from_millis(500);

/// And at least this many times what a look took: nine tenths of the time nothing is looked at.
const REST: u32 = 9;

/// Streams at once, for all browsers; a further page is told to use its link instead.
pub(super) const STREAMS_MAX: usize = 64;

/// So that a proxy in between does not take the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a page shows, as far as it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Live {
    /// Nothing that changes.
    Still,
    Overview,
    Transactions(ListQuery),
    Transaction {
        gid: String,
    },
    Participants,
    Heuristics,
    Audit,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventsQuery {
    of: String,
    gid: String,
    state: String,
    #[serde(flatten)]
    list: ListQuery,
}

impl Live {
    /// Where a page in that state hears of its changes; empty for one that has none.
    pub(super) fn address(&self, state: &str) -> String {
        let of = match self {
            Self::Still => return String::new(),
            Self::Overview => "overview",
            Self::Transactions(_) => "transactions",
            Self::Transaction { .. } => "transaction",
            Self::Participants => "participants",
            Self::Heuristics => "heuristics",
            Self::Audit => "audit",
        };
        let mut pairs = vec![("of", of), ("state", state)];
        match self {
            Self::Transaction { gid } => pairs.push(("gid", gid)),
            Self::Transactions(list) => pairs.extend(list.pairs()),
            Self::Still | Self::Overview | Self::Participants | Self::Heuristics | Self::Audit => {}
        }
        format!("/events{}", link::query(pairs))
    }

    fn read(query: EventsQuery) -> Option<Self> {
        Some(match query.of.as_str() {
            "overview" => Self::Overview,
            "transactions" => Self::Transactions(query.list),
            "transaction" => Self::Transaction { gid: query.gid },
            "participants" => Self::Participants,
            "heuristics" => Self::Heuristics,
            "audit" => Self::Audit,
            _ => return None,
        })
    }

    /// The name of the state that it is in now. An error is a state too: it is shown, and it passes.
    pub(super) async fn state(&self, console: &Console, visitor: &Visitor) -> String {
        let mut digest = Digest::default();
        let looked = match self {
            Self::Still => return String::new(),
            Self::Overview => overview(console, visitor, &mut digest).await,
            Self::Transactions(query) => match query.request() {
                Ok(request) => list(console, visitor, request, &mut digest).await,
                Err(_wrong) => return "wrong".to_owned(),
            },
            Self::Transaction { gid } => transaction(console, visitor, gid, &mut digest).await,
            Self::Participants => participants(console, visitor, &mut digest).await,
            Self::Heuristics => heuristics(console, visitor, &mut digest).await,
            Self::Audit => audit(console, visitor, &mut digest).await,
        };
        match looked {
            Ok(()) => digest.name(),
            Err(status) => {
                digest.part(&ErrorFacts::from_status(&status).code.into_bytes());
                digest.part(status.message().as_bytes());
                digest.name()
            }
        }
    }
}

#[derive(Default)]
struct Digest(Sha256);

impl Digest {
    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn name(self) -> String {
        hex(&self.0.finalize()[..8])
    }
}

async fn overview(console: &Console, visitor: &Visitor, digest: &mut Digest) -> Result<(), Status> {
    let request = visitor.ask(v1::GetServerInfoRequest {});
    let mut info = console.service.get_server_info(request).await?.into_inner();
    info.uptime = None;
    // How many are at work changes all the time, and is no reason to draw the page again.
    info.transactions_open = u64::from(info.transactions_open > 0);
    digest.part(&info.encode_to_vec());
    list(console, visitor, transactions::in_doubt(), digest).await
}

async fn list(
    console: &Console,
    visitor: &Visitor,
    request: v1::ListTransactionsRequest,
    digest: &mut Digest,
) -> Result<(), Status> {
    let listed = console.service.list_transactions(visitor.ask(request)).await?.into_inner();
    digest.part(listed.next_page_token.as_bytes());
    listed.transactions.into_iter().for_each(|transaction| digest.part(&still(transaction)));
    Ok(())
}

async fn transaction(
    console: &Console,
    visitor: &Visitor,
    gid: &str,
    digest: &mut Digest,
) -> Result<(), Status> {
    let request = v1::InspectTransactionRequest { gid: gid.to_owned(), examine: false };
    let shown = console.service.inspect_transaction(visitor.ask(request)).await?.into_inner();
    digest.part(&still(shown.transaction.unwrap_or_default()));
    Ok(())
}

/// What of a transaction is no clock. Labels never change, and have no order on the wire.
fn still(mut transaction: v1::Transaction) -> Vec<u8> {
    transaction.age = None;
    transaction.time_left = None;
    transaction.next_attempt_in = None;
    transaction.details = None;
    // The sentence counts attempts and seconds, which the rest tells or which pass.
    transaction.waits_for.retain(|character| !character.is_ascii_digit());
    for branch in &mut transaction.branches {
        branch.next_attempt_in = None;
        branch.report = None;
    }
    transaction.encode_to_vec()
}

async fn participants(console: &Console, visitor: &Visitor, digest: &mut Digest) -> Result<(), Status> {
    let request = visitor.ask(v1::ListParticipantsRequest {});
    for mut participant in console.service.list_participants(request).await?.into_inner().participants {
        participant.attached_for = None;
        participant.settings.clear();
        digest.part(&participant.encode_to_vec());
    }
    Ok(())
}

async fn heuristics(console: &Console, visitor: &Visitor, digest: &mut Digest) -> Result<(), Status> {
    let request = visitor.ask(v1::ListHeuristicsRequest::default());
    let listed = console.service.list_heuristics(request).await?.into_inner();
    digest.part(&listed.encode_to_vec());
    Ok(())
}

async fn audit(console: &Console, visitor: &Visitor, digest: &mut Digest) -> Result<(), Status> {
    let request = visitor.ask(v1::ListAuditRequest { page_size: 1, after: None, before: None });
    let listed = console.service.list_audit(request).await?.into_inner();
    digest.part(&listed.encode_to_vec());
    Ok(())
}

/// The stream of one page.
pub(super) async fn events(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Response {
    let Ok(permit) = console.streams.clone().try_acquire_owned() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "too many pages are followed; use the link\n");
    };
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let had = resumed.unwrap_or_else(|| query.state.clone());
    let Some(live) = Live::read(query) else {
        return plain(StatusCode::NOT_FOUND, "no such page\n");
    };
    let pause = Duration::ZERO;
    let look = stream::unfold((had, pause, permit), move |(had, mut pause, permit)| {
        let (console, visitor, live, headers) =
            (console.clone(), visitor.clone(), live.clone(), headers.clone());
        async move {
            loop {
                tokio::select! {
                    () = console.let_go.cancelled() => return None,
                    () = tokio::time::sleep(pause) => {}
                }
                // A session ends, and a token is revoked, for open pages too.
                if !console.gate.still_lets_in(&headers) {
                    return None;
                }
                let begun = Instant::now();
                let now = live.state(&console, &visitor).await;
                pause = LOOK.max(begun.elapsed() * REST);
                if now != had {
                    // An event without data is dropped by browsers.
                    let event = Event::default().event("changed").id(now.clone()).data("changed");
                    return Some((Ok::<_, Infallible>(event), (now, pause, permit)));
                }
            }
        }
    });
    Sse::new(look).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
