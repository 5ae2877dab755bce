//! `dev`, `serve` and `log migrate` as processes of their own, and the operators' commands against them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::TcpListener;

use pactum::participant::{Enlister, Participant};
use pactum::resource::{BranchContext, HookError, Prepared, PreparedBranch, Registration, Resource};
use pactum::{AbortReason, BranchId, Cluster, Pactum, ResourceName};
use pactum_core::coordinator::Operation;
use pactum_core::outcome::BranchOutcome;
use pactum_core::vote::Evidence;
use pactum_proto::v1;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use rustix::process::Signal;
use support::{Coordinator, assert_exit, pactum, run, stderr, stdout};

/// Agrees to everything and does nothing.
#[derive(Debug)]
struct Agreeable(ResourceName);

impl Resource for Agreeable {
    fn name(&self) -> &ResourceName {
        &self.0
    }

    async fn check(&self) -> Result<Registration, HookError> {
        Ok(Registration::new("agreeable"))
    }

    fn bind(&self, _: Enlister) {}

    async fn prepare(&self, _: &BranchContext, _: Option<&Operation>) -> Result<Prepared, AbortReason> {
        Ok(Prepared::Yes(Evidence::new("1", "agreeable")))
    }

    async fn commit(
        &self,
        _: &BranchContext,
        _: &Evidence,
        _: Option<&Evidence>,
    ) -> Result<BranchOutcome, HookError> {
        Ok(BranchOutcome::Committed)
    }

    async fn abort(&self, _: &BranchContext, _: Option<&Evidence>) -> Result<BranchOutcome, HookError> {
        Ok(BranchOutcome::Aborted)
    }

