//! What participants tell of their databases, and what is prepared there that nobody takes care of.

use std::collections::{BTreeMap, BTreeSet};

use pactum_proto::v1;

use super::finding::Finding;
use crate::admin::{Admin, Effect};
use crate::output::view::{ParticipantView, PreparedView};

/// Asks, and judges.
pub(super) async fn look(admin: &Admin) -> Vec<Finding> {
    let mut client = admin.client.clone();
    let mut findings = Vec::new();
    match admin.call(Effect::None, client.list_participants(v1::ListParticipantsRequest {})).await {
        Ok(found) => {
            let participants: Vec<ParticipantView> = found.participants.into_iter().map(Into::into).collect();
            findings.extend(of_participants(&participants));
        }
        Err(failure) => findings.push(Finding::warn("participants", "attached", failure.sentence())),
    }
    let stuck = v1::ListBranchesRequest { stuck: true, ..v1::ListBranchesRequest::default() };
    match admin.call(Effect::None, client.list_branches(stuck)).await {
        Ok(found) => findings.extend(of_stuck(&found.into())),
        Err(failure) => findings.push(Finding::warn("participants", "prepared branches", failure.sentence())),
    }
    findings
}

fn of_participants(participants: &[ParticipantView]) -> Vec<Finding> {
    let versions: BTreeSet<&str> = participants.iter().map(|one| one.version.as_str()).collect();
    let listed = versions.iter().copied().collect::<Vec<_>>().join(", ");
    let mut findings = vec![
        Finding::warn("participants", "attached", format!("{} processes", participants.len()))
            .next("start one: without participants no transaction can be prepared")
            .unless(!participants.is_empty()),
        Finding::warn("participants", "SDK versions", listed)
            .next("bring all participants to one version; the coordinator's is the newest that is tested with it")
            .unless(versions.len() <= 1),
    ];
    // One for each resource: its processes see the same database.
    let resources: BTreeMap<&str, &ParticipantView> =
        participants.iter().map(|one| (one.resource.as_str(), one)).collect();
    for (name, participant) in resources {
        findings.extend(of_settings(&format!("participant {name}"), &participant.settings));
        let identities: BTreeSet<&str> =
            participants.iter().filter(|one| one.resource == name).map(|one| one.identity.as_str()).collect();
        findings.push(
            Finding::bad(
                &format!("participant {name}"),
                "identity",
                identities.iter().copied().collect::<Vec<_>>().join(", "),
            )
            .next(
                "its processes speak for different databases under one name: give each its own resource name",
            )
            .unless(identities.len() <= 1),
        );
    }
    for participant in participants.iter().filter(|one| one.draining) {
        let about = format!("participant {}", participant.resource);
        findings.push(
            Finding::warn(&about, "draining", format!("{} takes no new branches", participant.instance))
                .next("pactum participant resume, when it may"),
        );
    }
    findings
}

/// What a PostgreSQL resource tells; a resource of another kind tells other things, or nothing.
fn of_settings(about: &str, settings: &BTreeMap<String, String>) -> Vec<Finding> {
    let text = |name: &str| settings.get(name).map(String::as_str);
    let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
    let mut findings = Vec::new();
    if let (Some(room), Some(prepared)) =
        (number("max_prepared_transactions"), number("prepared_transactions"))
    {
        let told = format!("{prepared} prepared of at most {room}, when it attached");
        findings.push(
            Finding::warn(about, "room to prepare", told)
                .next("raise max_prepared_transactions to max_connections or more (needs a restart), or end what is left over")
                .more("PostgreSQL manual, Resource Consumption: max_prepared_transactions")
                .unless(prepared * 2 <= room),
        );
        if let Some(connections) = number("max_connections") {
            findings.push(
                Finding::warn(
                    about,
                    "max_prepared_transactions",
                    format!("{room}, with max_connections = {connections}"),
                )
                .next("at least max_connections, so that no session finds it full")
                .unless(room >= connections),
            );
        }
    }
    if let Some(fsync) = text("fsync") {
        findings.push(
            Finding::bad(about, "fsync", fsync)
                .next("set it to on: a crash of the machine could lose what was promised")
                .unless(fsync == "on"),
        );
    }
    if let Some(pages) = text("full_page_writes") {
        findings.push(
            Finding::bad(about, "full_page_writes", pages)
                .next("set it to on: a torn page after a crash loses more than one transaction")
                .unless(pages == "on"),
        );
    }
    if let Some(commit) = text("synchronous_commit") {
        let names = text("synchronous_standby_names").unwrap_or_default();
        // Without standbys a prepared branch is flushed under every value.
        findings.push(
            Finding::warn(about, "synchronous_commit", commit)
                .next("set it to on: a standby that takes over could lack branches that voted")
                .unless(names.is_empty() || !matches!(commit, "off" | "local")),
        );
    }
    if let Some(standby) = text("in_recovery") {
        findings.push(
            Finding::bad(about, "in recovery", standby)
                .next("it is a standby: have the participant connect to the primary")
                .unless(standby != "true"),
        );
    }
    if let Some(autovacuum) = text("autovacuum") {
        findings.push(
            Finding::warn(about, "autovacuum", autovacuum).next("turn it on").unless(autovacuum == "on"),
        );
    }
    if let Some(version) = text("server_version") {
        let major =
            version.split(|c: char| !c.is_ascii_digit()).next().and_then(|major| major.parse::<u32>().ok());
        findings.push(
            Finding::warn(about, "server version", version)
                .next("14 or later is served")
                .unless(major.is_none_or(|major| major >= 14)),
        );
    }
    findings
}

