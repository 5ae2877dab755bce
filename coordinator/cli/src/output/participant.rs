//! How participants look to people.

use super::table::{aligned, render, table, tail};
use super::times::Times;
use super::view::ParticipantView;

/// The table of `participant list`.
pub(crate) fn list(participants: &[ParticipantView], times: Times) -> String {
    let mut table =
        table(["RESOURCE", "INSTANCE", "STATE", "PEER", "VERSION", "ATTACHED", "OPEN", "MARKER", "IDENTITY"]);
    for participant in participants {
        table.add_row([
            participant.resource.clone(),
            tail(&participant.instance).to_owned(),
            state(participant).to_owned(),
            participant.peer.clone(),
            participant.version.clone(),
            times.age(participant.attached_ms),
            participant.branches_open.to_string(),
            if participant.marker { "yes" } else { "no" }.to_owned(),
            participant.identity.clone(),
        ]);
    }
    render(&table)
}

/// The page of `participant show`: everything that one told.
pub(crate) fn page(participant: &ParticipantView, times: Times) -> String {
    let facts = [
        ("instance", participant.instance.clone()),
        ("state", state(participant).to_owned()),
        ("attached", times.age(participant.attached_ms)),
        ("from", participant.peer.clone()),
        ("SDK", participant.version.clone()),
        ("open branches", participant.branches_open.to_string()),
        ("identity", participant.identity.clone()),
        ("marker table", if participant.marker { "yes" } else { "no" }.to_owned()),
    ];
    let row = |name: &str, value: &str| vec![format!("  {name}"), value.to_owned()];
    let facts = facts.iter().map(|(name, value)| row(name, value));
    let told = participant.settings.iter().map(|(name, value)| row(name, value));
    format!("{}\n{}", participant.resource, aligned(facts.chain(told)))
}

fn state(participant: &ParticipantView) -> &'static str {
    if participant.draining { "draining" } else { "attached" }
}
