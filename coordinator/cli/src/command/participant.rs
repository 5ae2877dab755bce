//! `pactum participant`: who is attached, and who takes new branches.

mod turn;

use clap::{Args, Subcommand};
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
    /// Show all that attached processes told of one resource
    Show(Show),
    /// Have participants take no new branches; what they have is finished
    ///
    /// Before a process is stopped or a database is worked on. `participant list` shows when nothing is
    /// open any more. A process that restarts takes new branches again.
    Drain(turn::Turn),
    /// Have participants take new branches again
    Resume(turn::Turn),
}

/// Which to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The resource, or the beginning or end of an instance's id (at least 4 digits)
    name: String,
}

impl ParticipantCommand {
    /// Does it.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        match self {
            Self::List => list(&Admin::connect(global).await?, output).await,
            Self::Show(show) => show.run(&Admin::connect(global).await?, output).await,
            Self::Drain(turn) => turn.run(global, output, turn::Way::Drain).await,
            Self::Resume(turn) => turn.run(global, output, turn::Way::Resume).await,
        }
    }
}

/// Everyone who is attached.
async fn attached(admin: &Admin) -> Result<Vec<ParticipantView>, Failure> {
    let mut client = admin.client.clone();
    let request = v1::ListParticipantsRequest {};
    let response = admin.call(Effect::None, client.list_participants(request)).await?;
    Ok(response.participants.into_iter().map(Into::into).collect())
}

async fn list(admin: &Admin, output: &Output) -> Result<Exit, Failure> {
    let participants = attached(admin).await?;
    print(output, &participants, |times| participant::list(&participants, times))?;
    output.hint(match participants.len() {
        0 => "nobody is attached. Next: pactum demo transfer shows two banks that attach".to_owned(),
        count => format!("{count} attached. Next: pactum participant show NAME, pactum tx list"),
    });
    Ok(Exit::Ok)
}

impl Show {
    async fn run(self, admin: &Admin, output: &Output) -> Result<Exit, Failure> {
        let mut found = attached(admin).await?;
        let names: Vec<String> = found.iter().map(|known| known.resource.clone()).collect();
        found.retain(|known| known.resource == self.name || is_part(&self.name, &known.instance));
        if found.is_empty() {
            return Err(not_attached(&self.name, &names));
        }
        print(output, &found, |times| {
            let pages = found.iter().map(|known| participant::page(known, times));
            pages.collect::<Vec<_>>().join("\n\n")
        })?;
        let resource = &found[0].resource;
        output.hint(format_args!(
            "Next: pactum tx list --filter resource={resource} | pactum quarantine list --resource {resource}"
        ));
        Ok(Exit::Ok)
    }
}

/// In the form that was asked for; the same shape for a list and for a page.
fn print(
    output: &Output,
    participants: &[ParticipantView],
    text: impl Fn(crate::output::times::Times) -> String,
) -> Result<(), Failure> {
    match output.format {
        Format::Table if participants.is_empty() => Ok(()),
        Format::Table => output.text(text(output.times())),
        Format::Json => output.document(&serde_json::json!({ "participants": participants })),
        Format::Jsonl => participants.iter().try_for_each(|participant| output.line(participant)),
    }
}

/// Whether that is the beginning or the end of an id, with hyphens or without.
fn is_part(part: &str, id: &str) -> bool {
    const DIGITS_MIN: usize = 4;
    let (part, id) = (part.replace('-', "").to_ascii_lowercase(), id.replace('-', ""));
    part.len() >= DIGITS_MIN && (id.starts_with(&part) || id.ends_with(&part))
}

/// Nobody of that name; who there is stands beside it.
fn not_attached(name: &str, known: &[String]) -> Failure {
    let mut known = known.to_vec();
    known.dedup();
    let failure = Failure::new(Exit::NotFound, format!("no attached participant is called {name:?}"));
    let failure = match known.as_slice() {
        [] => failure.cause("nobody is attached to this coordinator"),
        some => failure.cause(format!("attached are: {}", some.join(", "))),
    };
    failure.next(
        "check the name; if its process is down, start it, or look into its database: \
         pactum branch list --database URL --log URL",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_id_is_its_beginning_or_end_and_not_too_short() {
        let id = "0199c3d0-0000-7000-8000-0000004a7f2a";
        for part in ["0199", "4A7F2A", "0199c3d0-0000", id] {
            assert!(is_part(part, id), "{part}");
        }
        for part in ["019", "c3d0", "", "7000-8000"] {
            assert!(!is_part(part, id), "{part}");
        }
    }

    #[test]
    fn whoever_is_not_found_is_told_who_there_is() {
        let text = not_attached("bank-c", &["bank-a".into(), "bank-a".into(), "bank-b".into()]).to_string();
        assert!(text.contains("attached are: bank-a, bank-b"), "{text}");
    }
}
