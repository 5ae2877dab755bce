//! What must hold at the end of a run, whatever went wrong in it.
//!
//! The ledgers of the banks are what happened; everything that anybody was told is compared with them.

use std::collections::BTreeMap;

use pactum::{Gid, Outcome, Standing, TransactionId};
use pactum_core::outcome::{Decision, LookUpResult};

use crate::log::SimulatedLog;
use crate::world::{ACCOUNTS, Answer, BALANCE, Transfer, World, lock};

/// What the transfers of a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Transfers begun.
    pub transfers: u64,
    /// Those that took effect.
    pub committed: u64,
    /// Those whose application was told neither commit nor abort, or had ended.
    pub not_told: u64,
}

/// How the legs of one transfer ended.
#[derive(Debug, Default)]
struct Effect {
    /// How often each leg took effect.
    legs: BTreeMap<u32, u32>,
    /// The transactions that they did in.
    ids: Vec<TransactionId>,
}

/// Compares everything that was told with the ledgers.
///
/// # Errors
/// All that does not hold, a line each.
pub fn check(world: &World, log: &SimulatedLog) -> Result<Outcomes, Vec<String>> {
    let mut broken = Vec::new();
    let mut sum = 0;
    let mut effects: BTreeMap<u64, Effect> = BTreeMap::new();
    for (place, bank) in world.banks.iter().enumerate() {
        let bank = lock(bank);
        sum += bank.sum();
        let left = bank.left();
        if left.open + left.prepared > 0 {
            broken.push(format!("bank {place} has work left: {left:?}"));
        }
        for entry in bank.ledger() {
            let effect = effects.entry(entry.change.transfer).or_default();
            *effect.legs.entry(entry.change.leg).or_default() += 1;
            effect.ids.push(entry.id);
        }
    }
    let expected = i64::from(ACCOUNTS) * BALANCE * i64::try_from(world.banks.len()).unwrap_or(0);
    if sum != expected {
        broken.push(format!("the banks hold {sum}, and held {expected}"));
    }
    let mut outcomes = Outcomes::default();
    for transfer in world.transfers() {
        let effect = effects.remove(&transfer.number).unwrap_or_default();
        outcomes.transfers += 1;
        outcomes.committed += u64::from(!effect.legs.is_empty());
        outcomes.not_told += u64::from(matches!(transfer.answer, Answer::None | Answer::Unknown(_)));
        if let Err(why) = check_transfer(&transfer, &effect, log) {
            broken.push(format!("transfer {}: {why}; {transfer:?}, {effect:?}", transfer.number));
        }
        if world.plan.is_quiet() && transfer.should_commit && !went_well(&transfer.answer) {
            broken.push(format!("nothing went wrong, and it did not commit: {transfer:?}"));
        }
    }
    for (number, effect) in effects {
        broken.push(format!("transfer {number} was never begun: {effect:?}"));
    }
    if broken.is_empty() { Ok(outcomes) } else { Err(broken) }
}

/// Whether this is how a transfer may end where nothing goes wrong: committed, or refused by a bank
/// whose accounts were in use.
fn went_well(answer: &Answer) -> bool {
    match answer {
        Answer::Committed => true,
        Answer::Aborted(why) => why.starts_with("VotedNo"),
        Answer::None | Answer::Unknown(_) => false,
    }
}

fn check_transfer(transfer: &Transfer, effect: &Effect, log: &SimulatedLog) -> Result<(), String> {
    let took_effect = !effect.legs.is_empty();
    if took_effect {
        let once = |leg: &u32| effect.legs.get(leg) == Some(&1);
        let all = transfer.legs.iter().all(|(_, change)| once(&change.leg));
        if !all || effect.legs.len() != transfer.legs.len() {
            return Err(String::from("not every leg took effect exactly once"));
        }
        if effect.ids.iter().any(|id| *id != effect.ids[0]) {
            return Err(String::from("its legs took effect in different transactions"));
        }
    }
    match &transfer.answer {
        Answer::Committed if !took_effect => {
            return Err(String::from("told committed, and nothing happened"));
        }
        Answer::Aborted(_) if took_effect => return Err(String::from("told aborted, and it happened")),
        Answer::Committed | Answer::Aborted(_) | Answer::None | Answer::Unknown(_) => {}
    }
    // A transaction of one branch may have its register at the bank, and none in the log.
    let id = effect.ids.first().copied().or(transfer.id);
    let needs_record = transfer.legs.len() > 1;
    match id.map(|id| log.stands(id.gid)) {
        Some(LookUpResult::Stands(record)) => {
            if (record.decision == Decision::Commit) != took_effect {
                return Err(format!("the log says {:?}", record.decision));
            }
            if took_effect && record.branches.len() != transfer.legs.len() {
                return Err(format!("the log names {} branches", record.branches.len()));
            }
        }
        Some(LookUpResult::NoRecord) if took_effect && needs_record => {
            return Err(String::from("it happened, and the log has no record of it"));
        }
        Some(other @ (LookUpResult::Forgotten | LookUpResult::Unknown)) => {
            return Err(format!("the log answers {other:?}"));
        }
        Some(LookUpResult::NoRecord) | None => {}
    }
    Ok(())
}

/// Whether transactions of this gid took effect anywhere.
pub fn took_effect(world: &World, gid: Gid) -> bool {
    world.banks.iter().any(|bank| lock(bank).ledger().iter().any(|entry| entry.id.gid == gid))
}

/// What a question at the end may be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts; they are independent")]
pub struct Known {
    /// The transaction took effect.
    pub took_effect: bool,
    /// The log has a record of it.
    pub has_record: bool,
    /// Its branches were named in the question.
    pub is_named: bool,
    /// The question could go to its owner.
    pub by_owner: bool,
}

/// Compares what is answered now with what happened.
///
/// # Errors
/// What does not agree.
pub fn check_standing(standing: &Standing, known: Known) -> Result<(), String> {
    let agrees = match standing {
        // Which branches have finished is the owner's knowledge, and its successor's; not everybody's.
        Standing::Decided(Outcome::Committed { heuristic: None, .. }) => known.took_effect,
        Standing::Decided(Outcome::Aborted { heuristic: None, .. }) => !known.took_effect,
        // No branch was named to close it for, and the register of a transaction of one branch is asked
        // only where that branch is named.
        Standing::NoRecord => !known.has_record && !known.is_named,
        // Whether a living owner is still at work is known to nobody else.
        Standing::Pending => !known.has_record && !known.by_owner,
        Standing::Decided(_) | Standing::Unknown | Standing::Forgotten => false,
    };
    if agrees { Ok(()) } else { Err(format!("answered {standing:?}; {known:?}")) }
}
