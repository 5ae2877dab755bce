//! A coordinator's settings, gathered: defaults < file < `PACTUM_*` < flags.
//!
//! Nested keys are joined by double underscores in variables: `PACTUM_TLS__CERTIFICATE` is
//! `tls.certificate`. An unknown key is an error that names it, wherever it stands: a misspelt
//! setting that is silently ignored is found out in the worst hour. The log's URL may hold a
//! password, so it can also come from a file, and no error shows it.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use config::{Environment, File, FileFormat};
use pactum_coordinator::Config;
use pactum_coordinator::config::ConfigError;
use pactum_proto::error::ErrorCode;

use crate::failure::Failure;

/// Variables that begin with `PACTUM_` and are not settings of a coordinator: the options of the
/// command itself, and what finds tools on a machine.
const OTHERS: &[&str] = &[
    "PACTUM_SERVER",
    "PACTUM_OUTPUT",
    "PACTUM_TIMEOUT",
    "PACTUM_CONNECT_TIMEOUT",
    "PACTUM_COLOR",
    "PACTUM_TLS_CA",
    "PACTUM_TLS_CERT",
    "PACTUM_TLS_KEY",
    "PACTUM_QUIET",
    "PACTUM_VERBOSE",
    "PACTUM_LOG_LEVEL",
    "PACTUM_LOG_FORMAT",
    "PACTUM_LOG_FILE",
    "PACTUM_CONFIG",
    "PACTUM_READY_FILE",
    "PACTUM_DATA",
    "PACTUM_POSTGRES_BIN",
];

/// Variables of test suites; never settings.
const TEST_PREFIX: &str = "PACTUM_TEST_";

/// Where settings come from, the strongest last.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// A TOML file.
    pub(crate) file: Option<PathBuf>,
    /// The environment.
    pub(crate) environment: HashMap<String, String>,
    /// A file that holds the log's URL.
    pub(crate) log_file: Option<PathBuf>,
    /// From the command line: dotted keys and their values.
    pub(crate) flags: Vec<(String, String)>,
}

impl Sources {
    /// The process's own environment.
    pub(crate) fn environment() -> HashMap<String, String> {
        // A name or value that is not UTF-8 cannot be one of ours.
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("PACTUM_"))
            .collect()
    }

    /// Reads all sources, and checks the outcome.
    pub(crate) fn load(self) -> Result<Config, Failure> {
        let mut builder = config::Config::builder();
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("the configuration file {} cannot be read", path.display()))
                    .because(&error)
            })?;
            // Parsed by itself first, so that a mistake in it is told with its path.
            let alone = config::Config::builder().add_source(File::from_str(&text, FileFormat::Toml));
            alone
                .build()
                .map_err(|error| Failure::usage(format!("{} is not TOML", path.display())).because(&error))?
                .try_deserialize::<Config>()
                .map_err(|error| problem(&format!("in {}", path.display()), &error))?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        let settings = self.settings_of_environment()?;
        builder = builder.add_source(
            Environment::with_prefix("PACTUM").prefix_separator("_").separator("__").source(Some(settings)),
        );
        if let Some(path) = self.log_file {
            let url = std::fs::read_to_string(&path).map_err(|error| {
                Failure::usage(format!("the file {} with the log's URL cannot be read", path.display()))
                    .because(&error)
            })?;
            builder = set(builder, "log", url.trim())?;
        }
        for (key, value) in &self.flags {
            if !is_setting(key) {
                return Err(unknown(&format!("--set {key}"), key));
            }
            builder = set(builder, key, value)?;
        }
        let config: Config = builder
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| problem("in the settings", &error))?;
        config.check().map_err(|error| {
            let failure = Failure::usage("the configuration cannot be served with").because(&error);
            if matches!(error, ConfigError::Plaintext { .. }) {
                failure.code(ErrorCode::UnsafeAddress).next(
                    "give --tls-cert and --tls-key, or --unsafe-plaintext on a network where everybody may decide transactions",
                )
            } else {
                failure
            }
        })?;
        Ok(config)
    }

    fn settings_of_environment(&self) -> Result<HashMap<String, String>, Failure> {
        let mut settings = HashMap::new();
        for (name, value) in &self.environment {
            if OTHERS.contains(&name.as_str()) || name.starts_with(TEST_PREFIX) {
                continue;
            }
            let Some(key) = name.strip_prefix("PACTUM_").map(|key| key.to_lowercase().replace("__", "."))
            else {
                continue;
            };
            if !is_setting(&key) {
                return Err(unknown(name, &key));
            }
            settings.insert(name.clone(), value.clone());
        }
        Ok(settings)
    }
}

