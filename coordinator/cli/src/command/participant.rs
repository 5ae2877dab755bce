//! `pactum participant`: who is attached.

use clap::Subcommand;
use pactum_proto::v1;

use crate::admin::{Admin, Effect};
use crate::args::{Format, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::view::ParticipantView;
use crate::output::{Output, participant};

/// What can be typed after `participant`.
#[derive(Debug, Subcommand)]
pub(crate) enum ParticipantCommand {
    /// List the resources of every attached process
    #[command(visible_alias = "ls")]
    List,
}

impl ParticipantCommand {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let Self::List = self;
        let admin = Admin::connect(global).await?;
        let mut client = admin.client.clone();
        let response =
            admin.call(Effect::None, client.list_participants(v1::ListParticipantsRequest {})).await?;
        let participants: Vec<ParticipantView> = response.participants.into_iter().map(Into::into).collect();
        match output.format {
            Format::Table => {
                if !participants.is_empty() {
                    output.text(participant::list(&participants))?;
                }
                output.hint(match participants.len() {
                    0 => "nobody is attached. Next: pactum demo transfer shows two banks that attach"
                        .to_owned(),
                    count => format!("{count} attached. Next: pactum tx list"),
                });
            }
            Format::Json => output.document(&serde_json::json!({ "participants": participants }))?,
            Format::Jsonl => participants.iter().try_for_each(|participant| output.line(participant))?,
        }
        Ok(Exit::Ok)
    }
}
