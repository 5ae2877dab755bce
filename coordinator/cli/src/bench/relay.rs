//! Counts what goes over the wires: relays between two ends that look at every byte and change none. A
//! relay costs processor time, so nothing that is timed goes through one; runs that are counted are their own.

mod grpc;
mod postgres;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::exit::Exit;
use crate::failure::Failure;

/// What is read at once: more than either end sends in one piece.
const BUFFER_BYTES: usize = 64 * 1024;

/// What went over the wires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Times that somebody sent statements to PostgreSQL and waited for the answer.
    pub(super) sql_round_trips: u64,
    /// Bytes to and from PostgreSQL.
    pub(super) sql_bytes: u64,
    /// gRPC messages, both ways. One message of a stream may hold many entries.
    pub(super) messages: u64,
    /// Bytes of those connections, both ways, with all that HTTP/2 adds.
    pub(super) bytes: u64,
}

impl Traffic {
    /// What was added since then.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            sql_round_trips: self.sql_round_trips - before.sql_round_trips,
            sql_bytes: self.sql_bytes - before.sql_bytes,
            messages: self.messages - before.messages,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// The ways from everybody to everybody: straight, or through relays that count.
#[derive(Debug, Default)]
pub(super) struct Wires {
    counts: Option<Arc<Counts>>,
    relays: Vec<AbortOnDropHandle<()>>,
}

impl Wires {
    /// Straight ways: nothing is counted.
    pub(super) fn direct() -> Self {
        Self::default()
    }

    /// Ways through relays, which end with this.
    pub(super) fn counting() -> Self {
        Self { counts: Some(Arc::default()), relays: Vec::new() }
    }

    /// The URL by which to reach a log or a database. Only PostgreSQL is reached over a wire.
    pub(super) async fn sql(&mut self, url: String) -> Result<String, Failure> {
        if url.starts_with("postgres") { self.through(url, Kind::Postgres).await } else { Ok(url) }
    }

    /// The URL by which to reach a coordinator.
    pub(super) async fn grpc(&mut self, url: String) -> Result<String, Failure> {
        self.through(url, Kind::Grpc).await
    }

    /// What went through all relays so far; `None` if there are none.
    ///
    /// # Errors
    /// Something went through that is not what it should be.
    pub(super) fn traffic(&self) -> Result<Option<Traffic>, Failure> {
        let Some(counts) = &self.counts else { return Ok(None) };
        if counts.unclear.load(Ordering::SeqCst) {
            return Err(Failure::new(
                Exit::Failed,
                "what goes over the wires cannot be read, so it cannot be counted",
            ));
        }
        Ok(Some(Traffic {
            sql_round_trips: counts.sql_round_trips.load(Ordering::SeqCst),
            sql_bytes: counts.sql_bytes.load(Ordering::SeqCst),
            messages: counts.messages.load(Ordering::SeqCst),
            bytes: counts.bytes.load(Ordering::SeqCst),
        }))
    }

    async fn through(&mut self, url: String, kind: Kind) -> Result<String, Failure> {
        let Some(counts) = &self.counts else { return Ok(url) };
        let place = authority(&url);
        let target: SocketAddr = url[place.clone()].parse().map_err(|error| {
            Failure::new(Exit::Failed, "only an address of this machine can be relayed").because(&error)
        })?;
        let failed = |error| Failure::new(Exit::Failed, "no relay can be started").because(&error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let own = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(relay(listener, target, kind, Arc::clone(counts)));
        self.relays.push(AbortOnDropHandle::new(task));
        let mut relayed = url;
        relayed.replace_range(place, &own.to_string());
        Ok(relayed)
    }
}

/// Where the host and port stand in a URL.
fn authority(url: &str) -> Range<usize> {
    let start = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[start..].find('/').map_or(url.len(), |path| start + path);
    let start = url[start..end].rfind('@').map_or(start, |user| start + user + 1);
    start..end
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Postgres,
    Grpc,
}

#[derive(Debug, Default)]
struct Counts {
    sql_round_trips: AtomicU64,
    sql_bytes: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    unclear: AtomicBool,
}

/// What both directions of one connection say, byte by byte.
enum Conversation {
    Postgres(postgres::Conversation),
    Grpc(grpc::Conversation),
}

/// Something that is not of the protocol, or of a part of it that these ends do not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unclear;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Conversation {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Postgres => Self::Postgres(postgres::Conversation::default()),
            Kind::Grpc => Self::Grpc(grpc::Conversation::default()),
        }
    }

    fn hear(&mut self, from: Side, bytes: &[u8], counts: &Counts) -> Result<(), Unclear> {
        let (heard, events, volume) = match (self, from) {
            (Self::Postgres(own), Side::Client) => {
                own.client(bytes);
                (Ok(0), &counts.sql_round_trips, &counts.sql_bytes)
            }
            (Self::Postgres(own), Side::Server) => {
                (own.server(bytes), &counts.sql_round_trips, &counts.sql_bytes)
            }
            (Self::Grpc(own), Side::Client) => (own.client(bytes), &counts.messages, &counts.bytes),
            (Self::Grpc(own), Side::Server) => (own.server(bytes), &counts.messages, &counts.bytes),
        };
        events.fetch_add(heard?, Ordering::SeqCst);
        volume.fetch_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX), Ordering::SeqCst);
        Ok(())
    }
}

