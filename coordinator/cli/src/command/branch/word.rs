//! What the decision log says of prepared branches, asked without a coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pactum_coordinator::config::LogUrl;
use pactum_coordinator::decision_log::{DecisionLog, DecisionLogError, Proposal};
use pactum_coordinator::{Config, OpenLogError, open_log_with};
use pactum_core::id::{Cluster, Gid, Incarnation, PreparedName};
use pactum_core::outcome::{Decision, DecisionRecord, LookUpResult, ProposalResult};
use pactum_core::vote::{AbortKind, AbortReason, Evidence};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::server;

/// What the log says of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// No log was named.
    NotAsked,
    /// It did not answer.
    Unreachable {
        /// For people.
        problem: String,
    },
    /// It is the log of another cluster: its silence means nothing.
    OtherCluster(Cluster),
    /// Commit, of these executions.
    Commit {
        /// The evidence of the branch's vote; `None`: the commit does not name this branch.
        decided: Option<Evidence>,
    },
    /// Abort.
    Abort {
        /// Why.
        reason: String,
    },
    /// Nothing, and never will: another owner's transaction has the gid.
    TakenByAnother,
    /// Nothing.
    Nothing(Owner),
    /// Nothing, which proves nothing: the log went back in time, and the owner is in doubt.
    Doubted,
    /// It has forgotten transactions of that age.
    Forgotten,
    /// A record stands and cannot be read.
    Unreadable,
}

/// The coordinator that owns an undecided transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Its heartbeat moves.
    Alive {
        /// Where it serves.
        address: String,
    },
    /// It has not ended, and its heartbeat stands still.
    Silent,
    /// It has ended.
    Ended,
}

/// The log, if it can be asked.
#[derive(Debug)]
pub(super) enum Log {
    /// None was named.
    NotNamed,
    /// It could not be opened.
    Closed {
        /// Without its password.
        url: LogUrl,
        /// Why, as it is told where the log is needed.
        error: OpenLogError,
    },
    /// It can be asked.
    Open {
        /// Without its password.
        url: LogUrl,
        /// It.
        log: Arc<dyn DecisionLog>,
    },
}

/// How long a coordinator's heartbeat must stand still to be called silent; the lease of `serve`'s default.
const STILL: Duration = Duration::from_secs(3);

/// Between looks at heartbeats.
const LOOK: Duration = Duration::from_millis(100);

/// Gids in one question.
const GIDS_MAX: usize = 500;

/// Proposals of one closing before its answer is called unknown: each on a connection of its own.
const PROPOSALS_MAX: u32 = 3;

impl Log {
    /// Opens it. One that cannot be reached is [`Closed`](Self::Closed), not a failure.
    pub(super) async fn open(url: Option<LogUrl>) -> Result<Self, Failure> {
        let Some(url) = url else { return Ok(Self::NotNamed) };
        if url.reveal().starts_with("memory:") {
            return Err(Failure::usage("a log in memory is nobody else's")
                .next("write it like postgres://user@host/database or sqlite:path/to/log.db"));
        }
        if let Some(path) = url.reveal().strip_prefix("sqlite:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            // Opening would make a new, empty one, that says nothing of anything.
            if !path.exists() {
                let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such file");
                let error = OpenLogError::Log(DecisionLogError::Database(Box::new(missing)));
                return Ok(Self::Closed { url, error });
            }
        }
        match open_log_with(url.reveal(), &Config::default()).await {
            Ok(log) => Ok(Self::Open { url, log }),
            Err(error @ OpenLogError::UnknownScheme { .. }) => Err(server::open_failure(&url, &error)),
            Err(error @ OpenLogError::Log(_)) => Ok(Self::Closed { url, error }),
        }
    }

