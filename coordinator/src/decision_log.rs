//! The decision log: where a global transaction's outcome is written once.
//!
//! The trait says what is true after a crash before and after each call; the
//! implementations are [`postgres`], [`sqlite`] and [`memory`], and one contract suite
//! ([`contract`]) holds for all. The [`writer`] groups commits; the [`finisher`] keeps the
//! lazy end records.
//!
//! What every implementation holds:
//! * **Write once.** At most one record per gid ever stands; what stands is never changed
//!   (law 1).
//! * **Fence.** A commit proposal of an incarnation that was ended writes nothing. Abort
//!   proposals are free to all (law 4).
//! * **Floor.** Nothing is written or answered at or under the floor (law 7).
//! * **Unknown is told.** A lost answer is [`ProposalResult::Unknown`], never a guess (law 5).
//! * **Doubt.** A log that went back in time lacks records that once stood. Whoever might have lost
//!   some is *in doubt*, and nothing of theirs is concluded from absence until somebody who knows
//!   says so (B4, B5). See below.
//! * **Known durable.** A record that another process wrote is handed out only after a
//!   synchronous write of our own since reading it (B6), shared by the batch.
//!
//! It does not know votes, sessions or participants.
//!
//! # A log that went back in time
//! A restored backup, or a standby that was promoted before it had received everything, shows a past
//! state of the log. A log's history is a line, and what is left of it is its beginning. So:
//! * An incarnation whose *end* is visible has lost no commit: each was written before its end.
//! * Every other incarnation is ended and put in doubt, in one transaction, before anything else is
//!   done on that log. **Ended**, because closings may be lost like commits: an owner that went on
//!   could commit what another coordinator had closed, and told, as aborted. (Its undecided
//!   transactions abort; its coordinator takes a new incarnation at once.)
//! * **In doubt**: that an owner's transaction has no record proves nothing. Closing it writes nothing
//!   and answers [`ProposalResult::Doubted`]; its branches are held.
//! * A living coordinator lifts the doubt of its own incarnation: if all that was ever acknowledged to
//!   it still stands, nothing that anybody was told is lost. Otherwise an operator does.
//! * An owner without a row (its start was lost) is in doubt as well, once the log has gone back.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use pactum_core::id::{Branch, Cluster, Gid, Incarnation, TransactionId};
use pactum_core::outcome::{DecisionRecord, Details, HeuristicOutcome, LookUpResult, ProposalResult};

