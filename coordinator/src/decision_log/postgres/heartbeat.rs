//! One heartbeat: what a coordinator tells the log of itself, and what it hears of the others and of the
//! log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pactum_core::id::{Gid, Incarnation};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::rows::get;
use super::session::{Server, Session};
use super::{doubt, rows, sql};
use crate::decision_log::{DecisionLogError, IncarnationView, LogView};

/// One heartbeat; see [`DecisionLog::heartbeat`](super::DecisionLog::heartbeat).
pub(super) async fn beat(
    session: &mut Session,
    server: Arc<Server>,
    incarnation: Incarnation,
) -> Result<LogView, DecisionLogError> {
    let mut found = read_beat(session, incarnation).await?;
    let switches = get::<i64>(found.first().ok_or_else(rows::no_state)?, "switches")?.unsigned_abs();
    if session.era.is_none_or(|era| era.switches != switches) {
        // Somebody adopted the log since: what we read belongs to another era than our connections.
        session.identify(&server.ledger).await?;
        found = read_beat(session, incarnation).await?;
    }
    let first = found.first().ok_or_else(rows::no_state)?;
    let replication = doubt::replication(first)?;
    if let Some(era) = session.era {
        server.ledger.reached(era, get::<i64>(first, "position")?.unsigned_abs());
        server.ledger.saw_standbys(era, replication.required);
    }
    let is_short = replication.required < server.standbys_min;
    if server.is_short.swap(is_short, Ordering::Relaxed) != is_short {
        let (required, asked_for) = (replication.required, server.standbys_min);
        if is_short {
            tracing::error!(
                required,
                asked_for,
                "the log waits for too few standbys: no decision is written"
            );
        } else {
            tracing::info!(required, asked_for, "the log waits for enough standbys again");
        }
    }
    let mut view = LogView {
        live: false,
        incarnations: Vec::new(),
        floor: Gid::from_uuid(get(first, "floor")?),
        doubted: get::<i64>(first, "doubted")?.unsigned_abs(),
        replication: Some(replication),
    };
    for row in &found {
        let Some(id) = get::<Option<Uuid>>(row, "id")? else { continue };
        view.incarnations.push(IncarnationView {
            incarnation: Incarnation::from_uuid(id),
            beats: get::<i64>(row, "beats")?.unsigned_abs(),
            address: get(row, "address")?,
        });
    }
    view.live = view.incarnations.iter().any(|seen| seen.incarnation == incarnation);
    if get::<bool>(first, "own_doubted")? {
        session.vouch(&server.ledger, incarnation).await?;
        let found = read_beat(session, incarnation).await?;
        let first = found.first().ok_or_else(rows::no_state)?;
        view.doubted = get::<i64>(first, "doubted")?.unsigned_abs();
    } else if !view.live {
        server.ledger.done(incarnation);
    }
    Ok(view)
}

async fn read_beat(session: &mut Session, incarnation: Incarnation) -> Result<Vec<PgRow>, DecisionLogError> {
    let statement = sqlx::query(sql::HEARTBEAT).bind(*incarnation.as_uuid());
    let statement = statement.fetch_all(&mut session.connection);
    Ok(session.notices.watch(session.limit, statement).await?)
}
