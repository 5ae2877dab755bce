//! The file of tokens: TOML, with the hash of each. Readable by its owner alone, and replaced as a whole,
//! so that a coordinator never reads half of one.
//!
//! ```toml
//! [[token]]
//! name = "ann"
//! role = "operator"
//! sha256 = "9f86d0.."           # of the whole token, in hexadecimal digits
//! created = "2026-01-31T02:41:18Z"
//! ```

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::exit::Exit;
use crate::failure::Failure;

/// All tokens.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tokens {
    #[serde(default)]
    pub(super) token: Vec<Written>,
}

/// One token, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) role: String,
    sha256: String,
    /// For people: a text, or a date of TOML that somebody wrote by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<toml::Value>,
}

/// Said above the tokens.
const HEAD: &str = "# Operators' tokens of a Pactum coordinator. Written by `pactum token`; the tokens themselves are not here.\n";

/// Bits of the mode that others than the owner have.
const OTHERS: u32 = 0o077;

/// Some thousands of tokens.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Written {
    /// That token, by its hash.
    pub(super) fn new(name: &str, role: &str, token: &str, created: Timestamp) -> Self {
        let sha256 = Sha256::digest(token.as_bytes()).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string never fails");
            text
        });
        Self {
            name: name.to_owned(),
            role: role.to_owned(),
            sha256,
            created: Some(format!("{created:.0}").into()),
        }
    }

    /// When it was made, as far as that is said.
    pub(super) fn created(&self) -> String {
        let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.created.as_ref().map(text).unwrap_or_default()
    }
}

impl Tokens {
    /// Those of the file; none if there is no file yet.
    pub(super) fn read_or_empty(path: &Path) -> Result<Self, Failure> {
        if path.exists() { Self::read(path) } else { Ok(Self::default()) }
    }

    /// Those of the file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let cannot_read = |error: &io::Error| {
            let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Usage };
            Failure::new(exit, format!("the file of tokens {shown} cannot be read"))
                .because(error)
                .next("pactum token create makes one")
        };
        let file = File::open(path).map_err(|error| cannot_read(&error))?;
        let metadata = file.metadata().map_err(|error| cannot_read(&error))?;
        if metadata.permissions().mode() & OTHERS != 0 {
            return Err(Failure::usage(format!("others than its owner may read or write {shown}"))
                .cause("whoever can write it can let himself in")
                .next(format!("chmod 600 {shown}")));
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| cannot_read(&error))?;
        toml::from_str(&text)
            .map_err(|error| Failure::usage(format!("{shown} is no file of tokens")).because(&error))
    }

    /// Replaces the file, of mode 0600. On return it is durable; on an error the old one stands.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let not_written = |error: &io::Error| {
            Failure::new(Exit::Failed, format!("the file of tokens {} cannot be written", path.display()))
                .because(error)
        };
        let text = toml::to_string(self).map_err(|error| {
            Failure::new(Exit::Failed, "the tokens cannot be written as TOML").because(&error)
        })?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        // Of mode 0600 from its first moment.
        let mut new = tempfile::NamedTempFile::new_in(&directory).map_err(|error| not_written(&error))?;
        let written = new
            .write_all(HEAD.as_bytes())
            .and_then(|()| new.write_all(text.as_bytes()))
            .and_then(|()| new.as_file().sync_all());
        written.map_err(|error| not_written(&error))?;
        new.persist(path).map_err(|error| not_written(&error.error))?;
        File::open(&directory).and_then(|directory| directory.sync_all()).map_err(|error| not_written(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_keeps_a_hash_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        let mut tokens = Tokens::read_or_empty(&path).unwrap();
        let created = "2026-01-31T02:41:18Z".parse().unwrap();
        tokens.token.push(Written::new("ann", "operator", "pactum_abc", created));
        tokens.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        // As sha256sum has it, of the whole token with its prefix.
        let hash = "9253ff9df22dabdef0759f18e33021c488019e6bbc4b50d50527f1a78cf2c77a";
        assert!(
            text.contains(&format!("[[token]]\nname = \"ann\"\nrole = \"operator\"\nsha256 = \"{hash}\""))
        );
        assert!(!text.contains("pactum_abc"), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Tokens::read(&path).unwrap();
        assert_eq!(
            (read.token[0].name.as_str(), read.token[0].created().as_str()),
            ("ann", "2026-01-31T02:41:18Z")
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Tokens::read(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
