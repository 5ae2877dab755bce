//! Phase 1: the promise.
//!
//! `PREPARE TRANSACTION` in a failed transaction, or outside of one, answers *success* (with
//! the tag ROLLBACK, which sqlx does not show; `failure-matrix` C6, seen). So the proof is made
//! before it, in the same simple-protocol message: the first statement fails if the transaction
//! has failed or is not the branch's own any more, and then the server runs nothing of the rest.
//!
//! ```text
//! SELECT 1/(the guard)::int;        -- 25P02 or 22012 here ends the message
//! PREPARE TRANSACTION 'pactum:…';
//! BEGIN;                            -- so that an ordinary rollback follows
//! SELECT <position>                 -- a WAL position at or after the PREPARE
//! ```
//! The server reads and plans this text for every branch, so all else is asked before, when the work is done, by
//! a statement that it plans once for each session. Where nobody can have touched the session since, as in an
//! operation, `SAVEPOINT` is guard enough: it fails in a failed transaction (25P02) and outside of one (25P01),
//! and there is nothing to plan.

use std::time::{Duration, Instant};

use pactum_core::id::PreparedName;
use pactum_core::vote::{AbortKind, AbortReason};

use sqlx::Row as _;

use super::begin::LocalTransaction;
use super::control::bounded;
use super::evidence::{self, ANCHOR_POSITION, Anchor, XidStatus};
use super::operation;
use super::sql::{self, Refused, Sql, abort_reason, guard, is_lost, simple, synchronous};
use super::{Inner, Open, marker};
use crate::resource::{BranchContext, Prepared};

/// How long after the deadline a lost PREPARE is still pursued. The vote is no in any case;
/// what is left then is found by the next scan.
const PURSUIT_GRACE: Duration = Duration::from_secs(10);

/// Between two looks at a backend that has not ended yet: first and longest.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What the local transaction is, once its work is done.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// The 64-bit xid; `None` if the branch may vote read-only.
    pub(super) xid: Option<u64>,
    /// The session's process at the server.
    pub(super) pid: i32,
    /// The server's system identifier and timeline, as they are while it takes writes: a session that
    /// could write sees no other before it ends. `None` at a standby.
    pub(super) server: Option<(String, String)>,
}

/// Text that does not change, so that the server plans it once for each session: it is asked in every
/// branch. The guard stands first, and what follows is not evaluated if it fails. No table is named: its lock
/// would be one more to be prepared, and let go of at the end.
///
/// The server's identity is kept in a setting of the session, since reading it from the control file costs
/// more than all else here. The setting lives and dies with the server's own session, whoever is connected to
/// it, and while that can write, neither the system identifier nor the timeline changes. The timeline comes from
/// the WAL file's name: what `pg_control_checkpoint` says is as old as the last checkpoint.
///
/// Nothing follows in this transaction but its PREPARE, whose wait for a standby must not be cut short: a
/// cancelled one says success.
const PROBE: &str = concat!(
    "\
SELECT 1/(current_setting('pactum.branch', true) IS NOT DISTINCT FROM $1)::int, \
       pg_current_xact_id_if_assigned()::text, \
       current_setting('transaction_read_only')::bool, \
       pg_backend_pid(), \
       CASE WHEN NOT pg_is_in_recovery() THEN coalesce( \
           nullif(current_setting('pactum.server', true), ''), \
           set_config('pactum.server', (pg_control_system()).system_identifier::text || ' ' || \
               substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), false)) END, \
       set_config('statement_timeout', '0', true), ",
    synchronous!()
);

/// Assigns an xid where a write could have left none: through a foreign server.
const XID_IF_FOREIGN: &str = "\
SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_foreign_server) THEN pg_current_xact_id()::text END";

/// Looks at a local transaction whose work is done: fails now rather than at Prepare if it
/// cannot be prepared, and finds its xid.
///
/// The branch may vote read-only if no xid was assigned and either it began and still is READ
/// ONLY, or the database has no foreign servers: a write through `postgres_fdw` leaves the xid
/// null (`failure-matrix` C9, H7, seen). Else an xid is assigned here, so that the fate of a
/// PREPARE can be looked up even if its answer is lost.
pub(super) async fn probe(local: &mut LocalTransaction) -> Result<Probe, AbortReason> {
    let (name, begun_read_only) = (local.name.to_string(), local.options.is_read_only());
    let looked = async {
        let row = sqlx::query(PROBE).bind(name).fetch_one(local.connection()).await?;
        let (mut xid, still_read_only): (Option<String>, bool) = (row.try_get(1)?, row.try_get(2)?);
        if xid.is_none() && !(begun_read_only && still_read_only) {
            xid = sqlx::query_scalar(XID_IF_FOREIGN).fetch_one(local.connection()).await?;
        }
        let server: Option<String> = row.try_get(4)?;
        Ok(Probe {
            xid: xid.as_deref().map(number).transpose()?,
            pid: row.try_get(3)?,
            server: server.and_then(|server| {
                server.split_once(' ').map(|(system, timeline)| (system.to_owned(), timeline.to_owned()))
            }),
        })
    };
    match looked.await {
        Ok(probe) => Ok(probe),
        Err(error) => Err(abort_reason("the branch cannot be prepared", &error)),
    }
}

