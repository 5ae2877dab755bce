//! Atomic transactions across databases: the SDK for applications and participants of Pactum.
//!
//! A service that owns a database takes part: what it does inside a transaction commits if, and
//! only if, everything else in that transaction does.
//!
//! ```no_run
//! use axum::http::StatusCode;
//! use axum::{Extension, Router, routing::post};
//! use pactum::{Context, ContextLayer, Participant, PostgresResource};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let pool = sqlx::PgPool::connect("postgres://bank_a@db-a/bank").await?;
//!     let bank = PostgresResource::new("bank-a", pool)?;
//!     // Dials in and stays attached: the coordinator needs no way to this service.
//!     let participant = Participant::builder(["http://127.0.0.1:7600"]).resource(bank.clone()).start().await?;
//!
//!     // An ordinary service; the layer finds out which transaction a request is part of.
//!     let router = Router::new()
//!         .route("/debit", post(debit))
//!         .layer(Extension(bank))
//!         .layer(ContextLayer::server());
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//!     axum::serve(listener, router).await?;
//!     participant.shutdown().await;
//!     Ok(())
//! }
//!
//! async fn debit(
//!     Extension(context): Extension<Context>,
//!     Extension(bank): Extension<PostgresResource>,
//! ) -> Result<(), StatusCode> {
//!     work(&context, &bank).await.map_err(|_| StatusCode::CONFLICT)
//! }
//!
//! async fn work(context: &Context, bank: &PostgresResource) -> Result<(), Box<dyn std::error::Error>> {
//!     // An ordinary sqlx connection, in a transaction ...
//!     let mut branch = bank.begin(context).await?;
//!     sqlx::query("UPDATE accounts SET balance = balance - 100 WHERE id = 1").execute(&mut *branch).await?;
//!     // ... that the coordinator decides from here on.
//!     branch.enlist().await?;
//!     Ok(())
//! }
//! ```
//!
//! An application calls such services inside a transaction, and has them all commit or none:
//!
//! ```no_run
//! use pactum::{CommitError, ContextLayer, Outcome, Pactum, WithTransaction as _};
//! # mod bank {
//! #     pub struct Client<S>(pub S);
//! #     impl<S> Client<S> {
//! #         pub async fn debit(&self, amount: i64) -> Result<(), std::io::Error> { drop(amount); Ok(()) }
//! #         pub async fn credit(&self, amount: i64) -> Result<(), std::io::Error> { drop(amount); Ok(()) }
//! #     }
//! # }
//! use tower::Layer as _;
//!
//! # async fn example<C>(channel_a: C, channel_b: C) -> Result<(), Box<dyn std::error::Error>> {
//! let pactum = Pactum::connect("http://127.0.0.1:7600").await?;
//! // Any client of a tower service, for instance one that tonic generated, over its channel.
//! let bank_a = bank::Client(ContextLayer::client().layer(channel_a));
//! let bank_b = bank::Client(ContextLayer::client().layer(channel_b));
//!
//! let tx = pactum.begin().name("transfer").label("order", 4711).await?;
//! bank_a.debit(100).with(&tx).await?; // an error here drops `tx`, which aborts it
//! bank_b.credit(100).with(&tx).await?;
//! match tx.commit().await {
//!     Ok(Outcome::Committed { .. }) => println!("moved"),
//!     Ok(Outcome::Aborted { reason, .. }) => println!("nothing moved: {reason}"),
//!     // Neither: keep the name, and ask `pactum.outcome(id, branches)` until it is known.
//!     Err(CommitError::Unknown { id, .. }) => println!("not known yet: {id}"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look
//!
//! * [`application`]: begin, commit, abort, submit, ask; what each is sure of;
//! * [`context`]: how a transaction travels with calls, through one tower layer for tonic and axum;
//! * [`error`]: errors that say how sure they are;
//! * [`participant`]: attach to the coordinators and run the hooks of resources;
//! * [`resource`]: the hooks, and the PostgreSQL resource; [`testing`] checks hooks of your own;
//! * [`observe`]: the steps of a participant, for tests that stop it at each.
//!
//! # What it guarantees
//!
//! A committed transaction is committed at every branch, sooner or later, whatever crashes; an
//! aborted one at none. Each resource keeps its own isolation: while branches are being
//! committed one after the other, a reader of two of them can see one half.

pub mod application;
pub mod context;
pub mod error;
mod members;
pub mod observe;
pub mod participant;
pub mod resource;
mod session;
pub mod testing;

pub use crate::application::{Connector, Outcome, Pactum, Standing, Tls, Transaction};
pub use crate::context::{Context, ContextLayer, WithTransaction};
pub use crate::error::{AbortError, BeginError, Certainty, CommitError, ConnectError, OutcomeError, Refusal};
pub use crate::participant::Participant;
pub use crate::resource::{PostgresResource, Resource};
pub use pactum_core::id::{
    Branch, BranchId, Cluster, Gid, Incarnation, InstanceId, ResourceName, TransactionId,
};
pub use pactum_core::outcome::HeuristicOutcome;
pub use pactum_core::vote::{AbortKind, AbortReason};
