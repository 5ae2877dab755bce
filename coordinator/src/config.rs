//! What one coordinator is told once: parsed and checked here, then trusted.
//!
//! Where the values come from (defaults, a file, the environment, flags) is the command's
//! business. Unknown keys are refused; durations are text such as `3s` or `7days`.

mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pactum_core::coordinator as core;
use pactum_core::time::RetryDelay;
use serde::{Deserialize, Serialize};

use crate::decision_log::postgres::PostgresLogOptions;
use crate::observe::Observer;
use crate::trace::Tracer;

pub use self::settings::{DEFAULT_ORIGIN, Setting};

/// Settings of one coordinator.
///
/// Times have no say in any outcome (law 6): a wrong one costs patience, never consistency.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the decision log is; carried for the command, which opens it. Default none. One on a machine of its
    /// own costs a network round trip for each batch; one beside the coordinator, processor time.
    pub log: Option<LogUrl>,
    /// Synchronous standbys that a log in PostgreSQL must be set to wait for. Default 0. With fewer it is not
    /// opened, or not written any more. With 1 or more a failover to such a standby loses no decision. More
    /// survives more losses and makes the log unavailable when fewer standbys stream; 0 trusts one machine's disk.
    pub log_standbys_min: u32,
    /// Longest wait for the answer to one statement of a log in PostgreSQL; then its outcome is unknown, and is
    /// settled by another connection. Default 5 s. More is kinder to a slow disk or standby; less finds
    /// a hung server sooner.
    #[serde(with = "humantime_serde")]
    pub log_answer_limit: Duration,
    /// Where applications and participants are served. Default `127.0.0.1:7600`.
    pub listen: SocketAddr,
    /// Where operators are served. Default `127.0.0.1:7601`.
    pub admin_listen: SocketAddr,
    /// Where applications and participants that know another coordinator are told to find this one:
    /// `host:port`. Default: the bound address; if that means any address (`0.0.0.0`), nothing is
    /// told, with a warning.
    pub advertise: Option<String>,
    /// Certificate and key. Default none: then only loopback addresses are served.
    pub tls: Option<Tls>,
    /// Serve other than loopback addresses without TLS. Default false: whoever reaches the port
    /// could decide transactions and read payloads.
    pub unsafe_plaintext: bool,
    /// A file with the tokens that the admin address asks for: see `docs/console.md`. It is read again
    /// when it changes. Default none: then nobody is asked, and only a loopback address is served.
    pub admin_tokens: Option<PathBuf>,
    /// Refuse every act on the admin address, whoever asks. Default false.
    pub admin_read_only: bool,
    /// Names under which browsers reach the admin address, without a port. Default none: loopback
    /// names, the bound address and the host of `advertise`. A request for any other name is refused,
    /// so that no foreign page can have its own name point here.
    pub admin_hosts: Vec<String>,
    /// Serve operators on other than loopback addresses without TLS, or without tokens. Default
    /// false: whoever reaches the port could end transactions.
    pub unsafe_admin: bool,

    /// Tasks that share the transactions by gid. Default: [`worker_threads`](Self::worker_threads). More than
    /// threads makes batches smaller; fewer leaves threads idle.
    pub shards: usize,
    /// Open transactions, all shards together. Default 1 000 000. More costs memory, about 1 KiB
    /// each, and more where payloads are large; fewer sheds new ones sooner while many wait for people or
    /// for a participant that is away. It is no protection against overload: that needs no setting.
    pub transactions_open_max: usize,
    /// Calls waiting for one shard, and as many messages of participants. Default 8192. More accepts
    /// longer bursts and costs latency and memory under overload; fewer sheds unary calls sooner, and stops
    /// reading streams sooner.
    pub shard_queue_max: usize,
    /// Unanswered calls on one pipeline stream; a KiB of payloads counts as one more. Default 8192. At the
    /// limit its stream is not read until answers have gone out, and if our own queues stand meanwhile, new
    /// transactions are shed. More lets one application take more of the queues, so that overload is noticed
    /// later and all wait longer until then; fewer bounds throughput: to so many in the time that one takes.
    pub pipeline_in_flight_max: usize,
    /// Messages waiting for one slow reader of a stream. Default 65 536. More costs memory for
    /// each slow participant; fewer cuts it off sooner, and its stream must be opened again.
    pub outbox_messages_max: usize,
    /// The same in bytes. Default 16 MiB. More costs that much for each slow participant; less cuts off those
    /// sooner whose operations carry large payloads.
    pub outbox_bytes_max: usize,
    /// Attached participants. Default 1024. More costs memory: each may fill an outbox. Beyond it they are
    /// turned away and try again.
    pub participants_max: usize,
    /// Connections on each of the two ports. Default 4096. More costs memory: each may have 8 MiB on its way to
    /// us. With fewer, further ones wait to be accepted.
    pub connections_max: usize,
    /// Concurrent calls on one connection. Default 1024. Fewer protects against one bad peer; more
    /// serves applications that use unary calls over one connection.
    pub streams_per_connection_max: u32,

    /// Branches in one transaction. Default 64, which is also the most the wire allows. Fewer refuses larger
    /// ones, which hold more locks for longer.
    pub branches_max: usize,
    /// A transaction's timeout where none is given. Default 30 s. More holds locks for longer when an
    /// application dies before its commit; less aborts slow work.
    #[serde(with = "humantime_serde")]
    pub timeout_default: Duration,
    /// The longest timeout; a longer one is cut. Default 1 h. More lets forgotten transactions
    /// hold locks for longer; less aborts work that people take part in.
    #[serde(with = "humantime_serde")]
    pub timeout_max: Duration,
    /// How long after the decision a caller waits for branches to finish. Default 5 s. More lets
    /// more callers read their own writes; less answers sooner while a participant is away.
    #[serde(with = "humantime_serde")]
    pub finished_bound: Duration,
    /// How long a caller waits for a register whose answer was lost before it is told *unknown*.
    /// Default 2 s. More lets more callers have a definite answer at once; less sends them to ask again.
    #[serde(with = "humantime_serde")]
    pub unknown_bound: Duration,
    /// Before the second attempt at a delivery. Default 100 ms; doubled each time. More finishes a branch
    /// later that failed once; less tells participants twice that are only behind.
    #[serde(with = "humantime_serde")]
    pub retry_first: Duration,
    /// The longest pause between attempts. Default 3 s. More is kinder to a resource in trouble;
    /// less finishes its branches sooner once it is back.
    #[serde(with = "humantime_serde")]
    pub retry_cap: Duration,
    /// A transaction undecided for this long is recorded for operators. Default 1 s; 0 records
    /// every one, which costs the log a second row for each. More leaves operators without a trace of more
    /// transactions after a crash; no outcome depends on it.
    #[serde(with = "humantime_serde")]
    pub prepare_record_after: Duration,
    /// Ended gids that are remembered, all shards together. Default 200 000, about 100 bytes each.
    /// More costs that memory; fewer makes slow applications draw a new gid.
    pub remembered_max: usize,

    /// A participant whose stream has ended and that has not attached again within this is given up:
    /// transactions that wait for its vote, or have it enlisted, are aborted instead of waiting for
    /// their deadlines. Default 1 s: a stream that breaks is opened again well within it, and a process that
    /// was restarted is another instance, which brings back nothing that was not prepared. Less aborts
    /// what a stream's quick return would have saved; more holds the other branches' locks for longer.
    #[serde(with = "humantime_serde")]
    pub participant_grace: Duration,
    /// How long a participant may take to say what its database holds of a branch, for operators.
    /// Default 2 s; an order to end a branch by hand may take twice that. More waits longer for a
    /// participant that hangs; less shows a slow database as one that did not answer.
    #[serde(with = "humantime_serde")]
    pub examine_timeout: Duration,
    /// Between heartbeats in the log. Default 1 s. Less costs the log more small writes; more needs a longer
    /// lease, so that a dead coordinator is noticed later.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// Another coordinator whose heartbeat stands still for this long, by our clock and give or take
    /// half a heartbeat, is ended and recovered. Default 3 s. More delays takeover; less ends coordinators that are only slow,
    /// which is safe and unkind. At least twice the heartbeat.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// Decisions are kept at least this long after they were written. Default 7 days. More costs
    /// rows; less makes outcomes *forgotten* to late askers, whose branches go to quarantine.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,

    /// After the signal to stop: how long transactions in flight are served. Default 10 s. More ends more of
    /// them well; less stops sooner, and leaves the rest to others or to the next start.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// From the signal to stop until connections are closed, whatever their peers do. Default 15 s. More waits
    /// for peers that are silent; less cuts off answers that are still being read. At least `drain`.
    #[serde(with = "humantime_serde")]
    pub stop_within: Duration,
    /// Between HTTP/2 pings on a quiet connection. Default 10 s. More notices dead peers later; less costs a
    /// message each time on each connection.
    #[serde(with = "humantime_serde")]
    pub keepalive: Duration,
    /// A peer that leaves a ping unanswered for this long is gone. Default 5 s. More notices dead peers later;
    /// less cuts off those that are only slow.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    /// A peer must have sent its first bytes, and finished a TLS handshake, within this. Default 10 s. More lets
    /// silent peers hold connections for longer; less turns away those on bad networks.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,

    /// Where values come from, by key; for operators, and of no effect. Not part of any file.
    #[serde(skip)]
    pub origins: BTreeMap<String, String>,
    /// Told each step that a crash could split. Not part of any file.
    #[serde(skip)]
    pub observer: Observer,
    /// Takes the spans of traced transactions. Not part of any file.
    #[serde(skip)]
    pub tracer: Tracer,
}