/// Relays all connections until it is aborted.
async fn relay(listener: TcpListener, target: SocketAddr, kind: Kind, counts: Arc<Counts>) {
    let mut connections = tokio::task::JoinSet::new();
    // A connection that ends while it is accepted is the other end's to complain of.
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let counts = Arc::clone(&counts);
        connections.spawn(async move {
            if let Err(error) = connect(client, target, kind, counts).await {
                // The ends see that their connection has ended.
                tracing::debug!(%error, %target, "a relayed connection ended");
            }
        });
    }
}

async fn connect(client: TcpStream, target: SocketAddr, kind: Kind, counts: Arc<Counts>) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let conversation = Arc::new(Mutex::new(Conversation::new(kind)));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = pump(from_client, to_server, Side::Client, &conversation, &counts);
    let back = pump(from_server, to_client, Side::Server, &conversation, &counts);
    tokio::try_join!(there, back).map(drop)
}

async fn pump(
    mut read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    from: Side,
    conversation: &Mutex<Conversation>,
    counts: &Counts,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = read.read(&mut buffer).await?;
        if length == 0 {
            return write.shutdown().await;
        }
        let bytes = &buffer[..length];
        // Heard before it is passed on: no answer is heard before its question.
        let heard = conversation.lock().unwrap_or_else(PoisonError::into_inner).hear(from, bytes, counts);
        if heard.is_err() {
            counts.unclear.store(true, Ordering::SeqCst);
        }
        write.write_all(bytes).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_url() {
        let found = |url: &'static str| &url[authority(url)];
        assert_eq!(
            found("postgres://postgres:p@ss@127.0.0.1:5432/postgres?sslmode=disable"),
            "127.0.0.1:5432"
        );
        assert_eq!(found("http://127.0.0.1:7600"), "127.0.0.1:7600");
        assert_eq!(found("http://127.0.0.1:7600/"), "127.0.0.1:7600");
    }

    #[tokio::test]
    async fn a_relay_passes_everything_on_and_counts_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("postgres://postgres@{}/postgres", listener.local_addr().unwrap());
        let mut wires = Wires::counting();
        let relayed = wires.sql(url.clone()).await.unwrap();
        assert_ne!(relayed, url);
        let mut client = TcpStream::connect(&relayed[authority(&relayed)]).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();

        let start_up = [0, 0, 0, 9, 0, 3, 0, 0, 0];
        client.write_all(&start_up).await.unwrap();
        let mut heard = [0; 9];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, start_up);
        let ready = [b'Z', 0, 0, 0, 5, b'I'];
        for _ in 0..2 {
            client.write_all(b"Q").await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
            server.write_all(&ready).await.unwrap();
            let mut heard = [0; 6];
            client.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, ready);
        }
        let expected = Traffic { sql_round_trips: 1, sql_bytes: 9 + 2 * 7, ..Traffic::default() };
        assert_eq!(wires.traffic().unwrap(), Some(expected));

        drop(client);
        assert_eq!(server.read(&mut heard).await.unwrap(), 0, "the end is passed on");
    }

    #[tokio::test]
    async fn straight_ways_are_not_counted() {
        let mut wires = Wires::direct();
        assert_eq!(wires.grpc("http://127.0.0.1:1".to_owned()).await.unwrap(), "http://127.0.0.1:1");
        assert_eq!(wires.traffic().unwrap(), None);
    }
}
