//! What an operator and the other coordinators are told of a log: its identity, how it is
//! replicated, who is on it, and whose commits are in doubt because it went back in time.

use std::time::{Duration, SystemTime};

use pactum_core::id::{Cluster, Gid, Incarnation};

/// How a log is replicated, as its server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replication {
    /// Its `synchronous_standby_names`; empty if a commit waits for no standby.
    pub configured: String,
    /// Standbys that each commit waits for, read from [`configured`](Self::configured). With 0 a
    /// failover may lose what was acknowledged: then it is noticed, and in-doubt branches wait for
    /// an operator. Recommended is a quorum of two: `ANY 1 (a, b)`.
    pub required: u32,
    /// Standbys that stream now and count as synchronous. With fewer than
    /// [`required`](Self::required) every commit waits.
    pub confirmed: u32,
    /// Whether our role may see all standbys; if not (it lacks `pg_monitor`), `confirmed` counts
    /// only those it sees.
    pub visible: bool,
}

/// Standbys that a commit waits for under this `synchronous_standby_names`.
///
/// Forms (PostgreSQL manual, *Replication, Primary Server*): `FIRST n (…)`, `ANY n (…)`, `n (…)`,
/// and a bare list or `*`, which means one. Without blanks too: `ANY 1(a)`.
pub fn standbys_required(names: &str) -> u32 {
    let names = names.trim();
    if names.is_empty() {
        return 0;
    }
    let Some((before, _)) = names.split_once('(') else { return 1 };
    let number = before.split_whitespace().last().and_then(|number| number.parse().ok());
    // `a, "b (c"` is a list whose names hold brackets.
    number.unwrap_or(1)
}

/// An incarnation whose commits may have been lost when the log went back in time.
///
/// It is ended. Its transactions that have no record are aborted by nobody until it is released:
/// by its own coordinator, if that still lives and finds all that was acknowledged to it, or by an
/// operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoubtedIncarnation {
    /// It.
    pub incarnation: Incarnation,
    /// Where it served; empty if its row is missing.
    pub address: String,
}

/// Which doubts an operator lifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// That of one incarnation, also if its row is missing.
    One(Incarnation),
    /// All, those of incarnations whose rows are missing included.
    All,
}

/// All that a log says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStatus {
    /// `postgres`, `sqlite` or `memory`.
    pub kind: &'static str,
    /// All coordinators on it.
    pub cluster: Cluster,
    /// The floor.
    pub floor: Gid,
    /// The server's system identifier and timeline; none where the log has no server.
    pub server: Option<ServerIdentity>,
    /// How often the log was found to have gone back in time, or was said to have.
    pub switches: u64,
    /// Whether an owner without a row is in doubt.
    pub absent_doubted: bool,
    /// None where a log is one file.
    pub replication: Option<Replication>,
    /// Incarnations that are live, in doubt, or ended and not recovered; oldest first.
    pub incarnations: Vec<IncarnationStatus>,
    /// What happened to the log's past, newest first; the last hundred.
    pub events: Vec<LogEvent>,
}

/// Which run of which server a log lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Drawn when the server's files were made; copies share it.
    pub system: u64,
    /// Counts promotions and restores along one line of history.
    pub timeline: u32,
}

/// An incarnation as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncarnationStatus {
    /// It.
    pub incarnation: Incarnation,
    /// Where it serves or served.
    pub address: String,
    /// When it was started, by the log's clock.
    pub started_at: SystemTime,
    /// When it was ended, by the log's clock.
    pub ended_at: Option<SystemTime>,
    /// Not ended.
    pub live: bool,
    /// All that it left unfinished is finished, or driven by others.
    pub recovered: bool,
    /// Commits of it may have been lost.
    pub doubted: bool,
}

/// What a probe of a log told: see [`DecisionLog::probe`](super::DecisionLog::probe).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogProbe {
    /// How long the least forced write took; none where a log forces nothing.
    pub write: Option<Duration>,
    /// The log's clock minus this process's, in microseconds, at the middle of the question: good to half of
    /// the time that it took.
    pub clock_difference_microseconds: i64,
}

/// Something that happened to the log's past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// When, by the log's clock.
    pub at: SystemTime,
    /// What.
    pub kind: LogEventKind,
    /// Whose, if it is about one incarnation.
    pub incarnation: Option<Incarnation>,
    /// Who: the database's user.
    pub who: String,
    /// Why, for people.
    pub detail: String,
}

/// What happened to the log's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEventKind {
    /// It was found to have gone back, or said to: all incarnations that had not ended are in doubt.
    Doubted,
    /// An incarnation's coordinator found all that had been acknowledged to it: no longer in doubt.
    Vouched,
    /// An incarnation's coordinator misses decisions that had been acknowledged to it.
    Lost,
    /// An operator lifted doubts.
    Released,
}

impl LogEventKind {
    /// Its name in the log, and for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Doubted => "doubted",
            Self::Vouched => "vouched",
            Self::Lost => "lost",
            Self::Released => "released",
        }
    }

    /// Reads [`name`](Self::name).
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Doubted, Self::Vouched, Self::Lost, Self::Released]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Events kept and shown at most; they are as rare as failovers.
pub(super) const EVENTS_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_standbys_is_read_from_every_form() {
        let cases = [
            ("", 0),
            ("  ", 0),
            ("*", 1),
            ("a", 1),
            ("a, b", 1),
            ("2 (a, b, c)", 2),
            ("FIRST 2 (a, b, c)", 2),
            ("ANY 1(a, b)", 1),
            ("any 3 (*)", 3),
        ];
        for (names, required) in cases {
            assert_eq!(standbys_required(names), required, "{names:?}");
        }
    }
}
