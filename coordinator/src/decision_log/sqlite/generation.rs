//! Notices a log file that was put back from a copy.
//!
//! Presumed abort lives on absence: no record means abort. A file that was rewound lacks records that
//! once stood, and would turn told commits into aborts. So a number is kept in the log and in a file
//! beside it, and moved on in both at each opening and now and then while the log runs. A copy that
//! was made before the last move does not fit the file beside it any more: then all incarnations that had
//! not ended are in doubt (`decision_log.rs`), and the numbers go on above both.
//!
//! ```text
//!  beside: "7"  ──1──▶ "7 8"  ──────────────3──▶ "8"
//!  inside:  7                  ──2──▶ 8
//! ```
//! A crash between the steps leaves an inside number that the file beside it names; nothing else does.
//! A copy of *both* files goes unnoticed here, as does one newer than the last move.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use sqlx::sqlite::SqliteConnection;

use super::{beside, database, doubt};
use crate::decision_log::DecisionLogError;

/// Checks the two numbers against each other and moves both on, after having put in doubt what is not
/// certain any more if they do not fit. Durable on return.
///
/// # Errors
/// An empty log beside the number of another one ([`DecisionLogError::Refused`]): its names, too, are
/// others, so nobody would ever be released.
pub(super) async fn advance(connection: &mut SqliteConnection, path: &Path) -> Result<(), DecisionLogError> {
    let inside: i64 = sqlx::query_scalar("SELECT generation FROM log_state")
        .fetch_one(&mut *connection)
        .await
        .map_err(database)?;
    let file = beside(path, ".generation");
    let known = in_background({
        let file = file.clone();
        move || match std::fs::read_to_string(&file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    })
    .await?;
    let fits = match &known {
        // A log that was never opened has no file yet.
        None => inside == 0,
        Some(text) => text.split_whitespace().any(|number| number == inside.to_string()),
    };
    if !fits && inside == 0 {
        return Err(DecisionLogError::Refused {
            setting: "generation",
            found: format!("0 in {}, which is new, and another in {}", path.display(), file.display()),
            remedy: "put the log back that belongs to this file, or remove the file if this is to be another log",
        });
    }
    let mut next = inside + 1;
    if !fits {
        let there = known.as_deref().unwrap_or("none").trim().to_owned();
        let found = format!("the log's generation is {inside}, the file beside it has {there}");
        doubt::doubt_all(connection, found).await?;
        let newest = there.split_whitespace().filter_map(|number| number.parse::<i64>().ok()).max();
        next = next.max(newest.unwrap_or(0).saturating_add(1));
    }
    write(&file, format!("{inside} {next}\n")).await?;
    sqlx::query("UPDATE log_state SET generation = ?1")
        .bind(next)
        .execute(connection)
        .await
        .map_err(database)?;
    write(&file, format!("{next}\n")).await
}

/// Replaces the file's content whole, and forces it and its name.
async fn write(file: &Path, text: String) -> Result<(), DecisionLogError> {
    let (file, new) = (file.to_owned(), beside(file, ".new"));
    in_background(move || {
        let mut content = File::create(&new)?;
        content.write_all(text.as_bytes())?;
        content.sync_all()?;
        std::fs::rename(&new, &file)?;
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    })
    .await
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, DecisionLogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(DecisionLogError::Database(Box::new(error))),
        Err(panicked) => Err(DecisionLogError::Database(Box::new(panicked))),
    }
}
