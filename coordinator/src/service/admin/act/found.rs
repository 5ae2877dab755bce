//! Acts whose coordinator died in the middle: another one looks how things stand and writes that down as
//! the act's end. Nothing of the act is done again: whoever wanted it can plan it anew.
//!
//! One thing is made up for. A branch that was ended by hand as asked, and of which that was not kept
//! yet, is kept as a heuristic outcome now: nobody else may ever hear of it.

use pactum_core::id::{Branch, BranchId, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::HeuristicOutcome;
use pactum_core::vote::Evidence;
use pactum_proto::v1::BranchPresence;
use serde_json::Value;

use super::super::Admin;
use super::gather::{Seen, Subject, Verdict, log_failed};
use super::given::Act;
use super::state::{State, TransactionState};
use crate::decision_log::{AuditDraft, AuditEntry, AuditKind, DecisionLogError, HeuristicRecord};
use crate::error::ServiceError;
use crate::service::wire;

/// How a target was found.
struct Now {
    after: String,
    result: String,
}

/// Why nothing is written down yet: it is looked again later.
#[derive(Debug)]
enum NotYet {
    /// The log did not answer.
    Log(ServiceError),
    /// A database did not say what became of a branch.
    Silent(String),
}

impl Admin {
    /// Completes the acts that dead coordinators had begun, those that fall to us. What cannot be told
    /// yet is left for the next call.
    pub(crate) async fn complete_acts(
        &self,
        falls_to_us: impl Fn(u64) -> bool,
    ) -> Result<(), DecisionLogError> {
        for entry in self.log.unended_audits().await? {
            if self.trail.is_under_way(entry.number) || !falls_to_us(entry.number) {
                continue;
            }
            let (number, act, on) = (entry.number, &entry.draft.act, &entry.draft.target);
            match self.find_out(&entry).await {
                Ok(Now { after, result }) => {
                    let draft = AuditDraft {
                        kind: AuditKind::Found,
                        begun: Some(number),
                        plan: String::new(),
                        after,
                        result: result.clone(),
                        incarnation: self.lifecycle.own(),
                        ..entry.draft.clone()
                    };
                    self.trail.found(&draft).await?;
                    tracing::warn!(
                        target: "pactum::audit", begun = number, act, on, result,
                        "an act whose coordinator died was looked at"
                    );
                }
                Err(NotYet::Log(error)) => {
                    tracing::debug!(begun = number, %error, "an act cannot be completed yet");
                }
                Err(NotYet::Silent(why)) => {
                    tracing::debug!(begun = number, why, "an act cannot be completed yet");
                }
            }
        }
        Ok(())
    }

    /// Drops heuristic outcomes that turned out as the decision has it: nothing is wrong any more (G3).
    pub(crate) async fn clear_agreeing(&self) -> Result<(), DecisionLogError> {
        loop {
            let cleared = self.log.clear_agreeing_heuristics().await?;
            if cleared.is_empty() {
                return Ok(());
            }
            for HeuristicRecord { id, branch, outcome } in cleared {
                tracing::info!(
                    gid = %id.gid, branch = %branch.id, resource = %branch.resource, ?outcome,
                    "a heuristic outcome agrees with the decision, and is kept no longer"
                );
            }
        }
    }

    async fn find_out(&self, begun: &AuditEntry) -> Result<Now, NotYet> {
        let AuditDraft { act, target, before, .. } = &begun.draft;
        let (gid, branch) = Act::read_target(target);
        match act.as_str() {
            "retry" | "resolve" | "forget" | "overrule-commit" | "overrule-rollback" => {
                let at = branch.as_ref().map(|(resource, _)| resource);
                let subject = self.subject_if_known(gid, at).await?;
                let result = match branch.as_ref().and_then(|(at, id)| ByHand::read(gid, at, *id, before)) {
                    Some(mut by_hand) if act.starts_with("overrule") => {
                        let known = subject.as_ref().and_then(|known| known.branches.get(&by_hand.branch.id));
                        if let Some(Seen { branch, .. }) = known {
                            by_hand.branch = branch.clone();
                        }
                        self.branch_result(act == "overrule-commit", by_hand).await?
                    }
                    Some(_) | None => result_of(act, subject.as_ref()),
                };
                // What was kept just now belongs to how it is found.
                let after = match self.subject_if_known(gid, at).await? {
                    Some(subject) => State::Transaction(TransactionState::from(&subject)).json(),
                    None => "{}".to_owned(),
                };
                Ok(Now { after, result })
            }
            "release" => {
                let state = self.doubt_state().await.map_err(NotYet::Log)?;
                let result = match target.split(' ').nth(1) {
                    Some(one) if state.doubted.iter().any(|doubted| doubted == one) => "it is still in doubt",
                    Some(_) => "it is not in doubt",
                    None if state.doubted.is_empty() && !state.absent_doubted => "nothing is in doubt",
                    None => "some are in doubt still",
                };
                Ok(Now { after: State::Doubt(state).json(), result: result.to_owned() })
            }
            "drain" | "resume" => {
                let resource = ResourceName::new(gid).ok();
                let instance = target.split(' ').nth(1).and_then(|word| word.parse::<InstanceId>().ok());
                let state =
                    resource.map(|resource| self.draining_of(&resource, instance)).unwrap_or_default();
                let draining = state.participants.iter().filter(|participant| participant.draining).count();
                let result = format!("of {} attached here {draining} drain", state.participants.len());
                Ok(Now { after: State::Participants(state).json(), result })
            }
            // Of a version to come; whoever knows it may still complete it, but it must not wait for ever.
            _ => Ok(Now {
                after: "{}".to_owned(),
                result: "an act that this version does not know".to_owned(),
            }),
        }
    }

    async fn subject_if_known(
        &self,
        gid: &str,
        at: Option<&ResourceName>,
    ) -> Result<Option<Subject>, NotYet> {
        match self.subject(gid, at).await {
            Ok(subject) => Ok(Some(subject)),
            Err(ServiceError::NoTransaction { .. }) => Ok(None),
            Err(error) => Err(NotYet::Log(error)),
        }
    }

    /// What became of a branch that was to be ended by hand.
    async fn branch_result(&self, commit: bool, by_hand: ByHand) -> Result<String, NotYet> {
        let ByHand { id, branch, evidence } = by_hand;
        let question = wire::question(id, branch.clone(), Some(evidence));
        let mut answers = self.examiner.each(&branch.resource, vec![question]).await;
        let finding = match answers.remove(&(id.gid, branch.id)) {
            Some(Ok(finding)) => finding,
            Some(Err(silent)) => return Err(NotYet::Silent(silent.to_string())),
            None => return Err(NotYet::Silent("nobody answered".to_owned())),
        };
        let (asked_for, word) = match finding.presence() {
            BranchPresence::Prepared => {
                return Ok("the branch is prepared: the order did not reach it".to_owned());
            }
            BranchPresence::Open => return Ok("the branch is open: the order did not reach it".to_owned()),
            BranchPresence::Unknown | BranchPresence::Unspecified => {
                return Ok("its database cannot tell what became of the branch".to_owned());
            }
            BranchPresence::Committed => (commit, "committed"),
            BranchPresence::Aborted => (!commit, "aborted"),
        };
        if !asked_for {
            return Ok(format!("the branch is {word}: not by this act"));
        }
        let failed = |error: DecisionLogError| NotYet::Log(log_failed(&error));
        let kept = self.log.heuristics(&[id.gid]).await.map_err(failed)?;
        if !kept.iter().any(|record| record.branch.id == branch.id) {
            let outcome = if commit { HeuristicOutcome::Committed } else { HeuristicOutcome::Aborted };
            let record = HeuristicRecord { id, branch: branch.clone(), outcome };
            self.log.record_heuristics(&[record]).await.map_err(failed)?;
            tracing::error!(
                gid = %id.gid, branch = %branch.id, resource = %branch.resource, outcome = word,
                "a branch ended without the decision"
            );
        }
        Ok(format!("the branch is {word}, as was asked for"))
    }
}

/// A branch that was to be ended by hand, as the beginning of the act tells.
struct ByHand {
    id: TransactionId,
    branch: Branch,
    evidence: Evidence,
}

impl ByHand {
    /// Reads the state before the act. `None` of an undecided transaction, which was to be closed, and of
    /// a branch that was not prepared.
    fn read(gid: &str, resource: &ResourceName, branch: BranchId, before: &str) -> Option<Self> {
        let before: Value = serde_json::from_str(before).ok()?;
        let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
        if text(&before, "state")? == "undecided" {
            return None;
        }
        let id = TransactionId {
            incarnation: text(&before, "incarnation")?.parse().ok()?,
            gid: gid.parse().ok()?,
        };
        let name = branch.to_string();
        let mut branches = before.get("branches")?.as_array()?.iter();
        let state = branches.find(|state| text(state, "branch").as_ref() == Some(&name))?;
        let execution = text(state, "prepared").filter(|execution| !execution.is_empty())?;
        let evidence = Evidence::new(execution, text(state, "anchor").unwrap_or_default());
        // Whoever enlisted it is not known any more.
        let instance = InstanceId::NIL;
        let branch = Branch { id: branch, resource: resource.clone(), instance, marker: false };
        Some(Self { id, branch, evidence })
    }
}

/// What became of an act on a whole transaction.
fn result_of(act: &str, subject: Option<&Subject>) -> String {
    let Some(subject) = subject else {
        return "nothing is recorded of it: it was not committed through the log".to_owned();
    };
    match (act, subject.verdict) {
        ("forget", _) if subject.heuristics.is_empty() => "nothing is kept of it any more".to_owned(),
        ("forget", _) => "its heuristic outcomes are still kept".to_owned(),
        (_, Verdict::Committed { finished: true }) => "it is committed, and finished".to_owned(),
        (_, Verdict::Committed { finished: false }) => "it is committed, and being driven".to_owned(),
        (_, Verdict::Aborted) => "it is aborted".to_owned(),
        (_, Verdict::Undecided) => "it is still undecided".to_owned(),
        (_, Verdict::Quarantined(why)) => format!("nothing can be known of it: {why}"),
    }
}
