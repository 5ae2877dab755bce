//! Orders goods from two services, each with a PostgreSQL database of its own: both change, or
//! neither. `cargo run -p pactum-examples --bin transfer`
//!
//! ```text
//!  application.rs ── Reserve, with a context header ──▶ inventory.rs ──▶ PostgreSQL
//!        │        ── Charge, with a context header ───▶ ledger.rs ─────▶ PostgreSQL
//!        └── commit ──▶ coordinator ◀── attached ───────────┘
//! ```
//!
//! What to read first: `application.rs`, then `inventory.rs`. `ledger.rs` has the same shape,
//! `service.rs` what both have in common. The rest is the stage: `stage.rs` starts servers and
//! processes, `books.rs` counts what is in the databases at the end, and this file tells the story.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod application;
mod books;
mod inventory;
mod ledger;
mod service;
mod stage;
mod wire;

use std::time::Duration;

use anyhow::{bail, ensure};
use pactum::AbortKind;
use tracing_subscriber::EnvFilter;

use crate::application::{Order, Placed, Shop};
use crate::books::Books;
use crate::service::Environment;
use crate::stage::Stage;

/// Anything here that takes longer has gone wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// The time of the order that gives way. Nine tenths of it are the longest that it waits for a lock.
const HASTE: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Without what sqlx thinks of slow statements: one of them waits for a lock on purpose.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,sqlx=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match std::env::args().nth(1).as_deref() {
        None => story().await,
        Some(inventory::NAME) => inventory::run(Environment::read().await?).await,
        Some(ledger::NAME) => ledger::run(Environment::read().await?).await,
        Some(other) => bail!("{other:?} is no role here; without any argument all of it runs"),
    }
}

async fn story() -> anyhow::Result<()> {
    println!("Starting PostgreSQL, a coordinator, and two services ...");
    let stage = Stage::start().await?;
    let coordinator = stage.coordinator.public_url();
    let shop = Shop::connect(&coordinator, &stage.inventory.address, &stage.ledger.address).await?;
    let teller = Teller { shop, accepted: Vec::new() };
    let before = stage.books.sums().await?;
    println!("  {} pieces of goods in one database, {} in the other", before.goods, euros(before.money));

    let accepted = teller.tell(&stage.books).await?;

    println!("\nWhat both databases hold now");
    let after = stage.books.check(&before, &accepted).await?;
    println!("  goods, on hand and reserved:   {} as before", after.goods);
    println!("  money, in accounts and charged: {} as before", euros(after.money));
    println!(
        "  orders reserved: {}, charged: {}, the same ones, and just those that were accepted",
        after.reserved.len(),
        after.charged.len()
    );
    println!("  branches in doubt: {}", after.in_doubt);
    let broken = stage.coordinator.violations();
    ensure!(broken == 0, "the protocol was broken {broken} times");
    stage.stop().await?;
    println!(
        "\nShown: orders that commit, orders that a service refuses, a lock wait across databases that ends in an abort."
    );
    Ok(())
}

/// Tells the story, and keeps what was accepted.
#[derive(Debug)]
struct Teller {
    shop: Shop,
    accepted: Vec<String>,
}

