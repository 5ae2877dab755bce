//! A throw-away PostgreSQL server, from the binaries that are on this machine.
//!
//! For tests, and for `pactum demo --postgres`: a real server with a data directory of its own
//! under the temporary directory, on a free loopback port, gone when the value is dropped and
//! also when the process that started it is killed.
//!
//! ```no_run
//! # fn main() -> Result<(), pactum_postgres_server::ServerError> {
//! let server = pactum_postgres_server::PostgresServer::start()?;
//! let bank_a = server.create_database("bank_a")?; // postgres://postgres:…@127.0.0.1:…/bank_a
//! server.kill()?; // SIGKILL for the postmaster and every backend
//! server.restart()?; // same port, same data: crash recovery runs
//! # drop(bank_a);
//! # Ok(())
//! # }
//! ```
//!
//! What it keeps:
//! - `fsync` stays on, as do all other settings that durability hangs on: what was acknowledged
//!   survives [`PostgresServer::kill`] unless the caller's own settings say otherwise.
//! - It listens on 127.0.0.1 only, with a random password; there is no Unix socket.
//! - Run as root, it hands the server to the user `postgres` or, failing that, `nobody`.
//! - The server is a direct child, so that a killed one is reaped at once (a pid file whose
//!   process an init has not reaped yet keeps the next start from taking the directory over).
//!
//! A server can have standbys ([`PostgresServer::standby`]) that are waited for
//! ([`PostgresServer::wait_for_standbys`]), cut off and promoted; and it can be put back to an
//! older copy of itself ([`PostgresServer::copy`], [`PostgresServer::restore`]), as after a
//! restore from backup.
//!
//! Calls block; none needs a runtime. Unix only.

mod account;
pub mod binaries;
mod error;
mod process;
mod server;
mod settings;
mod watchdog;

pub use error::ServerError;
pub use server::{DataCopy, PostgresServer, Restored};
