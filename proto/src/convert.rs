//! Between the wire and the core, value by value.
//!
//! What goes out converts by `From`. What comes in converts by `TryFrom` and is checked here, once:
//! lengths, alphabets, and that no enum is `*_UNSPECIFIED`. An error names the field, as
//! `INVALID_ARGUMENT` is to name it. Whole requests are put together by who serves them.

use pactum_core::coordinator::{RegisterAnswer, TransactionOutcome, Wait};
use pactum_core::id::{
    Branch, BranchId, Gid, Incarnation, InstanceId, NameError, ResourceName, TransactionId,
};
use pactum_core::outcome::{BranchOutcome, Details, HeuristicOutcome};
use pactum_core::vote::{AbortKind, AbortReason, Evidence, Vote};

use crate::{limits, v1};

/// A value from the wire that does not have the form its field demands. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConvertError {
    /// The field's path, for example `branch.resource`.
    pub field: String,
    /// What is wrong with it, and what is needed.
    pub problem: String,
}

impl ConvertError {
    /// An error of one field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The same error, seen from the message that holds the field.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), ..self }
    }

    fn name(field: &str, error: &NameError) -> Self {
        Self::new(field, error.to_string())
    }

    fn unspecified(field: &str) -> Self {
        Self::new(field, "it must be given")
    }
}

fn text(field: &str, given: &str, bytes_max: usize) -> Result<(), ConvertError> {
    if given.len() > bytes_max {
        return Err(ConvertError::new(field, format!("at most {bytes_max} bytes are taken")));
    }
    if given.contains('\0') {
        return Err(ConvertError::new(field, "a zero byte cannot be stored"));
    }
    Ok(())
}

// ---- names ------------------------------------------------------------------------------------

impl From<TransactionId> for v1::TransactionId {
    fn from(id: TransactionId) -> Self {
        Self {
            incarnation: id.incarnation.as_uuid().as_bytes().to_vec(),
            gid: id.gid.as_uuid().as_bytes().to_vec(),
        }
    }
}

impl TryFrom<v1::TransactionId> for TransactionId {
    type Error = ConvertError;

    fn try_from(id: v1::TransactionId) -> Result<Self, ConvertError> {
        let incarnation = Incarnation::from_slice(&id.incarnation)
            .map_err(|error| ConvertError::name("id.incarnation", &error))?;
        let gid = Gid::from_slice(&id.gid).map_err(|error| ConvertError::name("id.gid", &error))?;
        if gid.is_nil() {
            return Err(ConvertError::new("id.gid", "the nil UUID names nothing"));
        }
        Ok(Self { incarnation, gid })
    }
}

impl From<Branch> for v1::Branch {
    fn from(branch: Branch) -> Self {
        let instance =
            if branch.instance.is_nil() { Vec::new() } else { branch.instance.as_uuid().as_bytes().to_vec() };
        Self {
            id: branch.id.number(),
            resource: branch.resource.as_str().to_owned(),
            instance,
            marker: branch.marker,
        }
    }
}

/// An empty instance becomes [`InstanceId::NIL`]: whoever needs one checks for that.
impl TryFrom<v1::Branch> for Branch {
    type Error = ConvertError;

    fn try_from(branch: v1::Branch) -> Result<Self, ConvertError> {
        let resource = ResourceName::new(&branch.resource)
            .map_err(|error| ConvertError::name("branch.resource", &error))?;
        let instance = if branch.instance.is_empty() {
            InstanceId::NIL
        } else {
            InstanceId::from_slice(&branch.instance)
                .map_err(|error| ConvertError::name("branch.instance", &error))?
        };
        Ok(Self { id: BranchId::new(branch.id), resource, instance, marker: branch.marker })
    }
}

// ---- votes ------------------------------------------------------------------------------------

impl From<Evidence> for v1::Evidence {
    fn from(evidence: Evidence) -> Self {
        Self {
            execution: evidence.execution.as_ref().to_owned(),
            anchor: evidence.anchor.as_ref().to_owned(),
        }
    }
}

