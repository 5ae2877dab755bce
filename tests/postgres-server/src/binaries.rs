//! Where the programs of PostgreSQL are on this machine.
//!
//! Distributions keep the server's programs out of `PATH`, each in its own place, often for
//! several versions side by side. The newest version found in the first place that has any wins.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ServerError;

/// The variable that names the directory of the binaries, overriding the search.
pub const BIN_VARIABLE: &str = "PACTUM_POSTGRES_BIN";

/// Patterns of directories: one `*` at most, which stands for a version.
const PATTERNS: &[&str] = &[
    "/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
    "/usr/pgsql-*/bin",                                   // the PGDG packages for Fedora, RHEL
    "/usr/lib64/pgsql/postgresql-*/bin",                  // Fedora, side by side
    "/usr/libexec/postgresql*",                           // Alpine
    "/usr/lib/postgresql*/bin",                           // openSUSE
    "/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew, Apple silicon
    "/usr/local/opt/postgresql@*/bin",                    // Homebrew, Intel
    "/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
    "/Library/PostgreSQL/*/bin",                          // the EnterpriseDB installer
    "/usr/local/pgsql/bin",                               // from source
];

/// The directory that holds `postgres` and `initdb`.
///
/// Looks at `PACTUM_POSTGRES_BIN`, then `PATH`, then what `pg_config` says, then the places that
/// the usual packages install to, newest version first.
///
/// # Errors
/// There are none, or the variable is set and names a directory without them.
pub fn find() -> Result<PathBuf, ServerError> {
    if let Some(directory) = env::var_os(BIN_VARIABLE).filter(|value| !value.is_empty()) {
        let directory = PathBuf::from(directory);
        for program in ["postgres", "initdb"] {
            if !directory.join(program).is_file() {
                return Err(ServerError::BinariesNotInDirectory { directory, program });
            }
        }
        return Ok(directory);
    }
    let in_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let candidates = in_path
        .unwrap_or_default()
        .into_iter()
        .chain(told_by_pg_config())
        .chain(PATTERNS.iter().flat_map(|pattern| expand(pattern)));
    for directory in candidates {
        if has_server(&directory) {
            return Ok(behind_links(directory));
        }
    }
    Err(ServerError::BinariesNotFound {
        searched: format!("PATH, pg_config --bindir, {}", PATTERNS.join(", ")),
    })
}

/// A client program, such as `psql`: beside the server's programs, else in `PATH`.
pub(crate) fn client(bin: &Path, name: &'static str) -> Result<PathBuf, ServerError> {
    let in_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>());
    std::iter::once(bin.to_owned())
        .chain(in_path.unwrap_or_default())
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .ok_or(ServerError::ClientNotFound { program: name })
}

fn has_server(directory: &Path) -> bool {
    directory.is_absolute() && directory.join("postgres").is_file() && directory.join("initdb").is_file()
}

/// Where the programs really are, if the directory holds links to some of them: the others lie there.
fn behind_links(directory: PathBuf) -> PathBuf {
    let real = directory.join("postgres").canonicalize().ok();
    let real = real.as_deref().and_then(Path::parent).filter(|real| has_server(real));
    real.map(Path::to_owned).unwrap_or(directory)
}

fn told_by_pg_config() -> Option<PathBuf> {
    let output =
        Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim()))
}

/// The directories that match, the highest version first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = fs::read_dir(format!("{parent}/")) else {
        return Vec::new();
    };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = version(name.strip_prefix(prefix)?)?;
            Some((version, PathBuf::from(format!("{parent}/{name}{after}"))))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, directory)| directory).collect()
}

/// `17`, `9.6`: numbers with dots between, nothing else.
fn version(text: &str) -> Option<Vec<u32>> {
    text.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        let root = tempfile::tempdir().unwrap();
        for name in ["pg-9.6", "pg-15", "pg-9", "pg-16", "pg-old", "other"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let pattern = format!("{}/pg-*/bin", root.path().display());
        let found: Vec<String> = expand(&pattern).iter().map(|path| path.display().to_string()).collect();
        let expected: Vec<String> =
            ["16", "15", "9.6", "9"].iter().map(|v| pattern.replace('*', v)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_pattern_without_a_place_finds_nothing() {
        assert!(expand("/nowhere-at-all/*/bin").is_empty());
        assert_eq!(expand("/plain"), [PathBuf::from("/plain")]);
    }

    #[test]
    fn the_error_says_what_to_install() {
        let text = ServerError::BinariesNotFound { searched: "PATH".into() }.to_string();
        assert!(text.contains("apt-get install postgresql") && text.contains(BIN_VARIABLE), "{text}");
    }
}
