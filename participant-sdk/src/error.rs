//! What can go wrong for an application, and how sure we are of what did not happen.
//!
//! Every error answers one question first, [`Certainty`]: did it not happen, may it have
//! happened, or was a contract broken so that nothing can be said? An unknown outcome is
//! neither success nor failure (law 5), and a record that is gone is neither commit nor abort
//! (laws 7 and 8); each is a variant of its own that carries what is needed to ask again.
//!
//! Errors of the coordinator carry a stable code, `PACTUM-nnnn`, which `pactum explain` tells more of,
//! and a reason in `UPPER_SNAKE_CASE`. No type of a transport shows here.

use std::fmt;
use std::time::Duration;

use pactum_core::id::{Branch, TransactionId};

/// How sure an error is of what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// Nothing was committed by this request, and nothing will be.
    DidNotHappen,
    /// It may have committed, or may still. Ask with [`Pactum::outcome`](crate::Pactum::outcome).
    MayHaveHappened,
    /// Somebody did not keep to the protocol: nothing is known. Ask, and report it.
    ContractBroken,
}

/// A coordinator's answer that a request was not carried out. (A branch that votes no is another thing: the
/// request was carried out, and its outcome is abort.)
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code} {reason})")]
pub struct Refusal {
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// The stable code, for example `PACTUM-0005`; empty if the answer carried none.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The stable reason in `UPPER_SNAKE_CASE`; empty if the answer carried none.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// One sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Set where the same request may be repeated: how long to wait first.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// A value that breaks a documented limit. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is not acceptable: {rule}")]
pub struct InvalidInput {
    pub(crate) field: &'static str,
    pub(crate) rule: &'static str,
}

impl InvalidInput {
    /// The field.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

/// No connection to any coordinator can be used, as last seen. For people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// One line per coordinator: its address, and what is wrong.
    pub(crate) problems: Vec<String>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no coordinator can be used")?;
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{} {problem}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Unreachable {}

/// [`Pactum::connect`](crate::Pactum::connect) did not succeed. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An address, or the number of them, or a setting.
    #[error("coordinator address {address:?} cannot be used: {problem}")]
    InvalidAddress {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting breaks a documented limit.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// Certificates or keys that cannot be used.
    #[error("the TLS settings cannot be used: {problem}")]
    InvalidTls {
        /// What is wrong with them.
        problem: String,
    },
    /// No coordinator answered within the connect timeout.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}

/// [`Pactum::begin`](crate::Pactum::begin) did not succeed. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// A name, label or timeout breaks a documented limit.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// No coordinator that takes new transactions answered within the connect timeout.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// No gid lies above the coordinator's floor: its clock was set very far ahead once.
    #[error("no gid can be made above the coordinator's floor")]
    FloorTooHigh,
}

/// A commit or a submit that has no outcome to tell.
///
/// That a transaction *aborted* is no error: it is [`Outcome::Aborted`](crate::Outcome::Aborted).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// It may have committed and may still; the SDK asked until the deadline and its grace had passed.
    /// Ask on with [`Pactum::outcome`](crate::Pactum::outcome) and these branches; never assume either.
    #[error("the outcome of transaction {id} is unknown: {problem}")]
    Unknown {
        /// The transaction.
        id: TransactionId,
        /// The branches that commit named (none for a submit).
        branches: Vec<Branch>,
        /// What the last attempt met, for people.
        problem: String,
    },
    /// No attempt reached a coordinator, or each was refused for now. Not committed, and never
    /// will be: what enlisted aborts.
    #[error("transaction {id} was not committed: {problem}")]
    NotReached {
        /// The transaction.
        id: TransactionId,
        /// What the last attempt met, for people.
        problem: String,
    },
    /// The coordinator refused the request for good. Not committed.
    #[error("transaction {id} was refused: {refusal}")]
    Refused {
        /// The transaction.
        id: TransactionId,
        /// The coordinator's answer.
        refusal: Refusal,
    },
    /// A value breaks a documented limit. Nothing was sent.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// A submit found no coordinator to take it. Nothing was sent.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// A submit found no gid above the coordinator's floor. Nothing was sent.
    #[error("no gid can be made above the coordinator's floor")]
    FloorTooHigh,
    /// Nothing is recorded of it: neither committed nor aborted, as far as anybody can tell.
    #[error("nothing is recorded of transaction {id}")]
    NoRecord {
        /// The transaction.
        id: TransactionId,
    },
    /// It is older than the log remembers: neither committed nor aborted, as far as anybody can tell.
    #[error("transaction {id} is older than the log remembers")]
    Forgotten {
        /// The transaction.
        id: TransactionId,
    },
    /// A coordinator's answer cannot be understood.
    #[error("the answer for transaction {id} breaks the protocol: {problem}")]
    Malformed {
        /// The transaction.
        id: TransactionId,
        /// The branches that commit named (none for a submit).
        branches: Vec<Branch>,
        /// What is wrong with it.
        problem: String,
    },
}

impl CommitError {
    /// How sure this is.
    pub fn certainty(&self) -> Certainty {
        match self {
            Self::Unknown { .. } | Self::NoRecord { .. } | Self::Forgotten { .. } => {
                Certainty::MayHaveHappened
            }
            Self::NotReached { .. }
            | Self::Refused { .. }
            | Self::InvalidInput(_)
            | Self::Unreachable(_)
            | Self::FloorTooHigh => Certainty::DidNotHappen,
            Self::Malformed { .. } => Certainty::ContractBroken,
        }
    }

    /// The coordinator's refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused { refusal, .. } = self { Some(refusal) } else { None }
    }

    /// The transaction, if it had got a name.
    pub fn id(&self) -> Option<TransactionId> {
        match self {
            Self::Unknown { id, .. }
            | Self::NotReached { id, .. }
            | Self::Refused { id, .. }
            | Self::NoRecord { id }
            | Self::Forgotten { id }
            | Self::Malformed { id, .. } => Some(*id),
            Self::InvalidInput(_) | Self::Unreachable(_) | Self::FloorTooHigh => None,
        }
    }
}

/// An abort of which the coordinator could not be told.
///
/// The transaction does not commit all the same, since nobody asked to commit it: what enlisted is let
/// go at its deadline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator could not be told that transaction {id} aborts: {problem}")]
pub struct AbortError {
    pub(crate) id: TransactionId,
    pub(crate) problem: String,
}

impl AbortError {
    /// The transaction.
    pub fn id(&self) -> TransactionId {
        self.id
    }
}

/// A question about an outcome that got no answer. Asking changes nothing; ask again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomeError {
    /// No coordinator answered in time.
    #[error("nobody could be asked about transaction {id}: {problem}")]
    NotReached {
        /// The transaction.
        id: TransactionId,
        /// What the last attempt met, for people.
        problem: String,
    },
    /// The coordinator refused the question.
    #[error("the question about transaction {id} was refused: {refusal}")]
    Refused {
        /// The transaction.
        id: TransactionId,
        /// Its answer.
        refusal: Refusal,
    },
    /// A coordinator's answer cannot be understood.
    #[error("the answer about transaction {id} breaks the protocol: {problem}")]
    Malformed {
        /// The transaction.
        id: TransactionId,
        /// What is wrong with it.
        problem: String,
    },
}

impl From<BeginError> for CommitError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::InvalidInput(error) => Self::InvalidInput(error),
            BeginError::Unreachable(error) => Self::Unreachable(error),
            BeginError::FloorTooHigh => Self::FloorTooHigh,
        }
    }
}