impl TryFrom<v1::Evidence> for Evidence {
    type Error = ConvertError;

    fn try_from(evidence: v1::Evidence) -> Result<Self, ConvertError> {
        text("evidence.execution", &evidence.execution, Self::BYTES_MAX)?;
        text("evidence.anchor", &evidence.anchor, Self::BYTES_MAX)?;
        if evidence.execution.is_empty() {
            return Err(ConvertError::unspecified("evidence.execution"));
        }
        Ok(Self::new(evidence.execution, evidence.anchor))
    }
}

impl From<AbortKind> for v1::AbortKind {
    fn from(kind: AbortKind) -> Self {
        match kind {
            AbortKind::Requested => Self::Requested,
            AbortKind::VotedNo => Self::VotedNo,
            AbortKind::LocalFailure => Self::LocalFailure,
            AbortKind::LockTimeout => Self::LockTimeout,
            AbortKind::Deadline => Self::Deadline,
            AbortKind::NotAttached => Self::NotAttached,
            AbortKind::BranchSetDiffers => Self::BranchSetDiffers,
            AbortKind::Resolved => Self::Resolved,
            AbortKind::OwnerEnded => Self::OwnerEnded,
            AbortKind::LogRefused => Self::LogRefused,
        }
    }
}

impl TryFrom<v1::AbortKind> for AbortKind {
    type Error = ConvertError;

    fn try_from(kind: v1::AbortKind) -> Result<Self, ConvertError> {
        Ok(match kind {
            v1::AbortKind::Unspecified => return Err(ConvertError::unspecified("reason.kind")),
            v1::AbortKind::Requested => Self::Requested,
            v1::AbortKind::VotedNo => Self::VotedNo,
            v1::AbortKind::LocalFailure => Self::LocalFailure,
            v1::AbortKind::LockTimeout => Self::LockTimeout,
            v1::AbortKind::Deadline => Self::Deadline,
            v1::AbortKind::NotAttached => Self::NotAttached,
            v1::AbortKind::BranchSetDiffers => Self::BranchSetDiffers,
            v1::AbortKind::Resolved => Self::Resolved,
            v1::AbortKind::OwnerEnded => Self::OwnerEnded,
            v1::AbortKind::LogRefused => Self::LogRefused,
        })
    }
}

impl From<AbortReason> for v1::AbortReason {
    fn from(reason: AbortReason) -> Self {
        Self { kind: v1::AbortKind::from(reason.kind).into(), message: reason.message.as_ref().to_owned() }
    }
}

/// A message that is too long is cut, not refused: it carries somebody else's text.
impl TryFrom<v1::AbortReason> for AbortReason {
    type Error = ConvertError;

    fn try_from(reason: v1::AbortReason) -> Result<Self, ConvertError> {
        let kind = v1::AbortKind::try_from(reason.kind)
            .map_err(|unknown| ConvertError::new("reason.kind", unknown.to_string()))?;
        Ok(Self::new(kind.try_into()?, &reason.message.replace('\0', "")))
    }
}

impl From<Vote> for v1::vote::Vote {
    fn from(vote: Vote) -> Self {
        match vote {
            Vote::Commit(evidence) => Self::Commit(evidence.into()),
            Vote::ReadOnly => Self::ReadOnly(true),
            Vote::Abort(reason) => Self::Abort(reason.into()),
        }
    }
}

impl TryFrom<v1::vote::Vote> for Vote {
    type Error = ConvertError;

    fn try_from(vote: v1::vote::Vote) -> Result<Self, ConvertError> {
        let within = |error: ConvertError| error.within("vote");
        match vote {
            v1::vote::Vote::Commit(evidence) => Ok(Self::Commit(evidence.try_into().map_err(within)?)),
            v1::vote::Vote::ReadOnly(true) => Ok(Self::ReadOnly),
            v1::vote::Vote::ReadOnly(false) => Err(ConvertError::new("vote.read_only", "it must be true")),
            v1::vote::Vote::Abort(reason) => Ok(Self::Abort(reason.try_into().map_err(within)?)),
        }
    }
}

