//! Transactions of branches that do nothing: by the SDK, and by unary calls as any language makes
//! them; and unary calls that do nothing at all.

use pactum::{Outcome, Pactum};
use pactum_core::id::Gid;
use pactum_proto::v1;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use uuid::Uuid;

use super::bank::{MOVE, Transfers};
use super::child::{READ, REFUSE};
use super::load::Worker;
use super::wire::{SubmitWork, TransferWork};
use crate::exit::Exit;
use crate::failure::Failure;

/// Connections of callers that make unary calls: one would be served by one core.
const CONNECTIONS: usize = 2;

/// An application with one handle of the SDK, and many tasks.
pub(super) async fn workers(work: &SubmitWork, in_flight: usize) -> Result<Vec<Submitter>, Failure> {
    let pactum = connect(&work.coordinator).await?;
    let worker = || Submitter {
        pactum: pactum.clone(),
        resources: work.resources.clone(),
        operation: work.operation.clone(),
    };
    Ok((0..in_flight).map(|_| worker()).collect())
}

/// One task of the application.
pub(super) struct Submitter {
    pactum: Pactum,
    resources: Vec<String>,
    operation: String,
}

impl Worker for Submitter {
    async fn once(&mut self) -> Result<u64, String> {
        let mut submit = self.pactum.submit();
        for resource in &self.resources {
            submit = submit.operation(resource, &self.operation, Vec::new());
        }
        match (submit.await, self.operation.as_str()) {
            (Ok(Outcome::Aborted { .. }), REFUSE)
            | (Ok(Outcome::Committed { read_only: true, .. }), READ) => Ok(1),
            (Ok(Outcome::Committed { read_only: false, .. }), operation) if operation != READ => Ok(1),
            (Ok(other), _) => Err(format!("{other:?}")),
            (Err(error), _) => Err(error.to_string()),
        }
    }
}

/// An application whose transactions are transfers.
pub(super) async fn transfers(work: &TransferWork, in_flight: usize) -> Result<Vec<Transferring>, Failure> {
    let pactum = connect(&work.coordinator).await?;
    let worker = |place| Transferring {
        pactum: pactum.clone(),
        banks: work.banks.clone(),
        transfers: Transfers::new(place, in_flight),
    };
    Ok((0..in_flight).map(worker).collect())
}

/// One task of it.
pub(super) struct Transferring {
    pactum: Pactum,
    banks: [String; 2],
    transfers: Transfers,
}

impl Worker for Transferring {
    async fn once(&mut self) -> Result<u64, String> {
        let mut submit = self.pactum.submit();
        for (bank, change) in self.banks.iter().zip(self.transfers.draw()) {
            submit = submit.operation(bank, MOVE, change.payload());
        }
        match submit.await {
            Ok(Outcome::Committed { read_only: false, .. }) => Ok(1),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

pub(super) async fn connect(coordinator: &str) -> Result<Pactum, Failure> {
    Pactum::connect(coordinator.to_owned()).await.map_err(|error| {
        Failure::new(Exit::CannotConnect, "no connection to the coordinator").because(&error)
    })
}

/// Callers without the SDK.
pub(super) async fn unary(work: &SubmitWork, in_flight: usize) -> Result<Vec<UnarySubmitter>, Failure> {
    let channels = channels(&work.coordinator).await?;
    let mut workers = Vec::with_capacity(in_flight);
    let begun = TransactionsServiceClient::new(channels[0].clone()).begin(v1::BeginRequest::default()).await;
    let begun = begun.map_err(|status| {
        Failure::new(Exit::Failed, "the coordinator begins no transaction").because(&status)
    })?;
    let id =
        begun.into_inner().id.ok_or_else(|| Failure::new(Exit::Failed, "a transaction without a name"))?;
    for place in 0..in_flight {
        let operations = work.resources.iter().zip(1..).map(|(resource, branch)| v1::Operation {
            branch,
            resource: resource.clone(),
            name: work.operation.clone(),
            payload: Vec::new(),
        });
        workers.push(UnarySubmitter {
            client: TransactionsServiceClient::new(channels[place % CONNECTIONS].clone()),
            incarnation: id.incarnation.clone(),
            operations: operations.collect(),
        });
    }
    Ok(workers)
}

/// One of them.
pub(super) struct UnarySubmitter {
    client: TransactionsServiceClient<Channel>,
    incarnation: Vec<u8>,
    operations: Vec<v1::Operation>,
}

impl Worker for UnarySubmitter {
    async fn once(&mut self) -> Result<u64, String> {
        let gid = Gid::from_uuid(Uuid::now_v7());
        let request = v1::SubmitRequest {
            id: Some(v1::TransactionId {
                incarnation: self.incarnation.clone(),
                gid: gid.as_uuid().as_bytes().to_vec(),
            }),
            operations: self.operations.clone(),
            ..v1::SubmitRequest::default()
        };
        let answer = self.client.submit(request).await.map_err(|status| status.to_string())?.into_inner();
        let outcome = answer.outcome.map(|outcome| outcome.state());
        if outcome == Some(v1::OutcomeState::Committed) { Ok(1) } else { Err(format!("{outcome:?}")) }
    }
}

/// Callers that ask for nothing, of the same server by the same library.
pub(super) async fn nothing(coordinator: &str, in_flight: usize) -> Result<Vec<Asker>, Failure> {
    let channels = channels(coordinator).await?;
    let asker = |place: usize| Asker { client: HealthClient::new(channels[place % CONNECTIONS].clone()) };
    Ok((0..in_flight).map(asker).collect())
}

/// One of them.
pub(super) struct Asker {
    client: HealthClient<Channel>,
}

impl Worker for Asker {
    async fn once(&mut self) -> Result<u64, String> {
        let request = HealthCheckRequest::default();
        self.client.check(request).await.map(|_healthy| 1).map_err(|status| status.to_string())
    }
}

async fn channels(coordinator: &str) -> Result<Vec<Channel>, Failure> {
    let failed =
        |error| Failure::new(Exit::CannotConnect, "no connection to the coordinator").because(&error);
    let mut channels = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let endpoint: Endpoint = Endpoint::from_shared(coordinator.to_owned()).map_err(failed)?;
        channels.push(endpoint.tcp_nodelay(true).connect().await.map_err(failed)?);
    }
    Ok(channels)
}
