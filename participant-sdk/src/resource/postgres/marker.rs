//! The marker table: the register of transactions with one branch, and the witness of others.
//!
//! A marker (incarnation, gid, branch) says *committed* or *aborted*. For a transaction of one
//! branch it is the write-once register (law 1): it is inserted plainly as the last statement
//! before COMMIT, and whoever must know later inserts *aborted* unless one stands. Both inserts
//! meet on the primary key, and the later one waits for the earlier; a bare SELECT would miss a
//! commit that is on its way (`failure-matrix` H5).
//!
//! Markers are forgotten below a *floor* in gid order (law 7). Both inserts test it `FOR SHARE`,
//! so that raising it waits for them, and rows are deleted only after the raise has committed.
//! The share lock has a second use: it gives an asker's transaction an xid, so that its COMMIT
//! waits for the standby also when it inserted nothing, and with it the marker that it read.
//!
//! With [`PostgresResource::witnessed`](super::PostgresResource::witnessed) every prepared
//! branch carries its marker inside: proof of its commit that a failover or a restore cannot
//! fake, where an xid can (H6).

use std::time::Duration;

use pactum_core::coordinator::{Operation, RegisterAnswer};
use pactum_core::id::{Gid, PreparedName};
use pactum_core::vote::{AbortKind, AbortReason};
use sqlx::{PgConnection, PgPool, Row as _};

use super::begin::{LocalTransaction, milliseconds};
use super::control::{Control, bounded};
use super::operation::unsettled;
use super::sql::{Refused, SYNCHRONOUS, Sql, abort_reason, column, guard, is_lost, refusal, simple};
use super::{Inner, Open, prepare};
use crate::resource::{BranchContext, HookError};

/// What makes the tables. May be run again; needs the right to create a schema once.
pub(super) const INSTALL: &str = "\
CREATE SCHEMA IF NOT EXISTS pactum_participant;

CREATE TABLE IF NOT EXISTS pactum_participant.marker (
    gid         uuid    NOT NULL,
    incarnation uuid    NOT NULL,
    branch      text    NOT NULL CHECK (branch ~ '^[0-9a-f]{16}$'),
    -- Whether the branch committed; false was written by whoever asked before it could.
    committed   boolean NOT NULL,
    PRIMARY KEY (gid, incarnation, branch)
);

-- One row: nothing is written at or under the floor, and nothing can be known there.
CREATE TABLE IF NOT EXISTS pactum_participant.marker_floor (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    floor uuid    NOT NULL
);

INSERT INTO pactum_participant.marker_floor (floor)
VALUES ('00000000-0000-0000-0000-000000000000')
ON CONFLICT DO NOTHING;
";

/// Serialises installations: concurrent CREATE … IF NOT EXISTS may fail on a catalog's key.
const INSTALL_LOCK: i64 = 0x7061_6374_756d_0001;

/// How long an asker waits for a transaction that holds the marker's key. Longer only keeps a
/// connection; it asks again anyway.
const SETTLE_LOCK_TIME_MAX: Duration = Duration::from_secs(2);

/// Raising the floor queues before the commits that come after it; they wait as long as it does.
const RAISE_LOCK_TIME_MAX: Duration = Duration::from_secs(1);

/// Rows deleted in one transaction: short enough to hold no lock for long.
const DELETE_BATCH: i64 = 1_000;

/// Makes the marker tables.
pub(super) async fn install(pool: &PgPool) -> Result<(), HookError> {
    let sql = Sql::default()
        .text("BEGIN; SELECT pg_advisory_xact_lock(")
        .splice(&INSTALL_LOCK.unsigned_abs())
        .text("); ")
        .text(INSTALL)
        .text("COMMIT");
    let mut control = Control::acquire(pool).await?;
    match bounded(simple(control.session(), sql)).await {
        Ok(_) => {
            control.answered();
            Ok(())
        }
        // The session may be left inside the failed transaction: it is closed.
        Err(error) => Err(unsettled(
            "creating the marker tables (run the statements of `install_sql` as an owner of the database)",
            &error,
        )),
    }
}

fn key(sql: Sql, name: &PreparedName) -> Sql {
    let (gid, incarnation) = (name.id.gid.as_uuid(), name.id.incarnation.as_uuid());
    sql.text("'")
        .splice(gid)
        .text("'::uuid, '")
        .splice(incarnation)
        .text("'::uuid, '")
        .splice(&name.branch)
        .text("'")
}

