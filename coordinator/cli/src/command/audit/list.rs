//! `pactum audit list`.

use clap::Args;
use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::args::{Format, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::AuditEntryView;
use crate::output::{Output, audit};

/// Which entries.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most this many
    #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only entries before this number
    #[arg(long, value_name = "NUMBER", conflicts_with = "after")]
    before: Option<u64>,
    /// Only entries after this number, and oldest first
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
}

impl List {
    /// Prints one page.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let admin = Admin::connect(global).await?;
        let mut client = admin.client.clone();
        let request = v1::ListAuditRequest { page_size: self.limit, after: self.after, before: self.before };
        let response = admin.call(Effect::None, client.list_audit(request)).await?;
        let entries: Vec<AuditEntryView> = response.entries.into_iter().map(Into::into).collect();
        match output.format {
            Format::Table => {
                if !entries.is_empty() {
                    output.text(audit::list(&entries, output.times()))?;
                }
                output.hint(self.hint(&entries));
            }
            Format::Json => output.document(&serde_json::json!({ "entries": entries }))?,
            Format::Jsonl => entries.iter().try_for_each(|entry| output.line(entry))?,
        }
        Ok(Exit::Ok)
    }

    fn hint(&self, entries: &[AuditEntryView]) -> String {
        let full = entries.len() >= usize::try_from(self.limit).unwrap_or(usize::MAX);
        match entries.last() {
            None => "no act is recorded here. Next: pactum audit verify".to_owned(),
            Some(last) if full && self.after.is_some() => format!("more: --after {}", last.number),
            Some(last) if full && last.number > 1 => format!("more: --before {}", last.number),
            Some(_) => "Next: pactum audit verify | pactum audit export --file FILE".to_owned(),
        }
    }
}
