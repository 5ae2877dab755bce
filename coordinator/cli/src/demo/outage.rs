//! `pactum demo outage`: the night of an operator, set up for practice.
//!
//! Four banks with a PostgreSQL database each, one coordinator, and three transactions that need a
//! person, each for another reason:
//!
//! | transaction | what happened | what is true |
//! |---|---|---|
//! | `invoice` | bank-b was killed when it was told | commit is decided; bank-b holds it prepared |
//! | `payroll` | bank-c was killed before its vote | nothing is decided; bank-a holds it prepared |
//! | `refund` | bank-d's branch was rolled back by hand | commit was decided: the outcome is mixed |
//!
//! The scene stays until it is interrupted. Lines on stdin start what was killed: `start bank-b`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use pactum::{Pactum, Transaction};
use pactum_core::id::Gid;
use pactum_proto::v1;
use pactum_proto::v1::admin_service_client::AdminServiceClient;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use super::place::{OUTAGE_BANKS, Place};
use super::process::{FREE, Life, Orders, Process, Seen};
use super::steps::COORDINATOR;
use super::wire::{BankOrders, CoordinatorOrders, KillAt, Reporting};
use super::workload::BankClient;
use crate::command::demo::Outage;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::gid_tail;

/// No bank that is gone is given up within this, and no transaction ends by time: the scene is to
/// stay as it is for as long as somebody practises on it.
const STAYS: Duration = Duration::from_hours(1);

/// Longest wait for one part of the scene.
const SET_WITHIN: Duration = Duration::from_mins(1);

/// Between two looks at whether a part of the scene is there.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Accounts of each bank, and connections of its pool.
const ACCOUNTS: u32 = 4;
const CONNECTIONS: u32 = 4;

/// Where a coordinator serves operators if nobody says otherwise: then no command needs `--server`.
const USUAL: (u16, u16) = (7600, 7601);

/// The scene, as it is told.
#[derive(Debug, Serialize)]
struct Scene {
    demo: &'static str,
    /// The coordinator's admin address.
    server: String,
    /// The decision log.
    log: String,
    /// Each bank's database.
    databases: BTreeMap<String, String>,
    transactions: Vec<Troubled>,
}

/// A transaction that needs a person.
#[derive(Debug, Serialize)]
struct Troubled {
    name: &'static str,
    gid: String,
    happened: &'static str,
    /// What to look at and what to try, as commands.
    exercises: Vec<String>,
}

/// Sets the scene, and keeps it until it is interrupted.
pub(crate) async fn run(options: Outage, output: &Output) -> Result<Exit, Failure> {
    let interrupted = super::run::interrupted()?;
    tokio::pin!(interrupted);
    let url = options.postgres.unwrap_or_default();
    let place = tokio::select! {
        place = Place::postgres(&url, &OUTAGE_BANKS, ACCOUNTS, CONNECTIONS) => place?,
        () = &mut interrupted => return Ok(Exit::Interrupted),
    };
    let tasks = TaskTracker::new();
    let result = tokio::select! {
        result = play(&place, &tasks, output) => result,
        // That is how it is meant to end.
        () = &mut interrupted => Ok(Exit::Ok),
    };
    tasks.close();
    tasks.wait().await;
    let removed = place.remove().await;
    let exit = result?;
    removed.map(|()| exit)
}

/// Everybody of the scene. Dropped, all end.
struct Cast {
    admin: AdminServiceClient<Channel>,
    server: String,
    banks: BTreeMap<&'static str, Process>,
    clients: BTreeMap<&'static str, BankClient>,
    pactum: Pactum,
    _coordinator: Process,
}

async fn play(place: &Place, tasks: &TaskTracker, output: &Output) -> Result<Exit, Failure> {
    // Nobody reads the steps; the channel must exist for as long as the children do.
    let (seen, _steps) = mpsc::unbounded_channel();
    let cast = Cast::start(place, &seen, tasks).await?;
    let invoice = cast.invoice().await?;
    let payroll = cast.payroll().await?;
    let refund = cast.refund(place).await?;
    let scene = Scene {
        demo: "outage",
        server: cast.server.clone(),
        log: place.told_url("log"),
        databases: OUTAGE_BANKS.iter().map(|bank| ((*bank).to_owned(), place.told_url(bank))).collect(),
        transactions: vec![invoice, payroll, refund],
    };
    tell(&scene, output)?;
    cast.hear(output).await;
    // Stdin has ended: a script, or a terminal that is gone. The scene stays until a signal.
    std::future::pending().await
}

