//! For applications: the unary calls. Each changes state in a tracked task of its own, so that a
//! caller who hangs up cancels nothing (tonic drops the handler's future then).

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use pactum_core::coordinator::{Answer, Event};
use pactum_core::id::{Gid, TransactionId};
use pactum_proto::frames::Frame;
use pactum_proto::frames::transactions_service_server::TransactionsService;
use pactum_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use super::pipeline::PipelineContext;
use super::wire::{self, Call};
use crate::error::ServiceError;
use crate::lifecycle::Lifecycle;
use crate::shard::Shards;
use crate::tasks::Tasks;

/// Begins that are remembered by their `request_id`: at one thousand a second, more than a minute
/// of retries, in about 20 MB at the longest ids.
const REMEMBERED_BEGINS_MAX: usize = 100_000;

/// Serves applications.
#[derive(Clone, Debug)]
pub(crate) struct Transactions {
    pub(crate) shards: Arc<Shards>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) pipelines: PipelineContext,
    pub(crate) limits: wire::Limits,
    pub(crate) begins: Arc<Begins>,
    pub(crate) tasks: Tasks,
}

impl Transactions {
    /// Runs a body that the caller cannot cancel.
    async fn uncancelled<T: Send + 'static>(
        &self,
        body: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        match self.tasks.spawn(body).await {
            Ok(Some(Ok(response))) => Ok(Response::new(response)),
            Ok(Some(Err(error))) => Err(error.into()),
            // Killed: as after a crash, what was asked may have happened.
            Ok(None) => Err(ServiceError::Stopped.into()),
            Err(error) => {
                tracing::error!(%error, "a call panicked");
                Err(ServiceError::Internal.into())
            }
        }
    }

    /// Asks for an outcome, however the call is named. Nothing here can be cancelled half-way: the request is
    /// handed to its shard before anything is waited for, and the shard carries it out whether or
    /// not the caller still waits for the answer.
    async fn outcome(&self, call: v1::pipeline_call::Call) -> Result<v1::Outcome, ServiceError> {
        self.lifecycle.serves()?;
        let request = self.shards.draw_request();
        let Call { gid, starts, event } = wire::call(call, request, &self.limits)?;
        let answer = self.shards.ask(request, gid, starts, event).await?;
        wire::outcome(answer)
    }

    async fn begin(self, request: v1::BeginRequest) -> Result<v1::BeginResponse, ServiceError> {
        let begin = wire::begin(request, &self.limits)?;
        let incarnation = self.lifecycle.may_start()?;
        let floor = self.lifecycle.standing().floor;
        let fresh = || TransactionId { incarnation, gid: draw_gid(floor) };
        let remembered = begin.request_id.as_deref().map(|request_id| self.begins.name(request_id, fresh));
        let id = remembered.unwrap_or_else(fresh);
        let (details, timeout) = (begin.details, begin.timeout);
        let request = self.shards.draw_request();
        let event = Event::BeginRequested { id, details, timeout, request };
        match self.shards.ask(request, id.gid, true, event).await? {
            Answer::Begun => Ok(wire::begun(id, timeout)),
            Answer::Refused(refusal) => Err(ServiceError::Refused(refusal)),
            answer @ (Answer::Enlisted | Answer::Outcome(_) | Answer::Inquiry(_)) => {
                Err(ServiceError::unexpected(&answer))
            }
        }
    }
}

#[tonic::async_trait]
impl TransactionsService for Transactions {
    async fn begin(&self, request: Request<v1::BeginRequest>) -> Result<Response<v1::BeginResponse>, Status> {
        self.uncancelled(self.clone().begin(request.into_inner())).await
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let call = v1::pipeline_call::Call::Submit(request.into_inner());
        Ok(Response::new(v1::SubmitResponse { outcome: Some(self.outcome(call).await?) }))
    }

    async fn commit(
        &self,
        request: Request<v1::CommitRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let call = v1::pipeline_call::Call::Commit(request.into_inner());
        Ok(Response::new(v1::CommitResponse { outcome: Some(self.outcome(call).await?) }))
    }

