//! `pactum tx`: what transactions there are, what they wait for, and how to settle them.

mod acts;
mod list;
mod overrule;
mod show;
mod watch;
mod watch_list;

use clap::Subcommand;

use crate::admin::Admin;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What can be typed after `tx`.
#[derive(Debug, Subcommand)]
pub(crate) enum Tx {
    /// List transactions, newest first
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show transactions: each branch here and in its database, their course, why they wait, what helps
    Show(show::Show),
    /// Follow one transaction until it has ended
    Watch(watch::Watch),
    /// Have unfinished branches driven now instead of at their next try
    Retry(acts::Retry),
    /// Have undecided transactions decided: aborted, through the log
    ///
    /// There is no resolving into a commit: only the owner of a transaction proposes that. Where the
    /// log says otherwise already, this is refused, and what the log says is carried out.
    Resolve(acts::Resolve),
    /// End one prepared branch by hand, against or ahead of the decision
    ///
    /// A heuristic outcome: kept beside the true decision, with who, when and why, until it is
    /// forgotten. The branches of the transaction may then differ for good. Where the decision can be
    /// waited for, wait.
    Overrule(overrule::Overrule),
    /// Drop the heuristic outcomes of transactions, once the data has been set right
    Forget(acts::Forget),
}

impl Tx {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        // What is typed is checked first, and stdin read, before anybody is called.
        match self {
            Self::List(list) => list.run(&Admin::connect(global).await?, output).await,
            Self::Show(show) => show.run(global, output).await,
            Self::Watch(watch) => watch.run(&Admin::connect(global).await?, output).await,
            Self::Retry(retry) => retry.run(global, output).await,
            Self::Resolve(resolve) => resolve.run(global, output).await,
            Self::Overrule(overrule) => overrule.run(global, output).await,
            Self::Forget(forget) => forget.run(global, output).await,
        }
    }
}
