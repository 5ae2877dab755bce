//! The audit: entries are added one at a time, whoever adds them, and each takes the next number.
//!
//! Adders exclude each other by an advisory lock, which ends with its transaction. A lock on the table
//! would ask for the right to change its rows, and the serving role is better off without. Whoever adds an
//! entry by hand and takes no lock is stopped by the key and by the table's trigger. Neither the log's
//! state nor an incarnation is locked: no batch of decisions waits for an operator, nor he for them.

use pactum_core::id::Incarnation;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::rows::get;
use super::session::Session;
use crate::decision_log::audit::{AuditColumns, UNENDED_MAX};
use crate::decision_log::{AuditDraft, AuditEntry, AuditHash, AuditPage, DecisionLogError};

/// Waits for whoever is adding an entry. Named by the table's own number, so that nothing else in this
/// database has the name by chance.
const LOCK: &str = "SELECT pg_advisory_xact_lock('pactum.audit'::regclass::oid::int8)";

/// The last entry, if there is one, and the time. A statement of its own, whose snapshot is taken after
/// the wait for the lock.
const LAST: &str = "\
SELECT a.number, a.hash, (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS micros
FROM (SELECT) AS always LEFT JOIN LATERAL (
    SELECT number, hash FROM pactum.audit ORDER BY number DESC LIMIT 1
) a ON true";

/// `$2` is exact: a double holds whole numbers of microseconds for another two centuries.
const ADD: &str = "\
INSERT INTO pactum.audit (number, at, kind, begun, who, origin, act, target, reason, plan, state_before,
                          state_after, result, incarnation, previous, hash)
VALUES ($1, timestamptz 'epoch' + $2::int8 * interval '1 microsecond', $3, $4, $5, $6, $7, $8, $9, $10, $11,
        $12, $13, $14, $15, $16)";

macro_rules! columns {
    () => {
        "SELECT a.number, (extract(epoch FROM a.at) * 1000000)::int8 AS micros, a.kind, a.begun, a.who,
       a.origin, a.act, a.target, a.reason, a.plan, a.state_before, a.state_after, a.result, a.incarnation,
       a.previous, a.hash
FROM pactum.audit a "
    };
}

/// `$1` after this number, `$2` limit.
const AFTER: &str = concat!(columns!(), "WHERE a.number > $1 ORDER BY a.number LIMIT $2");

/// `$1` before this number, `$2` limit.
const BEFORE: &str = concat!(columns!(), "WHERE a.number < $1 ORDER BY a.number DESC LIMIT $2");

/// `$1` limit. An end comes after its beginning: where an earlier entry names its number, the log went back in
/// time and gave the number out again.
const UNENDED: &str = concat!(
    columns!(),
    "WHERE a.kind = 'begun' AND a.incarnation IS NOT NULL
  AND NOT EXISTS (SELECT FROM pactum.audit e WHERE e.begun = a.number AND e.number > a.number)
  AND NOT EXISTS (SELECT FROM pactum.incarnations i WHERE i.id = a.incarnation AND i.ended_at IS NULL)
ORDER BY a.number LIMIT $1"
);

impl Session {
    /// Adds an entry; see [`DecisionLog::append_audit`](crate::decision_log::DecisionLog::append_audit).
    pub(super) async fn append_audit(&mut self, draft: AuditDraft) -> Result<AuditEntry, DecisionLogError> {
        self.begin_forced().await?;
        self.execute(LOCK).await?;
        let statement = sqlx::query(LAST).fetch_one(&mut self.connection);
        let row = self.notices.watch(self.limit, statement).await?;
        let last = match get::<Option<i64>>(&row, "number")? {
            Some(number) => Some((number.unsigned_abs(), hash_of(get(&row, "hash")?)?)),
            None => None,
        };
        let entry = AuditEntry::after(last, get(&row, "micros")?, draft);
        let draft = &entry.draft;
        let statement = sqlx::query(ADD)
            .bind(entry.number.cast_signed())
            .bind(entry.at_microseconds)
            .bind(draft.kind.name())
            .bind(draft.begun.map(u64::cast_signed))
            .bind(&draft.who)
            .bind(&draft.origin)
            .bind(&draft.act)
            .bind(&draft.target)
            .bind(&draft.reason)
            .bind(&draft.plan)
            .bind(&draft.before)
            .bind(&draft.after)
            .bind(&draft.result)
            .bind(draft.incarnation.map(|incarnation| *incarnation.as_uuid()))
            .bind(&entry.previous.0[..])
            .bind(&entry.hash.0[..])
            .execute(&mut self.connection);
        self.notices.watch(self.limit, statement).await?;
        self.execute("COMMIT").await?;
        Ok(entry)
    }

    /// Reads a page of the audit.
    pub(super) async fn audit(
        &mut self,
        page: AuditPage,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, DecisionLogError> {
        let (sql, number) = match page {
            AuditPage::After(number) => (AFTER, number),
            AuditPage::Before(number) => (BEFORE, number.unwrap_or(u64::MAX)),
        };
        // Numbers that the column cannot hold lie after all that it holds.
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let statement = sqlx::query(sql).bind(number).bind(i64::from(limit)).fetch_all(&mut self.connection);
        self.notices.watch(self.limit, statement).await?.iter().map(entry).collect()
    }

    /// Reads the beginnings that a coordinator which is gone left without an end.
    pub(super) async fn unended_audits(&mut self) -> Result<Vec<AuditEntry>, DecisionLogError> {
        let statement = sqlx::query(UNENDED).bind(i64::from(UNENDED_MAX)).fetch_all(&mut self.connection);
        let found = self.notices.watch(self.limit, statement).await?;
        if !found.is_empty() {
            self.make_known_durable().await?;
        }
        found.iter().map(entry).collect()
    }
}

fn hash_of(bytes: Vec<u8>) -> Result<AuditHash, DecisionLogError> {
    let length = bytes.len();
    let unreadable = |_| DecisionLogError::Corrupt {
        gid: "the last entry of the audit".into(),
        problem: format!("its hash has {length} bytes"),
    };
    bytes.try_into().map(AuditHash).map_err(unreadable)
}

/// A row of `pactum.audit`.
fn entry(row: &PgRow) -> Result<AuditEntry, DecisionLogError> {
    let text = |name| get::<String>(row, name);
    AuditColumns {
        number: get(row, "number")?,
        at_microseconds: get(row, "micros")?,
        kind: text("kind")?,
        begun: get(row, "begun")?,
        texts: [
            text("who")?,
            text("origin")?,
            text("act")?,
            text("target")?,
            text("reason")?,
            text("plan")?,
            text("state_before")?,
            text("state_after")?,
            text("result")?,
        ],
        incarnation: get::<Option<Uuid>>(row, "incarnation")?.map(Incarnation::from_uuid),
        previous: get(row, "previous")?,
        hash: get(row, "hash")?,
    }
    .entry()
}
