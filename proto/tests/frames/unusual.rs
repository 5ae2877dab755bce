//! What is malformed or only unusual is not taken by hand: the generated types have the last word on it.

use pactum_core::coordinator::TransactionOutcome;
use pactum_core::id::TransactionId;
use pactum_core::outcome::HeuristicOutcome;
use pactum_core::vote::{AbortKind, AbortReason, Evidence, Vote};
use pactum_proto::frames::{read, write};
use pactum_proto::v1;
use pactum_proto::v1::coordinator_message::Message as Down;
use pactum_proto::v1::participant_message::Message as Up;
use pactum_proto::v1::pipeline_answer::Answer;
use pactum_proto::v1::pipeline_call::Call;
use prost::Message as _;

use crate::samples::{branch, evidences, id, submitted};
use crate::types::{answer, down, finished, up, vote};

fn wire_vote(change: impl FnOnce(&mut v1::Vote)) -> Vec<u8> {
    let mut vote = v1::Vote {
        id: Some(id().into()),
        branch: Some(branch().into()),
        vote: Some(Vote::Commit(evidences().remove(0)).into()),
    };
    change(&mut vote);
    up(Up::Vote(vote))
}

fn with_evidence(execution: &str, anchor: &str) -> Vec<u8> {
    let evidence = v1::Evidence { execution: execution.to_owned(), anchor: anchor.to_owned() };
    wire_vote(|vote| vote.vote = Some(v1::vote::Vote::Commit(evidence)))
}

/// The same message with one more field in what its one field holds.
fn with_more(bytes: &[u8], more: &[u8]) -> Vec<u8> {
    let inner = &read::entries(bytes, u64::from(bytes[0] >> 3)).unwrap()[0];
    let mut out = Vec::new();
    write::entry(&mut out, bytes[0] >> 3, &[inner, more].concat());
    out
}

#[test]
fn what_lacks_or_breaks_a_name_is_left_to_the_generated_types() {
    assert!(read::participant_message(&wire_vote(|_| ())).is_some(), "unchanged it is taken");
    let of = |id: Option<v1::TransactionId>| wire_vote(|vote| vote.id = id);
    let at = |branch: Option<v1::Branch>| wire_vote(|vote| vote.branch = branch);
    let (id, branch) = (|| v1::TransactionId::from(id()), || v1::Branch::from(branch()));
    for (what, bytes) in [
        ("no id", of(None)),
        ("an empty id", of(Some(v1::TransactionId::default()))),
        ("a gid of 15 bytes", of(Some(v1::TransactionId { gid: vec![1; 15], ..id() }))),
        ("a nil gid", of(Some(v1::TransactionId { gid: vec![0; 16], ..id() }))),
        ("no incarnation", of(Some(v1::TransactionId { incarnation: Vec::new(), ..id() }))),
        ("an incarnation of 17 bytes", of(Some(v1::TransactionId { incarnation: vec![1; 17], ..id() }))),
        ("no branch", at(None)),
        ("an empty branch", at(Some(v1::Branch::default()))),
        ("a resource in capitals", at(Some(v1::Branch { resource: "A".to_owned(), ..branch() }))),
        ("a resource of 65 bytes", at(Some(v1::Branch { resource: "a".repeat(65), ..branch() }))),
        ("an instance of 15 bytes", at(Some(v1::Branch { instance: vec![1; 15], ..branch() }))),
    ] {
        assert_eq!(read::participant_message(&bytes), None, "{what}");
    }
}

#[test]
fn a_vote_that_is_no_plain_yes_is_left_to_the_generated_types() {
    for (what, vote) in [
        ("none", None),
        ("read-only: false", Some(v1::vote::Vote::ReadOnly(false))),
        ("no", Some(Vote::Abort(AbortReason::new(AbortKind::VotedNo, "too little")).into())),
    ] {
        assert_eq!(read::participant_message(&wire_vote(|of| of.vote = vote)), None, "{what}");
    }
    let both = [wire_vote(|_| ()), vote(id(), &branch(), Vote::ReadOnly)].concat();
    assert_eq!(read::participant_message(&both), None, "two votes in one message");
    let both = with_more(&wire_vote(|_| ()), &[4 << 3, 1]);
    assert_eq!(read::participant_message(&both), None, "yes and read-only at once");
}

#[test]
fn evidence_is_taken_up_to_its_limit_in_bytes() {
    let longest = "é".repeat(64);
    assert_eq!(longest.len(), Evidence::BYTES_MAX);
    assert!(read::participant_message(&with_evidence(&longest, &longest)).is_some());
    for (what, execution, anchor) in [
        ("an empty execution", "", "1"),
        ("an execution of 129 bytes", &*"x".repeat(129), ""),
        ("an anchor of 129 bytes", "1", &*"x".repeat(129)),
        ("a zero byte in the execution", "1\0", ""),
        ("a zero byte in the anchor", "1", "\0"),
    ] {
        assert_eq!(read::participant_message(&with_evidence(execution, anchor)), None, "{what}");
    }
}

