//! `pactum audit verify`.

use std::path::PathBuf;

use clap::Args;

use super::chain::{Chain, Expected};
use super::source;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What to verify.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// An export instead of what the coordinator lists; `-` is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// An entry that must be there, as an earlier export or verify told it
    #[arg(long, value_name = "NUMBER:HASH")]
    expect: Option<Expected>,
}

impl Verify {
    /// Says whether it is whole, and its last number and hash.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let mut chain = Chain::new(self.expect);
        match self.file {
            None => {
                source::from_server(global, |entry| {
                    chain.add(&entry);
                    Ok(())
                })
                .await?;
            }
            Some(path) => {
                // A file of any size, read by a thread that may wait for it.
                let read = tokio::task::spawn_blocking(move || {
                    source::from_file(&path, |entry| {
                        chain.add(&entry);
                        Ok(())
                    })
                    .map(|()| chain)
                });
                chain = read.await.map_err(|error| {
                    Failure::new(Exit::Failed, "the file was not read to its end").because(&error)
                })??;
            }
        }
        let (number, hash) = chain.end()?;
        if output.for_people() {
            output.text(match number {
                0 => "whole: it has no entry".to_owned(),
                number => format!("whole: {number} entries, the last {number}:{hash}"),
            })?;
            if number > 0 {
                output.hint("kept elsewhere, that finds an end that was cut off: pactum audit verify --expect NUMBER:HASH");
            }
        } else {
            let last = (number > 0).then(|| serde_json::json!({ "number": number, "hash": hash }));
            output.document(&serde_json::json!({ "whole": true, "entries": number, "last": last }))?;
        }
        Ok(Exit::Ok)
    }
}
