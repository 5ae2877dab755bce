//! The settings as operators read them: each with its value in text and its origin. Secrets are left out.

use super::Config;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key in a configuration file, dotted where it is a part of another: `tls.key`.
    pub key: String,
    /// Its value in text; empty if it has none. A password within is left out.
    pub value: String,
    /// `default`, `file PATH`, `environment NAME` or `option NAME`.
    pub origin: String,
}

/// The origin of what nobody set.
pub const DEFAULT_ORIGIN: &str = "default";

impl Config {
    /// Every setting, by key. Origins are those of [`origins`](Self::origins), and of no others: a program
    /// that sets fields by itself is told apart as `default` where it set nothing and `program` where it did.
    pub fn settings(&self) -> Vec<Setting> {
        let (own, default) = (flat(self), flat(&Self::default()));
        own.into_iter()
            .map(|(key, value)| {
                let unset = default.iter().any(|(other, usual)| *other == key && *usual == value);
                let origin = match self.origins.get(&key) {
                    Some(origin) => origin.as_str(),
                    None if unset => DEFAULT_ORIGIN,
                    None => "program",
                };
                Setting { origin: origin.to_owned(), key, value }
            })
            .collect()
    }
}

/// Keys and values in text. What holds a secret serialises without it: see `LogUrl`.
fn flat(config: &Config) -> Vec<(String, String)> {
    let value = serde_json::to_value(config).expect("settings are text, numbers and lists");
    let mut found = Vec::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(parts) => {
                found.extend(parts.iter().map(|(part, value)| (format!("{key}.{part}"), text(value))));
            }
            None => found.push((key.clone(), text(value))),
        }
    }
    found.sort();
    found
}

fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other
        @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::Object(_)) => {
            other.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{LogUrl, Tls};
    use super::*;

    fn of<'a>(settings: &'a [Setting], key: &str) -> &'a Setting {
        settings.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("no {key}"))
    }

    #[test]
    fn each_setting_has_a_value_in_text_and_an_origin() {
        let mut config = Config {
            lease: Duration::from_secs(6),
            heartbeat: Duration::from_secs(2),
            tls: Some(Tls { certificate: "c.pem".into(), key: "k.pem".into(), client_ca: None }),
            ..Config::default()
        };
        config.origins.insert("lease".into(), "option --set".into());
        let settings = config.settings();
        assert_eq!((&*of(&settings, "lease").value, &*of(&settings, "lease").origin), ("6s", "option --set"));
        assert_eq!(of(&settings, "heartbeat").origin, "program");
        assert_eq!(of(&settings, "drain").origin, DEFAULT_ORIGIN);
        assert_eq!(of(&settings, "tls.key").value, "k.pem");
        assert_eq!(of(&settings, "tls.client_ca").value, "");
        assert!(settings.is_sorted_by(|one, two| one.key < two.key));
        assert!(settings.iter().all(|setting| setting.key != "origins" && setting.key != "observer"));
    }

    #[test]
    fn no_setting_shows_a_password() {
        for url in ["postgres://u:canary@h/db", "postgres://h/db?password=canary"] {
            let config = Config { log: Some(LogUrl::new(url)), ..Config::default() };
            let settings = config.settings();
            assert!(of(&settings, "log").value.starts_with("postgres://"));
            assert!(!format!("{settings:?}").contains("canary"), "{settings:?}");
        }
    }
}
