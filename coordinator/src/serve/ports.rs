//! The two ports, with every default of tonic that a stranger could use against us overridden.
//!
//! The public one speaks gRPC alone. The admin one speaks HTTP/1.1 too, for it also serves the pages
//! of the [`console`](crate::console), which lets in, or not, whoever calls there.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::Stream;
use pactum_proto::frames::participants_service_server::ParticipantsServiceServer;
use pactum_proto::frames::transactions_service_server::TransactionsServiceServer;
use pactum_proto::v1::admin_service_server::AdminServiceServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::ServerTlsConfig;
use tonic::transport::server::{Connected, Router, Server};
use tonic_health::pb::health_server::{Health, HealthServer};

use super::{Fatal, Listeners, ServeError, tls};
use crate::config::Config;
use crate::connection::{Limits, Listener, incoming};
use crate::console::{Console, Gate};
use crate::service::admin::Admin;
use crate::service::participants::Participants;
use crate::service::transactions::Transactions;
use crate::service::{STREAM_BYTES_MAX, UNARY_BYTES_MAX};

/// What the health service answers for; the empty name stands for all.
pub(super) const SERVICE_NAMES: [&str; 4] = [
    "",
    TransactionsServiceServer::<Transactions>::NAME,
    ParticipantsServiceServer::<Participants>::NAME,
    AdminServiceServer::<Admin>::NAME,
];

/// What is served.
pub(super) struct Services {
    pub(super) transactions: Transactions,
    pub(super) participants: Participants,
    pub(super) admin: Admin,
    /// Who is let in on the admin port.
    pub(super) gate: Gate,
    /// What else the admin port answers to a GET, for programs: health and metrics.
    pub(super) others: axum::Router,
}

/// Two open ports.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
    /// Cancelled when no further call shall be taken.
    let_go: CancellationToken,
    servers: TaskTracker,
}

impl Ports {
    /// Serves both ports until [`let_go`](Self::let_go) and their peers' end.
    pub(super) fn serve<L: Listener>(
        listeners: Listeners<L>,
        (public, admin): (SocketAddr, SocketAddr),
        config: &Config,
        tls: Option<&tls::Files>,
        services: Services,
        health: &HealthServer<impl Health>,
        fatal: &Fatal,
    ) -> Result<Self, ServeError> {
        let transactions =
            TransactionsServiceServer::new(services.transactions).max_decoding_message_size(STREAM_BYTES_MAX);
        let participants =
            ParticipantsServiceServer::new(services.participants).max_decoding_message_size(STREAM_BYTES_MAX);
        let pages = Arc::new(services.admin.clone());
        let operators = AdminServiceServer::new(services.admin).max_decoding_message_size(UNARY_BYTES_MAX);
        let public_routes = Routes::new(transactions).add_service(participants).add_service(health.clone());
        let admin_routes = Routes::new(operators).add_service(health.clone());
        let ports = Self { public, admin, let_go: CancellationToken::new(), servers: TaskTracker::new() };
        let public_tls = tls.map(tls::Files::for_calls);
        let public_server = hardened(config, public_tls)?.add_routes(with_reflection(public_routes)?);
        let connections = Box::pin(incoming(listeners.public, limits(config, fatal)));
        ports.open("the public port", fatal, connections, public_server);

        let console = Console::new(pages, services.gate, ports.let_go.clone());
        let admin_routes = console.mount(with_reflection(admin_routes)?, services.others);
        let admin_server = hardened(config, None)?.accept_http1(true).add_routes(admin_routes);
        let connections = incoming(listeners.admin, limits(config, fatal));
        match tls {
            Some(tls) => {
                let connections = Box::pin(tls.for_browsers()?.handshakes(connections));
                ports.open("the admin port", fatal, connections, admin_server);
            }
            None => ports.open("the admin port", fatal, Box::pin(connections), admin_server),
        }
        Ok(ports)
    }

    fn open<I, S>(&self, name: &'static str, fatal: &Fatal, connections: I, router: Router)
    where
        I: Stream<Item = std::io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
    {
        let let_go = self.let_go.clone();
        let expected = {
            let let_go = let_go.clone();
            move || let_go.is_cancelled()
        };
        let served = self.servers.track_future(async move {
            if let Err(error) = router.serve_with_incoming_shutdown(connections, let_go.cancelled()).await {
                tracing::error!(%error, port = name, "a port is not served any more");
            }
        });
        fatal.spawn(name, expected, served);
    }

    /// Takes no further connection and no further call.
    pub(super) fn let_go(&self) {
        self.let_go.cancel();
        self.servers.close();
    }

    /// Waits until every peer has gone: for ever, if one is silent.
    pub(super) async fn ended(&self) {
        self.servers.wait().await;
    }
}

/// Header lists longer than this are refused; ours are a few hundred bytes.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// Bytes in flight to us on one stream, and on one connection: one batch of the largest size and
/// a few more. hyper's 64 KiB would stop a stream of batches at each round trip.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Streams that a peer has reset and that we still hold something for: hyper's own default,
/// spelled out because it is what stands against a flood of resets.
const PENDING_RESETS_MAX: usize = 20;

/// What the connections of one port are held to.
fn limits(config: &Config, fatal: &Fatal) -> Limits {
    Limits {
        connections: Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS))),
        handshake_timeout: config.handshake_timeout,
        closed: fatal.tasks.killed(),
    }
}

fn hardened(config: &Config, tls: Option<ServerTlsConfig>) -> Result<Server, ServeError> {
    let server = Server::builder()
        .max_concurrent_streams(config.streams_per_connection_max)
        .http2_keepalive_interval(Some(config.keepalive))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .accept_http1(false);
    match tls {
        Some(tls) => server.tls_config(tls).map_err(|error| ServeError::Listen(error.into())),
        None => Ok(server),
    }
}

/// Adds reflection, in the version of today and in the one that older tools speak.
fn with_reflection(routes: Routes) -> Result<Routes, ServeError> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pactum_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let failed = |error: tonic_reflection::server::Error| ServeError::Listen(error.into());
    Ok(routes
        .add_service(builder().build_v1().map_err(failed)?)
        .add_service(builder().build_v1alpha().map_err(failed)?))
}
