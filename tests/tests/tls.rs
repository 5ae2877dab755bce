//! TLS from end to end: who is trusted, who is not, and what a person reads who got it wrong.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::path::Path;
use std::time::Duration;

use pactum::participant::Participant;
use pactum::{Pactum, Tls};
use pactum_coordinator::config::Tls as Served;
use pactum_tests::bank::{APPLY, Books, Entry, resource};
use pactum_tests::cluster::{Cluster, config};
use pactum_tests::history::{TIMEOUT, fresh_key};
use pactum_tests::postgres;
use pactum_tests::wait::eventually;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate that it issued, and its key, in PEM.
struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Issued { certificate: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// What a coordinator shows, in files as its settings want them.
fn served(directory: &Path, server: &Issued, client_authority: Option<&Authority>) -> Served {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    Served {
        certificate: write("server.pem", &server.certificate),
        key: write("server.key", &server.key),
        client_ca: client_authority.map(|authority| write("clients.pem", &authority.pem())),
    }
}

async fn cluster(log_url: &str, tls: Served) -> Cluster {
    Cluster::start_on(log_url, pactum_coordinator::Config { tls: Some(tls), ..config() }).await
}

/// The text of why a client could not connect.
async fn refused(address: String, tls: Option<Tls>) -> String {
    let mut builder = Pactum::builder([address]).connect_timeout(Duration::from_secs(5));
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    let error = builder.connect().await.unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// Mutual TLS all the way, with two coordinators of which only one is named: the other is dialled
/// under the same authority and the same identity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_tls_carries_a_transfer_through_coordinators_given_and_learned() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
    let tls = served(directory.path(), &authority.issue("127.0.0.1"), Some(&clients));
    let log_url = postgres::database(postgres::shared(), "log");
    let (one, two) = (cluster(&log_url, tls.clone()).await, cluster(&log_url, tls).await);
    let identity = clients.issue("bank");
    let trust = || Tls::new(authority.pem()).identity(&*identity.certificate, &*identity.key);

    let given = one.coordinator.public_url();
    assert!(given.starts_with("https://"), "{given}");
    let mut banks = Vec::new();
    for name in ["bank-a", "bank-b"] {
        let url = postgres::database(postgres::shared(), name);
        let books = Books::create(&url).await;
        let participant = Participant::builder([given.clone()])
            .tls(trust())
            .resource(resource(name, &url, false).await)
            .start()
            .await
            .unwrap();
        eventually("the coordinator that was not named", || async {
            (participant.sessions().iter().filter(|session| session.is_attached()).count() == 2).then_some(())
        })
        .await;
        banks.push((participant, books));
    }
    let pactum = Pactum::builder([given]).tls(trust()).connect().await.unwrap();
    eventually("both coordinators", || async { (pactum.coordinators().len() == 2).then_some(()) }).await;

    // Enough that both coordinators own some.
    for _ in 0..8 {
        let key = fresh_key();
        let outcome = pactum
            .submit()
            .operation("bank-a", APPLY, Entry::new(&key, "1", -5).payload())
            .operation("bank-b", APPLY, Entry::new(&key, "1", 5).payload())
            .timeout(TIMEOUT)
            .await
            .unwrap();
        assert!(outcome.is_committed(), "{outcome:?}");
    }
    for ((participant, books), change) in banks.into_iter().zip([-40, 40]) {
        let total = eventually("the end of every branch", || async {
            let left = books.prepared().await.ok()?;
            if left.is_empty() { books.balance("1").await.ok() } else { None }
        })
        .await;
        assert_eq!(total, pactum_tests::bank::OPENING + change);
        participant.shutdown().await;
    }
    two.coordinator.stop().await.unwrap();
    one.coordinator.stop().await.unwrap();
}

/// Whoever is not who he must be is told so in words, and nothing of it reaches a service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_on_either_side_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, clients, stranger) =
        (Authority::new("servers"), Authority::new("clients"), Authority::new("stranger"));
    let tls = served(directory.path(), &authority.issue("127.0.0.1"), Some(&clients));
    let cluster = cluster(&postgres::database(postgres::shared(), "log"), tls).await;
    let address = cluster.coordinator.public_url();
    let client = clients.issue("bank");
    let known = |tls: Tls| tls.identity(&*client.certificate, &*client.key);

    let foreign = stranger.issue("bank");
    let foreign = Tls::new(authority.pem()).identity(&*foreign.certificate, &*foreign.key);
    let other_name = known(Tls::new(authority.pem()).domain("elsewhere.example"));
    let (issuer, name, plain, unset, ..) = futures::join!(
        refused(address.clone(), Some(known(Tls::new(stranger.pem())))),
        refused(address.clone(), Some(other_name)),
        refused(address.replace("https://", "http://"), None),
        refused(address.clone(), None),
        // Under TLS 1.3 a client's handshake is over before the server has seen its certificate, so that
        // these two read no more than that the connection was closed (RFC 8446, section 4.4.2.4).
        refused(address.clone(), Some(Tls::new(authority.pem()))),
        refused(address.clone(), Some(foreign)),
    );
    assert!(issuer.contains("UnknownIssuer"), "a server of an authority that is not trusted: {issuer}");
    assert!(name.contains("not valid for name"), "a server of another name: {name}");
    assert!(plain.contains(&address.replace("https://", "http://")), "no TLS at all: {plain}");
    assert!(unset.contains("name the authority to trust"), "{unset}");

    // And whoever is, still gets through.
    let trusted = Pactum::builder([address]).tls(known(Tls::new(authority.pem()))).connect().await;
    assert!(trusted.is_ok(), "{trusted:?}");
    cluster.coordinator.stop().await.unwrap();
}
