//! An act as it was asked for: read from the wire once, and then trusted.

use pactum_core::id::{BranchId, Incarnation, InstanceId, ResourceName};
use pactum_proto::v1;
use pactum_proto::v1::act::Act as Given;

use crate::decision_log::Release;
use crate::error::ServiceError;

/// Something that an operator does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Drive unfinished branches now.
    Retry { gid: String },
    /// Close an undecided transaction with abort.
    Resolve { gid: String },
    /// End one prepared branch by hand.
    Overrule { gid: String, resource: ResourceName, branch: Option<BranchId>, commit: bool },
    /// Forget heuristic outcomes.
    Forget { gid: String },
    /// Release incarnations from doubt.
    Release(Release),
    /// Have participants take no new branches, or take them again.
    Drain { resource: ResourceName, instance: Option<InstanceId>, draining: bool },
}

impl Act {
    /// Its name in the audit. Never changed.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Resolve { .. } => "resolve",
            Self::Overrule { commit: true, .. } => "overrule-commit",
            Self::Overrule { commit: false, .. } => "overrule-rollback",
            Self::Forget { .. } => "forget",
            Self::Release(_) => "release",
            Self::Drain { draining: true, .. } => "drain",
            Self::Drain { draining: false, .. } => "resume",
        }
    }

    /// The transaction that it names, if it is on one.
    pub(super) fn gid(&self) -> Option<&str> {
        match self {
            Self::Retry { gid }
            | Self::Resolve { gid }
            | Self::Overrule { gid, .. }
            | Self::Forget { gid } => Some(gid),
            Self::Release(_) | Self::Drain { .. } => None,
        }
    }

    /// The same act on the transaction of that whole gid, and that branch.
    pub(super) fn on(&self, whole: &str, chosen: Option<BranchId>) -> Self {
        let mut act = self.clone();
        match &mut act {
            Self::Retry { gid } | Self::Resolve { gid } | Self::Forget { gid } => whole.clone_into(gid),
            Self::Overrule { gid, branch, .. } => {
                whole.clone_into(gid);
                *branch = chosen.or(*branch);
            }
            Self::Release(_) | Self::Drain { .. } => {}
        }
        act
    }

    /// Its target in the audit: a gid, gid and branch, an incarnation, or a participant. Acts whose
    /// targets begin with the same word touch each other.
    pub(super) fn target(&self) -> String {
        match self {
            Self::Retry { gid } | Self::Resolve { gid } | Self::Forget { gid } => gid.clone(),
            Self::Overrule { gid, resource, branch: Some(branch), .. } => {
                format!("{gid} {resource} {branch}")
            }
            Self::Overrule { gid, resource, branch: None, .. } => format!("{gid} {resource}"),
            Self::Release(Release::One(incarnation)) => format!("doubt {incarnation}"),
            Self::Release(Release::All) => "doubt".to_owned(),
            Self::Drain { resource, instance: Some(instance), .. } => format!("{resource} {instance}"),
            Self::Drain { resource, instance: None, .. } => resource.to_string(),
        }
    }

    /// The command that does the same.
    pub(super) fn command(&self) -> String {
        const REASON: &str = "--reason TEXT";
        match self {
            Self::Retry { gid } => format!("pactum tx retry {gid} {REASON}"),
            Self::Resolve { gid } => format!("pactum tx resolve {gid} {REASON}"),
            Self::Forget { gid } => format!("pactum tx forget {gid} {REASON}"),
            Self::Overrule { gid, resource, branch, commit } => {
                let way = if *commit { "--commit" } else { "--rollback" };
                let branch = branch.map_or_else(String::new, |branch| format!(" --branch {branch}"));
                format!("pactum tx overrule {gid} --resource {resource}{branch} {way} {REASON}")
            }
            Self::Release(Release::One(incarnation)) => {
                format!("pactum quarantine release --incarnation {incarnation} {REASON}")
            }
            Self::Release(Release::All) => format!("pactum quarantine release --all {REASON}"),
            Self::Drain { resource, instance, draining } => {
                let verb = if *draining { "drain" } else { "resume" };
                let instance =
                    instance.map_or_else(String::new, |instance| format!(" --instance {instance}"));
                format!("pactum participant {verb} {resource}{instance} {REASON}")
            }
        }
    }

    /// Reads what [`target`](Self::target) and [`name`](Self::name) say of an act on a transaction: its
    /// gid, and the branch that it ended.
    pub(super) fn read_target(target: &str) -> (&str, Option<(ResourceName, BranchId)>) {
        let mut words = target.split(' ');
        let gid = words.next().unwrap_or_default();
        let resource = words.next().and_then(|word| ResourceName::new(word).ok());
        let branch = words.next().and_then(|word| word.parse().ok());
        (gid, resource.zip(branch))
    }
}

