//! `pactum tx retry`, `resolve` and `forget`: the acts on whole transactions.

use clap::Args;
use pactum_proto::v1::act::Act;
use pactum_proto::v1::{ForgetAct, ResolveAct, RetryAct};

use crate::act::{Lightly, Terms, Usually, act};
use crate::admin::Admin;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::{Ids, each};
use crate::output::Output;

/// Which to try now.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    #[command(flatten)]
    ids: Ids,
    #[command(flatten)]
    doing: Lightly,
}

/// Which to have decided.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    #[command(flatten)]
    ids: Ids,
    #[command(flatten)]
    doing: Usually,
}

/// Whose heuristic outcomes to drop.
#[derive(Debug, Args)]
pub(crate) struct Forget {
    #[command(flatten)]
    ids: Ids,
    #[command(flatten)]
    doing: Usually,
}

impl Retry {
    /// Does it.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let terms = self.doing.terms()?;
        all(self.ids, global, output, &terms, |gid| Act::Retry(RetryAct { gid })).await
    }
}

impl Resolve {
    /// Does it.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let terms = self.doing.terms(output, self.ids.take_stdin())?;
        all(self.ids, global, output, &terms, |gid| Act::Resolve(ResolveAct { gid })).await
    }
}

impl Forget {
    /// Does it.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let terms = self.doing.terms(output, self.ids.take_stdin())?;
        all(self.ids, global, output, &terms, |gid| Act::Forget(ForgetAct { gid })).await
    }
}

/// The same act on each.
async fn all(
    ids: Ids,
    global: &Global,
    output: &Output,
    terms: &Terms,
    make: impl Fn(String) -> Act,
) -> Result<Exit, Failure> {
    let ids = ids.read().await?;
    let admin = Admin::connect(global).await?;
    each(&ids, output, |id| act(&admin, output, terms, make(id.to_owned()))).await
}
