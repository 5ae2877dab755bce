//! Faulty variants of the core, of the log and of the databases: each must break a promise in a small
//! scope, or the checker proves nothing.

use pactum_core_checked::coordinator::Mutant as Fault;
use pactum_core_checked::participant::Mutant as ParticipantFault;

use crate::explorer::{Explorer, Trouble};
use crate::run::turn;
use crate::scopes::{NONE, ONE, PAIR, forgetful, marker, two_instances};
use crate::world::{DatabaseMutant, LogMutant};

#[test]
fn faults_of_the_coordinator_are_caught() {
    let _turn = turn();
    let late = Trouble { timeouts: 1, ..NONE };
    let taken_over = Trouble { suspicions: 1, lost_answers: 1, ..NONE };
    let went_back = Trouble { go_backs: 1, suspicions: 1, scans: 1, ..NONE };
    let cases = [
        (Fault::CommitBeforeRecorded, Explorer::new(1, PAIR, NONE)),
        (Fault::FinishedBeforeLastAck, Explorer::new(1, PAIR, NONE)),
        (Fault::AbortToInquiryWhileVoting, Explorer::new(1, PAIR, Trouble { scans: 1, ..NONE })),
        (Fault::DeadlineAfterProposed, Explorer::new(1, PAIR, late)),
        (Fault::UnknownTakenForAborted, Explorer::new(1, PAIR, Trouble { lost_answers: 1, ..late })),
        (Fault::StartsTwice, Explorer::new(1, PAIR, Trouble { retries: 1, refusals: 1, ..late })),
        (Fault::FreeAbortAfterOnePhase, Explorer::new(1, ONE, late).with(marker)),
        (Fault::ForeignCommitRuns, Explorer::new(2, PAIR, Trouble { suspicions: 1, retries: 1, ..late })),
        (Fault::DoubtTakenForAborted, Explorer::new(2, PAIR, went_back)),
        (Fault::EndedAbortsProposed, Explorer::new(2, PAIR, taken_over)),
        (Fault::NothingFoundTakenForAborted, Explorer::new(2, PAIR, Trouble { retries: 1, ..NONE })),
        (Fault::LostInstanceAbortsProposed, Explorer::new(1, PAIR, Trouble { lost_instances: 1, ..NONE })),
    ];
    for (fault, explorer) in cases {
        explorer.with(|scope| scope.coordinator.mutant = Some(fault)).catches(&format!("{fault:?}"));
    }
}

#[test]
fn faults_of_the_participant_are_caught() {
    let _turn = turn();
    let crash = Trouble { coordinator_crashes: 1, timeouts: 1, scans: 1, ..NONE };
    let late = Trouble { timeouts: 1, repeats: 1, ..NONE };
    let cases = [
        (ParticipantFault::AbortsAloneInDoubt, Explorer::new(1, PAIR, crash)),
        (ParticipantFault::VotesBeforeDurable, Explorer::new(1, PAIR, Trouble { refusals: 1, ..NONE })),
        (ParticipantFault::AcknowledgesEarly, Explorer::new(1, PAIR, NONE)),
        (ParticipantFault::PreparesAfterAbort, Explorer::new(1, PAIR, late).with(two_instances)),
    ];
    for (fault, explorer) in cases {
        explorer.with(|scope| scope.participant.mutant = Some(fault)).catches(&format!("{fault:?}"));
    }
}

#[test]
fn faults_of_the_log_are_caught() {
    let _turn = turn();
    let forgotten = Trouble { floor_raises: 1, reappearances: 1, scans: 1, ..NONE };
    let went_back = Trouble { go_backs: 1, lost_answers: 1, suspicions: 1, retries: 1, scans: 1, ..NONE };
    let taken_over = Trouble { suspicions: 1, retries: 1, ..NONE };
    let cases = [
        // An abort is written under the floor and collected again before the old commit lands (H1).
        (LogMutant::FloorNotTested, Explorer::new(1, PAIR, Trouble { coordinator_crashes: 1, ..forgotten })),
        (LogMutant::FenceIgnored, Explorer::new(2, PAIR, Trouble { floor_raises: 1, ..taken_over })),
        (LogMutant::CollectedBeforeFinished, Explorer::new(1, PAIR, forgotten)),
        (LogMutant::VouchesUnsettled, Explorer::new(2, PAIR, went_back)),
        (LogMutant::EndClearsDoubt, Explorer::new(2, PAIR, went_back)),
    ];
    for (fault, explorer) in cases {
        explorer.with(|scope| scope.log_mutant = Some(fault)).catches(&format!("{fault:?}"));
    }
}

#[test]
fn faults_of_the_databases_are_caught() {
    let _turn = turn();
    let again = Trouble { repeats: 1, timeouts: 1, ..NONE };
    let by_hand = Trouble { by_hand: 1, ..NONE };
    let asked = Trouble { participant_crashes: 1, timeouts: 1, ..NONE };
    let cases = [
        (
            DatabaseMutant::CommitsAnyExecution,
            Explorer::new(1, PAIR, Trouble { repeats: 2, ..again }).with(two_instances).with(forgetful),
        ),
        (DatabaseMutant::MarkerUnchecked, Explorer::new(1, ONE, asked).with(marker)),
        (DatabaseMutant::NotFoundIsSuccess, Explorer::new(1, PAIR, by_hand)),
    ];
    for (fault, explorer) in cases {
        explorer.with(|scope| scope.database_mutant = Some(fault)).catches(&format!("{fault:?}"));
    }
}
