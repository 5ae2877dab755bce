//! A decision log in memory, for tests: the same contract, and faults on order.
//!
//! Clones share one log, so a test restarts a coordinator by starting another one on a clone. It
//! survives no process and must not serve one that matters.
//!
//! With [`MemoryLog::faults`] a write can be made to lose its answer, with or without having
//! happened; writes can be held up; connections refused; and with [`MemoryLog::go_back`] the log
//! loses its newest records, as one that was restored (`memory/past.rs`).

mod operators;
mod past;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use pactum_core::id::{BranchId, Cluster, Gid, Incarnation};
use pactum_core::outcome::{Decision, DecisionRecord, LookUpResult, ProposalResult};
use tokio::sync::watch;
use uuid::Uuid;

use self::operators::Kept;
use self::past::Past;
use super::{
    AuditDraft, AuditEntry, AuditPage, DecisionLog, DecisionLogError, DecisionWriter, FinishUpdate,
    HeuristicRecord, IncarnationView, ListPage, LogEventKind, LogStatus, LogView, NumberedCommit, Proposal,
    Release, StoredHeuristic, StoredState, StoredTransaction, UndecidedRecord, codec,
};

/// A decision log in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    cluster: Cluster,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    faults: MemoryFaults,
}

/// What a test may order to go wrong.
#[derive(Debug)]
pub struct MemoryFaults {
    orders: Mutex<Orders>,
    paused: watch::Sender<bool>,
    writes: AtomicU64,
    pages: AtomicU64,
    rows: AtomicU64,
}

#[derive(Debug, Default)]
struct Orders {
    /// For each of the next writes whose answer is lost: whether it happens.
    lost_answers: std::collections::VecDeque<bool>,
    /// The same for entries of the audit.
    lost_audits: std::collections::VecDeque<bool>,
    refuse_connections: bool,
}

#[derive(Debug, Default)]
struct State {
    floor: Floor,
    incarnations: BTreeMap<Incarnation, Run>,
    decisions: BTreeMap<Gid, Row>,
    stragglers: BTreeMap<Gid, Incarnation>,
    undecided: BTreeMap<Gid, (UndecidedRecord, SystemTime)>,
    heuristics: BTreeMap<(Gid, BranchId), Kept>,
    audit: Vec<AuditEntry>,
    past: Past,
}

/// A floor that begins under every gid.
#[derive(Clone, Copy, Debug)]
struct Floor(Gid);

impl Default for Floor {
    fn default() -> Self {
        Self(Gid::NIL)
    }
}

#[derive(Debug)]
struct Row {
    record: DecisionRecord,
    number: u64,
    decided_at: SystemTime,
    /// Counts what was written; see [`Past`].
    written: u64,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the columns of a row; they are independent")]
struct Run {
    address: String,
    started_at: Option<SystemTime>,
    ended_at: Option<SystemTime>,
    beats: u64,
    ended: bool,
    recovered: bool,
    finished_through: u64,
    doubted: bool,
    /// Records of it were lost: nobody vouches for it.
    lost: bool,
}

impl MemoryFaults {
    /// The next `count` writes answer unknown: after having happened if `applied`, else without.
    pub fn fail_next_writes(&self, count: usize, applied: bool) {
        self.orders().lost_answers.extend(std::iter::repeat_n(applied, count));
    }

    /// The next `count` entries of the audit are answered with an error: after having been added if
    /// `applied`, else without.
    pub fn fail_next_audits(&self, count: usize, applied: bool) {
        self.orders().lost_audits.extend(std::iter::repeat_n(applied, count));
    }

    /// Whether opening a writer fails, and every other call too.
    pub fn refuse_connections(&self, refuse: bool) {
        self.orders().refuse_connections = refuse;
    }

