//! Who may do what on the admin address: one table, and whatever does not stand in it is refused.

use crate::operator::Role;

/// What a path asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// Nothing: what is answered tells nothing of any transaction.
    Nothing,
    /// At least this role.
    Role(Role),
}

/// The calls of the admin service, and what each needs. Planning changes nothing: a viewer may see
/// what an operator could do.
const CALLS: [(&str, Role); 14] = [
    ("GetServerInfo", Role::Viewer),
    ("GetConfig", Role::Viewer),
    ("GetLogStatus", Role::Viewer),
    ("ListTransactions", Role::Viewer),
    ("InspectTransaction", Role::Viewer),
    ("WatchTransaction", Role::Viewer),
    ("WatchTransactions", Role::Viewer),
    ("ListBranches", Role::Viewer),
    ("ListHeuristics", Role::Viewer),
    ("ListParticipants", Role::Viewer),
    ("PlanAct", Role::Viewer),
    ("PerformAct", Role::Operator),
    ("ListAudit", Role::Viewer),
    // Reflection, below, is no call of ours; it tells names that everybody can read in our sources,
    // and still no stranger needs it.
    ("ServerReflectionInfo", Role::Viewer),
];

/// What the gRPC call of that path needs; `None`: there is no such call, or nobody said who may make
/// it, which comes to the same.
pub(super) fn of_call(path: &str) -> Option<Needed> {
    let (service, call) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "grpc.health.v1.Health" => Some(Needed::Nothing),
        "pactum.v1.AdminService" if call != "ServerReflectionInfo" => role(call),
        "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection"
            if call == "ServerReflectionInfo" =>
        {
            role(call)
        }
        _ => None,
    }
}

fn role(call: &str) -> Option<Needed> {
    CALLS.iter().find(|(name, _)| *name == call).map(|(_, role)| Needed::Role(*role))
}

/// Whether a path is that of a gRPC call. Pages have no dot in the first part of their paths.
pub(super) fn is_call(path: &str) -> bool {
    path.trim_start_matches('/').split('/').next().is_some_and(|service| service.contains('.'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    /// From the descriptors themselves, so that a call that is added to the protocol fails here until
    /// somebody has said who may make it.
    #[test]
    fn every_call_of_the_admin_service_is_in_the_table_and_only_acting_needs_an_operator() {
        let files = prost_types::FileDescriptorSet::decode(pactum_proto::FILE_DESCRIPTOR_SET).unwrap();
        let service = files
            .file
            .iter()
            .flat_map(|file| &file.service)
            .find(|service| service.name() == "AdminService")
            .unwrap();
        let mut listed: BTreeSet<&str> = CALLS.iter().map(|(name, _)| *name).collect();
        for method in &service.method {
            let path = format!("/pactum.v1.AdminService/{}", method.name());
            let needed = if method.name() == "PerformAct" { Role::Operator } else { Role::Viewer };
            assert_eq!(of_call(&path), Some(Needed::Role(needed)), "{path}");
            assert!(listed.remove(method.name()), "{path}");
        }
        assert_eq!(listed, BTreeSet::from(["ServerReflectionInfo"]), "calls that do not exist");
    }

    #[test]
    fn what_is_not_in_the_table_is_nobodys() {
        for path in [
            "",
            "/",
            "/pactum.v1.AdminService",
            "/pactum.v1.AdminService/",
            "/pactum.v1.AdminService/DropEverything",
            "/pactum.v1.AdminService/ServerReflectionInfo",
            "/pactum.v1.TransactionsService/Begin",
            "/grpc.reflection.v1.ServerReflection/PerformAct",
        ] {
            assert_eq!(of_call(path), None, "{path}");
        }
        assert_eq!(of_call("/grpc.health.v1.Health/Check"), Some(Needed::Nothing));
    }
}
