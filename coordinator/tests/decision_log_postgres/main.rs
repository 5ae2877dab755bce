//! The contract of decision logs, held by the one in PostgreSQL; and what only a real server can
//! show: waits, deadlocks, cancelled commits, forces, failovers, restores. Each test names the rows of
//! the failure matrix that it is about.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's failure")]

mod audit;
mod doubt;
mod failover;
mod fence;
mod fixture;
mod forgetting;
mod running;
mod settings;
mod unknown;
mod unwritable;

use fixture::Fixture;

pactum_coordinator::decision_log_contract!(async || Fixture::new().await);
