//! One process of a bank: a participant over the SDK, and the bank's own service.

use std::sync::Arc;
use std::time::Duration;

use pactum::Context;
use pactum::observe::{Observer, Step};
use pactum::participant::Participant;
use pactum::resource::{NoVote, PostgresResource};
use sqlx::PgConnection;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{Shared, ready};
use crate::gauntlet::arguments::RoleArguments;
use crate::gauntlet::ledger::{self, Leg, MOVE, REFUSE};
use crate::role::name_branch;

/// Local transactions that are open at once.
///
/// Fewer without optimisation: each then costs a good part of a second of arithmetic on passwords, and
/// all are made again whenever their server or their process was killed.
const CONNECTIONS_MAX: u32 = if cfg!(debug_assertions) { 16 } else { 100 };
/// Between two reports.
const REPORT: Duration = Duration::from_millis(100);

pub(super) async fn run(arguments: RoleArguments, shared: Arc<Shared>) -> anyhow::Result<()> {
    let pool = ledger::pool(&arguments.database, CONNECTIONS_MAX)?;
    let resource = PostgresResource::new(&arguments.name, pool)?
        .operation(MOVE, |bank, payload| Box::pin(async move { one_shot(bank, &payload).await }))
        .operation(REFUSE, |bank, payload| {
            Box::pin(async move {
                one_shot(bank, &payload).await?;
                Err(NoVote::new("the account is frozen"))
            })
        });
    let participant = loop {
        let observer = Arc::clone(&shared);
        let builder = Participant::builder(arguments.coordinators.clone())
            .resource(resource.clone())
            .observer(Observer::new(move |step| saw(&observer, step)));
        match builder.start().await {
            Ok(participant) => break participant,
            // Its database may have been killed just now.
            Err(error) => tracing::warn!(%error, "the participant cannot start yet"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    ready(listener.local_addr()?);
    let serve = async {
        loop {
            let (socket, _) = listener.accept().await?;
            let resource = resource.clone();
            tokio::spawn(async move { answer(socket, &resource).await });
        }
    };
    let reports = async {
        let mut every = tokio::time::interval(REPORT);
        loop {
            every.tick().await;
            shared.reporter.update(|status| status.violations = participant.violations());
        }
    };
    tokio::select! {
        result = serve => return result,
        () = reports => {}
        () = shared.end.cancelled() => {}
    }
    participant.shutdown().await;
    Ok(())
}

/// Keeps the count of what is in flight: from Prepare, or from being found prepared, to the
/// acknowledgement.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others begin or end nothing, whatever is added")]
fn saw(shared: &Shared, step: &Step) {
    match step {
        Step::PrepareReceived { gid, .. } | Step::InquirySent { gid, .. } => shared.reporter.began(*gid),
        Step::Prepared { gid, .. } => shared.reporter.promised(*gid),
        // One that voted without a promise has nothing to wait for.
        Step::VoteSent { gid, .. } => shared.reporter.ended_unless_promised(*gid),
        Step::AckSent { gid, .. } => shared.reporter.ended(*gid),
        _ => {}
    }
    if let Step::RecoveryScanned { found, .. } = step {
        if *found > 0 {
            shared.passed_having_found(*found as u64, step.name());
        }
    } else {
        shared.passed(step.name());
    }
}

/// The bank's own protocol, as [`crate::role`] has it: `CONTEXT LEG` on a line; the answer is a
/// line `ENLISTED ok` or `ENLISTED what is wrong`.
async fn answer(socket: TcpStream, resource: &PostgresResource) {
    let (reader, mut writer) = socket.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let parsed = line.split_once(' ').map(|(header, rest)| (Context::parse(header), Leg::parse(rest)));
        let answer = if let Some((Ok(context), Some(leg))) = parsed {
            let result = work(resource, &context, &leg).await;
            let enlisted: Vec<String> = context.enlisted().iter().map(name_branch).collect();
            let enlisted = if enlisted.is_empty() { "-".into() } else { enlisted.join(",") };
            let result =
                result.map_or_else(|error| format!("{error:#}").replace('\n', " "), |()| "ok".into());
            format!("{enlisted} {result}\n")
        } else {
            "- the request is malformed\n".into()
        };
        if writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn work(resource: &PostgresResource, context: &Context, leg: &Leg) -> anyhow::Result<()> {
    let mut branch = resource.begin(context).await?;
    ledger::apply(&mut branch, leg).await?;
    Ok(branch.enlist().await?)
}

async fn one_shot(bank: &mut PgConnection, payload: &[u8]) -> Result<(), NoVote> {
    let leg = std::str::from_utf8(payload).ok().and_then(Leg::parse);
    let leg = leg.ok_or_else(|| NoVote::new("the payload is not a leg"))?;
    Ok(ledger::apply(bank, &leg).await?)
}