    /// Holds every write until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Lets the writes go on.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// How many writes (batches) were asked for so far, those that failed included.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// How many pages were listed for operators so far, and how many transactions on them.
    pub fn listed(&self) -> (u64, u64) {
        (self.pages.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed))
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), DecisionLogError> {
        if self.orders().refuse_connections {
            return Err(DecisionLogError::Database("connections are refused, as ordered".into()));
        }
        Ok(())
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    /// An empty log with a cluster name of its own.
    ///
    /// # Panics
    /// Never: twelve hexadecimal digits are a cluster name.
    pub fn new() -> Self {
        let digits = format!("{:012x}", Uuid::new_v4().as_u128() & 0xffff_ffff_ffff);
        let faults = MemoryFaults {
            orders: Mutex::default(),
            paused: watch::Sender::new(false),
            writes: AtomicU64::new(0),
            pages: AtomicU64::new(0),
            rows: AtomicU64::new(0),
        };
        Self {
            cluster: Cluster::new(&digits).expect("twelve hexadecimal digits are a cluster name"),
            shared: Arc::new(Shared { state: Mutex::default(), faults }),
        }
    }

    /// Where to order faults.
    pub fn faults(&self) -> &MemoryFaults {
        &self.shared.faults
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, DecisionLogError> {
        self.shared.faults.check()?;
        Ok(self.shared.state())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, incarnation: Incarnation, proposal: &Proposal) -> ProposalResult {
        let DecisionRecord { id, decision, .. } = proposal.record;
        if let Err(problem) = codec::DecisionColumns::of(proposal) {
            tracing::error!(%id, problem, "contract broken: a proposal cannot be written");
            return ProposalResult::Unknown;
        }
        if decision == Decision::Commit && id.incarnation != incarnation {
            tracing::error!(%id, %incarnation, "contract broken: only the owner proposes commit");
            return ProposalResult::Unknown;
        }
        if id.gid <= self.floor.0 {
            return ProposalResult::Forgotten;
        }
        if let Some(row) = self.decisions.get(&id.gid) {
            return ProposalResult::Lost(Box::new(row.record.clone()));
        }
        let is_live = self.incarnations.get(&incarnation).is_some_and(|run| !run.ended);
        if decision == Decision::Commit && !is_live {
            return ProposalResult::Fenced;
        }
        if decision == Decision::Abort && self.is_doubted(id.incarnation) {
            return ProposalResult::Doubted;
        }
        let row = Row {
            record: proposal.record.clone(),
            number: proposal.number,
            decided_at: SystemTime::now(),
            written: self.past.next(),
        };
        self.decisions.insert(id.gid, row);
        ProposalResult::Won
    }

    fn is_finished(&self, row: &Row) -> bool {
        let run = self.incarnations.get(&row.record.id.incarnation);
        let is_passed = run.is_some_and(|run| run.recovered || row.number <= run.finished_through);
        (row.number == 0 || is_passed) && !self.stragglers.contains_key(&row.record.id.gid)
    }
}

#[async_trait]
impl DecisionLog for MemoryLog {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    async fn start_incarnation(&self, address: &str) -> Result<Incarnation, DecisionLogError> {
        let incarnation = Incarnation::from_uuid(Uuid::now_v7());
        let started_at = Some(SystemTime::now());
        let run = Run { address: address.to_owned(), started_at, ..Run::default() };
        self.state()?.incarnations.insert(incarnation, run);
        Ok(incarnation)
    }

    async fn heartbeat(&self, incarnation: Incarnation) -> Result<LogView, DecisionLogError> {
        let mut state = self.state()?;
        if let Some(run) = state.incarnations.get_mut(&incarnation) {
            run.beats += 1;
        }
        state.vouch(incarnation);
        let live = state.incarnations.iter().filter(|(_, run)| !run.ended);
        let incarnations: Vec<IncarnationView> = live
            .map(|(incarnation, run)| IncarnationView {
                incarnation: *incarnation,
                beats: run.beats,
                address: run.address.clone(),
            })
            .collect();
        let live = incarnations.iter().any(|view| view.incarnation == incarnation);
        let doubted = state.incarnations.values().filter(|run| run.doubted).count() as u64;
        Ok(LogView { live, incarnations, floor: state.floor.0, doubted, replication: None })
    }

    async fn end_incarnation(&self, incarnation: Incarnation) -> Result<(), DecisionLogError> {
        let mut state = self.state()?;
        if let Some(run) = state.incarnations.get_mut(&incarnation)
            && !std::mem::replace(&mut run.ended, true)
        {
            run.ended_at = Some(SystemTime::now());
            state.past.ended();
        }
        Ok(())
    }

    async fn open_writer(&self) -> Result<Box<dyn DecisionWriter>, DecisionLogError> {
        self.shared.faults.check()?;
        Ok(Box::new(MemoryWriter { shared: Arc::clone(&self.shared), spent: false }))
    }

    async fn look_up(&self, gids: &[Gid]) -> Result<Vec<LookUpResult>, DecisionLogError> {
        let state = self.state()?;
        let result = |gid: &Gid| match state.decisions.get(gid) {
            _ if *gid <= state.floor.0 => LookUpResult::Forgotten,
            Some(row) => LookUpResult::Stands(Box::new(row.record.clone())),
            None => LookUpResult::NoRecord,
        };
        Ok(gids.iter().map(result).collect())
    }

    async fn unrecovered_incarnations(&self) -> Result<Vec<Incarnation>, DecisionLogError> {
        let state = self.state()?;
        // One that is listed and has no record (a list is lazier than the log) leaves nothing to drive.
        let has_record = |gid: &Gid| state.decisions.contains_key(gid);
        let has_straggler =
            |id: &Incarnation| state.stragglers.iter().any(|(gid, owner)| owner == id && has_record(gid));
        let ended = state.incarnations.iter().filter(|(_, run)| run.ended);
        let left = ended.filter(|(id, run)| !run.recovered || has_straggler(id)).map(|(id, _)| *id);
        let owners = state.decisions.values().filter(|row| row.number > 0);
        let without_row =
            owners.map(|row| row.record.id.incarnation).filter(|id| !state.incarnations.contains_key(id));
        Ok(left.chain(without_row).collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn unfinished_commits(
        &self,
        incarnation: Incarnation,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<NumberedCommit>, DecisionLogError> {
        let state = self.state()?;
        let own = state.decisions.values().filter(|row| row.record.id.incarnation == incarnation);
        let left = own.filter(|row| row.number > after.unwrap_or(0) && !state.is_finished(row));
        let mut rows: Vec<_> = left.collect();
        rows.sort_unstable_by_key(|row| row.number);
        let page = rows.into_iter().take(limit as usize);
        Ok(page.map(|row| NumberedCommit { number: row.number, record: row.record.clone() }).collect())
    }

    async fn mark_recovered(&self, incarnation: Incarnation) -> Result<(), DecisionLogError> {
        let mut state = self.state()?;
        let missing = Run { ended: true, doubted: state.past.absent_doubted, ..Run::default() };
        let run = state.incarnations.entry(incarnation).or_insert(missing);
        run.recovered = run.ended;
        Ok(())
    }

    async fn record_finished(&self, update: &FinishUpdate) -> Result<(), DecisionLogError> {
        let mut state = self.state()?;
        if let Some((incarnation, mark)) = update.mark
            && let Some(run) = state.incarnations.get_mut(&incarnation)
        {
            run.finished_through = run.finished_through.max(mark);
        }
        state.stragglers.extend(update.add_stragglers.iter().map(|id| (id.gid, id.incarnation)));
        for gid in &update.remove_stragglers {
            state.stragglers.remove(gid);
        }
        Ok(())
    }

    async fn record_undecided(
        &self,
        add: &[UndecidedRecord],
        remove: &[Gid],
    ) -> Result<(), DecisionLogError> {
        let mut state = self.state()?;
        let now = SystemTime::now();
        for record in add {
            let began_at = now.checked_sub(record.age).unwrap_or(SystemTime::UNIX_EPOCH);
            state.undecided.insert(record.id.gid, (record.clone(), began_at));
        }
        state.undecided.retain(|gid, _| !remove.contains(gid));
        Ok(())
    }

    async fn heuristics(&self, gids: &[Gid]) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        let state = self.state()?;
        let kept = state.heuristics.values().map(|kept| &kept.record);
        Ok(kept.filter(|record| gids.contains(&record.id.gid)).cloned().collect())
    }

    async fn record_heuristics(&self, heuristics: &[HeuristicRecord]) -> Result<(), DecisionLogError> {
        self.state()?.record_heuristics(heuristics);
        Ok(())
    }

    async fn raise_floor(&self, to: Gid) -> Result<Gid, DecisionLogError> {
        let mut state = self.state()?;
        let is_barred = state.decisions.range(..=to).any(|(gid, row)| {
            row.number > 0 && !state.is_finished(row) && !state.stragglers.contains_key(gid)
        });
        if !is_barred {
            state.floor.0 = state.floor.0.max(to);
        }
        Ok(state.floor.0)
    }

    async fn delete_below_floor(&self, limit: u32) -> Result<u64, DecisionLogError> {
        let mut state = self.state()?;
        let floor = state.floor.0;
        let is_kept =
            |gid: &Gid| state.stragglers.contains_key(gid) || state.heuristics_of(*gid).next().is_some();
        let passed = state.decisions.range(..=floor).map(|(gid, _)| *gid).filter(|gid| !is_kept(gid));
        let doomed: Vec<Gid> = passed.take(limit as usize).collect();
        for gid in &doomed {
            state.decisions.remove(gid);
        }
        state.undecided.retain(|gid, _| *gid > floor);
        let State { stragglers, decisions, .. } = &mut *state;
        stragglers.retain(|gid, _| *gid > floor || decisions.contains_key(gid));
        Ok(doomed.len() as u64)
    }

    async fn newest_older_than(&self, age: Duration) -> Result<Option<Gid>, DecisionLogError> {
        let state = self.state()?;
        let Some(limit) = SystemTime::now().checked_sub(age) else { return Ok(None) };
        let above = state.decisions.iter().filter(|(gid, _)| **gid > state.floor.0);
        Ok(above.take_while(|(_, row)| row.decided_at <= limit).last().map(|(gid, _)| *gid))
    }

    async fn list(&self, page: &ListPage) -> Result<Vec<StoredTransaction>, DecisionLogError> {
        let Some(filter) = super::page_filter(page) else { return Ok(Vec::new()) };
        let state = self.state()?;
        let decided = state.decisions.values().map(|row| StoredTransaction {
            id: row.record.id,
            state: StoredState::Decided {
                record: row.record.clone(),
                decided_at: row.decided_at,
                finished: state.is_finished(row),
            },
            heuristics: Vec::new(),
        });
        let undecided =
            state.undecided.values().filter(|(record, _)| !state.decisions.contains_key(&record.id.gid));
        let undecided = undecided.map(|(record, began_at)| StoredTransaction {
            id: record.id,
            state: StoredState::Undecided {
                record: UndecidedRecord { age: began_at.elapsed().unwrap_or_default(), ..record.clone() },
            },
            heuristics: Vec::new(),
        });
        let is_asked = |stored: &StoredTransaction| {
            let digits = stored.id.gid.as_uuid().simple().to_string();
            let finished = matches!(stored.state, StoredState::Decided { finished: true, .. });
            let gid = *stored.id.gid.as_uuid();
            filter.before.is_none_or(|before| gid < before)
                && filter.exact.is_none_or(|exact| gid == exact)
                && filter.part.as_ref().is_none_or(|part| digits.starts_with(part) || digits.ends_with(part))
                && !(page.unfinished_only && finished)
        };
        let mut found: Vec<StoredTransaction> = decided.chain(undecided).filter(is_asked).collect();
        found.sort_by_key(|stored| std::cmp::Reverse(stored.id.gid));
        found.truncate(page.limit as usize);
        self.shared.faults.pages.fetch_add(1, Ordering::Relaxed);
        self.shared.faults.rows.fetch_add(found.len() as u64, Ordering::Relaxed);
        for stored in &mut found {
            stored.heuristics =
                state.heuristics_of(stored.id.gid).map(|(_, kept)| kept.record.clone()).collect();
        }
        Ok(found)
    }

    async fn status(&self) -> Result<LogStatus, DecisionLogError> {
        Ok(self.state()?.status(&self.cluster))
    }

    async fn release(&self, which: Release, reason: &str) -> Result<u64, DecisionLogError> {
        Ok(self.state()?.release(which, reason))
    }

    async fn doubt_all(&self, reason: &str) -> Result<(), DecisionLogError> {
        let mut state = self.state()?;
        state.doubt_all();
        state.past.note(LogEventKind::Doubted, None, reason);
        Ok(())
    }

    async fn doubted_of(
        &self,
        incarnations: &[Incarnation],
    ) -> Result<BTreeSet<Incarnation>, DecisionLogError> {
        let state = self.state()?;
        Ok(incarnations.iter().copied().filter(|incarnation| state.is_doubted(*incarnation)).collect())
    }

    async fn list_heuristics(
        &self,
        before: Option<Gid>,
        limit: u32,
    ) -> Result<Vec<StoredHeuristic>, DecisionLogError> {
        Ok(self.state()?.list_heuristics(before, limit))
    }

    async fn forget_heuristics(&self, gid: Gid) -> Result<u64, DecisionLogError> {
        Ok(self.state()?.forget_heuristics(gid))
    }

    async fn clear_agreeing_heuristics(&self) -> Result<Vec<HeuristicRecord>, DecisionLogError> {
        Ok(self.state()?.clear_agreeing_heuristics())
    }

    async fn append_audit(&self, draft: &AuditDraft) -> Result<AuditEntry, DecisionLogError> {
        let draft = draft.storable()?;
        let lost = || DecisionLogError::Database("the answer is lost, as ordered".into());
        let lost_answer = self.shared.faults.orders().lost_audits.pop_front();
        if lost_answer == Some(false) {
            return Err(lost());
        }
        let entry = self.state()?.append_audit(draft);
        if lost_answer == Some(true) { Err(lost()) } else { Ok(entry) }
    }

    async fn audit(&self, page: AuditPage, limit: u32) -> Result<Vec<AuditEntry>, DecisionLogError> {
        Ok(self.state()?.audit(page, limit))
    }

    async fn unended_audits(&self) -> Result<Vec<AuditEntry>, DecisionLogError> {
        Ok(self.state()?.unended_audits())
    }
}

#[derive(Debug)]
struct MemoryWriter {
    shared: Arc<Shared>,
    spent: bool,
}

#[async_trait]
impl DecisionWriter for MemoryWriter {
    async fn write(&mut self, incarnation: Incarnation, proposals: &[Proposal]) -> Vec<ProposalResult> {
        let faults = &self.shared.faults;
        faults.writes.fetch_add(1, Ordering::Relaxed);
        let unknown = || vec![ProposalResult::Unknown; proposals.len()];
        if self.spent {
            return unknown();
        }
        let mut paused = faults.paused.subscribe();
        if paused.wait_for(|paused| !paused).await.is_err() {
            return unknown();
        }
        let lost_answer = {
            let mut orders = faults.orders();
            if orders.refuse_connections { Some(false) } else { orders.lost_answers.pop_front() }
        };
        self.spent = lost_answer.is_some();
        if lost_answer == Some(false) {
            return unknown();
        }
        let mut state = self.shared.state();
        let results: Vec<_> = proposals.iter().map(|proposal| state.write(incarnation, proposal)).collect();
        if lost_answer.is_some() { unknown() } else { results }
    }
}