#[test]
fn ends_without_the_decision_are_left_to_the_generated_types() {
    for outcome in [
        v1::BranchOutcome::Unspecified,
        v1::BranchOutcome::HeuristicCommitted,
        v1::BranchOutcome::HeuristicAborted,
        v1::BranchOutcome::HeuristicMixed,
        v1::BranchOutcome::HeuristicHazard,
    ] {
        assert_eq!(read::participant_message(&finished(id(), &branch(), outcome)), None, "{outcome:?}");
    }
}

#[test]
fn fields_that_are_repeated_unknown_or_of_another_form_are_left_to_the_generated_types() {
    let commit = write::commit(id(), &branch(), &evidences()[0]);
    let vote = write::vote_commit(id(), &branch(), &evidences()[0]);
    assert!(read::coordinator_message(&commit).is_some());
    assert!(read::participant_message(&vote).is_some());
    // The id of the message itself, once more.
    let mut again = Vec::new();
    write::entry(&mut again, 1, &v1::TransactionId::from(id()).encode_to_vec());
    for (what, more) in [
        ("a field twice", again.as_slice()),
        ("an unknown field", &[15 << 3, 1]),
        ("an unknown field of a large number", &[0xf8, 0xff, 0xff, 0xff, 0x0f, 1]),
        ("a number where a message belongs", &[3 << 3, 1]),
        ("a group", &[15 << 3 | 3, 15 << 3 | 4]),
        ("a fixed32", &[15 << 3 | 5, 0, 0, 0, 0]),
        ("a field number of zero", &[0, 0]),
        ("half a field", &[1 << 3 | 2, 5, 1]),
    ] {
        assert_eq!(read::coordinator_message(&with_more(&commit, more)), None, "commit: {what}");
        assert_eq!(read::participant_message(&with_more(&vote, more)), None, "vote: {what}");
    }
    assert_eq!(read::coordinator_message(&[commit.as_slice(), &commit].concat()), None, "two orders in one");
}

#[test]
fn other_kinds_of_messages_and_empty_ones_are_left_to_the_generated_types() {
    assert_eq!(read::participant_message(&[]), None);
    assert_eq!(read::coordinator_message(&[]), None);
    assert_eq!(read::pipeline_submit(&[]), None);
    assert_eq!(read::pipeline_committed(&[]), None);
    assert_eq!(read::participant_message(&up(Up::Draining(v1::Draining { draining: true }))), None);
    assert_eq!(read::participant_message(&up(Up::Vote(v1::Vote::default()))), None);
    let settle = v1::Settle { id: Some(id().into()), branch: Some(branch().into()) };
    assert_eq!(read::coordinator_message(&down(Down::Settle(settle))), None);
    for empty in [
        Down::Prepare(v1::Prepare::default()),
        Down::Commit(v1::Commit::default()),
        Down::Abort(v1::Abort::default()),
    ] {
        assert_eq!(read::coordinator_message(&down(empty)), None);
    }
}

#[test]
fn a_prepare_with_a_time_or_an_operation_that_is_not_plain_is_left_to_the_generated_types() {
    let time = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let operation = |name: &str| v1::Operation { name: name.to_owned(), ..submitted().remove(0) };
    let plain = v1::Prepare {
        id: Some(id().into()),
        branch: Some(branch().into()),
        operation: Some(operation("add")),
        time_left: time(30, 0),
        ..v1::Prepare::default()
    };
    assert!(read::coordinator_message(&down(Down::Prepare(plain.clone()))).is_some());
    for (what, prepare) in [
        ("no time", v1::Prepare { time_left: None, ..plain.clone() }),
        ("a negative time", v1::Prepare { time_left: time(-1, 0), ..plain.clone() }),
        ("negative nanoseconds", v1::Prepare { time_left: time(1, -1), ..plain.clone() }),
        (
            "more nanoseconds than a second has",
            v1::Prepare { time_left: time(1, 1_000_000_000), ..plain.clone() },
        ),
        ("more than a year", v1::Prepare { time_left: time(31_536_001, 0), ..plain.clone() }),
        ("a handler without a name", v1::Prepare { operation: Some(operation("")), ..plain.clone() }),
        ("a handler's name in capitals", v1::Prepare { operation: Some(operation("Add")), ..plain }),
    ] {
        assert_eq!(read::coordinator_message(&down(Down::Prepare(prepare))), None, "{what}");
    }
}

