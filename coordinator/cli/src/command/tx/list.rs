//! `pactum tx list`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::args::{Format, duration};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::TransactionView;
use crate::output::{Output, transaction};

/// Which transactions to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those with a branch that may be in doubt
    #[arg(long)]
    in_doubt: bool,
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
    /// Prints one page.
    pub(super) async fn run(self, admin: &Admin, output: &Output) -> Result<Exit, Failure> {
        let older_than = self.older_than.map(prost_duration).transpose()?;
        let ended = matches!(self.state, Some(State::Committed | State::Aborted));
        let request = v1::ListTransactionsRequest {
            page_size: self.limit,
            page_token: self.page_token,
            state: self.state.map_or(v1::TransactionState::Unspecified, Into::into).into(),
            in_doubt: self.in_doubt,
            older_than,
            finished: self.finished || ended,
        };
        let mut client = admin.client.clone();
        let response = admin.call(Effect::None, client.list_transactions(request)).await?;
        let transactions: Vec<TransactionView> = response.transactions.into_iter().map(Into::into).collect();
        let next = response.next_page_token;
        match output.format {
            Format::Table => {
                if !transactions.is_empty() {
                    output.text(transaction::list(&transactions))?;
                }
                output.hint(transaction::list_footer(&transactions, !next.is_empty()));
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
}

fn prost_duration<T: TryFrom<Duration>>(duration: Duration) -> Result<T, Failure> {
    T::try_from(duration).map_err(|_too_long| Failure::usage("--older-than is longer than can be said"))
}