impl Cast {
    async fn start(
        place: &Place,
        seen: &mpsc::UnboundedSender<Seen>,
        tasks: &TaskTracker,
    ) -> Result<Self, Failure> {
        let (listen, admin_listen) = addresses().await;
        let orders = Orders::Coordinator(CoordinatorOrders {
            log: place.log_url(),
            listen,
            admin_listen,
            scratch: None,
            participant_grace: Some(STAYS),
            reporting: Reporting { transactions: 0, kill_at: None },
        });
        let coordinator = Process::start(COORDINATOR, orders, Life::AtOnce, seen, tasks);
        let (public, Some(admin)) = coordinator.up().await? else {
            return Err(Failure::new(Exit::Failed, "the coordinator did not say where it serves operators"));
        };
        let mut banks = BTreeMap::new();
        for bank in OUTAGE_BANKS {
            // Which of them dies, and at which step of its first transaction.
            let dies_at = match bank {
                // Not when its vote has left: it may be lost with the process.
                "bank-b" | "bank-d" => Some("decision-received"),
                "bank-c" => Some("prepare-received"),
                _ => None,
            };
            let kill_at = dies_at.map(|step| KillAt { step: step.to_owned(), nth: 1 });
            let orders = Orders::Bank(BankOrders {
                name: bank.to_owned(),
                coordinator: format!("http://{public}"),
                listen: FREE,
                store: place.store(bank),
                reporting: Reporting { transactions: 0, kill_at },
            });
            banks.insert(bank, Process::start(bank, orders, Life::WhenTold, seen, tasks));
        }
        let mut clients = BTreeMap::new();
        for (bank, process) in &banks {
            clients.insert(*bank, BankClient::new(format!("http://{}", process.up().await?.0)));
        }
        let server = format!("http://{admin}");
        let cannot_connect = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(Exit::CannotConnect, "no connection to the demo's coordinator").because(error)
        };
        let pactum =
            Pactum::connect(format!("http://{public}")).await.map_err(|error| cannot_connect(&error))?;
        let admin =
            AdminServiceClient::connect(server.clone()).await.map_err(|error| cannot_connect(&error))?;
        Ok(Self { admin, server, banks, clients, pactum, _coordinator: coordinator })
    }

    /// Debits one bank and credits another, in one transaction that nobody has committed yet. Of an
    /// account of its own: another's may be locked for as long as the scene stays.
    async fn moved(
        &self,
        name: &'static str,
        account: u32,
        (from, to): (&str, &str),
    ) -> Result<Transaction, Failure> {
        let failed = |what: String| Failure::new(Exit::Failed, format!("{name}: {what}"));
        let tx = self
            .pactum
            .begin()
            .name(name)
            .label("shift", "night")
            .timeout(STAYS)
            .await
            .map_err(|error| failed(error.to_string()))?;
        for (bank, amount) in [(from, -100), (to, 100)] {
            let client = &self.clients[bank];
            client
                .change_within(&tx, account, amount)
                .await
                .map_err(|ending| failed(format!("{ending:?}")))?;
        }
        Ok(tx)
    }

    /// Decided, and one bank has not carried it out: it was killed the moment it was told.
    async fn invoice(&self) -> Result<Troubled, Failure> {
        let gid = self.commit("invoice", 1, "bank-b").await?;
        let tail = gid_tail(gid);
        Ok(Troubled {
            name: "invoice",
            gid: gid.to_string(),
            happened: "commit is decided; bank-b was killed when it was told so, and holds its branch prepared",
            exercises: vec![
                format!("pactum tx show {tail}"),
                format!(
                    "pactum tx resolve {tail} --reason practice --dry-run   # refused: the log says commit"
                ),
                "start bank-b   # type it here: the branch ends by itself".to_owned(),
            ],
        })
    }

    /// Undecided: one bank was killed before its vote, and the other one holds its locks meanwhile.
    async fn payroll(&self) -> Result<Troubled, Failure> {
        let tx = self.moved("payroll", 2, ("bank-a", "bank-c")).await?;
        let gid = tx.id().gid;
        // It is told when a person resolves it. Nobody waits for it here: it may take for ever.
        tokio::spawn(async move { drop(tx.commit().await) });
        self.until("bank-a's vote", gid, |seen| {
            seen.state() == v1::TransactionState::Preparing
                && seen.branches.iter().any(|branch| branch.vote == "commit")
        })
        .await?;
        self.down("bank-c").await;
        let tail = gid_tail(gid);
        Ok(Troubled {
            name: "payroll",
            gid: gid.to_string(),
            happened: "nothing is decided: bank-c was killed before its vote; bank-a holds its branch and its locks",
            exercises: vec![
                format!("pactum tx show {tail}"),
                format!(
                    "pactum tx overrule {tail} --resource bank-a --commit --reason practice --dry-run   # refused: undecided"
                ),
                format!("pactum tx resolve {tail} --reason practice"),
            ],
        })
    }

    /// Decided, and somebody rolled one branch back by hand.
    async fn refund(&self, place: &Place) -> Result<Troubled, Failure> {
        let gid = self.commit("refund", 3, "bank-d").await?;
        place.roll_back_by_hand("bank-d", gid).await?;
        self.banks["bank-d"].again();
        self.banks["bank-d"].up().await?;
        self.until("the heuristic outcome", gid, |seen| seen.heuristic() != v1::BranchOutcome::Unspecified)
            .await?;
        let tail = gid_tail(gid);
        Ok(Troubled {
            name: "refund",
            gid: gid.to_string(),
            happened: "commit was decided; bank-d's branch was rolled back by hand in psql: half of it happened",
            exercises: vec![
                "pactum heuristic list".to_owned(),
                format!("pactum tx show {tail}"),
                format!(
                    "pactum tx forget {tail} --reason \"corrected by hand\"   # once the books are set right"
                ),
            ],
        })
    }

    /// A transaction between bank-a and another that dies when it is told of the decision: decided, and
    /// finished at bank-a alone.
    async fn commit(&self, name: &'static str, account: u32, dies: &str) -> Result<Gid, Failure> {
        let tx = self.moved(name, account, ("bank-a", dies)).await?;
        let gid = tx.id().gid;
        let told = tx.commit().await;
        told.map_err(|error| Failure::new(Exit::Failed, format!("{name} was not committed: {error}")))?;
        self.down(dies).await;
        self.until("bank-a's branch to end", gid, |seen| {
            seen.state() == v1::TransactionState::Committing
                && seen.branches.iter().any(|branch| branch.outcome() == v1::BranchOutcome::Committed)
        })
        .await?;
        Ok(gid)
    }

    async fn down(&self, bank: &str) {
        self.banks[bank].down().await;
    }

    /// Waits until the coordinator shows a transaction so.
    async fn until(
        &self,
        what: &str,
        gid: Gid,
        is_so: impl Fn(&v1::Transaction) -> bool,
    ) -> Result<(), Failure> {
        let limit = Instant::now() + SET_WITHIN;
        loop {
            let request = v1::InspectTransactionRequest { gid: gid.to_string(), examine: false };
            let shown = self.admin.clone().inspect_transaction(request).await;
            if let Ok(shown) = &shown
                && shown.get_ref().transaction.as_ref().is_some_and(&is_so)
            {
                return Ok(());
            }
            if Instant::now() >= limit {
                return Err(Failure::new(Exit::Failed, format!("the scene waits for {what} in vain"))
                    .cause(format!("{shown:?}")));
            }
            sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// Does what is typed, until stdin ends.
    async fn hear(&self, output: &Output) {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["start", bank] if self.banks.contains_key(bank) => {
                    self.banks[bank].again();
                    match self.banks[bank].up().await {
                        Ok(_) => output.note(format_args!("{bank} is up")),
                        Err(failure) => output.failure(&failure),
                    }
                }
                _ => output.note("type: start bank-b (or bank-c); Ctrl-C ends the scene"),
            }
        }
    }
}

