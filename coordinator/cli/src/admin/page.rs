//! Plain HTTP pages of the admin address, read over the connection that the calls go over.

use http_body_util::{BodyExt as _, Limited};
use tonic::transport::Channel;
use tower::{Service as _, ServiceExt as _};

use super::token::Token;

/// More than a scrape of a busy coordinator has; beyond it something else answers there.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// Reads one. The error is for people.
pub(super) async fn get(mut channel: Channel, token: &Token, path: &str) -> Result<String, String> {
    let mut request = http::Request::get(path);
    if let Some(value) = token.header() {
        request = request.header(http::header::AUTHORIZATION, value);
    }
    let request = request.body(tonic::body::Body::empty()).map_err(|error| error.to_string())?;
    let ready = channel.ready().await.map_err(|error| error.to_string())?;
    let response = ready.call(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    if status != http::StatusCode::OK {
        return Err(format!("the answer is {status}"));
    }
    let body = Limited::new(response.into_body(), PAGE_BYTES_MAX);
    let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    String::from_utf8(bytes.into()).map_err(|error| error.to_string())
}
