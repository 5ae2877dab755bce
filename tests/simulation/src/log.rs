//! The decision log of a simulated cluster: [`MemoryLog`] behind a disk and a network.
//!
//! ```text
//!  write ─▶ buffered ─▶ forced: it stands, all can read it ─▶ answered
//!              └ crash: of what is buffered the first few were forced, the rest never was;
//!                 nobody is answered
//! ```
//!
//! * A write that is forced forces whatever was buffered before it, as a write-ahead log does. What
//!   is lazy is buffered for longer, and is not seen until it is forced.
//! * A statement goes on without its caller: a coordinator that died, or that was cut off, may still
//!   have it written.
//! * Any answer may be lost. While the log is away calls fail, or hang until the limit that a
//!   coordinator sets to its statements.
//!
//! What is buffered is not visible, so a second proposal for the same transaction is judged when it
//! is its turn: as in a database, where it waits for the first.

mod model;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::decision_log::{
    AuditDraft, AuditEntry, AuditPage, DecisionLog, DecisionLogError, DecisionWriter, FinishUpdate,
    HeuristicRecord, ListPage, LogStatus, LogView, NumberedCommit, Proposal, Release, StoredHeuristic,
    StoredTransaction, UndecidedRecord, WriterProblem,
};
use pactum_core::id::{Cluster, Gid, Incarnation};
use pactum_core::outcome::{LookUpResult, ProposalResult};
use tokio::time::sleep;

pub use self::model::LogCounts;
use self::model::{Model, What, at_once};
use crate::plan::{Flaw, Plan};

/// What a coordinator waits for one statement at most; the default of its setting.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long what is lazy may stay unforced, as PostgreSQL's `wal_writer_delay`.
const LAZY: Duration = Duration::from_millis(200);

/// Longest way of a statement or an answer.
const WAY_MAX: Duration = Duration::from_millis(3);

/// The log as one coordinator reaches it. Clones share the log.
#[derive(Clone)]
pub struct SimulatedLog {
    place: usize,
    durable: MemoryLog,
    model: Arc<Mutex<Model>>,
}

impl fmt::Debug for SimulatedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedLog(of coordinator {})", self.place)
    }
}

/// Where the simulation stands.
fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

fn broken(why: &str) -> DecisionLogError {
    DecisionLogError::Database(why.into())
}

impl SimulatedLog {
    /// An empty log.
    pub fn new(plan: &Plan) -> Self {
        Self { place: 0, durable: MemoryLog::new(), model: Arc::new(Mutex::new(Model::new(plan))) }
    }

    /// The same log, for the coordinator of that number.
    #[must_use]
    pub fn of(&self, place: usize) -> Self {
        Self { place, ..self.clone() }
    }

    /// The log ends, at that time of the simulation: of what was buffered some was forced, in order,
    /// and the rest is lost. Nobody can reach it until [`come_back`](Self::come_back).
    pub fn crash(&self, now: Duration) {
        let mut model = self.model();
        model.force(&self.durable, now);
        let buffered = model.buffer.len();
        let kept = model.dice.place(buffered + 1);
        let lost = model.buffer.split_off(kept);
        model.force_all(&self.durable);
        let proposals = lost.iter().map(|statement| match &statement.what {
            What::Propose(_, proposals) => proposals.len() as u64,
            What::Finish(_) | What::Undecided(..) | What::Recovered(_) => 0,
        });
        model.counts.writes_lost += proposals.sum::<u64>();
        model.counts.crashes += 1;
        model.results.clear();
        model.life += 1;
        model.is_down = true;
    }

    /// The log can be reached again.
    pub fn come_back(&self) {
        self.model().is_down = false;
    }

    /// Whether the coordinator of that number can reach the log.
    pub fn set_reachable(&self, place: usize, reachable: bool) {
        let mut model = self.model();
        if reachable {
            model.cut_off.remove(&place);
        } else {
            model.cut_off.insert(place);
        }
    }

    /// No answer is lost any more.
    pub fn heal(&self) {
        let mut model = self.model();
        model.answers_lost = 0;
        model.is_down = false;
        model.cut_off.clear();
    }

    /// The coordinator whose decision is the first that is being written, if one is.
    pub fn writes_for(&self) -> Option<usize> {
        let model = self.model();
        let mut buffered = model.buffer.iter();
        buffered.find(|one| matches!(one.what, What::Propose(..))).map(|one| one.place)
    }

    /// What happened so far.
    pub fn counts(&self) -> LogCounts {
        self.model().counts
    }

