//! One accepted connection: counted, watched until its first bytes, and closable.
//!
//! tonic's graceful shutdown never ends while one peer holds a silent connection, and its
//! connection tasks outlive the server's future. So every socket is wrapped: when the server is
//! told to let go, reads and writes fail and the connection's task ends by itself.

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
use tonic::transport::server::{Connected, TcpConnectInfo};

/// After a failed accept (out of file descriptors, mostly): long enough not to spin, short enough
/// not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection that ends when `closed` is cancelled.
pub(crate) struct Connection {
    stream: TcpStream,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until the first bytes have come.
    silent_until: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
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

impl AsyncRead for Connection {
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

impl AsyncWrite for Connection {
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

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
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
pub(crate) fn incoming(listener: TcpListener, limits: Limits) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold((listener, limits), |(listener, limits)| async move {
        loop {
            let Ok(permit) = Arc::clone(&limits.connections).acquire_owned().await else {
                return None;
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let connection = accepted(stream, peer, permit, &limits);
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

fn accepted(
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    limits: &Limits,
) -> Connection {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
    }
    Connection {
        stream,
        closed: Box::pin(limits.closed.clone().cancelled_owned()),
        silent_until: Some(Box::pin(tokio::time::sleep(limits.handshake_timeout))),
        _permit: permit,
    }
}
