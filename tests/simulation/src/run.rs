//! One run: the hosts, the faults, the heal, and the questions at the end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use pactum::{Pactum, Standing};
use pactum_core::outcome::LookUpResult;
use tokio::time::{Instant, sleep};
use turmoil::{Builder, Sim};

use crate::application;
use crate::checks::{self, Known, Outcomes};
use crate::faults::{FaultCounts, Faults};
use crate::hosts::{bank, bank_hosts, coordinator, coordinator_name};
use crate::log::{LogCounts, SimulatedLog};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::transport::{PUBLIC_PORT, connector};
use crate::world::{Answer, Phase, World, lock};

/// After the heal everything that was begun must have ended within this. What takes longest is a
/// connection that lost bytes, until its keep-alive ends it, and what waited behind it.
const END_LIMIT: Duration = Duration::from_mins(1);

/// What the faults left behind has been noticed by then: incarnations whose heartbeat had stopped are
/// ended (a lease), and connections that had lost bytes (two keep-alives of the coordinator, and the grace
/// of a participant that has gone).
const SETTLED_AFTER: Duration = Duration::from_secs(20);

/// What comes after that must be done within this.
const AS_NEW_LIMIT: Duration = Duration::from_secs(40);

/// So long the outcome of a transaction may be pending: its owner has to be known as ended first.
const PENDING_LIMIT: Duration = Duration::from_secs(15);

/// How often the simulation is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Simulated time.
    pub simulated: Duration,
    /// Of the transfers.
    pub outcomes: Outcomes,
    /// Of the faults.
    pub faults: FaultCounts,
    /// Of the log.
    pub log: LogCounts,
    /// Scans of what an ended coordinator had left.
    pub takeovers: u64,
    /// Inquiries about prepared branches.
    pub inquiries: u64,
    /// From the heal until everything had ended.
    pub ended_after: Duration,
}

/// Runs a plan to its end.
///
/// # Errors
/// What does not hold, a line each.
pub fn run(plan: &Plan, trace: &Trace) -> Result<Summary, Vec<String>> {
    let world = World::new(plan.clone());
    let log = SimulatedLog::new(plan);
    let mut simulation = Simulation::new(plan, trace, Arc::clone(&world), log.clone());

    simulation.until_healed()?;
    let healed_at = simulation.sim.elapsed();
    simulation.until("everything has ended", END_LIMIT, Simulation::has_ended)?;
    let ended_after = simulation.sim.elapsed().saturating_sub(healed_at);
    simulation.until("everything is still well", END_LIMIT, |simulation| {
        simulation.sim.elapsed() >= healed_at + SETTLED_AFTER && simulation.has_ended()
    })?;
    let before = world.transfers().len();

    world.set_phase(Phase::AsNew);
    simulation.until("new transfers have ended", AS_NEW_LIMIT, |simulation| {
        simulation.applications_are_idle() && simulation.has_ended()
    })?;
    let mut broken: Vec<String> = Vec::new();
    for transfer in world.transfers().split_off(before) {
        if transfer.answer != Answer::Committed {
            broken.push(format!("all was well again, and it did not commit: {transfer:?}"));
        }
    }
    broken.extend(simulation.ask_everybody()?);

    let outcomes = checks::check(&world, &log).unwrap_or_else(|why| {
        broken.extend(why);
        Outcomes::default()
    });
    if world.violations() > 0 {
        broken.push(format!("the protocol was seen broken {} times", world.violations()));
    }
    broken.extend(trace.errors());
    if !broken.is_empty() {
        return Err(broken);
    }
    Ok(Summary {
        simulated: simulation.sim.elapsed(),
        outcomes,
        faults: simulation.faults.counts(),
        log: log.counts(),
        takeovers: world.steps("coordinator@recovery-scanned"),
        inquiries: world.steps("participant@inquiry-sent"),
        ended_after,
    })
}

/// A simulation and what is done to it.
struct Simulation<'a> {
    sim: Sim<'a>,
    plan: Plan,
    trace: Trace,
    world: Arc<World>,
    log: SimulatedLog,
    faults: Faults,
}

