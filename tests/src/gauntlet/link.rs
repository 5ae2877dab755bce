//! A TCP link that can be slowed down, cut, or lost in one direction, and whose address stays
//! while what is behind it is killed and comes back elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What bytes meet on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing.
    Clear,
    /// Each read waits that long, in both directions.
    Delay(Duration),
    /// What the client sends does not arrive; what the server sends does.
    LostUp,
    /// The other way round.
    LostDown,
    /// Neither arrives, and both believe to be connected.
    Lost,
    /// The server's side is closed; the client is not told.
    HalfOpen,
}

impl Weather {
    fn holds(self, direction: Direction) -> bool {
        matches!(
            (self, direction),
            (Self::LostUp, Direction::Up)
                | (Self::LostDown, Direction::Down)
                | (Self::Lost | Self::HalfOpen, _)
        )
    }
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Up,
    Down,
}

/// The weather, and for which share of the connections.
#[derive(Clone, Copy, Debug)]
struct Sky {
    weather: Weather,
    percent: u64,
    /// Counts the times that all connections were cut.
    cuts: u64,
}

/// One link. It ends, with all connections, when it is dropped.
#[derive(Debug)]
pub(crate) struct Link {
    /// For people.
    pub(crate) name: String,
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    target: watch::Sender<Option<SocketAddr>>,
    sky: watch::Sender<Sky>,
    connections: AtomicU64,
}

impl Link {
    /// Listens on a free loopback port. Without a target, connections are closed at once.
    pub(crate) async fn start(name: impl Into<String>, target: Option<SocketAddr>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let sky = Sky { weather: Weather::Clear, percent: 100, cuts: 0 };
        let state = Arc::new(State {
            target: watch::Sender::new(target),
            sky: watch::Sender::new(sky),
            connections: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { name: name.into(), address, state, _tasks: tasks })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as coordinators are named.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A URL of PostgreSQL, led through this link.
    pub(crate) fn lead(&self, url: &str) -> String {
        let (before, after) = url.split_once("@127.0.0.1:").expect("a URL of a server of ours");
        let (_, database) = after.split_once('/').expect("it names a database");
        format!("{before}@{}/{database}", self.address)
    }

    /// What is behind it now. Existing connections stay as they are.
    pub(crate) fn lead_to(&self, target: Option<SocketAddr>) {
        self.state.target.send_replace(target);
    }

    /// Changes the weather for that share of the connections, by the order in which they were made.
    pub(crate) fn set(&self, weather: Weather, percent: u64) {
        self.state.sky.send_modify(|sky| (sky.weather, sky.percent) = (weather, percent));
    }

    /// Clears the weather. What was held goes on its way, or with `cut`, all connections end.
    pub(crate) fn heal(&self, cut: bool) {
        self.state.sky.send_modify(|sky| {
            sky.weather = Weather::Clear;
            sky.cuts += u64::from(cut);
        });
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors, for a moment.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let target = *state.target.borrow();
        let Some(target) = target else { continue };
        // Spreads luck over connections in the order of their making.
        let luck = state.connections.fetch_add(1, Ordering::Relaxed).wrapping_mul(61) % 100;
        let sky = state.sky.subscribe();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            drop(client.set_nodelay(true));
            drop(server.set_nodelay(true));
            serve(client, server, Conditions { sky, luck }).await;
        });
    }
}

/// What one connection sees of the weather.
#[derive(Clone, Debug)]
struct Conditions {
    sky: watch::Receiver<Sky>,
    luck: u64,
}

impl Conditions {
    fn weather(&mut self) -> Weather {
        let sky = *self.sky.borrow_and_update();
        if self.luck < sky.percent { sky.weather } else { Weather::Clear }
    }

    /// Returns once the weather is as asked; false when the link is gone.
    async fn wait_for(&mut self, asked: impl Fn(Weather) -> bool) -> bool {
        loop {
            if asked(self.weather()) {
                return true;
            }
            if self.sky.changed().await.is_err() {
                return false;
            }
        }
    }
}

/// Carries both directions until one ends or the connection is cut.
async fn serve(client: TcpStream, server: TcpStream, conditions: Conditions) {
    let ((mut client_reads, mut client_writes), (mut server_reads, mut server_writes)) =
        (client.into_split(), server.into_split());
    let (mut cut, mut half_open) = (conditions.clone(), conditions.clone());
    let cuts = cut.sky.borrow().cuts;
    let carried = async {
        let is_half_open = tokio::select! {
            biased;
            there = half_open.wait_for(|weather| weather == Weather::HalfOpen) => there,
            () = carry(&mut client_reads, &mut server_writes, conditions.clone(), Direction::Up) => false,
            () = carry(&mut server_reads, &mut client_writes, conditions, Direction::Down) => false,
        };
        drop((server_reads, server_writes));
        if is_half_open {
            // The client's side stays open, unread and unanswered.
            half_open.wait_for(|weather| weather != Weather::HalfOpen).await;
        }
    };
    tokio::select! {
        biased;
        _ = cut.sky.wait_for(|sky| sky.cuts != cuts) => {}
        () = carried => {}
    }
}

async fn carry(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut conditions: Conditions,
    direction: Direction,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if let Weather::Delay(time) = conditions.weather() {
            tokio::time::sleep(time).await;
        }
        if !conditions.wait_for(|weather| !weather.holds(direction)).await
            || to.write_all(&bytes[..count]).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link to a server that answers each message with itself.
    async fn link() -> Link {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut bytes = [0; 64];
                    while let Ok(count @ 1..) = socket.read(&mut bytes).await {
                        drop(socket.write_all(&bytes[..count]).await);
                    }
                });
            }
        });
        Link::start("a test", Some(target)).await.unwrap()
    }

    async fn ask(socket: &mut TcpStream) -> Option<u8> {
        socket.write_all(b"x").await.ok()?;
        let mut byte = [0];
        matches!(socket.read(&mut byte).await, Ok(1)).then_some(byte[0])
    }

    #[tokio::test]
    async fn what_is_lost_in_one_direction_is_held_until_the_link_heals() {
        let link = link().await;
        for weather in [Weather::LostUp, Weather::LostDown, Weather::Lost] {
            let mut socket = TcpStream::connect(link.address()).await.unwrap();
            assert_eq!(ask(&mut socket).await, Some(b'x'));
            link.set(weather, 100);
            let (answer, ()) = tokio::join!(ask(&mut socket), async {
                tokio::task::yield_now().await;
                link.heal(false);
            });
            assert_eq!(answer, Some(b'x'), "{weather:?}");
        }
    }

    #[tokio::test]
    async fn a_cut_and_a_half_open_link_end_their_connections() {
        let link = link().await;
        let mut socket = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut socket).await, Some(b'x'));
        link.heal(true);
        assert_eq!(ask(&mut socket).await, None);
        let mut socket = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut socket).await, Some(b'x'));
        link.set(Weather::HalfOpen, 100);
        let (answer, ()) = tokio::join!(ask(&mut socket), async {
            tokio::task::yield_now().await;
            link.heal(false);
        });
        // Whether the server's side was closed in time or not, nothing is made up.
        assert!(matches!(answer, None | Some(b'x')), "{answer:?}");
        link.lead_to(None);
        let mut socket = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut socket).await, None);
    }
}
