//! `pactum tx show`.

use super::inspect;
use crate::admin::Admin;
use crate::failure::Failure;
use crate::output::{Output, transaction};

/// Prints one transaction.
pub(super) async fn show(admin: &Admin, output: &Output, id: &str) -> Result<(), Failure> {
    let view = inspect(admin, id).await?;
    if output.for_people() {
        output.text(transaction::page(&view))?;
        output.hint(transaction::page_footer(&view));
        Ok(())
    } else {
        output.document(&view)
    }
}
