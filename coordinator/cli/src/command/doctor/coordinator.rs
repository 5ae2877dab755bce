//! What a coordinator tells: of itself, of the log as it sees it, of what waits for a person.

use std::collections::BTreeMap;
use std::time::Duration;

use pactum_proto::v1;

use super::finding::Finding;
use super::log::{clock, latency, standbys};
use crate::admin::{Admin, Effect};
use crate::output::table::age;

const ABOUT: &str = "coordinator";

/// Asks, and judges.
pub(super) async fn look(admin: &Admin) -> Vec<Finding> {
    let mut client = admin.client.clone();
    let info = match admin.call(Effect::None, client.get_server_info(v1::GetServerInfoRequest {})).await {
        Ok(info) => info,
        Err(failure) => {
            return vec![Finding::bad(ABOUT, "answers", failure.sentence()).next("pactum status")];
        }
    };
    let mut findings = of_info(&info);
    match admin.call(Effect::None, client.get_log_status(v1::GetLogStatusRequest {})).await {
        Ok(status) => findings.extend(of_log(&status)),
        Err(failure) => findings.push(
            Finding::bad("log", "answers", failure.sentence())
                .next("look at the log's database; give --log URL to look at it from here"),
        ),
    }
    let request = v1::ListHeuristicsRequest { page_size: 1000, page_token: String::new() };
    match admin.call(Effect::None, client.list_heuristics(request)).await {
        Ok(found) => {
            let count = found.heuristics.len();
            findings.push(
                Finding::bad(ABOUT, "heuristic outcomes", format!("{count} branches ended without the decision"))
                    .next("compare the databases, settle what differs; then pactum tx forget. See: pactum heuristic list")
                    .unless(count == 0),
            );
        }
        Err(failure) => findings.push(Finding::warn(ABOUT, "heuristic outcomes", failure.sentence())),
    }
    let old = v1::ListTransactionsRequest {
        page_size: 1000,
        in_doubt: true,
        older_than: Duration::from_mins(1).try_into().ok(),
        ..v1::ListTransactionsRequest::default()
    };
    match admin.call(Effect::None, client.list_transactions(old)).await {
        Ok(found) => findings.push(in_doubt(&found.transactions)),
        Err(failure) => findings.push(Finding::warn(ABOUT, "in doubt", failure.sentence())),
    }
    findings
}

fn in_doubt(found: &[v1::Transaction]) -> Finding {
    let ages = found.iter().filter_map(|one| Duration::try_from(one.age?).ok());
    let told = match ages.max() {
        None => "nothing for longer than a minute".to_owned(),
        Some(oldest) => {
            format!("{} transactions for longer than a minute, the oldest for {}", found.len(), age(oldest))
        }
    };
    Finding::bad(ABOUT, "in doubt", told)
        .next("pactum tx list --in-doubt says what each waits for")
        .unless(found.is_empty())
}

/// What it says of itself.
fn of_info(info: &v1::GetServerInfoResponse) -> Vec<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    let mut findings = vec![
        Finding::warn(ABOUT, "version", format!("{}, this command is {own}", info.version))
            .next("use the command of the coordinator's version")
            .unless(info.version == own),
        Finding::bad(ABOUT, "incarnation", if info.incarnation.is_empty() { "none: it takes no transactions" } else { "live" })
            .next("look at its log: it cannot reach the decision log")
            .more("pactum explain STARTING")
            .unless(!info.incarnation.is_empty()),
        Finding::bad("log", "can be written", if info.log_available { "yes".to_owned() } else { info.log_problem.clone() })
            .next("look at the log's server: disk, connections, read-only mode, standbys")
            .more("pactum explain LOG_UNAVAILABLE")
            .unless(info.log_available),
        Finding::bad("log", "doubt", format!("{} incarnations, since the log went back in time", info.log_doubted))
            .next("compare what the participants committed; then pactum log release. See: pactum log status --log URL")
            .unless(info.log_doubted == 0),
    ];
    let living = info.coordinators.len();
    if info.log == "postgres" {
        findings.push(
            Finding::warn(ABOUT, "others alive", format!("{living} on this log"))
                .next("run a second one, so that its transactions are taken over at once")
                .unless(living > 1),
        );
        let unnamed = info.coordinators.iter().filter(|one| one.address.is_empty()).count();
        findings.push(
            Finding::warn(ABOUT, "addresses", format!("{unnamed} of {living} tell nobody how to reach them"))
                .next("set advertise = \"host:port\" where a coordinator listens on 0.0.0.0")
                .unless(unnamed == 0),
        );
    } else {
        findings.push(
            Finding::warn(
                "log",
                "kind",
                format!("{}: one coordinator, and no copy of its decisions", info.log),
            )
            .next("for production use PostgreSQL, with a quorum of synchronous standbys"),
        );
    }
    findings
}

