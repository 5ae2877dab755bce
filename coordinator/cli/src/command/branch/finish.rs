//! `pactum branch finish`: ends prepared branches as the log says, or, with `--overrule`, one by hand.
//!
//! Safe to repeat, and to run twice at once: each step looks first, and whoever comes second finds what the
//! first has done. Killed in the middle it leaves either a branch that is still prepared, or one that has
//! ended as the log says; the audit shows a beginning without an end.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use pactum_core::id::PreparedName;
use pactum_core::outcome::{Decision, LookUpResult};
use pactum_proto::error::ErrorCode;

use super::act::{Done, Mode};
use super::database::Verb;
use super::evidence::{self, Fate};
use super::plan::{Known, Plan};
use super::record::Actor;
use super::scan::{self, Prepared};
use super::select::Meant;
use super::view::{BranchView, page};
use super::word::Log;
use super::{PLACES, Places, Site};
use crate::act::{confirm, set_under_way};
use crate::args::{Format, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::gid_tail;

/// Which branches to end, and why.
#[derive(Debug, Args)]
#[command(after_help = PLACES)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option that is typed")]
#[group(id = "which", required = true, multiple = false, args = ["ids", "all"])]
pub(crate) struct Finish {
    #[command(flatten)]
    places: Places,
    /// A gid, its beginning or end (at least 4 digits), or a branch's whole name
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Every branch that can be finished
    #[arg(long, conflicts_with = "overrule")]
    all: bool,
    /// Why; kept in the audit
    #[arg(long)]
    reason: String,
    /// Who acts, for the audit [default: the system's user]
    #[arg(long, env = "PACTUM_WHO", value_name = "NAME")]
    who: Option<String>,
    /// End one branch by hand, against the decision or where there can be none: a heuristic outcome
    #[arg(long, value_name = "HOW")]
    overrule: Option<How>,
    /// With --overrule: the log cannot be reached, and nobody can wait for it. Refused if it can be
    #[arg(long)]
    log_unreachable: bool,
    /// Also close transactions whose coordinator lives and is at work on them
    #[arg(long)]
    close_owned: bool,
    /// Do not ask
    #[arg(short, long, env = "PACTUM_YES")]
    yes: bool,
    /// Show the plan and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// How to overrule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    /// Commit it.
    Commit,
    /// Roll it back.
    Rollback,
}

/// The wire's limit for a reason.
const REASON_BYTES_MAX: usize = 512;

/// A branch with all that is known and planned.
type Planned = (Prepared, Known, Plan);

impl Finish {
    /// Does it.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        if self.reason.trim().is_empty() || self.reason.len() > REASON_BYTES_MAX {
            return Err(Failure::usage(format!("--reason must be 1 to {REASON_BYTES_MAX} bytes")));
        }
        // Not left to the parser, which drops what is required where it conflicts with what is there.
        if self.log_unreachable && self.overrule.is_none() {
            return Err(Failure::usage(
                "--log-unreachable goes with --overrule: without the log nothing else is done",
            ));
        }
        let meant = self.ids.iter().map(|id| Meant::parse(id)).collect::<Result<Vec<_>, _>>()?;
        let can_ask = output.for_people() && !global.no_input && io::stdin().is_terminal();
        if !(self.yes || self.dry_run || can_ask) {
            return Err(Failure::usage("this asks before it acts, and nobody is there to answer")
                .code(ErrorCode::ConfirmationNeeded)
                .next("add --yes if you are sure, or --dry-run to see the plan"));
        }
        let mut site = self.places.open(global).await?;
        let mode = Mode {
            overrule: self.overrule.map(|how| match how {
                How::Commit => Verb::Commit,
                How::Rollback => Verb::RollBack,
            }),
            unreachable: self.log_unreachable && site.log.is_unreachable(),
            close_owned: self.close_owned,
        };
        // Without the log only an overruling that says so can go on, and only if nobody answers there.
        if site.log.failure().is_some() && !mode.unreachable {
            let failure = site.no_log();
            return Err(if self.log_unreachable {
                failure.cause("--log-unreachable was said, and somebody answers there: it is not unreachable")
            } else {
                failure
            });
        }
        let found = site.look().await?;
        let mut gone = Vec::new();
        let places = if self.all {
            (0..found.len()).collect()
        } else {
            let mut places = std::collections::BTreeSet::new();
            for meant in meant {
                match meant.among(&found)? {
                    these if these.is_empty() => gone.push(meant),
                    these => places.extend(these),
                }
            }
            places
        };
        let plan = |(branch, known): (Prepared, Known)| {
            let plan = mode.plan(&known);
            (branch, known, plan)
        };
        let chosen = found.into_iter().enumerate().filter(|(place, _)| places.contains(place));
        let mut chosen: Vec<Planned> = chosen.map(|(_, found)| plan(found)).collect();
        if mode.overrule.is_some() && chosen.len() + gone.len() != 1 {
            let names: Vec<String> = chosen.iter().map(|(branch, ..)| branch.name.to_string()).collect();
            return Err(Failure::usage("--overrule ends one branch, and several are meant")
                .cause(names.join(", "))
                .next("give the whole name of the one"));
        }
        if self.all {
            // What cannot be finished is no failure of "all that can".
            for (branch, _, plan) in &chosen {
                if let Plan::Leave(refusal) = plan {
                    output.note(format_args!("{} is left as it is: {}", branch.name, refusal.why));
                }
            }
            chosen.retain(|(_, _, plan)| !matches!(plan, Plan::Leave(_)));
        }
        let unlocked = |trouble: super::database::Trouble| {
            output.note(format_args!("what the branches have locked is not known: {}", trouble.text()));
        };
        let mut branches: Vec<Prepared> = chosen.iter().map(|(branch, ..)| branch.clone()).collect();
        scan::examine(&mut site.database, &mut branches).await.unwrap_or_else(unlocked);
        for (place, branch) in chosen.iter_mut().zip(branches) {
            place.0 = branch;
        }
        if output.for_people() && !chosen.is_empty() {
            output.note(page(&chosen, false));
        }
        if self.dry_run {
            return dry_run(&site, output, &chosen);
        }
        if !self.yes && chosen.iter().any(|(_, _, plan)| !matches!(plan, Plan::Leave(_))) {
            confirm(output, &wanted(&chosen)).await?;
        }
        let actor = Actor::new(self.who, self.reason);
        site.finish(output, &actor, mode, chosen, gone).await
    }
}

