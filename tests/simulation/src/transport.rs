//! turmoil's TCP, where the coordinator and the SDK take another transport.

use std::io;
use std::net::SocketAddr;

use pactum::Connector;
use pactum_coordinator::{Listener, Listeners};
use turmoil::net::{TcpListener, TcpStream};

/// Where a coordinator serves applications and participants.
pub const PUBLIC_PORT: u16 = 7600;

/// Where it serves operators.
pub const ADMIN_PORT: u16 = 7601;

/// A simulated socket that the coordinator can accept from.
pub struct SimulatedListener(TcpListener);

impl std::fmt::Debug for SimulatedListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimulatedListener").field(&self.0.local_addr().ok()).finish()
    }
}

impl Listener for SimulatedListener {
    type Stream = TcpStream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// Both ports of a coordinator, on the current host.
///
/// # Errors
/// They are in use.
pub async fn listeners() -> io::Result<Listeners<SimulatedListener>> {
    let bind = async |port: u16| TcpListener::bind(("0.0.0.0", port)).await.map(SimulatedListener);
    Ok(Listeners { public: bind(PUBLIC_PORT).await?, admin: bind(ADMIN_PORT).await? })
}

/// What the SDK dials with.
pub fn connector() -> Connector {
    Connector::new(TcpStream::connect::<String>)
}
