//! How participants look to people.

use std::time::Duration;

use super::table::{age, render, table};
use super::view::ParticipantView;

/// The table of `participant list`.
pub(crate) fn list(participants: &[ParticipantView]) -> String {
    let mut table =
        table(["RESOURCE", "INSTANCE", "PEER", "VERSION", "ATTACHED", "OPEN", "MARKER", "IDENTITY"]);
    for participant in participants {
        table.add_row([
            participant.resource.clone(),
            participant.instance.chars().rev().take(6).collect::<Vec<_>>().into_iter().rev().collect(),
            participant.peer.clone(),
            participant.version.clone(),
            age(Duration::from_millis(participant.attached_ms)),
            participant.branches_open.to_string(),
            if participant.marker { "yes" } else { "no" }.to_owned(),
            participant.identity.clone(),
        ]);
    }
    render(&table)
}
