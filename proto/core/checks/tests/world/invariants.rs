//! What must hold in every state, by name. Sources: Bernstein, Hadzilacos and Goodman,
//! *Concurrency Control and Recovery in Database Systems* (1987), section 7.3, for AC1 to AC5;
//! the rest are Pactum's own laws.

use pactum_core_checked::participant::BranchKey;

use super::{Held, Told, World};

/// The first invariant that the world breaks, in words.
pub fn broken(world: &World) -> Option<String> {
    if let Some(what) = &world.broken {
        return Some(what.clone());
    }
    (0..world.transactions.len()).find_map(|number| {
        alike(world, number)
            .or_else(|| told_once(world, number))
            .or_else(|| told_the_truth(world, number))
            .or_else(|| logged_before_committed(world, number))
            .or_else(|| kept_until_finished(world, number))
            .map(|what| format!("transaction {number}: {what}"))
    })
}

/// What each branch's database holds of it.
fn held(world: &World, number: usize) -> Vec<Option<&Held>> {
    let transaction = &world.transactions[number];
    transaction
        .branches
        .iter()
        .map(|branch| {
            let node = world.participants.iter().find(|node| node.resource() == &branch.resource)?;
            node.database.branches.get(&BranchKey { id: transaction.id, branch: branch.id })
        })
        .collect()
}

/// AC1, AC3: where one branch is committed, every other is committed or prepared to be. A branch
/// that voted read-only holds nothing and is out of it.
fn alike(world: &World, number: usize) -> Option<String> {
    let held = held(world, number);
    let committed = held.iter().any(|held| matches!(held, Some(Held::Committed(_))));
    let lost = held.iter().any(|held| matches!(held, Some(Held::Aborted | Held::Open)));
    (committed && lost).then(|| format!("AC1: branches ended differently: {held:?}"))
}

/// AC2, I6: nobody hears both outcomes.
fn told_once(world: &World, number: usize) -> Option<String> {
    let told = &world.transactions[number].told;
    (told.contains(&Told::Committed) && told.contains(&Told::Aborted))
        .then(|| "AC2: both outcomes were told".into())
}

/// I6: what was told is what happened: committed is true at every branch's vote, aborted at none.
fn told_the_truth(world: &World, number: usize) -> Option<String> {
    let held = held(world, number);
    let told = &world.transactions[number].told;
    let aborted = held.iter().any(|held| matches!(held, Some(Held::Aborted | Held::Open)));
    let committed = held.iter().any(|held| matches!(held, Some(Held::Committed(_))));
    if told.contains(&Told::Committed) && aborted {
        return Some(format!("I6: committed was told, and a branch has no effect: {held:?}"));
    }
    if told.contains(&Told::Aborted) && (committed || world.logged_commit(number)) {
        return Some(format!("I6: aborted was told, and it is committed: {held:?}"));
    }
    None
}

/// I1: no branch is committed before the decision stands in its register.
fn logged_before_committed(world: &World, number: usize) -> Option<String> {
    let transaction = &world.transactions[number];
    let one = transaction.branches.len() == 1 && world.scope.marker;
    let committed = held(world, number).iter().any(|held| matches!(held, Some(Held::Committed(_))));
    (committed && !one && !world.logged_commit(number)).then(|| "I1: committed without a record".into())
}

/// I2: a commit that is taken for finished has no branch left to finish.
fn kept_until_finished(world: &World, number: usize) -> Option<String> {
    let transaction = &world.transactions[number];
    let finished = world.log.finished.contains(&transaction.id.gid);
    let prepared = held(world, number).iter().any(|held| matches!(held, Some(Held::Prepared(_))));
    (finished && prepared && world.logged_commit(number))
        .then(|| "I2: taken for finished while a branch is prepared".into())
}
