//! Sees the WARNINGs that a server sends with its answers.
//!
//! A commit whose wait for a synchronous standby was cancelled answers success, with a WARNING:
//! it is durable here and nowhere else, and a failover would undo it. So a WARNING makes an
//! answer unknown (law 5, `failure-matrix` H8). sqlx hands notices to `tracing` alone (target
//! `sqlx::postgres::notice`), so statements run under a subscriber of ours, which notes them and
//! passes everything on to the subscriber that was there before, under that one's own filters.
//!
//! Whether notices arrive at all is proved on every new connection (`Session` raises one): a
//! build of `tracing` without warnings, or something between that swallows them, is an error at
//! connect and not a lost decision.
//!
//! ```text
//!  server ── WARNING ──▶ sqlx ── tracing event ──▶ Listener ──▶ the subscriber before
//!                                                     └──▶ Notices::watch: unknown
//! ```

use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tracing::dispatcher::{self, Dispatch};
use tracing::field::{Field, Visit};
use tracing::instrument::WithSubscriber as _;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Level, Metadata};

use super::session::SessionError;

/// Where sqlx reports what a server said beside its answers.
const TARGET: &str = "sqlx::postgres::notice";

/// The notices of one connection.
#[derive(Debug)]
pub(super) struct Notices {
    seen: Arc<Seen>,
    dispatch: Dispatch,
}

#[derive(Debug)]
struct Seen {
    /// The latest notice, and how grave it was.
    latest: RwLock<Option<(Level, String)>>,
    /// Who gets everything that is not ours.
    before: RwLock<Dispatch>,
}

impl Notices {
    pub(super) fn new() -> Self {
        let seen = Arc::new(Seen { latest: RwLock::default(), before: RwLock::new(Dispatch::none()) });
        let dispatch = Dispatch::new(Listener { seen: Arc::clone(&seen) });
        Self { seen, dispatch }
    }

    /// Runs a statement; a WARNING beside its answer, or no answer within `limit`, is an error.
    pub(super) async fn watch<T>(
        &self,
        limit: Duration,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, SessionError> {
        self.clear();
        let answer = self.listen(limit, statement).await?;
        match self.latest() {
            Some((level, text)) if level <= Level::WARN => Err(SessionError::Warned(text)),
            _ => Ok(answer),
        }
    }

    /// Runs a statement that raises a notice, and says whether that was seen.
    pub(super) async fn hears(
        &self,
        limit: Duration,
        statement: impl Future<Output = Result<(), sqlx::Error>>,
    ) -> Result<bool, SessionError> {
        self.clear();
        self.listen(limit, statement).await?;
        Ok(self.latest().is_some())
    }

    async fn listen<T>(
        &self,
        limit: Duration,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, SessionError> {
        dispatcher::get_default(|current| {
            // Never ourselves, or an event would go round for ever.
            if !current.is::<Listener>() {
                *self.seen.before.write().unwrap_or_else(PoisonError::into_inner) = current.clone();
            }
        });
        match tokio::time::timeout(limit, statement).with_subscriber(self.dispatch.clone()).await {
            Ok(answer) => answer.map_err(SessionError::Database),
            Err(_elapsed) => Err(SessionError::TimedOut(limit)),
        }
    }

    fn clear(&self) {
        *self.seen.latest.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn latest(&self) -> Option<(Level, String)> {
        self.seen.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Seen {
    fn before(&self) -> Dispatch {
        self.before.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the gravest notice of a statement.
    fn note(&self, level: Level, text: String) {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some((kept, _)) if *kept <= level => {}
            _ => *latest = Some((level, text)),
        }
    }
}

/// The subscriber. Spans are the business of the one before.
#[derive(Debug)]
struct Listener {
    seen: Arc<Seen>,
}

fn is_notice(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET && *metadata.level() <= Level::INFO
}

impl Subscriber for Listener {
    /// Asked for all callsites of the process: `never` for what is not ours leaves the others'
    /// answer standing, since a callsite is off only if every subscriber says so.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_notice(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_notice(metadata) || self.seen.before().enabled(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        if is_notice(event.metadata()) {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.seen.note(*event.metadata().level(), text.0);
        }
        let before = self.seen.before();
        if before.enabled(event.metadata()) {
            before.event(event);
        }
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.seen.before().new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.seen.before().record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.seen.before().record_follows_from(span, follows);
    }

    fn enter(&self, span: &Id) {
        self.seen.before().enter(span);
    }

    fn exit(&self, span: &Id) {
        self.seen.before().exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.seen.before().clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.seen.before().try_close(span)
    }
}

/// Reads an event's message.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }
}