    /// The cluster whose branches it decides.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::Open { log, .. } => Some(log.cluster()),
            Self::NotNamed | Self::Closed { .. } => None,
        }
    }

    /// Whether its server cannot be reached at all: nobody refused, nobody answered.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Closed { error: OpenLogError::Log(DecisionLogError::Database(error)), .. } => {
                is_silence(error.as_ref())
            }
            Self::Closed { .. } | Self::NotNamed | Self::Open { .. } => false,
        }
    }

    /// Why it cannot be used, for whoever needs it.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self {
            Self::NotNamed => Some(
                Failure::usage("what the log says is not known: no log was named")
                    .next("give --log URL, --log-file FILE or --config FILE"),
            ),
            Self::Closed { url, error } => Some(server::open_failure(url, error)),
            Self::Open { .. } => None,
        }
    }

    /// What it says of each of these, in their order.
    pub(super) async fn words(&self, names: &[PreparedName]) -> Vec<Word> {
        let (url, log) = match self {
            Self::NotNamed => return vec![Word::NotAsked; names.len()],
            Self::Closed { url, error } => {
                let problem = problem(url, error);
                return vec![Word::Unreachable { problem }; names.len()];
            }
            Self::Open { url, log } => (url, log),
        };
        let asked: BTreeSet<Gid> =
            names.iter().filter(|name| name.cluster == *log.cluster()).map(|name| name.id.gid).collect();
        match self.read(log, asked.into_iter().collect(), names).await {
            Ok(read) => names.iter().map(|name| read.word(log.cluster(), name)).collect(),
            Err(error) => {
                let problem = problem(url, &error);
                vec![Word::Unreachable { problem }; names.len()]
            }
        }
    }

    async fn read(
        &self,
        log: &Arc<dyn DecisionLog>,
        gids: Vec<Gid>,
        names: &[PreparedName],
    ) -> Result<Read, DecisionLogError> {
        let mut read = Read::default();
        for chunk in gids.chunks(GIDS_MAX) {
            read.results.extend(chunk.iter().copied().zip(log.look_up(chunk).await?));
        }
        let undecided = |name: &&PreparedName| match read.results.get(&name.id.gid) {
            Some(LookUpResult::NoRecord) => name.cluster == *log.cluster(),
            Some(_) | None => false,
        };
        let owners: BTreeSet<Incarnation> =
            names.iter().filter(undecided).map(|name| name.id.incarnation).collect();
        if owners.is_empty() {
            return Ok(read);
        }
        read.doubted = log.doubted_of(&owners.iter().copied().collect::<Vec<_>>()).await?;
        read.owners = living(log, &owners).await?;
        Ok(read)
    }

    /// Closes the transaction with abort unless something stands, and answers what stands then. Durable
    /// when the answer is [`Word::Abort`] or [`Word::Commit`].
    pub(super) async fn close(&self, name: &PreparedName, reason: &str) -> Word {
        let Self::Open { url, log } = self else {
            return Word::Unreachable { problem: "the log is not open".to_owned() };
        };
        if name.cluster != *log.cluster() {
            return Word::OtherCluster(log.cluster().clone());
        }
        let reason = AbortReason::new(AbortKind::Resolved, reason);
        let proposal = Proposal { record: DecisionRecord::abort(name.id, reason.clone()), number: 0 };
        let mut problem = "the log's answer was lost".to_owned();
        for _ in 0..PROPOSALS_MAX {
            let mut writer = match log.open_writer().await {
                Ok(writer) => writer,
                Err(error) => {
                    problem = self::problem(url, &error);
                    continue;
                }
            };
            // An abort needs no incarnation of the writer's own.
            let result = writer.write(Incarnation::NIL, std::slice::from_ref(&proposal)).await.pop();
            match result {
                Some(ProposalResult::Won) => return Word::Abort { reason: reason.message.to_string() },
                Some(ProposalResult::Lost(record)) => return word_of(&record, name),
                Some(ProposalResult::Forgotten) => return Word::Forgotten,
                Some(ProposalResult::Doubted) => return Word::Doubted,
                // The same record proposed again settles it (law 5).
                Some(ProposalResult::Fenced | ProposalResult::Unknown) | None => {
                    if let Some(told) = writer.problem() {
                        problem = told.text;
                    }
                }
            }
        }
        Word::Unreachable { problem }
    }
}

