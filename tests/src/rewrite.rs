//! A proxy in front of PostgreSQL that changes what is asked, or what is answered.
//!
//! A checker that cannot fail proves nothing, and a statement's every word is there for a trace
//! that broke without it. So tests put a *mutant* of the SQL to the server, one word changed, and
//! see that a check fails. The programs under test have no switch for that: this proxy knows
//! enough of the wire protocol to change the text of statements on their way.
//!
//! ```text
//!  program ── Query, Parse ──▶ [Rule::Replace, Rule::Cut] ──▶ PostgreSQL
//!          ◀── [Rule::Pardon] ◀──────── ErrorResponse ───────
//! ```
//!
//! Source: PostgreSQL manual, section *Message Formats*.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// One change. A statement is what one message carries, which may be several in SQL's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The first text, wherever it stands in a statement, becomes the second.
    Replace(&'static str, &'static str),
    /// What stands from the first text up to the second, which stays, is taken out of a statement.
    Cut(&'static str, &'static str),
    /// The error with that SQLSTATE, answered to a statement that holds the text, becomes success.
    Pardon {
        /// A part of the statement; also the tag that is answered.
        statement: &'static str,
        /// The error that is hidden.
        sqlstate: &'static str,
    },
}

impl Rule {
    /// The statement as this rule leaves it; `None` if it has nothing to change.
    fn apply(self, statement: &str) -> Option<String> {
        match self {
            Self::Replace(from, to) => statement.contains(from).then(|| statement.replace(from, to)),
            Self::Cut(from, until) => {
                let start = statement.find(from)?;
                let end = start + statement[start..].find(until)?;
                Some(format!("{}{}", &statement[..start], &statement[end..]))
            }
            Self::Pardon { .. } => None,
        }
    }
}

/// What the connections share.
#[derive(Debug)]
struct State {
    rules: Vec<Rule>,
    /// How often each rule has changed something.
    struck: Vec<AtomicU32>,
}

impl State {
    fn rewrite(&self, statement: &str) -> String {
        let mut text = statement.to_owned();
        for (rule, struck) in self.rules.iter().zip(&self.struck) {
            if let Some(changed) = rule.apply(&text) {
                text = changed;
                struck.fetch_add(1, Ordering::SeqCst);
            }
        }
        text
    }

    /// The message that takes the place of an error, if it is pardoned.
    fn pardon(&self, statement: &str, error: &[u8]) -> Option<Vec<u8>> {
        for (rule, struck) in self.rules.iter().zip(&self.struck) {
            let Rule::Pardon { statement: part, sqlstate } = rule else { continue };
            if statement.contains(part) && field(error, b'C') == Some(sqlstate.as_bytes()) {
                struck.fetch_add(1, Ordering::SeqCst);
                return Some(message(b'C', &[part.as_bytes(), b"\0"].concat()));
            }
        }
        None
    }
}

/// A running proxy; it ends when dropped, with all connections.
#[derive(Debug)]
pub struct Rewriter {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl Rewriter {
    /// Starts one on a free loopback port, in front of the server on a loopback port. With no
    /// rules it changes nothing.
    ///
    /// # Panics
    /// No port can be had.
    pub async fn start(port: u16, rules: &[Rule]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port can be had");
        let address = listener.local_addr().expect("a bound socket has an address");
        let struck = rules.iter().map(|_| AtomicU32::new(0)).collect();
        let state = Arc::new(State { rules: rules.to_vec(), struck });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, port, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    /// The same URL, through the proxy.
    ///
    /// # Panics
    /// The URL is not one of a test server.
    pub fn url(&self, url: &str) -> String {
        let (before, after) = url.split_once("@127.0.0.1:").expect("a URL of a test server");
        let (_, database) = after.split_once('/').expect("a URL with a database");
        format!("{before}@{}/{database}", self.address)
    }

    /// The rules that have changed nothing so far: those of a mutant that is none.
    pub fn idle(&self) -> Vec<Rule> {
        let rules = self.state.rules.iter().zip(&self.state.struck);
        rules.filter(|(_, struck)| struck.load(Ordering::SeqCst) == 0).map(|(rule, _)| *rule).collect()
    }
}

async fn accept(listener: TcpListener, port: u16, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            // An error is the end of the connection, which both sides see.
            drop(serve(client, server, &state).await);
        });
    }
}

async fn serve(mut client: TcpStream, mut server: TcpStream, state: &State) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    if !greet(&mut client, &mut server).await? {
        return Ok(());
    }
    let ((client_reads, client_writes), (server_reads, server_writes)) =
        (client.into_split(), server.into_split());
    // A client of sqlx's waits for the answer to one message before it sends the next statement.
    let asked = Mutex::new(String::new());
    tokio::select! {
        ended = upstream(client_reads, server_writes, state, &asked) => ended,
        ended = downstream(server_reads, client_writes, state, &asked) => ended,
    }
}

