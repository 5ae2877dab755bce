//! What proves how a branch ended: its xid, and the anchor that says whether the xid still
//! means the same thing.
//!
//! An xid is reused after a restore or a failover that lost transactions: `pg_xact_status` then
//! speaks of somebody else's work (`failure-matrix` H6, seen). So the vote carries, next to the
//! 64-bit xid, the server's system identifier, its timeline and a WAL position at or after the
//! PREPARE. If any of the three went back or changed, the xid proves nothing.
//!
//! The position is one that was *flushed*: a crash of the server does not lose it, so a mere
//! restart never looks like a rewound database.

use pactum_core::id::PreparedName;
use pactum_core::vote::Evidence;
use sqlx::{PgConnection, Row as _};

use super::sql::code;

/// The flushed position, to be selected where answers are text anyway: a cast would be planned each time.
pub(super) const ANCHOR_POSITION: &str = "pg_catalog.pg_current_wal_flush_lsn()";

/// Where a server stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    /// Tells one `initdb` from another.
    pub(super) system: String,
    /// Grows by one with each promotion and each restore to a point in time.
    pub(super) timeline: u32,
    /// A WAL position in bytes.
    pub(super) position: u64,
}

impl Anchor {
    /// Reads what a server says of itself; `None` if it said something else.
    pub(super) fn from_columns(system: &str, timeline: &str, position: &str) -> Option<Self> {
        Some(Self {
            system: system.to_owned(),
            timeline: u32::from_str_radix(timeline, 16).ok()?,
            position: parse_position(position)?,
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        Self::from_columns(parts.next()?, parts.next()?, parts.next()?)
    }

    fn text(&self) -> String {
        let (high, low) = (self.position >> 32, self.position & 0xffff_ffff);
        format!("{}/{:08X}/{high:X}/{low:X}", self.system, self.timeline)
    }

    /// Whether an xid that was reported at `self` still means the same on the server that now
    /// stands at `now`.
    pub(super) fn still_holds(&self, now: &Self) -> bool {
        self.system == now.system && self.timeline == now.timeline && self.position <= now.position
    }
}

/// Reads `X/X`, two hexadecimal halves.
fn parse_position(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let (high, low) = (u32::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?);
    Some(u64::from(high) << 32 | u64::from(low))
}

/// The evidence of an execution, as the vote carries it.
pub(super) fn evidence(xid: u64, anchor: &Anchor) -> Evidence {
    Evidence::new(xid.to_string(), anchor.text())
}

/// The xid and the anchor within; `None` if another kind of resource, or a later version, wrote it.
pub(super) fn read(evidence: &Evidence) -> Option<(u64, Anchor)> {
    Some((evidence.execution.parse().ok()?, Anchor::parse(&evidence.anchor)?))
}

/// The 64-bit xid of a transaction that is running or prepared, from its low half and a recent
/// snapshot's xmax. A live xid lies within 2^31 of that (PostgreSQL manual, section *Preventing
/// Transaction ID Wraparound Failures*), on either side: xmax is the latest *ended* xid plus one.
pub(super) fn full_xid(next: u64, low: u32) -> u64 {
    let next_low = u32::try_from(next & 0xffff_ffff).expect("masked to 32 bits");
    let distance = low.wrapping_sub(next_low).cast_signed();
    next.wrapping_add_signed(i64::from(distance))
}

/// What a server says of an xid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum XidStatus {
    /// It committed.
    Committed,
    /// It ended without effect.
    Aborted,
    /// It is running or prepared.
    InProgress,
    /// Too long ago to be known.
    TooOld,
    /// Not assigned yet on this server.
    NeverAssigned,
}

/// Asks for an xid's fate and for where the server stands.
///
/// The position compared is the one of *insertion*: it is never behind what was flushed.
pub(super) async fn look_up(
    connection: &mut PgConnection,
    xid: u64,
) -> Result<(XidStatus, Option<Anchor>), sqlx::Error> {
    let status = sqlx::query_scalar::<_, Option<String>>("SELECT pg_xact_status($1::text::xid8)")
        .bind(xid.to_string())
        .fetch_one(&mut *connection)
        .await;
    let status = match status {
        Ok(status) => match status.as_deref() {
            Some("committed") => XidStatus::Committed,
            Some("aborted") => XidStatus::Aborted,
            Some("in progress") => XidStatus::InProgress,
            Some(_) | None => XidStatus::TooOld,
        },
        // "Transaction ID is in the future". Asked this way because nothing else tells without
        // assigning an xid: a snapshot's xmax is only the latest *ended* one, plus one.
        Err(error) if code(&error).as_deref() == Some("22023") => XidStatus::NeverAssigned,
        Err(error) => return Err(error),
    };
    // The status first: if the server is replaced between the two, the anchor shows it.
    let row = sqlx::query(
        "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
                substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), \
                pg_current_wal_insert_lsn()::text",
    )
    .fetch_one(connection)
    .await?;
    let anchor = Anchor::from_columns(
        &row.try_get::<String, _>(0)?,
        &row.try_get::<String, _>(1)?,
        &row.try_get::<String, _>(2)?,
    );
    Ok((status, anchor))
}

