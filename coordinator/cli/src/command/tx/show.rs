//! `pactum tx show`.

use clap::Args;
use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::{Ids, each};
use crate::output::view::{PageView, TransactionView};
use crate::output::{Output, transaction};

/// Which transactions to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    ids: Ids,
    /// Do not ask participants what their databases say of the branches; that can take 2 s where one is
    /// silent
    #[arg(long)]
    no_examine: bool,
}

impl Show {
    /// Prints each on a page of its own.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let examine = !self.no_examine;
        let ids = self.ids.read().await?;
        let admin = Admin::connect(global).await?;
        each(&ids, output, |id| one(&admin, output, id, examine)).await
    }
}

async fn one(admin: &Admin, output: &Output, id: &str, examine: bool) -> Result<(), Failure> {
    let mut client = admin.client.clone();
    let request = v1::InspectTransactionRequest { gid: id.to_owned(), examine };
    let response = admin.call(Effect::None, client.inspect_transaction(request)).await?;
    let view = response
        .transaction
        .map(TransactionView::from)
        .ok_or_else(|| Failure::new(Exit::Failed, "the server answered without a transaction"))?;
    if output.for_people() {
        output.text(transaction::page(&view, output.times()))?;
        output.hint(transaction::footer(&view));
        Ok(())
    } else {
        let next = transaction::next(&view);
        output.document(&PageView { transaction: view, next })
    }
}
