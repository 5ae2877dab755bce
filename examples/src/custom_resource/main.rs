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

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pactum::observe::{Observer, Step};
use pactum::{Gid, Outcome, Pactum, Participant, Transaction};
use pactum_coordinator::{Config, Coordinator, Listeners, observe, open_log};
use pactum_examples::custom_resource::FileResource;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// What is published, in both directories.
const FILE: &str = "menu.txt";

/// The right directory takes no larger files, the left one takes any.
const RIGHT_BYTES_MAX: usize = 64;

/// Anything here that takes longer has gone wrong.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let (coordinator, mut votes) = start_coordinator(&place.path().join("decisions.db")).await?;
    let url = coordinator.public_url();
    let pactum = Pactum::connect(&url).await?;

    let (left_root, right_root) = (place.path().join("left"), place.path().join("right"));
    let left = FileResource::open("left", &left_root, usize::MAX)?;
    let right = FileResource::open("right", &right_root, RIGHT_BYTES_MAX)?;
    let (left_attached, mut left_ended) = attach(&url, &left).await?;
    let (right_attached, _) = attach(&url, &right).await?;

    println!("1. Both directories take their file.");
    let tx = publish(&pactum, &left, &right, "soup 4.00").await?;
    let outcome = tx.commit().await?;
    show(&outcome, &left, &right)?;
    ensure!(outcome.is_committed() && both_say(&left, &right, "soup 4.00")?, "both must be published");

    println!("2. The right directory takes {RIGHT_BYTES_MAX} bytes at most, and gets more: it votes no.");
    let long = format!("soup 5.00 {}", "(with bread) ".repeat(9));
    let outcome = publish(&pactum, &left, &right, &long).await?.commit().await?;
    show(&outcome, &left, &right)?;
    ensure!(!outcome.is_committed() && both_say(&left, &right, "soup 4.00")?, "neither may change");

    println!("3. The right participant goes away after its vote, and comes back after the decision.");
    let tx = publish(&pactum, &left, &right, "soup 6.00").await?;
    let gid = tx.id().gid;
    // A frozen directory cannot vote, so there is no decision until we let it.
    let frozen = left.freeze().await?;
    let committing = tokio::spawn(tx.commit().wait_decision().into_future());
    seen(&mut votes, gid).await.context("the right vote did not arrive")?;
    drop((right_attached, right));
    println!("   the right vote has arrived, and now its participant is gone");
    drop(frozen);
    let outcome = timeout(PATIENCE, committing).await.context("no decision came")???;
    seen(&mut left_ended, gid).await.context("the left promise was not kept")?;
    let right = FileResource::open("right", &right_root, RIGHT_BYTES_MAX)?;
    show(&outcome, &left, &right)?;
    ensure!(outcome.is_committed() && right.promises()? == 1, "the right promise must be on disk");
    ensure!(menu(&right)? == "soup 4.00", "nobody may have kept it meanwhile");

    let (right_attached, mut right_ended) = attach(&url, &right).await?;
    seen(&mut right_ended, gid).await.context("the right promise was not kept")?;
    println!("   the participant is back with nothing but what is on disk, and has learned the decision");
    show(&outcome, &left, &right)?;
    ensure!(both_say(&left, &right, "soup 6.00")? && right.promises()? == 0, "the promise must be kept");

    let broken = left_attached.violations() + right_attached.violations() + coordinator.violations();
    ensure!(broken == 0, "the protocol was broken {broken} times");
    left_attached.shutdown().await;
    right_attached.shutdown().await;
    drop(pactum);
    coordinator.stop().await?;
    println!("Shown: one commit, one abort by a vote, and a promise kept over a participant's restart.");
    Ok(())
}

/// Publishes the menu in both directories, within one transaction that is not decided yet.
async fn publish(
    pactum: &Pactum,
    left: &FileResource,
    right: &FileResource,
    menu: &str,
) -> anyhow::Result<Transaction> {
    let tx = pactum.begin().name("publish").label("file", FILE).timeout(PATIENCE).await?;
    // Were the directories behind services, the context would travel there with the calls; here it
    // is handed over. An error drops `tx`, which aborts it.
    left.publish(tx.context(), FILE, menu.as_bytes()).await?;
    right.publish(tx.context(), FILE, menu.as_bytes()).await?;
    Ok(tx)
}

/// A coordinator inside this process, and the transactions whose votes it receives.
async fn start_coordinator(log: &Path) -> anyhow::Result<(Coordinator, UnboundedReceiver<Gid>)> {
    let (tell, votes) = unbounded_channel();
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        observer: observe::Observer::new(move |step| {
            if let observe::Step::VoteReceived { gid, .. } = step {
                tell.send(*gid).ok(); // nobody may be interested
            }
        }),
        ..Config::default()
    };
    let log = open_log(&format!("sqlite:{}", log.display())).await?;
    let coordinator = Coordinator::start(Listeners::bind(&config).await?, log, config)?;
    coordinator.ready().await;
    Ok((coordinator, votes))
}

/// Starts a participant for the directory; also tells which transactions end there.
async fn attach(
    coordinator: &str,
    files: &FileResource,
) -> anyhow::Result<(Participant, UnboundedReceiver<Gid>)> {
    let (tell, ended) = unbounded_channel();
    let observer = Observer::new(move |step| {
        if let Step::BranchEnded { gid, .. } = step {
            tell.send(*gid).ok(); // nobody may be interested
        }
    });
    let builder = Participant::builder([coordinator]).resource(files.clone()).observer(observer);
    let participant = builder.start().await?;
    timeout(PATIENCE, participant.attached()).await.context("the coordinator cannot be attached to")?;
    Ok((participant, ended))
}

/// Waits until the transaction comes by.
async fn seen(gids: &mut UnboundedReceiver<Gid>, gid: Gid) -> anyhow::Result<()> {
    let wait = async {
        while gids.recv().await.context("nobody tells any more")? != gid {}
        Ok(())
    };
    timeout(PATIENCE, wait).await?
}

/// The menu that the world sees in a directory.
fn menu(files: &FileResource) -> anyhow::Result<String> {
    let content = files.published(FILE)?;
    Ok(content.map_or_else(|| "nothing".into(), |content| String::from_utf8_lossy(&content).into_owned()))
}

fn both_say(left: &FileResource, right: &FileResource, text: &str) -> anyhow::Result<bool> {
    Ok(menu(left)? == text && menu(right)? == text)
}

fn show(outcome: &Outcome, left: &FileResource, right: &FileResource) -> anyhow::Result<()> {
    let mut line = match outcome {
        Outcome::Committed { .. } => String::from("committed"),
        Outcome::Aborted { reason, .. } => format!("aborted: {reason}"),
    };
    for (name, files) in [("left", left), ("right", right)] {
        write!(line, "\n     {name:<5}  published: {}", menu(files)?)?;
        if files.promises()? > 0 {
            write!(line, "  (and a promise to publish another)")?;
        }
    }
    println!("   {line}");
    Ok(())
}
