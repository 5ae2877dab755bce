//! What runs on the host of an application: transfers between banks, in every form that the SDK
//! has, and a note of what was answered to each.

use std::sync::Arc;
use std::time::Duration;

use pactum::{Certainty, CommitError, ContextLayer, Outcome, Pactum, Transaction, WithTransaction as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tower::{Layer as _, ServiceExt as _};
use turmoil::net::TcpStream;

use crate::bank::Change;
use crate::dice::Dice;
use crate::hosts::{
    BANK_PORT, MESSAGE_BYTES_MAX, addresses, bank_hosts, message, read_message, resource_name,
};
use crate::transport::connector;
use crate::world::{ACCOUNTS, Answer, Phase, Report, World};

/// Longest wait for a bank's answer.
const CALL_LIMIT: Duration = Duration::from_secs(3);

/// Transfers of each application when everything is as new.
const AS_NEW: u32 = 2;

/// Accounts that are used only then, one for each application: nobody else holds them.
const KEPT_FREE: u32 = 2;

/// Longest time that the outcome is asked for after a transfer's deadline.
const GRACE: Duration = Duration::from_secs(6);

/// The host of an application.
pub fn name(place: usize) -> String {
    format!("application-{place}")
}

/// Runs an application for as long as the simulation lasts.
///
/// # Errors
/// The SDK refused its settings.
pub async fn run(world: Arc<World>, place: usize) -> turmoil::Result {
    let host = name(place);
    let run = world.started(&host);
    let pactum =
        Pactum::builder(addresses(&world.plan)).connector(connector()).grace(GRACE).connect_lazy()?;
    let lanes = (0..world.plan.at_once).map(|lane| {
        let lane_world = Arc::clone(&world);
        let pactum = pactum.clone();
        tokio::spawn(async move { transfers(&lane_world, &pactum, place, run, lane).await })
    });
    let mut lanes: Vec<_> = lanes.collect();
    let mut phase = world.phase();
    loop {
        sleep(Duration::from_millis(100)).await;
        if phase != Phase::AsNew && world.phase() == Phase::AsNew {
            // One after the other: they must not meet.
            let (world, pactum) = (Arc::clone(&world), pactum.clone());
            lanes.push(tokio::spawn(async move { transfers(&world, &pactum, place, run, 99).await }));
        }
        phase = world.phase();
        let idle = lanes.iter().all(tokio::task::JoinHandle::is_finished);
        world.report(&host, Report { run, idle, ..Report::default() });
    }
}

/// Makes transfers, one after the other, while there are any to be made in this phase.
async fn transfers(world: &World, pactum: &Pactum, place: usize, run: u64, lane: usize) {
    let phase = world.phase();
    let most = match phase {
        Phase::Faults => world.plan.transfers,
        Phase::Healed => 0,
        Phase::AsNew => AS_NEW,
    };
    while world.phase() == phase
        && let Some(number) = world.may_begin(place, most)
    {
        let purpose = 1_000_000 + number * 1_000 + run;
        let mut dice = Dice::new(world.plan.seed, purpose);
        if phase == Phase::Faults {
            sleep(dice.time(Duration::ZERO, world.plan.pause_max)).await;
        }
        let one = One { world, pactum, number, as_new: phase == Phase::AsNew };
        let answer = one.run(&mut dice, place).await;
        tracing::debug!(number, lane, ?answer, "answered");
        world.note(number, |transfer| transfer.answer = answer);
    }
}

/// One transfer.
struct One<'a> {
    world: &'a World,
    pactum: &'a Pactum,
    number: u64,
    /// Nothing is wrong any more, and it must commit.
    as_new: bool,
}

