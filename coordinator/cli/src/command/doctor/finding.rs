//! One thing that was looked at.

use serde::Serialize;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Well.
    Ok,
    /// Works, and may not on a worse day.
    Warn,
    /// Promises cannot be kept, or something waits for a person.
    Bad,
}

impl Level {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// Of what: `coordinator`, `log`, `participant bank-a`, `certificate`.
    pub(crate) about: String,
    /// Which of its properties.
    pub(crate) what: String,
    /// What was found.
    pub(crate) found: String,
    /// What to do; only where something is not well.
    pub(crate) next: Option<String>,
    /// Where to read on.
    #[serde(rename = "reference")]
    pub(crate) more: Option<String>,
}

impl Finding {
    fn new(level: Level, about: &str, what: &str, found: impl Into<String>) -> Self {
        let (about, what) = (about.to_owned(), what.to_owned());
        Self { level, about, what, found: found.into(), next: None, more: None }
    }

    pub(crate) fn ok(about: &str, what: &str, found: impl Into<String>) -> Self {
        Self::new(Level::Ok, about, what, found)
    }

    pub(crate) fn warn(about: &str, what: &str, found: impl Into<String>) -> Self {
        Self::new(Level::Warn, about, what, found)
    }

    pub(crate) fn bad(about: &str, what: &str, found: impl Into<String>) -> Self {
        Self::new(Level::Bad, about, what, found)
    }

    /// Well if that holds, else as it is.
    pub(crate) fn unless(self, well: bool) -> Self {
        if well { Self { level: Level::Ok, next: None, ..self } } else { self }
    }

    /// What to do.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        if self.level != Level::Ok {
            self.next = Some(next.into());
        }
        self
    }

    /// Where to read on.
    pub(crate) fn more(mut self, more: &str) -> Self {
        self.more = Some(more.to_owned());
        self
    }
}