/// A log as the coordinator sees it.
#[async_trait]
pub trait DecisionLog: Debug + Send + Sync + 'static {
    /// `postgres`, `sqlite` or `memory`.
    fn kind(&self) -> &'static str;

    /// The cluster: all coordinators on this log. Drawn when the log was made.
    fn cluster(&self) -> &Cluster;

    /// Starts a new incarnation with its fence open, and returns it. Durable on return. After
    /// a crash before the return there may be a row that nobody uses, which is harmless.
    ///
    /// # Errors
    /// Any; nothing that matters happened.
    async fn start_incarnation(&self, address: &str) -> Result<Incarnation, DecisionLogError>;

    /// Says that `incarnation` is alive, and reads what the log shows. Forces nothing, with one
    /// exception: if the log went back in time and `incarnation`, which is ended by that, is in
    /// doubt, this looks for what had been acknowledged to this process. If all of it stands, the
    /// doubt is lifted, durably on return; if not, it stays, and an ERROR says what is missing.
    ///
    /// # Errors
    /// Any; the beat may or may not have been counted, the doubt may or may not have been lifted.
    async fn heartbeat(&self, incarnation: Incarnation) -> Result<LogView, DecisionLogError>;

    /// Ends an incarnation: from the return on, none of its commit proposals is written any
    /// more, also not by a statement that began before. Repeatable. Durable on return.
    ///
    /// # Errors
    /// Any; it may or may not have been ended.
    async fn end_incarnation(&self, incarnation: Incarnation) -> Result<(), DecisionLogError>;

    /// Opens a writer with a connection of its own, whose settings have been checked.
    ///
    /// # Errors
    /// No connection, or settings under which an acknowledged commit could be lost.
    async fn open_writer(&self) -> Result<Box<dyn DecisionWriter>, DecisionLogError>;

    /// Reads what stands for each gid, in the order asked. Known durable. A record that cannot be read is
    /// [`LookUpResult::Unknown`], and an ERROR in the program's log (B10).
    ///
    /// # Errors
    /// Any; nothing is known.
    async fn look_up(&self, gids: &[Gid]) -> Result<Vec<LookUpResult>, DecisionLogError>;

    /// The incarnations that have been ended and are not marked recovered; those that are but have
    /// stragglers left (whoever recovered them may have died since: he who is still at it skips
    /// them); and owners of commits whose row is missing, which counts as ended.
    ///
    /// # Errors
    /// Any; nothing is known.
    async fn unrecovered_incarnations(&self) -> Result<Vec<Incarnation>, DecisionLogError>;

    /// Up to `limit` commits of `incarnation` that are not known finished, in order of their
    /// number, those after `after` only. Known durable. Fewer than `limit` does not mean that no more follow;
    /// none does.
    ///
    /// # Errors
    /// Any; nothing is known. A row that cannot be read is an error, never skipped (B10).
    async fn unfinished_commits(
        &self,
        incarnation: Incarnation,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<NumberedCommit>, DecisionLogError>;

    /// Marks an ended incarnation as recovered: it has no unfinished commit but those listed as
    /// stragglers. Lazy: may be lost in a crash, and is then repeated.
    ///
    /// # Errors
    /// Any; it may or may not have been marked.
    async fn mark_recovered(&self, incarnation: Incarnation) -> Result<(), DecisionLogError>;

    /// Takes in end records. Lazy: not durable on return, and of no say in safety. Atomic. A list of
    /// stragglers without a mark is durable on return: see [`mark_recovered`](Self::mark_recovered).
    ///
    /// # Errors
    /// Any; all or nothing of it happened.
    async fn record_finished(&self, update: &FinishUpdate) -> Result<(), DecisionLogError>;

    /// Keeps or drops prepare records. Lazy as [`record_finished`](Self::record_finished).
    ///
    /// # Errors
    /// Any; all or nothing of it happened.
    async fn record_undecided(&self, add: &[UndecidedRecord], remove: &[Gid])
    -> Result<(), DecisionLogError>;

    /// Keeps heuristic outcomes next to their decisions, also under the floor: until somebody forgets
    /// them by hand. Repeatable, the last of a branch stands. Durable on return.
    ///
    /// # Errors
    /// Any; it may or may not have been kept.
    async fn record_heuristics(&self, heuristics: &[HeuristicRecord]) -> Result<(), DecisionLogError>;

    /// The heuristic outcomes that are kept of these transactions.
    ///
    /// # Errors
    /// Any; nothing is known.
    async fn heuristics(&self, gids: &[Gid]) -> Result<Vec<HeuristicRecord>, DecisionLogError>;

    /// Raises the floor to `to`, or leaves it if it is higher or if a commit at or under `to` is
    /// unfinished and not listed as a straggler. Waits for statements that tested the old one.
    /// Durable on return; answers the floor that stands.
    ///
    /// # Errors
    /// Any; it may or may not have been raised.
    async fn raise_floor(&self, to: Gid) -> Result<Gid, DecisionLogError>;

    /// Deletes up to `limit` records at or under the floor, except stragglers and transactions with
    /// heuristic outcomes, which an operator has yet to see. Answers how many. Also drops stragglers there
    /// that have no record, and prepare records of coordinators that are long gone. Lazy.
    ///
    /// # Errors
    /// Any; some may have been deleted, which is harmless.
    async fn delete_below_floor(&self, limit: u32) -> Result<u64, DecisionLogError>;

    /// How far the floor may be raised for a retention of `age`: the greatest gid of a record such
    /// that neither it nor any below it was written less than `age` ago, by the log's clock. `None` if
    /// there is none above the floor. One call looks at a bounded number of records; call again after
    /// a raise.
    ///
    /// # Errors
    /// Any; nothing is known.
    async fn newest_older_than(&self, age: Duration) -> Result<Option<Gid>, DecisionLogError>;

    /// One page of what is stored, newest gid first, for operators. Not for protocol use: rows
    /// are shown as they are read.
    ///
    /// # Errors
    /// Any; nothing is known.
    async fn list(&self, page: &ListPage) -> Result<Vec<StoredTransaction>, DecisionLogError>;

    /// All that the log says of itself, for operators.
    ///
    /// # Errors
    /// Any; nothing is known.
    async fn status(&self) -> Result<LogStatus, DecisionLogError>;

    /// Makes the least write that is forced as a decision is, and reads the log's clock, for operators.
    /// Leaves nothing behind, and nothing is decided by it (law 6). A log in this process has its clock.
    ///
    /// # Errors
    /// Any; nothing that matters happened.
    async fn probe(&self) -> Result<LogProbe, DecisionLogError> {
        Ok(LogProbe { write: None, clock_difference_microseconds: 0 })
    }

    /// The incarnations in doubt. Owners whose rows are missing are not among them: see
    /// [`LogStatus::absent_doubted`].
    ///
    /// # Errors
    /// Any; nothing is known.
    async fn doubts(&self) -> Result<Vec<DoubtedIncarnation>, DecisionLogError> {
        let status = self.status().await?;
        let doubted = status.incarnations.into_iter().filter(|seen| seen.doubted);
        Ok(doubted
            .map(|seen| DoubtedIncarnation { incarnation: seen.incarnation, address: seen.address })
            .collect())
    }

    /// An operator's word that no commit of these incarnations is missing, or that whatever is
    /// missing has been settled by hand: from the return on their undecided transactions may be
    /// closed with abort again. `reason` is kept for people. Answers how many doubts were lifted; one
    /// of an incarnation without a row counts. Repeatable. Durable on return.
    ///
    /// # Errors
    /// Any; it may or may not have been done.
    async fn release(&self, which: Release, reason: &str) -> Result<u64, DecisionLogError>;

    /// An operator's word that the log went back in time where it could not notice by itself. Ends
    /// every incarnation that has not ended, and puts it in doubt; living coordinators vouch for
    /// theirs at their next heartbeat and take new ones. From the return on no closing of a
    /// transaction of theirs is written until they are released, also not by a statement that began
    /// before. Durable on return.
    ///
    /// # Errors
    /// Any; it may or may not have been done.
    async fn doubt_all(&self, reason: &str) -> Result<(), DecisionLogError>;

    /// Which of these incarnations are in doubt, or have no row in a log that went back in time: the
    /// absence of a record of theirs proves nothing.
    ///
    /// # Errors
    /// Any; nothing is known.
    async fn doubted_of(
        &self,
        incarnations: &[Incarnation],
    ) -> Result<BTreeSet<Incarnation>, DecisionLogError>;

    /// Heuristic outcomes, newest gid first, at most `limit`, those of gids below `before` only; a gid's
    /// are never parted unless they alone exceed the limit: then these are the first of them, and
    /// [`heuristics`](Self::heuristics) has all.
    ///
    /// # Errors
    /// Any; nothing is known. One that cannot be read is an error, never skipped.
    async fn list_heuristics(
        &self,
        before: Option<Gid>,
        limit: u32,
    ) -> Result<Vec<StoredHeuristic>, DecisionLogError>;

    /// Drops the heuristic outcomes of a transaction: an operator has seen them. Answers how many there
    /// were. Repeatable. Durable on return.
    ///
    /// # Errors
    /// Any; it may or may not have been done.
    async fn forget_heuristics(&self, gid: Gid) -> Result<u64, DecisionLogError>;

    /// Drops heuristic outcomes that agree with a decision which stands: a branch ended by hand ahead of
    /// the decision, as was decided then. A branch that ended mixed, or of which nobody can tell, never
    /// agrees. At most 1000 in one call; answers which: call again until there are none. Durable on return.
    ///
    /// # Errors
    /// Any; it may or may not have been done.
    async fn clear_agreeing_heuristics(&self) -> Result<Vec<HeuristicRecord>, DecisionLogError>;

    /// Adds an entry to the audit, and returns it as it stands, with its number and hash. Never two under
    /// one number, and no number without an entry, whoever adds at the same time. Durable on return, at
    /// the synchronous standbys too if there are any. A NUL in a text, which not every database can hold,
    /// is kept as U+FFFD.
    ///
    /// # Errors
    /// [`DecisionLogError::Refused`]: it is not one that can be kept, and nothing happened (see
    /// [`AuditDraft`]). Any other: it may or may not have been added. Whoever adds it again may find it
    /// there twice, which only tells the same thing twice; whoever does not, may miss it.
    async fn append_audit(&self, draft: &AuditDraft) -> Result<AuditEntry, DecisionLogError>;

    /// Up to `limit` entries of the audit.
    ///
    /// # Errors
    /// Any; nothing is known. An entry that cannot be read is an error, never skipped.
    async fn audit(&self, page: AuditPage, limit: u32) -> Result<Vec<AuditEntry>, DecisionLogError>;

    /// Beginnings without an end whose coordinator's incarnation has ended (or has no row): it died in
    /// the middle of the act, or was taken for dead and may yet add the end itself. Oldest first, at most
    /// 100. Those that a command wrote without a coordinator are not among them: nobody can tell whether
    /// it is still at it. Known durable.
    ///
    /// # Errors
    /// Any; nothing is known. An entry that cannot be read is an error, never skipped.
    async fn unended_audits(&self) -> Result<Vec<AuditEntry>, DecisionLogError>;
}

