//! The tokens that the admin address asks for: a TOML file with one table for each, which holds the
//! token's hash and never the token.
//!
//! ```toml
//! [[token]]
//! name = "alice"
//! role = "operator"                # or "viewer"
//! sha256 = "9f86d081884c7d65…"     # of the token's text, 64 hexadecimal digits
//! created = "2026-11-21T14:00:00Z" # for people
//! ```
//!
//! The file is read at start, and again when it has changed: a token that is gone from it is refused
//! from the next request on, and so are the sessions that it opened. A file that cannot be read any
//! more changes nothing, and is complained of: a slip of the pen must not lock everybody out.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::operator::Role;

/// The hash of a token: all that is kept of it.
pub(super) type TokenHash = [u8; 32];

/// Shorter tokens are refused unread: a guess must have no hope, and words that people make up have
/// some.
pub(super) const TOKEN_BYTES_MIN: usize = 32;

/// Longer ones are refused unread; ours have 64 bytes or fewer.
const TOKEN_BYTES_MAX: usize = 512;

/// Between looks at the file: a `stat` each time, and nobody revokes faster.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A larger file is not one of tokens.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A token that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) hash: TokenHash,
}

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensError {
    #[error("{path} cannot be read")]
    Unreadable {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is no list of tokens")]
    Malformed {
        path: String,
        #[source]
        source: toml::de::Error,
    },
    #[error("{path}: {problem}")]
    Wrong { path: String, problem: String },
}

/// The tokens of a file.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: Arc<[Known]>,
    stamp: Stamp,
    looked: Instant,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "token")]
    tokens: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: EntryRole,
    sha256: String,
    #[serde(default, rename = "created")]
    _created: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EntryRole {
    Viewer,
    Operator,
}

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or is not of the form above.
    pub(crate) fn open(path: &Path) -> Result<Self, TokensError> {
        let (tokens, stamp) = read(path)?;
        warn_of_mode(path);
        if tokens.is_empty() {
            tracing::warn!(path = %path.display(), "there is no token in the file: nobody can use the admin address");
        }
        let state = State { tokens, stamp, looked: Instant::now() };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    /// The token with that text. Every one is compared, in a time that does not depend on the text.
    pub(super) fn find(&self, text: &str) -> Option<Known> {
        if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len()) {
            return None;
        }
        self.with_hash(&Sha256::digest(text.as_bytes()).into())
    }

    /// The token with that hash, if it still stands in the file.
    pub(super) fn with_hash(&self, hash: &TokenHash) -> Option<Known> {
        let mut found = None;
        for known in self.current().iter() {
            if bool::from(known.hash.ct_eq(hash)) {
                found = Some(known.clone());
            }
        }
        found
    }

    fn current(&self) -> Arc<[Known]> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_AGAIN {
            state.looked = Instant::now();
            // Local and small: not worth another thread.
            if stamp(&self.path).ok() != Some(state.stamp) {
                match read(&self.path) {
                    Ok((tokens, stamp)) => {
                        tracing::info!(path = %self.path.display(), tokens = tokens.len(), "the tokens were read again");
                        warn_of_mode(&self.path);
                        (state.tokens, state.stamp) = (tokens, stamp);
                    }
                    Err(error) => {
                        let why = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::error!(%error, why, "the tokens cannot be read again: those known before still hold");
                    }
                }
            }
        }
        Arc::clone(&state.tokens)
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Ok(Stamp { modified: metadata.modified().ok(), bytes: metadata.len(), inode })
}

fn read(path: &Path) -> Result<(Arc<[Known]>, Stamp), TokensError> {
    let shown = || path.display().to_string();
    let unreadable = |source| TokensError::Unreadable { path: shown(), source };
    // Before its text: a change in between shows as one at the next look.
    let stamp = stamp(path).map_err(unreadable)?;
    let wrong = |problem: String| TokensError::Wrong { path: shown(), problem };
    if stamp.bytes > FILE_BYTES_MAX {
        return Err(wrong(format!("{} bytes are too many", stamp.bytes)));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let file: File =
        toml::from_str(&text).map_err(|source| TokensError::Malformed { path: shown(), source })?;
    let mut tokens: Vec<Known> = Vec::new();
    for entry in file.tokens {
        let name = entry.name;
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return Err(wrong(format!("{name:?} is no name: 1 to 128 printable bytes are")));
        }
        let hash = unhex(&entry.sha256)
            .ok_or_else(|| wrong(format!("{name:?}: sha256 takes 64 hexadecimal digits")))?;
        if tokens.iter().any(|known| known.name == name || known.hash == hash) {
            return Err(wrong(format!("{name:?} stands there twice, by name or by token")));
        }
        let role = match entry.role {
            EntryRole::Viewer => Role::Viewer,
            EntryRole::Operator => Role::Operator,
        };
        tokens.push(Known { name, role, hash });
    }
    Ok((tokens.into(), stamp))
}

