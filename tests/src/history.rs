//! What applications were told, next to what the banks' books say.
//!
//! The checker is linear: transfers whose outcome an application did not learn are asked about
//! until the answer is definite, and then the sets are compared (testing.md, section 5).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pactum::application::Standing;
use pactum::error::Certainty;
use pactum::{Branch, Outcome, Pactum, TransactionId};

use crate::bank::{ACCOUNTS, Books, Entry, OPENING, Teller};
use crate::invariants;
use crate::wait::{eventually, until_ok};

/// Long enough that no transaction of a test ends by its deadline unless the test wants it.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// What an application was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Committed.
    Committed,
    /// Aborted, or certainly not committed.
    Aborted,
    /// Nothing definite.
    Unknown,
}

/// A transfer, as its application saw it.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Drawn by the test; in the ledger of both banks.
    pub key: String,
    /// The transaction; `None` if none was begun.
    pub id: Option<TransactionId>,
    /// Its branches, as far as the application knows.
    pub branches: Vec<Branch>,
    /// What was to be done: the bank by its place in the list of banks, and the entry.
    pub entries: Vec<(usize, Entry)>,
    /// What the application was told.
    pub told: Told,
    /// What commit answered, for a test that wants to know more.
    pub outcome: Option<Outcome>,
    /// Why it was not done, for people.
    pub problem: String,
}

/// A key that no other transfer of this process has.
pub fn fresh_key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("k{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Moves money from the first bank to the second, and says what it was told.
pub async fn transfer(
    pactum: &Pactum,
    from: &impl Teller,
    to: &impl Teller,
    account: &str,
    amount: i64,
) -> Transfer {
    transfer_within(TIMEOUT, pactum, from, to, account, amount).await
}

/// As [`transfer`], with a timeout.
pub async fn transfer_within(
    timeout: Duration,
    pactum: &Pactum,
    from: &impl Teller,
    to: &impl Teller,
    account: &str,
    amount: i64,
) -> Transfer {
    let key = fresh_key();
    let (debit, credit) = (Entry::new(&key, account, -amount), Entry::new(&key, account, amount));
    let mut done = Transfer {
        key,
        id: None,
        branches: Vec::new(),
        entries: vec![(0, debit.clone()), (1, credit.clone())],
        told: Told::Aborted,
        outcome: None,
        problem: String::new(),
    };
    let tx = match pactum.begin().name("transfer").timeout(timeout).await {
        Ok(tx) => tx,
        Err(error) => {
            done.problem = error.to_string();
            return done;
        }
    };
    done.id = Some(tx.id());
    let context = tx.context().clone();
    let worked = match from.apply(&context, &debit).await {
        Ok(()) => to.apply(&context, &credit).await,
        refused @ Err(_) => refused,
    };
    done.branches = context.enlisted();
    if let Err(problem) = worked {
        done.problem = problem;
        // An abort that could not be told is one all the same: nobody asked to commit.
        drop(tx.abort().await);
        return done;
    }
    match tx.commit().await {
        Ok(outcome) => {
            done.told = told(&outcome);
            done.outcome = Some(outcome);
        }
        Err(error) => {
            done.problem = error.to_string();
            if error.certainty() != Certainty::DidNotHappen {
                done.told = Told::Unknown;
            }
        }
    }
    done
}

/// What an outcome tells.
pub fn told(outcome: &Outcome) -> Told {
    match outcome {
        Outcome::Committed { .. } => Told::Committed,
        Outcome::Aborted { .. } => Told::Aborted,
    }
}

/// Asks until the answer is definite.
///
/// # Panics
/// It did not become so, or the answer is "no record" for a named set of branches.
pub async fn definite_outcome(pactum: &Pactum, id: TransactionId, branches: &[Branch]) -> Told {
    eventually(&format!("a definite outcome of {id}"), || async {
        match pactum.outcome(id, branches.to_vec()).await {
            Ok(Standing::Decided(outcome)) => Some(told(&outcome)),
            _ => None,
        }
    })
    .await
}

/// One bank's books at quiescence.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    /// The sum of all balances.
    pub total: i64,
    /// Everything done.
    pub ledger: Vec<Entry>,
    /// What is still prepared.
    pub prepared: Vec<String>,
}

/// A transfer with its definite outcome.
#[derive(Clone, Debug)]
pub struct Settled {
    /// As the application saw it.
    pub transfer: Transfer,
    /// Whether it is committed, for ever.
    pub committed: bool,
}

/// Everything that the invariants look at.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// By the place that [`Transfer::entries`] names.
    pub banks: Vec<Statement>,
    /// All transfers.
    pub transfers: Vec<Settled>,
    /// The sum of all balances at first.
    pub opening_total: i64,
}

/// Settles what is unknown, waits until nothing is prepared at any bank, and checks every
/// invariant. Returns how many committed and how many aborted.
///
/// # Panics
/// An invariant does not hold.
pub async fn check(pactum: &Pactum, books: &[&Books], transfers: Vec<Transfer>) -> (usize, usize) {
    let mut settled = Vec::with_capacity(transfers.len());
    for transfer in transfers {
        let committed = match (transfer.told, transfer.id) {
            (Told::Unknown, Some(id)) => {
                definite_outcome(pactum, id, &transfer.branches).await == Told::Committed
            }
            (told, _) => told == Told::Committed,
        };
        settled.push(Settled { transfer, committed });
    }
    let banks = i64::try_from(books.len()).expect("few banks");
    let mut observed = Observed { opening_total: banks * ACCOUNTS * OPENING, ..Observed::default() };
    observed.transfers = settled;
    // Whoever holds something prepared may be about to end it; the books count only afterwards.
    until_ok("quiescence", || async {
        let statements = statements(books).await.map_err(|error| error.to_string())?;
        invariants::quiescence::check(&Observed { banks: statements, ..Observed::default() })
    })
    .await;
    // An answer may come at the decision or after a bound: branches may still be ending.
    until_ok("all invariants", || {
        let mut observed = observed.clone();
        async move {
            observed.banks = statements(books).await.map_err(|error| error.to_string())?;
            invariants::check(&observed)
        }
    })
    .await;
    let committed = observed.transfers.iter().filter(|settled| settled.committed).count();
    (committed, observed.transfers.len() - committed)
}

async fn statements(books: &[&Books]) -> Result<Vec<Statement>, sqlx::Error> {
    let mut statements = Vec::new();
    for bank in books {
        statements.push(Statement {
            total: bank.total().await?,
            ledger: bank.ledger().await?,
            prepared: bank.prepared().await?,
        });
    }
    Ok(statements)
}