    /// What stands, as a reader of the disk would see it.
    ///
    /// # Panics
    /// Never: a log in memory without orders does not fail.
    pub fn stands(&self, gid: Gid) -> LookUpResult {
        self.model().force_all(&self.durable);
        let mut found = at_once(self.durable.look_up(&[gid])).expect("no failure was ordered");
        found.pop().expect("one was asked for")
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way there: when it ends the statement has arrived, and this is the log's life that it came to.
    async fn arrive(&self) -> Result<u64, DecisionLogError> {
        let way = self.model().dice.time(Duration::ZERO, WAY_MAX);
        sleep(way).await;
        let (life, reachable, hangs) = {
            let mut model = self.model();
            let reachable = !model.is_down && !model.cut_off.contains(&self.place);
            // A process that has ended refuses; a host or a network that has gone says nothing.
            let hangs = !reachable && (!model.is_down || model.dice.chance(300));
            (model.life, reachable, hangs)
        };
        if hangs {
            sleep(ANSWER_LIMIT).await;
        }
        if reachable { Ok(life) } else { Err(broken("the log cannot be reached")) }
    }

    /// The way back to somebody who asked in that life of the log.
    async fn come_home(&self, life: u64) -> Result<(), DecisionLogError> {
        let way = self.model().dice.time(Duration::ZERO, WAY_MAX);
        sleep(way).await;
        let (is_lost, hangs) = {
            let mut model = self.model();
            let lost = model.answers_lost;
            let cut_off = model.cut_off.contains(&self.place);
            (model.life != life || cut_off || model.dice.chance(lost), cut_off)
        };
        if hangs {
            sleep(ANSWER_LIMIT).await;
        }
        if is_lost { Err(broken("the connection to the log was lost")) } else { Ok(()) }
    }

    /// A statement that is forced before it is answered, and with it all that came before.
    async fn forced<T>(
        &self,
        apply: impl AsyncFnOnce(&MemoryLog) -> Result<T, DecisionLogError> + Send,
    ) -> Result<T, DecisionLogError> {
        let life = self.arrive().await?;
        let force = {
            let mut model = self.model();
            let longest = model.force_max;
            model.dice.time(Duration::ZERO, longest)
        };
        sleep(force).await;
        let done = {
            let mut model = self.model();
            if model.life != life {
                return Err(broken("the log has ended"));
            }
            model.force_all(&self.durable);
            at_once(apply(&self.durable))
        };
        self.come_home(life).await?;
        done
    }

    /// A statement that changes nothing that must be kept.
    async fn read<T>(
        &self,
        apply: impl AsyncFnOnce(&MemoryLog) -> Result<T, DecisionLogError> + Send,
    ) -> Result<T, DecisionLogError> {
        let life = self.arrive().await?;
        let found = {
            let mut model = self.model();
            model.force(&self.durable, now());
            at_once(apply(&self.durable))
        };
        self.come_home(life).await?;
        found
    }

    /// A statement that is answered before it is forced.
    async fn lazy(&self, what: What) -> Result<(), DecisionLogError> {
        let life = self.arrive().await?;
        {
            let mut model = self.model();
            model.buffer(self.place, now() + LAZY, what);
        }
        self.come_home(life).await
    }
}

#[async_trait]
impl DecisionLog for SimulatedLog {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn cluster(&self) -> &Cluster {
        self.durable.cluster()
    }

    async fn start_incarnation(&self, address: &str) -> Result<Incarnation, DecisionLogError> {
        self.forced(async |log| log.start_incarnation(address).await).await
    }

    async fn heartbeat(&self, incarnation: Incarnation) -> Result<LogView, DecisionLogError> {
        self.read(async |log| log.heartbeat(incarnation).await).await
    }

    async fn end_incarnation(&self, incarnation: Incarnation) -> Result<(), DecisionLogError> {
        self.forced(async |log| log.end_incarnation(incarnation).await).await
    }

    async fn open_writer(&self) -> Result<Box<dyn DecisionWriter>, DecisionLogError> {
        let life = self.arrive().await?;
        self.come_home(life).await?;
        Ok(Box::new(SimulatedWriter { log: self.clone(), life, problem: None }))
    }

    async fn look_up(&self, gids: &[Gid]) -> Result<Vec<LookUpResult>, DecisionLogError> {
        self.read(async |log| log.look_up(gids).await).await
    }

    async fn unrecovered_incarnations(&self) -> Result<Vec<Incarnation>, DecisionLogError> {
        self.read(async |log| log.unrecovered_incarnations().await).await
    }

    async fn unfinished_commits(
        &self,
        incarnation: Incarnation,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<NumberedCommit>, DecisionLogError> {
        self.read(async |log| log.unfinished_commits(incarnation, after, limit).await).await
    }

    async fn mark_recovered(&self, incarnation: Incarnation) -> Result<(), DecisionLogError> {
        self.lazy(What::Recovered(incarnation)).await
    }

    async fn record_finished(&self, update: &FinishUpdate) -> Result<(), DecisionLogError> {
        self.lazy(What::Finish(update.clone())).await
    }

    async fn record_undecided(
        &self,
        add: &[UndecidedRecord],
        remove: &[Gid],
    ) -> Result<(), DecisionLogError> {
        self.lazy(What::Undecided(add.to_vec(), remove.to_vec())).await
    }

    async fn record_heuristics(&self, heuristics: &[HeuristicRecord]) -> Result<(), DecisionLogError> {
        self.forced(async |log| log.record_heuristics(heuristics).await).await
    }

    async fn heuristics(&self, gids: &[Gid]) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        self.read(async |log| log.heuristics(gids).await).await
    }