    async fn abort(&self, request: Request<v1::AbortRequest>) -> Result<Response<v1::AbortResponse>, Status> {
        let call = v1::pipeline_call::Call::Abort(request.into_inner());
        Ok(Response::new(v1::AbortResponse { outcome: Some(self.outcome(call).await?) }))
    }

    async fn get_transaction(
        &self,
        request: Request<v1::GetTransactionRequest>,
    ) -> Result<Response<v1::GetTransactionResponse>, Status> {
        let call = v1::pipeline_call::Call::GetTransaction(request.into_inner());
        Ok(Response::new(v1::GetTransactionResponse { outcome: Some(self.outcome(call).await?) }))
    }

    type PipelineStream = BoxStream<'static, Result<Frame, Status>>;

    async fn pipeline(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        self.lifecycle.serves()?;
        let context = self.pipelines.clone();
        let (responses, body) = context.open(self.clone(), request.into_inner());
        self.tasks.spawn(body);
        Ok(Response::new(responses))
    }
}

/// Which name a `request_id` was given, for as long as there is room.
#[derive(Debug, Default)]
pub(crate) struct Begins(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    names: HashMap<Arc<str>, TransactionId>,
    order: VecDeque<Arc<str>>,
}

impl Begins {
    /// The name that this `request_id` was given, or a fresh one. A name of another incarnation
    /// than the fresh one's has ended with it, and is replaced.
    fn name(&self, request_id: &str, fresh: impl FnOnce() -> TransactionId) -> TransactionId {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = fresh();
        match remembered.names.get_mut(request_id) {
            Some(known) if known.incarnation == fresh.incarnation => return *known,
            Some(known) => {
                *known = fresh;
                return fresh;
            }
            None => {}
        }
        let request_id: Arc<str> = request_id.into();
        remembered.order.push_back(Arc::clone(&request_id));
        remembered.names.insert(request_id, fresh);
        if remembered.order.len() > REMEMBERED_BEGINS_MAX
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.names.remove(&oldest);
        }
        fresh
    }
}

/// A new gid above the floor. Ours is the time when it is drawn, unless the floor lies in our
/// future (a clock went back, or another coordinator's is ahead): then one just above the floor.
fn draw_gid(floor: Gid) -> Gid {
    let gid = Gid::from_uuid(uuid::Uuid::now_v7());
    if gid > floor {
        return gid;
    }
    let floor_millis = (floor.as_uuid().as_u128() >> 80) as u64;
    let millis = floor_millis.saturating_add(1);
    Gid::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid())
}

#[cfg(test)]
mod tests {
    use pactum_core::id::Incarnation;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_gid_lies_above_a_floor_in_the_future() {
        let now = draw_gid(Gid::NIL);
        let ahead = now.as_uuid().as_u128() + (1_u128 << 112);
        let floor = Gid::from_uuid(Uuid::from_u128(ahead));
        let drawn = draw_gid(floor);
        assert!(drawn > floor, "{drawn} {floor}");
        assert_eq!(drawn.as_uuid().get_version_num(), 7);
    }

    #[test]
    fn a_repeated_begin_has_the_same_name_until_the_incarnation_ends() {
        let begins = Begins::default();
        let id = |incarnation| {
            let incarnation = Incarnation::from_uuid(Uuid::from_u128(incarnation));
            move || TransactionId { incarnation, gid: draw_gid(Gid::NIL) }
        };
        let first = begins.name("a", id(1));
        assert_eq!(begins.name("a", id(1)), first);
        assert_ne!(begins.name("b", id(1)), first);
        assert_ne!(begins.name("a", id(2)), first);
    }

    #[test]
    fn remembered_begins_are_bounded() {
        let begins = Begins::default();
        for number in 0..=REMEMBERED_BEGINS_MAX {
            begins
                .name(&number.to_string(), || TransactionId { incarnation: Incarnation::NIL, gid: Gid::NIL });
        }
        let remembered = begins.0.lock().unwrap();
        assert_eq!(
            (remembered.names.len(), remembered.order.len()),
            (REMEMBERED_BEGINS_MAX, REMEMBERED_BEGINS_MAX)
        );
        assert!(!remembered.names.contains_key("0"));
    }
}
