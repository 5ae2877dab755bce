//! Transactions of one branch whose resource has a marker table: the branch's own database is where they are
//! decided, so that the log hears nothing of them. The application and the participant are one
//! process here, as in a service that commits its own work through Pactum.

use pactum::resource::PostgresResource;
use pactum::{Outcome, Pactum, Participant};

use super::bank::{Transfers, UPDATE, pool};
use super::load::Worker;
use super::submit::connect;
use super::wire::OneBranchWork;
use crate::exit::Exit;
use crate::failure::Failure;

/// The resource.
const RESOURCE: &str = "bank-1";

/// Installs the marker table, attaches the participant, and makes tasks of the application. The participant
/// must outlive them.
pub(super) async fn start(
    work: &OneBranchWork,
    in_flight: usize,
) -> Result<(Participant, Vec<OneBranch>), Failure> {
    let failed = || Failure::new(Exit::Failed, "the participant could not be started");
    let pool = pool(&work.bank, work.connections).await?;
    PostgresResource::install(&pool).await.map_err(|error| failed().because(&error))?;
    let resource = PostgresResource::new(RESOURCE, pool).map_err(|error| failed().because(&error))?;
    let builder = Participant::builder([work.coordinator.clone()]).resource(resource.clone());
    let participant = builder.start().await.map_err(|error| failed().because(&error))?;
    participant.attached().await;
    let pactum = connect(&work.coordinator).await?;
    let worker = |place| OneBranch {
        pactum: pactum.clone(),
        resource: resource.clone(),
        transfers: Transfers::new(place, in_flight),
    };
    Ok((participant, (0..in_flight).map(worker).collect()))
}

/// One task.
pub(super) struct OneBranch {
    pactum: Pactum,
    resource: PostgresResource,
    transfers: Transfers,
}

impl OneBranch {
    async fn deposit(&mut self) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
        let transaction = self.pactum.begin().await?;
        let mut branch = self.resource.begin(transaction.context()).await?;
        let [change, _] = self.transfers.draw();
        sqlx::query(UPDATE).bind(change.amount).bind(change.account).execute(&mut *branch).await?;
        branch.enlist().await?;
        Ok(transaction.commit().await?)
    }
}

impl Worker for OneBranch {
    async fn once(&mut self) -> Result<u64, String> {
        match self.deposit().await {
            Ok(Outcome::Committed { read_only: false, .. }) => Ok(1),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}
