//! Doing something to the state of things: every act goes the same way. The coordinator plans it; the
//! plan is shown; the person confirms; exactly what was planned is done, or nothing.
//!
//! The plan's hash binds the two calls: if the state has changed in between, by itself or by another
//! operator, nothing happens and the new plan is shown. The coordinator writes the audit.

mod terms;

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use pactum_proto::error::ErrorCode;
use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::exit::Exit;
use crate::failure::{Failure, StableCode};
use crate::output::table::gid_tail;
use crate::output::view::{ActView, PlanView};
use crate::output::{Output, plan};

pub(crate) use terms::{Lightly, Strictly, Terms, Usually};

/// Whether an act was sent and not answered: an interrupt then leaves its outcome unknown.
static UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// Whether an interrupt now would leave an act's outcome unknown.
pub(crate) fn is_under_way() -> bool {
    UNDER_WAY.load(Ordering::Relaxed)
}

/// For an act that is done without a coordinator: from here on, or no longer, an interrupt leaves its outcome unknown.
pub(crate) fn set_under_way(is: bool) {
    UNDER_WAY.store(is, Ordering::Relaxed);
}

/// Plans an act, shows the plan, asks, and does it, on these terms.
pub(crate) async fn act(
    admin: &Admin,
    output: &Output,
    terms: &Terms,
    act: v1::act::Act,
) -> Result<(), Failure> {
    let asked = v1::Act { act: Some(act) };
    let planned = plan(admin, &asked).await?;
    let name = name(&asked);
    let view = PlanView::new(name, planned.clone());
    show_plan(output, terms, &view)?;
    if let Some(refusal) = &view.refusal {
        let code = StableCode { reason: refusal.reason.clone(), code: refusal.code.clone() };
        return Err(Failure::new(Exit::Refused, &refusal.message).stable_code(Some(code)));
    }
    if terms.dry_run {
        output.hint(format_args!("nothing was done. To do it: {}", view.command));
        return Ok(());
    }
    if terms.asks {
        confirm(output, &view.confirmation).await?;
    }
    let request = v1::PerformActRequest {
        // As planned: with whole names, so that what is done is what was shown.
        act: planned.act.or_else(|| Some(asked.clone())),
        plan_hash: planned.hash,
        reason: terms.reason.clone(),
        who: who(),
    };
    let mut client = admin.client.clone();
    UNDER_WAY.store(true, Ordering::Relaxed);
    let answer = admin.call(Effect::Change, client.perform_act(request)).await;
    UNDER_WAY.store(false, Ordering::Relaxed);
    match answer {
        Ok(done) => show_done(output, &ActView::new(name, &view.hash, done)),
        Err(failure) if failure.is(ErrorCode::PlanChanged) => {
            Err(changed(admin, output, &asked, name, failure).await)
        }
        Err(failure) => Err(failure.next("pactum audit list shows whether it was begun, and its end")),
    }
}

async fn plan(admin: &Admin, act: &v1::Act) -> Result<v1::Plan, Failure> {
    let mut client = admin.client.clone();
    let request = v1::PlanActRequest { act: Some(act.clone()) };
    let response = admin.call(Effect::None, client.plan_act(request)).await?;
    response.plan.ok_or_else(|| Failure::new(Exit::Failed, "the server answered without a plan"))
}

/// For people before each act; as data if only the plan was asked for.
fn show_plan(output: &Output, terms: &Terms, view: &PlanView) -> Result<(), Failure> {
    match (terms.dry_run, output.for_people()) {
        (true, true) => output.text(plan::text(view)),
        (true, false) => output.document(view),
        (false, true) => {
            // Whoever said yes beforehand and wants it quiet is not told; a refusal is an error anyway.
            if terms.asks || !output.quiet {
                output.note(plan::text(view));
            }
            Ok(())
        }
        (false, false) => Ok(()),
    }
}

fn show_done(output: &Output, done: &ActView) -> Result<(), Failure> {
    if !output.for_people() {
        return output.document(done);
    }
    output.text(format_args!("{} (audit {})", done.summary, done.audit_number))?;
    match &done.transaction {
        Some(transaction) if transaction.has_ended() => {
            output.hint(format_args!("Next: pactum tx show {}", gid_tail(transaction.gid())));
        }
        Some(transaction) => {
            output.hint(format_args!("Next: pactum tx watch {}", gid_tail(transaction.gid())));
        }
        None => output.hint("Next: pactum audit list"),
    }
    Ok(())
}

/// The state is not what was planned for: what it is now stands beside the refusal.
async fn changed(admin: &Admin, output: &Output, asked: &v1::Act, name: &str, failure: Failure) -> Failure {
    let now = match plan(admin, asked).await {
        Ok(now) => PlanView::new(name, now),
        Err(unplanned) => return failure.cause(format!("and it cannot be planned anew: {unplanned}")),
    };
    let failure = if output.for_people() {
        output.note("the state has changed; as of now:");
        output.note(plan::text(&now));
        failure
    } else {
        now.facts.iter().fold(failure, |failure, fact| failure.cause(format!("now: {fact}")))
    };
    failure.next("nothing was done. Read the new plan; then give the command again, or leave it")
}

/// Asks for the words that the plan wants typed.
pub(crate) async fn confirm(output: &Output, wanted: &str) -> Result<(), Failure> {
    let wanted = if wanted.is_empty() { "yes" } else { wanted };
    output.note(format_args!("type {wanted} to go on, anything else to leave it:"));
    let typed = tokio::task::spawn_blocking(|| -> io::Result<String> {
        io::stderr().flush()?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok(line)
    })
    .await;
    match typed {
        Ok(Ok(line)) if line.trim().eq_ignore_ascii_case(wanted) => Ok(()),
        Ok(Ok(_)) => Err(Failure::new(Exit::Failed, "that is something else; nothing was done")),
        Ok(Err(error)) => Err(Failure::new(Exit::Failed, "the answer cannot be read").because(&error)),
        Err(error) => Err(Failure::new(Exit::Failed, "the answer cannot be read").because(&error)),
    }
}

/// What the act is called.
fn name(act: &v1::Act) -> &'static str {
    use v1::act::Act;
    match &act.act {
        Some(Act::Retry(_)) => "retry",
        Some(Act::Resolve(_)) => "resolve",
        Some(Act::Overrule(_)) => "overrule",
        Some(Act::Forget(_)) => "forget",
        Some(Act::Release(_)) => "release",
        Some(Act::Drain(_)) => "drain",
        Some(Act::Resume(_)) => "resume",
        None => "nothing",
    }
}

/// The wire's limit.
const WHO_BYTES_MAX: usize = 128;

/// `user@host`, for the audit where no token says who it is.
pub(crate) fn who() -> String {
    let user = whoami::username().unwrap_or_else(|_| "unknown".to_owned());
    let host = whoami::hostname().unwrap_or_else(|_| "unknown".to_owned());
    let mut who = format!("{user}@{host}");
    while who.len() > WHO_BYTES_MAX {
        who.pop();
    }
    who
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_acts_is_a_name_at_a_host_within_the_wires_limit() {
        let who = who();
        assert!(who.contains('@') && !who.starts_with('@') && who.len() <= WHO_BYTES_MAX, "{who}");
    }
}
