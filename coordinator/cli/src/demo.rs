//! `pactum demo`: whole systems in one command. This is the one of `demo transfer`:
//!
//! ```text
//!  pactum demo transfer (the application)        children: this program again, one process each
//!   run ── workload ── HTTP with context ──────▶ bank-a ─┐ attach   each with a database of its own
//!     │                └────────────────────────▶ bank-b ─┤
//!     └─ SDK: begin, commit, outcome ──── gRPC ──▶ coordinator        with the decision log
//! ```
//!
//! * [`run`]: the order of events. [`place`]: the files or databases, and the honest count at the end.
//! * [`process`]: starts children, hears them, starts a killed one again. [`wire`]: what parent and
//!   children say to each other. [`child`]: what a child does with it. [`bank`]: the banks.
//! * [`workload`]: the transfers. [`steps`]: who did what when. [`summary`]: what came of it.
//! * [`outage`]: the same parts as another scene, `demo outage`, for operators to practise on.
//!
//! A child ends when its stdin ends, so that none outlives the command, however that ends.

pub(crate) mod bank;
pub(crate) mod child;
pub(crate) mod outage;
mod place;
mod process;
pub(crate) mod run;
mod steps;
mod summary;
mod wire;
mod workload;
