//! What is written down of an act that is done without a coordinator: in the log's audit, before and after; and
//! where the log cannot be reached, in the participant's own database.

use std::sync::Arc;

use pactum_coordinator::config::LogUrl;
use pactum_coordinator::decision_log::{
    AuditDraft, AuditKind, DecisionLog, HeuristicRecord, ListPage, StoredState,
};
use pactum_core::id::{Branch, InstanceId, PreparedName, ResourceName};
use pactum_core::outcome::HeuristicOutcome;
use sqlx::{PgConnection, Row as _};

use super::database::{Database, Trouble, Verb};
use super::word;
use crate::act;
use crate::failure::Failure;

/// Who acts and why.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) who: String,
    pub(super) origin: String,
    pub(super) reason: String,
}

impl Actor {
    /// As given, or as the system says.
    pub(super) fn new(who: Option<String>, reason: String) -> Self {
        let who = who.unwrap_or_else(act::who);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { who: cut(&who), origin: cut(&format!("pactum branch on {host}")), reason }
    }
}

/// As the wire allows of a name.
const NAME_BYTES_MAX: usize = 128;

fn cut(text: &str) -> String {
    let mut end = text.len().min(NAME_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A beginning in the log's audit.
#[derive(Debug)]
pub(super) struct Begun {
    draft: AuditDraft,
    pub(super) number: u64,
}

/// Writes the beginning of an act. Durable on return; without it nothing may be done.
pub(super) async fn begin(
    log: &Arc<dyn DecisionLog>,
    url: &LogUrl,
    actor: &Actor,
    (name, act): (&PreparedName, &str),
    plan: String,
    before: String,
) -> Result<Begun, Failure> {
    let draft = AuditDraft {
        kind: AuditKind::Begun,
        begun: None,
        who: actor.who.clone(),
        origin: actor.origin.clone(),
        act: act.to_owned(),
        target: format!("{} {}", name.id.gid, name.branch),
        reason: actor.reason.clone(),
        plan,
        before,
        after: String::new(),
        result: String::new(),
        incarnation: None,
    };
    let entry = log.append_audit(&draft).await.map_err(|error| word::not_written(url, &error))?;
    Ok(Begun { draft, number: entry.number })
}

impl Begun {
    /// Writes its end. What was done stands whether or not this is written; the error says why it is not.
    pub(super) async fn end(
        self,
        log: &Arc<dyn DecisionLog>,
        kind: AuditKind,
        after: String,
        result: String,
    ) -> Result<u64, String> {
        let draft = AuditDraft { kind, begun: Some(self.number), after, result, ..self.draft };
        log.append_audit(&draft).await.map(|entry| entry.number).map_err(|error| error.to_string())
    }
}

/// Keeps a heuristic outcome next to the decision. Durable on return.
pub(super) async fn heuristic(
    log: &Arc<dyn DecisionLog>,
    name: &PreparedName,
    database: &str,
    outcome: HeuristicOutcome,
) -> Result<(), String> {
    let branch = branch(log, name, database).await;
    let record = HeuristicRecord { id: name.id, branch, outcome };
    log.record_heuristics(&[record]).await.map_err(|error| error.to_string())
}

/// The branch as the log knows it. A name in a database does not say its resource: where the log names none,
/// the database's stands for it.
async fn branch(log: &Arc<dyn DecisionLog>, name: &PreparedName, database: &str) -> Branch {
    let page =
        ListPage { limit: 1, part: Some(name.id.gid.as_uuid().simple().to_string()), ..ListPage::default() };
    let stored = log.list(&page).await.unwrap_or_default().into_iter().find(|stored| stored.id == name.id);
    let branches = stored.map(|stored| match stored.state {
        StoredState::Decided { record, .. } => {
            record.branches.iter().map(|decided| decided.branch.clone()).collect::<Vec<_>>()
        }
        StoredState::Undecided { record } => record.branches,
    });
    let known = branches.into_iter().flatten().find(|branch| branch.id == name.branch);
    known.unwrap_or_else(|| Branch {
        id: name.branch,
        resource: resource_of(database),
        instance: InstanceId::NIL,
        marker: false,
    })
}

fn resource_of(database: &str) -> ResourceName {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '-' | '_' | '.') => c,
        _ => '-',
    };
    let text: String =
        "database.".chars().chain(database.chars().map(plain)).take(ResourceName::BYTES_MAX).collect();
    ResourceName::new(&text).expect("letters, digits, dots and dashes, the first a letter")
}

/// Kept in the participant's database where the log cannot be: in the schema that its markers are in.
const MAKE_TABLE: &str = "\
CREATE SCHEMA IF NOT EXISTS pactum_participant;
CREATE TABLE IF NOT EXISTS pactum_participant.overruled (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The branch's name, as it was prepared, and its execution.
    name     text NOT NULL,
    xid      text NOT NULL,
    action   text NOT NULL CHECK (action IN ('commit', 'rollback')),
    who      text NOT NULL,
    origin   text NOT NULL,
    reason   text NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    -- What came of it; null if whoever did it was stopped in the middle: then the xid tells.
    ended_at timestamptz,
    result   text
)";

const ADD: &str = "\
INSERT INTO pactum_participant.overruled (name, xid, action, who, origin, reason)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING id";

const END: &str = "UPDATE pactum_participant.overruled SET ended_at = now(), result = $2 WHERE id = $1";

/// Writes the beginning of an overruling into the participant's own database. Durable on return.
pub(super) async fn begin_here(
    database: &mut Database,
    actor: &Actor,
    (name, xid): (&PreparedName, u64),
    verb: Verb,
) -> Result<i64, Trouble> {
    let action = match verb {
        Verb::Commit => "commit",
        Verb::RollBack => "rollback",
    };
    // Looked for first: whoever may write rows need not be allowed to make the table.
    let exists = "SELECT to_regclass('pactum_participant.overruled') IS NOT NULL";
    database
        .run(async |connection: &mut PgConnection| {
            if !sqlx::query_scalar::<_, bool>(exists).fetch_one(&mut *connection).await? {
                sqlx::raw_sql(MAKE_TABLE).execute(&mut *connection).await?;
            }
            let added = sqlx::query(ADD)
                .bind(name.to_string())
                .bind(xid.to_string())
                .bind(action)
                .bind(&actor.who)
                .bind(&actor.origin)
                .bind(&actor.reason)
                .fetch_one(connection)
                .await?;
            added.try_get(0)
        })
        .await
}

/// Writes its end there.
pub(super) async fn end_here(database: &mut Database, id: i64, result: &str) -> Result<(), Trouble> {
    database
        .run(async |connection: &mut PgConnection| {
            sqlx::query(END).bind(id).bind(result).execute(connection).await.map(drop)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_any_name_stands_for_its_resource() {
        assert_eq!(resource_of("Bank A").as_str(), "database.bank-a");
        assert_eq!(resource_of(&"é".repeat(100)).as_str().len(), ResourceName::BYTES_MAX);
    }
}