impl From<RegisterAnswer> for v1::register_answer::Register {
    fn from(answer: RegisterAnswer) -> Self {
        match answer {
            RegisterAnswer::Committed => Self::Committed(true),
            RegisterAnswer::Aborted(reason) => Self::Aborted(reason.into()),
            RegisterAnswer::Unknown => Self::Unknown(true),
            RegisterAnswer::Forgotten => Self::Forgotten(true),
        }
    }
}

impl TryFrom<v1::register_answer::Register> for RegisterAnswer {
    type Error = ConvertError;

    fn try_from(answer: v1::register_answer::Register) -> Result<Self, ConvertError> {
        use v1::register_answer::Register;
        match answer {
            Register::Committed(true) => Ok(Self::Committed),
            Register::Aborted(reason) => {
                Ok(Self::Aborted(reason.try_into().map_err(|error: ConvertError| error.within("aborted"))?))
            }
            Register::Unknown(true) => Ok(Self::Unknown),
            Register::Forgotten(true) => Ok(Self::Forgotten),
            Register::Committed(false) | Register::Unknown(false) | Register::Forgotten(false) => {
                Err(ConvertError::new("register", "the value given must be true"))
            }
        }
    }
}

// ---- outcomes ---------------------------------------------------------------------------------

impl From<HeuristicOutcome> for v1::BranchOutcome {
    fn from(outcome: HeuristicOutcome) -> Self {
        match outcome {
            HeuristicOutcome::Committed => Self::HeuristicCommitted,
            HeuristicOutcome::Aborted => Self::HeuristicAborted,
            HeuristicOutcome::Mixed => Self::HeuristicMixed,
            HeuristicOutcome::Hazard => Self::HeuristicHazard,
        }
    }
}

impl From<BranchOutcome> for v1::BranchOutcome {
    fn from(outcome: BranchOutcome) -> Self {
        match outcome {
            BranchOutcome::Committed => Self::Committed,
            BranchOutcome::Aborted => Self::Aborted,
            BranchOutcome::Heuristic(heuristic) => heuristic.into(),
        }
    }
}

impl TryFrom<v1::BranchOutcome> for BranchOutcome {
    type Error = ConvertError;

    fn try_from(outcome: v1::BranchOutcome) -> Result<Self, ConvertError> {
        Ok(match outcome {
            v1::BranchOutcome::Unspecified => return Err(ConvertError::unspecified("outcome")),
            v1::BranchOutcome::Committed => Self::Committed,
            v1::BranchOutcome::Aborted => Self::Aborted,
            v1::BranchOutcome::HeuristicCommitted => Self::Heuristic(HeuristicOutcome::Committed),
            v1::BranchOutcome::HeuristicAborted => Self::Heuristic(HeuristicOutcome::Aborted),
            v1::BranchOutcome::HeuristicMixed => Self::Heuristic(HeuristicOutcome::Mixed),
            v1::BranchOutcome::HeuristicHazard => Self::Heuristic(HeuristicOutcome::Hazard),
        })
    }
}

impl v1::BranchOutcome {
    /// A heuristic outcome, or unspecified where there is none.
    pub fn from_heuristic(heuristic: Option<HeuristicOutcome>) -> Self {
        heuristic.map_or(Self::Unspecified, Self::from)
    }

    /// The heuristic outcome that this is, if it is one.
    ///
    /// # Errors
    /// A value that is neither unspecified nor heuristic.
    pub fn to_heuristic(self) -> Result<Option<HeuristicOutcome>, ConvertError> {
        if self == Self::Unspecified {
            return Ok(None);
        }
        match BranchOutcome::try_from(self)? {
            BranchOutcome::Heuristic(heuristic) => Ok(Some(heuristic)),
            BranchOutcome::Committed | BranchOutcome::Aborted => {
                Err(ConvertError::new("heuristic", "it must be a heuristic outcome"))
            }
        }
    }
}

