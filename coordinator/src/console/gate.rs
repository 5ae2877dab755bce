//! Who is let in on the admin address, gRPC and pages alike: one layer before everything that is
//! served there, which puts an [`Operator`] beside each request that it lets through.
//!
//! In order: a name that is ours ([`hosts`](super::hosts)); nothing that another site's page sent;
//! who it is (a token, or a session that one opened; where there are no tokens, whoever reached a
//! loopback address); whether he may make that call ([`roles`](super::roles)). Liveness needs nobody's
//! name. What a proxy says of its caller is not believed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use pactum_proto::error::{self as public, ErrorCode};
use tonic::Status;

use super::hosts::{self, Hosts};
use super::roles::{self, Needed};
use super::sessions::{Failures, Forms, SESSION_LASTS, Secret, Sessions};
use super::tokens::{Known, Tokens, TokensError};
use crate::config::Config;
use crate::connection::peer_in;
use crate::operator::{Operator, Role};

/// The largest form, with room: a reason has 512 bytes, and a bulk act some hundred gids.
const FORM_BYTES_MAX: usize = 256 * 1024;

/// For the whole of a form.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Decides who is let in.
#[derive(Debug)]
pub(crate) struct Gate {
    tokens: Option<Tokens>,
    read_only: bool,
    hosts: Hosts,
    tls: bool,
    sessions: Sessions,
    failures: Failures,
    forms: Forms,
    /// Cookies know no ports: several coordinators on one machine each have names of their own.
    cookie_suffix: String,
    /// Whether the address is one that only this machine reaches.
    loopback: bool,
}

/// Who looks at a page, beside the [`Operator`] that acts are told.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) operator: Operator,
    /// What his forms carry.
    pub(super) seal: String,
    /// Whether he logged in, and so can log out.
    pub(super) session: bool,
}

