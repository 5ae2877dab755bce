//! How a record is written into columns, and read back.
//!
//! Both databases hold the same columns; branches and details are JSON text, so that a person
//! with a database shell can read them and a server need not parse them. [`FORMAT`] numbers that
//! way of writing: what carries another number, or does not read back, is an error that names
//! the transaction and is never skipped (`failure-matrix` B10).
//!
//! It knows no SQL.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{DecidedBranch, Decision, DecisionRecord, Details, HeuristicOutcome};
use pactum_core::vote::{AbortKind, AbortReason, Evidence};
use serde::{Deserialize, Serialize};

use super::{DecisionLogError, LogEventKind, Proposal};

/// The way of writing that this code writes, and the only one that it reads.
pub(super) const FORMAT: i16 = 1;

/// A branch as JSON. Evidence is absent where the branch has not voted.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct BranchText<'a> {
    branch: Cow<'a, str>,
    resource: Cow<'a, str>,
    instance: Cow<'a, str>,
    marker: bool,
    #[serde(default)]
    #[cfg_attr(test, serde(skip_serializing_if = "str::is_empty"))]
    execution: Cow<'a, str>,
    #[serde(default)]
    #[cfg_attr(test, serde(skip_serializing_if = "str::is_empty"))]
    anchor: Cow<'a, str>,
}

/// What the application said, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DetailsText<'a> {
    #[serde(default, skip_serializing_if = "str::is_empty")]
    name: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    traceparent: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

/// A row of the table of decisions, but for the two names, which each database writes in its way.
#[derive(Clone, Debug)]
pub(super) struct DecisionColumns {
    pub(super) number: i64,
    pub(super) decision: Cow<'static, str>,
    pub(super) reason_kind: Option<Cow<'static, str>>,
    pub(super) reason_message: Option<String>,
    pub(super) branches: Option<String>,
    pub(super) details: String,
    pub(super) format: i16,
}

impl DecisionColumns {
    /// The columns of a proposal, or what is wrong with it. Checked here so that a proposal that
    /// the table would refuse can never fail the batch that it travels in.
    pub(super) fn of(proposal: &Proposal) -> Result<Self, &'static str> {
        let record = &proposal.record;
        let number = i64::try_from(proposal.number).or(Err("its number is out of range"))?;
        let (decision, branches) = match (record.decision, &record.reason) {
            (Decision::Commit, _) if number == 0 => return Err("a commit without a number"),
            (Decision::Commit, Some(_)) => return Err("a commit with a reason to abort"),
            (Decision::Commit, None) => ("commit", Some(branches_text(decided(&record.branches)))),
            (Decision::Abort, _) if number != 0 => return Err("an abort with a number"),
            (Decision::Abort, _) if !record.branches.is_empty() => return Err("an abort with branches"),
            (Decision::Abort, None) => return Err("an abort without a reason"),
            (Decision::Abort, Some(_)) => ("abort", None),
        };
        Ok(Self {
            number,
            decision: decision.into(),
            reason_kind: record.reason.as_ref().map(|reason| kind_text(reason.kind).into()),
            // The one free text that stands in a column of its own. PostgreSQL stores no NUL, and a
            // message for people is no reason to fail a decision.
            reason_message: record.reason.as_ref().map(|r| r.message.replace('\0', "\u{fffd}")),
            branches,
            details: details_text(&record.details),
            format: FORMAT,
        })
    }

    /// The record.
    ///
    /// # Errors
    /// [`DecisionLogError::Corrupt`].
    pub(super) fn record(&self, id: TransactionId) -> Result<DecisionRecord, DecisionLogError> {
        self.read(id).map_err(|problem| corrupt(id.gid, problem))
    }

    fn read(&self, id: TransactionId) -> Result<DecisionRecord, String> {
        check_format(self.format)?;
        let details = Arc::new(read_details(&self.details)?);
        match (&*self.decision, &self.reason_kind, &self.reason_message, &self.branches) {
            ("commit", None, None, Some(branches)) => Ok(DecisionRecord {
                id,
                decision: Decision::Commit,
                reason: None,
                branches: read_branches(branches)?.into(),
                details,
            }),
            ("abort", Some(kind), Some(message), None) => Ok(DecisionRecord {
                id,
                decision: Decision::Abort,
                reason: Some(AbortReason::new(read_kind(kind)?, message)),
                branches: Arc::new([]),
                details,
            }),
            (decision, ..) => Err(format!("columns of a decision {decision:?} contradict each other")),
        }
    }
}

