//! Several things named at once: on the line, or on stdin.

use std::future::Future;
use std::io::{self, Read as _};

use clap::Args;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What is read from stdin at most: some 25 000 gids. More at once would be an accident.
const STDIN_BYTES_MAX: u64 = 1 << 20;

/// Transactions, by name.
#[derive(Debug, Args)]
pub(crate) struct Ids {
    /// The gid, or its beginning or end (at least 4 digits) if that fits one transaction only; `-`
    /// reads them from stdin, one a line
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Ids {
    /// Whether stdin is read for them, so that no answer can be typed there.
    pub(crate) fn take_stdin(&self) -> bool {
        self.ids.iter().any(|id| id == "-")
    }

    /// All of them, in order, those from stdin in the place of the `-`.
    pub(crate) async fn read(self) -> Result<Vec<String>, Failure> {
        if !self.take_stdin() {
            return Ok(self.ids);
        }
        let cannot_read = || Failure::usage("the ids cannot be read from stdin");
        let text = tokio::task::spawn_blocking(|| {
            let mut text = String::new();
            io::stdin().lock().take(STDIN_BYTES_MAX + 1).read_to_string(&mut text).map(|_| text)
        })
        .await
        .map_err(|error| cannot_read().because(&error))?
        .map_err(|error| cannot_read().because(&error))?;
        if text.len() as u64 > STDIN_BYTES_MAX {
            return Err(cannot_read().cause(format!("more than {STDIN_BYTES_MAX} bytes")));
        }
        Ok(spliced(self.ids, &text))
    }
}

/// The lines in the place of the first `-`.
fn spliced(ids: Vec<String>, text: &str) -> Vec<String> {
    let mut lines = Some(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    let mut all = Vec::new();
    for id in ids {
        if id == "-" {
            all.extend(lines.take().into_iter().flatten());
        } else {
            all.push(id);
        }
    }
    all
}

/// Does something for each id. One that fails does not stop the others: what failed is told as it
/// happens, and the exit says whether that was some or all.
pub(crate) async fn each<'a, F>(
    ids: &'a [String],
    output: &Output,
    act: impl Fn(&'a str) -> F,
) -> Result<Exit, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    if let [id] = ids {
        return act(id).await.map(|()| Exit::Ok);
    }
    if ids.is_empty() {
        output.hint("no id was given: nothing was done");
    }
    let mut exits = Vec::new();
    for id in ids {
        if let Err(failure) = act(id).await {
            exits.push(failure.exit());
            output.failure(&failure.of(id));
        }
    }
    let failed = exits.len();
    if failed > 0 {
        output.hint(format_args!("{failed} of {} failed", ids.len()));
    }
    Ok(match exits.first() {
        None => Exit::Ok,
        Some(_) if failed < ids.len() => Exit::Partial,
        Some(first) if exits.iter().all(|exit| exit == first) => *first,
        Some(_) => Exit::Failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_stdin_stand_where_the_dash_stood_and_once() {
        let ids = ["a", "-", "b", "-"].map(str::to_owned).to_vec();
        assert_eq!(spliced(ids, " c \n\nd\n"), ["a", "c", "d", "b"]);
        assert!(spliced(vec!["-".into()], "\n").is_empty());
    }
}
