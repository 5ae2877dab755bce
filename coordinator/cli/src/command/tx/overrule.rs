//! `pactum tx overrule`.

use clap::Args;
use pactum_core::id::BranchId;
use pactum_proto::v1::OverruleAct;
use pactum_proto::v1::act::Act;

use crate::act::{Strictly, act};
use crate::admin::Admin;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Which branch to end, how, and why. One at a time: each deserves its own look.
#[derive(Debug, Args)]
#[group(id = "how", required = true, multiple = false, args = ["commit", "rollback"])]
pub(crate) struct Overrule {
    /// The gid, or its beginning or end (at least 4 digits) if that fits one transaction only; the whole
    /// gid of an orphan or of a quarantined branch
    id: String,
    /// The resource at which the branch is prepared
    #[arg(long, value_name = "NAME")]
    resource: String,
    /// The branch, as `tx show` names it; needed only where the transaction has several there
    #[arg(long, value_name = "BRANCH")]
    branch: Option<BranchId>,
    /// Commit it
    #[arg(long)]
    commit: bool,
    /// Roll it back
    #[arg(long)]
    rollback: bool,
    #[command(flatten)]
    doing: Strictly,
}

impl Overrule {
    /// Does it.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let terms = self.doing.terms(output)?;
        let admin = Admin::connect(global).await?;
        let overrule = OverruleAct {
            gid: self.id,
            resource: self.resource,
            branch: self.branch.map_or(0, BranchId::number),
            commit: self.commit,
        };
        act(&admin, output, &terms, Act::Overrule(overrule)).await.map(|()| Exit::Ok)
    }
}