impl From<TransactionOutcome> for v1::Outcome {
    fn from(outcome: TransactionOutcome) -> Self {
        let wire = |branches: Vec<Branch>| branches.into_iter().map(Into::into).collect();
        let state = |state: v1::OutcomeState| Self { state: state.into(), ..Self::default() };
        match outcome {
            TransactionOutcome::Committed { read_only, unfinished, heuristic } => Self {
                read_only,
                unfinished: wire(unfinished),
                heuristic: v1::BranchOutcome::from_heuristic(heuristic).into(),
                ..state(v1::OutcomeState::Committed)
            },
            TransactionOutcome::Aborted { reason, unfinished, heuristic } => Self {
                reason: Some(reason.into()),
                unfinished: wire(unfinished),
                heuristic: v1::BranchOutcome::from_heuristic(heuristic).into(),
                ..state(v1::OutcomeState::Aborted)
            },
            TransactionOutcome::Pending => state(v1::OutcomeState::Pending),
            TransactionOutcome::Unknown => state(v1::OutcomeState::Unknown),
            TransactionOutcome::NoRecord => state(v1::OutcomeState::NoRecord),
            TransactionOutcome::Forgotten => state(v1::OutcomeState::Forgotten),
        }
    }
}

impl TryFrom<v1::Outcome> for TransactionOutcome {
    type Error = ConvertError;

    fn try_from(outcome: v1::Outcome) -> Result<Self, ConvertError> {
        let state = v1::OutcomeState::try_from(outcome.state)
            .map_err(|unknown| ConvertError::new("outcome.state", unknown.to_string()))?;
        let heuristic = v1::BranchOutcome::try_from(outcome.heuristic)
            .map_err(|unknown| ConvertError::new("outcome.heuristic", unknown.to_string()))?
            .to_heuristic()?;
        let unfinished =
            outcome.unfinished.into_iter().map(Branch::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(match state {
            v1::OutcomeState::Unspecified => return Err(ConvertError::unspecified("outcome.state")),
            v1::OutcomeState::Pending => Self::Pending,
            v1::OutcomeState::Committed => {
                Self::Committed { read_only: outcome.read_only, unfinished, heuristic }
            }
            v1::OutcomeState::Aborted => {
                let reason = outcome.reason.ok_or_else(|| ConvertError::unspecified("outcome.reason"))?;
                Self::Aborted { reason: reason.try_into()?, unfinished, heuristic }
            }
            v1::OutcomeState::Unknown => Self::Unknown,
            v1::OutcomeState::NoRecord => Self::NoRecord,
            v1::OutcomeState::Forgotten => Self::Forgotten,
        })
    }
}

// ---- the rest ---------------------------------------------------------------------------------

impl From<Details> for v1::Details {
    fn from(details: Details) -> Self {
        Self {
            name: details.name.into(),
            labels: details.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            traceparent: details.traceparent.into(),
        }
    }
}

/// The digest of a one-shot request is not on the wire: whoever reads the request sets it.
impl TryFrom<v1::Details> for Details {
    type Error = ConvertError;

    fn try_from(details: v1::Details) -> Result<Self, ConvertError> {
        text("details.name", &details.name, limits::NAME_BYTES_MAX)?;
        text("details.traceparent", &details.traceparent, limits::TRACEPARENT_BYTES_MAX)?;
        if details.labels.len() > limits::LABELS_MAX {
            let problem = format!("at most {} are taken", limits::LABELS_MAX);
            return Err(ConvertError::new("details.labels", problem));
        }
        for (key, value) in &details.labels {
            if key.is_empty() {
                return Err(ConvertError::new("details.labels", "a key is empty"));
            }
            text("details.labels", key, limits::LABEL_KEY_BYTES_MAX)?;
            text("details.labels", value, limits::LABEL_VALUE_BYTES_MAX)?;
        }
        let labels = details.labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Ok(Self { name: details.name.into(), labels, traceparent: details.traceparent.into(), digest: None })
    }
}

impl From<Wait> for v1::Wait {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Finished => Self::Finished,
            Wait::Decision => Self::Decision,
        }
    }
}

