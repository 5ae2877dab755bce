//! Spans: what a trace shows of a transaction's way through this coordinator.
//!
//! ```text
//!  application's span ─▶ transaction ─┬─ prepare (each branch) ─▶ participant's span
//!                                     ├─ decide
//!                                     └─ commit or abort (each branch)
//!
//!  a commit that another coordinator left:  recover ── linked to ──▶ application's span
//! ```
//!
//! A transaction is traced if its application sent a W3C `traceparent` with the *sampled* flag, and
//! somebody takes spans: see [`Tracer`]. Each Prepare then carries a `traceparent` of its own span, so
//! that what the participant does hangs beneath it.
//!
//! Spans are handed out when they have ended, as plain data: a shard holds nothing open that a
//! library for tracing would have to keep, and where nobody takes them it does no more than look
//! whether somebody does. How they are exported is the business of whoever takes them.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Names a span, everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpanRef {
    /// The trace.
    pub trace: [u8; 16],
    /// The span in it.
    pub span: [u8; 8],
}

impl SpanRef {
    /// Reads a `traceparent` (W3C Trace Context, section 3.2); none if it is malformed or not sampled.
    pub(crate) fn sampled(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_known = version.len() == 2 && version != "ff" && flags.len() == 2;
        if !is_known || trace.len() != 32 || span.len() != 16 {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let trace = u128::from_str_radix(trace, 16).ok()?;
        let span = u64::from_str_radix(span, 16).ok()?;
        let is_sampled = flags & 1 == 1 && trace != 0 && span != 0;
        is_sampled.then(|| Self { trace: trace.to_be_bytes(), span: span.to_be_bytes() })
    }

    /// As a `traceparent`.
    pub(crate) fn traceparent(&self) -> String {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        format!("00-{trace:032x}-{span:016x}-01")
    }

    /// A new span in the same trace.
    pub(crate) fn child(&self) -> Self {
        Self { trace: self.trace, span: draw() }
    }

    /// A span in a new trace.
    pub(crate) fn root() -> Self {
        Self { trace: rand::random::<u128>().max(1).to_be_bytes(), span: draw() }
    }
}

/// All zero names nothing.
fn draw() -> [u8; 8] {
    rand::random::<u64>().max(1).to_be_bytes()
}

/// Whom a span speaks with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpanKind {
    /// Serves a call of an application.
    Server,
    /// Asks a participant.
    Client,
    /// Neither.
    Internal,
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name in the trace.
    pub id: SpanRef,
    /// The span beneath which it is; none for a root.
    pub parent: Option<[u8; 8]>,
    /// Whether that is another process's.
    pub parent_is_remote: bool,
    /// Spans of other traces that it belongs to.
    pub links: Vec<SpanRef>,
    /// What was done.
    pub name: &'static str,
    /// Whom it speaks with.
    pub kind: SpanKind,
    /// When it began, by this machine's clock.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What else there is to say: gid, branch, resource, outcome.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it did not go well; none if it did. An abort that was asked for is no error.
    pub error: Option<String>,
}

/// What takes a span.
type Take = Arc<dyn Fn(Span) + Send + Sync>;

/// Takes spans; the default takes none.
#[derive(Clone, Default)]
pub struct Tracer(Option<Take>);

impl Tracer {
    /// One that hands each span to `take`, which must not block: it is called by the task that serves
    /// a share of all transactions.
    pub fn new(take: impl Fn(Span) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(take)))
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn take(&self, span: Span) {
        if let Some(take) = &self.0 {
            take(span);
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tracer(..)" } else { "Tracer(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_reads_back_and_one_that_is_not_sampled_traces_nothing() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(SpanRef::sampled(text).unwrap().traceparent(), text);
        for not in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01",
        ] {
            assert_eq!(SpanRef::sampled(not), None, "{not:?}");
        }
    }
}
