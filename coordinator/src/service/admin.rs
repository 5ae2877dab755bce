//! For operators: what is open here, what the log keeps, and the one thing that they may have
//! decided, which is abort of an undecided transaction, through the log (law 11).

mod find;
mod show;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use pactum_core::coordinator::{Event, Refusal, TransactionOutcome};
use pactum_core::id::{Branch, Gid};
use pactum_core::vote::{AbortKind, AbortReason};
use pactum_proto::v1;
use pactum_proto::v1::admin_service_server::AdminService;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::wire;
use crate::decision_log::{DecisionLog, StoredState};
use crate::error::ServiceError;
use crate::lifecycle::Lifecycle;
use crate::registry::Registry;
use crate::shard::{Inspect, Shards};
use crate::tasks::Tasks;
use find::{Filter, Found};

/// Serves operators.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) shards: Arc<Shards>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) log: Arc<dyn DecisionLog>,
    pub(crate) tasks: Tasks,
    pub(crate) started: Instant,
}

/// Between looks at a watched transaction. A look costs its shard some microseconds, and nothing
/// where nobody watches; people do not see faster.
const WATCH_LOOK: Duration = Duration::from_millis(50);

/// States of a watched transaction that may wait for a slow reader.
const WATCH_QUEUE: usize = 16;

impl Admin {
    /// Follows a transaction until it has ended or nobody reads any more.
    async fn watch(
        self,
        gid: Gid,
        first: v1::Transaction,
        states: tokio::sync::mpsc::Sender<Result<v1::WatchTransactionResponse, Status>>,
    ) {
        let mut last = first;
        let mut looks = tokio::time::interval(WATCH_LOOK);
        loop {
            let ended = show::has_ended(&last);
            let response = v1::WatchTransactionResponse { transaction: Some(last.clone()) };
            if states.send(Ok(response)).await.is_err() || ended {
                return;
            }
            last = loop {
                looks.tick().await;
                if states.is_closed() {
                    return;
                }
                match self.look(gid, &last).await {
                    Ok(now) if show::differs(&last, &now) => break now,
                    Ok(_) => {}
                    Err(error) => {
                        // Fails only where the reader has gone, which the next send shows.
                        drop(states.send(Err(error.into())).await);
                        return;
                    }
                }
            };
        }
    }

    /// What is to be seen of a transaction that was seen as `last` before.
    async fn look(&self, gid: Gid, last: &v1::Transaction) -> Result<v1::Transaction, ServiceError> {
        if let Some(found) = self.find_exactly(gid).await? {
            return Ok(self.show(&found));
        }
        // Ended without a record: its owner's memory still knows how.
        let id = last.id.clone().ok_or(ServiceError::Internal)?.try_into()?;
        let request = self.shards.draw_request();
        let event = Event::OutcomeRequested { id, branches: None, request };
        let outcome = wire::known(self.shards.ask(request, gid, false, event).await?)?;
        Ok(show::ended(last.clone(), outcome))
    }

    async fn resolve(self, request: v1::ResolveTransactionRequest) -> Result<v1::Outcome, ServiceError> {
        if request.reason.is_empty() || request.reason.len() > AbortReason::MESSAGE_BYTES_MAX {
            return Err(ServiceError::malformed("reason", "1 to 512 bytes are taken"));
        }
        let found = self.find(&request.gid).await?;
        let id = found.id();
        let branches = found.stored.as_ref().and_then(|stored| match &stored.state {
            StoredState::Undecided { record } => Some(record.branches.iter().cloned().collect()),
            StoredState::Decided { .. } => None,
        });
        tracing::info!(gid = %id.gid, reason = request.reason, "an operator resolves");
        let reason = AbortReason::new(AbortKind::Resolved, &request.reason);
        let request = self.shards.draw_request();
        let event = Event::ResolveRequested { id, branches, reason, request };
        let outcome = wire::known(self.shards.ask(request, id.gid, false, event).await?)?;
        match outcome {
            TransactionOutcome::Aborted { .. } => Ok(outcome.into()),
            TransactionOutcome::Committed { .. } => Err(ServiceError::AlreadyCommitted),
            TransactionOutcome::Pending | TransactionOutcome::Unknown => Err(ServiceError::OutcomeUnknown),
            TransactionOutcome::NoRecord => Err(ServiceError::NoTransaction { name: id.gid.to_string() }),
            TransactionOutcome::Forgotten => Err(ServiceError::Refused(Refusal::Forgotten)),
        }
    }