impl Default for Config {
    fn default() -> Self {
        let core = core::Config::default();
        Self {
            log: None,
            log_standbys_min: 0,
            log_answer_limit: PostgresLogOptions::ANSWER_LIMIT,
            listen: SocketAddr::from(([127, 0, 0, 1], 7600)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 7601)),
            advertise: None,
            tls: None,
            unsafe_plaintext: false,
            admin_tokens: None,
            admin_read_only: false,
            admin_hosts: Vec::new(),
            unsafe_admin: false,
            shards: Self::worker_threads(),
            transactions_open_max: 1_000_000,
            shard_queue_max: 8192,
            pipeline_in_flight_max: 8192,
            outbox_messages_max: 65_536,
            outbox_bytes_max: 16 * 1024 * 1024,
            participants_max: 1024,
            connections_max: 4096,
            streams_per_connection_max: 1024,
            branches_max: core.branches_max,
            timeout_default: Duration::from_secs(30),
            timeout_max: core.timeout_max,
            finished_bound: core.finished_bound,
            unknown_bound: core.unknown_bound,
            retry_first: core.retry.first,
            retry_cap: core.retry.cap,
            prepare_record_after: core.undecided_record_after,
            remembered_max: 200_000,
            participant_grace: Duration::from_secs(1),
            examine_timeout: Duration::from_secs(2),
            heartbeat: Duration::from_secs(1),
            lease: Duration::from_secs(3),
            retention: Duration::from_hours(7 * 24),
            drain: Duration::from_secs(10),
            stop_within: Duration::from_secs(15),
            keepalive: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            origins: BTreeMap::new(),
            observer: Observer::default(),
            tracer: Tracer::default(),
        }
    }
}

