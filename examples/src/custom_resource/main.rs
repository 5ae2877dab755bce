//! Publishes two files in two directories, both or neither: hooks around something that is not a
//! database. `cargo run -p pactum-examples --bin custom_resource`
//!
//! All of it runs in this one process: a coordinator with its log in a SQLite file, a participant
//! for each directory, and the application. The hooks are in `resource.rs` and `store.rs` beside
//! this file.
//!
//! It shows a commit, an abort by one directory's vote, and a participant that goes away between
//! its vote and the decision and comes back. That one is *dropped*, which the SDK documents to be
//! like a crash: nothing is said to anybody, and what comes back knows only what is on disk.
//! Power was not cut, so the fsyncs are made but not proved.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pactum::observe::{Observer, Step};
use pactum::resource::Operation;
use pactum::{Outcome, Pactum, Participant, Transaction};
use pactum_coordinator::{Config, Coordinator, Listeners, open_log};
use pactum_examples::custom_resource::FileResource;
use tokio::sync::Notify;
use tokio::time::timeout;

/// The right directory takes no larger files, the left one takes any.
const RIGHT_BYTES_MAX: usize = 64;

/// Anything here that takes longer has gone wrong.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let voted = Arc::new(Notify::new());
    let coordinator = start_coordinator(&place.path().join("decisions.db"), &voted).await?;
    let url = coordinator.public_url();
    let pactum = Pactum::connect(&url).await?;

    let (left_root, right_root) = (place.path().join("left"), place.path().join("right"));
    let left = FileResource::open("left", &left_root, usize::MAX)?;
    let right = FileResource::open("right", &right_root, RIGHT_BYTES_MAX)?;
    let left_attached = attach(&url, &left, Observer::default()).await?;
    let right_attached = attach(&url, &right, Observer::default()).await?;

    println!("1. Both directories take their file.");
    let tx = publish(&pactum, &left, &right, "soup 4.00").await?;
    show("while it is undecided", &left, &right)?;
    let outcome = tx.commit().await?;
    println!("   outcome: {}", tell(&outcome));
    show("afterwards", &left, &right)?;
    ensure!(outcome.is_committed() && both_say(&left, &right, "soup 4.00")?, "both must have been published");

    println!("2. The right directory takes {RIGHT_BYTES_MAX} bytes at most, and gets more: it votes no.");
    let long = format!("soup 5.00 {}", "(with bread) ".repeat(9));
    let outcome = publish(&pactum, &left, &right, &long).await?.commit().await?;
    println!("   outcome: {}", tell(&outcome));
    show("afterwards", &left, &right)?;
    ensure!(!outcome.is_committed() && both_say(&left, &right, "soup 4.00")?, "neither must have changed");

    println!("3. The right participant goes away after its vote, and comes back after the decision.");
    let tx = publish(&pactum, &left, &right, "soup 6.00").await?;
    // A frozen directory cannot vote, so there is no decision until we let it.
    let frozen = left.freeze().await?;
    let committing = tokio::spawn(tx.commit().wait_decision().into_future_boxed());
    timeout(PATIENCE, voted.notified()).await.context("the right vote did not arrive")?;
    drop((right_attached, right));
    println!("   the right vote has arrived; its participant is gone");
    drop(frozen);
    let outcome = timeout(PATIENCE, committing).await.context("no decision came")???;
    println!("   outcome: {}", tell(&outcome));
    let right = FileResource::open("right", &right_root, RIGHT_BYTES_MAX)?;
    ensure!(right.promises()? == 1 && says(&right)? == "soup 4.00", "the right promise must be on disk");
    println!("   right, without a participant: {}, and a promise on disk", says(&right)?);

    let ended = Arc::new(Notify::new());
    let right_attached = attach(&url, &right, on_branch_ended(&ended)).await?;
    timeout(PATIENCE, ended.notified()).await.context("the promise was not kept")?;
    show("when it is back", &left, &right)?;
    ensure!(outcome.is_committed() && both_say(&left, &right, "soup 6.00")?, "the promise must be kept");

    let broken = left_attached.violations() + right_attached.violations() + coordinator.violations();
    ensure!(broken == 0, "the protocol was broken {broken} times");
    left_attached.shutdown().await;
    right_attached.shutdown().await;
    drop(pactum);
    coordinator.stop().await?;
    println!(
        "Shown: a commit at both, an abort at both by one vote, and a promise kept over a participant's restart."
    );
    Ok(())
}
