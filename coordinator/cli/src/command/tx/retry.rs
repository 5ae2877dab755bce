//! `pactum tx retry`.

use pactum_proto::v1;

use super::found;
use crate::admin::{Admin, Effect};
use crate::failure::Failure;
use crate::output::table::gid_tail;
use crate::output::{Output, transaction};

/// Has one transaction's unfinished branches driven now.
pub(super) async fn retry(admin: &Admin, output: &Output, id: &str) -> Result<(), Failure> {
    let mut client = admin.client.clone();
    let request = v1::RetryTransactionRequest { gid: id.to_owned() };
    // Whether the attempt was ordered or not changes no outcome.
    let response = admin.call(Effect::None, client.retry_transaction(request)).await?;
    let view = found(response.transaction)?;
    if output.for_people() {
        output.text(transaction::watch_line(&view))?;
        output.hint(format_args!("An attempt was ordered. Next: pactum tx watch {}", gid_tail(view.gid())));
        Ok(())
    } else {
        output.document(&view)
    }
}