impl From<v1::Wait> for Wait {
    fn from(wait: v1::Wait) -> Self {
        match wait {
            v1::Wait::Unspecified | v1::Wait::Finished => Self::Finished,
            v1::Wait::Decision => Self::Decision,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use uuid::Uuid;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the calls read as a list of values")]
    fn returns<Core, Wire>(value: Core)
    where
        Core: Clone + PartialEq + Debug + TryFrom<Wire, Error = ConvertError>,
        Wire: From<Core>,
    {
        assert_eq!(Core::try_from(Wire::from(value.clone())).unwrap(), value);
    }

    fn id() -> TransactionId {
        TransactionId {
            incarnation: Incarnation::from_uuid(Uuid::from_u128(1)),
            gid: Gid::from_uuid(Uuid::from_u128(2)),
        }
    }

    fn branch() -> Branch {
        Branch {
            id: BranchId::new(u64::MAX),
            resource: ResourceName::new("bank-a").unwrap(),
            instance: InstanceId::from_uuid(Uuid::from_u128(3)),
            marker: true,
        }
    }

    const KINDS: [AbortKind; 10] = [
        AbortKind::Requested,
        AbortKind::VotedNo,
        AbortKind::LocalFailure,
        AbortKind::LockTimeout,
        AbortKind::Deadline,
        AbortKind::NotAttached,
        AbortKind::BranchSetDiffers,
        AbortKind::Resolved,
        AbortKind::OwnerEnded,
        AbortKind::LogRefused,
    ];

    const HEURISTICS: [HeuristicOutcome; 4] = [
        HeuristicOutcome::Committed,
        HeuristicOutcome::Aborted,
        HeuristicOutcome::Mixed,
        HeuristicOutcome::Hazard,
    ];

    #[test]
    fn every_value_comes_back_as_it_went() {
        returns::<_, v1::TransactionId>(id());
        returns::<_, v1::Branch>(branch());
        returns::<_, v1::Branch>(Branch { instance: InstanceId::NIL, marker: false, ..branch() });
        returns::<_, v1::Evidence>(Evidence::new("753", "7/1/16B3748"));
        for kind in KINDS {
            let reason = AbortReason::new(kind, "because");
            returns::<_, v1::AbortReason>(reason.clone());
            returns::<_, v1::vote::Vote>(Vote::Abort(reason.clone()));
            returns::<_, v1::register_answer::Register>(RegisterAnswer::Aborted(reason.clone()));
            let heuristic = Some(HeuristicOutcome::Mixed);
            returns::<_, v1::Outcome>(TransactionOutcome::Aborted {
                reason,
                unfinished: vec![branch()],
                heuristic,
            });
        }
        returns::<_, v1::vote::Vote>(Vote::Commit(Evidence::new("x", "")));
        returns::<_, v1::vote::Vote>(Vote::ReadOnly);
        for answer in [RegisterAnswer::Committed, RegisterAnswer::Unknown, RegisterAnswer::Forgotten] {
            returns::<_, v1::register_answer::Register>(answer);
        }
        for outcome in [BranchOutcome::Committed, BranchOutcome::Aborted] {
            returns::<_, v1::BranchOutcome>(outcome);
        }
        for heuristic in HEURISTICS {
            returns::<_, v1::BranchOutcome>(BranchOutcome::Heuristic(heuristic));
            let (read_only, unfinished) = (true, vec![branch()]);
            returns::<_, v1::Outcome>(TransactionOutcome::Committed {
                read_only,
                unfinished,
                heuristic: Some(heuristic),
            });
        }
        for outcome in [
            TransactionOutcome::Pending,
            TransactionOutcome::Unknown,
            TransactionOutcome::NoRecord,
            TransactionOutcome::Forgotten,
        ] {
            returns::<_, v1::Outcome>(outcome);
        }
        returns::<_, v1::Details>(Details {
            name: "transfer".into(),
            labels: [("order".into(), "4711".into())].into(),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            digest: None,
        });
        for wait in [Wait::Finished, Wait::Decision] {
            assert_eq!(Wait::from(v1::Wait::from(wait)), wait);
        }
    }

    fn field<T: Debug>(result: Result<T, ConvertError>) -> String {
        result.unwrap_err().field
    }

    #[test]
    fn malformed_and_oversized_values_are_refused_with_their_field() {
        let short = v1::TransactionId { incarnation: vec![0; 15], gid: vec![1; 16] };
        assert_eq!(field(TransactionId::try_from(short)), "id.incarnation");
        let nil = v1::TransactionId { incarnation: vec![1; 16], gid: vec![0; 16] };
        assert_eq!(field(TransactionId::try_from(nil)), "id.gid");
        let wire = || v1::Branch::from(branch());
        assert_eq!(
            field(Branch::try_from(v1::Branch { resource: "Bank A".into(), ..wire() })),
            "branch.resource"
        );
        assert_eq!(
            field(Branch::try_from(v1::Branch { instance: vec![1; 17], ..wire() })),
            "branch.instance"
        );
        let long = "x".repeat(Evidence::BYTES_MAX + 1);
        let evidence = |execution: &str, anchor: &str| v1::Evidence {
            execution: execution.into(),
            anchor: anchor.into(),
        };
        assert_eq!(field(Evidence::try_from(evidence(&long, ""))), "evidence.execution");
        assert_eq!(field(Evidence::try_from(evidence("x", &long))), "evidence.anchor");
        assert_eq!(field(Evidence::try_from(evidence("", ""))), "evidence.execution");
        let details = |name: &str, labels: usize, value: &str| v1::Details {
            name: name.into(),
            labels: (0..labels).map(|n| (format!("k{n}"), value.to_owned())).collect(),
            traceparent: String::new(),
        };
        assert_eq!(field(Details::try_from(details(&"n".repeat(65), 0, ""))), "details.name");
        assert_eq!(field(Details::try_from(details("n", 17, ""))), "details.labels");
        assert_eq!(field(Details::try_from(details("n", 1, &"v".repeat(257)))), "details.labels");
        assert_eq!(field(Details::try_from(details("n\0", 0, ""))), "details.name");
        assert!(Details::try_from(details(&"n".repeat(64), 16, &"v".repeat(256))).is_ok());
    }

    #[test]
    fn unspecified_and_unknown_enums_are_refused() {
        let reason = |kind| v1::AbortReason { kind, message: String::new() };
        assert_eq!(field(AbortReason::try_from(reason(0))), "reason.kind");
        assert_eq!(field(AbortReason::try_from(reason(99))), "reason.kind");
        assert_eq!(field(BranchOutcome::try_from(v1::BranchOutcome::Unspecified)), "outcome");
        assert_eq!(field(TransactionOutcome::try_from(v1::Outcome::default())), "outcome.state");
        let aborted = v1::Outcome { state: v1::OutcomeState::Aborted.into(), ..v1::Outcome::default() };
        assert_eq!(field(TransactionOutcome::try_from(aborted)), "outcome.reason");
        assert_eq!(field(Vote::try_from(v1::vote::Vote::ReadOnly(false))), "vote.read_only");
        let never = v1::register_answer::Register::Committed(false);
        assert_eq!(field(RegisterAnswer::try_from(never)), "register");
    }

    #[test]
    fn a_reason_that_is_too_long_is_cut_at_a_character() {
        let long = v1::AbortReason { kind: v1::AbortKind::VotedNo.into(), message: "é".repeat(400) };
        let reason = AbortReason::try_from(long).unwrap();
        assert!(reason.message.len() <= limits::MESSAGE_BYTES_MAX);
        assert!(reason.message.chars().all(|character| character == 'é'));
    }
}
