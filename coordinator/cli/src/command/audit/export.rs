//! `pactum audit export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::chain::Chain;
use super::source;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::view::AuditEntryView;

/// Where to.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A file that does not exist yet; without it the entries go to stdout
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Export {
    /// Writes them. On return with [`Exit::Ok`] a file is durable. A chain that is broken is written to
    /// its end all the same: it is what there is.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let mut chain = Chain::default();
        if let Some(path) = &self.file {
            // Nothing is left behind if the server is not there.
            let mut file = None;
            source::from_server(global, |entry| {
                chain.add(&entry);
                let file = match &mut file {
                    Some(file) => file,
                    None => file.insert(create(path)?),
                };
                write(file, &entry).map_err(|error| not_written(path, &error))
            })
            .await?;
            let file = match file {
                Some(file) => file,
                None => create(path)?,
            };
            let file = file.into_inner().map_err(|error| not_written(path, error.error()))?;
            file.sync_all().map_err(|error| not_written(path, &error))?;
        } else {
            source::from_server(global, |entry| {
                chain.add(&entry);
                output.line(&entry)
            })
            .await?;
        }
        let (number, hash) = chain.end()?;
        output.hint(match number {
            0 => "no act is recorded yet".to_owned(),
            number => format!("{number} entries, whole. Keep elsewhere: --expect {number}:{hash}"),
        });
        Ok(Exit::Ok)
    }
}

fn create(path: &Path) -> Result<BufWriter<File>, Failure> {
    let file = File::options().write(true).create_new(true).open(path).map_err(|error| {
        let failure = Failure::usage(format!("{} cannot be made", path.display())).because(&error);
        if error.kind() == io::ErrorKind::AlreadyExists {
            failure.next("an export is never written over: name another file")
        } else {
            failure
        }
    })?;
    Ok(BufWriter::new(file))
}

fn write(file: &mut BufWriter<File>, entry: &AuditEntryView) -> io::Result<()> {
    serde_json::to_writer(&mut *file, entry)?;
    file.write_all(b"\n")
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{} cannot be written to its end", path.display())).because(error)
}
