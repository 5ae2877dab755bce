//! The one table of public errors.
//!
//! Every error that leaves Pactum carries a stable code: a reason in `UPPER_SNAKE_CASE` and a number
//! `PACTUM-nnnn`, in a `google.rpc.ErrorInfo` of the domain `pactum.dev`. Where the same call may be
//! repeated, a `google.rpc.RetryInfo` says after how long, and promises that nothing happened. An
//! outcome is data and never an error.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::v1;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "pactum.dev";

/// The key of the number in the `ErrorInfo`'s metadata.
const CODE_KEY: &str = "code";

/// Defines the table: number, name, reason, gRPC code, what it means, what to do.
macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $reason:literal, $grpc:ident, $meaning:literal, $remedy:literal;)*) => {
        /// A public error.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum ErrorCode {
            $(#[doc = $meaning] $name,)*
        }

        impl ErrorCode {
            /// Every public error, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number in `PACTUM-nnnn`. Never reused.
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// The reason, in `UPPER_SNAKE_CASE`. Never changed.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// The gRPC status code.
            pub const fn grpc(self) -> Code {
                match self { $(Self::$name => Code::$grpc,)* }
            }

            /// What it means, in a sentence or two, and how sure it is.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

table! {
    InvalidArgument = 1, "INVALID_ARGUMENT", InvalidArgument,
        "A field of the request is malformed or too large. Nothing happened.",
        "Correct the field that the message names; the same request fails again.";
    Starting = 2, "STARTING", Unavailable,
        "The coordinator has no live incarnation in the log yet, or has lost it and takes a new one. Nothing happened.",
        "Repeat the call after the time that RetryInfo gives. If it lasts, look at the coordinator's log: the decision log cannot be reached.";
    Draining = 3, "DRAINING", Unavailable,
        "The coordinator is stopping: it finishes what is in flight and starts nothing new. Nothing happened.",
        "Repeat the call, at another coordinator or at this one after its restart.";
    LogUnavailable = 4, "LOG_UNAVAILABLE", Unavailable,
        "The decision log cannot be written or read now, so that no commit can be started. Nothing happened.",
        "Repeat the call after the time that RetryInfo gives; service resumes by itself when the log is back. Check the log's PostgreSQL: connections, disk space, read-only mode.";
    Overloaded = 5, "OVERLOADED", ResourceExhausted,
        "The coordinator has as much in flight as it is allowed to have, and sheds the call. Nothing happened.",
        "Repeat the call after the time that RetryInfo gives, with fewer in flight.";
    Forgotten = 6, "FORGOTTEN", NotFound,
        "The transaction is older than the log remembers: neither committed nor aborted can be said any more. Nothing happened.",
        "Draw a new transaction. To look further back, keep records longer (retention).";
    AlreadyCommitted = 7, "ALREADY_COMMITTED", FailedPrecondition,
        "Commit is decided and durable, and a decision is never reversed: an operator can only have an undecided transaction aborted. Nothing happened.",
        "Let it finish: every branch that voted is driven to commit. `pactum tx show` says what it waits for, `pactum tx retry` has it tried now.";
    TooOldToStart = 8, "TOO_OLD_TO_START", FailedPrecondition,
        "The gid is at or under the coordinator's start floor, and it is not known here: it is not started any more, so that no transaction runs twice. Nothing happened.",
        "Draw a new gid above the floor of the last Welcome, and begin again.";
    NotOwner = 9, "NOT_OWNER", FailedPrecondition,
        "The transaction belongs to another incarnation: only its owner begins it and enlists branches. Nothing happened.",
        "Send the call to the coordinator that the context names; if that has ended, begin a new transaction.";
    CommitAlreadyAsked = 10, "COMMIT_ALREADY_ASKED", FailedPrecondition,
        "Commit of this transaction was asked already, so that no branch can join it any more. The branch must roll back.",
        "Enlist every branch before the application commits: answer its call only after enlisting.";
    TransactionEnded = 11, "TRANSACTION_ENDED", Aborted,
        "The transaction has ended. The branch must roll back.",
        "Begin a new transaction.";
    BranchDiffers = 12, "BRANCH_DIFFERS", AlreadyExists,
        "The branch's id is used by another branch of the transaction. Nothing happened.",
        "Draw branch ids at random.";
    RequestDiffers = 13, "REQUEST_DIFFERS", AlreadyExists,
        "The gid was used with another request. Nothing happened.",
        "Draw a new gid for each transaction, and repeat a request only with the same body.";
    TooManyBranches = 14, "TOO_MANY_BRANCHES", InvalidArgument,
        "The transaction names no branch, or more than are allowed. Nothing happened.",
        "Split it into smaller transactions.";
    NoRecord = 15, "NO_RECORD", NotFound,
        "Nothing is recorded of the transaction: it is neither committed nor aborted for certain.",
        "Ask with the set of its branches to have a definite answer.";
    TransactionNotFound = 16, "TRANSACTION_NOT_FOUND", NotFound,
        "No transaction of that name is known here or in the log.",
        "Check the gid; `pactum tx list --finished` shows what the log remembers.";
    AmbiguousGid = 17, "AMBIGUOUS_GID", FailedPrecondition,
        "The part of a gid fits several transactions. Nothing happened.",
        "Give more digits.";
    OutcomeUnknown = 18, "OUTCOME_UNKNOWN", DeadlineExceeded,
        "The register was asked and its answer is missing: what was asked may have happened, or may happen yet.",
        "Ask again later, by the same gid and with the same branches; the answer is then the one true outcome.";
    StreamSuperseded = 19, "STREAM_SUPERSEDED", AlreadyExists,
        "A newer stream of the same participant instance has taken over.",
        "If two processes share one instance id, give each its own.";
    StreamTooSlow = 20, "STREAM_TOO_SLOW", ResourceExhausted,
        "The peer did not read what waited for it on its stream, which was closed. What was sent may have arrived.",
        "Attach again; what is owed is sent again. Look for a participant that blocks its event loop.";
    TooManyParticipants = 21, "TOO_MANY_PARTICIPANTS", ResourceExhausted,
        "As many participants are attached as are allowed. Nothing happened.",
        "Raise participants_max, or run fewer instances.";
    Internal = 22, "INTERNAL", Internal,
        "A broken contract inside Pactum. What was asked may have happened.",
        "Please report it, with the coordinator's log of that time.";
    PlanChanged = 23, "PLAN_CHANGED", FailedPrecondition,
        "The state is not the one that the act was planned for: it moved on by itself, or another operator was first. Nothing happened.",
        "Look again: the new plan says what has changed. Then act on that, or leave it.";
    NothingToDo = 24, "NOTHING_TO_DO", FailedPrecondition,
        "What the act would bring about is so already. Nothing happened.",
        "Nothing: `pactum tx show` shows how it stands.";
    CommitAheadOfDecision = 25, "COMMIT_AHEAD_OF_DECISION", FailedPrecondition,
        "The transaction is undecided and the log can be asked: a branch committed by hand now could contradict the decision. Nothing happened.",
        "Wait for the decision, or have it made: `pactum tx resolve` closes it with abort.";
    AgreesWithDecision = 26, "AGREES_WITH_DECISION", FailedPrecondition,
        "The decision is what was asked for: it is being carried out and needs no overruling. Nothing happened.",
        "`pactum tx retry` has it tried now.";
    BranchMayBePrepared = 27, "BRANCH_MAY_BE_PREPARED", FailedPrecondition,
        "A branch of the transaction is prepared in its database, or may be: to forget its decision now could leave it there for ever. Nothing happened.",
        "Let the branch end, or end it with `pactum tx overrule`; then forget.";
    ParticipantSilent = 28, "PARTICIPANT_SILENT", Unavailable,
        "No participant of the resource answered, so that nothing is known of its database. Nothing happened.",
        "Repeat it when the participant is back: `pactum participant list`. Where it stays away, `pactum branch list --database URL` looks by itself.";
    Unauthenticated = 29, "UNAUTHENTICATED", Unauthenticated,
        "The admin address asks for a token, and none was given, or one that is unknown. Nothing happened.",
        "Give --token-file or PACTUM_TOKEN_FILE; `pactum token create` makes one.";
    ConfigInvalid = 30, "CONFIG_INVALID", InvalidArgument,
        "The configuration is wrong: an unknown key, a malformed value, or settings that contradict each other.",
        "Correct the key that the message names.";
    UnsafeAddress = 31, "UNSAFE_ADDRESS", InvalidArgument,
        "An address outside loopback was given without TLS: whoever reaches it could commit and abort.",
        "Give tls.certificate and tls.key, or --unsafe-plaintext if the network itself is trusted.";
    LogUnreachable = 32, "LOG_UNREACHABLE", Unavailable,
        "The decision log could not be opened.",
        "Check the URL, that the server runs, and that the role may connect.";
    LogSettingRefused = 33, "LOG_SETTING_REFUSED", FailedPrecondition,
        "The log's database has a setting under which an acknowledged commit could be lost, or a version that is not served.",
        "Change the setting that the message names.";
    SchemaNotReady = 34, "SCHEMA_NOT_READY", FailedPrecondition,
        "The log's schema is missing or of another version, and this role may not change it.",
        "Run `pactum log migrate --log URL` as the schema's owner.";
    LogInUse = 35, "LOG_IN_USE", FailedPrecondition,
        "Another process holds the embedded log.",
        "Stop the other process, or give this one a file of its own.";
    AddressInUse = 36, "ADDRESS_IN_USE", FailedPrecondition,
        "The address to listen on is taken, or may not be used.",
        "Stop what listens there, or give another --listen or --admin-listen.";
    CannotConnect = 37, "CANNOT_CONNECT", Unavailable,
        "The coordinator's address did not answer.",
        "Check --server, and that a coordinator runs: `pactum dev` starts one.";
    TimedOut = 38, "TIMED_OUT", DeadlineExceeded,
        "The call took longer than --timeout. What was asked may have happened.",
        "Ask again, or give a longer --timeout.";
    LogCorrupt = 39, "LOG_CORRUPT", DataLoss,
        "A record in the log cannot be read, or the log is older than it once was. Records are never skipped.",
        "Restore the log's database, or find out what wrote to it; nothing was changed.";
    ConfirmationNeeded = 40, "CONFIRMATION_NEEDED", FailedPrecondition,
        "The command asks before it acts, and there is nobody to answer. Nothing happened.",
        "Give --yes once the plan it prints is what you want.";
    DemoFailed = 41, "DEMO_FAILED", Internal,
        "The demo did not keep what it shows: sums differ, something is in doubt, or one of the outcomes never occurred.",
        "Please report it, with the demo's output.";
    PostgresMissing = 42, "POSTGRES_MISSING", FailedPrecondition,
        "A throw-away PostgreSQL server was asked for, and could not be started from the binaries on this machine.",
        "Install PostgreSQL's server (Debian: apt-get install postgresql), or give the URL of a running one.";
    PermissionDenied = 43, "PERMISSION_DENIED", PermissionDenied,
        "The token is that of a viewer, who may look and not act; or the coordinator's admin address is read-only. Nothing happened.",
        "Ask an operator, or use an operator's token.";
    BranchNotPrepared = 44, "BRANCH_NOT_PREPARED", FailedPrecondition,
        "The branch is not prepared in its database, or not by the execution that was meant: there is nothing to end by hand. Nothing happened.",
        "`pactum tx show` says what its database says of it.";
    InQuarantine = 45, "IN_QUARANTINE", FailedPrecondition,
        "The log went back in time, or has forgotten the transaction: what it lacks proves nothing, so that nobody concludes abort. Nothing happened.",
        "Compare the databases by hand; then `pactum tx overrule` ends a branch, or `pactum quarantine release` says that no commit is missing.";
    AuditBroken = 46, "AUDIT_BROKEN", DataLoss,
        "The audit's entries do not form a chain: one was changed, removed or put in from outside.",
        "Keep what there is. Compare with an earlier export, and find out who can write to the log's database.";
}

impl ErrorCode {
    /// The code as it is printed: `PACTUM-nnnn`.
    pub fn code(self) -> String {
        format!("PACTUM-{:04}", self.number())
    }

    /// The public error of that reason, if there is one.
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.reason() == reason)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PACTUM-{:04} {}", self.number(), self.reason())
    }
}