/// The error for a row that does not read back.
pub(super) fn corrupt(gid: Gid, problem: impl Into<String>) -> DecisionLogError {
    DecisionLogError::Corrupt { gid: gid.to_string(), problem: problem.into() }
}

/// A record that is read among others: one that cannot be read is told as an error, and concerns its own
/// transaction alone (B10).
pub(super) fn or_unknown(
    gid: Gid,
    record: Result<DecisionRecord, DecisionLogError>,
) -> Option<DecisionRecord> {
    if let Err(error) = &record {
        tracing::error!(%gid, %error, "a record in the decision log cannot be read");
    }
    record.ok()
}

/// Refuses a way of writing that is not ours.
pub(super) fn check_format(format: i16) -> Result<(), String> {
    if format == FORMAT { Ok(()) } else { Err(format!("written in format {format}, only {FORMAT} is known")) }
}

fn decided(branches: &[DecidedBranch]) -> impl Iterator<Item = (&Branch, Option<&Evidence>)> {
    branches.iter().map(|decided| (&decided.branch, Some(&decided.evidence)))
}

/// Branches of an undecided transaction as JSON text.
pub(super) fn undecided_branches_text(branches: &[Branch]) -> String {
    branches_text(branches.iter().map(|branch| (branch, None)))
}

/// Written by hand: this is once for each branch of each commit, and what stands in it needs no escaping but
/// for the two texts of the evidence. Reads back by [`BranchText`].
fn branches_text<'a>(branches: impl Iterator<Item = (&'a Branch, Option<&'a Evidence>)>) -> String {
    let mut text = String::with_capacity(512);
    let mut separator = '[';
    for (branch, evidence) in branches {
        let mut instance = [0; uuid::fmt::Hyphenated::LENGTH];
        text.push(separator);
        text.push_str("{\"branch\":\"");
        push_hex(&mut text, branch.id.number());
        text.push_str("\",\"resource\":\"");
        text.push_str(branch.resource.as_str());
        text.push_str("\",\"instance\":\"");
        text.push_str(branch.instance.as_uuid().hyphenated().encode_lower(&mut instance));
        text.push_str(if branch.marker { "\",\"marker\":true" } else { "\",\"marker\":false" });
        if let Some(Evidence { execution, anchor }) = evidence {
            push_text(&mut text, "execution", execution);
            push_text(&mut text, "anchor", anchor);
        }
        text.push('}');
        separator = ',';
    }
    text.push_str(if separator == '[' { "[]" } else { "]" });
    text
}

/// 16 digits.
fn push_hex(text: &mut String, number: u64) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for nibble in (0..16).rev() {
        text.push(DIGITS[usize::try_from((number >> (nibble * 4)) & 15).unwrap_or(0)]);
    }
}

/// A further member, unless it is empty.
fn push_text(text: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    text.push_str(",\"");
    text.push_str(name);
    text.push_str("\":");
    if value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        text.push('"');
        text.push_str(value);
        text.push('"');
    } else {
        text.push_str(&serde_json::to_string(value).expect("plain strings always have a JSON form"));
    }
}

/// Reads what [`branches_text`] wrote.
pub(super) fn read_branches(text: &str) -> Result<Vec<DecidedBranch>, String> {
    let texts: Vec<BranchText<'_>> =
        serde_json::from_str(text).map_err(|error| format!("its branches: {error}"))?;
    texts.iter().map(read_branch).collect()
}

fn read_branch(text: &BranchText<'_>) -> Result<DecidedBranch, String> {
    let name = |error: pactum_core::id::NameError| format!("its branches: {error}");
    Ok(DecidedBranch {
        branch: Branch {
            id: text.branch.parse::<BranchId>().map_err(name)?,
            resource: ResourceName::new(&text.resource).map_err(name)?,
            instance: text.instance.parse::<InstanceId>().map_err(name)?,
            marker: text.marker,
        },
        evidence: Evidence::new(&*text.execution, &*text.anchor),
    })
}

