//! What a log in memory keeps for operators: heuristic outcomes and the audit.

use std::time::SystemTime;

use pactum_core::id::{BranchId, Gid};
use pactum_core::outcome::{Decision, HeuristicOutcome};

use super::State;
use crate::decision_log::audit::{UNENDED_MAX, now_microseconds};
use crate::decision_log::{
    AuditDraft, AuditEntry, AuditKind, AuditPage, CLEARED_MAX, HeuristicRecord, StoredHeuristic, whole_gids,
};

/// A heuristic outcome that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) record: HeuristicRecord,
    /// First.
    recorded_at: SystemTime,
}

impl State {
    pub(super) fn record_heuristics(&mut self, heuristics: &[HeuristicRecord]) {
        let recorded_at = SystemTime::now();
        for record in heuristics {
            let key = (record.id.gid, record.branch.id);
            let kept = self.heuristics.entry(key);
            kept.and_modify(|kept| kept.record.outcome = record.outcome)
                .or_insert_with(|| Kept { record: record.clone(), recorded_at });
        }
    }

    pub(super) fn heuristics_of(&self, gid: Gid) -> impl Iterator<Item = (&(Gid, BranchId), &Kept)> {
        self.heuristics.range((gid, BranchId::new(0))..=(gid, BranchId::new(u64::MAX)))
    }

    pub(super) fn list_heuristics(&self, before: Option<Gid>, limit: u32) -> Vec<StoredHeuristic> {
        let newest_first = self.heuristics.iter().rev();
        let below = newest_first.filter(|((gid, _), _)| before.is_none_or(|before| *gid < before));
        let stored = below.map(|((gid, _), kept)| StoredHeuristic {
            record: kept.record.clone(),
            recorded_at: kept.recorded_at,
            decision: self.decisions.get(gid).map(|row| row.record.decision),
        });
        whole_gids(stored.take(limit as usize + 1).collect(), limit)
    }

    pub(super) fn forget_heuristics(&mut self, gid: Gid) -> u64 {
        let before = self.heuristics.len();
        self.heuristics.retain(|(kept, _), _| *kept != gid);
        (before - self.heuristics.len()) as u64
    }

    pub(super) fn clear_agreeing_heuristics(&mut self) -> Vec<HeuristicRecord> {
        let agrees = |record: &HeuristicRecord| {
            let decision = self.decisions.get(&record.id.gid).map(|row| row.record.decision);
            matches!(
                (record.outcome, decision),
                (HeuristicOutcome::Committed, Some(Decision::Commit))
                    | (HeuristicOutcome::Aborted, Some(Decision::Abort))
            )
        };
        let agreeing = self.heuristics.values().map(|kept| &kept.record).filter(|record| agrees(record));
        let cleared: Vec<HeuristicRecord> = agreeing.take(CLEARED_MAX as usize).cloned().collect();
        for record in &cleared {
            self.heuristics.remove(&(record.id.gid, record.branch.id));
        }
        cleared
    }

    pub(super) fn append_audit(&mut self, draft: AuditDraft) -> AuditEntry {
        let last = self.audit.last().map(|last| (last.number, last.hash));
        let entry = AuditEntry::after(last, now_microseconds(), draft);
        self.audit.push(entry.clone());
        entry
    }

    pub(super) fn audit(&self, page: AuditPage, limit: u32) -> Vec<AuditEntry> {
        let all = self.audit.iter();
        match page {
            AuditPage::After(number) => {
                all.filter(|entry| entry.number > number).take(limit as usize).cloned().collect()
            }
            AuditPage::Before(number) => {
                let below = all.rev().filter(|entry| number.is_none_or(|number| entry.number < number));
                below.take(limit as usize).cloned().collect()
            }
        }
    }

    pub(super) fn unended_audits(&self) -> Vec<AuditEntry> {
        let is_ended = |begun: &AuditEntry| {
            let mut later = self.audit.iter().filter(|entry| entry.number > begun.number);
            later.any(|entry| entry.draft.begun == Some(begun.number))
        };
        let is_gone = |entry: &AuditEntry| {
            let run = entry.draft.incarnation.map(|id| self.incarnations.get(&id));
            run.is_some_and(|run| run.is_none_or(|run| run.ended))
        };
        let begun = self.audit.iter().filter(|entry| entry.draft.kind == AuditKind::Begun);
        let unended = begun.filter(|entry| is_gone(entry) && !is_ended(entry));
        unended.take(UNENDED_MAX as usize).cloned().collect()
    }
}