impl Teller {
    async fn tell(mut self, books: &Books) -> anyhow::Result<Vec<String>> {
        println!("\nOrders that commit");
        let (one, two) =
            (order("order-1", 1, "lamp", "ada", 4_000), order("order-2", 2, "chair", "blaise", 20_000));
        for order in [one, two] {
            let placed = self.shop.order(&order).await?;
            self.expect(&order, placed, "accepted")?;
        }
        let at_once = order("order-3", 1, "chair", "ada", 10_000);
        let placed = self.shop.order_at_once(&at_once, PATIENCE).await?;
        self.expect(&at_once, placed, "accepted")?;

        println!("\nOrders that a service refuses: nothing is left of them in either database");
        let many = order("order-4", 9, "lamp", "ada", 36_000);
        let placed = self.shop.order(&many).await?;
        self.expect(&many, placed, "refused")?;
        let dear = order("order-5", 2, "chair", "blaise", 20_000);
        let placed = self.shop.order(&dear).await?;
        self.expect(&dear, placed, "refused")?;
        let dear_at_once = order("order-6", 3, "chair", "blaise", 30_000);
        let placed = self.shop.order_at_once(&dear_at_once, PATIENCE).await?;
        self.expect(&dear_at_once, placed, "aborted")?;

        println!("\nEight orders at a time");
        let orders: Vec<_> =
            (10..18).map(|n| order(&format!("order-{n}"), 1, "chair", "ada", 5_000)).collect();
        let mut placing = Vec::new();
        for order in orders {
            let shop = self.shop.clone();
            placing.push(tokio::spawn(async move { shop.order(&order).await.map(|placed| (order, placed)) }));
        }
        for placed in placing {
            let (order, placed) = placed.await??;
            self.expect(&order, placed, "accepted")?;
        }

        println!("\nTwo orders that wait for each other, each in another database");
        self.wait_across_databases(books).await?;
        self.accepted.sort();
        Ok(self.accepted)
    }

    /// Two transactions lock the same two rows in opposite order. Neither database sees a circle,
    /// each sees only somebody who waits; the time that a transaction has left ends it.
    async fn wait_across_databases(&mut self, books: &Books) -> anyhow::Result<()> {
        let patient = order("order-20", 1, "lamp", "ada", 4_000);
        let hasty = order("order-21", 1, "lamp", "ada", 4_000);
        // The first one charges the account, and so has its row locked ...
        let tx = self.shop.begin(&patient, Duration::from_mins(1)).await?;
        self.shop.charge(&tx, &patient).await?;
        println!("  {} has the row of the account locked, and will want that of the lamps", patient.id);
        // ... the second one locks the lamps, and waits for the account ...
        let (shop, other) = (self.shop.clone(), hasty.clone());
        let placing = tokio::spawn(async move { shop.order_at_once(&other, HASTE).await });
        // (here they meet: nobody goes on before it has the lamps)
        books.item_locked(hasty.item, PATIENCE).await?;
        println!(
            "  {} has the row of the lamps locked, and wants that of the account, within {HASTE:?}",
            hasty.id
        );
        // ... and now the first one waits for the lamps. It has the longer breath.
        self.shop.reserve(&tx, &patient).await?;
        let placed = self.shop.commit(tx).await?;
        let reason = match placing.await?? {
            Placed::Aborted(reason) => reason,
            other @ (Placed::Accepted | Placed::Refused(_)) => bail!("{} was {other:?}", hasty.id),
        };
        ensure!(reason.kind == AbortKind::LockTimeout, "it aborted for another reason: {reason:?}");
        self.expect(&hasty, Placed::Aborted(reason), "aborted")?;
        self.expect(&patient, placed, "accepted")
    }

    /// Prints what became of an order, and fails if it is not what was to be shown.
    fn expect(&mut self, order: &Order, placed: Placed, expected: &str) -> anyhow::Result<()> {
        let (word, why) = match placed {
            Placed::Accepted => {
                self.accepted.push(order.id.clone());
                ("accepted", String::new())
            }
            Placed::Refused(why) => ("refused", format!(": {why}")),
            Placed::Aborted(reason) => ("aborted", format!(": {:?}: {reason}", reason.kind)),
        };
        let Order { id, item, quantity, account, amount } = order;
        println!("  {id:<8}  {quantity} {item:<5}  {account:<6}  {:>7}  {word}{why}", euros(*amount));
        ensure!(word == expected, "{id} was to be {expected}");
        Ok(())
    }
}

fn order(id: &str, quantity: i64, item: &'static str, account: &'static str, amount: i64) -> Order {
    Order { id: id.to_owned(), item, quantity, account, amount }
}

/// Cents, for people.
fn euros(cents: i64) -> String {
    format!("{}.{:02} €", cents / 100, cents % 100)
}
