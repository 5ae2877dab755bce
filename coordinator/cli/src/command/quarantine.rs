//! `pactum quarantine`: branches that are prepared in databases and of which nobody takes care.

use clap::{Args, Subcommand};
use pactum_core::id::Incarnation;
use pactum_proto::v1;
use pactum_proto::v1::act::Act;

use crate::act::{Strictly, act};
use crate::admin::{Admin, Effect};
use crate::args::{Format, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::PreparedView;
use crate::output::{Output, prepared};

/// What can be typed after `quarantine`.
#[derive(Debug, Subcommand)]
pub(crate) enum Quarantine {
    /// List stuck branches: orphans, and those in quarantine
    ///
    /// Asks every attached participant what is prepared in its database. An orphan's transaction has no
    /// record and its owner has ended: the next inquiry rolls it back. A quarantined branch stays
    /// prepared until a person ends it, because the log went back in time or has forgotten, so that a
    /// missing record proves nothing. Transactions in doubt that are taken care of: pactum tx list
    /// --stuck. A database whose participant is away: pactum branch list --database URL.
    #[command(visible_alias = "ls")]
    List(List),
    /// Lift doubts: what has no record may be aborted again, and quarantined branches with it
    ///
    /// Before releasing, compare what the databases committed, and overrule what differs: whatever of
    /// these incarnations is prepared without a record is rolled back from then on. Without a
    /// coordinator: pactum log release --log URL.
    Release(Release),
}

/// Which branches.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only at this resource
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    resource: String,
    /// Every prepared branch, those included that are taken care of
    #[arg(short, long)]
    all: bool,
    /// At most this many for each resource, oldest first
    #[arg(long, default_value_t = 256, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=256))]
    limit: u32,
}

/// Whose doubt to lift, and why.
#[derive(Debug, Args)]
#[group(id = "whose", required = true, multiple = false, args = ["incarnation", "all"])]
pub(crate) struct Release {
    /// One incarnation, as `quarantine list` shows it
    #[arg(long, value_name = "ID")]
    incarnation: Option<Incarnation>,
    /// Every incarnation in doubt
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    doing: Strictly,
}

impl Quarantine {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        match self {
            Self::List(list) => list.run(&Admin::connect(global).await?, output).await,
            Self::Release(release) => {
                let terms = release.doing.terms(output)?;
                let incarnation =
                    release.incarnation.map(|one| one.as_uuid().as_bytes().to_vec()).unwrap_or_default();
                let admin = Admin::connect(global).await?;
                let release = v1::ReleaseAct { incarnation };
                act(&admin, output, &terms, Act::Release(release)).await.map(|()| Exit::Ok)
            }
        }
    }
}

impl List {
    /// Prints them. Where a participant did not answer the list is not whole, and the exit says so.
    async fn run(self, admin: &Admin, output: &Output) -> Result<Exit, Failure> {
        let request =
            v1::ListBranchesRequest { resource: self.resource, stuck: !self.all, limit: self.limit };
        let mut client = admin.client.clone();
        let response = admin.call(Effect::None, client.list_branches(request)).await?;
        let found = PreparedView::from(response);
        match output.format {
            Format::Table => {
                if !found.branches.is_empty() {
                    output.text(prepared::list(&found, output.times()))?;
                }
                for problem in &found.problems {
                    output
                        .note(format_args!("not all of {} is known: {}", problem.resource, problem.problem));
                }
                output.hint(prepared::footer(&found, self.all));
            }
            Format::Json => output.document(&found)?,
            Format::Jsonl => {
                found.branches.iter().try_for_each(|branch| output.line(branch))?;
                // Not data of that shape, yet not to be missed.
                for problem in &found.problems {
                    output.note(serde_json::json!({ "problem": problem }));
                }
            }
        }
        Ok(if found.problems.is_empty() { Exit::Ok } else { Exit::Partial })
    }
}