    async fn recover(&self, _: &Cluster) -> Result<Vec<PreparedBranch>, HookError> {
        Ok(Vec::new())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_list_and_resolve_what_a_dev_coordinator_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::dev(directory.path());
    let empty = coordinator.ask(&["tx", "list"]);
    assert_exit(&empty, 0);
    assert!(stderr(&empty).contains("nothing is open"), "{}", stderr(&empty));

    // One that nobody will commit.
    let mut client = TransactionsServiceClient::connect(coordinator.public.clone()).await.unwrap();
    let details = v1::Details { name: "stuck".into(), ..v1::Details::default() };
    let begun = client
        .begin(v1::BeginRequest { details: Some(details), ..v1::BeginRequest::default() })
        .await
        .unwrap();
    let gid = uuid::Uuid::from_slice(&begun.into_inner().id.unwrap().gid).unwrap().to_string();
    let listed = coordinator.ask(&["tx", "list"]);
    assert!(stdout(&listed).contains("stuck") && stdout(&listed).contains("ACTIVE"), "{}", stdout(&listed));
    let tail = &gid[30..];
    assert!(stderr(&listed).contains(&format!("pactum tx show {tail}")), "{}", stderr(&listed));
    let shown = coordinator.ask(&["tx", "show", tail]);
    assert_exit(&shown, 0);
    assert!(stdout(&shown).starts_with(&gid), "{}", stdout(&shown));
    let resolved = coordinator.ask(&["tx", "resolve", tail, "--reason", "nobody will commit it", "--yes"]);
    assert_exit(&resolved, 0);
    assert!(stdout(&resolved).contains("it is closed with abort (audit 2)"), "{}", stdout(&resolved));
    assert_exit(&coordinator.ask(&["tx", "watch", &gid]), 10);
    // Who did it, and why, stands in a chain that is whole: the act's beginning, and its end.
    let audit = coordinator.ask(&["audit", "list", "-o", "json"]);
    let audit: serde_json::Value = serde_json::from_str(&stdout(&audit)).unwrap();
    assert_eq!(
        (audit["entries"][0]["kind"].as_str(), audit["entries"][0]["begun"].as_u64()),
        (Some("done"), Some(1))
    );
    assert_eq!(audit["entries"][1]["reason"], "nobody will commit it");
    let verified = coordinator.ask(&["audit", "verify"]);
    assert_exit(&verified, 0);
    assert!(stdout(&verified).starts_with("whole: 2 entries"), "{}", stdout(&verified));

    // One that is committed: two branches, so that the log decides.
    let builder = Participant::builder([coordinator.public.clone()]);
    let (a, b): (ResourceName, ResourceName) = ("shop".parse().unwrap(), "bank".parse().unwrap());
    let participant =
        builder.resource(Agreeable(a.clone())).resource(Agreeable(b.clone())).start().await.unwrap();
    participant.attached().await;
    let listed = coordinator.ask(&["participant", "list"]);
    assert!(stdout(&listed).contains("shop") && stdout(&listed).contains("bank"), "{}", stdout(&listed));
    let status = coordinator.ask(&["status", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&status)).unwrap();
    assert_eq!(
        (&json["participants_attached"], &json["log"]["available"]),
        (&1.into(), &true.into()),
        "{json}"
    );
    assert_eq!(json["coordinators"][0]["incarnation"], json["incarnation"], "{json}");
    let address = json["coordinators"][0]["address"].as_str().unwrap();
    assert_eq!(format!("http://{address}"), coordinator.public, "others are told where it is");
    let status = coordinator.ask(&["status"]);
    let page = stdout(&status);
    assert!(page.lines().any(|line| line.contains(address) && line.ends_with("this one")), "{page}");
    let pactum = Pactum::connect(coordinator.public.clone()).await.unwrap();
    let tx = pactum.begin().name("order").await.unwrap();
    for (resource, branch) in [(&a, 1), (&b, 2)] {
        participant.enlister().enlist(tx.context(), resource, BranchId::new(branch)).await.unwrap();
    }
    let gid = tx.id().gid.to_string();
    assert!(tx.commit().await.unwrap().is_committed());
    let refused = coordinator.ask(&["tx", "resolve", &gid, "--reason", "too late", "--yes"]);
    assert_exit(&refused, 6);
    assert!(stderr(&refused).contains("ALREADY_COMMITTED (PACTUM-0007)"), "{}", stderr(&refused));
    // That its branches have finished is recorded lazily.
    let state = support::until("its end is recorded", || {
        let finished = coordinator.ask(&["tx", "list", "--finished", "-o", "json"]);
        let json: serde_json::Value = serde_json::from_str(&stdout(&finished)).unwrap();
        let order =
            json["transactions"].as_array().unwrap().iter().find(|tx| tx["gid"] == gid.as_str()).unwrap();
        assert_eq!(order["name"], "order");
        order["state"].as_str().filter(|state| *state != "committing").map(str::to_owned)
    });
    assert_eq!(state, "committed");
    // Acts on a participant, and lists that are empty where all is well.
    let drain = ["participant", "drain", "shop", "--reason", "upgrade", "--yes"];
    assert_exit(&coordinator.ask(&drain), 0);
    let shown = coordinator.ask(&["participant", "show", "shop"]);
    assert!(stdout(&shown).contains("draining"), "{}", stdout(&shown));
    let twice = coordinator.ask(&drain);
    assert_exit(&twice, 6);
    assert!(stderr(&twice).contains("NOTHING_TO_DO (PACTUM-0024)"), "{}", stderr(&twice));
    assert_exit(&coordinator.ask(&["participant", "resume", "shop", "--reason", "done", "--yes"]), 0);
    assert_exit(&coordinator.ask(&["quarantine", "list"]), 0);
    assert_exit(&coordinator.ask(&["heuristic", "list"]), 0);
    assert_exit(&coordinator.ask(&["tx", "list", "--filter", "resource=bank age>5m"]), 0);
    let unknown = coordinator.ask(&["tx", "list", "--filter", "colour=red"]);
    assert_exit(&unknown, 2);
    assert!(stderr(&unknown).contains("colour"), "{}", stderr(&unknown));
    participant.shutdown().await;
    drop(pactum);

    coordinator.signal(Signal::TERM);
    assert_eq!(coordinator.ended().code(), Some(0));
}

#[test]
fn dev_tells_where_it_serves_and_what_to_type_and_keeps_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data").display().to_string();
    let ready = directory.path().join("ready.json");
    let mut child =
        pactum(&["dev", "--random-ports", "--data", &data, "--ready-file", ready.to_str().unwrap()])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
    let text = support::until("it is ready", || std::fs::read_to_string(&ready).ok());
    let addresses: serde_json::Value = serde_json::from_str(&text).unwrap();
    let admin = addresses["admin"].as_str().unwrap().to_owned();
    assert_exit(&run(&["tx", "list", "--server", &admin]), 0);

    // The log is held by the one that runs.
    let second = run(&["dev", "--random-ports", "--data", &data]);
    assert_exit(&second, 6);
    assert!(stderr(&second).contains("LOG_IN_USE (PACTUM-0035)"), "{}", stderr(&second));