fn unhex(text: &str) -> Option<TokenHash> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
    }
    Some(bytes)
}

/// The hashes are of no use to whoever reads them, but who can write them can let anybody in.
fn warn_of_mode(path: &Path) {
    #[cfg(unix)]
    if let Ok(metadata) = std::fs::metadata(path) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o137 != 0 {
            tracing::warn!(
                path = %path.display(),
                mode = format!("{mode:o}"),
                "the tokens can be read or written by others than their owner: chmod 600"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;

    use super::*;

    const SECRET: &str = "correct-horse-battery-staple-0123456789";

    fn hash(text: &str) -> String {
        Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut all, byte| {
            write!(all, "{byte:02x}").unwrap();
            all
        })
    }

    fn entry(name: &str, role: &str, token: &str) -> String {
        format!(
            "[[token]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{}\"\ncreated = 2026-11-21T14:00:00Z\n",
            hash(token)
        )
    }

    fn written(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_token_is_found_by_its_text_and_by_nothing_else() {
        let other = "another-token-of-enough-characters-to-be-taken";
        let file = written(&(entry("alice", "operator", SECRET) + &entry("wall", "viewer", other)));
        let tokens = Tokens::open(file.path()).unwrap();
        assert_eq!(
            tokens.find(SECRET).map(|known| (known.name, known.role)),
            Some(("alice".into(), Role::Operator))
        );
        assert_eq!(tokens.find(other).map(|known| known.role), Some(Role::Viewer));
        for wrong in ["", "alice", &hash(SECRET), &SECRET[1..], &format!("{SECRET} ")] {
            assert_eq!(tokens.find(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_short_token_is_refused_even_if_its_hash_is_in_the_file() {
        let file = written(&entry("lazy", "operator", "hunter2"));
        assert_eq!(Tokens::open(file.path()).unwrap().find("hunter2"), None);
    }

    #[test]
    fn a_file_of_another_form_is_refused_and_the_error_names_what_is_wrong() {
        let good = entry("a", "viewer", SECRET);
        let cases = [
            ("[[token]]\nname = \"a\"\n".to_owned(), "no list of tokens"),
            (good.replace("viewer", "admin"), "no list of tokens"),
            (format!("{good}\nscope = \"all\"\n"), "no list of tokens"),
            (good.replace(&hash(SECRET), "abc"), "64 hexadecimal digits"),
            (good.replace(&hash(SECRET), &"+1".repeat(32)), "64 hexadecimal digits"),
            (good.clone() + &good, "twice"),
            (good.replace("\"a\"", "\"\""), "no name"),
        ];
        for (text, problem) in cases {
            let error = Tokens::open(written(&text).path()).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
        assert!(matches!(Tokens::open(Path::new("/nowhere/at/all")), Err(TokensError::Unreadable { .. })));
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let file = written(&entry("alice", "operator", SECRET));
        let tokens = Tokens::open(file.path()).unwrap();
        let look = || tokens.state.lock().unwrap().looked = Instant::now().checked_sub(LOOK_AGAIN).unwrap();
        std::fs::write(file.path(), "not toml [").unwrap();
        look();
        assert!(tokens.find(SECRET).is_some(), "a slip of the pen locks nobody out");
        std::fs::write(file.path(), entry("alice", "viewer", SECRET)).unwrap();
        look();
        assert_eq!(tokens.find(SECRET).unwrap().role, Role::Viewer);
        std::fs::write(file.path(), "").unwrap();
        look();
        assert_eq!(tokens.find(SECRET), None, "revoked");
    }
}
