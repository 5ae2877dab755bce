//! An application: many transfers at once, each written down before and after.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pactum::application::Standing;
use pactum::error::Certainty;
use pactum::{Branch, CommitError, Outcome, Pactum, TransactionId};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Shared, ready};
use crate::gauntlet::arguments::RoleArguments;
use crate::gauntlet::dice::Dice;
use crate::gauntlet::journal::{Journal, Shape, Told, Transfer};
use crate::gauntlet::ledger::{ACCOUNTS, BANKS, Leg, MOVE, POPULAR, REFUSE};
use crate::process::ask_bank;

/// A transfer that is not decided after so many milliseconds is aborted. For most that is longer than a
/// takeover, so that a dead coordinator costs time and not transactions.
const TIMEOUT_MILLISECONDS: std::ops::Range<u64> = 2_000..9_000;
/// A transfer that is not done by then waits for somebody who is dead or cut off, and makes room for
/// another one: else a third of all coordinators would soon keep everybody waiting.
const FRESH_FOR: Duration = Duration::from_millis(400);
/// Transfers at once, whatever they wait for.
const ALL_MAX: usize = if cfg!(debug_assertions) { 60 } else { 400 };

/// What all transfers share.
struct Application {
    pactum: Pactum,
    journal: Journal,
    shared: Arc<Shared>,
    /// By bank.
    banks: [Vec<SocketAddr>; 2],
    /// One that can be asked about again.
    asked: Mutex<Option<Asked>>,
}

/// A transaction that commit was asked for.
type Asked = (String, TransactionId, Vec<Branch>);

pub(super) async fn run(arguments: RoleArguments, shared: Arc<Shared>) -> anyhow::Result<()> {
    let half = arguments.banks.len() / 2;
    let banks = [arguments.banks[..half].to_vec(), arguments.banks[half..].to_vec()];
    let application = Arc::new(Application {
        pactum: Pactum::builder(arguments.coordinators.clone()).connect_lazy()?,
        journal: Journal::open(&arguments.directory)?,
        shared: Arc::clone(&shared),
        banks,
        asked: Mutex::default(),
    });
    ready(([127, 0, 0, 1], 0).into());
    let dice = Dice::new(arguments.seed);
    let (all, fresh) = (Arc::new(Semaphore::new(ALL_MAX)), Arc::new(Semaphore::new(arguments.at_once)));
    let mut transfers = JoinSet::new();
    for number in 0_u64.. {
        let admitted =
            async { (Arc::clone(&all).acquire_owned().await, Arc::clone(&fresh).acquire_owned().await) };
        let admitted = tokio::select! {
            biased;
            () = shared.end.cancelled() => break,
            admitted = admitted => admitted,
        };
        while transfers.try_join_next().is_some() {}
        let application = Arc::clone(&application);
        // Each life has a seed of its own, and with it keys of its own.
        let key = format!("{}-{:x}-{number}", arguments.name, arguments.seed & 0xffff_ffff);
        let dice = dice.fork(number);
        transfers.spawn(async move {
            let (_all, fresh) = admitted;
            let transfer = application.transfer(key, dice);
            tokio::pin!(transfer);
            if tokio::time::timeout(FRESH_FOR, &mut transfer).await.is_err() {
                drop(fresh);
                transfer.await;
            }
        });
    }
    while let Some(ended) = transfers.join_next().await {
        ended?;
    }
    Ok(())
}

impl Application {
    async fn transfer(&self, key: String, mut dice: Dice) {
        let transfer = draw(key, &mut dice);
        match transfer.shape {
            Shape::OneShot => self.one_shot(&transfer, &mut dice).await,
            Shape::Interactive => {
                if let Some(asked) = self.interactive(&transfer, &mut dice).await {
                    *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
                }
            }
        }
        self.shared.reporter.update(|status| status.answered += 1);
        if !dice.chance(3) {
            return;
        }
        // Whoever asks again, of anybody and at any time, must hear the same.
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((key, id, branches)) = asked
            && let Ok(Standing::Decided(outcome)) = self.pactum.outcome(id, branches).await
        {
            self.journal.asked_again(&key, told(&outcome));
        }
    }