impl Site {
    async fn finish(
        &mut self,
        output: &Output,
        actor: &Actor,
        mode: Mode,
        chosen: Vec<Planned>,
        gone: Vec<Meant>,
    ) -> Result<Exit, Failure> {
        let count = chosen.len() + gone.len();
        let (mut done, mut failures) = (Vec::new(), Vec::new());
        for meant in gone {
            match self.gone(&meant).await {
                Ok(told) => output.note(told),
                Err(failure) => failures.push(failure),
            }
        }
        for (branch, known, plan) in chosen {
            set_under_way(true);
            let ended = self.act(actor, mode, &branch, known, plan).await;
            set_under_way(false);
            match ended {
                Ok(one) => {
                    tell(output, &one)?;
                    done.push(one);
                }
                Err(failure) => failures.push(failure),
            }
        }
        if output.format == Format::Json {
            output.document(&serde_json::json!({ "database": self.database.shown(), "branches": done }))?;
        }
        if count == 0 {
            output.note("there is nothing to finish");
        }
        if !done.is_empty() && failures.is_empty() {
            output.hint("Next: pactum branch list shows what is still prepared");
        }
        if count == 1
            && let Some(only) = failures.pop()
        {
            return Err(only);
        }
        for failure in &failures {
            output.failure(failure);
        }
        Ok(match failures.first() {
            None => Exit::Ok,
            Some(_) if failures.len() < count => Exit::Partial,
            Some(first) if failures.iter().all(|failure| failure.exit() == first.exit()) => first.exit(),
            Some(_) => Exit::Failed,
        })
    }

