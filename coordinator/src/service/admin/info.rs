//! What this coordinator is, as it sees itself.

use pactum_proto::v1;

use super::Admin;
use crate::service::wire;

impl Admin {
    /// Its name, its log, and who else lives.
    pub(super) fn info(&self) -> v1::GetServerInfoResponse {
        let standing = self.lifecycle.standing();
        let (own, facts) = (self.lifecycle.own(), self.lifecycle.log_facts());
        v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: standing.cluster.as_str().to_owned(),
            incarnation: own.map(|own| own.as_uuid().as_bytes().to_vec()).unwrap_or_default(),
            log: self.log.kind().to_owned(),
            log_available: self.lifecycle.is_log_available(),
            transactions_open: self.shards.open() as u64,
            participants_attached: self.registry.sessions().len() as u64,
            uptime: self.started.elapsed().try_into().ok(),
            floor: standing.floor.as_uuid().as_bytes().to_vec(),
            coordinators: self.lifecycle.members().iter().map(wire::member).collect(),
            log_replication: facts.replication.map(wire::replication),
            log_doubted: facts.doubted,
            log_problem: self.lifecycle.log_problem().as_deref().unwrap_or_default().to_owned(),
        }
    }
}
