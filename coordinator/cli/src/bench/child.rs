//! What a child of `pactum bench` does: reads its orders, does what it is for, ends with its stdin.

use pactum::resource::{
    BranchContext, BranchOutcome, Evidence, HookError, Operation, Prepared, PreparedBranch, Registration,
};
use pactum::{AbortReason, Cluster, Participant, Resource, ResourceName};
use pactum_coordinator::Config;
use pactum_coordinator::config::LogUrl;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin};

use super::wire::{CoordinatorOrders, IdleOrders, Orders, Report};
use super::{bank, flood, keeper, load, opener, phased};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::server::Running;

/// Runs until stdin ends, which it does when the parent stops us and also when the parent is killed.
pub(crate) async fn run() -> Result<Exit, Failure> {
    let mut parent = Parent { lines: BufReader::new(tokio::io::stdin()).lines() };
    let nobody = || Failure::usage("this command is a part of `pactum bench` and gets its orders from it");
    let orders = parent.next().await?.ok_or_else(nobody)?;
    let result = match orders {
        Orders::Coordinator(orders) => coordinator(orders, &mut parent).await,
        Orders::Idle(orders) => idle(orders, &mut parent).await,
        Orders::Bank(orders) => bank::run(orders, &mut parent).await,
        Orders::Keeper(orders) => keeper::run(orders, &mut parent).await,
        Orders::Load => load::run(&mut parent).await,
        Orders::Phased(orders) => phased::run(orders, &mut parent).await,
        Orders::Opener(orders) => opener::run(orders, &mut parent).await,
        Orders::Flood(orders) => flood::run(orders, &mut parent).await,
    };
    if let Err(failure) = &result {
        parent.report(&Report::Failed { error: failure.to_string() }).await?;
    }
    result.map(|()| Exit::Ok)
}

/// The other end of stdin and stdout.
pub(super) struct Parent {
    lines: Lines<BufReader<Stdin>>,
}

impl Parent {
    /// The next line; `None` at the end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let unclear = || Failure::usage("that is not what `pactum bench` tells its children");
        let line = self.lines.next_line().await.map_err(|error| unclear().because(&error))?;
        // What cannot be read is not shown: it may hold a password.
        line.map(|line| serde_json::from_str(&line).map_err(|_maybe_secret| unclear())).transpose()
    }

    /// Waits for the end of stdin.
    pub(super) async fn gone(&mut self) {
        while let Ok(Some(_)) = self.lines.next_line().await {}
    }

    /// Tells something.
    pub(super) async fn report(&mut self, report: &Report) -> Result<(), Failure> {
        let gone = || Failure::new(Exit::Failed, "nobody hears reports");
        let mut line = serde_json::to_vec(report).map_err(|error| gone().because(&error))?;
        line.push(b'\n');
        let mut stdout = tokio::io::stdout();
        let written = async {
            stdout.write_all(&line).await?;
            stdout.flush().await
        };
        written.await.map_err(|error| gone().because(&error))
    }
}

async fn coordinator(orders: CoordinatorOrders, parent: &mut Parent) -> Result<(), Failure> {
    let usual = Config::default();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        log: Some(LogUrl::new(orders.log)),
        listen: orders.listen,
        admin_listen: any,
        prepare_record_after: orders.prepare_record_after.unwrap_or(usual.prepare_record_after),
        // Twice what `bench open` opens at most: each shard has its share, and no two have equally many.
        transactions_open_max: usual.transactions_open_max * 2,
        ..usual
    };
    let running = Running::start(config).await?;
    let addresses = running.addresses();
    let address = |url: &str| {
        let text = url.rsplit('/').next().unwrap_or(url);
        text.parse().map_err(|error| {
            Failure::new(Exit::Failed, format!("{url} does not end with an address")).because(&error)
        })
    };
    let (public, admin) = (Some(address(&addresses.public)?), Some(address(&addresses.admin)?));
    parent.report(&Report::Ready { public, admin }).await?;
    parent.gone().await;
    running.stop().await
}

async fn idle(orders: IdleOrders, parent: &mut Parent) -> Result<(), Failure> {
    let name = ResourceName::new(&orders.resource).map_err(|error| not_started(&error))?;
    participate(Idle { name }, orders.coordinator, parent).await
}

/// Attaches a participant with that resource, reports, and serves until the parent is gone.
pub(super) async fn participate(
    resource: impl Resource,
    coordinator: String,
    parent: &mut Parent,
) -> Result<(), Failure> {
    let started = Participant::builder([coordinator]).resource(resource).start().await;
    let participant = started.map_err(|error| not_started(&error))?;
    participant.attached().await;
    parent.report(&Report::Ready { public: None, admin: None }).await?;
    parent.gone().await;
    participant.shutdown().await;
    Ok(())
}

/// Why there is no participant.
pub(super) fn not_started(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(Exit::Failed, "the participant could not be started").because(error)
}

/// The operation that is refused: the branch votes no.
pub(super) const REFUSE: &str = "refuse";
/// The operation that only reads.
pub(super) const READ: &str = "read";
/// The operation that is promised and does nothing.
pub(super) const NOTHING: &str = "nothing";

/// A resource without anything behind it: what is measured with it is Pactum alone.
struct Idle {
    name: ResourceName,
}

impl Resource for Idle {
    fn name(&self) -> &ResourceName {
        &self.name
    }

    async fn check(&self) -> Result<Registration, HookError> {
        Ok(Registration::new(format!("idle:{}", self.name)))
    }

    async fn prepare(
        &self,
        _branch: &BranchContext,
        operation: Option<&Operation>,
    ) -> Result<Prepared, AbortReason> {
        match operation.map(|operation| operation.name.as_ref()) {
            Some(REFUSE) => Err(AbortReason::new(pactum::AbortKind::VotedNo, "refused, as it was asked to")),
            Some(READ) => Ok(Prepared::ReadOnly),
            // As long as those of PostgreSQL: the row in the log is to have its real size.
            _ => Ok(Prepared::Yes(Evidence::new("18446744073", "7412345678901234567/1/0-1A2B3C4D"))),
        }
    }

    async fn commit(
        &self,
        _branch: &BranchContext,
        _decided: &Evidence,
        _prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        Ok(BranchOutcome::Committed)
    }

    async fn abort(
        &self,
        _branch: &BranchContext,
        _prepared: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        Ok(BranchOutcome::Aborted)
    }

    async fn recover(&self, _cluster: &Cluster) -> Result<Vec<PreparedBranch>, HookError> {
        Ok(Vec::new())
    }
}