    support::send(&child, Signal::INT);
    assert_eq!(support::wait(&mut child).code(), Some(0));
    let output = child.wait_with_output().unwrap();
    let page = stdout(&output);
    assert!(page.contains(&admin) && page.contains("pactum demo transfer"), "{page}");
    assert!(page.lines().last().unwrap().starts_with("ready in "), "{page}");
    assert!(std::path::Path::new(&data).join("log.db").exists());
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["serve", "--log", "memory:", "--listen", &address, "--admin-listen", "127.0.0.1:0"]);
    assert_exit(&output, 1);
    let said = stderr(&output);
    assert!(said.contains(&address) && said.contains("ADDRESS_IN_USE (PACTUM-0036)"), "{said}");
}

#[test]
fn an_unknown_setting_is_named_and_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pactum.toml");
    std::fs::write(&file, "log = 'memory:'\nretry_kap = '3s'\n").unwrap();
    let from_file = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_exit(&from_file, 2);
    assert!(stderr(&from_file).contains("retry_kap"), "{}", stderr(&from_file));
    let from_variable =
        pactum(&["serve", "--log", "memory:"]).env("PACTUM_RETRY_KAP", "3s").output().unwrap();
    assert_exit(&from_variable, 2);
    let said = stderr(&from_variable);
    assert!(said.contains("PACTUM_RETRY_KAP") && said.contains("is retry_cap meant?"), "{said}");
    let typed = run(&["serve", "--log", "memory:", "--set", "retry_kap=3s"]);
    assert_exit(&typed, 2);
    assert!(stderr(&typed).contains("retry_kap"), "{}", stderr(&typed));
}

#[test]
fn an_address_that_strangers_reach_needs_tls_or_a_plain_word() {
    let refused =
        run(&["serve", "--log", "memory:", "--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"]);
    assert_exit(&refused, 2);
    let said = stderr(&refused);
    assert!(said.contains("UNSAFE_ADDRESS (PACTUM-0031)") && said.contains("--unsafe-plaintext"), "{said}");
}

#[test]
fn serve_takes_its_settings_from_file_variables_and_flags() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pactum.toml");
    // The file's address would not do; the variable's does. The log comes from a flag.
    std::fs::write(&file, "log = 'nonsense:'\nlisten = '192.0.2.1:1'\nadmin_listen = '127.0.0.1:0'\n")
        .unwrap();
    let mut command =
        pactum(&["serve", "--config", file.to_str().unwrap(), "--log", "memory:", "-o", "json"]);
    command.env("PACTUM_LISTEN", "127.0.0.1:0");
    let mut coordinator = Coordinator::start(command);
    assert_exit(&coordinator.ask(&["tx", "list"]), 0);
    coordinator.signal(Signal::INT);
    assert_eq!(coordinator.ended().code(), Some(0));
}

#[test]
fn no_password_is_shown_when_the_log_cannot_be_reached() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://u:canary-secret@{free}/db");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log-url");
    std::fs::write(&file, &url).unwrap();
    let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "-vvv"];
    let from_file = ["--log-file", file.to_str().unwrap()];
    for args in [
        [&["serve", "--log", &url], &ports[..]].concat(),
        [&["serve"], &from_file[..], &ports[..]].concat(),
        [&["log", "migrate"], &from_file[..]].concat(),
        [&["log", "migrate", "--log", &url][..]].concat(),
    ] {
        let output = run(&args);
        assert_exit(&output, 4);
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains("PACTUM-0032") && !said.contains("canary-secret"), "{said}");
    }
    // Nor in the help, which shows variables.
    let help = pactum(&["log", "migrate", "--help"]).env("PACTUM_LOG", &url).output().unwrap();
    assert!(!stdout(&help).contains("canary-secret"), "{}", stdout(&help));
}

#[test]
fn migrate_makes_a_log_ready_and_may_be_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("log.db").display());
    for _ in 0..2 {
        assert_exit(&run(&["log", "migrate", "--log", &url]), 0);
    }
    assert_exit(&run(&["log", "migrate", "--log", "oracle://x"]), 2);
    assert_exit(&run(&["log", "migrate"]), 2);
}

#[test]
fn a_child_of_the_demo_run_by_hand_says_what_it_is() {
    let output = run(&["demo-bank"]);
    assert_exit(&output, 2);
    assert!(stderr(&output).contains("pactum demo"), "{}", stderr(&output));
}
