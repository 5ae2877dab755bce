//! What both services have in common: settings from the environment, a gRPC server behind the
//! context layer, and errors as statuses.

use std::error::Error;
use std::io::Read as _;
use std::time::Duration;

use anyhow::Context as _;
use pactum::resource::NoVote;
use pactum::{AbortKind, ContextLayer, Participant};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::Server;

/// The variable with the URL of the service's own database.
pub(crate) const DATABASE_URL: &str = "DATABASE_URL";

/// The variable with the coordinator's address.
pub(crate) const COORDINATOR: &str = "PACTUM_COORDINATOR";

/// How long a service waits for the coordinator at its start.
const ATTACH_TIME_MAX: Duration = Duration::from_secs(20);

/// What a service on standard output says once it serves; its address follows.
pub(crate) const SERVING: &str = "serving on ";

/// A service's settings.
#[derive(Debug)]
pub(crate) struct Environment {
    /// The service's own database. Each open branch holds one of its connections, so their number
    /// bounds the transactions that the service takes part in at a time.
    pub(crate) database: PgPool,
    /// The coordinator's address.
    pub(crate) coordinator: String,
}

impl Environment {
    /// Reads them, and connects.
    pub(crate) async fn read() -> anyhow::Result<Self> {
        let variable = |name| std::env::var(name).with_context(|| format!("{name} must be set"));
        let database = PgPoolOptions::new().max_connections(8).connect(&variable(DATABASE_URL)?).await?;
        Ok(Self { database, coordinator: variable(COORDINATOR)? })
    }
}

/// Waits until the coordinator is attached to: before that no branch can be enlisted.
pub(crate) async fn attached(participant: &Participant) -> anyhow::Result<()> {
    // It goes on trying for ever by itself. We end then, and leave it to whoever started us.
    let attached = timeout(ATTACH_TIME_MAX, participant.attached()).await;
    attached.with_context(|| format!("no coordinator: {:?}", participant.sessions()))
}

/// Serves on a free port of loopback, until standard input ends: whoever started us is gone, then,
/// or wants us to.
pub(crate) async fn serve(routes: Routes) -> anyhow::Result<()> {
    let (gone, stop) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // An error is an end, too.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        drop(gone);
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    #[expect(clippy::print_stdout, reason = "whoever started us reads the address there")]
    {
        println!("{SERVING}{}", listener.local_addr()?);
    }
    Server::builder()
        .layer(ContextLayer::server())
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async { drop(stop.await) })
        .await?;
    Ok(())
}

/// A call that is not within a transaction: this service takes no others.
pub(crate) fn outside() -> Status {
    Status::failed_precondition("this call must be made within a transaction")
}

/// The work was refused. `ABORTED` says that the same may well succeed later; `FAILED_PRECONDITION`
/// that it will not.
pub(crate) fn refused(no: &NoVote) -> Status {
    match no.reason().kind {
        AbortKind::VotedNo => Status::failed_precondition(no.to_string()),
        AbortKind::LockTimeout => Status::aborted(no.to_string()),
        AbortKind::Requested
        | AbortKind::LocalFailure
        | AbortKind::Deadline
        | AbortKind::NotAttached
        | AbortKind::BranchSetDiffers
        | AbortKind::Resolved
        | AbortKind::OwnerEnded
        | AbortKind::LogRefused => Status::unavailable(no.to_string()),
    }
}

/// The branch could not be begun or enlisted.
pub(crate) fn not_now(error: impl Error) -> Status {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    Status::unavailable(text)
}
