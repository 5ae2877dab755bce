//! A directory of published files as a [`Resource`](pactum::Resource): what somebody writes who
//! wants something to take part that has no transactions of its own.
//!
//! [`Store`] does the work on disk: durable, atomic, repeatable. [`FileResource`] is the thin part
//! that Pactum calls. Most of what makes hooks right is in the store's order of steps.

mod resource;
mod store;

pub use self::resource::{FileResource, PublishError};
pub use self::store::{End, Freeze, Publication, StageError, Staged, Store};
