//! `pactum tx resolve`: an operator has undecided transactions decided. Shows what stands and what
//! will be done before it is done; the log has the last word all the same.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use pactum_proto::error::ErrorCode;
use pactum_proto::v1;

use super::{each, inspect};
use crate::admin::{Admin, Effect};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::gid_tail;
use crate::output::view::{AbortView, TransactionView};
use crate::output::{Output, transaction};

/// Which transactions to resolve, and why.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// The gid, or its beginning or end (at least 4 digits) if that fits one transaction only
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Why; kept with the decision
    #[arg(long)]
    reason: String,
    /// Do not ask
    #[arg(short, long, env = "PACTUM_YES")]
    yes: bool,
    /// Show the plan and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Resolve {
    /// Does it.
    pub(super) async fn run(self, admin: &Admin, output: &Output) -> Result<Exit, Failure> {
        if self.reason.trim().is_empty() || self.reason.len() > REASON_BYTES_MAX {
            return Err(Failure::usage(format!("--reason must be 1 to {REASON_BYTES_MAX} bytes")));
        }
        let can_ask = output.for_people() && io::stdin().is_terminal();
        if !(self.yes || self.dry_run || can_ask) {
            return Err(Failure::usage("this asks before it acts, and nobody is there to answer")
                .code(ErrorCode::ConfirmationNeeded)
                .next("add --yes if you are sure, or --dry-run to see the plan"));
        }
        let reason = self.reason.as_str();
        each(&self.ids, output, |id| self.one(admin, output, id, reason)).await
    }

    async fn one(&self, admin: &Admin, output: &Output, id: &str, reason: &str) -> Result<(), Failure> {
        let before = inspect(admin, id).await?;
        if output.for_people() {
            output.note(transaction::page(&before));
            output.note(format_args!("\nplan: {}", plan(&before)));
        }
        if self.dry_run {
            return if output.for_people() {
                Ok(())
            } else {
                output.document(&serde_json::json!({ "transaction": before, "plan": plan(&before) }))
            };
        }
        if !self.yes {
            confirm(output, &gid_tail(before.gid())).await?;
        }
        let mut client = admin.client.clone();
        // The whole gid, so that what is resolved is what was shown.
        let request = v1::ResolveTransactionRequest { gid: before.gid.clone(), reason: reason.to_owned() };
        let response = admin
            .call(Effect::Change, client.resolve_transaction(request))
            .await
            .map_err(|failure| failure.next(format!("pactum tx show {}", gid_tail(before.gid()))))?;
        let abort = response.outcome.and_then(|outcome| outcome.reason).map(AbortView::from);
        if output.for_people() {
            output.text(format_args!("{}  aborted, durably", before.gid))?;
            output.hint(format_args!("Next: pactum tx show {}", gid_tail(before.gid())));
            Ok(())
        } else {
            output.document(&serde_json::json!({ "gid": before.gid, "outcome": "aborted", "abort": abort }))
        }
    }
}

/// The wire's limit.
const REASON_BYTES_MAX: usize = 512;

/// What will happen, in a sentence. The state may change until then: the log decides.
fn plan(transaction: &TransactionView) -> &'static str {
    match transaction.state.as_str() {
        "committing" | "committed" => {
            "nothing: the log says commit, and a resolve will be refused; every branch commits once its resource is back"
        }
        "aborting" | "aborted" => "nothing new: it is aborted already",
        "deciding" => {
            "the log is asked to close it with abort; if a commit reached the log first, that stands and this is refused"
        }
        _ => {
            "the log closes it with abort; every branch rolls back, and the application is told that it aborted; nobody can commit it afterwards"
        }
    }
}

/// Asks for the end of the gid.
async fn confirm(output: &Output, tail: &str) -> Result<(), Failure> {
    output.note(format_args!("type the last 6 characters of the transaction ({tail}) to go on:"));
    let typed = tokio::task::spawn_blocking(|| -> io::Result<String> {
        io::stderr().flush()?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok(line)
    })
    .await;
    match typed {
        Ok(Ok(line)) if line.trim().eq_ignore_ascii_case(tail) => Ok(()),
        Ok(Ok(_)) => Err(Failure::new(Exit::Failed, "that is something else; nothing was done")),
        Ok(Err(error)) => Err(Failure::new(Exit::Failed, "the answer cannot be read").because(&error)),
        Err(error) => Err(Failure::new(Exit::Failed, "the answer cannot be read").because(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_for_a_decided_transaction_promises_nothing() {
        for (state, word) in [
            ("committing", "refused"),
            ("committed", "refused"),
            ("aborted", "already"),
            ("undecided", "closes"),
            ("active", "closes"),
        ] {
            let transaction =
                TransactionView { state: state.into(), ..TransactionView::from(v1::Transaction::default()) };
            assert!(plan(&transaction).contains(word), "{state}");
        }
    }
}
