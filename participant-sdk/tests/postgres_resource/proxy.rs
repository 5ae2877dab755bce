//! A wire that can be cut, between a resource and its server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// Forwards connections to a server until told otherwise. New connections always work.
pub(crate) struct Proxy {
    port: u16,
    cut: broadcast::Sender<()>,
    mute_on: Arc<std::sync::Mutex<Option<&'static str>>>,
    muted: Arc<AtomicBool>,
}

impl Proxy {
    pub(crate) async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, _) = broadcast::channel(1);
        let mute_on = Arc::new(std::sync::Mutex::new(None));
        let muted = Arc::new(AtomicBool::new(false));
        let proxy = Self { port, cut: cut.clone(), mute_on: Arc::clone(&mute_on), muted: Arc::clone(&muted) };
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
                let (mute_on, muted) = (Arc::clone(&mute_on), Arc::clone(&muted));
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = cut.recv() => {}
                        () = forward(client, server, &mute_on, &muted) => {}
                    }
                });
            }
        });
        proxy
    }

    /// The URL, by way of the proxy.
    pub(crate) fn url(&self, url: &str, server_port: u16) -> String {
        url.replace(&format!(":{server_port}/"), &format!(":{}/", self.port))
    }

    /// Cuts all connections, on the client's side and on the server's.
    pub(crate) fn cut(&self) {
        self.cut.send(()).ok();
    }

    /// Lets the first message with this text in it through, and no answer to it: the connection
    /// is cut once the server has answered.
    pub(crate) fn lose_answer_to(&self, text: &'static str) {
        *self.mute_on.lock().unwrap() = Some(text);
    }

    /// Whether an answer was lost as ordered.
    pub(crate) fn has_lost_an_answer(&self) -> bool {
        self.muted.load(Ordering::SeqCst)
    }
}

async fn forward(
    client: TcpStream,
    server: TcpStream,
    mute_on: &std::sync::Mutex<Option<&'static str>>,
    muted: &AtomicBool,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut lose = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                {
                    let mut mute_on = mute_on.lock().unwrap();
                    if let Some(text) = *mute_on
                        && asked[..length].windows(text.len()).any(|part| part == text.as_bytes())
                    {
                        *mute_on = None;
                        lose = true;
                    }
                }
                if to_server.write_all(&asked[..length]).await.is_err() { return }
            }
            read = from_server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if lose {
                    // The server's last word to a message is ReadyForQuery: Z, length 5, state.
                    if answered[..length].windows(5).any(|part| part == b"Z\0\0\0\x05") {
                        muted.store(true, Ordering::SeqCst);
                        return;
                    }
                } else if to_client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
