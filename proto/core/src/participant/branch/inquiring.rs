//! A branch in doubt: it asks until it knows (C3, C10). Time never ends it, it only makes it ask.

use super::{End, HeldBranch, State, Step};
use crate::coordinator::InquiryAnswer;
use crate::participant::Command;
use crate::vote::Evidence;

impl HeldBranch {
    /// A scan found the branch prepared: it is in doubt, and asks (C3, C10).
    pub(in crate::participant) fn found_prepared(&mut self, found: Evidence, step: &mut Step<'_>) {
        let asks = match &self.state {
            State::Prepared { evidence, inquired_at, .. } => {
                !evidence.same_execution(&found)
                    || inquired_at.is_none_or(|at| at + step.config.inquiry_interval <= step.now)
            }
            State::Unknown => true,
            // It reappeared, or the hook's effect was lost with a failover (D5, H6). What ended just
            // now was more likely read before its end; if not, the next scan finds it again.
            State::Ended(End::Outcome { .. } | End::Refused(_) | End::ReadOnly) => {
                self.ended_at.is_none_or(|at| at + step.config.inquiry_interval <= step.now)
            }
            // A hook is at work on it; its register is its own database.
            State::Open { .. }
            | State::Preparing { .. }
            | State::OnePhase { .. }
            | State::Settling { .. }
            | State::Committing { .. }
            | State::Aborting { .. }
            | State::AbortFailed { .. }
            | State::Ended(End::Register(_)) => false,
        };
        if asks {
            let quarantined = matches!(self.state, State::Prepared { quarantined: true, .. });
            // The evidence that it voted with stays: a scan's differs in where it was read.
            let evidence = if let State::Prepared { evidence, .. } = &self.state
                && evidence.same_execution(&found)
            {
                evidence.clone()
            } else {
                found
            };
            let about = evidence.clone();
            self.state =
                State::Prepared { evidence, sure: false, inquired_at: None, ask_at: None, quarantined };
            self.ask(about, step);
        }
    }

    /// It asks what became of its transaction, and goes on until it knows: an answer that tells nothing
    /// and no answer at all are the same.
    pub(super) fn ask(&mut self, about: Evidence, step: &mut Step<'_>) {
        if let State::Prepared { inquired_at, ask_at, quarantined, .. } = &mut self.state {
            let pace =
                if *quarantined { step.config.quarantine_interval } else { step.config.inquiry_interval };
            *inquired_at = Some(step.now);
            *ask_at = Some(step.now + pace);
        }
        step.order(Command::SendInquiry { id: self.id, branch: self.branch.clone(), evidence: about });
    }

    /// An inquiry was answered. Late answers meet a branch that has moved on, and do nothing.
    pub(in crate::participant) fn inquiry_answered(&mut self, answer: InquiryAnswer, step: &mut Step<'_>) {
        let key = self.key();
        let State::Prepared { quarantined, ask_at, .. } = &mut self.state else { return };
        match answer {
            InquiryAnswer::Commit(decided) => self.commit(None, decided, step),
            InquiryAnswer::Abort => self.abort(None, step),
            // It asks again by itself.
            InquiryAnswer::Wait { .. } => {}
            InquiryAnswer::Quarantine => {
                *ask_at = Some(step.now + step.config.quarantine_interval);
                if !std::mem::replace(quarantined, true) {
                    step.order(Command::ReportQuarantine { key });
                }
            }
        }
    }
}
