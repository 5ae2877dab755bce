//! One measurement: a fresh coordinator and its participants, the load, and what it all cost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::child::NOTHING;
use super::place::Place;
use super::process::Process;
use super::relay::Wires;
use super::sample::Sample;
use super::usage;
use super::wire::{CoordinatorOrders, IdleOrders, Orders, Report, Run, SubmitWork, Work};
use crate::failure::Failure;

/// Any free port of this machine.
pub(super) const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A coordinator and participants that do nothing.
#[derive(Debug)]
pub(super) struct System {
    pub(super) coordinator: Process,
    /// Where everybody reaches it.
    pub(super) url: String,
    pub(super) participants: Vec<Process>,
}

impl System {
    /// Starts them, and waits until all are attached.
    pub(super) async fn start(place: &Place, participants: u16, wires: &mut Wires) -> Result<Self, Failure> {
        let log = wires.sql(place.url()).await?;
        let orders = CoordinatorOrders { log, listen: FREE, prepare_record_after: None };
        let coordinator = Process::start("coordinator", &Orders::Coordinator(orders)).await?;
        let url = wires.grpc(coordinator.url()?).await?;
        let mut all = Vec::new();
        for number in 1..=participants {
            let resource = format!("idle-{number}");
            let orders = IdleOrders { resource: resource.clone(), coordinator: url.clone() };
            all.push(Process::start(resource, &Orders::Idle(orders)).await?);
        }
        Ok(Self { coordinator, url, participants: all })
    }

    /// The names of the resources.
    pub(super) fn resources(&self) -> Vec<String> {
        self.participants.iter().map(|participant| participant.name().to_owned()).collect()
    }

    /// Stops them in order.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        for participant in self.participants {
            participant.stop().await?;
        }
        self.coordinator.stop().await
    }
}

/// Who is watched while it is measured: a name for what they do, and their process.
#[derive(Debug, Default)]
pub(super) struct Watched(Vec<(&'static str, u32, bool)>);

impl Watched {
    /// A process alone.
    pub(super) fn process(mut self, role: &'static str, pid: u32) -> Self {
        self.0.push((role, pid, false));
        self
    }

    /// A process with its children.
    pub(super) fn family(mut self, role: &'static str, pid: Option<u32>) -> Self {
        self.0.extend(pid.map(|pid| (role, pid, true)));
        self
    }

    /// Everybody in a system, and where its log is.
    pub(super) fn system(mut self, system: &System, place: &Place) -> Self {
        self = self.process("coordinator", system.coordinator.pid()).family("log_postgres", place.pid());
        for participant in &system.participants {
            self = self.process("participants", participant.pid());
        }
        self
    }

    fn cpu(&self) -> BTreeMap<String, f64> {
        let mut all = BTreeMap::new();
        for (role, pid, family) in &self.0 {
            if let Some(seconds) = usage::cpu_seconds(*pid, *family) {
                *all.entry((*role).to_owned()).or_insert(0.0) += seconds;
            }
        }
        all
    }

    fn memory(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (role, pid, family) in &self.0 {
            if let Some(bytes) = usage::peak_memory(*pid, *family) {
                *all.entry((*role).to_owned()).or_insert(0) += bytes;
            }
        }
        all
    }
}

/// Has the load run, and watches what it costs and what goes over the wires.
pub(super) async fn measure(
    load: &mut Process,
    run: &Run,
    watched: &Watched,
    wires: &Wires,
) -> Result<Sample, Failure> {
    load.tell(run).await?;
    let said = load.hear().await?;
    let Report::Began = said else { return Err(load.unexpected(&said)) };
    let (before, traffic_before) = (watched.cpu(), wires.traffic()?);
    tokio::time::sleep(run.measure).await;
    let traffic = match (wires.traffic()?, traffic_before) {
        (Some(after), Some(before)) => Some(after.since(before)),
        _ => None,
    };
    let mut cpu = watched.cpu();
    for (role, seconds) in &mut cpu {
        *seconds -= before.get(role).copied().unwrap_or(0.0);
    }
    let said = load.hear().await?;
    let Report::Ended(measured) = said else { return Err(load.unexpected(&said)) };
    Ok(Sample { measured, log_syncs_per_tx: None, traffic, cpu, memory: watched.memory() })
}

/// The size of one measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Participants that do nothing.
    pub(super) participants: u16,
    /// How much is done at once.
    pub(super) in_flight: u32,
    /// For how long, after a warm-up.
    pub(super) measure: Duration,
}

/// Measures in the life of a coordinator of its own, from its start to its end, over which the log's forced
/// writes are counted. The work is made of transactions of branches that do nothing.
pub(super) async fn measure_life(
    place: &Place,
    load: &mut Process,
    size: Size,
    wires: &mut Wires,
    work: impl FnOnce(SubmitWork) -> Work,
) -> Result<Sample, Failure> {
    let before = place.forces().await?;
    let system = System::start(place, size.participants, wires).await?;
    let work = work(SubmitWork {
        coordinator: system.url.clone(),
        resources: system.resources(),
        operation: NOTHING.to_owned(),
    });
    let in_flight = usize::try_from(size.in_flight).unwrap_or(usize::MAX);
    let run = Run { work, in_flight, warm_up: warm_up(size.measure), measure: size.measure };
    let watched = Watched::default().process("load", load.pid()).system(&system, place);
    let mut sample = measure(load, &run, &watched, wires).await?;
    system.stop().await?;
    if let (Some(before), Some(after)) = (before, place.forces().await?) {
        sample.set_log_syncs(after - before);
    }
    Ok(sample)
}

/// The warm-up before a measurement.
pub(super) fn warm_up(measure: Duration) -> Duration {
    measure / 4
}
