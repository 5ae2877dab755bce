//! The gRPC services: convert, call, convert. Generated types stop here and at the session.

pub(crate) mod admin;
pub(crate) mod in_flight;
pub(crate) mod participants;
pub(crate) mod pipeline;
pub(crate) mod transactions;
pub(crate) mod wire;

/// Bytes of one unary request that are decoded. Enough for the largest of them but Submit: a
/// Commit of 64 branches is about 8 KiB.
pub(crate) const UNARY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of one message that is decoded where operations travel: the wire's 1 MiB for a batch,
/// and as much again for a batch's last message, which may be an operation of 256 KiB.
pub(crate) const STREAM_BYTES_MAX: usize = 1024 * 1024 + 512 * 1024;