/// A plain insert of the branch's marker: 23505 if one stands.
pub(super) fn insert(sql: Sql, name: &PreparedName, committed: &'static str) -> Sql {
    let sql =
        sql.text("INSERT INTO pactum_participant.marker (gid, incarnation, branch, committed) VALUES (");
    key(sql, name).text(", ").text(committed).text(")")
}

/// A condition that locks the floor against being raised, and holds only above it.
fn above_floor(sql: Sql, gid: Gid) -> Sql {
    sql.text("(SELECT count(*)::int FROM (SELECT FROM pactum_participant.marker_floor WHERE floor < '")
        .splice(gid.as_uuid())
        .text("'::uuid FOR SHARE) above)")
}

/// The hook `commit_one_phase`.
pub(super) async fn commit(
    inner: &Inner,
    branch: &BranchContext,
    operation: Option<&Operation>,
) -> RegisterAnswer {
    let open = match operation {
        None => inner.take_open(&branch.name),
        Some(operation) => match prepare::run(inner, branch, operation).await {
            Ok(open) => Some(open),
            Err(reason) => return aborted_for(inner, &branch.name, reason).await,
        },
    };
    match open {
        Some(Open { local, .. }) if local.options.is_read_only() => {
            // It can write no marker, and has nothing that must be atomic with one.
            local.roll_back().await;
            record_committed(inner, &branch.name).await
        }
        Some(Open { local, .. }) => commit_open(inner, &branch.name, local).await,
        // Ended before, or never here: what stands, stands, and from here on nothing else.
        None => settle(inner, &branch.name).await,
    }
}

async fn commit_open(inner: &Inner, name: &PreparedName, mut local: LocalTransaction) -> RegisterAnswer {
    let sql = Sql::default().text("SET LOCAL statement_timeout = 0; SELECT 1/");
    let sql = guard(sql, name).text("::int, ").text(SYNCHRONOUS).text(", 1/");
    let sql = above_floor(sql, name.id.gid).text("; ");
    // The trailing BEGIN lets the connection go back by an ordinary rollback.
    let sql = insert(sql, name, "true").text("; COMMIT; BEGIN");
    match simple(local.connection(), sql).await {
        Ok(_) => {
            local.let_go();
            RegisterAnswer::Committed
        }
        Err(error) => {
            let reason = abort_reason("one-phase commit failed", &error);
            if is_lost(&error) {
                local.close();
            } else {
                local.roll_back().await;
            }
            // No error is read as an outcome: the register is asked. It waits for a backend
            // that may still be committing, and closes the door on one that comes late.
            aborted_for(inner, name, reason).await
        }
    }
}

/// Writes *committed* for a branch without effects, in a transaction of its own.
async fn record_committed(inner: &Inner, name: &PreparedName) -> RegisterAnswer {
    let Ok(mut control) = inner.control().await else {
        return RegisterAnswer::Unknown;
    };
    let sql = Sql::default()
        .text("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = ")
        .splice(&milliseconds(SETTLE_LOCK_TIME_MAX))
        .text("; SELECT ")
        .text(SYNCHRONOUS)
        .text(", 1/");
    let sql = above_floor(sql, name.id.gid).text("; ");
    let sql = insert(sql, name, "true").text("; COMMIT");
    if bounded(simple(control.session(), sql)).await.is_ok() {
        control.answered();
        return RegisterAnswer::Committed;
    }
    drop(control);
    settle(inner, name).await
}

/// What the register says after a failure, which is the reason if it says aborted.
async fn aborted_for(inner: &Inner, name: &PreparedName, reason: AbortReason) -> RegisterAnswer {
    match settle(inner, name).await {
        RegisterAnswer::Aborted(_) => RegisterAnswer::Aborted(reason),
        answer @ (RegisterAnswer::Committed | RegisterAnswer::Unknown | RegisterAnswer::Forgotten) => answer,
    }
}

/// The hook `settle`.
pub(super) async fn settle(inner: &Inner, name: &PreparedName) -> RegisterAnswer {
    let Ok(mut control) = inner.control().await else {
        return RegisterAnswer::Unknown;
    };
    let asked = bounded(ask(control.session(), name)).await;
    match asked {
        Ok(answer) => {
            control.answered();
            answer
        }
        Err(error) => {
            // A transaction is open on the session, or may be: it is closed.
            if refusal(&error) != Some(Refused::Lock) {
                tracing::warn!(branch = %name, %error, "the marker could not be asked");
            }
            RegisterAnswer::Unknown
        }
    }
}

