//! The Pactum coordinator as a library: decides global transactions once, durably, and drives
//! every branch to its decision.
//!
//! ```text
//!  applications ─▶ service/ ─▶ shard ─▶ core (pactum-core) ─▶ shard ─▶ session ─▶ participants
//!  operators ────▶ service/      │                              │
//!                                └── events ◀── decision_log ◀──┘ proposals
//! ```
//!
//! * [`serve()`] runs one coordinator until it is told to stop; [`Coordinator`] is the same for a
//!   process that runs one inside itself (a test, the demo, a service).
//! * [`config`] is parsed and checked once, and then trusted.
//! * [`decision_log`] is the register of outcomes; [`open_log`] opens one by its URL.
//! * [`trace`] hands out spans of traced transactions.
//! * [`observe`] names every step that a crash could split.
//!
//! What is here is a *shell*: it carries out the orders of `pactum_core::coordinator` and reports
//! facts back to it. It holds no judgement about votes or decisions.

pub mod config;
pub mod decision_log;
pub mod observe;
pub mod operator;
pub mod trace;

mod connection;
mod console;
mod error;
mod examine;
mod journal;
mod lifecycle;
mod metrics;
mod outbox;
mod recovery;
mod registry;
mod reply;
mod serve;
mod service;
mod session;
mod shard;
mod tasks;

#[cfg(feature = "bench")]
#[doc(hidden)]
pub use serve::bench;

pub use config::Config;
pub use connection::Listener;
pub use serve::{Coordinator, Listeners, OpenLogError, ServeError, open_log, open_log_with, serve};