/// Details as JSON text; empty if nothing was said, as for most aborts.
pub(super) fn details_text(details: &Details) -> String {
    if *details == Details::default() {
        return String::new();
    }
    if let Details { name, labels, traceparent, digest: Some(digest) } = details
        && name.is_empty()
        && labels.is_empty()
        && traceparent.is_empty()
    {
        // As any one-shot transaction of which nothing was said.
        let mut text = String::with_capacity(48);
        text.push_str("{\"digest\":\"");
        let (high, low) = digest.split_at(8);
        for half in [high, low] {
            push_hex(&mut text, half.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
        }
        text.push_str("\"}");
        return text;
    }
    let text = DetailsText {
        name: (&*details.name).into(),
        labels: details.labels.iter().map(|(key, value)| ((&**key).into(), (&**value).into())).collect(),
        traceparent: (&*details.traceparent).into(),
        digest: details.digest.map(|digest| format!("{:032x}", u128::from_be_bytes(digest))),
    };
    serde_json::to_string(&text).expect("plain strings always have a JSON form")
}

/// Reads what [`details_text`] wrote.
pub(super) fn read_details(text: &str) -> Result<Details, String> {
    if text.is_empty() {
        return Ok(Details::default());
    }
    let read: DetailsText<'_> =
        serde_json::from_str(text).map_err(|error| format!("its details: {error}"))?;
    let digest = match read.digest {
        Some(hex) if hex.len() == 32 => match u128::from_str_radix(&hex, 16) {
            Ok(digest) => Some(digest.to_be_bytes()),
            Err(error) => return Err(format!("its digest: {error}")),
        },
        Some(_) => return Err("its digest is not 32 hexadecimal digits".into()),
        None => None,
    };
    Ok(Details {
        name: (&*read.name).into(),
        labels: read.labels.iter().map(|(key, value)| ((&**key).into(), (&**value).into())).collect(),
        traceparent: (&*read.traceparent).into(),
        digest,
    })
}

/// Every kind of abort with its name in the log. The names are part of the stored format.
const KINDS: [(AbortKind, &str); 10] = [
    (AbortKind::Requested, "requested"),
    (AbortKind::VotedNo, "voted-no"),
    (AbortKind::LocalFailure, "local-failure"),
    (AbortKind::LockTimeout, "lock-timeout"),
    (AbortKind::Deadline, "deadline"),
    (AbortKind::NotAttached, "not-attached"),
    (AbortKind::BranchSetDiffers, "branch-set-differs"),
    (AbortKind::Resolved, "resolved"),
    (AbortKind::OwnerEnded, "owner-ended"),
    (AbortKind::LogRefused, "log-refused"),
];

fn kind_text(kind: AbortKind) -> &'static str {
    match kind {
        AbortKind::Requested => "requested",
        AbortKind::VotedNo => "voted-no",
        AbortKind::LocalFailure => "local-failure",
        AbortKind::LockTimeout => "lock-timeout",
        AbortKind::Deadline => "deadline",
        AbortKind::NotAttached => "not-attached",
        AbortKind::BranchSetDiffers => "branch-set-differs",
        AbortKind::Resolved => "resolved",
        AbortKind::OwnerEnded => "owner-ended",
        AbortKind::LogRefused => "log-refused",
    }
}

fn read_kind(text: &str) -> Result<AbortKind, String> {
    let found = KINDS.iter().find(|(_, name)| *name == text);
    found.map(|(kind, _)| *kind).ok_or_else(|| format!("unknown kind of abort {text:?}"))
}

/// A heuristic outcome's name in the log.
pub(super) fn outcome_text(outcome: HeuristicOutcome) -> &'static str {
    match outcome {
        HeuristicOutcome::Committed => "committed",
        HeuristicOutcome::Aborted => "aborted",
        HeuristicOutcome::Mixed => "mixed",
        HeuristicOutcome::Hazard => "hazard",
    }
}

/// Reads what [`outcome_text`] wrote.
pub(super) fn read_outcome(text: &str) -> Result<HeuristicOutcome, String> {
    match text {
        "committed" => Ok(HeuristicOutcome::Committed),
        "aborted" => Ok(HeuristicOutcome::Aborted),
        "mixed" => Ok(HeuristicOutcome::Mixed),
        "hazard" => Ok(HeuristicOutcome::Hazard),
        _ => Err(format!("unknown heuristic outcome {text:?}")),
    }
}

/// Reads the column of a decision by itself; none where none stands.
pub(super) fn read_decision(gid: Gid, text: Option<&str>) -> Result<Option<Decision>, DecisionLogError> {
    match text {
        None => Ok(None),
        Some("commit") => Ok(Some(Decision::Commit)),
        Some("abort") => Ok(Some(Decision::Abort)),
        Some(other) => Err(corrupt(gid, format!("unknown decision {other:?}"))),
    }
}

/// Reads what [`LogEventKind::name`] wrote.
pub(super) fn read_event_kind(name: &str) -> Result<LogEventKind, DecisionLogError> {
    LogEventKind::from_name(name).ok_or_else(|| DecisionLogError::SchemaNotReady {
        problem: format!("it holds an event of the unknown kind {name:?}"),
    })
}

/// A branch id as the signed number that both databases can hold.
pub(super) fn branch_number(branch: BranchId) -> i64 {
    branch.number().cast_signed()
}

