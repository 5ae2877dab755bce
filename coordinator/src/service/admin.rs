//! For operators: what is open here, what the log keeps, and the one thing that they may have
//! decided, which is abort of an undecided transaction, through the log (law 11).

mod act;
mod audit;
mod branches;
mod config;
mod examine;
mod filter;
mod find;
mod heuristics;
mod info;
mod log_status;
mod participants;
mod show;
mod watch;
mod why;

use std::sync::Arc;
use std::time::Instant;

use futures::stream::BoxStream;
use pactum_proto::v1;
use pactum_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use crate::config::Setting;
use crate::decision_log::DecisionLog;
use crate::error::ServiceError;
use crate::examine::Examiner;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::shard::Shards;
use crate::tasks::Tasks;
pub(crate) use act::Trail;
use find::Listing;

/// Serves operators.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) shards: Arc<Shards>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) log: Arc<dyn DecisionLog>,
    pub(crate) examiner: Examiner,
    pub(crate) trail: Trail,
    pub(crate) settings: Arc<[Setting]>,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
    pub(crate) started: Instant,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        _request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        Ok(Response::new(self.info()))
    }

    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Result<Response<v1::ListTransactionsResponse>, Status> {
        let listing = Listing::parse(&request.into_inner())?;
        let (found, next) = self.list(&listing).await?;
        Ok(Response::new(v1::ListTransactionsResponse {
            transactions: self.shown(&found).await,
            next_page_token: next.map(|gid| gid.as_uuid().simple().to_string()).unwrap_or_default(),
        }))
    }

    async fn inspect_transaction(
        &self,
        request: Request<v1::InspectTransactionRequest>,
    ) -> Result<Response<v1::InspectTransactionResponse>, Status> {
        let v1::InspectTransactionRequest { gid, examine } = request.into_inner();
        let found = self.find(&gid).await?;
        let mut transaction =
            if examine { self.examined(&found).await } else { self.shown_one(&found).await };
        let steps = self.shards.steps(found.id().gid).await?;
        transaction.steps = steps.into_iter().map(super::wire::past_step).collect();
        Ok(Response::new(v1::InspectTransactionResponse { transaction: Some(transaction) }))
    }

    type WatchTransactionStream = BoxStream<'static, Result<v1::WatchTransactionResponse, Status>>;

    async fn watch_transaction(
        &self,
        request: Request<v1::WatchTransactionRequest>,
    ) -> Result<Response<Self::WatchTransactionStream>, Status> {
        Ok(Response::new(self.watch_one(&request.into_inner().gid).await?))
    }

    async fn get_config(
        &self,
        _request: Request<v1::GetConfigRequest>,
    ) -> Result<Response<v1::GetConfigResponse>, Status> {
        Ok(Response::new(config::told(&self.settings)))
    }

    async fn get_log_status(
        &self,
        _request: Request<v1::GetLogStatusRequest>,
    ) -> Result<Response<v1::GetLogStatusResponse>, Status> {
        Ok(Response::new(self.log_status().await?))
    }

    async fn list_branches(
        &self,
        request: Request<v1::ListBranchesRequest>,
    ) -> Result<Response<v1::ListBranchesResponse>, Status> {
        Ok(Response::new(self.branches(request.into_inner()).await?))
    }

    async fn list_heuristics(
        &self,
        request: Request<v1::ListHeuristicsRequest>,
    ) -> Result<Response<v1::ListHeuristicsResponse>, Status> {
        Ok(Response::new(self.heuristics_page(request.into_inner()).await?))
    }

    async fn plan_act(
        &self,
        request: Request<v1::PlanActRequest>,
    ) -> Result<Response<v1::PlanActResponse>, Status> {
        Ok(Response::new(self.planned(request.into_inner()).await?))
    }

    async fn perform_act(
        &self,
        request: Request<v1::PerformActRequest>,
    ) -> Result<Response<v1::PerformActResponse>, Status> {
        Ok(Response::new(self.performed(request).await?))
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        Ok(Response::new(self.audit_page(request.into_inner()).await?))
    }

    type WatchTransactionsStream = BoxStream<'static, Result<v1::WatchTransactionsResponse, Status>>;

    async fn watch_transactions(
        &self,
        request: Request<v1::WatchTransactionsRequest>,
    ) -> Result<Response<Self::WatchTransactionsStream>, Status> {
        Ok(Response::new(self.watch_list(request.into_inner()).await?))
    }

    async fn list_participants(
        &self,
        _request: Request<v1::ListParticipantsRequest>,
    ) -> Result<Response<v1::ListParticipantsResponse>, Status> {
        let participants = self.participants().await?;
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
