//! The first page: what needs somebody, and how the coordinator stands.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use pactum_proto::v1;

use super::{Frame, Problem, render, transactions};
use crate::console::gate::Visitor;
use crate::console::live::Live;
use crate::console::show::{self, Row};
use crate::console::{Console, text};

/// Transactions shown here; all of them are on their own page.
const SHOWN: usize = 8;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    info: Result<Info, Problem>,
    doubt: Result<Doubt, Problem>,
    heuristics: Result<String, Problem>,
}

struct Info {
    version: String,
    cluster: String,
    log: String,
    log_available: bool,
    log_problem: String,
    log_doubted: u64,
    replication: String,
    replication_warns: bool,
    open: u64,
    participants: u64,
    uptime: String,
    incarnation: String,
    coordinators: Vec<Coordinator>,
}

struct Coordinator {
    incarnation: String,
    address: String,
    is_own: bool,
}

struct Doubt {
    /// How many, as far as one page knows.
    count: String,
    is_none: bool,
    oldest: String,
    rows: Vec<Row>,
    more: bool,
}

pub(super) async fn page(State(console): State<Console>, Extension(visitor): Extension<Visitor>) -> Response {
    let frame = Frame::new(&console, &visitor, "Overview", "Overview", Live::Overview).await;
    let info = console.service.get_server_info(visitor.ask(v1::GetServerInfoRequest {})).await;
    let doubt = console.service.list_transactions(visitor.ask(transactions::in_doubt())).await;
    let request = v1::ListHeuristicsRequest { page_size: HEURISTICS_SHOWN, page_token: String::new() };
    let heuristics = console.service.list_heuristics(visitor.ask(request)).await;
    render(&Page {
        frame,
        info: info.map(|info| Info::new(info.into_inner())).map_err(|status| Problem::new(&status)),
        doubt: doubt.map(|listed| Doubt::new(&listed.into_inner())).map_err(|status| Problem::new(&status)),
        heuristics: heuristics
            .map(|listed| {
                let listed = listed.into_inner();
                let more = if listed.next_page_token.is_empty() { "" } else { "+" };
                format!("{}{more}", listed.heuristics.len())
            })
            .map_err(|status| Problem::new(&status)),
    })
}

/// Enough to say how many there are, where there are as few as there should be.
const HEURISTICS_SHOWN: u32 = 100;

impl Info {
    fn new(info: v1::GetServerInfoResponse) -> Self {
        let (replication, replication_warns) = match &info.log_replication {
            None => (String::new(), false),
            Some(state) if state.required == 0 => ("commits wait for no standby".to_owned(), false),
            Some(state) => (
                format!("{} of {} synchronous standbys stream", state.confirmed, state.required),
                state.confirmed < state.required,
            ),
        };
        let coordinators = info
            .coordinators
            .iter()
            .map(|one| Coordinator {
                is_own: one.incarnation == info.incarnation,
                incarnation: text::short(&text::id(&one.incarnation)),
                address: one.address.clone(),
            })
            .collect();
        Self {
            version: info.version,
            cluster: info.cluster,
            log: info.log,
            log_available: info.log_available,
            log_problem: info.log_problem,
            log_doubted: info.log_doubted,
            replication,
            replication_warns,
            open: info.transactions_open,
            participants: info.participants_attached,
            uptime: text::age(info.uptime),
            incarnation: text::id(&info.incarnation),
            coordinators,
        }
    }
}

impl Doubt {
    fn new(listed: &v1::ListTransactionsResponse) -> Self {
        let mut rows: Vec<Row> = listed.transactions.iter().map(show::row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.age_exact));
        let more = !listed.next_page_token.is_empty();
        Self {
            count: format!("{}{}", rows.len(), if more { "+" } else { "" }),
            is_none: rows.is_empty(),
            oldest: rows.first().map(|row| row.age.clone()).unwrap_or_default(),
            more: more || rows.len() > SHOWN,
            rows: rows.into_iter().take(SHOWN).collect(),
        }
    }
}
