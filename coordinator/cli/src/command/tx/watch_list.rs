//! `pactum tx list --watch`: the first page of a list, now and at each change, as the server sends it.

use std::collections::BTreeMap;

use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::short_gid;
use crate::output::view::TransactionView;
use crate::output::{Output, transaction};

/// Prints the list at each change until the stream ends, which is an error: it lasts as long as the
/// server.
pub(super) async fn follow(
    admin: &Admin,
    output: &Output,
    list: v1::ListTransactionsRequest,
) -> Result<Exit, Failure> {
    let mut client = admin.client.clone();
    let request = v1::WatchTransactionsRequest { list: Some(list) };
    let mut stream = admin.call(Effect::None, client.watch_transactions(request)).await?;
    let mut seen = Seen::default();
    loop {
        let message = stream.message().await.map_err(|status| admin.failure(Effect::None, &status))?;
        let Some(message) = message else {
            return Err(Failure::new(Exit::CannotConnect, "the server ended the stream")
                .next("it stops or restarts: run the same command again, or ask another with --server"));
        };
        let transactions: Vec<TransactionView> = message.transactions.into_iter().map(Into::into).collect();
        if !output.for_people() {
            output.line(&serde_json::json!({ "transactions": transactions, "more": message.more }))?;
        } else if Output::is_screen() {
            let footer = transaction::list_footer(&transactions, message.more, true);
            let table = match transactions.as_slice() {
                [] => "nothing to show".to_owned(),
                some => transaction::list(some, output.times()),
            };
            output.screen(format_args!("{table}\n\n{footer}"))?;
        } else {
            seen.changes(&transactions).into_iter().try_for_each(|line| output.text(line))?;
        }
    }
}

/// What was shown of each transaction, by gid.
#[derive(Debug, Default)]
struct Seen(BTreeMap<String, Standing>);

/// What makes a new line where it changes; an age alone does not.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    state: String,
    branches: Vec<(String, Option<String>, Option<String>, bool)>,
    waits_for: Option<String>,
}

impl Seen {
    /// A line for each that is new or has changed, and for each that is not listed any more.
    fn changes(&mut self, now: &[TransactionView]) -> Vec<String> {
        let mut before = std::mem::take(&mut self.0);
        let mut lines = Vec::new();
        // Oldest first, as they would have been told.
        for view in now.iter().rev() {
            let standing = standing(view);
            if before.remove(&view.gid).as_ref() != Some(&standing) {
                lines.push(transaction::watch_line(view));
            }
            self.0.insert(view.gid.clone(), standing);
        }
        let gone = before.keys().filter_map(|gid| gid.parse().ok());
        lines.extend(gone.map(|gid| format!("{}  not listed any more", short_gid(gid))));
        lines
    }
}

fn standing(view: &TransactionView) -> Standing {
    let branches = view.branches.iter();
    Standing {
        state: view.state.clone(),
        branches: branches
            .map(|branch| {
                (branch.branch.clone(), branch.vote.clone(), branch.outcome.clone(), branch.attached)
            })
            .collect(),
        waits_for: view.waits_for.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(digit: u8, state: v1::TransactionState, seconds: i64) -> TransactionView {
        let id = v1::TransactionId { incarnation: vec![1; 16], gid: vec![digit; 16] };
        let age = std::time::Duration::from_secs(seconds.unsigned_abs()).try_into().ok();
        v1::Transaction { id: Some(id), state: state.into(), age, ..v1::Transaction::default() }.into()
    }

    #[test]
    fn only_what_changed_is_a_line_and_what_left_is_told() {
        use v1::TransactionState::{Active, Committing};
        let mut seen = Seen::default();
        assert_eq!(seen.changes(&[view(2, Active, 1), view(1, Active, 2)]).len(), 2);
        assert!(seen.changes(&[view(2, Active, 5), view(1, Active, 6)]).is_empty(), "older is no change");
        let lines = seen.changes(&[view(2, Committing, 7)]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("COMMITTING"), "{lines:?}");
        assert_eq!(lines[1], "010101..010101  not listed any more");
    }
}
