//! `pactum tx`: what transactions there are, what they wait for, and how to settle them.

mod list;
mod resolve;
mod retry;
mod show;
mod watch;

use std::future::Future;

use clap::{Args, Subcommand};
use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::view::TransactionView;

/// What can be typed after `tx`.
#[derive(Debug, Subcommand)]
pub(crate) enum Tx {
    /// List transactions, newest first
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show transactions with their branches, and what they wait for
    Show(Ids),
    /// Follow one transaction until it has ended
    Watch(watch::Watch),
    /// Have unfinished branches driven now instead of at their next try
    Retry(Ids),
    /// Have an undecided transaction decided: aborted, through the log
    Resolve(resolve::Resolve),
}

/// Transactions, by name.
#[derive(Debug, Args)]
pub(crate) struct Ids {
    /// The gid, or its beginning or end (at least 4 digits) if that fits one transaction only
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Tx {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let admin = Admin::connect(global).await?;
        match self {
            Self::List(list) => list.run(&admin, output).await,
            Self::Show(ids) => each(&ids.ids, output, |id| show::show(&admin, output, id)).await,
            Self::Watch(watch) => watch.run(&admin, output).await,
            Self::Retry(ids) => each(&ids.ids, output, |id| retry::retry(&admin, output, id)).await,
            Self::Resolve(resolve) => resolve.run(&admin, output).await,
        }
    }
}

/// Does something for each id. One that fails does not stop the others: what failed is told as it
/// happens, and the exit says whether that was some or all.
async fn each<'a, F>(ids: &'a [String], output: &Output, act: impl Fn(&'a str) -> F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut failures = Vec::new();
    for id in ids {
        if let Err(failure) = act(id).await {
            failures.push(failure);
        }
    }
    let (failed, count) = (failures.len(), ids.len());
    let Some(last) = failures.pop() else { return Ok(Exit::Ok) };
    let alike = failures.iter().all(|failure| failure.exit() == last.exit());
    for failure in &failures {
        output.failure(failure);
    }
    Err(match (failed == count, alike) {
        (true, true) => last,
        (true, false) => last.with_exit(Exit::Failed),
        (false, _) => last.with_exit(Exit::Partial),
    })
}

/// Reads one transaction.
async fn inspect(admin: &Admin, id: &str) -> Result<TransactionView, Failure> {
    let mut client = admin.client.clone();
    let request = v1::InspectTransactionRequest { gid: id.to_owned() };
    let response = admin.call(Effect::None, client.inspect_transaction(request)).await?;
    found(response.transaction)
}

/// The transaction of a response, which must hold one.
fn found(transaction: Option<v1::Transaction>) -> Result<TransactionView, Failure> {
    transaction
        .map(TransactionView::from)
        .ok_or_else(|| Failure::new(Exit::Failed, "the server answered without a transaction"))
}