fn of_stuck(found: &PreparedView) -> Vec<Finding> {
    let mut findings: Vec<Finding> = found
        .problems
        .iter()
        .map(|problem| {
            Finding::warn(
                &format!("participant {}", problem.resource),
                "prepared branches",
                problem.problem.clone(),
            )
            .next("ask again; if it stays silent: pactum branch list --database URL")
        })
        .collect();
    let mut by_resource: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for branch in &found.branches {
        let counts = by_resource.entry(&branch.resource).or_default();
        if branch.verdict == "quarantined" { counts.1 += 1 } else { counts.0 += 1 }
    }
    for (resource, (orphans, quarantined)) in by_resource {
        let about = format!("participant {resource}");
        findings.push(
            Finding::warn(
                &about,
                "orphans",
                format!("{orphans} prepared, of transactions that nobody knows"),
            )
            .next("the next inquiry closes them; if they stay, pactum branch list --database URL --log URL")
            .unless(orphans == 0),
        );
        findings.push(
            Finding::bad(
                &about,
                "quarantine",
                format!("{quarantined} prepared, of which the log proves nothing"),
            )
            .next("compare by hand; pactum quarantine list, then release or overrule")
            .more("pactum explain IN_QUARANTINE")
            .unless(quarantined == 0),
        );
    }
    if found.branches.is_empty() && found.problems.is_empty() {
        findings.push(Finding::ok("participants", "prepared branches", "none that nobody takes care of"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn problems(findings: &[Finding]) -> Vec<&str> {
        findings
            .iter()
            .filter(|finding| finding.level != Level::Ok)
            .map(|finding| finding.what.as_str())
            .collect()
    }

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_setting_that_weakens_a_promise_is_found() {
        let well = [
            ("max_prepared_transactions", "100"),
            ("max_connections", "100"),
            ("prepared_transactions", "3"),
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on"),
            ("synchronous_standby_names", "ANY 1 (a, b)"),
            ("in_recovery", "false"),
            ("autovacuum", "on"),
            ("server_version", "15.4 (Debian)"),
        ];
        assert_eq!(problems(&of_settings("p", &settings(&well))), Vec::<&str>::new());
        for (name, value, what) in [
            ("prepared_transactions", "51", "room to prepare"),
            ("max_connections", "200", "max_prepared_transactions"),
            ("fsync", "off", "fsync"),
            ("full_page_writes", "off", "full_page_writes"),
            ("synchronous_commit", "local", "synchronous_commit"),
            ("in_recovery", "true", "in recovery"),
            ("autovacuum", "off", "autovacuum"),
            ("server_version", "13.2", "server version"),
        ] {
            let mut changed = settings(&well);
            changed.insert(name.to_owned(), value.to_owned());
            let findings = of_settings("p", &changed);
            assert_eq!(problems(&findings), [what]);
            assert!(findings.iter().all(|finding| finding.level == Level::Ok || finding.next.is_some()));
        }
        assert!(of_settings("p", &BTreeMap::new()).is_empty(), "a resource of another kind");
    }

    #[test]
    fn processes_of_one_resource_must_speak_for_one_database_and_one_version() {
        let one = |identity: &str, version: &str| {
            ParticipantView::from(v1::Participant {
                resource: "bank-a".into(),
                identity: identity.into(),
                version: version.into(),
                ..v1::Participant::default()
            })
        };
        assert_eq!(problems(&of_participants(&[one("x", "1"), one("x", "1")])), Vec::<&str>::new());
        assert_eq!(problems(&of_participants(&[one("x", "1"), one("y", "2")])), ["SDK versions", "identity"]);
        assert_eq!(problems(&of_participants(&[])), ["attached"]);
    }
}
