//! Performing: what was planned is done, or nothing.
//!
//! Two operators at once, at one coordinator or at two: the entries of the audit are in one order, and
//! each act's beginning is among them before it does anything. Whoever finds a beginning before his own
//! that touches the same target and has no end yet is refused; and where entries that touch it have come
//! in since he looked, he looks again, and is refused if the state is another one. So of two that planned
//! for the same state the first acts and the second is told what has changed.

use std::collections::BTreeSet;

use pactum_core::id::Incarnation;
use pactum_core::outcome::Decision;
use pactum_proto::error::ErrorCode;
use pactum_proto::v1;

use super::super::Admin;
use super::gather::log_failed;
use super::given::Act;
use super::plan::{Planned, Work};
use super::state::{State, TransactionState};
use super::trail::Begun;
use super::{Caller, End, Refusal};
use crate::decision_log::{AuditDraft, AuditEntry, AuditKind};
use crate::error::ServiceError;

/// Entries before an act's own among which others' beginnings are looked for. One that is older and
/// still has no end is not noticed: by then a thousand others have come after it.
const RECENT: u32 = 1000;

impl Admin {
    /// Does an act on the state that it was planned for.
    pub(super) async fn perform(
        &self,
        act: Act,
        hash: &str,
        reason: &str,
        caller: &Caller,
    ) -> Result<v1::PerformActResponse, ServiceError> {
        let head = self.trail.head().await.map_err(|error| log_failed(&error))?;
        let planned = self.plan(&act).await?;
        if !planned.hash.eq_ignore_ascii_case(hash) {
            self.metrics.act(planned.act.name(), "changed");
            return Err(changed(&planned).into());
        }
        // An attempt that the state refuses is written down as well: somebody wanted it.
        let draft = self.beginning(&planned, reason, caller);
        let begun = self.trail.begin(draft, head).await.map_err(|error| ServiceError::LogFailed {
            why: format!("{}: no act without its beginning in the audit", crate::journal::chain(&error)),
        })?;
        let AuditEntry { number, draft, .. } = &begun.entry;
        let AuditDraft { act: name, target, .. } = draft;
        let Caller { who, origin } = caller;
        tracing::info!(target: "pactum::audit", number, who, origin, act = name, on = target, reason, "an act begins");
        let work = self.may_go_on(&begun, &planned).await;
        let overruled = if let Ok(Work::Overrule { commit, .. }) = &work { Some(*commit) } else { None };
        let end = match work {
            Ok(work) => self.carry_out(work, reason).await,
            Err(refusal) => End::Refused(refusal),
        };
        self.metrics.act(planned.act.name(), end.name());
        if let (Some(commit), End::Done(_)) = (overruled, &end) {
            self.metrics.overruled(if commit { Decision::Commit } else { Decision::Abort });
        }
        let (after, transaction) = self.afterwards(&planned).await;
        self.told(&begun, end, after, transaction).await
    }

    fn beginning(&self, planned: &Planned, reason: &str, caller: &Caller) -> AuditDraft {
        AuditDraft {
            kind: AuditKind::Begun,
            begun: None,
            who: caller.who.clone(),
            origin: caller.origin.clone(),
            act: planned.act.name().to_owned(),
            target: planned.act.target(),
            reason: reason.to_owned(),
            plan: planned.text(),
            before: planned.state.json(),
            after: String::new(),
            result: String::new(),
            incarnation: self.lifecycle.own(),
        }
    }

    /// What is to be done, unless the plan is refused or others have come between.
    async fn may_go_on(&self, begun: &Begun, planned: &Planned) -> Result<Work, Refusal> {
        let work = planned.work.clone()?;
        let not_read = |why: String| Refusal::new(ErrorCode::LogUnavailable, why);
        let recent = self.trail.before(begun.entry.number, RECENT).await;
        let recent = recent.map_err(|error| not_read(log_failed(&error).to_string()))?;
        let target = &begun.entry.draft.target;
        let ended: BTreeSet<u64> = recent.iter().filter_map(|entry| entry.draft.begun).collect();
        let others = || recent.iter().filter(|entry| touches(&entry.draft.target, target));
        let live = self.live();
        let is_open = |entry: &&AuditEntry| {
            entry.draft.kind == AuditKind::Begun
                && !ended.contains(&entry.number)
                && entry.draft.incarnation.is_some_and(|incarnation| live.contains(&incarnation))
        };
        if let Some(AuditEntry { number, draft, .. }) = others().find(is_open) {
            let message = format!("{} is at it (entry {number} of the audit: {})", draft.who, draft.act);
            return Err(Refusal::new(ErrorCode::PlanChanged, message));
        }
        if others().any(|entry| entry.number > begun.head) {
            let now = self.plan(&planned.act).await.map_err(|error| not_read(error.to_string()))?;
            if now.hash != planned.hash {
                return Err(changed(&now));
            }
            return now.work;
        }
        Ok(work)
    }

