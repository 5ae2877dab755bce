//! Pactum on real PostgreSQL, real gRPC and real processes.
//!
//! [`cluster`] runs a coordinator and banks inside the test; [`process`] runs them as processes,
//! to be killed or stopped at a named step ([`role`] is their inside); [`faults`] loses what it is
//! told to lose on a connection; [`history`] compares what applications were told with what the
//! banks' books say, by the properties in [`invariants`]. [`postgres`] keeps the servers.
//!
//! Nothing here sleeps for a fixed time: every wait is for a condition, with a bound
//! ([`wait::SOON`]) that only a wrong program meets.
//!
//! # Which rows of the failure matrix are covered
//!
//! | Row | Test |
//! |---|---|
//! | A1, A2, A3 | `crash_points`: `coordinator_killed_after_the_first_prepare_aborts` to `…_before_the_decision_is_written_aborts` |
//! | A4 | `log_outage`: `a_lost_answer_of_the_log_…`, `a_decision_cut_on_its_way_to_the_log_…` |
//! | A5 | `crash_points`: `coordinator_killed_after_the_decision_commits`; `recovery`: `a_retried_commit_…` |
//! | A6, A7, A8 | `crash_points`: `…_commit_was_sent_commits`, `…_ack_commits`, `…_end_record_commits` |
//! | A10, H10 | `recovery`: `a_coordinator_that_slept_through_its_end_…` |
//! | A11 | `recovery`: `a_restarted_coordinator_is_another_incarnation_…` |
//! | B1, B2, B3 in part | `log_outage` |
//! | C1 to C4 | `crash_points`: `participant_killed_…`; `in_doubt` |
//! | C5 | `recovery`: `another_process_of_the_same_resource_…` |
//! | C6 | `atomicity`: `a_failed_local_statement_…` |
//! | C9, H7, H9 in part | `atomicity`: `a_read_only_branch_…`, `a_branch_that_writes_through_a_foreign_table_…` |
//! | C10 | `in_doubt`, `crash_points`: `participant_killed_while_it_recovers_…` |
//! | D1, D2, D3 | `in_doubt`: `…_prepare_…`, `…_commit_prepared_…`; `heuristics` |
//! | D8, G3 | `heuristics` |
//! | D9 | `in_doubt`: `a_database_killed_with_a_prepared_branch_…` |
//! | D10, D13 | `atomicity`: `too_few_prepared_transactions_…`, `what_cannot_be_prepared_…` |
//! | D15, H12 | `atomicity`: `a_deadlock_across_databases_…` |
//! | E1, E9, E15 | `in_doubt`: `streams_that_are_cut_again_and_again_…` |
//! | E14 | `recovery`: `an_application_that_vanishes_…` |
//! | A13, E10, E11 in part, H2 | `requests` |
//! | H5 | `one_branch` |
//!
//! Rows that a pure core can show (C7, E2 to E8, H1, H4, among others) are
//! covered by `pactum-core`'s own tests, exhaustive check and simulation; those of a resource's
//! statements (C6, D3, D4, D11, D12, D16, H3, H6, H8) also by the SDK's and the log's tests.
//!
//! # Not covered yet, here or elsewhere
//!
//! * A9: a coordinator that dies in the fan-out of an abort.
//! * A12 and takeover by a living coordinator, beyond A10; F5, F6: recovery storms.
//! * B3: a log whose disk is full; B4, B5, B6: failover and restore of the log; B7; B10.
//! * C8 beyond the SDK's own tests; D5, D6, D7: failover and restore of a resource's database.
//! * D14: alerts on old branches. M1 to M7: `MySQL` and `MariaDB`.
//! * F1: clocks that jump. G1, G2, G4, G5: operators' tools; G6: identity.
//! * H11: an operator who rolls back a branch that is still voting.

pub mod bank;
pub mod cluster;
pub mod faults;
pub mod gauntlet;
pub mod history;
pub mod invariants;
pub mod postgres;
pub mod process;
pub mod rewrite;
pub mod role;
pub mod wait;
