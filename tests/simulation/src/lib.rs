//! The full stack in simulation: coordinators, participants and applications, the real crates over the
//! real HTTP/2, on simulated hosts with a simulated network and a simulated clock.
//!
//! ```text
//!  runner ── one process per seed ──▶ run(Plan) ─▶ turmoil: a step of every host, in turn
//!                                        │           coordinator-N   pactum_coordinator
//!   faults: kill, power off, stop,       │           bank-N          pactum::Participant + Bank
//!   hold, cut, pause, log crash ─────────┘           application-N   pactum::Pactum
//!                                                    │
//!   checks: money, legs, answers, decisions ◀────────┴─ World: what outlives a host
//! ```
//!
//! One seed decides everything: the shape of the cluster, the workload, the faults, every delay. A
//! run has three parts. First there are faults. Then all is healed, and everything that was begun must
//! end: nothing prepared, nothing open, everybody attached. Last, the service must be as good as
//! new, and every outcome that was ever told must be the one that stands.
//!
//! A process that ends takes its memory with it. What outlives it is the decision log ([`log`]) and the
//! banks' stores ([`bank`]); the log loses at a crash what it had not forced.
//!
//! That a run can fail is tested, too: with a [`Flaw`](plan::Flaw) the log or the banks break their own
//! promise, and some seed has to complain.
//!
//! What is not modelled: more than one thread; a process that stands still with its clock (a *pause* is
//! one that nobody can reach, for longer than its lease); clocks that differ in rate; a real database; a
//! log that went back in time; bytes that are damaged. A connection that loses bytes stays silent until
//! its keep-alive ends it, as the simulated network sends nothing twice.
//!
//! This library links nothing that changes the process it is linked into. The binary
//! `pactum-full-stack` does: there, the clock and the system's random numbers are the simulation's.

pub mod application;
pub mod bank;
pub mod checks;
pub mod dice;
pub mod faults;
pub mod hosts;
pub mod log;
pub mod plan;
pub mod run;
pub mod runner;
pub mod trace;
pub mod transport;
pub mod world;