/// Reads what [`branch_number`] wrote.
pub(super) fn read_branch_number(number: i64) -> BranchId {
    BranchId::new(number.cast_unsigned())
}

/// The pair.
pub(super) fn id_of(incarnation: uuid::Uuid, gid: uuid::Uuid) -> TransactionId {
    TransactionId { incarnation: Incarnation::from_uuid(incarnation), gid: Gid::from_uuid(gid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_abort_reads_back_as_itself() {
        for (kind, name) in KINDS {
            assert_eq!(kind_text(kind), name);
            assert_eq!(read_kind(name).unwrap(), kind);
        }
        assert!(read_kind("deadlines").is_err());
    }

    #[test]
    fn branches_are_written_as_their_form_says() {
        let branch = |number, resource: &str, marker| Branch {
            id: BranchId::new(number),
            resource: ResourceName::new(resource).unwrap(),
            instance: InstanceId::from_uuid(uuid::Uuid::from_u128(u128::from(number) << 60)),
            marker,
        };
        let branches = [branch(0x01ab_cdef_0123_4567, "bank-a", true), branch(7, "b.c_d", false)];
        let evidences = [
            None,
            Some(Evidence::new("18446744073", "7412345678901234567/1/0-1A2B3C4D")),
            Some(Evidence::new("a \"quote\", a \\ and a\nline", "\u{1}é")),
            Some(Evidence::new("x", "")),
        ];
        for evidence in &evidences {
            let all = || branches.iter().map(|branch| (branch, evidence.as_ref()));
            let texts: Vec<BranchText<'_>> = all()
                .map(|(branch, evidence)| BranchText {
                    branch: branch.id.to_string().into(),
                    resource: branch.resource.as_str().into(),
                    instance: branch.instance.to_string().into(),
                    marker: branch.marker,
                    execution: evidence.map_or("", |evidence| &*evidence.execution).into(),
                    anchor: evidence.map_or("", |evidence| &*evidence.anchor).into(),
                })
                .collect();
            let written = branches_text(all());
            assert_eq!(written, serde_json::to_string(&texts).unwrap());
            for (read, (branch, evidence)) in read_branches(&written).unwrap().iter().zip(all()) {
                assert_eq!((&read.branch, &read.evidence), (branch, &evidence.cloned().unwrap_or_default()));
            }
        }
        assert_eq!(branches_text(std::iter::empty()), "[]");
    }

    #[test]
    fn details_of_a_digest_alone_are_written_as_their_form_says() {
        let digest = 0x00ff_1234_5678_9abc_def0_1122_3344_0000_u128;
        let details = Details { digest: Some(digest.to_be_bytes()), ..Details::default() };
        assert_eq!(details_text(&details), format!("{{\"digest\":\"{digest:032x}\"}}"));
        assert_eq!(read_details(&details_text(&details)).unwrap(), details);
    }

    #[test]
    fn what_is_written_otherwise_is_refused() {
        let id = id_of(uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
        let reason = AbortReason::new(AbortKind::Deadline, "late");
        let proposal = Proposal { record: DecisionRecord::abort(id, reason), number: 0 };
        let good = DecisionColumns::of(&proposal).unwrap();
        assert_eq!(good.record(id).unwrap(), proposal.record);
        for bad in [
            DecisionColumns { format: 2, ..good.clone() },
            DecisionColumns { decision: "maybe".into(), ..good.clone() },
            DecisionColumns { branches: Some("[]".into()), ..good.clone() },
            DecisionColumns { reason_kind: None, ..good.clone() },
            DecisionColumns { details: "{\"colour\":1}".into(), ..good.clone() },
            DecisionColumns { details: "{\"digest\":\"abc\"}".into(), ..good.clone() },
        ] {
            let refused = bad.record(id).unwrap_err();
            assert!(matches!(&refused, DecisionLogError::Corrupt { .. }), "{bad:?}");
        }
    }

    #[test]
    fn a_proposal_that_the_table_would_refuse_is_found_before_it_is_sent() {
        let id = id_of(uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
        let abort = DecisionRecord::abort(id, AbortReason::new(AbortKind::Deadline, "late"));
        let commit = DecisionRecord { decision: Decision::Commit, reason: None, ..abort.clone() };
        for (record, number) in [
            (commit.clone(), 0),
            (commit.clone(), u64::MAX),
            (DecisionRecord { reason: abort.reason.clone(), ..commit }, 1),
            (abort.clone(), 1),
            (DecisionRecord { reason: None, ..abort }, 0),
        ] {
            assert!(DecisionColumns::of(&Proposal { record, number }).is_err());
        }
    }
}