/// PEM files for TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Certificates that must have signed every client's. Default none: clients are not asked.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// The URL of a decision log. Its `Debug` form and its serialised form show no password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct LogUrl(String);

impl LogUrl {
    /// Wraps a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL as it was given, password included.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogUrl {
    /// The URL with its password, and its query (where a password may also stand), left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, query) = self.0.split_once('?').map_or((self.0.as_str(), ""), |(url, _)| (url, "?…"));
        match shown.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
            Some((scheme, (user, place))) => {
                let user = user.split_once(':').map_or(user, |(user, _)| user);
                write!(f, "{scheme}://{user}@{place}{query}")
            }
            None => write!(f, "{shown}{query}"),
        }
    }
}

impl fmt::Debug for LogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for LogUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Settings that cannot be served with. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value out of its range.
    #[error("{key} is {found}: {remedy}")]
    OutOfRange {
        /// The setting.
        key: &'static str,
        /// Its value.
        found: String,
        /// What is needed.
        remedy: &'static str,
    },
    /// An address that strangers can reach, without TLS.
    #[error(
        "{address} is not a loopback address and there is no certificate: set tls.certificate and tls.key, or unsafe_plaintext = true"
    )]
    Plaintext {
        /// The address.
        address: SocketAddr,
    },
    /// An admin address that strangers can reach, without TLS or without tokens.
    #[error(
        "{address} is not a loopback address, and operators there need {missing}: set it, or listen on loopback, or set unsafe_admin = true"
    )]
    AdminOpen {
        /// The address.
        address: SocketAddr,
        /// The settings that are missing.
        missing: &'static str,
    },
}

impl Config {
    /// How many worker threads a process that serves does best with: one fewer than there are processors, and
    /// at least one. The command's runtime has so many, and by default there are as many shards.
    ///
    /// A runtime that has a thread to spare wakes it whenever a message arrives, to look for work that one
    /// thread could do just as well. The processor that is left free is the kernel's, and the log's if it runs
    /// on the same machine.
    #[must_use]
    pub fn worker_threads() -> usize {
        std::thread::available_parallelism().map_or(1, |processors| threads_beside(processors.get()))
    }

