//! Who is attached, as an operator sees it.

use std::collections::BTreeMap;

use pactum_proto::v1;

use super::Admin;
use crate::error::ServiceError;
use crate::shard::Inspect;

impl Admin {
    /// One entry for each attached instance and resource, by resource name.
    pub(super) async fn participants(&self) -> Result<Vec<v1::Participant>, ServiceError> {
        let mut open = BTreeMap::new();
        for counts in self.shards.inspect(Inspect::Branches).await? {
            for (resource, count) in counts {
                *open.entry(resource).or_insert(0) += count;
            }
        }
        let sessions = self.registry.sessions();
        let mut participants: Vec<v1::Participant> = sessions
            .iter()
            .flat_map(|session| session.resources.iter().map(move |resource| (session, resource)))
            .map(|(session, (resource, registration))| v1::Participant {
                resource: resource.as_str().to_owned(),
                instance: session.instance.as_uuid().as_bytes().to_vec(),
                identity: registration.identity.clone(),
                marker: registration.marker,
                peer: session.peer.clone(),
                version: session.version.clone(),
                attached_for: session.attached_at.elapsed().try_into().ok(),
                branches_open: open.get(resource).copied().unwrap_or(0),
                draining: session.is_draining(),
                settings: registration.settings.clone().into_iter().collect(),
            })
            .collect();
        drop(sessions);
        participants.sort_by(|a, b| (&a.resource, &a.instance).cmp(&(&b.resource, &b.instance)));
        Ok(participants)
    }
}
