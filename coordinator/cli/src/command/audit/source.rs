//! Where the audit is read from, oldest entry first: a coordinator, page by page, or an export.

use std::io::{self, BufRead};
use std::path::Path;

use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::AuditEntryView;

/// The wire's limit.
const PAGE: u32 = 1000;

/// Every entry that a coordinator lists.
pub(super) async fn from_server(
    global: &Global,
    mut take: impl FnMut(AuditEntryView) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let admin = Admin::connect(global).await?;
    let mut client = admin.client.clone();
    let mut after = 0;
    loop {
        let request = v1::ListAuditRequest { page_size: PAGE, after: Some(after), before: None };
        let response = admin.call(Effect::None, client.list_audit(request)).await?;
        let Some(last) = response.entries.last().map(|entry| entry.number) else { return Ok(()) };
        if last <= after {
            return Err(Failure::new(Exit::Failed, "the server lists the same entries again and again"));
        }
        after = last;
        response.entries.into_iter().try_for_each(|entry| take(entry.into()))?;
    }
}

/// Every line of an export; `-` is stdin.
pub(super) fn from_file(
    path: &Path,
    mut take: impl FnMut(AuditEntryView) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let shown = path.display();
    let cannot_read = |error: &io::Error| Failure::usage(format!("{shown} cannot be read")).because(error);
    let reader: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(io::BufReader::new(std::fs::File::open(path).map_err(|error| cannot_read(&error))?))
    };
    for (index, line) in reader.lines().enumerate() {
        let line = line.map_err(|error| cannot_read(&error))?;
        if line.trim().is_empty() {
            continue;
        }
        let entry = serde_json::from_str(&line).map_err(|error| {
            Failure::new(Exit::Failed, format!("line {} of {shown} is no entry of an audit", index + 1))
                .because(&error)
                .next("an export has one JSON object a line, as `pactum audit export` writes it")
        })?;
        take(entry)?;
    }
    Ok(())
}