/// One connection that writes decisions: the property of one task that is never cancelled
/// (a dropped write leaves its connection in an unknown state).
#[async_trait]
pub trait DecisionWriter: Debug + Send {
    /// Writes each record if none stands for its gid, all in one force, and answers in the same
    /// order. [`ProposalResult::Won`] is durable. Commits are written only while `incarnation` is
    /// live, aborts only while the transaction's owner is not in doubt; one gid that is fenced,
    /// doubted, lost or forgotten does not fail the others. If a gid comes twice, the first goes
    /// first and the second finds it.
    ///
    /// A proposal that no log can hold (a commit without a number or of another incarnation, an abort
    /// that names branches) is a broken contract: it is reported as an ERROR, answered unknown, and
    /// does not fail the others.
    ///
    /// After any [`ProposalResult::Unknown`] the writer is spent: drop it, open another one, and
    /// propose again; the unique key waits for a statement of the old connection that still runs.
    async fn write(&mut self, incarnation: Incarnation, proposals: &[Proposal]) -> Vec<ProposalResult>;

    /// Asks whether the connection is still there and the log can still be written, so that this is
    /// found out before a decision needs it. Leaves nothing behind.
    ///
    /// # Errors
    /// It is not: drop the writer and open another one.
    async fn check(&mut self) -> Result<(), DecisionLogError> {
        Ok(())
    }