/// A text that names no public error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no code like PACTUM-0007 and no reason like ALREADY_COMMITTED")]
pub struct UnknownCode {
    given: String,
}

/// Reads `PACTUM-0007`, `7`, or `ALREADY_COMMITTED`, in any case.
impl FromStr for ErrorCode {
    type Err = UnknownCode;

    fn from_str(given: &str) -> Result<Self, UnknownCode> {
        let text = given.trim().to_ascii_uppercase();
        let number = text.strip_prefix("PACTUM-").unwrap_or(&text).parse::<u16>().ok();
        Self::ALL
            .iter()
            .copied()
            .find(|code| Some(code.number()) == number || code.reason() == text)
            .ok_or_else(|| UnknownCode { given: given.chars().take(80).collect() })
    }
}

fn details(code: ErrorCode, retry_after: Option<Duration>) -> ErrorDetails {
    let metadata = std::collections::HashMap::from([(CODE_KEY.to_owned(), code.code())]);
    let mut details = ErrorDetails::with_error_info(code.reason(), DOMAIN, metadata);
    if let Some(after) = retry_after {
        details.set_retry_info(Some(after));
    }
    details
}

/// A status with the code's `ErrorInfo`, and with `RetryInfo` if the same call may be repeated.
pub fn status(code: ErrorCode, message: impl Into<String>, retry_after: Option<Duration>) -> Status {
    Status::with_error_details(code.grpc(), message, details(code, retry_after))
}

