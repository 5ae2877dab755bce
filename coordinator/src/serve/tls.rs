//! The certificate, and what is said in its handshakes.
//!
//! tonic's own offers HTTP/2 alone, and whoever says that he speaks HTTP/1.1 only (many a script and
//! probe does) is turned away. So the admin port, which browsers and scripts come to, has handshakes
//! of its own; they differ in nothing else.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::ServeError;
use crate::config::Config;

/// Handshakes at once on the admin port; further connections wait. A peer that dawdles over its own
/// is gone after [`Config::handshake_timeout`].
const HANDSHAKES_MAX: usize = 256;

/// The files, read.
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    timeout: Duration,
}

impl Files {
    /// Reads them, if they are set.
    pub(super) fn read(config: &Config) -> Result<Option<Self>, ServeError> {
        let Some(files) = &config.tls else {
            return Ok(None);
        };
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| ServeError::Tls { path: path.display().to_string(), source })
        };
        Ok(Some(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
            timeout: config.handshake_timeout,
        }))
    }

    /// For a port that speaks gRPC alone.
    pub(super) fn for_calls(&self) -> ServerTlsConfig {
        let identity = Identity::from_pem(&self.certificate, &self.key);
        let tls = ServerTlsConfig::new().identity(identity).timeout(self.timeout);
        match &self.client_ca {
            Some(client_ca) => tls.client_ca_root(Certificate::from_pem(client_ca)),
            None => tls,
        }
    }

    /// For a port that browsers come to as well.
    pub(super) fn for_browsers(&self) -> Result<Handshakes, ServeError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(wrong)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(wrong)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(client_ca) => {
                let mut roots = RootCertStore::empty();
                for authority in CertificateDer::pem_slice_iter(client_ca) {
                    roots.add(authority.map_err(wrong)?).map_err(wrong)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(wrong)?)
            }
        };
        let mut config = builder.with_single_cert(certificates, key).map_err(wrong)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Handshakes { acceptor: TlsAcceptor::from(Arc::new(config)), timeout: self.timeout })
    }
}

fn wrong(error: impl std::error::Error + Send + Sync + 'static) -> ServeError {
    ServeError::Listen(error.into())
}

/// Shakes hands with whoever connects.
pub(super) struct Handshakes {
    acceptor: TlsAcceptor,
    timeout: Duration,
}

impl Handshakes {
    /// Connections as their handshakes end. One that fails is an error of the stream, and no end of it.
    pub(super) fn handshakes<S>(
        self,
        connections: impl Stream<Item = io::Result<S>> + Send,
    ) -> impl Stream<Item = io::Result<TlsStream<S>>> + Send
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let Self { acceptor, timeout } = self;
        connections
            .map(move |connection| {
                let acceptor = acceptor.clone();
                async move {
                    match tokio::time::timeout(timeout, acceptor.accept(connection?)).await {
                        Ok(shaken) => shaken,
                        Err(elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)),
                    }
                }
            })
            .buffer_unordered(HANDSHAKES_MAX)
    }
}