impl Simulation<'_> {
    fn new(plan: &Plan, trace: &Trace, world: Arc<World>, log: SimulatedLog) -> Self {
        let mut builder = Builder::new();
        builder
            .rng_seed(plan.seed)
            .tick_duration(plan.tick)
            .simulation_duration(Duration::from_hours(1))
            .min_message_latency(Duration::ZERO)
            .max_message_latency(plan.latency_max)
            .tcp_capacity(256)
            .enable_random_order();
        let mut sim = builder.build();
        let mut hosts = Vec::new();
        for place in 0..plan.coordinators {
            let (world, log) = (Arc::clone(&world), log.clone());
            sim.host(coordinator_name(place), move || coordinator(Arc::clone(&world), place, log.clone()));
            hosts.push(coordinator_name(place));
        }
        for (name, place) in bank_hosts(plan) {
            let (world, own) = (Arc::clone(&world), name.clone());
            sim.host(name.clone(), move || bank(Arc::clone(&world), own.clone(), place));
            hosts.push(name);
        }
        for place in 0..plan.applications {
            let world = Arc::clone(&world);
            sim.host(application::name(place), move || application::run(Arc::clone(&world), place));
            hosts.push(application::name(place));
        }
        let faults = Faults::new(&world, &log, hosts);
        Self { sim, plan: plan.clone(), trace: trace.clone(), world, log, faults }
    }

    /// One tick of every host.
    fn step(&mut self) -> Result<(), Vec<String>> {
        self.trace.set_now(self.sim.elapsed());
        self.sim.step().map_err(|error| vec![format!("a process failed: {error}")])?;
        match self.faults.ended_by_itself(&mut self.sim) {
            Some(host) => Err(vec![format!("{host} ended by itself")]),
            None => Ok(()),
        }
    }

    fn until_healed(&mut self) -> Result<(), Vec<String>> {
        while self.sim.elapsed() < self.plan.faults_for {
            let now = self.sim.elapsed();
            self.faults.step(&mut self.sim, now);
            self.step()?;
        }
        tracing::debug!("everything is healed");
        self.faults.heal(&mut self.sim);
        self.world.set_phase(Phase::Healed);
        Ok(())
    }

    fn until(
        &mut self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&mut Self) -> bool,
    ) -> Result<(), Vec<String>> {
        let limit = self.sim.elapsed() + limit;
        let mut look_at = self.sim.elapsed() + LOOK_EVERY * 5;
        loop {
            let now = self.sim.elapsed();
            self.faults.end_due(&mut self.sim, now);
            self.faults.restart_stopped(&mut self.sim, now);
            self.step()?;
            if now < look_at {
                continue;
            }
            look_at = now + LOOK_EVERY;
            if holds(self) {
                return Ok(());
            }
            if now >= limit {
                let mut broken = vec![format!("not in time: {what}")];
                broken.extend(self.left());
                broken.extend(self.trace.errors());
                return Err(broken);
            }
        }
    }

    fn applications_are_idle(&self) -> bool {
        let mut names = (0..self.plan.applications).map(application::name);
        names.all(|name| self.world.reported(&name).is_some_and(|report| report.idle))
    }

    /// Whether everybody is there and nothing is under way.
    fn has_ended(&mut self) -> bool {
        let now = self.sim.elapsed();
        self.faults.restart_stopped(&mut self.sim, now) && self.left().is_empty()
    }

    /// What has not ended, a line each.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (place, bank) in self.world.banks.iter().enumerate() {
            let bank = lock(bank).left();
            if bank.open + bank.prepared > 0 {
                left.push(format!("bank {place}: {bank:?}"));
            }
        }
        for name in (0..self.plan.coordinators).map(coordinator_name) {
            match self.world.reported(&name) {
                Some(report) if report.open == 0 => {}
                other => left.push(format!("{name}: {other:?}")),
            }
        }
        for (name, _) in bank_hosts(&self.plan) {
            match self.world.reported(&name) {
                Some(report) if report.attached >= self.plan.coordinators => {}
                other => left.push(format!("{name} is not attached everywhere: {other:?}")),
            }
        }
        for name in (0..self.plan.applications).map(application::name) {
            match self.world.reported(&name) {
                Some(report) if report.idle => {}
                other => left.push(format!("{name} waits for an answer: {other:?}")),
            }
        }
        left
    }

    /// Asks about every transaction whose name an application knows: through all coordinators, as an
    /// application would, and of each alone.
    fn ask_everybody(&mut self) -> Result<Vec<String>, Vec<String>> {
        let broken: Arc<Mutex<Vec<String>>> = Arc::default();
        let (world, log, told) = (Arc::clone(&self.world), self.log.clone(), Arc::clone(&broken));
        self.sim.client("auditor", async move {
            let all: Vec<String> = (0..world.plan.coordinators).map(coordinator_name).collect();
            let alone = all.iter().map(|name| vec![name.clone()]);
            for names in std::iter::once(all.clone()).chain(alone) {
                let disagreeing = ask(&world, &log, &names).await?;
                lock(&told).extend(disagreeing.into_iter().map(|why| format!("{names:?} say: {why}")));
            }
            Ok(())
        });
        let limit = self.sim.elapsed() + AS_NEW_LIMIT;
        loop {
            self.trace.set_now(self.sim.elapsed());
            match self.sim.step() {
                Ok(true) => return Ok(lock(&broken).clone()),
                Ok(false) if self.sim.elapsed() < limit => {}
                Ok(false) => return Err(vec![String::from("not in time: questions at the end")]),
                Err(error) => return Err(vec![format!("a process failed: {error}")]),
            }
        }
    }
}

/// Asks these coordinators about every transaction; answers what does not agree with what happened.
async fn ask(world: &World, log: &SimulatedLog, names: &[String]) -> anyhow::Result<Vec<String>> {
    let by_owner = names.len() == world.plan.coordinators;
    let addresses = names.iter().map(|name| format!("http://{name}:{PUBLIC_PORT}"));
    let pactum = Pactum::builder(addresses).connector(connector()).discovery(false).connect().await?;
    // All of them: one that is not connected yet cannot be asked.
    while pactum.coordinators().len() < names.len() {
        sleep(LOOK_EVERY).await;
    }
    let asked = world.transfers().into_iter().filter_map(|transfer| Some((transfer.id?, transfer)));
    let asking = asked.map(|(id, transfer)| {
        let pactum = &pactum;
        async move {
            let known = Known {
                took_effect: checks::took_effect(world, id.gid),
                has_record: matches!(log.stands(id.gid), LookUpResult::Stands(_)),
                is_named: !transfer.branches.is_empty(),
                by_owner,
            };
            let give_up = Instant::now() + PENDING_LIMIT;
            let agrees = loop {
                match pactum.outcome(id, transfer.branches.clone()).await {
                    Ok(Standing::Pending) if by_owner && Instant::now() < give_up => sleep(LOOK_EVERY).await,
                    Ok(standing) => break checks::check_standing(&standing, known),
                    Err(error) => break Err(error.to_string()),
                }
            };
            agrees.err().map(|why| format!("transfer {}: {why}; {transfer:?}", transfer.number))
        }
    });
    Ok(join_all(asking).await.into_iter().flatten().collect())
}
