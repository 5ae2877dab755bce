//! Names: of transactions, branches, resources, and of a branch inside a database.
//!
//! Every identifier is a type of its own, so that none can stand where another is
//! meant. Everything that reaches a name from outside is parsed here, once, and then
//! trusted: a database-side name is spliced into `PREPARE TRANSACTION`, which takes no
//! bind parameter, so the alphabet is the only defence (`failure-matrix` D12).
//!
//! This file knows no clock and draws no random number: a shell makes the UUIDs.

use std::fmt;
use std::str::FromStr;

use smol_str::SmolStr;
use uuid::Uuid;

/// A name that does not have the form its kind demands. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {given:?} is malformed: {rule}")]
pub struct NameError {
    /// What was being parsed, for example `gid`.
    pub kind: &'static str,
    /// The text as it came, cut to 80 characters.
    pub given: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl NameError {
    fn new(kind: &'static str, given: &str, rule: &'static str) -> Self {
        Self { kind, given: given.chars().take(80).collect(), rule }
    }
}

/// Defines a newtype over [`Uuid`] whose text form is lower-case and hyphenated.
macro_rules! uuid_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The all-zero value: sorts before every other and names nothing.
            pub const NIL: Self = Self(Uuid::nil());

            /// Wraps a UUID that the caller has drawn.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID within.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// Whether this is [`Self::NIL`].
            pub const fn is_nil(&self) -> bool {
                self.0.is_nil()
            }

            /// Reads the 16 bytes that a message carries.
            ///
            /// # Errors
            /// Any other number of bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, NameError> {
                match <[u8; 16]>::try_from(bytes) {
                    Ok(bytes) => Ok(Self(Uuid::from_bytes(bytes))),
                    Err(_) => Err(NameError::new($kind, "", "16 bytes are needed")),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if !matches!(text.len(), 32 | 36) {
                    return Err(NameError::new($kind, text, "a UUID is needed"));
                }
                match Uuid::try_parse(text) {
                    Ok(uuid) => Ok(Self(uuid)),
                    Err(_) => Err(NameError::new($kind, text, "a UUID is needed")),
                }
            }
        }
    };
}

uuid_name!(
    /// One global transaction. A `UUIDv7` made by whoever begins it.
    ///
    /// Gids are *ordered* by the time inside them, and the floor of forgetting moves in
    /// that order; the time is never compared with a clock (law 6).
    Gid,
    "gid"
);
uuid_name!(
    /// One run of one coordinator process: a row in the log.
    ///
    /// Unique for ever, also across a log that was restored to an older state, which is
    /// why it is a UUID and not a counter. A row that is missing counts as ended.
    Incarnation,
    "incarnation"
);
uuid_name!(
    /// One run of one participant process. It alone holds the local transactions that it
    /// enlisted, so phase 1 goes to it and to no other.
    InstanceId,
    "instance"
);

/// The full name of a global transaction: the pair that nobody re-stamps (law 10).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId {
    /// The coordinator run that owns it and alone may propose commit.
    pub incarnation: Incarnation,
    /// The transaction itself.
    pub gid: Gid,
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.incarnation, self.gid)
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One branch within its transaction, drawn at random by the participant that enlists it
/// (or numbered by the application of a one-shot transaction). Written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchId(u64);

impl BranchId {
    /// Wraps a number that the caller has drawn.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number within.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for BranchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for BranchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BranchId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rule = "16 lower-case hexadecimal digits are needed";
        let plain = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match u64::from_str_radix(text, 16) {
            Ok(number) if plain => Ok(Self(number)),
            _ => Err(NameError::new("branch", text, rule)),
        }
    }
}

/// A short name in a strict alphabet: `a-z`, `0-9`, `-`, `_`, `.`, opening with a letter
/// or a digit.
fn is_plain_name(text: &str, bytes_max: usize) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next();
    matches!(first, Some(b'a'..=b'z' | b'0'..=b'9'))
        && text.len() <= bytes_max
        && bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

/// Defines a newtype over a short string in the alphabet of `is_plain_name`: up to 23 bytes of it, which
/// is most, need no allocation.
macro_rules! plain_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $bytes_max:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// Longest allowed, in bytes.
            pub const BYTES_MAX: usize = $bytes_max;

            /// Checks and wraps a name.
            ///
            /// # Errors
            /// Empty, too long, or a character outside the alphabet.
            pub fn new(text: &str) -> Result<Self, NameError> {
                if is_plain_name(text, Self::BYTES_MAX) {
                    Ok(Self(SmolStr::new(text)))
                } else {
                    Err(NameError::new($kind, text, $rule))
                }
            }

            /// The text within.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    };
}

