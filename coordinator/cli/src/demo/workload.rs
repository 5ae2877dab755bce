//! The transfers, as an application makes them: begin, a debit here, a credit there, commit.
//!
//! No two transfers in flight touch the same account, so that the demo shows the protocol and not
//! lock waits. Every tenth asks for more than there is. An outcome that is not known is asked for
//! until it is, and never guessed.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pactum::application::Standing;
use pactum::context::ClientService;
use pactum::{ContextLayer, Outcome, Pactum, Transaction, TransactionId, WithTransaction};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt};

use super::bank::{Change, Refused};
use super::place::{BANKS, OPENING_BALANCE};
use super::process::State;
use super::wire::micros;

/// Accounts of each bank that one worker moves money between.
pub(super) const ACCOUNTS_PER_WORKER: u32 = 4;

/// Every so many-th transfer asks for too much.
const TOO_MUCH_EVERY: u32 = 10;

/// Which of those it is: the third, so that a short run and the first few shown have one.
const TOO_MUCH_AT: u32 = 2;

/// A transfer that has not committed by then is aborted. It is also how long a transfer waits for
/// the vote of a bank that was killed: only that process could have given it.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

/// An outcome that is not known by then is given up on, and counts as in doubt. More than a
/// restart of anything takes.
const OUTCOME_WITHIN: Duration = Duration::from_secs(30);

/// A process that is down is waited for this long before a transfer is tried all the same.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Between two questions for an outcome.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// One transfer to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    /// Which bank is debited; the other one is credited.
    pub(super) from: usize,
    pub(super) from_account: u32,
    pub(super) to_account: u32,
    pub(super) amount: i64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) transfer: Transfer,
    /// None if it could not even begin.
    pub(super) id: Option<TransactionId>,
    pub(super) ending: Ending,
    /// By [`micros`].
    pub(super) began_us: u64,
    /// By [`micros`].
    pub(super) told_us: u64,
    /// The branches' numbers and banks, for the step table.
    pub(super) branches: Vec<(u64, String)>,
}

/// How a transfer ended, for its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All of it happened.
    Committed,
    /// None of it happened: a bank refused, for lack of funds.
    Refused(String),
    /// None of it happened, for another reason.
    Aborted(String),
    /// Nobody could say in time.
    Unknown(String),
}

impl Transfer {
    /// The `index`-th transfer of all, made by `worker`.
    pub(super) fn planned(index: u32, worker: u32) -> Self {
        let account = |n: u32| worker * ACCOUNTS_PER_WORKER + n % ACCOUNTS_PER_WORKER;
        let amount = if index % TOO_MUCH_EVERY == TOO_MUCH_AT {
            // More than all accounts of a worker ever hold.
            OPENING_BALANCE * i64::from(ACCOUNTS_PER_WORKER) * 2 + 1
        } else {
            i64::from(index * 37 % 100) + 1
        };
        // Back and forth, not in step with what asks for too much.
        let from = usize::from(index / 3 % 2 == 1);
        Self { from, from_account: account(index), to_account: account(index / 2 + 1), amount }
    }

    /// As people read it.
    pub(super) fn describe(&self) -> String {
        let (from, to) = (BANKS[self.from], BANKS[1 - self.from]);
        format!("{} from {from} #{} to {to} #{}", self.amount, self.from_account, self.to_account)
    }
}

/// Makes transfers. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Application {
    pactum: Pactum,
    banks: [BankClient; 2],
    /// Where everybody is: a transfer is not begun while somebody is known to be down.
    processes: Vec<watch::Receiver<State>>,
}

/// Calls one bank.
#[derive(Clone, Debug)]
pub(super) struct BankClient {
    url: String,
    http: ClientService<Client<HttpConnector, Body>>,
}

impl Application {
    /// Connects. `banks` are their addresses.
    pub(super) fn new(pactum: Pactum, banks: [String; 2], processes: Vec<watch::Receiver<State>>) -> Self {
        let banks = banks.map(BankClient::new);
        Self { pactum, banks, processes }
    }

