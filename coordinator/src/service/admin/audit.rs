//! The audit, as it is read.

use pactum_proto::v1;

use super::Admin;
use super::heuristics::page_size;
use crate::decision_log::{AuditEntry, AuditPage};
use crate::error::ServiceError;

impl Admin {
    /// One page, as it stands: whether its chain holds is for the reader to find out, by himself.
    pub(super) async fn audit_page(
        &self,
        request: v1::ListAuditRequest,
    ) -> Result<v1::ListAuditResponse, ServiceError> {
        let limit = page_size(request.page_size)?;
        let page = match (request.after, request.before) {
            (Some(_), Some(_)) => {
                return Err(ServiceError::malformed(
                    "before",
                    "only one of `after` and `before` can be given",
                ));
            }
            (Some(after), None) => AuditPage::After(after),
            (None, before) => AuditPage::Before(before),
        };
        let entries = self.log.audit(page, limit).await;
        let entries =
            entries.map_err(|error| ServiceError::LogFailed { why: crate::journal::chain(&error) })?;
        Ok(v1::ListAuditResponse { entries: entries.into_iter().map(shown).collect() })
    }
}

fn shown(entry: AuditEntry) -> v1::AuditEntry {
    let AuditEntry { number, at_microseconds, draft, previous, hash } = entry;
    v1::AuditEntry {
        number,
        at_microseconds,
        kind: draft.kind.name().to_owned(),
        begun: draft.begun.unwrap_or(0),
        who: draft.who,
        origin: draft.origin,
        act: draft.act,
        target: draft.target,
        reason: draft.reason,
        plan: draft.plan,
        before: draft.before,
        after: draft.after,
        result: draft.result,
        incarnation: draft
            .incarnation
            .map(|incarnation| incarnation.as_uuid().as_bytes().to_vec())
            .unwrap_or_default(),
        previous: previous.0.to_vec(),
        hash: hash.0.to_vec(),
    }
}