fn number<N>(text: &str) -> Result<N, sqlx::Error>
where
    N: std::str::FromStr<Err = std::num::ParseIntError>,
{
    text.parse().map_err(|error| sqlx::Error::Protocol(format!("{text:?}: {error}")))
}

/// What stands before the PREPARE, so that it says success only of the branch's own transaction.
#[derive(Clone, Copy, Debug)]
enum Proof {
    /// Whose transaction it is, and that it has not failed.
    Guard,
    /// That it has not failed: whose it is was seen a moment ago, and no one else has had the session since.
    JustSeen,
}

/// The prepare hook.
pub(super) async fn prepare(
    inner: &Inner,
    branch: &BranchContext,
    operation: Option<&pactum_core::coordinator::Operation>,
) -> Result<Prepared, AbortReason> {
    let (open, proof) = match operation {
        None => (inner.take_open(&branch.name), Proof::Guard),
        Some(operation) => (Some(run(inner, branch, operation).await?), Proof::JustSeen),
    };
    let Some(open) = open else {
        // Rare, and large: apart from what every branch needs room for.
        return Box::pin(not_open(inner, &branch.name)).await;
    };
    match open.probe.xid {
        None => end_read_only(open.local).await,
        Some(xid) => prepare_open(inner, branch, open.local, xid, open.probe, proof).await,
    }
}

/// Executes an operation and looks at what it left.
pub(super) async fn run(
    inner: &Inner,
    branch: &BranchContext,
    operation: &pactum_core::coordinator::Operation,
) -> Result<Open, AbortReason> {
    let mut local = operation::execute(inner, branch, operation).await?;
    match probe(&mut local).await {
        Ok(probe) => Ok(Open { local, probe }),
        Err(reason) => {
            local.roll_back().await;
            Err(reason)
        }
    }
}

/// No local transaction is open here. If the branch is prepared all the same, an earlier call
/// of this hook was not heard out: the promise stands.
async fn not_open(inner: &Inner, name: &PreparedName) -> Result<Prepared, AbortReason> {
    let refuse = |detail: &str| {
        let message = format!(
            "no local transaction is open for the branch: it has ended, or its process restarted{detail}"
        );
        Err(AbortReason::new(AbortKind::LocalFailure, &message))
    };
    let Ok(mut control) = inner.control().await else {
        return refuse("");
    };
    let found = async {
        let Some(xid) = evidence::prepared_xid(control.session(), name).await? else {
            return Ok(None);
        };
        let (_, anchor) = evidence::look_up(control.session(), xid).await?;
        Ok::<_, sqlx::Error>(anchor.map(|anchor| evidence::evidence(xid, &anchor)))
    };
    match bounded(found).await {
        Ok(found) => {
            control.answered();
            found.map_or_else(|| refuse(""), |evidence| Ok(Prepared::Yes(evidence)))
        }
        Err(error) => refuse(&format!(" ({})", sql::describe(&error))),
    }
}

/// Lets go of a branch that changed nothing. COMMIT, so that its NOTIFYs go out.
async fn end_read_only(mut local: LocalTransaction) -> Result<Prepared, AbortReason> {
    let sql = guard(Sql::default().text("SELECT 1/"), &local.name).text("::int; COMMIT; BEGIN");
    match simple(local.connection(), sql).await {
        Ok(_) => {
            local.let_go();
            Ok(Prepared::ReadOnly)
        }
        Err(error) => {
            local.roll_back().await;
            Err(abort_reason("the read-only branch did not end", &error))
        }
    }
}

