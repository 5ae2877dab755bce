//! What must hold in every state, by name. Sources: Bernstein, Hadzilacos and Goodman,
//! *Concurrency Control and Recovery in Database Systems* (1987), section 7.3, for AC1 to AC5;
//! the rest are Pactum's own laws.
//!
//! A branch that a person ended by hand is out of AC1 and I6: it is held to D8 instead, which says
//! that its outcome is kept next to the decision and never hidden.

use pactum_core_checked::id::Branch;
use pactum_core_checked::outcome::Decision;
use pactum_core_checked::participant::BranchKey;

use super::database::Database;
use super::{Held, Told, World};

/// The first invariant that the world breaks, in words.
pub fn broken(world: &World) -> Option<String> {
    if let Some(what) = &world.broken {
        return Some(what.clone());
    }
    (0..world.transactions.len()).find_map(|number| {
        let held = Ends::of(world, number);
        alike(held)
            .or_else(|| once(world, number))
            .or_else(|| told_once(world, number))
            .or_else(|| told_the_truth(world, number, held))
            .or_else(|| decided_once(world, number))
            .or_else(|| logged_before_committed(world, number, held))
            .or_else(|| kept_until_finished(world, number))
            .or_else(|| heuristics_are_kept(world, number))
            .map(|what| format!("transaction {number}: {what}"))
    })
}

/// The database of each of its branches.
fn databases(world: &World, number: usize) -> impl Iterator<Item = (&Branch, BranchKey, &Database)> {
    let transaction = &world.transactions[number];
    transaction.branches.iter().filter_map(|branch| {
        let node = world.participants.iter().find(|node| node.resource() == &branch.resource)?;
        let key = BranchKey { id: transaction.id, branch: branch.id };
        Some((branch, key, &node.database))
    })
}

/// How the branches stand in their databases, where no person had a hand in it.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    committed: bool,
    /// Without effect, or open: not even promised.
    lost: bool,
}

impl Ends {
    fn of(world: &World, number: usize) -> Self {
        let mut ends = Self::default();
        for (_, key, database) in databases(world, number) {
            match database.branches.get(&key) {
                Some(Held::Prepared(_)) | None => {}
                Some(_) if database.by_hand.contains(&key) => {}
                Some(Held::Committed(_)) => ends.committed = true,
                Some(Held::Aborted | Held::Open) => ends.lost = true,
            }
        }
        ends
    }
}

/// AC1, AC3: where one branch is committed, every other is committed or prepared to be. A branch
/// that voted read-only holds nothing and is out of it.
fn alike(ends: Ends) -> Option<String> {
    (ends.committed && ends.lost).then(|| "AC1: branches ended differently".into())
}

/// H3, law 1: only one execution of a branch is ever committed.
fn once(world: &World, number: usize) -> Option<String> {
    let twice = databases(world, number).any(|(_, key, database)| {
        let again = matches!(database.branches.get(&key), Some(Held::Committed(_)));
        again && database.earlier.contains_key(&key) && !database.by_hand.contains(&key)
    });
    twice.then(|| "H3: two executions of one branch are committed".into())
}

/// AC2, I6: nobody hears both outcomes.
fn told_once(world: &World, number: usize) -> Option<String> {
    let transaction = &world.transactions[number];
    (transaction.was_told(Told::Committed) && transaction.was_told(Told::Aborted))
        .then(|| "AC2: both outcomes were told".into())
}

/// I6: what was told is what happened: committed is true at every branch's vote, aborted at none.
fn told_the_truth(world: &World, number: usize, ends: Ends) -> Option<String> {
    let transaction = &world.transactions[number];
    if transaction.was_told(Told::Committed) {
        if !world.logged_commit(number) && !has_register(world, number) {
            return Some("I6: committed was told, and no record of it ever stood".into());
        }
        if ends.lost {
            return Some("I6: committed was told, and a branch has no effect".into());
        }
    }
    if transaction.was_told(Told::Aborted) && (ends.committed || world.logged_commit(number)) {
        return Some("I6: aborted was told, and it is committed".into());
    }
    None
}

/// Whether its one branch's own database is its register (H5).
fn has_register(world: &World, number: usize) -> bool {
    world.transactions[number].branches.len() == 1 && world.scope.marker
}

/// Law 1: what stands as committed never turns, whatever people do to its branches.
fn decided_once(world: &World, number: usize) -> Option<String> {
    let id = world.transactions[number].id;
    let aborted = world.log.rows.get(&id.gid).is_some_and(|row| row.decision == Decision::Abort);
    (aborted && world.log.committed.contains(&id) && !world.log.lost.contains(&id))
        .then(|| "law 1: a commit that stood has become an abort".into())
}

/// I1: no branch is committed before the decision stands in its register.
fn logged_before_committed(world: &World, number: usize, ends: Ends) -> Option<String> {
    (ends.committed && !has_register(world, number) && !world.logged_commit(number))
        .then(|| "I1: committed without a record".into())
}

/// I2: a commit that is taken for finished, or forgotten, has no branch left to finish, but for one
/// that was finished and is back (D5).
fn kept_until_finished(world: &World, number: usize) -> Option<String> {
    let gid = world.transactions[number].id.gid;
    let over = world.log.finished.contains(&gid) || gid <= world.log.floor;
    let prepared = databases(world, number).any(|(_, key, database)| {
        // Another execution than the decided one is no part of it (H3).
        let decided = !database.earlier.contains_key(&key)
            && !database.reappeared.contains(&key)
            && !database.by_hand.contains(&key);
        decided && matches!(database.branches.get(&key), Some(Held::Prepared(_)))
    });
    (over && prepared && world.logged_commit(number))
        .then(|| "I2: taken for finished while a branch is prepared".into())
}

/// D8, law 11: a commit that is finished keeps what a person did against it.
fn heuristics_are_kept(world: &World, number: usize) -> Option<String> {
    let gid = world.transactions[number].id.gid;
    if !world.log.finished.contains(&gid) || !world.logged_commit(number) {
        return None;
    }
    let hidden = databases(world, number).any(|(branch, key, database)| {
        database.by_hand.contains(&key)
            && database.branches.get(&key) == Some(&Held::Aborted)
            && !database.earlier.contains_key(&key)
            && !world.log.heuristics.contains_key(&(gid, branch.id))
    });
    hidden.then(|| "D8: a branch rolled back by hand is hidden".into())
}