    /// Every coordinator that is alive.
    fn live(&self) -> BTreeSet<Incarnation> {
        let members = self.lifecycle.members().into_iter().map(|member| member.incarnation);
        members.chain(self.lifecycle.own()).collect()
    }

    async fn carry_out(&self, work: Work, reason: &str) -> End {
        match work {
            Work::Retry { id, record } => self.retry(id, record),
            Work::Resolve { id, branches } => self.resolve(id, branches, reason).await,
            Work::Overrule { id, branch, evidence, commit, driven } => {
                self.overrule(id, &branch, &evidence, commit, driven).await
            }
            Work::Forget { id } => self.forget(id).await,
            Work::Release(which) => self.release(which, reason).await,
            Work::Drain { resource, instance, draining } => self.drain(&resource, instance, draining).await,
        }
    }

    /// The state after an act, for the audit, and the transaction as it is then.
    async fn afterwards(&self, planned: &Planned) -> (String, Option<v1::Transaction>) {
        match self.state_of(&planned.act).await {
            Ok((state, transaction)) => (state.json(), transaction),
            Err(error) => (not_known(&error), None),
        }
    }

    /// How the target of an act stands now.
    pub(super) async fn state_of(&self, act: &Act) -> Result<(State, Option<v1::Transaction>), ServiceError> {
        match act {
            Act::Retry { .. } | Act::Resolve { .. } | Act::Overrule { .. } | Act::Forget { .. } => {
                let at = if let Act::Overrule { resource, .. } = act { Some(resource) } else { None };
                let subject = self.subject(act.gid().unwrap_or_default(), at).await?;
                Ok((State::Transaction(TransactionState::from(&subject)), Some(subject.shown)))
            }
            Act::Release(_) => Ok((State::Doubt(self.doubt_state().await?), None)),
            Act::Drain { resource, instance, .. } => {
                Ok((State::Participants(self.draining_of(resource, *instance)), None))
            }
        }
    }

    /// Writes the end, and answers.
    async fn told(
        &self,
        begun: &Begun,
        end: End,
        after: String,
        transaction: Option<v1::Transaction>,
    ) -> Result<v1::PerformActResponse, ServiceError> {
        let (kind, result, error) = match end {
            End::Done(summary) => (AuditKind::Done, summary, None),
            End::Refused(refusal) => (AuditKind::Refused, sentence(&refusal), Some(refusal)),
            End::Failed(refusal) => (AuditKind::Failed, sentence(&refusal), Some(refusal)),
        };
        let AuditDraft { who, origin, act, target, .. } = &begun.entry.draft;
        let number = begun.entry.number;
        if error.is_none() {
            tracing::info!(target: "pactum::audit", begun = number, who, origin, act, on = target, result, "an act is done");
        } else {
            tracing::warn!(target: "pactum::audit", begun = number, who, origin, act, on = target, result, "an act was not done");
        }
        let draft = AuditDraft {
            kind,
            begun: Some(number),
            plan: String::new(),
            after,
            result: result.clone(),
            incarnation: self.lifecycle.own().or(begun.entry.draft.incarnation),
            ..begun.entry.draft.clone()
        };
        let written = self.trail.end(begun, draft).await;
        let audit = match written {
            Some(number) => format!("entry {number} of the audit"),
            None => format!("begun as entry {number} of the audit; its end is written once the log takes it"),
        };
        match error {
            None => {
                let summary = if written.is_some() { result } else { format!("{result} ({audit})") };
                Ok(v1::PerformActResponse { summary, audit_number: written.unwrap_or(0), transaction })
            }
            Some(Refusal { code, message }) => {
                Err(ServiceError::Act { code, message: format!("{message} ({audit})") })
            }
        }
    }
}

fn sentence(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.code, refusal.message)
}

/// A state that could not be read, as JSON.
fn not_known(error: &ServiceError) -> String {
    serde_json::json!({ "unknown": error.to_string() }).to_string()
}

/// The refusal of an act that was planned for another state than this one.
fn changed(now: &Planned) -> Refusal {
    let message = format!("the state is not the one it was planned for. Now: {}", now.now());
    Refusal::new(ErrorCode::PlanChanged, message)
}

/// Whether two acts are on the same thing.
fn touches(one: &str, other: &str) -> bool {
    one.split(' ').next() == other.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_on_one_transaction_touch_each_other_whatever_branch_they_are_on() {
        assert!(touches("0199", "0199 bank-a 00000000000000ab"));
        assert!(touches("doubt", "doubt 0199"));
        assert!(!touches("0199", "019"));
        assert!(!touches("bank-a", "bank-b"));
    }
}
