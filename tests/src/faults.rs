//! A TCP proxy that loses what it is told to lose.
//!
//! It stands between a participant and its database, or between a coordinator and its log, and
//! cuts a connection at a chosen statement: before the server gets it, after, or after the server
//! has carried it out and answered. The traffic is looked at, never changed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What to do when a client sends bytes that hold the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never gets it.
    Before,
    /// The server gets it, and the connection is cut at once: whether it is carried out before
    /// the server notices is open.
    During,
    /// The server carries it out and answers; the answer is lost.
    Answer,
    /// The server never gets it, nor anything else: all connections are cut, and new ones closed at once until
    /// [`Proxy::refuse`] says otherwise. A test that said so itself after a cut would be too late for a client
    /// that is quick to try again.
    Outage,
}

/// A fault that happens once.
#[derive(Clone, Debug)]
struct Armed {
    cut: Cut,
    pattern: Vec<u8>,
    /// How many times more the pattern may pass before the fault.
    spare: u32,
}

/// What the connections share.
#[derive(Debug)]
struct State {
    armed: Mutex<Option<Armed>>,
    /// How many faults have happened.
    fired: watch::Sender<u32>,
    /// Counts the times that all connections were cut.
    cut_all: watch::Sender<u32>,
    /// Whether new connections are closed at once.
    refusing: Mutex<bool>,
    /// Where new connections lead.
    port: AtomicU16,
}

impl State {
    fn armed(&self) -> MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, refusing: bool) {
        *self.refusing.lock().unwrap_or_else(PoisonError::into_inner) = refusing;
    }

    fn cut_all(&self) {
        self.cut_all.send_modify(|count| *count += 1);
    }

    /// The fault for this text, if it is time.
    fn strikes(&self, text: &[u8]) -> Option<Cut> {
        let mut armed = self.armed();
        let fault = armed.as_mut()?;
        if !text.windows(fault.pattern.len()).any(|window| window == fault.pattern) {
            return None;
        }
        if fault.spare > 0 {
            fault.spare -= 1;
            return None;
        }
        armed.take().map(|fault| fault.cut)
    }
}

/// A running proxy; it ends when dropped, with all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts one on a free loopback port, in front of a loopback port.
    ///
    /// # Panics
    /// No port can be had.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port can be had");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            armed: Mutex::default(),
            fired: watch::Sender::new(0),
            cut_all: watch::Sender::new(0),
            refusing: Mutex::default(),
            port: AtomicU16::new(port),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same URL, through the proxy.
    ///
    /// # Panics
    /// The URL has no port.
    pub fn url(&self, url: &str) -> String {
        let (before, after) = url.split_once("@127.0.0.1:").expect("a URL of a test server");
        let (_, database) = after.split_once('/').expect("a URL with a database");
        format!("{before}@{}/{database}", self.address)
    }

    /// Has the next message of any client that holds the pattern meet the fault.
    ///
    /// # Panics
    /// The pattern is empty.
    pub fn arm(&self, cut: Cut, pattern: impl AsRef<[u8]>) {
        self.arm_after(0, cut, pattern);
    }

    /// As [`arm`](Self::arm), after the pattern has passed that many times.
    ///
    /// # Panics
    /// The pattern is empty.
    pub fn arm_after(&self, spare: u32, cut: Cut, pattern: impl AsRef<[u8]>) {
        let pattern = pattern.as_ref().to_vec();
        assert!(!pattern.is_empty(), "an empty pattern is in every message");
        *self.state.armed() = Some(Armed { cut, pattern, spare });
    }

    /// Waits until that many faults have happened, counted from the start.
    ///
    /// # Panics
    /// They have not within [`SOON`](crate::wait::SOON).
    pub async fn fired(&self, times: u32) {
        let mut fired = self.state.fired.subscribe();
        let wait = fired.wait_for(|count| *count >= times);
        drop(tokio::time::timeout(crate::wait::SOON, wait).await.expect("the fault happens"));
    }

    /// Cuts all connections.
    pub fn cut_all(&self) {
        self.state.cut_all();
    }

    /// Leads all connections to another loopback port from now on, as the address of a service does
    /// that has failed over. Those that are open are cut.
    pub fn redirect(&self, port: u16) {
        self.state.port.store(port, Ordering::SeqCst);
        self.cut_all();
    }

    /// Closes new connections at once, or no more.
    pub fn refuse(&self, refusing: bool) {
        self.state.refuse(refusing);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        // Before it is asked whether to refuse: what an outage does not refuse it cuts.
        let mut cut_all = state.cut_all.subscribe();
        if *state.refusing.lock().unwrap_or_else(PoisonError::into_inner) {
            continue;
        }
        let state = Arc::clone(&state);
        connections.spawn(async move {
            // Read after the above: a redirection in between cuts this one too.
            let port = state.port.load(Ordering::SeqCst);
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            tokio::select! {
                biased;
                _ = cut_all.changed() => {}
                () = serve(client, server, &state) => {}
            }
        });
    }
}

/// Carries both directions until one ends, or the fault strikes.
async fn serve(client: TcpStream, server: TcpStream, state: &State) {
    let ((client_reads, client_writes), (server_reads, server_writes)) =
        (client.into_split(), server.into_split());
    let lose_answer = watch::Sender::new(false);
    tokio::select! {
        () = upstream(client_reads, server_writes, state, &lose_answer) => {}
        () = downstream(server_reads, client_writes, lose_answer.subscribe()) => {}
    }
    if *lose_answer.borrow() {
        state.fired.send_modify(|count| *count += 1);
    }
}

