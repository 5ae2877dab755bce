//! `pactum status`: one coordinator, who else is alive on its log, and what the log says of itself.

use clap::Args;
use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::args::{Format, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::StatusView;
use crate::output::{Output, status};

/// What can be typed after `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Status {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let admin = Admin::connect(global).await?;
        let mut client = admin.client.clone();
        let response = admin.call(Effect::None, client.get_server_info(v1::GetServerInfoRequest {})).await?;
        let view = StatusView::from(response);
        match output.format {
            Format::Table => {
                output.text(status::page(&view))?;
                output.hint(hint(&view));
            }
            Format::Json | Format::Jsonl => output.document(&view)?,
        }
        Ok(Exit::Ok)
    }
}

/// What a person would do next.
fn hint(view: &StatusView) -> String {
    if view.log.doubted > 0 {
        "the log went back in time; branches of those coordinators wait for you. Next: pactum log status --log URL"
            .to_owned()
    } else if !view.log.available {
        "new commits are refused until the log can be written. Next: look at the log's database".to_owned()
    } else if view.incarnation.is_none() {
        "it takes no new transactions now. Next: ask another coordinator (--server)".to_owned()
    } else {
        "it takes transactions. Next: pactum tx list, pactum participant list".to_owned()
    }
}
