//! What outlives the hosts: the banks' stores, the history of the transfers, and what each running
//! process last said of itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pactum::{Branch, TransactionId};

use crate::bank::{Change, Store};
use crate::plan::Plan;

/// Accounts in each bank; few, so that transfers meet.
pub const ACCOUNTS: u32 = 24;

/// What each account begins with.
pub const BALANCE: i64 = 1_000;

/// What an application was told of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing, so far or for ever: its process may have ended.
    None,
    /// It committed.
    Committed,
    /// It did not, and never will.
    Aborted(String),
    /// It may or may not have.
    Unknown(String),
}

/// One transfer.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Its number.
    pub number: u64,
    /// What it changes: a bank each.
    pub legs: Vec<(usize, Change)>,
    /// Its transaction, as far as the application knows it.
    pub id: Option<TransactionId>,
    /// The branches that commit named.
    pub branches: Vec<Branch>,
    /// What was answered.
    pub answer: Answer,
    /// Whether the application meant it to commit until it saw the banks' answers, and no bank refused.
    pub should_commit: bool,
}

/// What a running process said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Transactions that are not finished, at a coordinator.
    pub open: usize,
    /// How often it saw the protocol broken.
    pub violations: u64,
    /// Coordinators that a bank is attached to.
    pub attached: usize,
    /// Which of its runs said so.
    pub run: u64,
    /// Whether an application has nothing more to do.
    pub idle: bool,
}

/// What the hosts are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Work, with faults.
    Faults,
    /// Nothing new; what was begun ends.
    Healed,
    /// New work, which must succeed.
    AsNew,
}

/// All of it. Shared by all hosts.
#[derive(Debug)]
pub struct World {
    /// The plan of the run.
    pub plan: Plan,
    /// The banks.
    pub banks: Vec<Arc<Mutex<Store>>>,
    inner: Mutex<Inner>,
    /// Sees steps of the protocol: how often each was reached.
    steps: Mutex<BTreeMap<String, u64>>,
    violations: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    transfers: Vec<Transfer>,
    /// Transfers that each application has begun in this phase.
    begun: BTreeMap<usize, u32>,
    reports: BTreeMap<String, Report>,
    runs: BTreeMap<String, u64>,
    told_to_stop: Vec<String>,
    /// The bank and the session of each participant's process.
    sessions: BTreeMap<String, (usize, u64)>,
}

/// A lock that a panic of somebody else does not take away: the run has failed then anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// The world before anything has happened.
    pub fn new(plan: Plan) -> Arc<Self> {
        let bank = |_| Arc::new(Mutex::new(Store::new(ACCOUNTS as usize, BALANCE, plan.flaw)));
        let inner = Inner {
            phase: Phase::Faults,
            transfers: Vec::new(),
            begun: BTreeMap::new(),
            reports: BTreeMap::new(),
            runs: BTreeMap::new(),
            told_to_stop: Vec::new(),
            sessions: BTreeMap::new(),
        };
        Arc::new(Self {
            banks: (0..plan.banks).map(bank).collect(),
            inner: Mutex::new(inner),
            steps: Mutex::default(),
            violations: AtomicU64::new(0),
            plan,
        })
    }

    /// A process starts on this host: which of its runs it is.
    pub fn started(&self, host: &str) -> u64 {
        let mut inner = lock(&self.inner);
        let run = inner.runs.entry(host.to_owned()).or_default();
        *run += 1;
        *run
    }

    /// A participant's process opened a session at its bank.
    pub fn connected(&self, host: &str, bank: usize, session: u64) {
        lock(&self.inner).sessions.insert(host.to_owned(), (bank, session));
    }

    /// The process of this host has gone.
    pub fn gone(&self, host: &str) {
        let mut inner = lock(&self.inner);
        inner.reports.remove(host);
        inner.told_to_stop.retain(|told| told != host);
        if let Some((bank, session)) = inner.sessions.remove(host) {
            lock(&self.banks[bank]).disconnect(session);
        }
    }

    /// A process says how it is.
    pub fn report(&self, host: &str, report: Report) {
        self.violations.fetch_max(report.violations, Ordering::Relaxed);
        lock(&self.inner).reports.insert(host.to_owned(), report);
    }

    /// What the process of this host last said.
    pub fn reported(&self, host: &str) -> Option<Report> {
        lock(&self.inner).reports.get(host).cloned()
    }

    /// The most violations that any one process has seen.
    pub fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }

    /// The process of this host shall stop in good order.
    pub fn tell_to_stop(&self, host: &str) {
        lock(&self.inner).told_to_stop.push(host.to_owned());
    }

    /// Whether it shall.
    pub fn is_told_to_stop(&self, host: &str) -> bool {
        lock(&self.inner).told_to_stop.iter().any(|told| told == host)
    }

    /// What the hosts are doing.
    pub fn phase(&self) -> Phase {
        lock(&self.inner).phase
    }

    /// The next part of the run begins.
    pub fn set_phase(&self, phase: Phase) {
        let mut inner = lock(&self.inner);
        inner.phase = phase;
        inner.begun.clear();
        for report in inner.reports.values_mut() {
            report.idle = false;
        }
    }

    /// Whether this application may begin another transfer: the number of it.
    pub fn may_begin(&self, application: usize, most: u32) -> Option<u64> {
        let mut inner = lock(&self.inner);
        let number = inner.transfers.len() as u64;
        let begun = inner.begun.entry(application).or_default();
        if *begun >= most {
            return None;
        }
        *begun += 1;
        inner.transfers.push(Transfer {
            number,
            legs: Vec::new(),
            id: None,
            branches: Vec::new(),
            answer: Answer::None,
            should_commit: false,
        });
        Some(number)
    }

    /// Notes something of a transfer.
    pub fn note(&self, number: u64, note: impl FnOnce(&mut Transfer)) {
        let mut inner = lock(&self.inner);
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(transfer) = inner.transfers.get_mut(place) {
            note(transfer);
        }
    }

    /// All transfers so far.
    pub fn transfers(&self) -> Vec<Transfer> {
        lock(&self.inner).transfers.clone()
    }

    /// A step of the protocol was reached on that side.
    pub fn step(&self, side: &str, name: &str) {
        *lock(&self.steps).entry(format!("{side}@{name}")).or_default() += 1;
    }

    /// How often a step, `side@name`, was reached.
    pub fn steps(&self, name: &str) -> u64 {
        lock(&self.steps).get(name).copied().unwrap_or(0)
    }
}
