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
//! Here and, where a path is given, elsewhere; the exhaustive check and the simulator cover more of
//! them beside these (`docs/evidence.md` has the scopes).
//!
//! | Row | Test |
//! |---|---|
//! | A1, A2, A3 | `crash_points`: `coordinator_killed_after_the_first_prepare_aborts` to `…_before_the_decision_is_written_aborts` |
//! | A4 | `log_outage`: `a_lost_answer_of_the_log_…`, `a_decision_cut_on_its_way_to_the_log_…` |
//! | A5 | `crash_points`: `coordinator_killed_after_the_decision_commits`; `recovery`: `a_retried_commit_…` |
//! | A6, A7, A8 | `crash_points`: `…_commit_was_sent_commits`, `…_ack_commits`, `…_end_record_commits`; `takeover`: `a6_a12_…` |
//! | A9 | `takeover`: `a9_…` |
//! | A10, H10 | `recovery`: `a_coordinator_that_slept_through_its_end_…` |
//! | A11 | `recovery`: `a_restarted_coordinator_is_another_incarnation_…`; `rolling_kill` |
//! | A12, H4 | `takeover`: `a6_a12_…`, `h4_…` |
//! | A13, E10, H2 | `requests`; `participant-sdk/tests/application_coordinators` |
//! | E11 | `requests`; `participant-sdk/tests/participant`: `enlist` |
//! | B1, B2 | `log_outage` |
//! | B3, B7, B10 | `log_full` |
//! | B4, B5, B6 | `log_failover`, `log_restore`; `coordinator/tests/decision_log_postgres`: `failover`, `doubt` |
//! | B8, D5, D6 | `resource_restore`: `b8_…`, `d5_…`; `coordinator/tests/decision_log_postgres`: `forgetting` |
//! | B9 | the log's contract suite (`coordinator/src/decision_log/contract`) |
//! | C1 to C4 | `crash_points`: `participant_killed_…`; `in_doubt` |
//! | C5 | `recovery`: `another_process_of_the_same_resource_…` |
//! | C6 | `atomicity`: `a_failed_local_statement_…`; `sql_mutants` |
//! | C7 | `participant-sdk/tests/participant` |
//! | C8 | `operators`: `c8_…` |
//! | C9, H7 | `atomicity`: `a_read_only_branch_…`, `a_branch_that_writes_through_a_foreign_table_…` |
//! | H9 | `atomicity`: `a_read_only_branch_…`; `requests`; `proto/core`: `questions` |
//! | C10 | `in_doubt`, `crash_points`: `participant_killed_while_it_recovers_…` |
//! | D1, D2, D3 | `in_doubt`: `…_prepare_…`, `…_commit_prepared_…`; `heuristics`; `sql_mutants`: `d3_…` |
//! | D4, D11, D12, D16 | `participant-sdk/tests/postgres_resource` |
//! | D7, H6 | `resource_restore`: `d7_h6_…`; `sql_mutants`: `h6_…` |
//! | D8, G3 | `heuristics` |
//! | D9 | `in_doubt`: `a_database_killed_with_a_prepared_branch_…` |
//! | D10, D13 | `atomicity`: `too_few_prepared_transactions_…`, `what_cannot_be_prepared_…` |
//! | D14 | `operators`: `d14_…` |
//! | D15, H12 | `atomicity`: `a_deadlock_across_databases_…` |
//! | E1, E9, E15 | `in_doubt`: `streams_that_are_cut_again_and_again_…` |
//! | E5, E12, E13 | `messages` |
//! | E2 to E4, E6 to E8 | `participant-sdk/tests/participant`, `proto/core` |
//! | E14 | `recovery`: `an_application_that_vanishes_…` |
//! | F1, F2, F3 | `messages` (F1 by gids and rows of other times; no process runs under a skewed clock) |
//! | F4, F5, F6 | `takeover`: `f4_…`, `f5_…`, `f6_…`; `coordinator/tests/takeover` |
//! | G1, G5 | `operators`: `g1_g5_…` |
//! | G2, H11 | `operators`: `h11_g2_…` (by hand in the database; no tool of ours overrules yet) |
//! | G4 | `resource_restore`: `g4_…` |
//! | H1, H8 | `coordinator/tests/decision_log_postgres`: `fence`, `forgetting`; `sql_mutants`: `h1_…`, `h8_…` |
//! | H3 | `takeover`: `a_takeover_of_one_shot_work_…`; `sql_mutants`: `h3_…` |
//! | H5 | `one_branch`; `sql_mutants` |
//!
//! # Not covered by a test of their own
//!
//! M1 to M7 (`MySQL`, `MariaDB`). G6 in part: `tls` shows that strangers are kept out, and
//! `coordinator/tests/streams` that a vote for another's branch is refused; no identity is bound to a branch.

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
