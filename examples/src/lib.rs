//! Examples of using Pactum, each started by one command:
//!
//! * `cargo run -p pactum-examples --bin transfer`: two services with a PostgreSQL database each, and
//!   an application that orders goods from both or from neither (see `src/transfer/`);
//! * `cargo run -p pactum-examples --bin custom_resource`: hooks around something that is not a
//!   database, namely a directory of files ([`custom_resource`]).
//!
//! This library holds what the second example shares with its test.

pub mod custom_resource;
