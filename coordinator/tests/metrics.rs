//! What a scrape shows after one of everything, what probes are told, and that what is written about
//! metrics (the documentation, the alerts, the dashboard) names none that does not exist.

#![allow(clippy::unwrap_used, reason = "helpers of tests do not count as tests for clippy.toml")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails at whatever it does not expect")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Node, Participant, config, soon, until};
use pactum_coordinator::decision_log::memory::MemoryLog;
use pactum_coordinator::{Config, Coordinator};
use pactum_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use v1::participant_message::Message as Up;

/// A page of the admin address: status, content type, body.
async fn page(coordinator: &Coordinator, path: &str, accept: &str) -> (u16, String, String) {
    let address = coordinator.admin_addr();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the page", stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let kind = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type")).unwrap().1;
    (status, kind.to_owned(), body.to_owned())
}

/// The samples of a scrape: name with labels, and value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// The names of metrics, as a scrape in the older format describes them.
fn described(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split_once(' ').unwrap()).map(|(name, kind)| (name.into(), kind.into())).collect()
}

fn value(node: &Node, series: &str) -> f64 {
    samples(&node.coordinator.metrics()).get(series).copied().unwrap_or(0.0)
}

/// Commits one transaction over both.
async fn transfer(node: &Node, a: &mut Participant, b: &mut Participant) -> v1::TransactionId {
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    b.ack_commit(&id, &in_b).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), v1::OutcomeState::Committed);
    id
}

/// One of everything that is counted: a commit, a branch that fails before it is finished, a heuristic
/// end, a read-only transaction, an abort by vote, by request, and by an absent participant.
async fn one_of_everything(node: &Node) -> (Participant, Participant) {
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    transfer(node, &mut a, &mut b).await;

    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    a.vote_commit().await;
    b.vote_commit().await;
    a.ack_commit(&id, &in_a).await;
    let failed = v1::Failed { id: Some(id.clone()), branch: Some(in_b.clone()), message: "no disk".into() };
    b.send(Up::Failed(failed)).await;
    b.finished(&id, &in_b, v1::BranchOutcome::HeuristicAborted).await;
    soon("the outcome", commit).await.unwrap().unwrap();

    let id = node.draw().await;
    let in_a = a.enlist(&id, 1).await;
    let commit = node.commit(&id, &[&in_a], v1::Wait::Finished);
    let prepare = a.prepare().await;
    a.vote(&prepare, v1::vote::Vote::ReadOnly(true)).await;
    assert!(soon("the outcome", commit).await.unwrap().unwrap().read_only);

    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Finished);
    let prepare = a.prepare().await;
    let no = v1::AbortReason { kind: v1::AbortKind::VotedNo.into(), message: "no money".to_owned() };
    a.vote(&prepare, v1::vote::Vote::Abort(no)).await;
    b.ack_abort(&id, &in_b).await;
    assert_eq!(soon("the outcome", commit).await.unwrap().unwrap().state(), v1::OutcomeState::Aborted);
    (a, b)
}

/// An operator's act.
async fn act(node: &Node, act: v1::act::Act) -> Result<v1::PerformActResponse, tonic::Status> {
    let act = Some(v1::Act { act: Some(act) });
    let planned = node.admin.clone().plan_act(v1::PlanActRequest { act: act.clone() }).await?.into_inner();
    let request = v1::PerformActRequest {
        act,
        plan_hash: planned.plan.unwrap().hash,
        reason: "to see it counted".to_owned(),
        ..v1::PerformActRequest::default()
    };
    Ok(node.admin.clone().perform_act(request).await?.into_inner())
}