async fn prepare_open(
    inner: &Inner,
    branch: &BranchContext,
    mut local: LocalTransaction,
    xid: u64,
    probe: Probe,
    proof: Proof,
) -> Result<Prepared, AbortReason> {
    let message = prepare_message(&branch.name, inner.keeps_witness(), proof);
    let answer = simple(local.connection(), message).await.and_then(|rows| {
        let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
        let (system, timeline) = probe.server.ok_or(sqlx::Error::RowNotFound)?;
        let position: String = row.try_get_unchecked(0)?;
        Anchor::from_columns(&system, &timeline, &position)
            .ok_or_else(|| sqlx::Error::Protocol(String::from("the server's identity is unreadable")))
    });
    match answer {
        Ok(anchor) => {
            // Nothing of the branch is in it any more: its rollback need not be waited for.
            local.let_go();
            Ok(Prepared::Yes(evidence::evidence(xid, &anchor)))
        }
        Err(error) => {
            let reason = abort_reason("PREPARE TRANSACTION failed", &error);
            let lingering = is_lost(&error).then_some(probe.pid);
            if lingering.is_some() {
                local.close();
            } else {
                local.roll_back().await;
            }
            // Even a plain refusal may be that of a statement after the PREPARE.
            Box::pin(undo_lost_prepare(inner, branch, xid, lingering)).await;
            Err(reason)
        }
    }
}

fn prepare_message(name: &PreparedName, witness: bool, proof: Proof) -> Sql {
    let sql = match proof {
        Proof::Guard => guard(Sql::default().text("SELECT 1/"), name).text("::int; "),
        Proof::JustSeen => Sql::default(),
    };
    let sql = if witness { marker::insert(sql, name, "true").text("; ") } else { sql };
    let sql = match proof {
        Proof::Guard => sql,
        // After the marker, which would be a subtransaction's otherwise.
        Proof::JustSeen => sql.text("SAVEPOINT pactum; "),
    };
    sql.text("PREPARE TRANSACTION '").splice(name).text("'; BEGIN; SELECT ").text(ANCHOR_POSITION)
}

/// Makes sure that a failed PREPARE left nothing prepared (`failure-matrix` D1).
///
/// A server may finish a PREPARE after the connection is lost. The xid tells without any clock
/// or process id when that is over: it is in progress while the backend runs and while the
/// branch is prepared, and aborted otherwise. A backend that lingers is found by the lock that
/// it holds on its own xid, and told to end. The vote is no even if the branch turns out to be
/// prepared: it may be so on this server and not yet on its standby.
///
/// Gives up some time after the deadline: the next scan finds what is left, and inquires.
async fn undo_lost_prepare(inner: &Inner, branch: &BranchContext, xid: u64, lingering: Option<i32>) {
    let until = branch.deadline.max(Instant::now()) + PURSUIT_GRACE;
    let mut pause = LOOK_AGAIN.0;
    loop {
        match undo_once(inner, &branch.name, xid, lingering).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::debug!(branch = %branch.name, %error, "looking after a lost PREPARE"),
        }
        if Instant::now() >= until {
            tracing::warn!(
                branch = %branch.name,
                "whether a failed PREPARE left the branch prepared is not known yet; the next scan will tell"
            );
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_AGAIN.1);
    }
}

/// One look; true once nothing is prepared and nothing can be any more. `lingering` is the
/// process that may still be in the middle of it.
async fn undo_once(
    inner: &Inner,
    name: &PreparedName,
    xid: u64,
    lingering: Option<i32>,
) -> Result<bool, crate::resource::HookError> {
    let mut control = inner.control().await?;
    let look = async {
        if evidence::prepared_xid(control.session(), name).await? == Some(xid) {
            let sql = Sql::default().text("ROLLBACK PREPARED '").splice(name).text("'");
            return match simple(control.session(), sql).await {
                Ok(_) => Ok(true),
                Err(error) => match sql::refusal(&error) {
                    Some(Refused::Missing) => Ok(true),
                    Some(Refused::Busy) => Ok(false),
                    Some(Refused::Exists | Refused::Lock) | None => Err(error),
                },
            };
        }
        let Some(pid) = lingering else {
            // The backend answered: it is not in the middle of anything.
            return Ok(true);
        };
        let (status, _) = evidence::look_up(control.session(), xid).await?;
        if status != XidStatus::InProgress {
            return Ok(true);
        }
        let holder: Option<Option<i32>> = sqlx::query_scalar(
            "SELECT pid FROM pg_catalog.pg_locks \
              WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted \
                AND transactionid = $1::text::xid",
        )
        .bind((xid & 0xffff_ffff).to_string())
        .fetch_optional(control.session())
        .await?;
        match holder {
            Some(Some(holder)) if holder == pid => {
                // The next look tells what came of it. Without the right to, we wait.
                sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(control.session()).await?;
                Ok(false)
            }
            // A stranger's: the server crashed, forgot our xid and gave it away again.
            Some(Some(_)) => Ok(true),
            // Prepared since the first look, or just ended.
            Some(None) | None => Ok(false),
        }
    };
    match bounded(look).await {
        Ok(done) => {
            control.answered();
            Ok(done)
        }
        Err(error) => {
            if !is_lost(&error) {
                control.answered();
            }
            Err(operation::unsettled("looking after a lost PREPARE", &error))
        }
    }
}
