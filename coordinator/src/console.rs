//! The admin address as people and programs meet it: who is let in, and the pages.
//!
//! ```text
//!             ┌ gate: whose name? whose page? who? may he? ┐
//!  gRPC ─────▶│                                            │──▶ AdminService ──▶ …
//!  browser ──▶│   (puts an Operator beside each request)   │──▶ pages ──▶ the same AdminService
//!             └────────────────────────────────────────────┘
//! ```
//!
//! The pages call the [`AdminService`] as the command does, with messages of `pactum.v1` in and out:
//! nothing is decided here, and nothing is seen here that the command could not show. They are written
//! by the server and work without JavaScript; with it they follow what changes.
//!
//! Whatever applications and databases say (names, labels, errors) is hostile: it is shown by
//! templates that escape it, under a policy by which the browser runs nothing but our one script.

mod act;
mod assets;
mod chain;
mod gate;
mod hosts;
mod json;
mod link;
mod live;
mod pages;
mod roles;
mod sessions;
mod show;
mod text;
mod timeline;
mod tokens;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use futures::stream::BoxStream;
use pactum_proto::v1;
use pactum_proto::v1::admin_service_server::AdminService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;

pub(crate) use gate::Gate;

/// What the pages ask: the coordinator's own service, or a scripted one in tests.
pub(crate) type Service = dyn AdminService<
        WatchTransactionStream = BoxStream<'static, Result<v1::WatchTransactionResponse, Status>>,
        WatchTransactionsStream = BoxStream<'static, Result<v1::WatchTransactionsResponse, Status>>,
    >;

/// The pages.
#[derive(Clone)]
pub(crate) struct Console {
    service: Arc<Service>,
    gate: Arc<Gate>,
    /// Cancelled when the coordinator lets its peers go: streams end then.
    let_go: CancellationToken,
    /// For the streams of open pages.
    streams: Arc<Semaphore>,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Console {
    pub(crate) fn new(service: Arc<Service>, gate: Gate, let_go: CancellationToken) -> Self {
        let streams = Arc::new(Semaphore::new(live::STREAMS_MAX));
        Self { service, gate: Arc::new(gate), let_go, streams }
    }

    /// Everything that the admin address serves, behind the gate: calls, pages, and what others add.
    pub(crate) fn mount(self, calls: Routes, others: Router) -> Routes {
        let guard = from_fn_with_state(Arc::clone(&self.gate), gate::guard);
        let calls = calls.into_axum_router().reset_fallback();
        let not_found = any(pages::not_found).with_state(self.clone());
        let router = calls.merge(others).merge(pages::routes(self)).fallback_service(not_found).layer(guard);
        Routes::from(router)
    }
}
