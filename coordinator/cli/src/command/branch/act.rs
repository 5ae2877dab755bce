//! Ends one branch, as planned: written down first, closed in the log if need be, ended by evidence.

use std::sync::Arc;

use pactum_coordinator::config::LogUrl;
use pactum_coordinator::decision_log::{AuditKind, DecisionLog};
use pactum_proto::error::ErrorCode;
use serde::Serialize;

use super::Site;
use super::database::{Ended, Trouble, Verb, unknown};
use super::evidence::Fate;
use super::plan::{self, Known, Plan, Refusal};
use super::record::{self, Actor, Begun};
use super::scan::Prepared;
use super::view::BranchView;
use super::word::{Log, Word};
use crate::exit::Exit;
use crate::failure::Failure;

/// How branches are to be ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    /// By hand, and not only as decided.
    pub(super) overrule: Option<Verb>,
    /// It was said, and is so, that the log cannot be reached.
    pub(super) unreachable: bool,
    /// Close also what a living coordinator owns.
    pub(super) close_owned: bool,
}

impl Mode {
    /// What is to be done with a branch.
    pub(super) fn plan(self, known: &Known) -> Plan {
        match self.overrule {
            None => known.finish(self.close_owned),
            Some(verb) => known.overrule(verb, self.unreachable, self.close_owned),
        }
    }
}

/// What came of one branch.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Done {
    pub(super) name: String,
    pub(super) gid: String,
    /// `committed` or `rolled-back`.
    pub(super) did: &'static str,
    /// Whether its transaction was closed in the log for it.
    pub(super) closed: bool,
    /// How the branch stands to the decision, if it was ended against or ahead of it.
    pub(super) heuristic: Option<&'static str>,
    /// The number of the audit's entry that tells the end; none where the log could not be reached.
    pub(super) audit_number: Option<u64>,
    /// The row that tells it in the participant's own database, where the log could not be reached.
    pub(super) overruled_row: Option<i64>,
    /// What a person should know besides.
    pub(super) notes: Vec<String>,
}

impl Refusal {
    /// As a failure of the command.
    pub(super) fn failure(&self, branch: &Prepared) -> Failure {
        let exit = if self.code == ErrorCode::LogUnreachable {
            Exit::CannotConnect
        } else if self.code == ErrorCode::LogCorrupt {
            Exit::Failed
        } else if self.code == ErrorCode::TransactionNotFound {
            Exit::NotFound
        } else {
            Exit::Refused
        };
        Failure::new(exit, format!("{} is left as it is", branch.name))
            .cause(self.why.clone())
            .code(self.code)
            .next(self.next.clone())
    }
}

