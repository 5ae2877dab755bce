//! The token that is shown to a coordinator: read from a file, sent as `authorization: Bearer TOKEN`
//! with each call, and never printed.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Uri;
use tonic::{Request, Status};

use crate::args::Global;
use crate::failure::Failure;

/// A token is some 50 bytes: a file beyond this is not one.
const FILE_BYTES_MAX: usize = 4096;

/// What stands in `authorization`, if anything does.
#[derive(Clone)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Token(set)" } else { "Token(none)" })
    }
}

impl Token {
    /// The one in the file that the global options name; none if they name none.
    pub(super) async fn of(global: &Global, server: &Uri) -> Result<Self, Failure> {
        let Some(path) = &global.token_file else { return Ok(Self(None)) };
        let shown = path.display();
        let text = tokio::fs::read_to_string(path).await.map_err(|error| {
            Failure::usage(format!("the token file {shown} cannot be read")).because(&error)
        })?;
        let token = text.trim();
        let malformed = || {
            Failure::usage(format!("the file {shown} holds no token"))
                .next("it must hold the token alone, on one line, as `pactum token create` printed it")
        };
        if token.is_empty() || text.len() > FILE_BYTES_MAX || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(malformed());
        }
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {token}").parse().map_err(|error| malformed().because(&error))?;
        // Kept out of whatever prints headers, and out of compression tables.
        value.set_sensitive(true);
        if server.scheme_str() != Some("https") && !is_loopback(server) {
            tracing::warn!("the token is sent without TLS: whoever can read the network between can use it");
        }
        Ok(Self(Some(value)))
    }
}

impl Token {
    /// What stands in the header `authorization` of a plain request; marked so that nobody prints it.
    pub(super) fn header(&self) -> Option<http::HeaderValue> {
        let mut value = http::HeaderValue::from_bytes(self.0.as_ref()?.as_bytes()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

fn is_loopback(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loopback_is_known_in_each_spelling() {
        for (url, loopback) in [
            ("http://127.0.0.1:7601", true),
            ("http://[::1]:7601", true),
            ("http://localhost:7601", true),
            ("http://10.0.0.1:7601", false),
            ("http://pactum.example:7601", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), loopback, "{url}");
        }
    }

    #[test]
    fn a_token_is_not_shown_by_debug() {
        let token = Token(Some("Bearer secret".parse().unwrap()));
        assert!(!format!("{token:?}").contains("secret"));
    }
}