    /// One that is not prepared (any more): by the log and by evidence, so that a repeated command says how
    /// the first one ended. Ended as decided is no failure.
    async fn gone(&mut self, meant: &Meant) -> Result<String, Failure> {
        let shown = self.database.shown();
        let absent = |why: &str| {
            Failure::new(Exit::NotFound, format!("nothing that fits {meant} is prepared in {shown}"))
                .cause(why)
                .code(ErrorCode::BranchNotPrepared)
                .next("pactum branch list shows what is")
        };
        let gid = match meant {
            Meant::Name(PreparedName { id, .. }) => id.gid,
            Meant::Gid(gid) => *gid,
            Meant::Part(_) => {
                return Err(absent("a part of a gid is looked for among prepared branches only"));
            }
        };
        let Log::Open { log, .. } = &self.log else { return Err(absent("the log cannot be asked of it")) };
        let found = match log.look_up(&[gid]).await {
            Ok(mut found) => found.pop(),
            Err(error) => return Err(absent("the log did not answer").because(&error)),
        };
        let record = match found {
            Some(LookUpResult::Stands(record)) => record,
            Some(LookUpResult::Forgotten) => return Err(absent("the log has forgotten it")),
            Some(LookUpResult::NoRecord | LookUpResult::Unknown) | None => {
                return Err(absent("the log has no record of it"));
            }
        };
        if record.decision == Decision::Abort {
            return Ok(format!(
                "{meant} is not prepared here, and the log says abort: nothing is left to do"
            ));
        }
        let meant_branch = |branch: &&pactum_core::outcome::DecidedBranch| match meant {
            Meant::Name(name) => branch.branch.id == name.branch,
            Meant::Gid(_) | Meant::Part(_) => true,
        };
        let mut told = Vec::new();
        for decided in record.branches.iter().filter(meant_branch) {
            // A branch of another server has an anchor that does not hold here.
            let Some((xid, anchor)) = evidence::read(&decided.evidence) else { continue };
            match self
                .database
                .fate(xid, &anchor)
                .await
                .map_err(|trouble| self.database.unreachable(&trouble))?
            {
                Fate::Committed => told.push(decided.branch.id),
                Fate::Aborted => {
                    return Err(Failure::new(
                        Exit::Refused,
                        format!("branch {} of {gid} was rolled back here, and the log says commit", decided.branch.id),
                    )
                    .cause("somebody ended it by hand: a heuristic outcome, which coordinators find out by evidence")
                    .code(ErrorCode::BranchNotPrepared));
                }
                Fate::InProgress | Fate::Unprovable => {}
            }
        }
        if told.is_empty() {
            return Err(absent("the log says commit, of branches that this database knows nothing of"));
        }
        Ok(format!(
            "{meant} is not prepared here any more: it has committed, as the log says; nothing is left to do"
        ))
    }
}

fn tell(output: &Output, done: &Done) -> Result<(), Failure> {
    match output.format {
        Format::Json => Ok(()),
        Format::Jsonl => output.line(done),
        Format::Table => {
            let closed = if done.closed { ", its transaction closed in the log first" } else { "" };
            let audit = done.audit_number.map(|number| format!(" (audit {number})")).unwrap_or_default();
            let heuristic =
                done.heuristic.map(|outcome| format!("; a heuristic outcome: {outcome}")).unwrap_or_default();
            output.text(format_args!("{}  {}{closed}{heuristic}{audit}", done.name, done.did))?;
            for note in &done.notes {
                output.note(note);
            }
            Ok(())
        }
    }
}

fn dry_run(site: &Site, output: &Output, chosen: &[Planned]) -> Result<Exit, Failure> {
    let views: Vec<_> = chosen
        .iter()
        .map(|(branch, known, plan)| BranchView::new(&site.database.name, branch, known, plan))
        .collect();
    match output.format {
        Format::Table => output.hint("nothing was done"),
        Format::Json => {
            let database = site.database.shown();
            output
                .document(&serde_json::json!({ "database": database, "dry_run": true, "branches": views }))?;
        }
        Format::Jsonl => {
            for view in views {
                output.line(&view)?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// What is to be typed: the end of the gid; of several, their number.
fn wanted(chosen: &[Planned]) -> String {
    match chosen {
        [(branch, ..)] => gid_tail(branch.name.id.gid),
        several => several.len().to_string(),
    }
}
