//! The same calls as the unary ones, many in flight on one stream, batched both ways.
//!
//! A call takes a permit when it is read and gives it back when its answer has been read: so a
//! stream holds a bounded number of calls, and an application that does not read its answers is
//! not read from either.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use pactum_core::id::Gid;
use pactum_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, Streaming};

use super::transactions::Transactions;
use super::wire::{self, Call, ToApplication};
use crate::error::ServiceError;
use crate::outbox::{BATCH_MESSAGES_MAX, Outbox, OutboxLimits};
use crate::reply::ReplyTo;
use crate::shard::{Input, Request};

/// What every pipeline is told once.
#[derive(Clone, Debug)]
pub(crate) struct PipelineContext {
    pub(crate) limits: OutboxLimits,
    pub(crate) in_flight_max: usize,
}

impl PipelineContext {
    /// Opens a pipeline: the stream of its answers, and the body that reads its calls.
    pub(crate) fn open(
        self,
        transactions: Transactions,
        inbound: Streaming<v1::PipelineRequest>,
    ) -> (BoxStream<'static, Result<v1::PipelineResponse, Status>>, impl Future<Output = ()> + Send) {
        let (outbox, drain) = Outbox::new(self.limits);
        let responses = drain.map(|batch| batch.map(response).map_err(Status::from)).boxed();
        let in_flight = Arc::new(Semaphore::new(self.in_flight_max.min(Semaphore::MAX_PERMITS)));
        let pipeline = Pipeline { transactions, outbox, in_flight, in_flight_max: self.in_flight_max };
        (responses, pipeline.serve(inbound))
    }
}

fn response(batch: Vec<ToApplication>) -> v1::PipelineResponse {
    let mut response = v1::PipelineResponse { welcome: None, answers: Vec::with_capacity(batch.len()) };
    for message in batch {
        match message {
            ToApplication::Welcome(welcome) => response.welcome = Some(welcome),
            ToApplication::Answer(answer, _permit) => response.answers.push(answer),
        }
    }
    response
}

/// One open pipeline.
struct Pipeline {
    transactions: Transactions,
    outbox: Outbox<ToApplication>,
    in_flight: Arc<Semaphore>,
    in_flight_max: usize,
}

impl Pipeline {
    async fn serve(self, mut inbound: Streaming<v1::PipelineRequest>) {
        let mut standing = self.transactions.lifecycle.subscribe();
        let welcome = wire::welcome(&standing.borrow_and_update());
        let mut open = self.outbox.push(ToApplication::Welcome(welcome)).is_ok();
        let mut error = None;
        while open {
            tokio::select! {
                Ok(()) = standing.changed() => {
                    let welcome = wire::welcome(&standing.borrow_and_update());
                    open = self.outbox.push(ToApplication::Welcome(welcome)).is_ok();
                }
                batch = inbound.message() => match batch {
                    Ok(Some(batch)) => {
                        error = self.batch(batch.calls).await.err();
                        open = error.is_none() && !self.outbox.is_closed();
                    }
                    Ok(None) => open = false,
                    Err(status) => {
                        error = Some(ServiceError::from_stream(&status));
                        open = false;
                    }
                },
            }
        }
        if error.is_none() {
            self.answered().await;
        }
        self.outbox.close(error);
    }

    /// The application has said that no more calls come: those in flight are still answered.
    async fn answered(&self) {
        let all = u32::try_from(self.in_flight_max).unwrap_or(u32::MAX);
        if !self.outbox.is_closed()
            && let Err(closed) = self.in_flight.acquire_many(all).await
        {
            tracing::debug!(%closed, "a pipeline's permits are gone");
        }
    }

    /// Hands on one batch. A malformed call is answered as such; the others are not spoiled.
    async fn batch(&self, calls: Vec<v1::PipelineCall>) -> Result<(), ServiceError> {
        if calls.len() > BATCH_MESSAGES_MAX {
            return Err(ServiceError::malformed("calls", "at most 1024 are taken"));
        }
        let mut inputs: Vec<(Gid, Input)> = Vec::with_capacity(calls.len());
        for call in calls {
            let permit = match Arc::clone(&self.in_flight).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_full) => {
                    // What was read is under way before we wait for answers to be read.
                    self.transactions.shards.send_all(std::mem::take(&mut inputs)).await;
                    match Arc::clone(&self.in_flight).acquire_owned().await {
                        Ok(permit) => permit,
                        Err(_closed) => return Err(ServiceError::Stopped),
                    }
                }
            };
            inputs.extend(self.input(call, permit));
        }
        self.transactions.shards.send_all(inputs).await;
        Ok(())
    }

    fn input(&self, call: v1::PipelineCall, permit: OwnedSemaphorePermit) -> Option<(Gid, Input)> {
        let call_id = call.call_id;
        let request = self.transactions.shards.draw_request();
        let to = ReplyTo::Pipeline { call_id, permit, outbox: self.outbox.clone() };
        let converted = self.transactions.lifecycle.serves().and_then(|()| {
            let call = call.call.ok_or_else(|| ServiceError::malformed("call", "it is missing"))?;
            wire::call(call, request, &self.transactions.limits)
        });
        match converted {
            Ok(Call { gid, starts, event }) => {
                Some((gid, Input::Request(Request { gid, starts, event, name: request, to })))
            }
            Err(error) => {
                to.send(Err(error));
                None
            }
        }
    }
}