#[test]
fn calls_that_are_no_plain_submit_are_left_to_the_generated_types() {
    let plain = v1::SubmitRequest {
        id: Some(id().into()),
        operations: submitted(),
        details: None,
        timeout: None,
        wait: 0,
    };
    let call = |call: Call| v1::PipelineCall { call_id: 7, call: Some(call) }.encode_to_vec();
    let submit = |submit: v1::SubmitRequest| call(Call::Submit(submit));
    assert!(read::pipeline_submit(&submit(plain.clone())).is_some());
    let empty = v1::SubmitRequest { details: Some(v1::Details::default()), ..plain.clone() };
    assert!(read::pipeline_submit(&submit(empty)).is_some(), "details that say nothing are as good as none");

    let named = v1::Details { name: "transfer".to_owned(), ..v1::Details::default() };
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    for (what, bytes) in [
        ("no call", v1::PipelineCall { call_id: 7, call: None }.encode_to_vec()),
        ("another call", call(Call::Abort(v1::AbortRequest { id: Some(id().into()), ..Default::default() }))),
        ("no id", submit(v1::SubmitRequest { id: None, ..plain.clone() })),
        ("details", submit(v1::SubmitRequest { details: Some(named), ..plain.clone() })),
        ("a negative timeout", submit(v1::SubmitRequest { timeout: Some(negative), ..plain.clone() })),
        ("an unknown wait", submit(v1::SubmitRequest { wait: 3, ..plain.clone() })),
        ("a negative wait", submit(v1::SubmitRequest { wait: -1, ..plain.clone() })),
        ("two calls", [submit(plain.clone()), submit(plain)].concat()),
    ] {
        assert_eq!(read::pipeline_submit(&bytes), None, "{what}");
    }
}

#[test]
fn answers_other_than_a_plain_committed_are_left_to_the_generated_types() {
    let outcome = |outcome: TransactionOutcome| answer(7, Answer::Outcome(outcome.into()));
    let committed =
        |read_only, unfinished, heuristic| TransactionOutcome::Committed { read_only, unfinished, heuristic };
    let reason = AbortReason::new(AbortKind::VotedNo, "too little");
    assert_eq!(read::pipeline_committed(&outcome(committed(false, Vec::new(), None))), Some(7));
    let mut answers = vec![
        ("read-only", outcome(committed(true, Vec::new(), None))),
        ("unfinished", outcome(committed(false, vec![branch()], None))),
        ("heuristic", outcome(committed(false, Vec::new(), Some(HeuristicOutcome::Aborted)))),
        ("aborted", outcome(TransactionOutcome::Aborted { reason, unfinished: Vec::new(), heuristic: None })),
        ("an error", answer(7, Answer::Error(v1::CallError::default()))),
        ("no state", answer(7, Answer::Outcome(v1::Outcome::default()))),
        ("nothing", v1::PipelineAnswer { call_id: 7, answer: None }.encode_to_vec()),
        ("two", [write::pipeline_committed(7), write::pipeline_committed(8)].concat()),
    ];
    for other in [
        TransactionOutcome::Pending,
        TransactionOutcome::Unknown,
        TransactionOutcome::NoRecord,
        TransactionOutcome::Forgotten,
    ] {
        answers.push(("neither", outcome(other)));
    }
    for (what, bytes) in answers {
        assert_eq!(read::pipeline_committed(&bytes), None, "{what}");
    }
}

#[test]
fn the_entries_of_a_batch_are_those_of_one_field_and_nothing_else() {
    let mut frame = Vec::new();
    let contents = [Vec::new(), vec![1], vec![2; 300]];
    for content in &contents {
        write::entry(&mut frame, 1, content);
    }
    let entries: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    assert_eq!(read::entries(&frame, 1), Some(entries));
    assert_eq!(read::entries(&[], 1), Some(Vec::new()), "an empty batch");
    assert_eq!(read::entries(&frame, 2), None, "another field");
    assert_eq!(read::entries(&frame[..frame.len() - 1], 1), None, "cut off");
    assert_eq!(read::entries(&[&frame[..], &[1 << 3, 1]].concat(), 1), None, "a number in between");
    assert_eq!(read::entries(&[&frame[..], &[2 << 3 | 2, 0]].concat(), 1), None, "of both fields");
    // Batches are written by the entry and read by their generated type as well.
    let message = write::abort(id(), &branch());
    let mut frame = Vec::new();
    write::entry(&mut frame, 1, &message);
    write::entry(&mut frame, 1, &message);
    let batch = v1::AttachResponse::decode(frame.as_slice()).unwrap();
    assert_eq!(batch.messages, vec![v1::CoordinatorMessage::decode(message.as_slice()).unwrap(); 2]);
    assert_eq!(batch.encode_to_vec(), frame);
}

#[test]
fn a_nil_incarnation_is_what_both_ways_take() {
    let id = TransactionId { incarnation: pactum_core::id::Incarnation::NIL, ..id() };
    let bytes = write::abort(id, &branch());
    assert_eq!(read::coordinator_message(&bytes), crate::types::coordinator_message(&bytes));
    assert!(read::coordinator_message(&bytes).is_some());
}