    /// Checks every value, and the addresses.
    ///
    /// # Errors
    /// The first setting that cannot be served with.
    pub fn check(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("shards", self.shards),
            ("transactions_open_max", self.transactions_open_max),
            ("shard_queue_max", self.shard_queue_max),
            ("pipeline_in_flight_max", self.pipeline_in_flight_max),
            ("outbox_messages_max", self.outbox_messages_max),
            ("outbox_bytes_max", self.outbox_bytes_max),
            ("participants_max", self.participants_max),
            ("connections_max", self.connections_max),
            ("remembered_max", self.remembered_max),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(out_of_range(key, "0", "at least 1 is needed"));
            }
        }
        if self.shards > Self::SHARDS_MAX {
            return Err(out_of_range("shards", self.shards.to_string(), "at most 1024 are served"));
        }
        if !(1..=64).contains(&self.branches_max) {
            return Err(out_of_range("branches_max", self.branches_max.to_string(), "1 to 64 are served"));
        }
        if self.examine_timeout.is_zero() {
            return Err(out_of_range("examine_timeout", "0", "a length of time is needed"));
        }
        if self.heartbeat.is_zero() {
            return Err(out_of_range("heartbeat", "0", "a length of time is needed"));
        }
        if self.lease < self.heartbeat * 2 {
            return Err(out_of_range(
                "lease",
                format!("{:?}", self.lease),
                "at least twice the heartbeat is needed",
            ));
        }
        if self.log_answer_limit < Duration::from_millis(100) {
            let found = format!("{:?}", self.log_answer_limit);
            return Err(out_of_range("log_answer_limit", found, "at least 100ms is needed"));
        }
        if self.retry_first.is_zero() || self.retry_cap < self.retry_first {
            let found = format!("{:?}", self.retry_first);
            return Err(out_of_range("retry_first", found, "more than 0 and at most retry_cap is needed"));
        }
        if let Some(address) = &self.advertise {
            let port =
                address.rsplit_once(':').map(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if port != Some(true) || address.contains("//") || address.len() > Self::ADVERTISE_BYTES_MAX {
                return Err(out_of_range(
                    "advertise",
                    address.clone(),
                    "host:port without a scheme is needed",
                ));
            }
        }
        if self.stop_within < self.drain {
            let found = format!("{:?}", self.stop_within);
            return Err(out_of_range("stop_within", found, "at least the length of drain is needed"));
        }
        self.check_address(self.listen)?;
        if let Some(bad) = self.admin_hosts.iter().find(|host| !is_host(host)) {
            return Err(out_of_range(
                "admin_hosts",
                bad.clone(),
                "names or addresses without a port are needed",
            ));
        }
        self.check_admin_address(self.admin_listen)
    }

    /// What the wire allows.
    const ADVERTISE_BYTES_MAX: usize = 255;

    /// Shards beyond this would only make batches smaller.
    const SHARDS_MAX: usize = 1024;

    /// Refuses an address that strangers can reach in plain text.
    ///
    /// # Errors
    /// [`ConfigError::Plaintext`].
    pub fn check_address(&self, address: SocketAddr) -> Result<(), ConfigError> {
        if address.ip().is_loopback() || self.tls.is_some() || self.unsafe_plaintext {
            Ok(())
        } else {
            Err(ConfigError::Plaintext { address })
        }
    }

    /// Refuses an admin address that strangers can reach without TLS, or without a token.
    ///
    /// # Errors
    /// [`ConfigError::AdminOpen`].
    pub fn check_admin_address(&self, address: SocketAddr) -> Result<(), ConfigError> {
        if address.ip().is_loopback() || self.unsafe_admin {
            return Ok(());
        }
        let missing = match (&self.tls, &self.admin_tokens) {
            (Some(_), Some(_)) => return Ok(()),
            (None, None) => "tls.certificate, tls.key and admin_tokens",
            (None, Some(_)) => "tls.certificate and tls.key",
            (Some(_), None) => "admin_tokens",
        };
        Err(ConfigError::AdminOpen { address, missing })
    }

    /// What each shard's core is told.
    pub(crate) fn core(&self) -> core::Config {
        #[allow(clippy::needless_update, reason = "the checkers' build of the core has one field more")]
        core::Config {
            branches_max: self.branches_max,
            timeout_max: self.timeout_max,
            finished_bound: self.finished_bound,
            unknown_bound: self.unknown_bound,
            retry: RetryDelay { first: self.retry_first, cap: self.retry_cap },
            undecided_record_after: self.prepare_record_after,
            remembered_max: (self.remembered_max / self.shards).max(1),
            ..core::Config::default()
        }
    }
}

