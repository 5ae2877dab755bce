//! `pactum tx list`: a page of transactions, or, with `--watch`, a list that keeps up.

use std::time::Duration;

use clap::{Args, ValueEnum};
use pactum_proto::v1;

use super::watch_list;
use crate::admin::{Admin, Effect};
use crate::args::{Format, duration};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::TransactionView;
use crate::output::{Output, transaction};

/// How old something in doubt is before it counts as stuck: far beyond what a participant's restart
/// takes, and a takeover.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Said under the help.
const FILTERS: &str = "\
Conditions of --filter, with spaces between, all of which must hold:
  state=committing  in-doubt=true  age>5m  age<1h  name=transfer  resource=bank-a  label.app=pay
  heuristic=mixed
Branches that are prepared in a database and belong to no transaction here: pactum quarantine list";

/// Which transactions to list.
#[derive(Debug, Args)]
#[command(after_help = FILTERS)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own on the line")]
pub(crate) struct List {
    /// Conditions, for example 'state=committing age>5m label.app=pay'; see below
    #[arg(short, long, value_name = "CONDITIONS", default_value = "", hide_default_value = true)]
    filter: String,
    /// Only those with a branch that may be in doubt
    #[arg(long)]
    in_doubt: bool,
    /// Only those in doubt for longer than a restart takes: --in-doubt --older-than 30s
    #[arg(long)]
    stuck: bool,
    /// Only those at least this old
    #[arg(long, value_name = "AGE", value_parser = duration)]
    older_than: Option<Duration>,
    /// Only those in this state
    #[arg(long)]
    state: Option<State>,
    /// Finished ones too, out of the log
    #[arg(short = 'a', long, visible_alias = "all")]
    finished: bool,
    /// At most this many
    #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    page_token: String,
    /// Keep up with changes until interrupted: drawn anew on a terminal, else a line a change (with
    /// -o json or jsonl: an object a line, the whole list at each change)
    #[arg(short, long, conflicts_with = "page_token")]
    watch: bool,
}

/// The states, as the wire has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    Active,
    Preparing,
    Deciding,
    Committing,
    Aborting,
    Committed,
    Aborted,
    Undecided,
}

impl From<State> for v1::TransactionState {
    fn from(state: State) -> Self {
        match state {
            State::Active => Self::Active,
            State::Preparing => Self::Preparing,
            State::Deciding => Self::Deciding,
            State::Committing => Self::Committing,
            State::Aborting => Self::Aborting,
            State::Committed => Self::Committed,
            State::Aborted => Self::Aborted,
            State::Undecided => Self::Undecided,
        }
    }
}

impl List {
    /// Prints one page, or follows the list.
    pub(super) async fn run(self, admin: &Admin, output: &Output) -> Result<Exit, Failure> {
        let (watch, narrowed) = (self.watch, self.is_narrowed());
        let request = self.request()?;
        if watch {
            return watch_list::follow(admin, output, request).await;
        }
        let mut client = admin.client.clone();
        let response = admin.call(Effect::None, client.list_transactions(request)).await?;
        let transactions: Vec<TransactionView> = response.transactions.into_iter().map(Into::into).collect();
        let next = response.next_page_token;
        match output.format {
            Format::Table => {
                if !transactions.is_empty() {
                    output.text(transaction::list(&transactions, output.times()))?;
                }
                output.hint(transaction::list_footer(&transactions, !next.is_empty(), narrowed));
                if !next.is_empty() {
                    output.hint(format_args!("more: --page-token {next}"));
                }
            }
            Format::Json => output
                .document(&serde_json::json!({ "transactions": transactions, "next_page_token": next }))?,
            Format::Jsonl => transactions.iter().try_for_each(|transaction| output.line(transaction))?,
        }
        Ok(Exit::Ok)
    }

    fn is_narrowed(&self) -> bool {
        let any = self.in_doubt || self.stuck || !self.filter.is_empty() || !self.page_token.is_empty();
        any || self.state.is_some() || self.older_than.is_some()
    }

    fn request(self) -> Result<v1::ListTransactionsRequest, Failure> {
        let older_than = self.older_than.or(self.stuck.then_some(STUCK_AFTER));
        let ended = matches!(self.state, Some(State::Committed | State::Aborted));
        Ok(v1::ListTransactionsRequest {
            page_size: self.limit,
            page_token: self.page_token,
            state: self.state.map_or(v1::TransactionState::Unspecified, Into::into).into(),
            in_doubt: self.in_doubt || self.stuck,
            older_than: older_than.map(prost_duration).transpose()?,
            finished: self.finished || ended,
            filter: self.filter,
        })
    }
}

fn prost_duration<T: TryFrom<Duration>>(duration: Duration) -> Result<T, Failure> {
    T::try_from(duration).map_err(|_too_long| Failure::usage("--older-than is longer than can be said"))
}