/// What the log told it.
fn of_log(status: &v1::GetLogStatusResponse) -> Vec<Finding> {
    let facts: BTreeMap<&str, &str> =
        status.facts.iter().map(|fact| (fact.name.as_str(), fact.value.as_str())).collect();
    let number = |name: &str| facts.get(name).and_then(|value| value.parse::<u32>().ok());
    let mut findings = Vec::new();
    if let Some(required) = number("standbys_required") {
        let visible = facts.get("standbys_visible") == Some(&"true");
        findings.push(standbys(required, number("standbys_confirmed").filter(|_| visible)));
    }
    if let Some(took) = status.write_latency.and_then(|took| Duration::try_from(took).ok()) {
        findings.push(latency("write latency, from the coordinator", took));
    }
    if let Some(difference) = status.clock_difference {
        findings.push(clock("clock, against the coordinator's", seconds(difference)));
    }
    let left = status
        .incarnations
        .iter()
        .filter(|one| one.ended_at.is_some() && !one.recovered && !one.doubted)
        .count();
    findings.push(
        Finding::warn(
            "log",
            "takeover",
            format!("{left} ended coordinators whose work is not taken over yet"),
        )
        .next("wait a moment and look again; if it stays, look at the living coordinators' logs")
        .unless(left == 0),
    );
    findings
}

/// A difference may be negative, which `Duration` cannot say.
#[expect(clippy::cast_precision_loss, reason = "a difference of clocks, to the millisecond")]
fn seconds(difference: prost_types::Duration) -> f64 {
    difference.seconds as f64 + f64::from(difference.nanos) / 1e9
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn well() -> v1::GetServerInfoResponse {
        let other = || v1::Coordinator { address: "a:1".into(), ..v1::Coordinator::default() };
        v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            incarnation: vec![1; 16],
            log: "postgres".into(),
            log_available: true,
            coordinators: vec![other(), other()],
            ..v1::GetServerInfoResponse::default()
        }
    }

    fn problems(findings: Vec<Finding>) -> Vec<(Level, String)> {
        let bad = findings.into_iter().filter(|finding| finding.level != Level::Ok);
        bad.inspect(|finding| assert!(finding.next.is_some(), "{finding:?} says nothing to do"))
            .map(|finding| (finding.level, finding.what))
            .collect()
    }

    #[test]
    fn a_coordinator_that_is_well_has_no_problem_and_each_problem_says_what_to_do() {
        assert_eq!(problems(of_info(&well())), []);
        let cases = [
            (v1::GetServerInfoResponse { version: "9".into(), ..well() }, Level::Warn, "version"),
            (v1::GetServerInfoResponse { incarnation: vec![], ..well() }, Level::Bad, "incarnation"),
            (v1::GetServerInfoResponse { log_available: false, ..well() }, Level::Bad, "can be written"),
            (v1::GetServerInfoResponse { log_doubted: 1, ..well() }, Level::Bad, "doubt"),
            (v1::GetServerInfoResponse { log: "sqlite".into(), ..well() }, Level::Warn, "kind"),
        ];
        for (info, level, what) in cases {
            assert_eq!(problems(of_info(&info)), [(level, what.to_owned())]);
        }
        let alone = v1::GetServerInfoResponse { coordinators: vec![v1::Coordinator::default()], ..well() };
        let both = [(Level::Warn, "others alive".to_owned()), (Level::Warn, "addresses".to_owned())];
        assert_eq!(problems(of_info(&alone)), both);
    }

    #[test]
    fn what_the_log_told_is_judged() {
        let fact = |name: &str, value: &str| v1::Fact { name: name.into(), value: value.into() };
        let status = v1::GetLogStatusResponse {
            facts: vec![
                fact("standbys_required", "1"),
                fact("standbys_confirmed", "0"),
                fact("standbys_visible", "true"),
            ],
            write_latency: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            clock_difference: Some(prost_types::Duration { seconds: -7, nanos: 0 }),
            incarnations: vec![v1::IncarnationStatus {
                ended_at: Some(prost_types::Timestamp::default()),
                ..v1::IncarnationStatus::default()
            }],
        };
        let found: Vec<String> = problems(of_log(&status)).into_iter().map(|(_, what)| what).collect();
        let expected = [
            "synchronous standbys",
            "write latency, from the coordinator",
            "clock, against the coordinator's",
            "takeover",
        ];
        assert_eq!(found, expected);
        assert_eq!(problems(of_log(&v1::GetLogStatusResponse::default())), []);
    }
}
