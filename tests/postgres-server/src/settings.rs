//! The server's settings, as a file that can be written again.
//!
//! They go into a file rather than onto the command line because a setting from the command
//! line cannot be changed by a reload.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::error::ServerError;

/// What a small server for tests and demos wants. Everything else is PostgreSQL's default; the
/// settings of durability are left alone on purpose.
const DEFAULTS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("max_connections", "100"),
    ("max_prepared_transactions", "100"),
    ("shared_buffers", "16MB"),
    ("max_wal_size", "256MB"),
    // A standby that was cut off for a while finds what it missed.
    ("wal_keep_size", "64MB"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] %q%d %a "),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    // A server per test binary: launchers and workers that nobody asked for only cost memory.
    ("max_logical_replication_workers", "0"),
    ("max_parallel_workers", "0"),
];

/// The setting that tells that a reload has been applied: it stands last in the file and is
/// different each time, and the server logs each value that a reload changes.
pub(crate) const RELOAD_MARK: &str = "pactum_server.reload";

/// The settings of one server.
#[derive(Clone, Debug)]
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    /// The defaults, overlaid by the caller's.
    pub(crate) fn with(overrides: &[(&str, &str)]) -> Result<Self, ServerError> {
        let mut settings =
            Self(DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        for (name, value) in overrides {
            settings.set(name, value)?;
        }
        Ok(settings)
    }

    /// Changes one.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), ServerError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(ServerError::Invalid {
                given: name.into(),
                rule: "the name of a setting is letters, digits, _ and .",
            });
        }
        if value.contains(['\n', '\r', '\0']) {
            return Err(ServerError::Invalid {
                given: value.into(),
                rule: "the value of a setting is one line",
            });
        }
        if name == "port" {
            return Err(ServerError::Invalid { given: name.into(), rule: "the port is chosen at start" });
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Back to the server's default.
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The text of the file.
    pub(crate) fn file(&self, port: u16, reload: u64) -> String {
        let mut text = String::new();
        let lines = self
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.replace('\\', "\\\\").replace('\'', "''")));
        let last = [("port", port.to_string()), (RELOAD_MARK, reload.to_string())];
        for (name, value) in lines.chain(last) {
            writeln!(text, "{name} = '{value}'").expect("writing to a String does not fail");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_and_the_mark_stands_last() {
        let settings = Settings::with(&[("application_name", r"it's a \ name")]).unwrap();
        let file = settings.file(5000, 7);
        assert!(file.contains("application_name = 'it''s a \\\\ name'\n"), "{file}");
        assert!(file.ends_with("port = '5000'\npactum_server.reload = '7'\n"), "{file}");
    }

    #[test]
    fn a_name_or_value_that_would_break_the_file_is_refused() {
        for (name, value) in [("", "x"), ("a b", "x"), ("a", "x\nfsync = off"), ("port", "1")] {
            assert!(matches!(Settings::with(&[(name, value)]), Err(ServerError::Invalid { .. })), "{name}");
        }
    }

    #[test]
    fn durability_is_left_as_it_is() {
        let file = Settings::with(&[]).unwrap().file(1, 0);
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            assert!(!file.contains(name), "{name}");
        }
    }
}