/// The xid that is prepared under a name in this database, if any is.
pub(super) async fn prepared_xid(
    connection: &mut PgConnection,
    name: &PreparedName,
) -> Result<Option<u64>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT transaction::text, pg_snapshot_xmax(pg_current_snapshot())::text \
           FROM pg_catalog.pg_prepared_xacts \
          WHERE gid = $1 AND database = current_database()",
    )
    .bind(name.to_string())
    .fetch_optional(connection)
    .await?;
    row.map(|row| xid_of(&row.try_get::<String, _>(0)?, &row.try_get::<String, _>(1)?)).transpose()
}

/// Rebuilds a 64-bit xid from the texts that a server answered.
pub(super) fn xid_of(low: &str, next: &str) -> Result<u64, sqlx::Error> {
    match (low.parse(), next.parse()) {
        (Ok(low), Ok(next)) => Ok(full_xid(next, low)),
        _ => Err(sqlx::Error::Protocol(format!("the server named the xids {low:?} and {next:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_xid_is_rebuilt_across_the_epoch_on_both_sides() {
        let epoch = 1_u64 << 32;
        assert_eq!(full_xid(1000, 990), 990);
        assert_eq!(full_xid(epoch * 7 + 5, 3), epoch * 7 + 3);
        // Prepared before the counter wrapped.
        assert_eq!(full_xid(epoch * 7 + 5, u32::MAX), epoch * 7 - 1);
        // Assigned after the snapshot was taken, past the wrap.
        assert_eq!(full_xid(epoch * 7 - 2, 4), epoch * 7 + 4);
        assert_eq!(full_xid(1000, 1003), 1003);
    }

    #[test]
    fn evidence_reads_back_as_itself() {
        let anchor = Anchor::from_columns("7431", "0000001A", "2F/A0").unwrap();
        let evidence = evidence(1 << 40, &anchor);
        assert_eq!(&*evidence.execution, "1099511627776");
        assert_eq!(&*evidence.anchor, "7431/0000001A/2F/A0");
        assert_eq!(read(&evidence), Some((1 << 40, anchor)));
        assert_eq!(read(&Evidence::new("x", "y")), None);
    }

    /// H6: whatever went back or changed makes the xid worthless.
    #[test]
    fn an_anchor_holds_only_on_the_same_history_and_not_behind_it() {
        let then = Anchor::from_columns("1", "00000002", "1/0").unwrap();
        let now = |system, timeline, position| {
            then.still_holds(&Anchor::from_columns(system, timeline, position).unwrap())
        };
        assert!(now("1", "00000002", "1/0"));
        assert!(now("1", "00000002", "2/0"));
        assert!(!now("1", "00000002", "0/FFFFFFFF"));
        assert!(!now("1", "00000003", "2/0"));
        assert!(!now("1", "00000001", "2/0"));
        assert!(!now("9", "00000002", "2/0"));
    }
}
