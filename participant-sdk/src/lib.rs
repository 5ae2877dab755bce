//! Atomic transactions across databases: the SDK for applications and participants of Pactum.
//!
//! (the example is written here last)

pub mod application;
pub mod context;
pub mod error;
pub mod observe;
pub mod participant;
pub mod resource;
mod session;
pub mod testing;

pub use crate::application::{Outcome, Pactum, Transaction};
pub use crate::context::{Context, ContextLayer, WithTransaction};
pub use crate::error::{BeginError, CommitError, ConnectError};
pub use pactum_core::id::{
    Branch, BranchId, Cluster, Gid, Incarnation, InstanceId, ResourceName, TransactionId,
};
pub use pactum_core::outcome::HeuristicOutcome;
pub use pactum_core::vote::{AbortKind, AbortReason};