/// Inserts *aborted* unless a marker stands, then reads in a second statement, whose snapshot
/// is newer than the wait of the first. The answer holds once COMMIT has answered.
async fn ask(session: &mut PgConnection, name: &PreparedName) -> Result<RegisterAnswer, sqlx::Error> {
    let gid = name.id.gid;
    let sql = Sql::default()
        .text("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = ")
        .splice(&milliseconds(SETTLE_LOCK_TIME_MAX))
        .text("; SELECT ")
        .text(SYNCHRONOUS)
        .text(", ''; INSERT INTO pactum_participant.marker (gid, incarnation, branch, committed) SELECT ");
    let sql = key(sql, name).text(", false WHERE ");
    let sql = above_floor(sql, gid).text(
        " > 0 ON CONFLICT DO NOTHING; \
         SELECT coalesce((SELECT committed::text FROM pactum_participant.marker WHERE (gid, incarnation, branch) = (",
    );
    let sql = key(sql, name)
        .text(")), 'none'), (SELECT floor >= '")
        .splice(gid.as_uuid())
        .text("'::uuid FROM pactum_participant.marker_floor)::text; COMMIT");
    let rows = simple(session, sql).await?;
    let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
    let below = row.try_get::<Option<String>, _>(1)?;
    Ok(match (column(row, 0)?.as_str(), below.as_deref()) {
        ("true", _) => RegisterAnswer::Committed,
        ("false", _) => RegisterAnswer::Aborted(AbortReason::new(
            AbortKind::OwnerEnded,
            "closed at its resource by whoever asked for its outcome before it had committed",
        )),
        (_, Some("true")) => RegisterAnswer::Forgotten,
        _ => RegisterAnswer::Unknown,
    })
}

/// Whether a branch that was prepared with a witness inside committed: `None` if none was kept,
/// or it may have been forgotten. Only asked once the branch is not prepared any more.
pub(super) async fn witness(
    session: &mut PgConnection,
    name: &PreparedName,
    kept: bool,
) -> Result<Option<bool>, sqlx::Error> {
    if !kept {
        return Ok(None);
    }
    let row = sqlx::query(
        "SELECT EXISTS (SELECT FROM pactum_participant.marker \
                         WHERE gid = $1 AND incarnation = $2 AND branch = $3 AND committed), \
                coalesce((SELECT floor < $1 FROM pactum_participant.marker_floor), false)",
    )
    .bind(name.id.gid.as_uuid())
    .bind(name.id.incarnation.as_uuid())
    .bind(name.branch.to_string())
    .fetch_one(session)
    .await?;
    let (stands, above): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match (stands, above) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    })
}

/// What the branch's row of the marker table says, if it has one; closes nothing.
pub(super) async fn stands(
    session: &mut PgConnection,
    name: &PreparedName,
) -> Result<Option<bool>, sqlx::Error> {
    let query = sqlx::query_scalar(
        "SELECT committed FROM pactum_participant.marker WHERE gid = $1 AND incarnation = $2 AND branch = $3",
    );
    let query = query.bind(name.id.gid.as_uuid()).bind(name.id.incarnation.as_uuid());
    query.bind(name.branch.to_string()).fetch_optional(session).await
}

/// Raises the floor to `gid` and deletes what lies under it, oldest first. Returns the rows
/// deleted.
pub(super) async fn forget_up_to(inner: &Inner, gid: Gid) -> Result<u64, HookError> {
    let mut control = inner.control().await?;
    let raise = Sql::default()
        .text("BEGIN; SET LOCAL lock_timeout = ")
        .splice(&milliseconds(RAISE_LOCK_TIME_MAX))
        .text("; UPDATE pactum_participant.marker_floor SET floor = '")
        .splice(gid.as_uuid())
        .text("'::uuid WHERE floor < '")
        .splice(gid.as_uuid())
        .text("'::uuid; SELECT ")
        .text(SYNCHRONOUS)
        .text("; COMMIT");
    bounded(simple(control.session(), raise))
        .await
        .map_err(|error| unsettled("raising the marker floor", &error))?;
    let mut deleted = 0;
    loop {
        // The floor is read anew: only what a committed raise covers is deleted.
        let batch = sqlx::query(
            "DELETE FROM pactum_participant.marker WHERE ctid = ANY (ARRAY( \
                SELECT ctid FROM pactum_participant.marker \
                 WHERE gid <= (SELECT floor FROM pactum_participant.marker_floor) \
                 ORDER BY gid LIMIT $1))",
        )
        .bind(DELETE_BATCH)
        .execute(control.session());
        let batch = bounded(batch).await.map_err(|error| unsettled("deleting forgotten markers", &error))?;
        deleted += batch.rows_affected();
        if batch.rows_affected() < DELETE_BATCH.unsigned_abs() {
            control.answered();
            return Ok(deleted);
        }
    }
}