fn resource(given: &str) -> Result<ResourceName, ServiceError> {
    ResourceName::new(given).map_err(|error| ServiceError::malformed("act.resource", error.to_string()))
}

fn instance(given: &[u8]) -> Result<Option<InstanceId>, ServiceError> {
    if given.is_empty() {
        return Ok(None);
    }
    let instance = InstanceId::from_slice(given)
        .map_err(|error| ServiceError::malformed("act.instance", error.to_string()))?;
    Ok(Some(instance))
}

impl TryFrom<v1::Act> for Act {
    type Error = ServiceError;

    fn try_from(given: v1::Act) -> Result<Self, ServiceError> {
        let given = given.act.ok_or_else(|| ServiceError::malformed("act", "it must be given"))?;
        Ok(match given {
            Given::Retry(v1::RetryAct { gid }) => Self::Retry { gid },
            Given::Resolve(v1::ResolveAct { gid }) => Self::Resolve { gid },
            Given::Forget(v1::ForgetAct { gid }) => Self::Forget { gid },
            Given::Overrule(given) => Self::Overrule {
                gid: given.gid,
                resource: resource(&given.resource)?,
                branch: Some(given.branch).filter(|branch| *branch != 0).map(BranchId::new),
                commit: given.commit,
            },
            Given::Release(v1::ReleaseAct { incarnation }) if incarnation.is_empty() => {
                Self::Release(Release::All)
            }
            Given::Release(v1::ReleaseAct { incarnation }) => {
                let incarnation = Incarnation::from_slice(&incarnation)
                    .map_err(|error| ServiceError::malformed("act.incarnation", error.to_string()))?;
                Self::Release(Release::One(incarnation))
            }
            Given::Drain(v1::DrainAct { resource: name, instance: id }) => {
                Self::Drain { resource: resource(&name)?, instance: instance(&id)?, draining: true }
            }
            Given::Resume(v1::ResumeAct { resource: name, instance: id }) => {
                Self::Drain { resource: resource(&name)?, instance: instance(&id)?, draining: false }
            }
        })
    }
}

impl From<Act> for v1::Act {
    fn from(act: Act) -> Self {
        let bytes = |instance: Option<InstanceId>| {
            instance.map(|instance| instance.as_uuid().as_bytes().to_vec()).unwrap_or_default()
        };
        let act = match act {
            Act::Retry { gid } => Given::Retry(v1::RetryAct { gid }),
            Act::Resolve { gid } => Given::Resolve(v1::ResolveAct { gid }),
            Act::Forget { gid } => Given::Forget(v1::ForgetAct { gid }),
            Act::Overrule { gid, resource, branch, commit } => Given::Overrule(v1::OverruleAct {
                gid,
                resource: resource.as_str().to_owned(),
                branch: branch.map_or(0, BranchId::number),
                commit,
            }),
            Act::Release(which) => Given::Release(v1::ReleaseAct {
                incarnation: match which {
                    Release::One(incarnation) => incarnation.as_uuid().as_bytes().to_vec(),
                    Release::All => Vec::new(),
                },
            }),
            Act::Drain { resource, instance, draining: true } => Given::Drain(v1::DrainAct {
                resource: resource.as_str().to_owned(),
                instance: bytes(instance),
            }),
            Act::Drain { resource, instance, draining: false } => Given::Resume(v1::ResumeAct {
                resource: resource.as_str().to_owned(),
                instance: bytes(instance),
            }),
        };
        Self { act: Some(act) }
    }
}
