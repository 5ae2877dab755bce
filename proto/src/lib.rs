//! The wire protocol of Pactum: package `pactum.v1`.
//!
//! * [`v1`]: messages, clients and servers, generated from `pactum/v1/*.proto`, whose comments say of
//!   each rpc whether it may be repeated, what is durable when it returns, and its errors;
//! * [`convert`]: where wire meets core, with the checks that every value from outside passes;
//! * [`frames`]: the usual messages of the two streams, without anything between bytes and core;
//! * [`error`]: the one table of public errors;
//! * [`limits`]: the limits that the checks hold.
//!
//! It knows no transport of its own and no state.

pub mod convert;
pub mod error;
pub mod frames;
pub mod limits;

/// The messages, clients and servers of package `pactum.v1`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("pactum.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of package `pactum.v1`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pactum.v1.bin"));