    async fn raise_floor(&self, to: Gid) -> Result<Gid, DecisionLogError> {
        self.forced(async |log| log.raise_floor(to).await).await
    }

    async fn delete_below_floor(&self, limit: u32) -> Result<u64, DecisionLogError> {
        self.read(async |log| log.delete_below_floor(limit).await).await
    }

    async fn newest_older_than(&self, age: Duration) -> Result<Option<Gid>, DecisionLogError> {
        self.read(async |log| log.newest_older_than(age).await).await
    }

    async fn list(&self, page: &ListPage) -> Result<Vec<StoredTransaction>, DecisionLogError> {
        self.read(async |log| log.list(page).await).await
    }

    async fn status(&self) -> Result<LogStatus, DecisionLogError> {
        self.read(async |log| log.status().await).await
    }

    async fn release(&self, which: Release, reason: &str) -> Result<u64, DecisionLogError> {
        self.forced(async |log| log.release(which, reason).await).await
    }

    async fn doubt_all(&self, reason: &str) -> Result<(), DecisionLogError> {
        self.forced(async |log| log.doubt_all(reason).await).await
    }

    async fn doubted_of(
        &self,
        incarnations: &[Incarnation],
    ) -> Result<BTreeSet<Incarnation>, DecisionLogError> {
        self.read(async |log| log.doubted_of(incarnations).await).await
    }

    async fn list_heuristics(
        &self,
        before: Option<Gid>,
        limit: u32,
    ) -> Result<Vec<StoredHeuristic>, DecisionLogError> {
        self.read(async |log| log.list_heuristics(before, limit).await).await
    }

    async fn forget_heuristics(&self, gid: Gid) -> Result<u64, DecisionLogError> {
        self.forced(async |log| log.forget_heuristics(gid).await).await
    }

    async fn clear_agreeing_heuristics(&self) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        self.forced(async |log| log.clear_agreeing_heuristics().await).await
    }

    async fn append_audit(&self, draft: &AuditDraft) -> Result<AuditEntry, DecisionLogError> {
        self.forced(async |log| log.append_audit(draft).await).await
    }

    async fn audit(&self, page: AuditPage, limit: u32) -> Result<Vec<AuditEntry>, DecisionLogError> {
        self.read(async |log| log.audit(page, limit).await).await
    }

    async fn unended_audits(&self) -> Result<Vec<AuditEntry>, DecisionLogError> {
        self.read(async |log| log.unended_audits().await).await
    }
}

/// One connection that writes decisions.
#[derive(Debug)]
struct SimulatedWriter {
    log: SimulatedLog,
    /// The log's life that the connection was opened in.
    life: u64,
    problem: Option<String>,
}

impl SimulatedWriter {
    async fn try_write(
        &self,
        incarnation: Incarnation,
        proposals: &[Proposal],
    ) -> Result<Vec<ProposalResult>, DecisionLogError> {
        if self.log.arrive().await? != self.life {
            return Err(broken("the connection is older than the log's last start"));
        }
        let (statement, force) = {
            let mut model = self.log.model();
            let longest = model.force_max;
            let force = model.dice.time(Duration::ZERO, longest);
            if model.flaw == Some(Flaw::LogAnswersTooSoon) && model.are_first(&self.log.durable, proposals) {
                model.buffer(self.log.place, now() + LAZY, What::Propose(incarnation, proposals.to_vec()));
                return Ok(vec![ProposalResult::Won; proposals.len()]);
            }
            let what = What::Propose(incarnation, proposals.to_vec());
            (model.buffer(self.log.place, now() + force, what), force)
        };
        sleep(force).await;
        let results = {
            let mut model = self.log.model();
            model.force(&self.log.durable, now());
            model.results.remove(&statement)
        };
        // Not there: the log ended before.
        let results = results.ok_or_else(|| broken("the log has ended"))?;
        self.log.come_home(self.life).await?;
        Ok(results)
    }
}

#[async_trait]
impl DecisionWriter for SimulatedWriter {
    async fn write(&mut self, incarnation: Incarnation, proposals: &[Proposal]) -> Vec<ProposalResult> {
        let written = match &self.problem {
            Some(problem) => Err(broken(problem)),
            None => self.try_write(incarnation, proposals).await,
        };
        match written {
            Ok(results) => results,
            Err(error) => {
                self.problem = Some(error.to_string());
                self.log.model().counts.answers_unknown += proposals.len() as u64;
                vec![ProposalResult::Unknown; proposals.len()]
            }
        }
    }

    async fn check(&mut self) -> Result<(), DecisionLogError> {
        let checked = match self.log.arrive().await {
            Ok(life) if life == self.life => self.log.come_home(life).await,
            Ok(_) => Err(broken("the connection is older than the log's last start")),
            Err(error) => Err(error),
        };
        if let Err(error) = &checked {
            self.problem = Some(error.to_string());
        }
        checked
    }

    fn problem(&self) -> Option<WriterProblem> {
        self.problem.clone().map(|text| WriterProblem { text, refuses_writes: false })
    }
}
