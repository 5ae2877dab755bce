//! What a bank keeps on disk, and the work that its database sessions have open.
//!
//! Every method is one atomic, durable step: a crash comes before or after it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use pactum::resource::{BranchOutcome, PreparedName};
use pactum::{BranchId, HeuristicOutcome, TransactionId};

use crate::plan::Flaw;

/// A change of accounts in one bank: one leg of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The transfer that it belongs to.
    pub transfer: u64,
    /// Which of its legs.
    pub leg: u32,
    /// What is added to which account.
    pub moves: Vec<(u32, i64)>,
}

/// `transfer leg account:amount ...`, as it travels.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transfer, self.leg)?;
        self.moves.iter().try_for_each(|(account, amount)| write!(f, " {account}:{amount}"))
    }
}

impl FromStr for Change {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = "transfer, leg and moves are needed";
        let mut words = text.split_whitespace();
        let mut next = || words.next().ok_or(malformed);
        let (transfer, leg) = (next()?.parse(), next()?.parse());
        let moves = words.map(|word| {
            let (account, amount) = word.split_once(':')?;
            Some((account.parse().ok()?, amount.parse().ok()?))
        });
        let moves: Option<Vec<_>> = moves.collect();
        match (transfer, leg, moves) {
            (Ok(transfer), Ok(leg), Some(moves)) if !moves.is_empty() => Ok(Self { transfer, leg, moves }),
            _ => Err(malformed),
        }
    }
}

/// A change that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// It.
    pub change: Change,
    /// The transaction that it was made in.
    pub id: TransactionId,
}

/// Work that has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Changes made and not prepared.
    pub open: usize,
    /// Changes prepared.
    pub prepared: usize,
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Committed,
    Aborted,
}

/// A promise.
#[derive(Clone, Debug)]
struct Promise {
    execution: String,
    change: Change,
}

type Key = (TransactionId, BranchId);

/// One bank's database.
#[derive(Debug)]
pub struct Store {
    balances: Vec<i64>,
    /// Changes that a session holds open; they end with it.
    open: BTreeMap<Key, (u64, Change)>,
    prepared: BTreeMap<PreparedName, Promise>,
    ended: BTreeMap<(PreparedName, String), End>,
    /// Of transactions of one branch: whether it committed.
    markers: BTreeMap<Key, bool>,
    ledger: Vec<Entry>,
    executions: u64,
    sessions: u64,
    flaw: Option<Flaw>,
}

fn key(name: &PreparedName) -> Key {
    (name.id, name.branch)
}

impl Store {
    /// So many accounts with this much in each, and what is wrong with it on purpose.
    pub fn new(accounts: usize, balance: i64, flaw: Option<Flaw>) -> Self {
        Self {
            balances: vec![balance; accounts],
            open: BTreeMap::new(),
            prepared: BTreeMap::new(),
            ended: BTreeMap::new(),
            markers: BTreeMap::new(),
            ledger: Vec::new(),
            executions: 0,
            sessions: 0,
            flaw,
        }
    }

    /// All money in it.
    pub fn sum(&self) -> i64 {
        self.balances.iter().sum()
    }

    /// Every change that took effect, in order.
    pub fn ledger(&self) -> &[Entry] {
        &self.ledger
    }

    /// What has not ended.
    pub fn left(&self) -> Left {
        Left { open: self.open.len(), prepared: self.prepared.len() }
    }

    /// A process connects: the number of its session.
    pub(super) fn connect(&mut self) -> u64 {
        self.sessions += 1;
        self.sessions
    }

    /// The process of a session has gone: what it held open is rolled back.
    pub fn disconnect(&mut self, session: u64) {
        self.open.retain(|_, (holder, _)| *holder != session);
        if self.flaw == Some(Flaw::BankForgetsPrepared) {
            self.prepared.clear();
        }
    }

    /// Whether nobody else holds one of these accounts, and none would be overdrawn.
    fn admits(&self, change: &Change) -> Result<(), String> {
        let held = self.open.values().map(|(_, change)| change);
        let held = held.chain(self.prepared.values().map(|promise| &promise.change));
        for (account, _) in held.flat_map(|change| &change.moves) {
            if change.moves.iter().any(|(wanted, _)| wanted == account) {
                return Err(format!("account {account} is locked"));
            }
        }
        for (account, amount) in &change.moves {
            match self.balances.get(*account as usize) {
                Some(balance) if balance + amount >= 0 => {}
                Some(_) => return Err(format!("account {account} holds too little")),
                None => return Err(format!("there is no account {account}")),
            }
        }
        Ok(())
    }

    /// Makes a change in an open local transaction.
    pub(super) fn open(&mut self, session: u64, key: Key, change: Change) -> Result<(), String> {
        self.admits(&change)?;
        self.open.insert(key, (session, change));
        Ok(())
    }

    /// Rolls an open local transaction back, if this session has it.
    pub(super) fn close(&mut self, session: u64, key: Key) -> Option<Change> {
        if self.open.get(&key).is_some_and(|(holder, _)| *holder == session) {
            return self.open.remove(&key).map(|(_, change)| change);
        }
        None
    }