    async fn retry(self, request: v1::RetryTransactionRequest) -> Result<v1::Transaction, ServiceError> {
        let found = self.find(&request.gid).await?;
        let gid = found.id().gid;
        self.shards.tell(gid, Event::RetryRequested { gid });
        let now = self.find_exactly(gid).await?.unwrap_or(found);
        Ok(self.show(&now))
    }

    fn show(&self, found: &Found) -> v1::Transaction {
        show::transaction(found, |branch: &Branch| self.registry.sessions().is_attached(&branch.resource))
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        _request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let standing = self.lifecycle.standing();
        let (own, facts) = (self.lifecycle.own(), self.lifecycle.log_facts());
        Ok(Response::new(v1::GetServerInfoResponse {
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
        }))
    }

    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Result<Response<v1::ListTransactionsResponse>, Status> {
        let filter = Filter::parse(&request.into_inner())?;
        let (found, next) = self.list(&filter).await?;
        Ok(Response::new(v1::ListTransactionsResponse {
            transactions: found.iter().map(|found| self.show(found)).collect(),
            next_page_token: next.map(|gid| gid.as_uuid().simple().to_string()).unwrap_or_default(),
        }))
    }

    async fn inspect_transaction(
        &self,
        request: Request<v1::InspectTransactionRequest>,
    ) -> Result<Response<v1::InspectTransactionResponse>, Status> {
        let found = self.find(&request.into_inner().gid).await?;
        let transaction = Some(self.show(&found));
        Ok(Response::new(v1::InspectTransactionResponse { transaction }))
    }

    type WatchTransactionStream = BoxStream<'static, Result<v1::WatchTransactionResponse, Status>>;

    async fn watch_transaction(
        &self,
        request: Request<v1::WatchTransactionRequest>,
    ) -> Result<Response<Self::WatchTransactionStream>, Status> {
        let found = self.find(&request.into_inner().gid).await?;
        let first = self.show(&found);
        let (sender, states) = tokio::sync::mpsc::channel(WATCH_QUEUE);
        self.tasks.spawn(self.clone().watch(found.id().gid, first, sender));
        Ok(Response::new(ReceiverStream::new(states).boxed()))
    }

    async fn resolve_transaction(
        &self,
        request: Request<v1::ResolveTransactionRequest>,
    ) -> Result<Response<v1::ResolveTransactionResponse>, Status> {
        self.lifecycle.serves()?;
        let outcome = self.tasks.spawn(self.clone().resolve(request.into_inner())).await;
        let outcome = Some(finished(outcome)?);
        Ok(Response::new(v1::ResolveTransactionResponse { outcome }))
    }

    async fn retry_transaction(
        &self,
        request: Request<v1::RetryTransactionRequest>,
    ) -> Result<Response<v1::RetryTransactionResponse>, Status> {
        let transaction = self.tasks.spawn(self.clone().retry(request.into_inner())).await;
        let transaction = Some(finished(transaction)?);
        Ok(Response::new(v1::RetryTransactionResponse { transaction }))
    }

    async fn list_participants(
        &self,
        _request: Request<v1::ListParticipantsRequest>,
    ) -> Result<Response<v1::ListParticipantsResponse>, Status> {
        let mut open = std::collections::BTreeMap::new();
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
            })
            .collect();
        drop(sessions);
        participants.sort_by(|a, b| (&a.resource, &a.instance).cmp(&(&b.resource, &b.instance)));
        Ok(Response::new(v1::ListParticipantsResponse { participants }))
    }
}

/// What a tracked task of a call came to.
fn finished<T>(
    ended: Result<Option<Result<T, ServiceError>>, tokio::task::JoinError>,
) -> Result<T, ServiceError> {
    match ended {
        Ok(Some(result)) => result,
        Ok(None) => Err(ServiceError::Stopped),
        Err(error) => {
            tracing::error!(%error, "a call panicked");
            Err(ServiceError::Internal)
        }
    }
}
