//! What can go wrong with a throw-away server, and what a person does about it.

use std::io;
use std::path::PathBuf;

/// A throw-away server that did not start, or did not do what it was asked.
///
/// Nothing is left running by an error from a start; the directory is removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No directory on this machine holds both `postgres` and `initdb`.
    #[error(
        "no PostgreSQL server binaries (postgres and initdb) were found in {searched}\n\
         install them:  Debian, Ubuntu: sudo apt-get install postgresql\n\
         \x20              Fedora, RHEL:   sudo dnf install postgresql-server\n\
         \x20              Alpine:         sudo apk add postgresql\n\
         \x20              macOS:          brew install postgresql@17\n\
         or set PACTUM_POSTGRES_BIN to the directory that holds them"
    )]
    BinariesNotFound {
        /// The places that were looked at, for people.
        searched: String,
    },
    /// `PACTUM_POSTGRES_BIN` is set, and the directory does not hold the program.
    #[error("PACTUM_POSTGRES_BIN is {}, where there is no {program}", directory.display())]
    BinariesNotInDirectory {
        /// The directory as set.
        directory: PathBuf,
        /// The program that is missing there.
        program: &'static str,
    },
    /// A client program is needed, and is neither beside `postgres` nor in `PATH`: `psql` to create
    /// databases, `pg_basebackup` for copies and standbys.
    #[error(
        "{program} was not found beside postgres nor in PATH; install the PostgreSQL client (Debian, Ubuntu: sudo apt-get install postgresql-client)"
    )]
    ClientNotFound {
        /// The program that is missing.
        program: &'static str,
    },
    /// PostgreSQL refuses to run as root, and there is nobody else to run it as.
    #[error(
        "PostgreSQL does not run as root, and /etc/passwd has neither a user postgres nor a user nobody; run this as an ordinary user"
    )]
    NoUnprivilegedUser,
    /// Run as root, and no temporary directory can be reached by the unprivileged user.
    #[error(
        "no temporary directory can be reached by user {user}; set TMPDIR to one that everybody may enter"
    )]
    NoSharedTemporaryDirectory {
        /// The user that the server would run as.
        user: String,
    },
    /// The operating system refused something.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A program of PostgreSQL's ended with an error.
    #[error("{program} failed: {output}")]
    ProgramFailed {
        /// Which one.
        program: &'static str,
        /// What it printed.
        output: String,
    },
    /// The server ended, or was not ready within the bound.
    #[error("the server {what}; the end of its log:\n{log_tail}")]
    Server {
        /// What it did.
        what: String,
        /// The last lines of its log.
        log_tail: String,
    },
    /// It was asked of a server that does not run.
    #[error("the server is not running")]
    NotRunning,
    /// A name or value that cannot be passed on.
    #[error("{given:?} is not allowed here: {rule}")]
    Invalid {
        /// The text as given.
        given: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

impl ServerError {
    /// For `map_err`: wraps what the operating system said with what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