/// Carries the first message, which has no type. False: the connection was for a cancellation.
async fn greet(client: &mut TcpStream, server: &mut TcpStream) -> std::io::Result<bool> {
    const CANCEL: u32 = 80_877_102;
    const TLS: u32 = 80_877_103;
    const GSS: u32 = 80_877_104;
    loop {
        let length = client.read_u32().await?;
        let mut body = vec![0; usize::try_from(length).map_or(0, |length| length.saturating_sub(4))];
        client.read_exact(&mut body).await?;
        let code = body.first_chunk().map_or(0, |code| u32::from_be_bytes(*code));
        if code == TLS || code == GSS {
            client.write_all(b"N").await?;
            continue;
        }
        server.write_u32(length).await?;
        server.write_all(&body).await?;
        return Ok(code != CANCEL);
    }
}

async fn upstream(
    client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    state: &State,
    asked: &Mutex<String>,
) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    loop {
        let (kind, mut body) = read(&mut client).await?;
        if let Some((before, statement, after)) = statement_of(kind, &body) {
            let changed = state.rewrite(statement);
            statement.clone_into(&mut asked.lock().unwrap_or_else(PoisonError::into_inner));
            body = [before, changed.as_bytes(), after].concat();
        }
        server.write_all(&message(kind, &body)).await?;
    }
}

async fn downstream(
    server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    state: &State,
    asked: &Mutex<String>,
) -> std::io::Result<()> {
    let mut server = BufReader::new(server);
    loop {
        let (kind, body) = read(&mut server).await?;
        let pardoned = (kind == b'E').then(|| {
            let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            state.pardon(&asked, &body)
        });
        let bytes = pardoned.flatten().unwrap_or_else(|| message(kind, &body));
        client.write_all(&bytes).await?;
    }
}

/// One message with a type.
async fn read(from: &mut BufReader<OwnedReadHalf>) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let length = usize::try_from(from.read_u32().await?).map_err(std::io::Error::other)?;
    let mut body = vec![0; length.saturating_sub(4)];
    from.read_exact(&mut body).await?;
    Ok((kind, body))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("no message of a test is that long");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// The text of the statement in a Query or Parse message, and what stands before and after it.
fn statement_of(kind: u8, body: &[u8]) -> Option<(&[u8], &str, &[u8])> {
    let start = match kind {
        b'Q' => 0,
        b'P' => body.iter().position(|byte| *byte == 0)? + 1, // the statement's name
        _ => return None,
    };
    let (before, rest) = body.split_at(start);
    let (text, after) = rest.split_at(rest.iter().position(|byte| *byte == 0)?);
    Some((before, std::str::from_utf8(text).ok()?, after))
}

/// A field of an error.
fn field(error: &[u8], name: u8) -> Option<&[u8]> {
    error.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(&[name]))
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, PgConnection};

    use super::*;
    use crate::postgres;

    #[test]
    fn each_rule_changes_what_it_says() {
        let text = "SELECT 1 FOR SHARE; COMMIT";
        assert_eq!(
            Rule::Replace("SHARE", "KEY SHARE").apply(text).unwrap(),
            "SELECT 1 FOR KEY SHARE; COMMIT"
        );
        assert_eq!(Rule::Cut("SELECT", "COMMIT").apply(text).unwrap(), "COMMIT");
        assert_eq!(Rule::Cut("SELECT", "nowhere").apply(text), None);
        assert_eq!(Rule::Replace("nowhere", "").apply(text), None);
    }

    #[tokio::test]
    async fn statements_of_both_protocols_and_answers_are_changed() {
        let server = postgres::shared();
        let rules = [
            Rule::Replace("'true word'", "'changed by the way'"),
            Rule::Pardon { statement: "COMMIT PREPARED", sqlstate: "42704" },
            Rule::Cut("never sent", "at all"),
        ];
        let proxy = Rewriter::start(server.port(), &rules).await;
        let mut session = PgConnection::connect(&proxy.url(&server.superuser_url())).await.unwrap();
        let query = sqlx::query_scalar::<_, String>("SELECT 'true word' || $1").bind("!");
        assert_eq!(query.fetch_one(&mut session).await.unwrap(), "changed by the way!");
        let rows = sqlx::raw_sql("SELECT 'true word'").fetch_all(&mut session).await.unwrap();
        assert_eq!(sqlx::Row::get::<String, _>(&rows[0], 0), "changed by the way");
        sqlx::raw_sql("COMMIT PREPARED 'nothing'").execute(&mut session).await.unwrap();
        sqlx::raw_sql("ROLLBACK PREPARED 'nothing'").execute(&mut session).await.unwrap_err();
        assert_eq!(proxy.idle(), [rules[2]]);
    }
}
