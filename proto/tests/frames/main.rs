//! There are two ways to read and to write the usual messages: by hand, in `frames`, and by the generated types
//! with `convert`. They must mean the same. `samples` makes the values, `types` is the second way.

#![allow(clippy::unwrap_used, reason = "a sample that cannot be made is a failed test")]

mod damage;
mod samples;
mod types;
mod unusual;

use std::time::Duration;

use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::Vote;
use pactum_proto::frames::read::{self, FromParticipant, ToParticipant};
use pactum_proto::frames::write;
use pactum_proto::v1;
use samples::{TRACEPARENT, branches, evidences, id, operations, submitted, times};

#[test]
fn prepare_is_written_and_read_as_by_the_generated_types() {
    for branch in branches() {
        for operation in operations() {
            for time_left in times() {
                for (one_phase, traceparent) in [(false, ""), (true, TRACEPARENT)] {
                    let given = operation.as_ref();
                    let bytes = write::prepare(id(), &branch, given, one_phase, time_left, traceparent);
                    let by_types = types::prepare(id(), &branch, given, one_phase, time_left, traceparent);
                    assert_eq!(bytes, by_types, "{branch:?} {time_left:?}");
                    let expected = ToParticipant::Prepare {
                        id: id(),
                        branch: branch.clone(),
                        operation: operation.clone(),
                        one_phase,
                        time_left,
                        traceparent: traceparent.to_owned(),
                    };
                    assert_eq!(read::coordinator_message(&bytes).as_ref(), Some(&expected));
                    assert_eq!(types::coordinator_message(&bytes), Some(expected));
                }
            }
        }
    }
}

#[test]
fn commit_and_abort_are_written_and_read_as_by_the_generated_types() {
    for branch in branches() {
        for evidence in evidences() {
            let bytes = write::commit(id(), &branch, &evidence);
            assert_eq!(bytes, types::commit(id(), &branch, &evidence));
            let expected = ToParticipant::Commit(id(), branch.clone(), evidence);
            assert_eq!(read::coordinator_message(&bytes).as_ref(), Some(&expected));
            assert_eq!(types::coordinator_message(&bytes), Some(expected));
        }
        let bytes = write::abort(id(), &branch);
        assert_eq!(bytes, types::abort(id(), &branch));
        let expected = ToParticipant::Abort(id(), branch);
        assert_eq!(read::coordinator_message(&bytes).as_ref(), Some(&expected));
        assert_eq!(types::coordinator_message(&bytes), Some(expected));
    }
}

#[test]
fn votes_are_written_and_read_as_by_the_generated_types() {
    for branch in branches() {
        for evidence in evidences() {
            let bytes = write::vote_commit(id(), &branch, &evidence);
            assert_eq!(bytes, types::vote(id(), &branch, Vote::Commit(evidence.clone())));
            let expected = FromParticipant::Vote(id(), branch.clone(), Vote::Commit(evidence));
            assert_eq!(read::participant_message(&bytes).as_ref(), Some(&expected));
            assert_eq!(types::participant_message(&bytes), Some(expected));
        }
        let read_only = types::vote(id(), &branch, Vote::ReadOnly);
        let expected = FromParticipant::Vote(id(), branch, Vote::ReadOnly);
        assert_eq!(read::participant_message(&read_only), Some(expected));
    }
}

#[test]
fn finished_is_written_and_read_as_by_the_generated_types() {
    for branch in branches() {
        for outcome in [BranchOutcome::Committed, BranchOutcome::Aborted] {
            let bytes = write::finished(id(), &branch, &outcome);
            assert_eq!(bytes, types::finished(id(), &branch, outcome.clone().into()));
            let expected = FromParticipant::Finished(id(), branch.clone(), outcome);
            assert_eq!(read::participant_message(&bytes).as_ref(), Some(&expected));
            assert_eq!(types::participant_message(&bytes), Some(expected));
        }
    }
}

#[test]
fn a_submit_is_written_and_read_as_by_the_generated_types() {
    let operations = submitted();
    for call_id in [0, 1, 127, 128, u64::MAX] {
        for count in 0..=operations.len() {
            for timeout in [None, Some(Duration::ZERO), Some(Duration::from_secs(30))] {
                for wait in [v1::Wait::Unspecified, v1::Wait::Finished, v1::Wait::Decision] {
                    let operations = &operations[..count];
                    let bytes = write::pipeline_submit(call_id, id(), operations, timeout, wait);
                    assert_eq!(bytes, types::submit(call_id, id(), operations, timeout, wait));
                    let read = read::pipeline_submit(&bytes).unwrap();
                    assert_eq!((read.call_id, read.id, read.timeout), (call_id, id(), timeout));
                    assert_eq!(read.wait_decision, wait == v1::Wait::Decision);
                    assert_eq!(read.operations.len(), count);
                    assert_eq!(read, types::pipeline_submit(&bytes).unwrap().fields());
                }
            }
        }
    }
}

#[test]
fn a_plain_committed_is_written_and_read_as_by_the_generated_types() {
    let outcome = || v1::Outcome { state: v1::OutcomeState::Committed.into(), ..v1::Outcome::default() };
    for call_id in [0, 1, 127, 128, u64::MAX] {
        let bytes = write::pipeline_committed(call_id);
        assert_eq!(bytes, types::answer(call_id, v1::pipeline_answer::Answer::Outcome(outcome())));
        assert_eq!(read::pipeline_committed(&bytes), Some(call_id));
        assert_eq!(types::pipeline_committed(&bytes), Some(call_id));
    }
}
