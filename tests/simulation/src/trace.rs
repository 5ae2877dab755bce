//! What happened in a run, line by line, and its digest: two runs of one seed must agree in both.
//!
//! A line says when (in simulated time), where, and what. Nothing in it depends on the process: no
//! address of memory, no thread, no real clock. An ERROR of Pactum's own says that a promise was seen
//! broken, so it fails the run.

use std::fmt::{self, Debug, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// How much is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Pactum's events, and that messages were sent.
    Ordinary,
    /// Also what was in them.
    Bytes,
}

/// Takes every event of the process. Clones share it.
#[derive(Clone, Debug)]
pub struct Trace {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    detail: Detail,
    /// Whether lines are printed as they come.
    print: bool,
    last_span: AtomicU64,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    now: Duration,
    digest: Digest,
    lines: u64,
    line: String,
    errors: Vec<String>,
    /// Spans that name a host.
    hosts: Vec<(u64, String)>,
    entered: Vec<u64>,
}

impl Trace {
    /// Installs itself for this process.
    ///
    /// # Panics
    /// Another one is installed.
    pub fn install(detail: Detail, print: bool) -> Self {
        let shared = Shared { detail, print, last_span: AtomicU64::new(0), noted: Mutex::default() };
        let trace = Self { shared: Arc::new(shared) };
        tracing::subscriber::set_global_default(trace.clone()).expect("it is the only one of this process");
        trace
    }

    /// The simulation has come this far.
    pub fn set_now(&self, now: Duration) {
        self.noted().now = now;
    }

    /// The digest of all lines so far, and how many they are.
    pub fn digest(&self) -> (u64, u64) {
        let noted = self.noted();
        (noted.digest.0, noted.lines)
    }

    /// Pactum's errors so far.
    pub fn errors(&self) -> Vec<String> {
        self.noted().errors.clone()
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.shared.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("pactum")
}

fn is_of_the_network(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "turmoil"
}

impl Subscriber for Trace {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The span that names the host of a step is turmoil's, under the name of its module.
        let names_host = metadata.is_span() && metadata.name() == "node";
        (is_ours(metadata) && *metadata.level() <= Level::DEBUG) || is_of_the_network(metadata) || names_host
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.shared.last_span.fetch_add(1, Ordering::Relaxed) + 1;
        if attributes.metadata().name() == "node" {
            let mut host = Host(String::new());
            attributes.record(&mut host);
            self.noted().hosts.push((id, host.0));
        }
        Id::from_u64(id)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut noted = self.noted();
        let mut line = std::mem::take(&mut noted.line);
        line.clear();
        let host = noted.entered.iter().rev().find_map(|span| {
            let named = noted.hosts.iter().find(|(id, _)| id == span);
            named.map(|(_, name)| name.as_str())
        });
        let mut visit = Line { text: &mut line, bytes: self.shared.detail == Detail::Bytes };
        // Writing to a string does not fail.
        write!(
            visit.text,
            "{:>6} {} {} {}:",
            noted.now.as_millis(),
            host.unwrap_or("-"),
            metadata.level(),
            metadata.target()
        )
        .ok();
        event.record(&mut visit);
        noted.digest.take(line.as_bytes());
        noted.lines += 1;
        if self.shared.print && is_ours(metadata) {
            // Nobody may be left who reads it; the run goes on.
            writeln!(std::io::stdout(), "{line}").ok();
        }
        if *metadata.level() == Level::ERROR && is_ours(metadata) {
            noted.errors.push(line.clone());
        }
        noted.line = line;
    }

    fn enter(&self, span: &Id) {
        self.noted().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut noted = self.noted();
        if let Some(place) = noted.entered.iter().rposition(|entered| *entered == span.into_u64()) {
            noted.entered.remove(place);
        }
    }

    fn try_close(&self, span: Id) -> bool {
        self.noted().hosts.retain(|(id, _)| *id != span.into_u64());
        true
    }
}

/// The name of a host, from its span.
struct Host(String);

impl Visit for Host {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "name" && self.0.is_empty() {
            format!("{value:?}").trim_matches('"').clone_into(&mut self.0);
        }
    }
}

/// Writes the fields of an event.
struct Line<'a> {
    text: &'a mut String,
    /// Whether to write what was in messages, too.
    bytes: bool,
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        match field.name() {
            "message" => write!(self.text, " {value:?}").ok(),
            // Writing out the bytes of each message would take longer than everything else.
            "protocol" if !self.bytes => None,
            name => write!(self.text, " {name}={value:?}").ok(),
        };
    }
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo).
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Digest {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(b"\n") {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
