//! What met whom in which state: a table that is kept where somebody asks for it.
//!
//! A run that never delivered some message in some state of its receiver has not tested that pair.

use pactum_core_checked::coordinator::{self, Coordinator, RegisterAnswer};
use pactum_core_checked::id::TransactionId;
use pactum_core_checked::outcome::{BranchOutcome, Decision, ProposalResult};
use pactum_core_checked::participant::{self, BranchKey, Participant};
use pactum_core_checked::vote::Vote;

/// What a coordinator is told about one transaction: by applications, by operators, by participants, by
/// its own shell, and by the log.
pub const TO_COORDINATOR: [&str; 26] = [
    "enlist",
    "commit request",
    "submit request",
    "abort request",
    "outcome request",
    "outcome request with branches",
    "resolve request",
    "vote yes",
    "vote read-only",
    "vote no",
    "register committed",
    "register aborted",
    "register unknown",
    "branch committed",
    "branch aborted",
    "branch heuristic",
    "branch failed",
    "prepare not sent",
    "inquiry",
    "log won",
    "log lost",
    "log fenced",
    "log forgotten",
    "log doubted",
    "log unknown",
    "commit recovered",
];

/// What a participant is told about one branch, by coordinators and by a scan of its database. How its
/// own hooks end is no message: they run in one state only.
pub const TO_PARTICIPANT: [&str; 13] = [
    "enlist refused",
    "prepare",
    "prepare with work",
    "one-phase",
    "one-phase with work",
    "commit",
    "abort",
    "settle",
    "answer commit",
    "answer abort",
    "answer wait",
    "answer quarantine",
    "found prepared",
];

/// How often each pair was met.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub at_coordinators: [[u64; Coordinator::STATES.len()]; TO_COORDINATOR.len()],
    pub at_participants: [[u64; Participant::STATES.len()]; TO_PARTICIPANT.len()],
}

/// A table, if one is kept. It takes no part in comparing or hashing worlds.
#[derive(Clone, Debug, Default)]
pub struct Encounters(Option<Box<Table>>);

impl PartialEq for Encounters {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Encounters {}

impl std::hash::Hash for Encounters {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Encounters {
    /// Keeps a table from now on.
    pub fn keep(&mut self) {
        self.0.get_or_insert_default();
    }

    pub fn take(&mut self) -> Option<Box<Table>> {
        self.0.take()
    }

    pub fn at_coordinator(&mut self, core: &Coordinator, event: &coordinator::Event) {
        if let (Some(table), Some((kind, id))) = (&mut self.0, told_to_coordinator(event)) {
            table.at_coordinators[kind][place(&Coordinator::STATES, core.state_of(id))] += 1;
        }
    }