impl Gate {
    /// Reads the tokens, if a file of them is set.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(crate) fn new(config: &Config, bound: SocketAddr) -> Result<Self, TokensError> {
        Ok(Self {
            tokens: config.admin_tokens.as_deref().map(Tokens::open).transpose()?,
            read_only: config.admin_read_only,
            hosts: Hosts::new(config, bound),
            tls: config.tls.is_some(),
            sessions: Sessions::default(),
            failures: Failures::default(),
            forms: Forms::new(),
            cookie_suffix: bound.port().to_string(),
            loopback: bound.ip().is_loopback(),
        })
    }

    /// Whether anybody may act here at all.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether people must log in.
    pub(super) fn asks(&self) -> bool {
        self.tokens.is_some()
    }

    /// Opens a session for that token: the cookie to be set.
    pub(super) fn log_in(&self, peer: Option<IpAddr>, text: &str) -> Result<HeaderValue, LoginError> {
        let now = Instant::now();
        let peer = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        if !self.failures.may_try(peer, now) {
            return Err(LoginError::TooOften);
        }
        let Some(known) = self.tokens.as_ref().and_then(|tokens| tokens.find(text.trim())) else {
            self.failed(peer, now);
            return Err(LoginError::Unknown);
        };
        tracing::info!(name = known.name, %peer, "logged in");
        Ok(self.cookie("session", self.sessions.open(known.hash, now).as_str(), SESSION_LASTS))
    }

    /// Ends the session of that browser: the cookie to be set.
    pub(super) fn log_out(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(session) = self.held(headers, "session") {
            self.sessions.close(&session);
        }
        self.cookie("session", "", Duration::ZERO)
    }

    /// Whether a form was sent by a page of ours to that browser.
    pub(super) fn is_own_form(&self, headers: &HeaderMap, seal: &str) -> bool {
        let held = self.held(headers, "session").or_else(|| self.held(headers, "form"));
        held.is_some_and(|held| self.forms.is_sealed(&held, seal))
    }

    /// Whether somebody is still let in who was: his token may have been revoked since.
    pub(super) fn still_lets_in(&self, headers: &HeaderMap) -> bool {
        self.tokens.is_none() || self.bearer(headers).is_some() || self.session(headers).is_some()
    }

    fn failed(&self, peer: IpAddr, now: Instant) {
        if self.failures.failed(peer, now) {
            tracing::warn!(%peer, "a token was refused on the admin address");
        }
    }

    /// Under TLS the name itself demands that it was set under TLS by this very host.
    fn cookie_name(&self, of: &str) -> String {
        let prefix = if self.tls { "__Host-" } else { "" };
        format!("{prefix}pactum-{of}-{}", self.cookie_suffix)
    }

    fn cookie(&self, of: &str, value: &str, lasts: Duration) -> HeaderValue {
        let secure = if self.tls { "; Secure" } else { "" };
        let name = self.cookie_name(of);
        let seconds = lasts.as_secs();
        let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        HeaderValue::try_from(cookie).unwrap_or(HeaderValue::from_static(""))
    }

    /// What the browser holds under that name.
    fn held(&self, headers: &HeaderMap, of: &str) -> Option<Secret> {
        let name = self.cookie_name(of);
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| Secret::from_text(value))
    }

    fn session(&self, headers: &HeaderMap) -> Option<(Secret, Known)> {
        let secret = self.held(headers, "session")?;
        let hash = self.sessions.token(&secret, Instant::now())?;
        Some((secret, self.tokens.as_ref()?.with_hash(&hash)?))
    }

    fn bearer(&self, headers: &HeaderMap) -> Option<Known> {
        self.tokens.as_ref()?.find(bearer(headers)?)
    }

    fn role(&self, role: Role) -> Role {
        if self.read_only { Role::Viewer } else { role }
    }

    fn operator(&self, known: Option<&Known>, peer: Option<SocketAddr>, by: &str) -> Operator {
        Operator {
            name: known.map(|known| known.name.clone()),
            role: match known {
                Some(known) => self.role(known.role),
                None if self.asks() => Role::Viewer,
                None => self.role(Role::Operator),
            },
            origin: peer.map_or_else(|| by.to_owned(), |peer| format!("{peer} {by}")),
        }
    }

    /// Whether a gRPC call may be made, and by whom.
    fn admit_call(&self, request: &Request, known_host: bool) -> Result<Option<Operator>, Status> {
        let denied = |message: &str| public::status(ErrorCode::PermissionDenied, message, None);
        let headers = request.headers();
        // Nothing but a browser says these of itself, and none of ours calls by gRPC.
        let browser = [header::ORIGIN, SEC_FETCH_SITE];
        if request.method() != Method::POST || browser.iter().any(|name| headers.contains_key(name)) {
            return Err(denied("calls are not taken from web pages"));
        }
        let Some(needed) = roles::of_call(request.uri().path()) else {
            // Whoever asks for what is not there is told so by the router.
            return match &self.tokens {
                Some(_) if self.bearer(headers).is_none() => Err(unauthenticated()),
                _ => Ok(None),
            };
        };
        let Needed::Role(role) = needed else { return Ok(None) };
        let peer = peer_in(request.extensions());
        let known = match &self.tokens {
            Some(_) => {
                let known = self.bearer(headers);
                if known.is_none()
                    && headers.contains_key(header::AUTHORIZATION)
                    && let Some(peer) = peer
                {
                    self.failed(peer.ip(), Instant::now());
                }
                Some(known.ok_or_else(unauthenticated)?)
            }
            None if self.loopback && !known_host => {
                return Err(denied("the call is addressed to a name that is not this coordinator's"));
            }
            None => None,
        };
        let operator = self.operator(known.as_ref(), peer, "grpc");
        if operator.role < role {
            let why = if self.read_only {
                "the admin address is read-only"
            } else {
                "the token is a viewer's, who may look and not act"
            };
            tracing::warn!(
                name = operator.name,
                origin = operator.origin,
                path = request.uri().path(),
                why,
                "a call was refused"
            );
            return Err(denied(why));
        }
        Ok(Some(operator))
    }
}

/// Why nobody was logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginError {
    /// No such token.
    Unknown,
    /// Too many failures from there; the token was not looked at.
    TooOften,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthenticated() -> Status {
    let message = "the admin address asks for a token: authorization: Bearer …";
    public::status(ErrorCode::Unauthenticated, message, None)
}

/// Whether a request that changes something came from a page of that host. Browsers say so, by at
/// least one of two headers; what says neither is no browser, and has no cookies of one.
fn is_own_site(headers: &HeaderMap, host: &str) -> bool {
    let site = headers.get(SEC_FETCH_SITE).is_none_or(|site| site == "same-origin" || site == "none");
    let origin = headers.get(header::ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
    });
    site && origin
}

/// Whether anybody may have it, without a name: liveness, what pages are made of, and the way in.
fn is_open(path: &str) -> bool {
    path.starts_with("/health/") || path.starts_with("/assets/") || path == "/login"
}