/// `INVALID_ARGUMENT`, with the field also in a `BadRequest`.
pub fn invalid_argument(field: &str, problem: &str) -> Status {
    let code = ErrorCode::InvalidArgument;
    let mut details = details(code, None);
    details.add_bad_request_violation(field, problem);
    Status::with_error_details(code.grpc(), format!("{field}: {problem}"), details)
}

/// The same facts as an error of one call inside a stream.
pub fn call_error(code: ErrorCode, message: &str, retry_after: Option<Duration>) -> v1::CallError {
    v1::CallError {
        code: code.grpc().into(),
        message: message.to_owned(),
        reason: code.reason().to_owned(),
        pactum_code: code.code(),
        retry_after: retry_after.and_then(|after| after.try_into().ok()),
    }
}

/// What an error that came back says, from whichever form it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFacts {
    /// The gRPC code.
    pub grpc: Code,
    /// One sentence, for people.
    pub message: String,
    /// The reason; empty if the error is not Pactum's.
    pub reason: String,
    /// `PACTUM-nnnn`; empty if the error is not Pactum's.
    pub code: String,
    /// Set if nothing happened and the same call may be repeated after that.
    pub retry_after: Option<Duration>,
}

impl ErrorFacts {
    /// Reads a status.
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        Self {
            grpc: status.code(),
            message: status.message().to_owned(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            code: info.and_then(|info| info.metadata.get(CODE_KEY).cloned()).unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    /// Reads an error of one call inside a stream.
    pub fn from_call_error(error: &v1::CallError) -> Self {
        Self {
            grpc: Code::from_i32(error.code),
            message: error.message.clone(),
            reason: error.reason.clone(),
            code: error.pactum_code.clone(),
            retry_after: error.retry_after.and_then(|after| after.try_into().ok()),
        }
    }

    /// The public error that it is, if it is Pactum's and this version knows it.
    pub fn known(&self) -> Option<ErrorCode> {
        ErrorCode::from_reason(&self.reason)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_and_reasons_are_unique_and_well_formed() {
        let numbers: BTreeSet<u16> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
        let reasons: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.reason()).collect();
        assert_eq!(numbers.len(), ErrorCode::ALL.len());
        assert_eq!(reasons.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert!(code.reason().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{code}");
            assert!(code.meaning().ends_with('.') && code.remedy().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn a_code_is_found_by_number_in_any_spelling_and_by_reason() {
        for text in ["PACTUM-0007", "pactum-7", "7", "already_committed"] {
            assert_eq!(text.parse::<ErrorCode>().unwrap(), ErrorCode::AlreadyCommitted);
        }
        for text in ["", "PACTUM-", "PACTUM-9999", "nothing"] {
            assert!(text.parse::<ErrorCode>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_status_and_a_call_error_carry_the_same_facts() {
        for code in ErrorCode::ALL {
            for retry_after in [None, Some(Duration::from_millis(250))] {
                let from_status = ErrorFacts::from_status(&status(*code, "because", retry_after));
                let from_call = ErrorFacts::from_call_error(&call_error(*code, "because", retry_after));
                assert_eq!(from_status, from_call);
                assert_eq!(from_status.known(), Some(*code));
                assert_eq!(from_status.code, code.code());
                assert_eq!(from_status.retry_after, retry_after);
            }
        }
    }

    #[test]
    fn an_invalid_argument_names_its_field_in_a_bad_request() {
        let status = invalid_argument("branch.resource", "it is empty");
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "branch.resource");
        assert_eq!(ErrorFacts::from_status(&status).known(), Some(ErrorCode::InvalidArgument));
    }

    #[test]
    fn an_error_of_somebody_else_has_no_code() {
        let facts = ErrorFacts::from_status(&Status::unavailable("connection refused"));
        assert_eq!((facts.reason.as_str(), facts.code.as_str(), facts.known()), ("", "", None));
    }
}