    /// The execution that is prepared under this name.
    pub(super) fn promised(&self, name: &PreparedName) -> Option<&str> {
        self.prepared.get(name).map(|promise| promise.execution.as_str())
    }

    /// Promises a change; answers its execution.
    pub(super) fn promise(&mut self, name: &PreparedName, change: Change) -> Result<String, String> {
        self.admits(&change)?;
        self.executions += 1;
        let execution = self.executions.to_string();
        self.prepared.insert(name.clone(), Promise { execution: execution.clone(), change });
        Ok(execution)
    }

    /// Everything that is prepared, with its execution.
    pub(super) fn promises(&self) -> Vec<(PreparedName, String)> {
        let promises = self.prepared.iter();
        promises.map(|(name, promise)| (name.clone(), promise.execution.clone())).collect()
    }

    /// Commits the decided execution and no other; then ends what else is prepared under the name.
    pub(super) fn commit(&mut self, name: &PreparedName, decided: &str) -> BranchOutcome {
        let promised = self.prepared.get(name).map(|promise| promise.execution.clone());
        if promised.as_deref() == Some(decided) {
            self.end(name, End::Committed);
            return BranchOutcome::Committed;
        }
        match self.ended.get(&(name.clone(), decided.to_owned())) {
            Some(End::Committed) => {
                self.end(name, End::Aborted);
                if self.flaw == Some(Flaw::BankCommitsTwice) {
                    let made = self.ledger.iter().find(|entry| entry.id == name.id).cloned();
                    if let Some(entry) = made {
                        self.apply(entry.id, entry.change);
                    }
                }
                BranchOutcome::Committed
            }
            Some(End::Aborted) => BranchOutcome::Heuristic(HeuristicOutcome::Aborted),
            None => BranchOutcome::Heuristic(HeuristicOutcome::Hazard),
        }
    }

    /// Ends the branch without effect. `prepared` is the execution that the caller knows of.
    pub(super) fn abort(&mut self, name: &PreparedName, prepared: Option<&str>) -> BranchOutcome {
        if self.end(name, End::Aborted) {
            return BranchOutcome::Aborted;
        }
        let was_committed = self.ended.iter().any(|((ended, execution), end)| {
            let asked = prepared.is_none_or(|prepared| prepared == execution);
            ended == name && asked && *end == End::Committed
        });
        if was_committed {
            return BranchOutcome::Heuristic(HeuristicOutcome::Committed);
        }
        BranchOutcome::Aborted
    }

    fn end(&mut self, name: &PreparedName, end: End) -> bool {
        let Some(Promise { execution, change }) = self.prepared.remove(name) else { return false };
        self.ended.insert((name.clone(), execution), end);
        if end == End::Committed {
            self.apply(name.id, change);
        }
        true
    }

    /// What the marker of a branch says.
    pub(super) fn marker(&self, name: &PreparedName) -> Option<bool> {
        self.markers.get(&key(name)).copied()
    }

    /// Writes the marker *aborted* unless one stands; answers what stands.
    pub(super) fn settle(&mut self, name: &PreparedName) -> bool {
        *self.markers.entry(key(name)).or_insert(false)
    }

    /// Makes a change and writes the marker *committed* with it. There must be none.
    pub(super) fn commit_with_marker(&mut self, name: &PreparedName, change: Change) -> Result<(), String> {
        self.admits(&change)?;
        self.markers.insert(key(name), true);
        self.apply(name.id, change);
        Ok(())
    }

    /// Drops the evidence of a branch that has ended.
    pub(super) fn forget(&mut self, name: &PreparedName) {
        self.ended.retain(|(ended, _), _| ended != name);
    }

    fn apply(&mut self, id: TransactionId, change: Change) {
        for (account, amount) in &change.moves {
            if let Some(balance) = self.balances.get_mut(*account as usize) {
                *balance += amount;
            }
        }
        self.ledger.push(Entry { change, id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_travel_as_text() {
        let change = Change { transfer: 7, leg: 1, moves: vec![(3, -5), (4, 5)] };
        assert_eq!(change.to_string().parse(), Ok(change));
        for bad in ["", "1", "1 2", "1 2 x", "a 2 1:1"] {
            assert!(bad.parse::<Change>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_open_change_keeps_others_away_until_its_session_ends() {
        let mut store = Store::new(2, 10, None);
        let (one, other) = (store.connect(), store.connect());
        let key = |branch| {
            let nil = "00000000-0000-0000-0000-000000000001";
            let id = TransactionId { incarnation: nil.parse().unwrap(), gid: nil.parse().unwrap() };
            (id, BranchId::new(branch))
        };
        let change = |account| Change { transfer: 1, leg: 0, moves: vec![(account, -1)] };
        store.open(one, key(1), change(0)).unwrap();
        assert!(store.open(other, key(2), change(0)).is_err());
        store.open(other, key(2), change(1)).unwrap();
        store.disconnect(one);
        assert_eq!(store.left(), Left { open: 1, prepared: 0 });
        store.open(other, key(3), change(0)).unwrap();
        assert_eq!(store.sum(), 20);
    }
}
