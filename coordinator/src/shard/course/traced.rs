//! The spans of one traced transaction, while it is open.

use std::time::SystemTime;

use pactum_core::id::{BranchId, Gid};
use pactum_core::time::Timestamp;

use crate::trace::{Span, SpanKind, SpanRef, Tracer};

/// Turns the shards' time into time of day, for spans.
#[derive(Debug)]
pub(super) struct Spans {
    pub(super) tracer: Tracer,
    /// The time of day at the shards' origin.
    origin: SystemTime,
}

impl Spans {
    /// `now` is the time since the shards' origin.
    pub(super) fn new(tracer: Tracer, now: Timestamp) -> Self {
        let today = SystemTime::now();
        Self { tracer, origin: today.checked_sub(now.since_origin()).unwrap_or(today) }
    }

    fn day(&self, at: Timestamp) -> SystemTime {
        self.origin + at.since_origin()
    }
}

/// One traced transaction.
#[derive(Debug)]
pub(super) struct Traced {
    own: SpanRef,
    name: &'static str,
    parent: Option<[u8; 8]>,
    link: Option<SpanRef>,
    began: Timestamp,
    open: Vec<Open>,
}

/// A span beneath it that has not ended.
#[derive(Debug)]
struct Open {
    name: &'static str,
    /// None for the decision.
    branch: Option<BranchId>,
    resource: String,
    id: SpanRef,
    began: Timestamp,
}

impl Traced {
    /// Of our own, beneath its application's span.
    pub(super) fn beneath(parent: SpanRef, now: Timestamp) -> Self {
        let parent_span = Some(parent.span);
        let own = parent.child();
        Self {
            own,
            name: "pactum transaction",
            parent: parent_span,
            link: None,
            began: now,
            open: Vec::new(),
        }
    }

    /// Of another coordinator, taken up here. Its application's span ended long ago, so it is a trace of
    /// its own with a link.
    pub(super) fn recovered(original: SpanRef, now: Timestamp) -> Self {
        let link = Some(original);
        Self {
            own: SpanRef::root(),
            name: "pactum recover",
            parent: None,
            link,
            began: now,
            open: Vec::new(),
        }
    }

    /// Something begins; once, however often it is tried.
    pub(super) fn begin(
        &mut self,
        name: &'static str,
        branch: Option<BranchId>,
        resource: &str,
        now: Timestamp,
    ) {
        if self.place(name, branch).is_none() {
            let id = self.own.child();
            self.open.push(Open { name, branch, resource: resource.to_owned(), id, began: now });
        }
    }

    fn place(&self, name: &str, branch: Option<BranchId>) -> Option<usize> {
        self.open.iter().position(|open| open.name == name && open.branch == branch)
    }

    /// The `traceparent` for a participant that is asked to prepare.
    pub(super) fn traceparent(&self, branch: BranchId) -> Option<String> {
        Some(self.open[self.place("prepare", Some(branch))?].id.traceparent())
    }

    /// Something has ended, so; with an error if it did not go well.
    pub(super) fn end(
        &mut self,
        name: &'static str,
        branch: Option<BranchId>,
        how: &str,
        error: Option<&str>,
        spans: &Spans,
        now: Timestamp,
    ) {
        if let Some(place) = self.place(name, branch) {
            let open = self.open.swap_remove(place);
            self.tell(open, how, error, spans, now);
        }
    }

    fn tell(&self, open: Open, how: &str, error: Option<&str>, spans: &Spans, now: Timestamp) {
        let Open { name, branch, resource, id, began } = open;
        let mut attributes = vec![("pactum.result", how.to_owned())];
        if let Some(branch) = branch {
            attributes.push(("pactum.branch", branch.to_string()));
            attributes.push(("pactum.resource", resource));
        }
        spans.tracer.take(Span {
            id,
            parent: Some(self.own.span),
            parent_is_remote: false,
            links: Vec::new(),
            name,
            kind: if branch.is_some() { SpanKind::Client } else { SpanKind::Internal },
            start: spans.day(began),
            end: spans.day(now),
            attributes,
            error: error.map(str::to_owned),
        });
    }

    /// The transaction is over, and with it whatever was still awaited.
    pub(super) fn over(
        mut self,
        gid: Gid,
        outcome: &str,
        error: Option<&str>,
        spans: &Spans,
        now: Timestamp,
    ) {
        for open in std::mem::take(&mut self.open) {
            self.tell(open, "not awaited", None, spans, now);
        }
        spans.tracer.take(Span {
            id: self.own,
            parent: self.parent,
            parent_is_remote: self.parent.is_some(),
            links: self.link.into_iter().collect(),
            name: self.name,
            kind: if self.parent.is_some() { SpanKind::Server } else { SpanKind::Internal },
            start: spans.day(self.began),
            end: spans.day(now),
            attributes: vec![("pactum.gid", gid.to_string()), ("pactum.outcome", outcome.to_owned())],
            error: error.map(str::to_owned),
        });
    }
}
