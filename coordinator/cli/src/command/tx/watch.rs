//! `pactum tx watch`.

use clap::Args;
use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::TransactionView;
use crate::output::{Output, transaction};

/// Which transaction to follow.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The gid, or its beginning or end (at least 4 digits) if that fits one transaction only
    id: String,
}

impl Watch {
    /// Prints a line (with `-o json` an object on a line) now and at each change. Ends with
    /// [`Exit::Ok`] once committed, [`Exit::Aborted`] once aborted.
    pub(super) async fn run(self, admin: &Admin, output: &Output) -> Result<Exit, Failure> {
        let mut client = admin.client.clone();
        let request = v1::WatchTransactionRequest { gid: self.id };
        let mut stream = admin.call(Effect::None, client.watch_transaction(request)).await?;
        let mut last = None;
        loop {
            let message = stream.message().await;
            let Some(message) = message.map_err(|status| admin.failure(Effect::None, &status))? else {
                break;
            };
            let Some(transaction) = message.transaction else { continue };
            let view = TransactionView::from(transaction);
            if output.for_people() {
                output.text(transaction::watch_line(&view))?;
            } else {
                output.line(&view)?;
            }
            last = Some(view);
        }
        match last.as_ref().map(|view| view.state.as_str()) {
            Some("committed") => Ok(Exit::Ok),
            Some("aborted") => Ok(Exit::Aborted),
            _ => Err(Failure::new(
                Exit::CannotConnect,
                "the server ended the stream before the transaction had ended",
            )
            .next("it stops or restarts: run the same command again, or ask another with --server")),
        }
    }
}
