//! The two streams by the frame: what most of their messages are, read and written in one go.
//!
//! A committed transaction of two branches is eleven messages, and each of the generated ones is a handful
//! of small pieces of memory that live for microseconds: that was more than half of what Pactum cost. Here the
//! messages of an ordinary commit go between bytes and the core's own types without anything
//! between; a frame is one gRPC message as it stands on the wire, which [`v1`](crate::v1) describes.
//!
//! * [`read`]: the usual messages. It takes what is well-formed and usual, and gives everything else back: that is
//!   then decoded by the generated types and checked by [`convert`](crate::convert), which have the last
//!   word on what is malformed and how it is told.
//! * [`write`](mod@write): the same messages, byte by byte as the generated types encode them (a test compares).
//! * [`Codec`] hands frames through; the generated modules are the two services with it.
//!
//! It knows no state, and nothing here is part of the protocol.

mod codec;
pub mod read;
pub mod write;

pub use codec::{Codec, Frame};

/// The two services whose streams are frames, from the same definition as those in [`v1`](crate::v1).
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::pedantic,
    clippy::default_constructed_unit_structs,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/pactum.v1.ParticipantsService.rs"));
    include!(concat!(env!("OUT_DIR"), "/pactum.v1.TransactionsService.rs"));
}

pub use generated::{
    participants_service_client, participants_service_server, transactions_service_client,
    transactions_service_server,
};
