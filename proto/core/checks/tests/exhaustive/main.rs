//! Every interleaving of small worlds, with the real core of both roles (stateright, no
//! state cap): each scope is explored to its end, prints its size, and must reach the
//! situations that it was made for. Mutants of the core, of the log and of the databases prove that
//! the checker can fail.
//!
//! A message that is lost needs no step of its own: what holds in every state holds where it
//! never arrives.
//!
//! An ordinary run takes each scope with less trouble; `PACTUM_SCALE=full` takes them whole:
//! `PACTUM_SCALE=full cargo test -p pactum-core-checks --test exhaustive -- --nocapture`.

#![allow(
    clippy::print_stdout,
    reason = "what was executed is printed: a run that did nothing proves nothing"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the checker itself may measure time"
)]
#![allow(clippy::unwrap_used, reason = "a broken model shall stop the checker")]
#![allow(unreachable_pub, reason = "modules of one test")]

#[path = "../world/mod.rs"]
mod world;

mod explorer;
mod mutants;
mod run;
mod scopes;
mod sights;
