//! Real PostgreSQL for the tests: one server for each test binary, and more where a test needs
//! its own.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use pactum_postgres_server::PostgresServer;

/// The server that the tests of one binary share. Statics are not dropped: the server's own
/// watchdog stops it when the process ends. Nobody restarts or reconfigures this one.
static SHARED: LazyLock<PostgresServer> = LazyLock::new(|| own(&[]));

/// Numbers the databases of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The shared server.
pub fn shared() -> &'static PostgresServer {
    &SHARED
}

/// A server of the caller's own, to be restarted, killed, counted or reconfigured.
///
/// # Panics
/// It does not start; the message says what to install.
pub fn own(settings: &[(&str, &str)]) -> PostgresServer {
    let defaults = [("max_connections", "300"), ("max_prepared_transactions", "200")];
    let all: Vec<(&str, &str)> = defaults.iter().chain(settings).copied().collect();
    PostgresServer::start_with(&all).unwrap_or_else(|error| panic!("{error}"))
}

/// Makes a fresh database and returns its URL.
///
/// # Panics
/// The server refuses.
pub fn database(server: &PostgresServer, what: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}_{number}", what.replace('-', "_"));
    server.create_database(&name).unwrap_or_else(|error| panic!("{error}"))
}
