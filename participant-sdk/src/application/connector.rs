//! Dialling coordinators by something other than TCP.
//!
//! Everything above the bytes stays as it is: HTTP/2, its keep-alive, TLS if it is asked for.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Opens the connections to coordinators, in place of TCP: for other transports, for instance a
/// network in simulated time. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    dial: Arc<dyn Fn(String) -> Dialling + Send + Sync>,
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Bytes>>> + Send>>;

/// Bytes both ways.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Bytes for S {}

impl Connector {
    /// Connects by calling `dial` with `host:port`: each time that a connection is wanted, and
    /// again when it was lost. Its future is dropped when the connect timeout has passed.
    pub fn new<F, S>(dial: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let dial = move |authority| {
            let stream = dial(authority);
            let boxed = async move { Ok(Box::new(stream.await?) as Box<dyn Bytes>) };
            Box::pin(boxed) as Dialling
        };
        Self { dial: Arc::new(dial) }
    }

    /// The same, as tonic asks for it.
    pub(super) fn service(&self) -> Service {
        Service(self.clone())
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// Keeps tonic's and hyper's types out of what users see.
pub(super) struct Service(Connector);

impl tower_service::Service<http::Uri> for Service {
    type Response = TokioIo<Box<dyn Bytes>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let dialling = (self.0.dial)(authority);
        Box::pin(async move { dialling.await.map(TokioIo::new) })
    }
}