impl One<'_> {
    async fn run(&self, dice: &mut Dice, place: usize) -> Answer {
        let legs = self.legs(dice, place);
        self.world.note(self.number, |transfer| transfer.legs.clone_from(&legs));
        let limit = dice.time(Duration::from_secs(3), Duration::from_secs(10));
        if dice.chance(self.world.plan.submitted) {
            self.world.note(self.number, |transfer| transfer.should_commit = true);
            return self.submit(&legs, limit, dice).await;
        }
        match self.pactum.begin().name("transfer").label("number", self.number).timeout(limit).await {
            Ok(tx) => {
                self.world.note(self.number, |transfer| transfer.id = Some(tx.id()));
                self.interactive(tx, &legs, dice).await
            }
            Err(error) => Answer::Aborted(error.to_string()),
        }
    }

    /// From one bank to one or two others, or within one.
    fn legs(&self, dice: &mut Dice, place: usize) -> Vec<(usize, Change)> {
        let banks = self.world.plan.banks;
        let amount = i64::try_from(dice.between(1, 50)).unwrap_or(1);
        let account = |dice: &mut Dice| match (self.as_new, u32::try_from(place)) {
            (true, Ok(place)) => place % KEPT_FREE,
            _ => KEPT_FREE + u32::try_from(dice.below(u64::from(ACCOUNTS - KEPT_FREE))).unwrap_or(0),
        };
        let change = |leg, moves| Change { transfer: self.number, leg, moves };
        let from = dice.place(banks);
        if !self.as_new && dice.chance(self.world.plan.inside_one_bank) {
            let (first, second) = (account(dice), account(dice));
            let moves =
                if first == second { vec![(first, 0)] } else { vec![(first, -amount), (second, amount)] };
            return vec![(from, change(0, moves))];
        }
        let to = (from + 1 + dice.place(banks - 1)) % banks;
        let mut legs = vec![
            (from, change(0, vec![(account(dice), -amount)])),
            (to, change(1, vec![(account(dice), amount)])),
        ];
        if let Some(third) = (0..banks).find(|bank| *bank != from && *bank != to)
            && dice.chance(250)
        {
            legs[0].1.moves[0].1 -= 1;
            legs.push((third, change(2, vec![(account(dice), 1)])));
        }
        legs
    }

    async fn submit(&self, legs: &[(usize, Change)], limit: Duration, dice: &mut Dice) -> Answer {
        let mut submit = self.pactum.submit().name("transfer").timeout(limit);
        for (bank, change) in legs {
            submit = submit.operation(resource_name(*bank), "move", change.to_string());
        }
        if !self.as_new && dice.chance(300) {
            submit = submit.wait_decision();
        }
        self.answered(submit.await)
    }

    async fn interactive(&self, tx: Transaction, legs: &[(usize, Change)], dice: &mut Dice) -> Answer {
        for (bank, change) in legs {
            let hosts = bank_hosts(&self.world.plan);
            let hosts: Vec<&String> =
                hosts.iter().filter(|(_, place)| place == bank).map(|(host, _)| host).collect();
            let Some(host) = dice.pick(&hosts) else { continue };
            let called = timeout(CALL_LIMIT, call(host, change).with(&tx)).await;
            let why = match called {
                Ok(Ok(answer)) if answer == "done" => continue,
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => String::from("the bank did not answer"),
            };
            return self.give_up(tx, dice, &why).await;
        }
        if !self.as_new && dice.chance(self.world.plan.given_up) {
            return self.give_up(tx, dice, "the application thought better of it").await;
        }
        let branches = tx.enlisted();
        self.world.note(self.number, |transfer| {
            transfer.branches = branches;
            transfer.should_commit = true;
        });
        let mut commit = tx.commit();
        if !self.as_new && dice.chance(300) {
            commit = commit.wait_decision();
        }
        if !self.as_new && dice.chance(self.world.plan.given_up) {
            let patience = dice.time(Duration::ZERO, Duration::from_millis(200));
            return match timeout(patience, commit.into_future()).await {
                Ok(answer) => self.answered(answer),
                Err(_elapsed) => Answer::Unknown(String::from("the application did not wait")),
            };
        }
        self.answered(commit.await)
    }

    /// Nothing was asked to commit, so nothing ever will, whatever comes back.
    async fn give_up(&self, tx: Transaction, dice: &mut Dice, why: &str) -> Answer {
        if dice.chance(500) {
            drop(tx);
            return Answer::Aborted(why.to_owned());
        }
        match tx.abort().message(why).await {
            Ok(Outcome::Committed { .. }) => Answer::Committed,
            Ok(Outcome::Aborted { .. }) | Err(_) => Answer::Aborted(why.to_owned()),
        }
    }

    fn answered(&self, answer: Result<Outcome, CommitError>) -> Answer {
        match answer {
            Ok(Outcome::Committed { .. }) => Answer::Committed,
            Ok(Outcome::Aborted { reason, .. }) => Answer::Aborted(format!("{:?}: {reason}", reason.kind)),
            Err(error) => {
                if let CommitError::Unknown { id, .. } = &error {
                    self.world.note(self.number, |transfer| transfer.id = Some(*id));
                }
                match error.certainty() {
                    Certainty::DidNotHappen => Answer::Aborted(error.to_string()),
                    Certainty::MayHaveHappened => Answer::Unknown(error.to_string()),
                    Certainty::ContractBroken => {
                        tracing::error!(number = self.number, %error, "a coordinator's answer is not understood");
                        Answer::Unknown(error.to_string())
                    }
                }
            }
        }
    }
}

/// Calls a bank, inside the current transaction.
async fn call(host: &str, change: &Change) -> anyhow::Result<String> {
    let send = tower::service_fn(|request: http::Request<String>| async move {
        let mut stream = TcpStream::connect((host, BANK_PORT)).await?;
        stream.write_all(message(request.headers(), request.body()).as_bytes()).await?;
        stream.shutdown().await?;
        let mut text = String::new();
        stream.take(MESSAGE_BYTES_MAX).read_to_string(&mut text).await?;
        let (headers, body) = read_message(&text)?;
        let mut response = http::Response::new(body);
        *response.headers_mut() = headers;
        anyhow::Ok(response)
    });
    let request = http::Request::new(change.to_string());
    let response = ContextLayer::client().layer(send).oneshot(request).await?;
    Ok(response.into_body())
}
