//! A coordinator's settings, gathered: defaults < file < `PACTUM_*` < flags.
//!
//! Nested keys are joined by double underscores in variables: `PACTUM_TLS__CERTIFICATE` is
//! `tls.certificate`. An unknown key is an error that names it, wherever it stands: a misspelt
//! setting that is silently ignored is found out in the worst hour. The log's URL may hold a
//! password, so it can also come from a file, and no error shows it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    "PACTUM_TOKEN_FILE",
    "PACTUM_TOKENS_FILE",
    "PACTUM_TIME",
    "PACTUM_NO_INPUT",
    "PACTUM_QUIET",
    "PACTUM_VERBOSE",
    "PACTUM_LOG_LEVEL",
    "PACTUM_LOG_FORMAT",
    "PACTUM_LOG_FILE",
    "PACTUM_CONFIG",
    "PACTUM_READY_FILE",
    "PACTUM_DATA",
    "PACTUM_CHECK_FORMAT",
    "PACTUM_DATABASE",
    "PACTUM_DATABASE_FILE",
    "PACTUM_CHECK_FORMAT",
    "PACTUM_WHO",
    "PACTUM_YES",
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
    /// The origin of a flag's value, by key; without one it was typed as `--set`.
    pub(crate) options: BTreeMap<String, String>,
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

    /// Reads all sources, and checks the outcome. Each value's origin goes with it: the last source that
    /// gave one.
    pub(crate) fn load(self) -> Result<Config, Failure> {
        let config = self.read()?;
        config.check().map_err(|error| {
            let failure = Failure::usage("the configuration cannot be served with").because(&error);
            if matches!(error, ConfigError::Plaintext { .. }) {
                failure.code(ErrorCode::UnsafeAddress).next(
                    "give --tls-cert and --tls-key, or --unsafe-plaintext on a network where everybody may decide transactions",
                )
            } else if matches!(error, ConfigError::AdminOpen { .. }) {
                failure.code(ErrorCode::UnsafeAddress).next(
                    "give TLS and admin_tokens (`pactum token create` makes one), or listen on loopback; unsafe_admin = true lets everybody act",
                )
            } else {
                failure
            }
        })?;
        Ok(config)
    }

    /// Reads all sources, without checking whether the outcome can be served with.
    pub(crate) fn read(self) -> Result<Config, Failure> {
        let mut builder = config::Config::builder();
        let mut origins = BTreeMap::new();
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("the configuration file {} cannot be read", path.display()))
                    .because(&error)
            })?;
            // Parsed by itself first, so that a mistake in it is told with its path.
            let alone = config::Config::builder().add_source(File::from_str(&text, FileFormat::Toml));
            let alone = alone
                .build()
                .map_err(|error| Failure::usage(format!("{} is not TOML", path.display())).because(&error))?;
            for key in keys_of(&alone) {
                origins.insert(key, format!("file {}", path.display()));
            }
            alone
                .try_deserialize::<Config>()
                .map_err(|error| problem(&format!("in {}", path.display()), &error))?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        let settings = self.settings_of_environment()?;
        for name in settings.keys() {
            origins.insert(key_of(name), format!("environment {name}"));
        }
        builder = builder.add_source(
            Environment::with_prefix("PACTUM").prefix_separator("_").separator("__").source(Some(settings)),
        );
        if let Some(path) = self.log_file {
            let url = std::fs::read_to_string(&path).map_err(|error| {
                Failure::usage(format!("the file {} with the log's URL cannot be read", path.display()))
                    .because(&error)
            })?;
            origins.insert("log".to_owned(), format!("file {}", path.display()));
            builder = set(builder, "log", url.trim())?;
        }
        for (key, value) in &self.flags {
            if !is_setting(key) {
                return Err(unknown(&format!("--set {key}"), key));
            }
            let option = self.options.get(key).map_or("option --set", String::as_str);
            origins.insert(key.clone(), option.to_owned());
            builder = set(builder, key, value)?;
        }
        let mut config: Config = builder
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| problem("in the settings", &error))?;
        config.origins = origins;
        Ok(config)
    }

    fn settings_of_environment(&self) -> Result<HashMap<String, String>, Failure> {
        let mut settings = HashMap::new();
        for (name, value) in &self.environment {
            if OTHERS.contains(&name.as_str()) || name.starts_with(TEST_PREFIX) {
                continue;
            }
            let key = key_of(name);
            if !is_setting(&key) {
                return Err(unknown(name, &key));
            }
            settings.insert(name.clone(), value.clone());
        }
        Ok(settings)
    }
}

