//! The inside of the child processes: a coordinator or a bank over the libraries, with an
//! observer that kills or stops the process at a chosen step.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use pactum::context::Context;
use pactum::participant::{Participant, SessionState, SessionStatus};
use pactum::resource::PostgresResource;
use pactum_coordinator::{Coordinator, Listeners, open_log};
use rustix::process::{Signal, getpid, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::bank::{self, Entry};
use crate::cluster;

/// What the parent writes to let a process that stopped itself go on.
pub(crate) const GO_ON: u8 = b'g';

/// Whether the parent has written it.
static RESUMED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// What a child was asked to be.
#[derive(Debug, Default)]
struct Arguments {
    role: String,
    listen: String,
    log: String,
    name: String,
    database: String,
    coordinator: String,
    markers: bool,
    trap: Option<Trap>,
}

/// The step to die or stop at.
#[derive(Clone, Debug)]
struct Trap {
    step: String,
    nth: u32,
    signal: Signal,
    passed: Arc<AtomicU32>,
}

impl Trap {
    fn new(text: &str, signal: Signal) -> anyhow::Result<Self> {
        let (step, nth) = text.split_once(':').context("STEP:N is needed")?;
        Ok(Self { step: step.to_owned(), nth: nth.parse()?, signal, passed: Arc::default() })
    }

    /// To be called at each step. Does not return from the one where the process dies.
    fn spring(&self, step: &str) {
        if step == self.step && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
            kill_process(getpid(), self.signal).expect("a process may signal itself");
            // The signal may reach another thread first, and this one must not go on meanwhile:
            // after a kill never, after a stop not until the parent says so.
            let mut resumed = RESUMED.0.lock().unwrap_or_else(PoisonError::into_inner);
            while !*resumed {
                resumed = RESUMED.1.wait(resumed).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Runs the role that the arguments name, until standard input ends.
///
/// # Errors
/// The arguments, or the role cannot start.
pub fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let arguments = parse(arguments)?;
    let filter = tracing_subscriber::EnvFilter::new("info,sqlx=warn");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    std::thread::spawn(|| {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {
            if byte == [GO_ON] {
                *RESUMED.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                RESUMED.1.notify_all();
            }
        }
        std::process::exit(0); // whoever started this is gone
    });
    tokio::runtime::Runtime::new()?.block_on(async {
        match arguments.role.as_str() {
            "coordinator" => coordinator(arguments).await,
            "bank" => serve_bank(arguments).await,
            other => bail!("there is no role {other:?}"),
        }
    })
}

fn parse(mut given: impl Iterator<Item = String>) -> anyhow::Result<Arguments> {
    let mut arguments = Arguments { role: given.next().context("a role is needed")?, ..Arguments::default() };
    while let Some(name) = given.next() {
        if name == "--markers" {
            arguments.markers = true;
            continue;
        }
        let value = given.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--listen" => arguments.listen = value,
            "--log" => arguments.log = value,
            "--name" => arguments.name = value,
            "--database" => arguments.database = value,
            "--coordinator" => arguments.coordinator = value,
            "--kill-at" => arguments.trap = Some(Trap::new(&value, Signal::KILL)?),
            "--pause-at" => arguments.trap = Some(Trap::new(&value, Signal::STOP)?),
            other => bail!("there is no argument {other:?}"),
        }
    }
    Ok(arguments)
}

async fn coordinator(arguments: Arguments) -> anyhow::Result<()> {
    let mut config = cluster::config();
    config.listen = arguments.listen.parse()?;
    config.finished_bound = Duration::from_secs(5);
    if let Some(trap) = arguments.trap {
        config.observer = pactum_coordinator::observe::Observer::new(move |step| trap.spring(step.name()));
    }
    let log = open_log(&arguments.log).await?;
    let listeners = Listeners::bind(&config).await?;
    let coordinator = Coordinator::start(listeners, log, config)?;
    coordinator.ready().await;
    ready(coordinator.public_addr());
    Err(coordinator.failed().await.into())
}

async fn serve_bank(arguments: Arguments) -> anyhow::Result<()> {
    let resource = bank::resource(&arguments.name, &arguments.database, arguments.markers).await;
    let coordinators: Vec<String> = arguments.coordinator.split(',').map(Into::into).collect();
    let mut builder = Participant::builder(coordinators).resource(resource.clone());
    if let Some(trap) = arguments.trap {
        builder = builder.observer(pactum::observe::Observer::new(move |step| trap.spring(step.name())));
    }
    let listener = TcpListener::bind(&arguments.listen).await?;
    let participant = builder.start().await?;
    attached_everywhere(&participant).await;
    ready(listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        let resource = resource.clone();
        tokio::spawn(async move { answer(socket, &resource).await });
    }
}

/// Waits for a session, and a while for one to each coordinator: one may be down or stopped.
pub(crate) async fn attached_everywhere(participant: &Participant) {
    participant.attached().await;
    let all = async {
        let up = |status: &SessionStatus| matches!(status.state, SessionState::Attached { .. });
        while !participant.sessions().iter().all(up) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(5), all).await);
}

/// Tells the parent. Standard output carries nothing else.
fn ready(address: SocketAddr) {
    #[expect(clippy::print_stdout, reason = "the parent reads it")]
    {
        println!("ready {address}");
    }
}

/// The bank's own protocol: `CONTEXT KEY ACCOUNT AMOUNT` on a line; the answer is a line
/// `ENLISTED ok` or `ENLISTED what is wrong`, where `ENLISTED` is the header or `-`.
async fn answer(socket: TcpStream, resource: &PostgresResource) {
    let (reader, mut writer) = socket.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer =
            match line.split_once(' ').map(|(header, rest)| (Context::parse(header), Entry::parse(rest))) {
                Some((Ok(context), Some(entry))) => {
                    let result = work(resource, &context, &entry).await;
                    let enlisted: Vec<String> = context.enlisted().iter().map(name_branch).collect();
                    let enlisted = if enlisted.is_empty() { "-".into() } else { enlisted.join(",") };
                    let result =
                        result.map_or_else(|error| error.to_string().replace('\n', " "), |()| "ok".into());
                    format!("{enlisted} {result}\n")
                }
                _ => "- the request is malformed\n".into(),
            };
        if writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn work(resource: &PostgresResource, context: &Context, entry: &Entry) -> anyhow::Result<()> {
    let mut branch = resource.begin(context).await?;
    bank::apply(&mut branch, entry).await?;
    Ok(branch.enlist().await?)
}

/// As in the header `pactum-enlisted`.
pub(crate) fn name_branch(branch: &pactum::Branch) -> String {
    let (instance, marker) = (branch.instance.as_uuid().simple(), u8::from(branch.marker));
    format!("{}:{}:{instance}:{marker}", branch.id, branch.resource)
}

/// Reads what [`name_branch`] wrote.
pub(crate) fn read_branch(text: &str) -> Option<pactum::Branch> {
    let mut parts = text.split(':');
    let mut next = || parts.next();
    let branch = pactum::Branch {
        id: next()?.parse().ok()?,
        resource: next()?.parse().ok()?,
        instance: next()?.parse().ok()?,
        marker: next()? == "1",
    };
    parts.next().is_none().then_some(branch)
}
