//! Two-phase commit as a pure state machine, for both roles.
//!
//! A service changes two or more resources and wants all of the changes or none. Each change is a
//! *branch* of one *global transaction*. Phase 1 asks every branch to promise (*prepare*) and
//! collects *votes*; the coordinator writes one *decision* to a register; phase 2 carries it to
//! every branch and repeats that until each has ended.
//!
//! ```text
//!  application        coordinator             register          participants
//!      │  commit {A, B}    │                     │                 A     B
//!      │──────────────────▶│── Prepare ──────────┼────────────────▶│────▶│
//!      │                   │◀─ Vote: commit, with evidence ────────│◀────│
//!      │                   │── Propose(commit) ─▶│                 │     │
//!      │                   │◀─ Won ──────────────│  commit point   │     │
//!      │                   │── Commit ───────────┼────────────────▶│────▶│
//!      │◀── committed ─────│◀─ Finished ───────────────────────────│◀────│
//! ```
//!
//! The core is fed facts ([`coordinator::Event`], [`participant::Event`]) with the time, and gives
//! orders ([`coordinator::Command`], [`participant::Command`]). It opens no socket, reads no clock,
//! draws no random number, spawns and awaits nothing; so the same code runs in production, under
//! the model checker (`tests/exhaustive.rs`) and under the simulator (`tests/simulation.rs`).
//!
//! # Roles
//!
//! * [`coordinator::Coordinator`]: owns the transactions of its incarnation for its share of gids,
//!   finishes those of others, and answers questions about all.
//! * [`participant::Participant`]: holds the branches of one process, prepared or not.
//! * The *register*: the decision log, or for a transaction of one branch that branch's own
//!   database. Outside this crate; [`outcome::ProposalResult`] is what it may answer.
//!
//! # Laws
//!
//! Code and tests cite these by number.
//!
//! 1. **One decision.** The outcome is a write-once value in the register. What stands, stands, and
//!    everyone obeys it. The record names each branch with the evidence of its vote, and a commit
//!    applies to that execution only.
//! 2. **Commit is told only after it is durable.** `SendCommit`, and an answer that says committed,
//!    come out only while an answer of the register is handled.
//! 3. **Presumed abort.** Begin, enlist, prepare and abort force nothing; no record, and none that
//!    can still be written, means abort (Mohan, Lindsay and Obermarck, *Transaction Management in
//!    the R\* Distributed Database Management System*, 1986, section 3).
//! 4. **Only the owner proposes commit**, once, for the set that it was asked to commit. Before it
//!    has proposed it may abort freely. Everybody else, and the owner after it has proposed, first
//!    *closes* the transaction: abort is written if nothing stands. An owner that has not proposed also
//!    aborts when an instance whose vote it needs is lost; a branch that has voted needs no instance.
//! 5. **Unknown is a value.** A lost answer is neither success nor failure; it is settled by
//!    proposing again, never by looking and finding nothing. A log that went back in time has no say
//!    either: a closing that hears *doubted* is held, its branches are in quarantine, and nobody is told
//!    abort until a person has released the owner's incarnation (B4, B5).
//! 6. **No clock in safety.** Time chooses who works and when to give up on an undecided transaction.
//! 7. **Forgetting** has a floor in gid order: at or under it nothing is written, and the answer is
//!    *forgotten*: never abort, never success.
//! 8. **"Not found" is not success.** A participant finds out by evidence which it was.
//! 9. **The set of branches is checked.** A branch named but not enlisted is enlisted by its name; one
//!    enlisted but not named aborts the transaction. Only the owner enlists; none after commit.
//! 10. **A gid starts once.** The owner remembers every gid that it has ended until its start floor
//!     passes it, and an unknown gid at or under that is answered from the log.
//! 11. **People may overrule, never silently.** *Resolve* goes through the log and can only abort.
//!
//! # Sources
//!
//! Gray and Lamport, *Consensus on Transaction Commit* (2006), sections 2 and 3, for the problem and
//! the message pattern; Bernstein, Hadzilacos and Goodman, *Concurrency Control and Recovery in
//! Database Systems* (1987), chapter 7, for AC1 to AC5; the X/Open XA specification (1991), section
//! 2.3, for read-only votes, one-phase commit and heuristic outcomes.

pub mod coordinator;
pub mod id;
mod labels;
pub mod outcome;
pub mod participant;
pub mod rendezvous;
pub mod time;
pub mod vote;
