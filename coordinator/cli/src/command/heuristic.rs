//! `pactum heuristic`: branches that ended without the decision.

use clap::{Args, Subcommand};
use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::args::{Format, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::HeuristicView;
use crate::output::{Output, heuristic};

/// What can be typed after `heuristic`.
#[derive(Debug, Subcommand)]
pub(crate) enum Heuristic {
    /// List branches that ended against the decision or ahead of it, newest transaction first
    ///
    /// By `pactum tx overrule`, or by hand in a database. One that agrees with the decision clears
    /// itself; another stays until `pactum tx forget`.
    #[command(visible_alias = "ls")]
    List(List),
}

/// Which page.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most this many
    #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    page_token: String,
}

impl Heuristic {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let Self::List(list) = self;
        let admin = Admin::connect(global).await?;
        let mut client = admin.client.clone();
        let request = v1::ListHeuristicsRequest { page_size: list.limit, page_token: list.page_token };
        let response = admin.call(Effect::None, client.list_heuristics(request)).await?;
        let heuristics: Vec<HeuristicView> = response.heuristics.into_iter().map(Into::into).collect();
        let next = response.next_page_token;
        match output.format {
            Format::Table => {
                if !heuristics.is_empty() {
                    output.text(heuristic::list(&heuristics, output.times()))?;
                }
                output.hint(heuristic::footer(&heuristics, !next.is_empty()));
                if !next.is_empty() {
                    output.hint(format_args!("more: --page-token {next}"));
                }
            }
            Format::Json => {
                output.document(&serde_json::json!({ "heuristics": heuristics, "next_page_token": next }))?;
            }
            Format::Jsonl => heuristics.iter().try_for_each(|heuristic| output.line(heuristic))?,
        }
        Ok(Exit::Ok)
    }
}
