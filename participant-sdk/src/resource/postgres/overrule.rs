//! An operator ends a prepared branch by hand, whatever is decided.
//!
//! Only the execution that was named: if another is prepared, nothing is done. What is answered is
//! known by the server's answer or by evidence; where neither can be had, it is unknown (law 5). The
//! hooks `commit` and `abort` that come later find out by the same evidence, and answer a heuristic
//! outcome where the decision is another.

use pactum_core::id::PreparedName;
use pactum_core::vote::Evidence;
use sqlx::Row as _;

use super::Inner;
use super::control::bounded;
use super::evidence::{self, Anchor};
use super::finish::{self, Ended, Failed, Fate, Verb};
use crate::resource::{BranchPresence, HookError};

/// The hook `overrule`.
pub(super) async fn overrule(
    inner: &Inner,
    name: &PreparedName,
    prepared: &Evidence,
    commit: bool,
) -> Result<BranchPresence, HookError> {
    let Some((xid, anchor)) = evidence::read(prepared) else {
        return Err(HookError::new(format!(
            "nothing was done: the evidence {prepared:?} was not written by this version for PostgreSQL"
        )));
    };
    if inner.is_open(name) {
        return Ok(BranchPresence::Open);
    }
    match prepared_xid(inner, name).await? {
        None => return Ok(became(inner, name, xid, &anchor).await),
        Some(other) if other != xid => {
            return Err(HookError::new(format!(
                "nothing was done: transaction {other} is prepared under this name, and not {xid}"
            )));
        }
        Some(_) => {}
    }
    let verb = if commit { Verb::Commit } else { Verb::RollBack };
    let mut ended = finish::attempt(inner, name, verb).await;
    if let Err(Failed::Lost(error)) = ended {
        // Done or not. If it is still prepared, it is ended now; if not, the evidence tells.
        tracing::warn!(branch = %name, %error, "the answer was lost; trying once more");
        ended = match prepared_xid(inner, name).await {
            Ok(Some(still)) if still == xid => finish::attempt(inner, name, verb).await,
            Ok(_) => Ok(Ended::Missing),
            Err(error) => Err(Failed::Lost(error)),
        };
        if let Err(error) = &ended {
            tracing::warn!(branch = %name, ?error, "it is not known whether the branch was ended");
            return Ok(BranchPresence::Unknown);
        }
    }
    match ended {
        Ok(Ended::Missing) => Ok(became(inner, name, xid, &anchor).await),
        Ok(Ended::Done) => {
            let asked = if commit { BranchPresence::Committed } else { BranchPresence::Aborted };
            Ok(confirmed(name, asked, became(inner, name, xid, &anchor).await))
        }
        Err(Failed::Refused(error)) => Err(HookError::new(format!("nothing was done: {error}"))),
        Err(Failed::Lost(_)) => Ok(BranchPresence::Unknown),
    }
}

/// The server said that it was done. The evidence may be silent about that, but not against it.
fn confirmed(name: &PreparedName, asked: BranchPresence, evidence: BranchPresence) -> BranchPresence {
    match evidence {
        BranchPresence::Committed | BranchPresence::Aborted if evidence != asked => {
            // Between the look and the act another execution took the name, which nobody should do.
            tracing::error!(branch = %name, ?asked, ?evidence, "another execution was ended than the one meant");
            evidence
        }
        BranchPresence::Open
        | BranchPresence::Prepared
        | BranchPresence::Committed
        | BranchPresence::Aborted
        | BranchPresence::Unknown => asked,
    }
}

/// The execution that is prepared under the name in this database. Looked at twice, as scans do: see
/// [`finish::still_prepared`].
async fn prepared_xid(inner: &Inner, name: &PreparedName) -> Result<Option<u64>, HookError> {
    let mut control = inner.control().await?;
    let look = async {
        let session = control.session();
        let rows = sqlx::query(
            "SELECT gid, transaction::text, (SELECT pg_snapshot_xmax(pg_current_snapshot())::text) \
               FROM pg_catalog.pg_prepared_xacts \
              WHERE gid = $1 AND database = current_database()",
        )
        .bind(name.to_string())
        .fetch_all(&mut *session)
        .await?;
        let still = finish::still_prepared(session, &rows).await?;
        let row = rows.first().filter(|_| !still.is_empty());
        row.map(|row| evidence::xid_of(&row.try_get::<String, _>(1)?, &row.try_get::<String, _>(2)?))
            .transpose()
    };
    let found = bounded(look).await;
    finish::conclude(&mut control, found, "looking for the prepared branch").map_err(HookError::from)
}

/// What became of an execution that is not prepared. A commit that is told is durable.
async fn became(inner: &Inner, name: &PreparedName, xid: u64, anchor: &Anchor) -> BranchPresence {
    match finish::fate(inner, name, xid, anchor).await {
        Ok(Fate::Committed) => BranchPresence::Committed,
        Ok(Fate::Aborted) => BranchPresence::Aborted,
        Ok(Fate::InProgress | Fate::Unprovable) => BranchPresence::Unknown,
        Err(error) => {
            tracing::warn!(branch = %name, %error, "what became of the branch could not be asked");
            BranchPresence::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_word_stands_unless_the_evidence_contradicts_it() {
        use BranchPresence::{Aborted, Committed, Open, Prepared, Unknown};
        let ids = "00000000000000000000000000000001:00000000000000000000000000000002:0000000000000003";
        let name: PreparedName = format!("pactum:c:{ids}").parse().unwrap();
        for silent in [Open, Prepared, Unknown, Committed] {
            assert_eq!(confirmed(&name, Committed, silent), Committed);
        }
        assert_eq!(confirmed(&name, Committed, Aborted), Aborted);
        assert_eq!(confirmed(&name, Aborted, Committed), Committed);
    }
}