plain_name!(
    /// A resource: one database, or whatever else a participant speaks for. A branch
    /// belongs to a resource, not to the process that opened it.
    ResourceName,
    "resource",
    64,
    "1 to 64 of a-z, 0-9, '-', '_' and '.', the first a letter or digit, are needed"
);
plain_name!(
    /// All coordinators on one decision log. Drawn when the log is made; stands inside
    /// every database-side name, so that a scan touches only its own cluster's branches.
    Cluster,
    "cluster",
    24,
    "1 to 24 of a-z, 0-9, '-', '_' and '.', the first a letter or digit, are needed"
);

/// A branch's name inside its database: `pactum:<cluster>:<incarnation>:<gid>:<branch>`.
///
/// Strict alphabet, at most 116 bytes (the limit of `PREPARE TRANSACTION` is 200, PostgreSQL
/// manual, *PREPARE TRANSACTION*). Holds everything that an inquiry needs, so a restarted
/// participant needs no memory of its own (`failure-matrix` C10).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PreparedName {
    /// The cluster whose coordinators decide this branch.
    pub cluster: Cluster,
    /// The transaction.
    pub id: TransactionId,
    /// The branch.
    pub branch: BranchId,
}

impl PreparedName {
    /// What every name of ours begins with.
    pub const PREFIX: &'static str = "pactum:";

    /// The prefix that selects one cluster's names in a scan.
    pub fn prefix_of(cluster: &Cluster) -> String {
        format!("{}{cluster}:", Self::PREFIX)
    }
}

impl fmt::Display for PreparedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}:{}:{}:{}",
            Self::PREFIX,
            self.cluster,
            self.id.incarnation.as_uuid().simple(),
            self.id.gid.as_uuid().simple(),
            self.branch
        )
    }
}

impl FromStr for PreparedName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rule = "pactum:<cluster>:<incarnation>:<gid>:<branch> is needed";
        let malformed = || NameError::new("prepared branch", text, rule);
        let rest = text.strip_prefix(Self::PREFIX).ok_or_else(malformed)?;
        let mut parts = rest.split(':');
        let mut next = || parts.next().ok_or_else(malformed);
        let (cluster, incarnation, gid, branch) = (next()?, next()?, next()?, next()?);
        let name = Self {
            cluster: cluster.parse()?,
            id: TransactionId { incarnation: incarnation.parse()?, gid: gid.parse()? },
            branch: branch.parse()?,
        };
        // Only the one spelling that we write is ours: anything else stays untouched.
        if name.to_string() == text { Ok(name) } else { Err(malformed()) }
    }
}

/// The name of a branch as the application and the coordinator know it (law 9): what
/// Commit carries, as a set.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Branch {
    /// The branch within its transaction.
    pub id: BranchId,
    /// Where its work was done.
    pub resource: ResourceName,
    /// The process that holds its local transaction; [`InstanceId::NIL`] for a one-shot
    /// branch that no instance has been asked to execute yet.
    pub instance: InstanceId,
    /// Whether the resource keeps a marker table, so that a transaction of this one branch
    /// may have its register there. Set at enlist from the resource's registration.
    pub marker: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> PreparedName {
        PreparedName {
            cluster: Cluster::new("c0ffee").unwrap(),
            id: TransactionId {
                incarnation: Incarnation::from_uuid(Uuid::from_u128(7)),
                gid: Gid::from_uuid(Uuid::from_u128(9)),
            },
            branch: BranchId::new(0xab),
        }
    }

    #[test]
    fn a_prepared_name_reads_back_as_itself_and_stays_under_the_limit() {
        let text = name().to_string();
        assert_eq!(text.parse::<PreparedName>().unwrap(), name());
        let longest = PreparedName { cluster: Cluster::new(&"c".repeat(24)).unwrap(), ..name() };
        assert!(longest.to_string().len() < 200);
    }

    #[test]
    fn a_name_in_any_other_spelling_is_not_ours() {
        let good = name().to_string();
        for bad in [
            good.to_uppercase(),
            format!("{good}:x"),
            format!("{good}'"),
            good.replace("c0ffee", "c0'fee"),
            good.replace("00000000ab", "ab"),
            String::from("pactum:"),
            String::from("other"),
        ] {
            assert!(bad.parse::<PreparedName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_outside_the_alphabet_are_refused() {
        for bad in ["", "-a", "A", "a b", "a'b", "é", &"a".repeat(65)] {
            assert!(ResourceName::new(bad).is_err(), "{bad}");
        }
        assert!(ResourceName::new("bank-a.eu_1").is_ok());
    }

    #[test]
    fn a_gid_is_a_uuid_in_one_of_two_spellings() {
        let text = "0199c3d0-0000-7000-8000-000000000001";
        let gid: Gid = text.parse().unwrap();
        assert_eq!(gid.to_string(), text);
        assert_eq!(text.replace('-', "").parse::<Gid>().unwrap(), gid);
        for bad in
            ["", "0199", "{0199c3d0-0000-7000-8000-000000000001}", "zz99c3d0-0000-7000-8000-000000000001"]
        {
            assert!(bad.parse::<Gid>().is_err(), "{bad}");
        }
    }
}