    pub fn at_participant(&mut self, core: &Participant, event: &participant::Event) {
        if let (Some(table), Some((kind, key))) = (&mut self.0, told_to_participant(event)) {
            table.at_participants[kind][place(&Participant::STATES, core.state_of(key))] += 1;
        }
    }
}

fn place(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).unwrap()
}

/// Which row of the table, and which transaction.
fn told_to_coordinator(event: &coordinator::Event) -> Option<(usize, TransactionId)> {
    use coordinator::Event;
    let (id, name) = match event {
        Event::EnlistRequested { id, .. } => (id, "enlist"),
        Event::CommitRequested { id, .. } => (id, "commit request"),
        Event::SubmitRequested { id, .. } => (id, "submit request"),
        Event::AbortRequested { id, .. } => (id, "abort request"),
        Event::OutcomeRequested { id, branches: None, .. } => (id, "outcome request"),
        Event::OutcomeRequested { id, branches: Some(_), .. } => (id, "outcome request with branches"),
        Event::ResolveRequested { id, .. } => (id, "resolve request"),
        Event::VoteReceived { id, vote, .. } => match vote {
            Vote::Commit(_) => (id, "vote yes"),
            Vote::ReadOnly => (id, "vote read-only"),
            Vote::Abort(_) => (id, "vote no"),
        },
        Event::RegisterAnswered { id, answer, .. } => match answer {
            RegisterAnswer::Committed => (id, "register committed"),
            RegisterAnswer::Aborted(_) => (id, "register aborted"),
            RegisterAnswer::Unknown | RegisterAnswer::Forgotten => (id, "register unknown"),
        },
        Event::BranchFinished { id, outcome, .. } => match outcome {
            BranchOutcome::Committed => (id, "branch committed"),
            BranchOutcome::Aborted => (id, "branch aborted"),
            BranchOutcome::Heuristic(_) => (id, "branch heuristic"),
        },
        Event::BranchFailed { id, .. } => (id, "branch failed"),
        Event::PrepareNotSent { id, .. } => (id, "prepare not sent"),
        Event::InquiryReceived { id, .. } => (id, "inquiry"),
        Event::ProposalAnswered { id, result, .. } => match result {
            ProposalResult::Won => (id, "log won"),
            ProposalResult::Lost(_) => (id, "log lost"),
            ProposalResult::Fenced => (id, "log fenced"),
            ProposalResult::Forgotten => (id, "log forgotten"),
            ProposalResult::Doubted => (id, "log doubted"),
            ProposalResult::Unknown => (id, "log unknown"),
        },
        Event::CommitRecovered { record } => {
            debug_assert_eq!(record.decision, Decision::Commit);
            (&record.id, "commit recovered")
        }
        // Unary Begin is another way to what Enlist and Commit begin. The rest is about no transaction, or
        // answers a look-up, which is kept apart from them.
        Event::BeginRequested { .. }
        | Event::RetryRequested { .. }
        | Event::LookedUp { .. }
        | Event::InstanceAttached { .. }
        | Event::InstanceLost { .. }
        | Event::LogAvailabilityChanged { .. }
        | Event::LiveIncarnationsRead { .. }
        | Event::IncarnationEnded
        | Event::IncarnationStarted { .. }
        | Event::FloorRaised { .. } => return None,
    };
    Some((place(&TO_COORDINATOR, name), *id))
}

/// Which row of the table, and which branch.
fn told_to_participant(event: &participant::Event) -> Option<(usize, BranchKey)> {
    use coordinator::InquiryAnswer;
    use participant::Event;
    let (key, name) = match event {
        Event::EnlistRefused { key } => (*key, "enlist refused"),
        Event::PrepareReceived { id, branch, operation, one_phase, .. } => {
            let name = match (one_phase, operation.is_some()) {
                (false, false) => "prepare",
                (false, true) => "prepare with work",
                (true, false) => "one-phase",
                (true, true) => "one-phase with work",
            };
            (BranchKey { id: *id, branch: branch.id }, name)
        }
        Event::CommitReceived { id, branch, .. } => (BranchKey { id: *id, branch: branch.id }, "commit"),
        Event::AbortReceived { id, branch, .. } => (BranchKey { id: *id, branch: branch.id }, "abort"),
        Event::SettleReceived { id, branch, .. } => (BranchKey { id: *id, branch: branch.id }, "settle"),
        Event::InquiryAnswered { key, answer } => match answer {
            InquiryAnswer::Commit(_) => (*key, "answer commit"),
            InquiryAnswer::Abort => (*key, "answer abort"),
            InquiryAnswer::Wait { .. } => (*key, "answer wait"),
            InquiryAnswer::Quarantine => (*key, "answer quarantine"),
        },
        Event::FoundPrepared { id, branch, .. } => {
            (BranchKey { id: *id, branch: branch.id }, "found prepared")
        }
        Event::Enlisted { .. }
        | Event::PrepareFinished { .. }
        | Event::RegisterRead { .. }
        | Event::BranchEnded { .. }
        | Event::HookFailed { .. } => return None,
    };
    Some((place(&TO_PARTICIPANT, name), key))
}