    /// Why the last write or check was not done, for people.
    fn problem(&self) -> Option<WriterProblem> {
        None
    }
}

/// Why a writer is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterProblem {
    /// For people.
    pub text: String,
    /// The log is there and refuses writes (full, read-only, shutting down): other connections will
    /// fare no better.
    pub refuses_writes: bool,
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The record.
    pub record: DecisionRecord,
    /// Its number among the commits of its incarnation, from 1; 0 for an abort. The same for
    /// each attempt at one gid.
    pub number: u64,
}

/// What the log shows at a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogView {
    /// Whether our own incarnation is still live.
    pub live: bool,
    /// Every incarnation that has not been ended, our own included.
    pub incarnations: Vec<IncarnationView>,
    /// The floor.
    pub floor: Gid,
    /// How many incarnations are in doubt: more than 0 needs an operator, unless their coordinators
    /// are about to vouch for them.
    pub doubted: u64,
    /// How the log is replicated; none where it is one file.
    pub replication: Option<Replication>,
}

/// Another incarnation, as the log shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncarnationView {
    /// It.
    pub incarnation: Incarnation,
    /// Counts its heartbeats. Whoever watches it stand still for a lease, by a clock of his own,
    /// may end it.
    pub beats: u64,
    /// Where it serves.
    pub address: String,
}