fn threads_beside(processors: usize) -> usize {
    processors.saturating_sub(1).max(1)
}

/// Whether it may stand in a `Host` header, before the port.
fn is_host(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.chars().all(legal),
    }
}

fn out_of_range(key: &'static str, found: impl Into<String>, remedy: &'static str) -> ConfigError {
    ConfigError::OutOfRange { key, found: found.into(), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_served_with() {
        Config::default().check().unwrap();
    }

    #[test]
    fn an_address_that_strangers_reach_needs_tls_or_a_plain_word() {
        let open = SocketAddr::from(([0, 0, 0, 0], 7600));
        let mut config = Config { listen: open, ..Config::default() };
        assert_eq!(config.check(), Err(ConfigError::Plaintext { address: open }));
        config.unsafe_plaintext = true;
        config.check().unwrap();
    }

    #[test]
    fn an_admin_address_that_strangers_reach_needs_tls_and_tokens_or_a_plain_word() {
        let open = SocketAddr::from(([0, 0, 0, 0], 7601));
        let tls = Some(Tls { certificate: "c".into(), key: "k".into(), client_ca: None });
        let tokens = Some(PathBuf::from("tokens.toml"));
        let base = Config { admin_listen: open, unsafe_plaintext: true, ..Config::default() };
        let with = |tls: &Option<Tls>, admin_tokens: &Option<PathBuf>| Config {
            tls: tls.clone(),
            admin_tokens: admin_tokens.clone(),
            ..base.clone()
        };
        let missing = |config: Config| match config.check() {
            Err(ConfigError::AdminOpen { missing, .. }) => missing,
            other => panic!("{other:?}"),
        };
        assert!(missing(with(&None, &None)).contains("admin_tokens"));
        assert_eq!(missing(with(&tls, &None)), "admin_tokens");
        assert_eq!(missing(with(&None, &tokens)), "tls.certificate and tls.key");
        with(&tls, &tokens).check().unwrap();
        Config { unsafe_admin: true, ..base }.check().unwrap();
    }

    #[test]
    fn one_processor_is_left_free_if_there_is_more_than_one() {
        assert_eq!([1, 2, 3, 64].map(threads_beside), [1, 1, 2, 63]);
        assert_eq!(Config::default().shards, Config::worker_threads());
    }

    #[test]
    fn hosts_are_names_or_addresses_without_a_port() {
        let check = |host: &str| Config { admin_hosts: vec![host.into()], ..Config::default() }.check();
        for good in ["pactum.example", "coordinator-1", "10.0.0.7", "[::1]"] {
            check(good).unwrap();
        }
        for bad in ["", "pactum.example:7601", "https://pactum.example", "a b", "::1"] {
            assert!(matches!(check(bad), Err(ConfigError::OutOfRange { key: "admin_hosts", .. })), "{bad}");
        }
    }

    #[test]
    fn a_lease_shorter_than_two_heartbeats_is_refused() {
        let config = Config { lease: Duration::from_secs(1), ..Config::default() };
        assert!(matches!(config.check(), Err(ConfigError::OutOfRange { key: "lease", .. })));
    }

    #[test]
    fn what_is_advertised_is_a_host_and_a_port() {
        let check = |address: &str| Config { advertise: Some(address.into()), ..Config::default() }.check();
        for good in ["coordinator-1:7600", "10.0.0.7:7600", "[::1]:7600"] {
            check(good).unwrap();
        }
        for bad in ["coordinator-1", "http://coordinator-1:7600", ":7600", "coordinator-1:http", ""] {
            assert!(matches!(check(bad), Err(ConfigError::OutOfRange { key: "advertise", .. })), "{bad}");
        }
    }

    #[test]
    fn keys_are_text_and_unknown_ones_are_refused() {
        let config: Config = serde_json::from_str(r#"{"lease": "5s", "retention": "2days"}"#).unwrap();
        assert_eq!(config.lease, Duration::from_secs(5));
        assert_eq!(config.retention, Duration::from_hours(48));
        let error = serde_json::from_str::<Config>(r#"{"leese": "5s"}"#).unwrap_err();
        assert!(error.to_string().contains("leese"), "{error}");
    }

    #[test]
    fn a_password_is_not_shown() {
        for url in
            ["postgres://u:secret@h/db", "postgres://u:se@secret@h/db", "postgres://h/db?password=secret"]
        {
            let config = Config { log: Some(LogUrl::new(url)), ..Config::default() };
            assert!(!format!("{config:?}").contains("secret"), "{config:?}");
            assert!(!serde_json::to_string(&config).unwrap().contains("secret"));
        }
    }
}