impl Site {
    /// Ends one branch, as planned.
    pub(super) async fn act(
        &mut self,
        actor: &Actor,
        mode: Mode,
        branch: &Prepared,
        known: Known,
        plan: Plan,
    ) -> Result<Done, Failure> {
        if let Plan::Leave(refusal) = &plan {
            return Err(refusal.failure(branch));
        }
        let log = match &self.log {
            Log::Open { url, log } => Some((url.clone(), Arc::clone(log))),
            Log::NotNamed | Log::Closed { .. } => None,
        };
        match (log, &plan) {
            (Some((url, log)), _) => self.act_with_log(&url, &log, actor, mode, branch, known, plan).await,
            (None, Plan::ByHand { verb, .. }) => self.act_blindly(actor, branch, *verb).await,
            (None, _) => Err(self.no_log()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one act, told whole")]
    async fn act_with_log(
        &mut self,
        url: &LogUrl,
        log: &Arc<dyn DecisionLog>,
        actor: &Actor,
        mode: Mode,
        branch: &Prepared,
        known: Known,
        plan: Plan,
    ) -> Result<Done, Failure> {
        let act = match &plan {
            Plan::ByHand { verb: Verb::Commit, .. } => "overrule-commit",
            Plan::ByHand { verb: Verb::RollBack, .. } => "overrule-rollback",
            Plan::AsDecided(_) | Plan::Close | Plan::Leave(_) => "finish",
        };
        let before = BranchView::new(&self.database.name, branch, &known, &plan).state();
        let begun = record::begin(log, url, actor, (&branch.name, act), plan.sentence(), before).await?;
        let (plan, closed) = match plan {
            Plan::Close => match self.close(actor, mode, branch, &begun).await {
                Ok(plan) => (plan, true),
                Err(failure) => {
                    let kind =
                        if failure.exit() == Exit::Refused { AuditKind::Refused } else { AuditKind::Failed };
                    let told = failure.sentence().to_owned();
                    self.told(begun.end(log, kind, state("prepared"), told).await)?;
                    return Err(failure);
                }
            },
            plan @ (Plan::AsDecided(_) | Plan::ByHand { .. } | Plan::Leave(_)) => (plan, false),
        };
        let (verb, outcome) = match &plan {
            Plan::AsDecided(verb) => (*verb, None),
            Plan::ByHand { verb, outcome } => (*verb, *outcome),
            Plan::Close | Plan::Leave(_) => return Err(self.no_log()),
        };
        let ended = self.database.end(&branch.name, branch.xid, &branch.anchor, verb).await;
        let mut done = match self.settled(branch, verb, ended) {
            Ok(done) => done,
            Err(failure) => {
                let kind =
                    if failure.exit() == Exit::Unknown { AuditKind::Failed } else { AuditKind::Refused };
                let told = failure.sentence().to_owned();
                self.told(begun.end(log, kind, state("unknown"), told).await)?;
                return Err(failure);
            }
        };
        done.closed = closed;
        if let Some(outcome) = outcome {
            done.heuristic = Some(plan::heuristic(outcome));
            if let Err(error) = record::heuristic(log, &branch.name, &self.database.name, outcome).await {
                done.notes.push(format!(
                    "the heuristic outcome could not be kept in the log ({error}); coordinators find it out by evidence"
                ));
            }
        }
        let result = format!("{}: {}", branch.name, done.did);
        match begun.end(log, AuditKind::Done, state(done.did), result).await {
            Ok(number) => done.audit_number = Some(number),
            Err(error) => done.notes.push(format!("its end could not be written into the audit: {error}")),
        }
        Ok(done)
    }

    /// Closes the transaction, and says what is to be done by what stands then.
    async fn close(
        &mut self,
        actor: &Actor,
        mode: Mode,
        branch: &Prepared,
        begun: &Begun,
    ) -> Result<Plan, Failure> {
        let reason = format!(
            "closed by {} without a coordinator (audit {}): {}",
            actor.who, begun.number, actor.reason
        );
        let word = self.log.close(&branch.name, &reason).await;
        if let Word::Unreachable { problem } = &word {
            return Err(Failure::new(
                Exit::Unknown,
                format!("whether the transaction of {} was closed is not known", branch.name),
            )
            .cause(problem.clone())
            .code(ErrorCode::OutcomeUnknown)
            .next("the branch was not touched; run the same command again: it looks first"));
        }
        let known = self.known(branch, word).await?;
        match mode.plan(&known) {
            plan @ (Plan::AsDecided(_) | Plan::ByHand { .. }) => Ok(plan),
            Plan::Leave(refusal) => Err(refusal.failure(branch)),
            Plan::Close => {
                Err(Failure::new(Exit::Failed, "the log neither took an abort nor has anything else"))
            }
        }
    }

    /// Overrules where the log cannot be reached. Not silently: a row is written here first.
    async fn act_blindly(&mut self, actor: &Actor, branch: &Prepared, verb: Verb) -> Result<Done, Failure> {
        let named = (&branch.name, branch.xid);
        let row = record::begin_here(&mut self.database, actor, named, verb).await.map_err(|trouble| {
            Failure::new(
                Exit::Failed,
                "nothing was done: it could not be written down first in pactum_participant.overruled",
            )
            .cause(trouble.text())
            .next("as a role that may create the schema, run the command once; or give this role INSERT and UPDATE there")
        })?;
        let ended = self.database.end(&branch.name, branch.xid, &branch.anchor, verb).await;
        let settled = self.settled(branch, verb, ended);
        let told = match &settled {
            Ok(done) => done.did.to_owned(),
            Err(failure) => failure.sentence().to_owned(),
        };
        let kept = record::end_here(&mut self.database, row, &told).await;
        let mut done = settled?;
        done.overruled_row = Some(row);
        done.notes.push(format!(
            "the log knows nothing of it yet: coordinators learn it by evidence when they are back, and keep it as a heuristic \
             outcome if they decide otherwise; it is told in pactum_participant.overruled, row {row}, of {}",
            self.database.name
        ));
        if let Err(trouble) = kept {
            done.notes.push(format!("its end could not be written there: {}", trouble.text()));
        }
        Ok(done)
    }

    /// What the database's answer means: by evidence, whoever ended the branch.
    fn settled(&self, branch: &Prepared, verb: Verb, ended: Result<Ended, Trouble>) -> Result<Done, Failure> {
        let mut notes = Vec::new();
        match ended {
            Ok(Ended::Done) => {}
            Ok(Ended::Gone(fate)) if fate == verb.fate() => {
                notes.push("somebody else had ended it so by then".to_owned());
            }
            Ok(Ended::Gone(fate)) => {
                let how = match fate {
                    Fate::Committed => "it has been committed",
                    Fate::Aborted => "it has been rolled back",
                    Fate::InProgress | Fate::Unprovable => "how, the database cannot tell any more",
                };
                return Err(Failure::new(
                    Exit::Refused,
                    format!("{} was ended by somebody else: {how}", branch.name),
                )
                .code(ErrorCode::BranchNotPrepared)
                .next("pactum tx show says how it stands to the decision, once a coordinator runs"));
            }
            Ok(Ended::Another(xid)) => {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("{} is prepared by another execution now", branch.name),
                )
                .cause(format!("xid {} was meant, and {xid} is there", branch.xid))
                .code(ErrorCode::BranchNotPrepared)
                .next("look again: pactum branch list"));
            }
            Err(trouble @ Trouble::Refused { .. }) => {
                return Err(Failure::new(Exit::Failed, format!("the database did not end {}", branch.name))
                    .cause(trouble.text())
                    .next(format!(
                        "the branch belongs to the role {}; we are {}",
                        branch.owner, self.database.role
                    )));
            }
            Err(trouble @ Trouble::Lost(_)) => return Err(unknown(&branch.name, &trouble)),
        }
        Ok(Done {
            name: branch.name.to_string(),
            gid: branch.name.id.gid.to_string(),
            did: verb.done(),
            closed: false,
            heuristic: None,
            audit_number: None,
            overruled_row: None,
            notes,
        })
    }

    /// An end that could not be written is told beside the failure that it would have told.
    fn told(&self, written: Result<u64, String>) -> Result<(), Failure> {
        written.map(drop).map_err(|error| {
            Failure::new(
                Exit::Unknown,
                format!("the end of the act could not be written into the audit of {:?}", self.log_url),
            )
            .cause(error)
            .next("run the same command again: it looks first")
        })
    }
}

fn state(state: &str) -> String {
    serde_json::json!({ "state": state }).to_string()
}