async fn upstream(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    state: &State,
    lose_answer: &watch::Sender<bool>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = client.read(&mut bytes).await {
        match state.strikes(&bytes[..count]) {
            Some(Cut::Before) => {
                state.fired.send_modify(|count| *count += 1);
                return;
            }
            Some(Cut::Outage) => {
                state.refuse(true);
                state.cut_all();
                state.fired.send_modify(|count| *count += 1);
                return;
            }
            Some(Cut::During) => {
                drop(server.write_all(&bytes[..count]).await);
                state.fired.send_modify(|count| *count += 1);
                return;
            }
            Some(Cut::Answer) => {
                lose_answer.send_replace(true);
            }
            None => {}
        }
        if server.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    if *lose_answer.borrow() {
        // The client may give up first; what it asked for is still being done.
        std::future::pending::<()>().await;
    }
}

async fn downstream(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    lose_answer: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = server.read(&mut bytes).await {
        if *lose_answer.borrow() || client.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each message with itself, and remembers what it got.
    async fn echo() -> (u16, Arc<Mutex<Vec<u8>>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&got);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut bytes = [0; 1024];
                    while let Ok(count @ 1..) = socket.read(&mut bytes).await {
                        seen.lock().unwrap().extend_from_slice(&bytes[..count]);
                        drop(socket.write_all(&bytes[..count]).await);
                    }
                });
            }
        });
        (port, got)
    }

    async fn ask(address: SocketAddr, text: &str) -> Option<String> {
        let mut socket = TcpStream::connect(address).await.ok()?;
        socket.write_all(text.as_bytes()).await.ok()?;
        let mut bytes = [0; 1024];
        let count = socket.read(&mut bytes).await.ok()?;
        (count > 0).then(|| String::from_utf8_lossy(&bytes[..count]).into_owned())
    }

    #[tokio::test]
    async fn each_cut_loses_what_it_says() {
        let (port, got) = echo().await;
        let proxy = Proxy::start(port).await;
        assert_eq!(ask(proxy.address, "hello").await.as_deref(), Some("hello"));
        proxy.arm(Cut::Before, "PREPARE");
        assert_eq!(ask(proxy.address, "other").await.as_deref(), Some("other"));
        assert_eq!(ask(proxy.address, "PREPARE one").await, None);
        proxy.fired(1).await;
        assert!(!String::from_utf8_lossy(&got.lock().unwrap()).contains("one"));
        proxy.arm_after(1, Cut::Answer, "PREPARE");
        assert_eq!(ask(proxy.address, "PREPARE two").await.as_deref(), Some("PREPARE two"));
        assert_eq!(ask(proxy.address, "PREPARE three").await, None);
        proxy.fired(2).await;
        assert!(String::from_utf8_lossy(&got.lock().unwrap()).contains("three"));
        proxy.refuse(true);
        assert_eq!(ask(proxy.address, "PREPARE four").await, None);
        proxy.refuse(false);
        assert!(ask(proxy.address, "five").await.is_some());
    }

    #[tokio::test]
    async fn an_outage_cuts_whoever_is_connected_and_lasts() {
        let (port, got) = echo().await;
        let proxy = Proxy::start(port).await;
        let mut open = TcpStream::connect(proxy.address).await.unwrap();
        open.write_all(b"open").await.unwrap();
        assert_eq!(open.read(&mut [0; 64]).await.unwrap(), 4);
        proxy.arm(Cut::Outage, "PREPARE");
        assert_eq!(ask(proxy.address, "PREPARE one").await, None);
        proxy.fired(1).await;
        assert!(matches!(open.read(&mut [0; 64]).await, Ok(0) | Err(_)), "what was open is cut");
        assert_eq!(ask(proxy.address, "two").await, None);
        assert_eq!(&*got.lock().unwrap(), b"open");
        proxy.refuse(false);
        assert_eq!(ask(proxy.address, "three").await.as_deref(), Some("three"));
    }

    #[tokio::test]
    async fn a_redirected_proxy_leads_elsewhere() {
        let ((one, got_one), (two, got_two)) = (echo().await, echo().await);
        let proxy = Proxy::start(one).await;
        let mut open = TcpStream::connect(proxy.address).await.unwrap();
        open.write_all(b"to one").await.unwrap();
        assert_eq!(open.read(&mut [0; 64]).await.unwrap(), 6);
        proxy.redirect(two);
        assert!(matches!(open.read(&mut [0; 64]).await, Ok(0) | Err(_)), "what was open is cut");
        assert_eq!(ask(proxy.address, "to two").await.as_deref(), Some("to two"));
        assert_eq!(&*got_one.lock().unwrap(), b"to one");
        assert_eq!(&*got_two.lock().unwrap(), b"to two");
    }

    #[tokio::test]
    async fn a_url_is_led_through_the_proxy() {
        let proxy = Proxy::start(1).await;
        let url = proxy.url("postgres://postgres:secret@127.0.0.1:5432/bank_1");
        assert_eq!(url, format!("postgres://postgres:secret@{}/bank_1", proxy.address));
    }
}