    async fn one_shot(&self, transfer: &Transfer, dice: &mut Dice) {
        let frozen = dice.chance(3).then(|| dice.place(2));
        let timeout = dice.time(TIMEOUT_MILLISECONDS);
        let mut submit = self.pactum.submit().name("transfer").label("key", &transfer.key).timeout(timeout);
        for (place, (bank, leg)) in transfer.legs.iter().enumerate() {
            let operation = if frozen == Some(place) { REFUSE } else { MOVE };
            submit = submit.operation(BANKS[*bank], operation, leg.text());
        }
        self.journal.begun(transfer);
        // Its gid is the SDK's own affair; any number that is unique here will do.
        let mark = pactum::Gid::from_uuid(uuid::Uuid::new_v4());
        self.shared.reporter.began(mark);
        let answer = submit.await;
        self.shared.reporter.ended(mark);
        self.answered(&transfer.key, None, answer);
    }

    /// Returns what can be asked about later, if commit was asked.
    async fn interactive(&self, transfer: &Transfer, dice: &mut Dice) -> Option<Asked> {
        let key = &transfer.key;
        let timeout = dice.time(TIMEOUT_MILLISECONDS);
        let tx = match self.pactum.begin().name("transfer").label("key", key).timeout(timeout).await {
            Ok(tx) => tx,
            Err(error) => {
                self.journal.begun(transfer);
                self.journal.answered(key, Told::Refused, None, &error.to_string());
                return None;
            }
        };
        self.journal.begun(transfer);
        let (id, context) = (tx.id(), tx.context().clone());
        let mut problem = None;
        for (bank, leg) in &transfer.legs {
            let address = *dice.pick(&self.banks[*bank]);
            let text = leg.text();
            let asked = ask_bank(address, &context, &text);
            let answer = tokio::time::timeout(tx.time_left(), asked)
                .await
                .unwrap_or_else(|_late| Err("the bank does not answer".into()));
            if let Err(wrong) = answer {
                problem = Some(wrong);
                break;
            }
        }
        if problem.is_none() && dice.chance(2) {
            problem = Some("the customer changed his mind".into());
        }
        if let Some(problem) = problem {
            // An abort that could not be told is one all the same: nobody asked to commit.
            drop(tx.abort().await);
            self.journal.answered(key, Told::Aborted, Some(id), &problem);
            return None;
        }
        let branches = tx.enlisted();
        self.journal.asked(key, id, &branches);
        self.shared.reporter.began(id.gid);
        let answer = tx.commit().await;
        self.shared.reporter.ended(id.gid);
        self.answered(key, Some(id), answer);
        Some((key.clone(), id, branches))
    }

    fn answered(&self, key: &str, id: Option<TransactionId>, answer: Result<Outcome, CommitError>) {
        match answer {
            Ok(outcome) => {
                let text =
                    outcome.abort_reason().map(|reason| format!("{:?}: {}", reason.kind, reason.message));
                self.journal.answered(key, told(&outcome), id, &text.unwrap_or_default());
            }
            Err(error) => {
                let told = match error.certainty() {
                    Certainty::DidNotHappen => Told::Refused,
                    Certainty::MayHaveHappened | Certainty::ContractBroken => Told::Unknown,
                };
                self.journal.answered(key, told, id.or(error.id()), &error.to_string());
            }
        }
    }
}

fn told(outcome: &Outcome) -> Told {
    if outcome.is_committed() { Told::Committed } else { Told::Aborted }
}

/// Draws a transfer between the two banks, in either direction.
fn draw(key: String, dice: &mut Dice) -> Transfer {
    let shape = if dice.chance(50) { Shape::OneShot } else { Shape::Interactive };
    let amount = i64::try_from(1 + dice.below(9)).expect("it is small");
    let from = dice.place(2);
    let mut account = || {
        let bound = if dice.chance(2) { POPULAR } else { ACCOUNTS };
        i32::try_from(dice.below(bound.unsigned_abs().into())).expect("it is below an i32")
    };
    let mut leg = |amount| Leg { key: key.clone(), account: account(), amount };
    let legs = vec![(from, leg(-amount)), (1 - from, leg(amount))];
    Transfer::new(key, shape, legs)
}