#[tokio::test]
async fn a_scrape_counts_what_happened() {
    let node = Node::start().await;
    let (a, b) = one_of_everything(&node).await;
    until("the last end", async || node.coordinator.transactions_open() == 0).await;
    let text = node.coordinator.metrics();
    let shown = samples(&text);
    let mut expected = BTreeMap::from([
        (r#"pactum_transactions_total{outcome="committed"}"#, 2.0),
        (r#"pactum_transactions_total{outcome="read_only"}"#, 1.0),
        (r#"pactum_transactions_total{outcome="aborted"}"#, 1.0),
        (r#"pactum_aborts_total{reason="voted_no"}"#, 1.0),
        (r#"pactum_heuristic_total{kind="aborted"}"#, 1.0),
        (r#"pactum_heuristic_total{kind="committed"}"#, 0.0),
        (r#"pactum_overruled_branches_total{kind="rollback"}"#, 0.0),
        ("pactum_transactions_in_flight", 0.0),
        ("pactum_transactions_in_doubt", 0.0),
        ("pactum_in_doubt_oldest_age_seconds", 0.0),
        ("pactum_log_available", 1.0),
        ("pactum_ready", 1.0),
        ("pactum_violations_total", 0.0),
        ("pactum_incarnations_started_total", 1.0),
        (r#"pactum_phase_duration_seconds_count{phase="prepare"}"#, 2.0),
        (r#"pactum_phase_duration_seconds_count{phase="decide"}"#, 2.0),
        (r#"pactum_phase_duration_seconds_count{phase="finish"}"#, 2.0),
        (r#"pactum_phase_duration_seconds_count{phase="commit"}"#, 2.0),
        (r#"pactum_phase_duration_seconds_bucket{le="+Inf",phase="finish"}"#, 2.0),
        ("pactum_log_append_duration_seconds_count", 2.0),
        ("pactum_log_append_rows_sum", 2.0),
        (r#"pactum_participants_attached{resource="bank-a"}"#, 1.0),
        (r#"pactum_branches_unfinished{resource="bank-a"}"#, 0.0),
        (r#"pactum_branches_unfinished{resource="bank-b"}"#, 0.0),
    ]);
    let version = env!("CARGO_PKG_VERSION");
    let build = format!(r#"pactum_build_info{{version="{version}",log="memory"}}"#);
    expected.insert(&build, 1.0);
    let calls = [
        ("bank-a", "enlist", "ok", 4.0),
        ("bank-b", "enlist", "ok", 3.0),
        ("bank-a", "prepare", "commit", 2.0),
        ("bank-a", "prepare", "read_only", 1.0),
        ("bank-a", "prepare", "abort", 1.0),
        ("bank-b", "prepare", "commit", 2.0),
        ("bank-a", "commit", "finished", 2.0),
        ("bank-b", "commit", "finished", 1.0),
        ("bank-b", "commit", "failed", 1.0),
        ("bank-b", "commit", "heuristic", 1.0),
        ("bank-b", "abort", "finished", 1.0),
    ];
    let calls = calls.map(|(participant, op, code, count)| {
        let labels = format!(r#"participant="{participant}",op="{op}",code="{code}""#);
        (format!("pactum_participant_calls_total{{{labels}}}"), count)
    });
    expected.extend(calls.iter().map(|(series, count)| (series.as_str(), *count)));
    for (series, count) in expected {
        assert_eq!(shown.get(series), Some(&count), "{series}\n{text}");
    }
    a.leave(&node).await;
    assert!((value(&node, r#"pactum_participants_attached{resource="bank-a"}"#)).abs() < f64::EPSILON);
    drop(b);
    node.end().await;
}

#[tokio::test]
async fn in_doubt_and_unfinished_are_shown_until_the_last_branch_has_ended() {
    let node = Node::start().await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = node.draw().await;
    let (in_a, in_b) = (a.enlist(&id, 1).await, b.enlist(&id, 2).await);
    let commit = node.commit(&id, &[&in_a, &in_b], v1::Wait::Decision);
    let shown = |series| value(&node, series);
    a.vote_commit().await;
    let is = |value: f64, expected: f64| (value - expected).abs() < f64::EPSILON;
    assert!(is(shown("pactum_transactions_in_flight"), 1.0));
    assert!(is(shown("pactum_transactions_in_doubt"), 0.0), "it may still be aborted freely");
    b.vote_commit().await;
    soon("the outcome", commit).await.unwrap().unwrap();
    a.ack_commit(&id, &in_a).await;
    let of = |resource: &str| format!(r#"pactum_branches_unfinished{{resource="{resource}"}}"#);
    until("the end at one", async || is(value(&node, &of("bank-a")), 0.0)).await;
    assert!(is(value(&node, &of("bank-b")), 1.0));
    assert!(is(shown("pactum_transactions_in_doubt"), 1.0));
    until("the age of a second", async || shown("pactum_in_doubt_oldest_age_seconds") >= 1.0).await;
    assert!(is(shown(r#"pactum_transactions_total{outcome="committed"}"#), 1.0), "counted when durable");
    b.ack_commit(&id, &in_b).await;
    until("the end", async || is(shown("pactum_transactions_in_doubt"), 0.0)).await;
    assert!(is(value(&node, &of("bank-b")), 0.0));
    assert!(is(shown("pactum_in_doubt_oldest_age_seconds"), 0.0));
    node.end().await;
}

#[tokio::test]
async fn a_scraper_gets_the_format_that_it_asks_for() {
    let node = Node::start().await;
    let (status, kind, text) = page(&node.coordinator, "/metrics", "*/*").await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.contains("# TYPE pactum_transactions_total counter\n") && !text.contains("# EOF"), "{text}");
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
    let (status, kind, open) = page(&node.coordinator, "/metrics", accept).await;
    assert_eq!(status, 200);
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.contains("# TYPE pactum_transactions counter\n") && open.ends_with("# EOF\n"), "{open}");
    node.end().await;
}

#[tokio::test]
async fn two_coordinators_of_one_process_count_apart() {
    let (one, other) = (Node::start().await, Node::start().await);
    let (mut a, mut b) = (one.participant("bank-a").await, one.participant("bank-b").await);
    transfer(&one, &mut a, &mut b).await;
    let committed = r#"pactum_transactions_total{outcome="committed"}"#;
    assert!((value(&one, committed) - 1.0).abs() < f64::EPSILON);
    assert!(value(&other, committed).abs() < f64::EPSILON);
    one.end().await;
    other.end().await;
}

#[tokio::test]
async fn probes_are_told_whether_and_why_not() {
    let node = Node::start().await;
    let (status, kind, body) = page(&node.coordinator, "/health/live", "*/*").await;
    assert_eq!((status, kind.as_str(), body.as_str()), (200, "application/json", r#"{"status":"live"}"#));
    let (status, _, body) = page(&node.coordinator, "/health/ready", "*/*").await;
    assert_eq!((status, body.as_str()), (200, r#"{"status":"ready"}"#));

    node.log.faults().refuse_connections(true);
    node.log.faults().fail_next_writes(1000, false);
    let mut told = String::new();
    until("the bad news", async || {
        let (status, _, body) = page(&node.coordinator, "/health/ready", "*/*").await;
        told = body;
        status == 503
    })
    .await;
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(report["status"], "not ready");
    assert!(report["reasons"][0].as_str().unwrap().starts_with("the log cannot be written: "), "{told}");
    assert_eq!(page(&node.coordinator, "/health/live", "*/*").await.0, 200);
    assert!(value(&node, "pactum_log_available").abs() < f64::EPSILON);
    node.log.faults().refuse_connections(false);
    node.log.faults().fail_next_writes(0, false);
    until("the good news", async || page(&node.coordinator, "/health/ready", "*/*").await.0 == 200).await;
    node.end().await;
}

#[tokio::test]
async fn a_transaction_tells_its_steps() {
    // So slow that nothing is sent twice.
    let patient = Config { retry_first: common::DEADLINE, retry_cap: common::DEADLINE, ..config() };
    let node = Node::with(patient, MemoryLog::new()).await;
    let (mut a, mut b) = (node.participant("bank-a").await, node.participant("bank-b").await);
    let id = transfer(&node, &mut a, &mut b).await;
    until("the end", async || node.coordinator.transactions_open() == 0).await;
    let gid = uuid::Uuid::from_slice(&id.gid).unwrap().simple().to_string();
    let request = v1::InspectTransactionRequest { gid, ..v1::InspectTransactionRequest::default() };
    let shown = node.admin.clone().inspect_transaction(request).await.unwrap().into_inner();
    let steps = shown.transaction.unwrap().steps;
    let times: Vec<_> = steps.iter().map(|step| step.at.unwrap()).map(|at| (at.seconds, at.nanos)).collect();
    assert!(times.is_sorted() && times[0] == (0, 0), "{times:?}");
    let mut told: BTreeSet<(String, u64, String)> = BTreeSet::new();
    for step in &steps {
        told.insert((step.step.clone(), step.branch, step.detail.clone()));
    }
    let expected = [
        ("begun", 0, ""),
        ("enlisted", 1, "bank-a"),
        ("enlisted", 2, "bank-b"),
        ("prepare-sent", 1, "bank-a"),
        ("prepare-sent", 2, "bank-b"),
        ("voted", 1, "commit"),
        ("voted", 2, "commit"),
        ("deciding", 0, "commit"),
        ("decided", 0, "commit"),
        ("sent", 1, "commit"),
        ("sent", 2, "commit"),
        ("finished", 1, "committed"),
        ("finished", 2, "committed"),
        ("finished", 0, "committed"),
    ];
    let expected = expected.map(|(step, branch, detail)| (step.to_owned(), branch, detail.to_owned()));
    assert_eq!(told, BTreeSet::from(expected), "{steps:?}");
    assert_eq!(steps.last().map(|step| (step.step.as_str(), step.branch)), Some(("finished", 0)));
    node.end().await;
}

#[tokio::test]
async fn acts_are_counted_by_what_came_of_them() {
    // Nobody is there to be asked, and nobody is given up by himself.
    let config = Config {
        participant_grace: common::DEADLINE,
        finished_bound: std::time::Duration::from_millis(50),
        ..config()
    };
    let node = Node::with(config, MemoryLog::new()).await;
    let mut a = node.participant("bank-a").await;
    let id = node.draw().await;
    a.enlist(&id, 1).await;
    a.leave(&node).await;
    let gid = uuid::Uuid::from_slice(&id.gid).unwrap().simple().to_string();
    let resolve = v1::act::Act::Resolve(v1::ResolveAct { gid });
    soon("the act", act(&node, resolve.clone())).await.unwrap();
    let count = |act: &str, result: &str| {
        value(&node, &format!(r#"pactum_acts_total{{act="{act}",result="{result}"}}"#))
    };
    assert!((count("resolve", "done") - 1.0).abs() < f64::EPSILON);
    until("the end", async || node.coordinator.transactions_open() == 0).await;
    let aborts = value(&node, r#"pactum_aborts_total{reason="resolved"}"#);
    assert!((aborts - 1.0).abs() < f64::EPSILON, "{aborts}");
    let drain =
        v1::act::Act::Drain(v1::DrainAct { resource: "bank-a".to_owned(), ..v1::DrainAct::default() });
    soon("a refusal", act(&node, drain)).await.unwrap_err();
    assert!((count("drain", "refused") - 1.0).abs() < f64::EPSILON);
    node.end().await;
}

// ---- what is written about them ------------------------------------------------------------------------

/// A file of the documentation.
fn written(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The metrics that a text names; those of a histogram by the histogram's name.
fn named(text: &str, known: &BTreeMap<String, String>) -> BTreeSet<String> {
    let names = regex::Regex::new(r"\bpactum_[a-z0-9_]+").unwrap();
    let histogram = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
        (known.get(base)? == "histogram").then(|| base.to_owned())
    };
    names.find_iter(text).map(|found| histogram(found.as_str()).unwrap_or(found.as_str().into())).collect()
}

#[derive(serde::Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(serde::Deserialize)]
struct Group {
    rules: Vec<Alert>,
}

#[derive(serde::Deserialize)]
struct Alert {
    #[serde(rename = "alert")]
    name: String,
    expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn alerts() -> Vec<Alert> {
    let rules: Rules = serde_saphyr::from_str(&written("monitoring/alerts.yaml")).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

/// Every string under `expr` or `query`, which is where a dashboard keeps its queries.
fn queries(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, field) in fields {
                match field.as_str() {
                    Some(text) if key == "expr" || key == "query" => found.push(text.to_owned()),
                    _ => queries(field, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_metric_that_is_written_about_exists_and_every_one_that_exists_is_written_about() {
    let node = Node::start().await;
    let (a, b) = one_of_everything(&node).await;
    let drain =
        v1::act::Act::Drain(v1::DrainAct { resource: "bank-z".to_owned(), ..v1::DrainAct::default() });
    act(&node, drain).await.unwrap_err();
    let text = node.coordinator.metrics();
    let known = described(&text);
    let exist: BTreeSet<String> = known.keys().cloned().collect();
    // Not only described: each has a sample.
    assert_eq!(named(&samples(&text).into_keys().collect::<Vec<_>>().join("\n"), &known), exist);

    let documented = named(&written("metrics.md"), &known);
    assert_eq!(documented, exist, "docs/metrics.md has all of them and no other");

    let alerts = alerts();
    let mut asked: Vec<String> = alerts.iter().map(|alert| alert.expr.clone()).collect();
    let of_alerts = asked.len();
    queries(&serde_json::from_str(&written("monitoring/dashboard.json")).unwrap(), &mut asked);
    assert!(of_alerts >= 9 && asked.len() >= of_alerts + 20, "{} of {}", of_alerts, asked.len());
    for query in asked.iter().filter(|query| *query != "prometheus") {
        let names = named(query, &known);
        assert!(!names.is_empty() && names.is_subset(&exist), "{query}: {names:?}");
    }
    drop((a, b));
    node.end().await;
}

#[test]
fn every_alert_says_how_bad_it_is_and_has_a_runbook() {
    let runbooks = written("monitoring/runbooks.md");
    let headings: BTreeSet<&str> =
        runbooks.lines().filter_map(|line| line.strip_prefix("### Alert: ")).collect();
    let alerts = alerts();
    let mut expected = BTreeSet::new();
    for Alert { name: alert, labels, annotations, .. } in &alerts {
        let kebab: String = alert
            .char_indices()
            .flat_map(|(place, letter)| {
                let dash = (place > 0 && letter.is_ascii_uppercase()).then_some('-');
                dash.into_iter().chain([letter.to_ascii_lowercase()])
            })
            .collect();
        assert!(["page", "ticket"].contains(&labels["severity"].as_str()), "{alert}");
        assert!(!annotations["summary"].is_empty() && !annotations["description"].is_empty(), "{alert}");
        assert_eq!(annotations["runbook"], format!("docs/monitoring/runbooks.md#alert-{kebab}"));
        expected.insert(kebab);
    }
    assert_eq!(expected.len(), alerts.len(), "no alert stands twice");
    assert_eq!(headings, expected.iter().map(String::as_str).collect());
    for section in runbooks.split("### Alert: ").skip(1) {
        for part in ["**Means.**", "**Users notice.**", "**Look at**", "**Do.**", "**Wake**"] {
            assert!(section.contains(part), "{part} is missing in {section}");
        }
    }
}
