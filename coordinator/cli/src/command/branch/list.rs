//! `pactum branch list`: changes nothing.

use clap::Args;

use super::plan::Plan;
use super::scan;
use super::view::{BranchView, page};
use super::{PLACES, Places};
use crate::args::{Format, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Which branches to list.
#[derive(Debug, Args)]
#[command(after_help = PLACES)]
pub(crate) struct List {
    #[command(flatten)]
    places: Places,
}

impl List {
    /// Does it.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let mut site = self.places.open(global).await?;
        let (mut found, known): (Vec<_>, Vec<_>) = site.look().await?.into_iter().unzip();
        // What else is known is shown where only the locks cannot be read.
        if let Err(trouble) = scan::examine(&mut site.database, &mut found).await {
            output.note(format_args!("what the branches have locked is not known: {}", trouble.text()));
        }
        let rows: Vec<_> = found
            .into_iter()
            .zip(known)
            .map(|(branch, known)| {
                let plan = known.finish(false);
                (branch, known, plan)
            })
            .collect();
        let views = || {
            rows.iter()
                .map(|(branch, known, plan)| BranchView::new(&site.database.name, branch, known, plan))
                .collect::<Vec<_>>()
        };
        match output.format {
            Format::Table if rows.is_empty() => {
                let of =
                    site.cluster.as_ref().map(|cluster| format!(" of cluster {cluster}")).unwrap_or_default();
                output.text(format_args!("no branch{of} is prepared in {}", site.database.shown()))?;
            }
            Format::Table => {
                output.text(page(&rows, site.cluster.is_none()))?;
                output.hint(hint(&rows, site.log.failure().is_none()));
            }
            Format::Json => output.document(&serde_json::json!({
                "database": site.database.shown(),
                "cluster": site.cluster.as_ref().map(ToString::to_string),
                "branches": views(),
            }))?,
            Format::Jsonl => {
                for view in views() {
                    output.line(&view)?;
                }
            }
        }
        Ok(Exit::Ok)
    }
}

fn hint<A, B>(rows: &[(A, B, Plan)], log_answers: bool) -> String {
    let count = rows.len();
    let ended = rows.iter().filter(|(_, _, plan)| !matches!(plan, Plan::Leave(_))).count();
    if !log_answers {
        return format!("{count} prepared. What is to become of them only the log knows: --log URL");
    }
    format!(
        "{count} prepared, {ended} of them can be finished. Next: pactum branch finish --all --reason TEXT --dry-run"
    )
}