type Builder = config::ConfigBuilder<config::builder::DefaultState>;

fn set(builder: Builder, key: &str, value: &str) -> Result<Builder, Failure> {
    builder.set_override(key, value).map_err(|error| problem(&format!("in {key}"), &error))
}

/// The keys that a coordinator knows, as its defaults serialise.
fn keys() -> BTreeSet<String> {
    let defaults = serde_json::to_value(Config::default()).ok();
    let map = defaults.as_ref().and_then(serde_json::Value::as_object);
    map.into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

/// Keys with parts of their own; the parts are checked when they are read.
const NESTED: &str = "tls";

fn is_setting(key: &str) -> bool {
    match key.split_once('.') {
        Some((first, rest)) => first == NESTED && matches!(rest, "certificate" | "key" | "client_ca"),
        None => key != NESTED && keys().contains(key),
    }
}

fn unknown(given: &str, key: &str) -> Failure {
    let known = keys();
    let near = known.iter().min_by_key(|known| distance(known, key)).filter(|near| distance(near, key) <= 3);
    let failure = Failure::usage(format!("{given}: there is no setting {key:?}"));
    match near {
        Some(near) => failure.next(format!("is {near} meant?")),
        None => {
            failure.next("the settings are: ".to_owned() + &known.into_iter().collect::<Vec<_>>().join(", "))
        }
    }
}

/// A value that cannot be read. The log's URL is not repeated: it may hold a password.
fn problem(place: &str, error: &config::ConfigError) -> Failure {
    let text = error.to_string();
    let failure = Failure::usage(format!("a setting {place} cannot be used"));
    if text.contains("://") {
        failure.cause("the log must be the URL of a decision log")
    } else {
        failure.because(error)
    }
}

/// How many letters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file_and_that_over_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "lease = '4s'\nheartbeat = '1500ms'\nshards = 3\nretry_cap = '9s'")
            .unwrap();
        let sources = Sources {
            file: Some(file.path().to_owned()),
            environment: environment(&[
                ("PACTUM_LEASE", "5s"),
                ("PACTUM_SHARDS", "5"),
                ("PACTUM_SERVER", "x"),
            ]),
            log_file: None,
            flags: vec![("lease".into(), "6s".into())],
        };
        let config = sources.load().unwrap();
        assert_eq!(config.lease, Duration::from_secs(6));
        assert_eq!(config.shards, 5);
        assert_eq!(config.heartbeat, Duration::from_millis(1500));
        assert_eq!(config.retry_cap, Duration::from_secs(9));
        assert_eq!(config.drain, Config::default().drain);
    }

    #[test]
    fn an_unknown_key_is_named_wherever_it_stands() {
        let in_environment =
            Sources { environment: environment(&[("PACTUM_LEESE", "5s")]), ..Sources::default() };
        let text = in_environment.load().unwrap_err().to_string();
        assert!(text.contains("PACTUM_LEESE") && text.contains("is lease meant?"), "{text}");

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "leese = '4s'").unwrap();
        let in_file = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        let text = in_file.load().unwrap_err().to_string();
        assert!(text.contains("leese") && text.contains(file.path().to_str().unwrap()), "{text}");

        let in_flags = Sources { flags: vec![("tls.sert".into(), "x".into())], ..Sources::default() };
        assert!(in_flags.load().unwrap_err().to_string().contains("tls.sert"));
    }

    #[test]
    fn nested_keys_are_joined_by_double_underscores() {
        let sources = Sources {
            environment: environment(&[("PACTUM_TLS__CERTIFICATE", "c.pem"), ("PACTUM_TLS__KEY", "k.pem")]),
            ..Sources::default()
        };
        let tls = sources.load().unwrap().tls.unwrap();
        assert_eq!(tls.certificate, PathBuf::from("c.pem"));
    }

    #[test]
    fn the_log_comes_from_a_file_and_its_password_is_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "postgres://u:canary@h/db\n").unwrap();
        let sources = Sources {
            environment: environment(&[("PACTUM_LOG", "memory:")]),
            log_file: Some(file.path().to_owned()),
            ..Sources::default()
        };
        let config = sources.load().unwrap();
        assert_eq!(config.log.as_ref().unwrap().reveal(), "postgres://u:canary@h/db");
        assert!(!format!("{config:?}").contains("canary"));

        let wrong = Sources {
            environment: environment(&[("PACTUM_LOG", "postgres://u:canary@h/db"), ("PACTUM_LEASE", "soon")]),
            ..Sources::default()
        };
        assert!(!wrong.load().unwrap_err().to_string().contains("canary"));
    }
}
