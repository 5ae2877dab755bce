//! The admin address as browsers, scripts and other sites' pages meet it: over plain sockets, so that
//! every header is the one that the test chose.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use pactum_coordinator::config::Tls;
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::{Config, Coordinator, Listeners};
use pactum_proto::error::{ErrorCode, ErrorFacts};
use pactum_proto::v1;
use pactum_proto::v1::admin_service_client::AdminServiceClient;
use rustls::pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

const OPERATOR: &str = "operator-token-0123456789abcdef0123456789abcdef";
const VIEWER: &str = "viewer-token-0123456789abcdef0123456789abcdef00";

fn config() -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        ..Config::default()
    }
}

async fn start(config: Config) -> Coordinator {
    let listeners = Listeners::bind(&config).await.unwrap();
    let coordinator = Coordinator::start(listeners, Arc::new(MemoryLog::new()), config).unwrap();
    coordinator.ready().await;
    coordinator
}

/// A file with those tokens; it lives as long as what is returned.
fn tokens(entries: &[(&str, &str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.toml");
    std::fs::write(&path, tokens_text(entries)).unwrap();
    (directory, path)
}

fn tokens_text(entries: &[(&str, &str, &str)]) -> String {
    entries.iter().fold(String::new(), |mut text, (name, role, token)| {
        let hash = Sha256::digest(token.as_bytes()).iter().fold(String::new(), |mut hash, byte| {
            write!(hash, "{byte:02x}").unwrap();
            hash
        });
        writeln!(text, "[[token]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{hash}\"").unwrap();
        text
    })
}

/// An answer, as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The cookie that was set under a name that contains that: `name=value`.
    fn cookie(&self, name: &str) -> String {
        let set = self.headers.iter().filter(|(key, _)| key == "set-cookie");
        let cookie = set.map(|(_, value)| value).find(|value| value.contains(name)).unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// What forms carry.
    fn seal(&self) -> &str {
        let (_, rest) = self.body.split_once("name=\"seal\" value=\"").unwrap();
        rest.split_once('"').unwrap().0
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A peer that closes without a farewell has said all that it had to say.
    drop(stream.read_to_end(&mut bytes).await);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap_or("0").parse().unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Answer { status, headers, body: body.to_owned() }
}

/// A request of those headers; `Host` is the address unless it is among them.
fn request(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        write!(text, "Host: {address}\r\n").unwrap();
    }
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() {
        let length = body.len();
        write!(text, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n")
            .unwrap();
    }
    text + "\r\n" + body
}

async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    exchange(stream, &request(address, &format!("GET {path}"), headers, "")).await
}

async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    exchange(stream, &request(address, &format!("POST {path}"), headers, body)).await
}

const HTML: (&str, &str) = ("Accept", "text/html");

/// Logs in; answers the cookie.
async fn log_in(address: SocketAddr, token: &str) -> String {
    let form = get(address, "/login", &[HTML]).await;
    let (cookie, seal) = (form.cookie("pactum-form"), form.seal().to_owned());
    let answer =
        post(address, "/login", &[("Cookie", &cookie)], &format!("token={token}&seal={seal}&next=/")).await;
    assert_eq!(answer.status, 303, "{answer:?}");
    answer.cookie("pactum-session")
}

#[tokio::test]
async fn every_page_forbids_what_it_does_not_need() {
    let coordinator = start(config()).await;
    let address = coordinator.admin_addr();
    for path in
        ["/", "/transactions", "/in-doubt", "/participants", "/help", "/nothing/here", "/act?do=nothing"]
    {
        let answer = get(address, path, &[HTML]).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("script-src 'self';"),
            "{path}: {policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        // What the policy forbids is not there either.
        assert!(!answer.body.contains(" style=") && !answer.body.contains("<style"), "{path}");
        assert!(!answer.body.contains("http://") && !answer.body.contains("https://"), "{path}");
        assert!(answer.body.matches("<script").count() <= 1 && !answer.body.contains(" onclick="), "{path}");
    }
    assert_eq!(get(address, "/nothing/here", &[HTML]).await.status, 404);
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused_whoever_resolves_it_here() {
    let coordinator = start(config()).await;
    let address = coordinator.admin_addr();
    for host in ["evil.example", "evil.example:7601", "127.0.0.1.evil.example", "localhost@evil.example"] {
        let answer = get(address, "/", &[HTML, ("Host", host)]).await;
        assert_eq!(answer.status, 421, "{host}: {answer:?}");
        assert!(answer.body.contains("admin_hosts") && !answer.body.contains("<html"), "{host}: {answer:?}");
    }
    for host in ["localhost", "127.0.0.1:80", "[::1]:7601"] {
        assert_eq!(get(address, "/", &[HTML, ("Host", host)]).await.status, 200, "{host}");
    }
    // Calls too: a page under such a name could make them.
    let path = "/pactum.v1.AdminService/GetServerInfo";
    let call = [("Host", "evil.example"), ("Content-Type", "application/grpc"), ("TE", "trailers")];
    let answer = post(address, path, &call, "").await;
    assert_eq!(answer.header("grpc-status"), "7", "{answer:?}");
    for (name, value) in [("Origin", "http://localhost"), ("Sec-Fetch-Site", "same-origin")] {
        let answer = post(address, path, &[("Content-Type", "application/grpc"), (name, value)], "").await;
        assert_eq!(answer.header("grpc-status"), "7", "no page of ours calls so: {answer:?}");
    }
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn a_form_is_taken_from_our_own_pages_only() {
    let coordinator = start(config()).await;
    let address = coordinator.admin_addr();
    let act = "do=release&incarnation=&reason=because&confirmation=x&plan_hash=y";
    let own = format!("http://{address}");
    for foreign in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1:1"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let answer = post(address, "/act", &[foreign], act).await;
        assert_eq!(answer.status, 403, "{foreign:?}: {answer:?}");
        assert!(answer.body.contains("another site"), "{foreign:?}: {answer:?}");
    }
    // From our own page, but without what its forms carry; or with what another browser's carry.
    let page = get(address, "/", &[HTML]).await;
    let cookie = page.cookie("pactum-form");
    for seal in ["", "0123", &"0".repeat(64)] {
        let body = format!("{act}&seal={seal}");
        let answer = post(address, "/act", &[("Origin", &own), ("Cookie", &cookie)], &body).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.body.contains("Nothing was done"), "{answer:?}");
    }
    assert_eq!(post(address, "/logout", &[("Cookie", &cookie)], "seal=0").await.status, 403);
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn where_tokens_are_asked_for_nothing_is_shown_without_one_but_the_way_in() {
    let (_directory, path) = tokens(&[("alice", "operator", OPERATOR), ("wall", "viewer", VIEWER)]);
    let coordinator = start(Config { admin_tokens: Some(path), ..config() }).await;
    let address = coordinator.admin_addr();
    for page in ["/", "/transactions/0199?examine=1", "/audit/export"] {
        let answer = get(address, page, &[HTML]).await;
        assert_eq!(answer.status, 303, "{page}: {answer:?}");
        assert!(answer.header("location").starts_with("/login?next=%2F"), "{page}: {answer:?}");
        let script = get(address, page, &[]).await;
        assert_eq!((script.status, script.header("www-authenticate")), (401, "Bearer"), "{page}");
    }
    assert_eq!(get(address, "/events?of=overview", &[]).await.status, 401);
    assert_eq!(get(address, "/metrics", &[]).await.status, 401);
    let style = get(address, "/assets/console.css", &[]).await;
    assert_eq!((style.status, style.header("content-type")), (200, "text/css; charset=utf-8"));
    for wrong in ["Bearer nonsense", "Basic YWxpY2U6YWxpY2U=", &format!("Bearer {}", &OPERATOR[1..])] {
        assert_eq!(get(address, "/", &[("Authorization", wrong)]).await.status, 401, "{wrong}");
    }
    let bearer = format!("Bearer {VIEWER}");
    let answer = get(address, "/", &[("Authorization", &bearer)]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("wall (viewer)"), "{answer:?}");
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn a_session_lasts_until_its_logout_or_until_its_token_is_revoked() {
    let (_directory, path) = tokens(&[("alice", "operator", OPERATOR), ("bob", "operator", VIEWER)]);
    let coordinator = start(Config { admin_tokens: Some(path.clone()), ..config() }).await;
    let address = coordinator.admin_addr();
    let form = get(address, "/login?next=/audit", &[HTML]).await;
    let set = form.headers.iter().find(|(key, _)| key == "set-cookie").unwrap();
    assert!(
        set.1.contains("HttpOnly") && set.1.contains("SameSite=Strict") && !set.1.contains("Secure"),
        "{set:?}"
    );
    // A login without our form's seal is another site's.
    let answer = post(address, "/login", &[], &format!("token={OPERATOR}")).await;
    assert_eq!(answer.status, 403, "{answer:?}");

    let (alice, bob) = (log_in(address, OPERATOR).await, log_in(address, VIEWER).await);
    let home = get(address, "/", &[HTML, ("Cookie", &alice)]).await;
    assert_eq!(home.status, 200);
    assert!(home.body.contains("alice") && home.body.contains("Log out"), "{home:?}");

    // Another's session takes no form of hers.
    let seal = home.seal().to_owned();
    assert_eq!(post(address, "/logout", &[("Cookie", &bob)], &format!("seal={seal}")).await.status, 403);
    let out = post(address, "/logout", &[("Cookie", &alice)], &format!("seal={seal}")).await;
    assert_eq!((out.status, out.header("location")), (303, "/login"));
    assert_eq!(
        get(address, "/", &[HTML, ("Cookie", &alice)]).await.status,
        303,
        "the cookie itself is worth nothing now"
    );

    assert_eq!(get(address, "/", &[HTML, ("Cookie", &bob)]).await.status, 200);
    std::fs::write(&path, tokens_text(&[("alice", "operator", OPERATOR)])).unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
    while get(address, "/", &[HTML, ("Cookie", &bob)]).await.status == 200 {
        assert!(tokio::time::Instant::now() < deadline, "a revoked token still opens the door");
        tokio::task::yield_now().await;
    }
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_guesses_is_soon_not_listened_to() {
    let (_directory, path) = tokens(&[("alice", "operator", OPERATOR)]);
    let coordinator = start(Config { admin_tokens: Some(path), ..config() }).await;
    let address = coordinator.admin_addr();
    let form = get(address, "/login", &[HTML]).await;
    let (cookie, seal) = (form.cookie("pactum-form"), form.seal().to_owned());
    let mut statuses = Vec::new();
    for guess in 0..12 {
        let body = format!("token=guess-{guess}-0123456789abcdef0123456789abcdef&seal={seal}");
        statuses.push(post(address, "/login", &[("Cookie", &cookie)], &body).await.status);
    }
    assert_eq!(statuses, [vec![401; 10], vec![429; 2]].concat());
    let body = format!("token={OPERATOR}&seal={seal}");
    let answer = post(address, "/login", &[("Cookie", &cookie)], &body).await;
    assert_eq!(answer.status, 429, "not even the right one, from there, now: {answer:?}");
    // A program with the right token is no guess, and goes on.
    let bearer = format!("Bearer {OPERATOR}");
    assert_eq!(get(address, "/", &[("Authorization", &bearer)]).await.status, 200);
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn after_a_login_one_goes_to_a_page_of_ours_and_nowhere_else() {
    let (_directory, path) = tokens(&[("alice", "operator", OPERATOR)]);
    let coordinator = start(Config { admin_tokens: Some(path), ..config() }).await;
    let address = coordinator.admin_addr();
    let form = get(address, "/login?next=//evil.example", &[HTML]).await;
    let (cookie, seal) = (form.cookie("pactum-form"), form.seal().to_owned());
    for (next, goes) in [
        ("/audit?before=5", "/audit?before=5"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/%5Cevil.example", "/"),
    ] {
        let body =
            format!("token={OPERATOR}&seal={seal}&next={}", next.replace('?', "%3F").replace('=', "%3D"));
        let answer = post(address, "/login", &[("Cookie", &cookie)], &body).await;
        assert_eq!((answer.status, answer.header("location")), (303, goes), "{next}");
    }
    coordinator.stop().await.unwrap();
}

fn client(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}

async fn info(channel: Channel, token: Option<&str>) -> Result<v1::GetServerInfoResponse, tonic::Status> {
    let mut request = tonic::Request::new(v1::GetServerInfoRequest {});
    if let Some(token) = token {
        let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    AdminServiceClient::new(channel).get_server_info(request).await.map(tonic::Response::into_inner)
}

async fn release(channel: Channel, token: &str) -> tonic::Status {
    let act = v1::Act { act: Some(v1::act::Act::Release(v1::ReleaseAct { incarnation: Vec::new() })) };
    let message = v1::PerformActRequest {
        act: Some(act),
        plan_hash: "0".repeat(64),
        reason: "test".into(),
        who: String::new(),
    };
    let mut request = tonic::Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    AdminServiceClient::new(channel).perform_act(request).await.unwrap_err()
}

#[tokio::test]
async fn calls_need_a_token_where_one_is_asked_for_and_an_act_an_operators() {
    let (_directory, path) = tokens(&[("alice", "operator", OPERATOR), ("wall", "viewer", VIEWER)]);
    let coordinator = start(Config { admin_tokens: Some(path), ..config() }).await;
    let channel = client(coordinator.admin_addr()).connect().await.unwrap();
    for token in [None, Some("nonsense"), Some(&VIEWER[1..])] {
        let status = info(channel.clone(), token).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{token:?}");
        assert_eq!(ErrorFacts::from_status(&status).known(), Some(ErrorCode::Unauthenticated), "{token:?}");
    }
    for token in [VIEWER, OPERATOR] {
        assert!(!info(channel.clone(), Some(token)).await.unwrap().version.is_empty());
    }
    let status = release(channel.clone(), VIEWER).await;
    assert_eq!(ErrorFacts::from_status(&status).known(), Some(ErrorCode::PermissionDenied), "{status:?}");
    // The operator gets through to the act itself, which has its own word.
    let status = release(channel.clone(), OPERATOR).await;
    assert_ne!(status.code(), Code::PermissionDenied, "{status:?}");
    // Liveness is nobody's secret.
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let answer = health.check(tonic_health::pb::HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(answer.into_inner().status(), tonic_health::ServingStatus::Serving.into());
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn a_read_only_address_refuses_every_act_whoever_asks() {
    let (_directory, path) = tokens(&[("alice", "operator", OPERATOR)]);
    let coordinator = start(Config { admin_tokens: Some(path), admin_read_only: true, ..config() }).await;
    let channel = client(coordinator.admin_addr()).connect().await.unwrap();
    assert!(info(channel.clone(), Some(OPERATOR)).await.is_ok());
    let status = release(channel, OPERATOR).await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.message().contains("read-only"), "{status:?}");
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let coordinator = start(config()).await;
    let address = coordinator.admin_addr();
    let hostile = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    // And whether it comes back in the page at all.
    for (path, shown) in [
        (format!("/transactions?filter={hostile}"), true),
        (format!("/transactions/{hostile}"), false),
        (format!("/in-doubt?resource={hostile}"), false),
        (format!("/act?do={hostile}"), true),
        (format!("/act?do=retry&gid={hostile}"), false),
        (format!("/help/{hostile}"), true),
        (format!("/transactions?state={hostile}"), true),
    ] {
        let answer = get(address, &path, &[HTML]).await;
        assert!(!answer.body.contains("<script>alert"), "{path}: {}", answer.body);
        assert!(!shown || answer.body.contains("alert(1)"), "{path}: {}", answer.body);
    }
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn tokens_that_cannot_be_read_stop_the_start_and_say_which_file() {
    let config = Config { admin_tokens: Some("/nowhere/tokens.toml".into()), ..config() };
    let listeners = Listeners::bind(&config).await.unwrap();
    let error = Coordinator::start(listeners, Arc::new(MemoryLog::new()), config).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        error.to_string().contains("tokens") && source.contains("/nowhere/tokens.toml"),
        "{error}: {source}"
    );
}

/// A certificate for 127.0.0.1 in files, and who trusts it.
fn certificate(directory: &std::path::Path) -> (Tls, rustls::RootCertStore) {
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (directory.join("server.pem"), directory.join("server.key"));
    std::fs::write(&certificate, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    (Tls { certificate, key, client_ca: None }, roots)
}

#[tokio::test]
async fn under_tls_old_and_new_http_are_spoken_and_cookies_stay_under_it() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, roots) = certificate(directory.path());
    let (_tokens, path) = tokens(&[("alice", "operator", OPERATOR)]);
    let coordinator = start(Config { tls: Some(tls), admin_tokens: Some(path), ..config() }).await;
    let address = coordinator.admin_addr();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    for offered in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        client.alpn_protocols.clone_from(&offered);
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), offered.first().map(Vec::as_slice));
        let answer = exchange(stream, &request(address, "GET /login", &[HTML], "")).await;
        assert_eq!(answer.status, 200, "{offered:?}: {answer:?}");
        let set = answer.headers.iter().find(|(key, _)| key == "set-cookie").unwrap();
        assert!(set.1.starts_with("__Host-pactum-form") && set.1.ends_with("; Secure"), "{set:?}");
    }
    // And gRPC as ever.
    let pem = std::fs::read_to_string(directory.path().join("server.pem")).unwrap();
    let trust =
        tonic::transport::ClientTlsConfig::new().ca_certificate(tonic::transport::Certificate::from_pem(pem));
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(trust).unwrap();
    assert!(info(endpoint.connect().await.unwrap(), Some(OPERATOR)).await.is_ok());
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn the_public_port_speaks_no_http_1_and_serves_no_page() {
    let coordinator = start(config()).await;
    let stream = TcpStream::connect(coordinator.public_addr()).await.unwrap();
    let text = request(coordinator.public_addr(), "GET /", &[HTML], "");
    let mut stream = stream;
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes).await);
    assert!(!bytes.starts_with(b"HTTP/1"), "{bytes:?}");
    coordinator.stop().await.unwrap();
}

#[tokio::test]
async fn an_open_page_does_not_hold_up_the_stop() {
    let coordinator = start(config()).await;
    let address = coordinator.admin_addr();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let follow = request(address, "GET /events?of=overview&state=older", &[], "");
    stream.write_all(follow.as_bytes()).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("event: changed") {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(count > 0, "the stream ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    let id = seen.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().trim().to_owned();
    // Whoever comes back with that id has missed nothing, and is told nothing; with another, all.
    let page = get(address, "/", &[HTML]).await;
    assert!(
        page.body.contains(&format!("state={id}")),
        "the page names the state that it shows: {}",
        page.body
    );
    let config = Config::default();
    let stopped = tokio::time::timeout(config.stop_within, coordinator.stop()).await;
    stopped.unwrap().unwrap();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
}