/// The key that a variable sets.
fn key_of(variable: &str) -> String {
    variable.strip_prefix("PACTUM_").unwrap_or(variable).to_lowercase().replace("__", ".")
}

/// The keys that a file sets, dotted.
fn keys_of(file: &config::Config) -> Vec<String> {
    let value = file.clone().try_deserialize::<serde_json::Value>().unwrap_or_default();
    let mut keys = Vec::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(parts) => keys.extend(parts.keys().map(|part| format!("{key}.{part}"))),
            None => keys.push(key.clone()),
        }
    }
    keys
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
            flags: vec![("lease".into(), "6s".into()), ("drain".into(), "9s".into())],
            options: BTreeMap::from([("drain".into(), "option --drain".into())]),
        };
        let config = sources.load().unwrap();
        let path = file.path().display();
        for (key, origin) in [
            ("lease", "option --set".to_owned()),
            ("drain", "option --drain".to_owned()),
            ("shards", "environment PACTUM_SHARDS".to_owned()),
            ("heartbeat", format!("file {path}")),
            ("retry_cap", format!("file {path}")),
            ("retention", "default".to_owned()),
        ] {
            let settings = config.settings();
            let setting = settings.iter().find(|setting| setting.key == key).unwrap();
            assert_eq!(setting.origin, origin, "{key}");
        }
        assert_eq!(config.lease, Duration::from_secs(6));
        assert_eq!(config.shards, 5);
        assert_eq!(config.heartbeat, Duration::from_millis(1500));
        assert_eq!(config.retry_cap, Duration::from_secs(9));
        assert_eq!(config.drain, Duration::from_secs(9));
        assert_eq!(config.retention, Config::default().retention);
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

    /// One that is not would stop `serve` wherever it is set for another command.
    #[test]
    fn every_variable_of_the_command_is_known_as_no_setting_or_as_one() {
        use clap::CommandFactory;

        fn variables(command: &clap::Command, found: &mut BTreeSet<String>) {
            let of = |arg: &clap::Arg| Some(arg.get_env()?.to_str()?.to_owned());
            found.extend(command.get_arguments().filter_map(of));
            command.get_subcommands().for_each(|command| variables(command, found));
        }
        let mut found = BTreeSet::new();
        variables(&crate::args::Cli::command(), &mut found);
        assert!(found.len() > 15, "{found:?}");
        for variable in found {
            let known = OTHERS.contains(&variable.as_str()) || is_setting(&key_of(&variable));
            assert!(known, "{variable}");
        }
    }

    #[test]
    fn nested_keys_are_joined_by_double_underscores() {
        let sources = Sources {
            environment: environment(&[("PACTUM_TLS__CERTIFICATE", "c.pem"), ("PACTUM_TLS__KEY", "k.pem")]),
            ..Sources::default()
        };
        let config = sources.load().unwrap();
        assert_eq!(config.origins["tls.key"], "environment PACTUM_TLS__KEY");
        assert_eq!(config.tls.unwrap().certificate, PathBuf::from("c.pem"));

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[tls]\ncertificate = 'c.pem'\nkey = 'k.pem'").unwrap();
        let config = Sources { file: Some(file.path().to_owned()), ..Sources::default() }.load().unwrap();
        assert_eq!(config.origins["tls.key"], format!("file {}", file.path().display()));
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
        assert_eq!(config.origins["log"], format!("file {}", file.path().display()));
        assert!(!format!("{config:?}").contains("canary"));

        let wrong = Sources {
            environment: environment(&[("PACTUM_LOG", "postgres://u:canary@h/db"), ("PACTUM_LEASE", "soon")]),
            ..Sources::default()
        };
        assert!(!wrong.load().unwrap_err().to_string().contains("canary"));
    }
}
