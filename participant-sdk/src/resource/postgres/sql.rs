//! SQL text with names spliced in, and what the errors that come back mean.
//!
//! `PREPARE TRANSACTION`, `COMMIT PREPARED` and `SET LOCAL` take no bind parameters, so a name
//! has to stand in the text. This file has the one place that may declare such text safe, and
//! it takes only types whose alphabet is closed: [`PreparedName`] (`a-z 0-9 - _ . :`), UUIDs,
//! numbers, and text from this crate.

use std::fmt;

use pactum_core::id::{BranchId, PreparedName};
use pactum_core::vote::{AbortKind, AbortReason};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgDatabaseError, PgRow};
use sqlx::{PgConnection, Row as _};

/// Something that may be spliced into SQL text without quoting or escaping.
///
/// Implemented here and nowhere else, for types that cannot hold a quote or a backslash.
pub(super) trait Splice: fmt::Display {}

impl Splice for PreparedName {}
impl Splice for BranchId {}
impl Splice for uuid::Uuid {}
impl Splice for u32 {}
impl Splice for u64 {}
impl Splice for &'static str {}

/// SQL text made of literals of this crate and of [`Splice`] values.
#[derive(Debug, Default)]
pub(super) struct Sql(String);

impl Sql {
    /// Appends a literal of this crate.
    pub(super) fn text(mut self, literal: &'static str) -> Self {
        self.0.push_str(literal);
        self
    }

    /// Appends a value whose alphabet is closed.
    pub(super) fn splice(mut self, value: &dyn Splice) -> Self {
        use fmt::Write as _;
        write!(self.0, "{value}").expect("writing to a String cannot fail");
        self
    }

    /// Declares the text safe: the only use of `AssertSqlSafe` outside tests. Every part is a
    /// literal of this crate or a [`Splice`] value, so nothing from outside can end a string
    /// or a statement.
    pub(super) fn trusted(self) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.0)
    }
}

/// True inside the branch's own transaction and nowhere else: `SET LOCAL` ends with it. A
/// missing setting is NULL, which `=` would let through.
pub(super) fn guard(sql: Sql, name: &PreparedName) -> Sql {
    sql.text("(current_setting('pactum.branch', true) IS NOT DISTINCT FROM '").splice(name).text("')")
}

/// An expression that forces a durable, replicated commit whatever the session had set, and
/// leaves the one stronger value alone (`failure-matrix` D16).
macro_rules! synchronous {
    () => {
        "set_config('synchronous_commit', \
     CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, \
     true)"
    };
}
pub(super) use synchronous;

/// The same, as text to be put together with other text.
pub(super) const SYNCHRONOUS: &str = synchronous!();

/// Sends one simple-protocol message and returns the rows of all its statements, as text.
pub(super) async fn simple(connection: &mut PgConnection, sql: Sql) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::raw_sql(sql.trusted()).fetch_all(connection).await
}

/// A column of text.
pub(super) fn column(row: &PgRow, index: usize) -> Result<String, sqlx::Error> {
    row.try_get::<String, _>(index)
}

/// What a database's refusal means to us; everything that is not told apart is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// 42704: no branch of that name is prepared.
    Missing,
    /// 55000 at the end of a prepared branch: another session is ending it.
    Busy,
    /// 23505: that key exists.
    Exists,
    /// 55P03: a lock was not had in time.
    Lock,
}

/// Tells the refusals apart on which the protocol turns.
pub(super) fn refusal(error: &sqlx::Error) -> Option<Refused> {
    match code(error)?.as_str() {
        "42704" => Some(Refused::Missing),
        "55000" => Some(Refused::Busy),
        "23505" => Some(Refused::Exists),
        "55P03" => Some(Refused::Lock),
        _ => None,
    }
}

/// The SQLSTATE, if the database answered with one.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the session may be gone, so that what it was doing is unknown (law 5). True for
/// everything but a plain refusal by a server that goes on serving the session.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    use sqlx::postgres::PgSeverity;
    match error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) {
        Some(error) => matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic),
        None => !matches!(
            error,
            sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
        ),
    }
}

/// The message of a database's refusal with its SQLSTATE, or what else went wrong.
pub(super) fn describe(error: &sqlx::Error) -> String {
    match (error.as_database_error(), code(error)) {
        (Some(database), Some(code)) => format!("{} (SQLSTATE {code})", database.message()),
        _ => error.to_string(),
    }
}

/// Why a branch votes no, from the error that its database answered.
pub(super) fn abort_reason(doing: &str, error: &sqlx::Error) -> AbortReason {
    let code = code(error).unwrap_or_default();
    let (kind, hint) = match code.as_str() {
        "25P02" => (AbortKind::LocalFailure, "; a statement of the branch had failed before"),
        "22012" | "25P01" => (
            AbortKind::LocalFailure,
            "; the branch's transaction was ended by its user (what he committed stays)",
        ),
        "55P03" | "40P01" => (AbortKind::LockTimeout, ""),
        "57014" => (AbortKind::Deadline, ""),
        "42710" => (AbortKind::VotedNo, "; a branch of this name is prepared already"),
        "53200" | "55000" | "53300" | "53400" => (
            AbortKind::VotedNo,
            "; no room for one more prepared transaction: raise max_prepared_transactions \
             (needs a restart of the server), or retry",
        ),
        "0A000" => (
            AbortKind::VotedNo,
            "; the branch used what PostgreSQL cannot prepare: a temporary table, LISTEN or \
             NOTIFY, a cursor WITH HOLD, or a foreign table",
        ),
        _ if is_lost(error) => (AbortKind::LocalFailure, ""),
        _ => (AbortKind::VotedNo, ""),
    };
    AbortReason::new(kind, &format!("{doing}: {}{hint}", describe(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_setting_does_not_pass_the_guard() {
        let name: PreparedName = "pactum:c:00000000000000000000000000000001:\
             00000000000000000000000000000002:0000000000000003"
            .parse()
            .unwrap();
        let text = guard(Sql::default(), &name).0;
        assert!(text.contains("IS NOT DISTINCT FROM 'pactum:c:"), "{text}");
    }
}
