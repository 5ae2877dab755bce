//! Notices a log file that was put back from a copy.
//!
//! Presumed abort lives on absence: no record means abort. A file that was rewound lacks records that
//! once stood, and would turn told commits into aborts. So a number is kept in the log and in a file
//! beside it, and moved on in both at each opening and now and then while the log runs. A copy that
//! was made before the last move does not fit the file beside it any more, and is refused.
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

use super::{beside, database};
use crate::decision_log::DecisionLogError;

/// Checks the two numbers against each other and moves both on. Durable on return.
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
    if !fits {
        let there = known.map_or("none".to_owned(), |text| format!("{:?}", text.trim()));
        return Err(DecisionLogError::Refused {
            setting: "generation",
            found: format!("{inside} in {} and {there} in {}", path.display(), file.display()),
            remedy: "the log was put back from a copy or parted from its file, so missing records prove nothing: \
                     restore the latest log, or have an operator settle what is in doubt and remove the file",
        });
    }
    let next = inside + 1;
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
