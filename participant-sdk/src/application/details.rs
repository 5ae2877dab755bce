//! What people shall see of a transaction, checked against the protocol's limits before
//! anything is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use pactum_proto::v1;

use crate::context::TIME_LEFT_MAX;
use crate::error::InvalidInput;

const NAME_BYTES_MAX: usize = 64;
const LABELS_MAX: usize = 16;
const LABEL_KEY_BYTES_MAX: usize = 64;
const LABEL_VALUE_BYTES_MAX: usize = 256;

/// The coordinator's own default.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Name, labels, trace and timeout of a transaction.
#[derive(Clone, Debug)]
pub(super) struct Details {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) traceparent: Option<String>,
    pub(super) timeout: Duration,
}

impl Default for Details {
    fn default() -> Self {
        Self { name: String::new(), labels: BTreeMap::new(), traceparent: None, timeout: TIMEOUT_DEFAULT }
    }
}

impl Details {
    pub(super) fn check(&self) -> Result<(), InvalidInput> {
        let key_is_bad = |key: &String| key.is_empty() || key.len() > LABEL_KEY_BYTES_MAX;
        let checks = [
            (self.name.len() > NAME_BYTES_MAX, "name", "at most 64 bytes are allowed"),
            (self.labels.len() > LABELS_MAX, "labels", "at most 16 are allowed"),
            (self.labels.keys().any(key_is_bad), "labels", "a key must have 1 to 64 bytes"),
            (
                self.labels.values().any(|value| value.len() > LABEL_VALUE_BYTES_MAX),
                "labels",
                "a value may have at most 256 bytes",
            ),
            (self.timeout.as_millis() == 0, "timeout", "at least a millisecond is needed"),
            (self.timeout > TIME_LEFT_MAX, "timeout", "at most one hour is allowed"),
        ];
        match checks.into_iter().find(|(bad, ..)| *bad) {
            Some((_, field, rule)) => Err(InvalidInput { field, rule }),
            None => Ok(()),
        }
    }

    pub(super) fn wire(&self) -> v1::Details {
        v1::Details {
            name: self.name.clone(),
            labels: self.labels.clone().into_iter().collect(),
            traceparent: self.traceparent.clone().unwrap_or_default(),
        }
    }
}

/// Adds the options that begin and submit have in common to a builder with a field `details`.
macro_rules! details_options {
    () => {
        /// Names the kind of transaction, for people: at most 64 bytes.
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.details.name = name.into();
            self
        }

        /// Adds a label, for people: at most 16, keys of at most 64 bytes, values of at most 256.
        pub fn label(mut self, key: impl Into<String>, value: impl ToString) -> Self {
            self.details.labels.insert(key.into(), value.to_string());
            self
        }

        /// Aborts the transaction if it is not decided within this; at most one hour.
        /// Default: 30 s. More lets slow work finish; less frees locks sooner when something is stuck.
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.details.timeout = timeout;
            self
        }

        /// Makes the transaction part of a trace: a W3C `traceparent`. Anything else is ignored.
        pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
            self.details.traceparent =
                Some(traceparent.into()).filter(|text| crate::context::is_traceparent(text));
            self
        }
    };
}

pub(super) use details_options;