/// The usual ports if both are free, else any.
async fn addresses() -> (SocketAddr, SocketAddr) {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (public, admin) = (at(USUAL.0), at(USUAL.1));
    let free = TcpListener::bind(public).await.is_ok() && TcpListener::bind(admin).await.is_ok();
    if free { (public, admin) } else { (FREE, FREE) }
}

fn tell(scene: &Scene, output: &Output) -> Result<(), Failure> {
    if !output.for_people() {
        return output.document(scene);
    }
    output.text(format_args!("console  {}", scene.server))?;
    if scene.server != format!("http://127.0.0.1:{}", USUAL.1) {
        output.text(format_args!("first    export PACTUM_SERVER={}", scene.server))?;
    }
    output.text(format_args!("log      {}", scene.log))?;
    for (bank, url) in &scene.databases {
        output.text(format_args!("{bank}   {url}"))?;
    }
    for troubled in &scene.transactions {
        output.text(format_args!("\n{}  {}\n  {}", troubled.gid, troubled.name, troubled.happened))?;
        for exercise in &troubled.exercises {
            output.text(format_args!("    {exercise}"))?;
        }
    }
    output.text(
        "\nafterwards\n    pactum tx list --in-doubt\n    pactum audit list\n    pactum audit verify\n\n\
         The scene stays until Ctrl-C, and then everything of it is removed.",
    )
}