    /// Makes one transfer, to its end.
    pub(super) async fn make(&mut self, transfer: Transfer) -> Finished {
        for process in &mut self.processes {
            // A process that stays down fails the transfer below, which says why.
            drop(timeout(BACK_WITHIN, process.wait_for(|state| *state != State::Down)).await);
        }
        let began_us = micros();
        let begun = self
            .pactum
            .begin()
            .name("transfer")
            .label("amount", transfer.amount.to_string())
            .timeout(TRANSFER_TIMEOUT)
            .await;
        let tx = match begun {
            Ok(tx) => tx,
            Err(error) => {
                let ending = Ending::Aborted(error.to_string());
                return Finished {
                    transfer,
                    id: None,
                    ending,
                    began_us,
                    told_us: micros(),
                    branches: Vec::new(),
                };
            }
        };
        let id = tx.id();
        let asked = self.ask_banks(&tx, transfer).await;
        let enlisted = tx.enlisted();
        let ending = match asked {
            Ok(()) => self.commit(tx).await,
            Err(ending) => {
                // Not committed whatever becomes of this: commit was never asked.
                drop(tx.abort().await);
                ending
            }
        };
        let branches =
            enlisted.iter().map(|branch| (branch.id.number(), branch.resource.to_string())).collect();
        Finished { transfer, id: Some(id), ending, began_us, told_us: micros(), branches }
    }

    async fn ask_banks(&self, tx: &Transaction, transfer: Transfer) -> Result<(), Ending> {
        let Transfer { from, from_account, to_account, amount } = transfer;
        self.banks[from].change(from_account, -amount).with(tx).await?;
        self.banks[1 - from].change(to_account, amount).with(tx).await
    }

    async fn commit(&self, tx: Transaction) -> Ending {
        let (id, branches) = (tx.id(), tx.enlisted());
        let error = match tx.commit().await {
            Ok(outcome) => return outcome.into(),
            Err(error) => error,
        };
        if error.certainty() == pactum::error::Certainty::DidNotHappen {
            return Ending::Aborted(error.to_string());
        }
        let until = Instant::now() + OUTCOME_WITHIN;
        loop {
            let standing = self.pactum.outcome(id, branches.clone()).await;
            if let Ok(Standing::Decided(outcome)) = standing {
                return outcome.into();
            }
            if Instant::now() >= until {
                return Ending::Unknown(format!("{error}; asked again: {standing:?}"));
            }
            sleep(ASK_AGAIN_AFTER).await;
        }
    }
}

impl BankClient {
    /// Of the bank at that address.
    pub(super) fn new(url: String) -> Self {
        let http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { url, http: ContextLayer::client().layer(http) }
    }

    /// Adds to an account, or takes from it, within a transaction.
    pub(super) async fn change_within(
        &self,
        tx: &Transaction,
        account: u32,
        amount: i64,
    ) -> Result<(), Ending> {
        self.change(account, amount).with(tx).await
    }

    async fn change(&self, account: u32, amount: i64) -> Result<(), Ending> {
        let failed =
            |error: &dyn std::fmt::Display| Ending::Aborted(format!("no answer from {}: {error}", self.url));
        let body = serde_json::to_vec(&Change { amount }).map_err(|error| failed(&error))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/accounts/{account}/change", self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|error| failed(&error))?;
        let response = self.http.clone().oneshot(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(());
        }
        let body = to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX)
            .await
            .map_err(|error| failed(&error))?;
        let refused: Refused =
            serde_json::from_slice(&body).unwrap_or(Refused { error: format!("the bank answered {status}") });
        match status {
            StatusCode::CONFLICT => Err(Ending::Refused(refused.error)),
            _ => Err(Ending::Aborted(refused.error)),
        }
    }
}

/// A bank's answer is a sentence.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Self {
        match outcome.abort_reason() {
            None => Self::Committed,
            Some(reason) if reason.kind == pactum::AbortKind::VotedNo => {
                Self::Refused(reason.message.to_string())
            }
            Some(reason) => Self::Aborted(reason.message.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_transfers_asks_for_too_much_whichever_way_they_go() {
        let transfers: Vec<_> = (0..200).map(|index| Transfer::planned(index, index % 8)).collect();
        let too_much = transfers.iter().filter(|transfer| transfer.amount > 100).count();
        assert_eq!(too_much, 20);
        let forth = transfers.iter().filter(|transfer| transfer.from == 0).count();
        assert!((80..=120).contains(&forth), "{forth}");
    }

    #[test]
    fn workers_share_no_account() {
        let accounts = |worker: u32| -> std::collections::BTreeSet<u32> {
            let of = |index| Transfer::planned(index, worker);
            (0..100).flat_map(|index| [of(index).from_account, of(index).to_account]).collect()
        };
        assert!(accounts(0).is_disjoint(&accounts(1)));
    }
}