/// A commit with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedCommit {
    /// The number that it was proposed with.
    pub number: u64,
    /// The record.
    pub record: DecisionRecord,
}

/// End records, written together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinishUpdate {
    /// Every commit of this incarnation numbered up to this is finished, stragglers excepted.
    pub mark: Option<(Incarnation, u64)>,
    /// Commits at or under a mark that are not finished.
    pub add_stragglers: Vec<TransactionId>,
    /// Former stragglers that are finished now.
    pub remove_stragglers: Vec<Gid>,
}

/// A prepare record: what is known of a transaction that stays undecided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndecidedRecord {
    /// The transaction.
    pub id: TransactionId,
    /// Its branches so far.
    pub branches: Vec<Branch>,
    /// What the application said.
    pub details: Details,
    /// Its age when this was handed over.
    pub age: Duration,
}

/// A branch that ended without the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeuristicRecord {
    /// The transaction.
    pub id: TransactionId,
    /// The branch.
    pub branch: Branch,
    /// How it ended.
    pub outcome: HeuristicOutcome,
}

/// Why the log did not do something.
#[derive(Debug, thiserror::Error)]
pub enum DecisionLogError {
    /// A setting under which an acknowledged commit could be lost, or a version that is not
    /// served. Nothing happened; a person must act.
    #[error("{setting} is {found}: {remedy}")]
    Refused {
        /// The setting, as its database names it.
        setting: &'static str,
        /// What was found.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The log's schema is missing or of another version, and this role may not change it.
    #[error("the log's schema is not ready: {problem}; run `pactum log migrate --log URL` as its owner")]
    SchemaNotReady {
        /// What is wrong with it.
        problem: String,
    },
    /// Another process holds an embedded log.
    #[error("the log {path} is in use by another process")]
    InUse {
        /// Its file.
        path: String,
    },
    /// A stored record cannot be read. It is never skipped (B10).
    #[error("the record of {gid} cannot be read: {problem}")]
    Corrupt {
        /// The transaction, as stored.
        gid: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The database did not do it, or its answer was lost.
    #[error("the log did not answer")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How long prepare records are kept of coordinators that are gone and whose work others have taken over:
/// long enough to be looked at after a crash.
const UNDECIDED_KEPT: Duration = Duration::from_hours(1);

/// Heuristic outcomes that are cleared in one call at most.
const CLEARED_MAX: u32 = 1000;

pub mod audit;
mod batch;
mod codec;
#[cfg(feature = "bench")]
pub mod columns;
pub mod contract;
pub mod finisher;
mod listing;
pub mod memory;
pub mod postgres;
mod schema;
pub mod sqlite;
mod status;
pub mod writer;

pub use audit::{AuditDraft, AuditEntry, AuditHash, AuditKind, AuditPage};
pub use listing::{ListPage, StoredHeuristic, StoredState, StoredTransaction};
use listing::{PageFilter, page_filter, whole_gids};
pub use schema::schema_version;
pub use status::{
    DoubtedIncarnation, IncarnationStatus, LogEvent, LogEventKind, LogProbe, LogStatus, Release, Replication,
    ServerIdentity, standbys_required,
};
