//! The numbers that the process ends with: one meaning each, for scripts.

use std::process::ExitCode;

/// How the command ended. The numbers are public and never change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Failed, for a reason that has no number of its own.
    Failed = 1,
    /// The command line, a variable or a configuration file is wrong.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// No connection to the server.
    CannotConnect = 4,
    /// No answer in time; nothing was to be changed.
    Deadline = 5,
    /// Refused by the state of things: it contradicts the log, or comes too late.
    Refused = 6,
    /// Not allowed, or not known who asks.
    Auth = 7,
    /// Some of several were done and some were not.
    Partial = 8,
    /// Asked for a change and lost the answer: it may or may not have happened.
    Unknown = 9,
    /// The transaction that was waited for has aborted.
    Aborted = 10,
    /// Stopped by an interrupt.
    Interrupted = 130,
}

impl Exit {
    /// The table for `--help`.
    pub(crate) const HELP: &str = "\
Exit codes:
  0  ok                         6  refused by the state of things
  1  failed                     7  not allowed
  2  wrong usage or config      8  some of several failed
  3  not found                  9  outcome unknown: may have happened
  4  cannot connect            10  the watched transaction aborted
  5  no answer in time        130  interrupted";
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_help_with_its_number() {
        let all = [
            (Exit::Ok, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::NotFound, 3),
            (Exit::CannotConnect, 4),
            (Exit::Deadline, 5),
            (Exit::Refused, 6),
            (Exit::Auth, 7),
            (Exit::Partial, 8),
            (Exit::Unknown, 9),
            (Exit::Aborted, 10),
            (Exit::Interrupted, 130),
        ];
        let words: Vec<_> = Exit::HELP.split_whitespace().collect();
        for (exit, number) in all {
            assert_eq!(exit as u8, number);
            assert!(words.contains(&number.to_string().as_str()), "{exit:?}");
        }
    }
}
