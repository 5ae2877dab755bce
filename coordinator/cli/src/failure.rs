//! What went wrong, as a person is told: one sentence, why, the stable code, what to do next.

use std::error::Error;
use std::fmt;

use pactum_proto::error::ErrorCode;
use serde::Serialize;

use crate::exit::Exit;

/// The command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// Boxed: nearly every function here returns one in a `Result` and hardly ever makes one.
    told: Box<Told>,
}

/// What is told of it.
#[derive(Debug, Default)]
struct Told {
    sentence: String,
    causes: Vec<String>,
    code: Option<StableCode>,
    next: Option<String>,
}

/// How an error is called for ever, whatever its text says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StableCode {
    /// `UPPER_SNAKE_CASE`.
    pub(crate) reason: String,
    /// `PACTUM-nnnn`.
    pub(crate) code: String,
}

/// The shape on stderr under `-o json`.
#[derive(Serialize)]
struct FailureJson<'a> {
    error: &'a str,
    causes: &'a [String],
    #[serde(flatten)]
    code: Option<&'a StableCode>,
    next: Option<&'a str>,
    exit_code: u8,
}

impl Failure {
    /// A failure with its sentence: lower case, no full stop.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, told: Box::new(Told { sentence: sentence.into(), ..Told::default() }) }
    }

    /// A wrong variable, file or value.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence).code(ErrorCode::ConfigInvalid)
    }

    /// Adds the error and everything beneath it, each text once: some libraries repeat a
    /// source's text in their own.
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            let told = self.told.causes.iter().any(|cause| cause.contains(&text))
                || self.told.sentence.contains(&text);
            if !text.is_empty() && !told {
                self.told.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds a cause in words.
    pub(crate) fn cause(mut self, text: impl Into<String>) -> Self {
        self.told.causes.push(text.into());
        self
    }

    /// Adds the stable code. What the table of codes says to do is told where nothing better is.
    pub(crate) fn code(mut self, code: ErrorCode) -> Self {
        self.told.code = Some(StableCode { reason: code.reason().to_owned(), code: code.code() });
        self
    }

    /// Adds the stable code that a server sent, which may be newer than this program.
    pub(crate) fn stable_code(mut self, code: Option<StableCode>) -> Self {
        self.told.code = code.or(self.told.code);
        self
    }

    fn remedy(&self) -> Option<&str> {
        let known = self.told.code.as_ref().and_then(|code| ErrorCode::from_reason(&code.reason));
        self.told.next.as_deref().or_else(|| known.map(ErrorCode::remedy))
    }

    /// Adds what to do next, unless that was said already.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.told.next.get_or_insert_with(|| next.into());
        self
    }

    /// Says which of several things it is about, unless the sentence does.
    pub(crate) fn of(mut self, what: &str) -> Self {
        if !self.told.sentence.contains(what) {
            self.told.sentence = format!("{what}: {}", self.told.sentence);
        }
        self
    }

    /// Whether it carries that stable code.
    pub(crate) fn is(&self, code: ErrorCode) -> bool {
        self.told.code.as_ref().is_some_and(|told| told.reason == code.reason())
    }

    /// What happened and why, on one line.
    pub(crate) fn line(&self) -> String {
        let parts: Vec<&str> =
            std::iter::once(&self.told.sentence).chain(&self.told.causes).map(String::as_str).collect();
        parts.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What happened, without why.
    pub(crate) fn sentence(&self) -> &str {
        &self.told.sentence
    }

    /// The number that the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> String {
        let json = FailureJson {
            error: &self.told.sentence,
            causes: &self.told.causes,
            code: self.told.code.as_ref(),
            next: self.remedy(),
            exit_code: self.exit as u8,
        };
        serde_json::to_string(&json).expect("strings and numbers always serialise")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.sentence)?;
        for cause in &self.told.causes {
            write!(f, "\n  because: {cause}")?;
        }
        if let Some(StableCode { reason, code }) = &self.told.code {
            write!(f, "\n  reason:  {reason} ({code}); more: pactum explain {code}")?;
        }
        if let Some(next) = self.remedy() {
            write!(f, "\n  next:    {next}")?;
        }
        Ok(())
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_the_sentence_why_the_code_and_what_next() {
        let io = std::io::Error::other("disk full");
        let failure = Failure::new(Exit::Failed, "the log could not be opened")
            .because(&io)
            .code(ErrorCode::LogUnavailable)
            .next("make room")
            .next("not this one");
        let text = failure.to_string();
        assert_eq!(
            text,
            "the log could not be opened\n  because: disk full\n  reason:  LOG_UNAVAILABLE \
             (PACTUM-0004); more: pactum explain PACTUM-0004\n  next:    make room"
        );
        let json: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
        assert_eq!(json["code"], "PACTUM-0004");
        assert_eq!(json["exit_code"], 1);
    }
}