/// The layer.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let authority = hosts::authority(&parts);
    let known_host = authority.as_ref().is_some_and(|authority| gate.hosts.is_ours(authority));
    let mut request = Request::from_parts(parts, body);
    let path = request.uri().path();
    if roles::is_call(path) {
        return match gate.admit_call(&request, known_host) {
            Ok(operator) => {
                if let Some(operator) = operator {
                    request.extensions_mut().insert(operator);
                }
                next.run(request).await
            }
            Err(status) => status.into_http::<Body>(),
        };
    }
    // Probes come under whatever name, and are told one word.
    if path.starts_with("/health/") {
        return next.run(request).await;
    }
    let known = gate.bearer(request.headers());
    let host = match authority {
        // No page can know a token: whoever shows one is not lured here.
        Some(authority) if known_host || known.is_some() => authority,
        other => return misdirected(other.as_ref().map_or("", |authority| authority.as_str())),
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && !is_own_site(request.headers(), host.as_str()) {
        return plain(StatusCode::FORBIDDEN, "this was sent by a page of another site, and was not done\n");
    }
    let mut response = match enter(&gate, known, &mut request) {
        Ok(set_cookie) => {
            let request = match collected(request, changes).await {
                Ok(request) => request,
                Err(response) => return *response,
            };
            let mut response = next.run(request).await;
            if let Some(cookie) = set_cookie {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(response) => *response,
    };
    harden(response.headers_mut());
    response
}

/// Finds out who it is; answers the cookie to be set, if the browser holds none that forms could be
/// bound to.
fn enter(
    gate: &Gate,
    known: Option<Known>,
    request: &mut Request,
) -> Result<Option<HeaderValue>, Box<Response>> {
    let session = gate.session(request.headers());
    let is_session = session.is_some();
    let (held, known) = match (session, known) {
        (Some((secret, known)), _) => (Some(secret), Some(known)),
        (None, known) => (gate.held(request.headers(), "form"), known),
    };
    if gate.asks() && known.is_none() && !is_open(request.uri().path()) {
        return Err(Box::new(ask_in(request)));
    }
    let (held, set_cookie) = if let Some(held) = held {
        (held, None)
    } else {
        let drawn = Secret::draw();
        let cookie = gate.cookie("form", drawn.as_str(), SESSION_LASTS);
        (drawn, Some(cookie))
    };
    let operator = gate.operator(known.as_ref(), peer_in(request.extensions()), "console");
    let visitor = Visitor { operator, seal: gate.forms.seal(&held), session: is_session };
    request.extensions_mut().insert(visitor);
    // What is not a page needs no form.
    let page = !request.uri().path().starts_with("/assets/") && request.uri().path() != "/metrics";
    Ok(set_cookie.filter(|_| page))
}

/// Shows people the way in; tells programs what is missing.
fn ask_in(request: &Request) -> Response {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if request.method() == Method::GET && accept.is_some_and(|accept| accept.contains("text/html")) {
        let next = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let next = super::link::encode(next);
        return Redirect::to(&format!("/login?next={next}")).into_response();
    }
    let mut response = plain(StatusCode::UNAUTHORIZED, "a token is needed: authorization: Bearer …\n");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// A form, read whole: within its limits of size and time, whatever its sender does.
async fn collected(request: Request, changes: bool) -> Result<Request, Box<Response>> {
    if !changes {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(FORM_TIMEOUT, axum::body::to_bytes(body, FORM_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(_too_large)) => {
            Err(Box::new(plain(StatusCode::PAYLOAD_TOO_LARGE, "the form is too large, and was not read\n")))
        }
        Err(_elapsed) => Err(Box::new(plain(StatusCode::REQUEST_TIMEOUT, "the form did not come in time\n"))),
    }
}

fn misdirected(host: &str) -> Response {
    let shown: String = host.chars().filter(char::is_ascii_graphic).take(80).collect();
    let text = format!(
        "421: this coordinator does not answer under the name {shown:?}.\n\nIf it should: set admin_hosts (and see docs/console.md for why it has to be set).\n"
    );
    let mut response = plain(StatusCode::MISDIRECTED_REQUEST, text);
    harden(response.headers_mut());
    response
}

pub(super) fn plain(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    harden(response.headers_mut());
    response
}

/// What every page tells the browser to refuse.
fn harden(headers: &mut HeaderMap) {
    const ALWAYS: [(HeaderName, &str); 6] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: under that browsers send forms with `Origin: null`, from our own pages too.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
