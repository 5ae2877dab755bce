//! `pactum participant drain` and `resume`.

use clap::Args;
use pactum_core::id::InstanceId;
use pactum_proto::v1::act::Act;
use pactum_proto::v1::{DrainAct, ResumeAct};

use super::{attached, is_part, not_attached};
use crate::act::{Usually, act};
use crate::admin::Admin;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ids::each;
use crate::output::Output;

/// Which way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Drain,
    Resume,
}

/// Whom, and why.
#[derive(Debug, Args)]
pub(crate) struct Turn {
    /// The resource
    #[arg(required = true, value_name = "NAME")]
    resources: Vec<String>,
    /// Only this process of it: its id, or the beginning or end of it (at least 4 digits)
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    #[command(flatten)]
    doing: Usually,
}

impl Turn {
    /// Does it, for each resource.
    pub(super) async fn run(self, global: &Global, output: &Output, way: Way) -> Result<Exit, Failure> {
        let terms = self.doing.terms(output, false)?;
        let admin = Admin::connect(global).await?;
        let (admin, terms, part) = (&admin, &terms, self.instance.as_deref());
        each(&self.resources, output, |resource| async move {
            let instance = match part {
                None => Vec::new(),
                Some(part) => instance(admin, resource, part).await?,
            };
            let resource = resource.to_owned();
            let turn = match way {
                Way::Drain => Act::Drain(DrainAct { resource, instance }),
                Way::Resume => Act::Resume(ResumeAct { resource, instance }),
            };
            act(admin, output, terms, turn).await
        })
        .await
    }
}

/// The one attached instance of the resource whose id that is a part of.
async fn instance(admin: &Admin, resource: &str, part: &str) -> Result<Vec<u8>, Failure> {
    let attached = attached(admin).await?;
    let names: Vec<String> = attached.iter().map(|known| known.resource.clone()).collect();
    let fitting: Vec<_> = attached
        .iter()
        .filter(|known| known.resource == resource && is_part(part, &known.instance))
        .collect();
    match fitting.as_slice() {
        [one] => one
            .instance
            .parse::<InstanceId>()
            .map(|id| id.as_uuid().as_bytes().to_vec())
            .map_err(|error| Failure::new(Exit::Failed, "the server names no instance").because(&error)),
        [] if names.iter().any(|name| name == resource) => Err(Failure::new(
            Exit::NotFound,
            format!("no attached instance of {resource} has an id like {part:?}"),
        )
        .next(format!("pactum participant show {resource} shows their ids"))),
        [] => Err(not_attached(resource, &names)),
        several => Err(Failure::new(
            Exit::Refused,
            format!("{part:?} fits {} instances of {resource}", several.len()),
        )
        .next("give more digits")),
    }
}
