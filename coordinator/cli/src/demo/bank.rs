//! A bank: a small HTTP service that changes accounts inside global transactions, as anybody would
//! write one. The transaction travels by the SDK's layer; what makes the change all-or-nothing is
//! the SDK's [`Participant`](pactum::participant::Participant) around one of two resources:
//! [`SqliteBank`] with hooks of its own, or a `PostgresResource` with nothing of its own.

mod postgres;
mod sqlite;
mod store;

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use pactum::observe::{Observer, Step};
use pactum::participant::Participant;
use pactum::{BranchId, Context, ContextLayer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::postgres::PostgresBank;
use self::sqlite::SqliteBank;
use super::child::Reporter;
use super::wire::{BankOrders, Store};
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) use self::store::{create as create_store, survey as survey_store};

/// Adds to an account, or takes from it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Change {
    /// Negative: a debit.
    pub(super) amount: i64,
}

/// Why a change was not made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Refused {
    pub(super) error: String,
}

/// A bank's answer to a change that it does not make.
#[derive(Debug)]
enum ChangeError {
    /// A rule of the bank: it would refuse again.
    Refused(String),
    /// Something is broken for now.
    NotNow(String),
}

#[derive(Clone, Debug)]
enum Bank {
    Sqlite(SqliteBank),
    Postgres(PostgresBank),
}

/// The coordinator serves before a bank is started, so that this is a fault if it passes.
const ATTACH_WITHIN: Duration = Duration::from_secs(15);

/// What is held without a decision is asked about this often: nobody watching a demo wants to wait
/// for the default, and two banks' questions are no load.
const SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// A bank that serves.
#[derive(Debug)]
pub(super) struct Serving {
    address: SocketAddr,
    participant: Participant,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Serving {
    /// Opens the bank's database, attaches to the coordinator, and serves.
    pub(super) async fn start(orders: BankOrders, reporter: Reporter) -> Result<Self, Failure> {
        let failed = |what: String| {
            move |error: &(dyn std::error::Error + 'static)| Failure::new(Exit::Failed, what).because(error)
        };
        let builder = Participant::builder([orders.coordinator.clone()])
            .scan_interval(SCAN_INTERVAL)
            .observer(Observer::new(move |step| reporter.step(step.name(), step.gid(), branch_of(step))));
        let (bank, builder) = match &orders.store {
            Store::Sqlite(path) => {
                let bank = SqliteBank::open(&orders.name, path).await?;
                (Bank::Sqlite(bank.clone()), builder.resource(bank))
            }
            Store::Postgres { url, connections } => {
                let bank = PostgresBank::open(&orders.name, url, *connections).await?;
                let resource = bank.resource();
                (Bank::Postgres(bank), builder.resource(resource))
            }
        };
        let participant = builder
            .start()
            .await
            .map_err(|error| failed(format!("{} could not take part", orders.name))(&error))?;
        if timeout(ATTACH_WITHIN, participant.attached()).await.is_err() {
            return Err(Failure::new(
                Exit::CannotConnect,
                format!("{} did not reach the coordinator {}", orders.name, orders.coordinator),
            ));
        }
        let listener = TcpListener::bind(orders.listen).await.map_err(|error| {
            failed(format!("{} could not listen on {}", orders.name, orders.listen))(&error)
        })?;
        let address = listener.local_addr().map_err(|error| failed("no local address".to_owned())(&error))?;
        let app = Router::new()
            .route("/accounts/{account}/change", post(change))
            .with_state(bank)
            .layer(ContextLayer::server());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(stopped).await;
            if let Err(error) = served {
                tracing::error!(%error, "the bank's server failed");
            }
        });
        Ok(Self { address, participant, stop, server })
    }

    /// Where it serves.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it in order.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.participant.shutdown().await;
        // Connections kept open by callers must not hold up the end.
        self.server.abort();
    }
}

fn branch_of(step: &Step) -> Option<BranchId> {
    match step {
        Step::WorkDone { branch, .. }
        | Step::PrepareReceived { branch, .. }
        | Step::Prepared { branch, .. }
        | Step::VoteSent { branch, .. }
        | Step::DecisionReceived { branch, .. }
        | Step::BranchEnded { branch, .. }
        | Step::AckSent { branch, .. }
        | Step::InquirySent { branch, .. } => Some(*branch),
        // A step that is added later has no branch that we know of.
        Step::RecoveryScanned { .. } | _ => None,
    }
}

/// `POST /accounts/{account}/change`.
async fn change(
    State(bank): State<Bank>,
    Path(account): Path<i64>,
    Json(Change { amount }): Json<Change>,
) -> Result<Json<Change>, (StatusCode, Json<Refused>)> {
    let refused = |status: StatusCode, error: String| (status, Json(Refused { error }));
    let Some(context) = Context::current() else {
        return Err(refused(
            StatusCode::BAD_REQUEST,
            "this bank changes accounts within transactions only".into(),
        ));
    };
    let changed = match &bank {
        Bank::Sqlite(bank) => bank.change(&context, account, amount).await,
        Bank::Postgres(bank) => bank.change(&context, account, amount).await,
    };
    match changed {
        Ok(()) => Ok(Json(Change { amount })),
        Err(ChangeError::Refused(error)) => Err(refused(StatusCode::CONFLICT, error)),
        Err(ChangeError::NotNow(error)) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, error)),
    }
}
