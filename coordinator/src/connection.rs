//! One accepted connection: counted, watched until its first bytes, and closable.
//!
//! tonic's graceful shutdown never ends while one peer holds a silent connection, and its
//! connection tasks outlive the server's future. So every socket is wrapped: when the server is
//! told to let go, reads and writes fail and the connection's task ends by itself.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Request;
use tonic::transport::server::{Connected, TlsConnectInfo};

/// After a failed accept (out of file descriptors, mostly): long enough not to spin, short enough
/// not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from: a bound TCP socket or another transport, for instance a network in
/// simulated time.
pub trait Listener: Send + 'static {
    /// One accepted connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Where it listens.
    ///
    /// # Errors
    /// It is not bound.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Waits for the next connection; says who is at its other end. Cancelling it loses no
    /// connection.
    ///
    /// # Errors
    /// This connection failed; others may follow, and are waited for after a pause.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
        }
        Ok((stream, peer))
    }
}

/// Who is at the other end of a connection; among the extensions of each of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(SocketAddr);

/// Who sent a request, with TLS or without.
pub(crate) fn peer<T>(request: &Request<T>) -> Option<SocketAddr> {
    peer_in(request.extensions())
}

/// As [`peer`], of what stands beside any request.
pub(crate) fn peer_in(extensions: &http::Extensions) -> Option<SocketAddr> {
    let behind_tls = || extensions.get::<TlsConnectInfo<Peer>>().map(TlsConnectInfo::get_ref);
    extensions.get::<Peer>().or_else(behind_tls).map(|Peer(address)| *address)
}

/// A connection that ends when `closed` is cancelled.
pub(crate) struct Connection<S> {
    stream: S,
    peer: Peer,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until the first bytes have come.
    silent_until: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<(), io::Error> {
        if self.closed.as_mut().poll(context).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the coordinator stops"));
        }
        if let Some(sleep) = &mut self.silent_until
            && sleep.as_mut().poll(context).is_ready()
        {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no first bytes in time"));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.silent_until = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

/// What every connection of one port shares.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How many there may be; further ones wait in the listener's backlog.
    pub(crate) connections: Arc<Semaphore>,
    /// For the first bytes.
    pub(crate) handshake_timeout: Duration,
    /// Cancelled when all connections shall end.
    pub(crate) closed: CancellationToken,
}

/// Connections as they come in, until the listener is dropped. Never ends by an error: one bad
/// accept must not end the service (RUSTSEC-2024-0376).
pub(crate) fn incoming<L: Listener>(
    listener: L,
    limits: Limits,
) -> impl Stream<Item = io::Result<Connection<L::Stream>>> {
    stream::unfold((listener, limits), |(mut listener, limits)| async move {
        loop {
            let Ok(permit) = Arc::clone(&limits.connections).acquire_owned().await else {
                return None;
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let connection = Connection {
                        stream,
                        peer: Peer(peer),
                        closed: Box::pin(limits.closed.clone().cancelled_owned()),
                        silent_until: Some(Box::pin(tokio::time::sleep(limits.handshake_timeout))),
                        _permit: permit,
                    };
                    return Some((Ok(connection), (listener, limits)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}
