//! Where a coordinator is, and how it is spoken to: addresses, TLS, keep-alive.
//!
//! Shared by applications and participants. This file knows nothing of transactions.

use std::fmt;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};

use super::connector::Connector;
use crate::error::ConnectError;

/// Most coordinators that one process connects to. Each costs a connection and a task.
pub(crate) const ADDRESSES_MAX: usize = 16;

/// A silent connection is asked for a sign of life this often ...
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// ... and given up if none comes within this: a stopped or cut-off coordinator is noticed in
/// ten seconds, and another one can be asked. Less would take a busy machine for a dead one.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// TLS towards the coordinators, from PEM texts. With it addresses must begin with `https://`.
#[derive(Clone, Default)]
pub struct Tls {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    domain: Option<String>,
}

impl Tls {
    /// Trusts servers whose certificate was issued by one of these (PEM). Nobody else is
    /// trusted: the system's own authorities are not consulted.
    pub fn new(ca_pem: impl Into<Vec<u8>>) -> Self {
        Self { ca: Some(ca_pem.into()), ..Self::default() }
    }

    /// Shows this certificate (chain) and its key, in PEM, to coordinators that ask for one.
    #[must_use]
    pub fn identity(mut self, certificate_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate_pem.into(), key_pem.into()));
        self
    }

    /// Expects the certificate to be for this name instead of the address's host.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        if let Some(ca) = &self.ca {
            config = config.ca_certificate(Certificate::from_pem(ca));
        }
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(domain) = &self.domain {
            config = config.domain_name(domain);
        }
        config
    }
}

/// Shows what is set and never the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity.is_some())
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// One coordinator's address, checked, and how it is dialled.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    endpoint: Endpoint,
    connector: Option<Connector>,
}

impl Target {
    /// Opens a connection, within the connect timeout that the target was made with.
    pub(crate) async fn connect(&self) -> Result<Channel, Error> {
        match &self.connector {
            None => self.endpoint.connect().await,
            Some(connector) => self.endpoint.connect_with_connector(connector.service()).await,
        }
    }
}

/// Checks an address and makes what connects to it: over TCP, unless there is a connector.
///
/// # Errors
/// Not `http://host:port` or, with `tls`, `https://host:port`; or certificates that cannot be read.
pub(crate) fn target(
    address: &str,
    tls: Option<&Tls>,
    connect_timeout: Duration,
    connector: Option<&Connector>,
) -> Result<Target, ConnectError> {
    Ok(Target { endpoint: endpoint(address, tls, connect_timeout)?, connector: connector.cloned() })
}

fn endpoint(address: &str, tls: Option<&Tls>, connect_timeout: Duration) -> Result<Endpoint, ConnectError> {
    let invalid = |problem: &str| ConnectError::InvalidAddress {
        address: address.to_owned(),
        problem: problem.to_owned(),
    };
    let uri: http::Uri =
        address.parse().map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
    match (uri.scheme_str(), tls) {
        (Some("http"), None) | (Some("https"), Some(_)) => {}
        (Some("https"), None) => {
            return Err(invalid("https needs TLS settings: name the authority to trust"));
        }
        (Some("http"), Some(_)) => {
            return Err(invalid("TLS settings need an address that begins with https://"));
        }
        _ => return Err(invalid("http://host:port is needed")),
    }
    if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() {
        return Err(invalid("a host and a port are needed"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(invalid("no path may follow the port"));
    }
    let mut endpoint = Endpoint::from(uri)
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    if let Some(tls) = tls {
        endpoint = endpoint
            .tls_config(tls.config())
            .map_err(|error| ConnectError::InvalidTls { problem: chain(&error) })?;
    }
    Ok(endpoint)
}

/// An error and all that caused it, in one line: a transport's own text says little.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_with_a_reason() {
        let timeout = Duration::from_secs(1);
        for good in ["http://127.0.0.1:7600", "http://[::1]:7600/", "http://pactum:1"] {
            assert!(endpoint(good, None, timeout).is_ok(), "{good}");
        }
        let tls = Tls::new("");
        for (bad, tls) in [
            ("", None),
            ("127.0.0.1:7600", None),
            ("127.0.0.1", None),
            ("http://127.0.0.1", None),
            ("http://:7600", None),
            ("http://127.0.0.1:7600/x", None),
            ("http://127.0.0.1:7600?x", None),
            ("http://127.0.0.1:70000", None),
            ("ftp://127.0.0.1:7600", None),
            ("https://127.0.0.1:7600", None),
            ("http://127.0.0.1:7600", Some(&tls)),
        ] {
            let error = endpoint(bad, tls, timeout).unwrap_err();
            assert!(matches!(error, ConnectError::InvalidAddress { .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let tls = Tls::new("ca").identity("certificate", "secret");
        assert!(!format!("{tls:?}").contains("secret"));
    }
}
