//! What runs on the hosts of coordinators and banks. Each is one process: it starts with what is on
//! disk, and may end at any moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pactum::participant::SessionStatus;
use pactum::{Context, ContextLayer, Participant};
use pactum_coordinator::{Config, Coordinator};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{interval, sleep, timeout};
use tower::{Layer as _, ServiceExt as _};
use turmoil::net::{TcpListener, TcpStream};

use crate::bank::Bank;
use crate::log::SimulatedLog;
use crate::plan::Plan;
use crate::transport::{ADMIN_PORT, PUBLIC_PORT, connector, listeners};
use crate::world::{Phase, Report, World};

/// Where banks serve applications.
pub const BANK_PORT: u16 = 8000;

/// How often a process says how it is.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Longest request and answer of a bank, in bytes: headers, an empty line, and a change.
pub const MESSAGE_BYTES_MAX: u64 = 16 * 1024;

/// The host of a coordinator.
pub fn coordinator_name(place: usize) -> String {
    format!("coordinator-{place}")
}

/// The hosts of the banks' participants, each with its bank: the first bank may have two.
pub fn bank_hosts(plan: &Plan) -> Vec<(String, usize)> {
    let mut hosts: Vec<_> = (0..plan.banks).map(|bank| (format!("bank-{bank}"), bank)).collect();
    if plan.twin {
        hosts.push((String::from("bank-0-twin"), 0));
    }
    hosts
}

/// The resource that a bank is.
pub fn resource_name(bank: usize) -> String {
    format!("bank-{bank}")
}

/// The addresses that a process is given.
pub fn addresses(plan: &Plan) -> Vec<String> {
    let given = if plan.one_address { 1 } else { plan.coordinators };
    (0..given).map(|place| format!("http://{}:{PUBLIC_PORT}", coordinator_name(place))).collect()
}

/// Runs a coordinator until it is told to stop.
///
/// # Errors
/// It did not start, or a part of it ended unexpectedly.
pub async fn coordinator(world: Arc<World>, place: usize, log: SimulatedLog) -> turmoil::Result {
    let name = coordinator_name(place);
    let run = world.started(&name);
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let seen = Arc::clone(&world);
    let config = Config {
        listen: any(PUBLIC_PORT),
        admin_listen: any(ADMIN_PORT),
        advertise: Some(format!("{name}:{PUBLIC_PORT}")),
        unsafe_plaintext: true,
        unsafe_admin: true,
        shards: 2,
        observer: pactum_coordinator::observe::Observer::new(move |step| {
            seen.step("coordinator", step.name());
            tracing::debug!(gid = ?step.gid(), "{}", step.name());
        }),
        ..Config::default()
    };
    let coordinator = Coordinator::start(listeners().await?, Arc::new(log.of(place)), config)?;
    loop {
        tokio::select! {
            biased;
            error = coordinator.failed() => return Err(error.into()),
            () = sleep(REPORT_EVERY) => {}
        }
        let report = Report {
            open: coordinator.transactions_open(),
            violations: coordinator.violations(),
            run,
            ..Report::default()
        };
        world.report(&name, report);
        if world.is_told_to_stop(&name) {
            coordinator.stop().await?;
            return Ok(());
        }
    }
}

/// Runs a bank's participant, and its service, until it is told to stop.
///
/// # Errors
/// It did not start.
pub async fn bank(world: Arc<World>, name: String, place: usize) -> turmoil::Result {
    let run = world.started(&name);
    // Another purpose for each process, so that a restarted one does not repeat its troubles.
    let purpose = name.bytes().fold(run, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    let bank = Bank::connect(&resource_name(place), &world.banks[place], &world.plan, purpose);
    world.connected(&name, place, bank.session());
    let seen = Arc::clone(&world);
    let observer = pactum::observe::Observer::new(move |step| {
        seen.step("participant", step.name());
        tracing::debug!(gid = ?step.gid(), "{}", step.name());
    });
    let participant = Participant::builder(addresses(&world.plan))
        .connector(connector())
        .resource(bank.clone())
        .observer(observer)
        .start()
        .await?;
    let listener = TcpListener::bind(("0.0.0.0", BANK_PORT)).await?;
    let mut reports = interval(REPORT_EVERY);
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => {
                let (stream, _peer) = accepted?;
                let bank = bank.clone();
                // A caller that goes away must not take the work with it.
                tokio::spawn(async move { serve(stream, bank).await.ok() });
                continue;
            }
            _ = reports.tick() => {}
        }
        if world.phase() != Phase::Faults {
            bank.heal();
        }
        let report = Report {
            violations: participant.violations(),
            attached: participant
                .sessions()
                .iter()
                .filter(|session| SessionStatus::is_attached(session))
                .count(),
            run,
            ..Report::default()
        };
        world.report(&name, report);
        if world.is_told_to_stop(&name) {
            participant.shutdown().await;
            return Ok(());
        }
    }
}

/// Serves one request: header lines, an empty line, a change; answered in the same form.
async fn serve(mut stream: TcpStream, bank: Bank) -> anyhow::Result<()> {
    let mut text = String::new();
    let mut limited = (&mut stream).take(MESSAGE_BYTES_MAX);
    timeout(Duration::from_secs(10), limited.read_to_string(&mut text)).await??;
    let (headers, body) = read_message(&text)?;
    let mut request = http::Request::new(body);
    *request.headers_mut() = headers;
    // The very layer that a tonic or axum service has, around the work.
    let work = tower::service_fn(|request: http::Request<String>| {
        let bank = bank.clone();
        async move {
            let context = Context::current().ok_or("the request is in no transaction")?;
            let change = request.body().parse()?;
            let answer = match bank.work(&context, change).await {
                Ok(()) => String::from("done"),
                Err(why) => format!("refused: {why}"),
            };
            Ok::<_, &'static str>(http::Response::new(answer))
        }
    });
    let service = ContextLayer::server().layer(work);
    let answered = service.oneshot(request).await;
    let response = answered.map_err(anyhow::Error::msg)?;
    stream.write_all(message(response.headers(), response.body()).as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// A message as it travels.
pub fn message(headers: &http::HeaderMap, body: &str) -> String {
    let mut text = String::new();
    for (name, value) in headers {
        text.push_str(name.as_str());
        text.push_str(": ");
        text.push_str(value.to_str().unwrap_or_default());
        text.push('\n');
    }
    text.push('\n');
    text.push_str(body);
    text
}

/// Reads one.
///
/// # Errors
/// It is not whole: the connection has ended before.
pub fn read_message(text: &str) -> anyhow::Result<(http::HeaderMap, String)> {
    let mut headers = http::HeaderMap::new();
    let mut rest = text;
    loop {
        let (line, after) = rest.split_once('\n').ok_or_else(|| anyhow::anyhow!("half a message"))?;
        rest = after;
        if line.is_empty() {
            return Ok((headers, rest.to_owned()));
        }
        let (name, value) = line.split_once(": ").ok_or_else(|| anyhow::anyhow!("half a header"))?;
        headers.append(http::HeaderName::try_from(name)?, http::HeaderValue::try_from(value)?);
    }
}