/// What was read of the log.
#[derive(Debug, Default)]
struct Read {
    results: BTreeMap<Gid, LookUpResult>,
    doubted: BTreeSet<Incarnation>,
    owners: BTreeMap<Incarnation, Owner>,
}

impl Read {
    fn word(&self, cluster: &Cluster, name: &PreparedName) -> Word {
        if name.cluster != *cluster {
            return Word::OtherCluster(cluster.clone());
        }
        match self.results.get(&name.id.gid) {
            Some(LookUpResult::Stands(record)) => word_of(record, name),
            Some(LookUpResult::Forgotten) => Word::Forgotten,
            Some(LookUpResult::Unknown) | None => Word::Unreadable,
            Some(LookUpResult::NoRecord) if self.doubted.contains(&name.id.incarnation) => Word::Doubted,
            Some(LookUpResult::NoRecord) => {
                let owner = self.owners.get(&name.id.incarnation);
                Word::Nothing(owner.cloned().unwrap_or(Owner::Ended))
            }
        }
    }
}

fn word_of(record: &DecisionRecord, name: &PreparedName) -> Word {
    match record.decision {
        _ if record.id != name.id => Word::TakenByAnother,
        Decision::Commit => {
            Word::Commit { decided: record.branch(name.branch).map(|decided| decided.evidence.clone()) }
        }
        Decision::Abort => {
            let reason = record.reason.as_ref().map(|reason| reason.message.to_string());
            Word::Abort { reason: reason.unwrap_or_default() }
        }
    }
}

/// Which of these coordinators live: by watching their heartbeats, never by a clock of theirs.
async fn living(
    log: &Arc<dyn DecisionLog>,
    owners: &BTreeSet<Incarnation>,
) -> Result<BTreeMap<Incarnation, Owner>, DecisionLogError> {
    // A log in a file is ours alone while we have it open.
    if log.kind() != "postgres" {
        return Ok(BTreeMap::new());
    }
    // In nobody's name: counts no beat, ends nobody.
    let look = async || {
        let view = log.heartbeat(Incarnation::NIL).await?;
        let seen = view.incarnations.into_iter().filter(|seen| owners.contains(&seen.incarnation));
        Ok::<_, DecisionLogError>(seen.map(|seen| (seen.incarnation, seen)).collect::<BTreeMap<_, _>>())
    };
    let first = look().await?;
    let mut found: BTreeMap<_, _> = first.keys().map(|incarnation| (*incarnation, Owner::Silent)).collect();
    let until = tokio::time::Instant::now() + STILL;
    while found.values().any(|owner| *owner == Owner::Silent) && tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        let now = look().await?;
        for (incarnation, owner) in &mut found {
            match (first.get(incarnation), now.get(incarnation)) {
                (Some(before), Some(seen)) if seen.beats != before.beats => {
                    *owner = Owner::Alive { address: seen.address.clone() };
                }
                (_, None) => *owner = Owner::Ended,
                (_, Some(_)) => {}
            }
        }
    }
    Ok(found)
}

/// How the log tells that nobody answered within its limit.
const NO_ANSWER: &str = "no answer within";

/// Whether nobody answered: no connection, one that broke, or silence. Whatever else went wrong, a server said
/// so, and may be asked again; what is not understood counts as that.
fn is_silence(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let is_io = error.is::<std::io::Error>()
            || matches!(error.downcast_ref::<sqlx::Error>(), Some(sqlx::Error::Io(_)));
        if is_io || error.to_string().starts_with(NO_ANSWER) {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error and what lies beneath it, on one line, without the log's URL.
fn problem(url: &LogUrl, error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !text.is_empty() && !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ").replace(url.reveal(), &url.to_string())
}

/// For `map_err`: the log did not do something that had to be done first.
pub(super) fn not_written(url: &LogUrl, error: &DecisionLogError) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("nothing was done: it could not be written down first in the log {url}"),
    )
    .because(error)
}
