//! The same calls as the unary ones, many in flight on one stream, batched both ways.
//!
//! How many calls a stream may have in flight is the business of `in_flight.rs`.

use futures::StreamExt;
use futures::stream::BoxStream;
use pactum_core::coordinator::RequestId;
use pactum_core::id::Gid;
use pactum_proto::frames::Frame;
use prost::Message as _;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, Streaming};

use super::in_flight::{InFlight, Size};
use super::transactions::Transactions;
use super::wire::{self, Call, PipelineEntry, ToApplication};
use crate::error::ServiceError;
use crate::lifecycle::Standing;
use crate::outbox::{Outbox, OutboxLimits};
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
        inbound: Streaming<Frame>,
    ) -> (BoxStream<'static, Result<Frame, Status>>, impl Future<Output = ()> + Send) {
        let (outbox, drain) = Outbox::new(self.limits);
        let responses = drain.map(|batch| Ok(wire::to_application(&batch?))).boxed();
        let in_flight = InFlight::new(self.in_flight_max);
        let pipeline = Pipeline { transactions, outbox, in_flight };
        (responses, pipeline.serve(inbound))
    }
}

/// One open pipeline.
struct Pipeline {
    transactions: Transactions,
    outbox: Outbox<ToApplication>,
    in_flight: InFlight,
}

impl Pipeline {
    async fn serve(self, mut inbound: Streaming<Frame>) {
        let mut standing = self.transactions.lifecycle.subscribe();
        let mut open = self.welcome(&standing.borrow_and_update());
        let mut error = None;
        while open {
            tokio::select! {
                Ok(()) = standing.changed() => {
                    open = self.welcome(&standing.borrow_and_update());
                }
                batch = inbound.message() => match batch {
                    Ok(Some(batch)) => {
                        error = self.batch(&batch).await.err();
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
            // The application has said that no more calls come: those in flight are still answered.
            self.answered().await;
        }
        self.outbox.close(error);
    }

    async fn answered(&self) {
        if !self.outbox.is_closed() {
            self.in_flight.all_answered().await;
        }
    }

    /// Says who serves; answers whether that was taken.
    fn welcome(&self, standing: &Standing) -> bool {
        let welcome = wire::welcome(standing).encode_to_vec();
        self.outbox.push(ToApplication::Welcome(welcome)).is_ok()
    }

    /// Hands on one batch. A malformed call is answered as such; the others are not spoiled.
    async fn batch(&self, frame: &Frame) -> Result<(), ServiceError> {
        let calls = wire::pipeline_calls(&frame.0)?;
        let mut inputs: Vec<(Gid, Input)> = Vec::with_capacity(calls.len());
        for call in calls {
            let call = self.read(call);
            let size = Size::of(call.event.as_ref().ok());
            let permit = if let Some(permit) = self.in_flight.try_take(&size) {
                permit
            } else {
                // What was read is under way before we wait for answers to be read.
                self.transactions.shards.send_calls(std::mem::take(&mut inputs)).await;
                self.in_flight.take(&size, &self.transactions.shards).await?
            };
            inputs.extend(self.input(call, permit));
        }
        self.transactions.shards.send_calls(inputs).await;
        Ok(())
    }

    fn read(&self, call: PipelineEntry<'_>) -> Read {
        let call_id = match &call {
            PipelineEntry::Submit(submit) => submit.call_id,
            PipelineEntry::Other(call) => call.call_id,
        };
        let transactions = &self.transactions;
        let name = transactions.shards.draw_request();
        let event = transactions.lifecycle.serves().and_then(|()| match call {
            PipelineEntry::Submit(submit) => wire::usual_submit(&submit, name, &transactions.limits),
            PipelineEntry::Other(call) => {
                let call = call.call.ok_or_else(|| ServiceError::malformed("call", "it is missing"))?;
                wire::call(call, name, &transactions.limits)
            }
        });
        Read { call_id, name, event }
    }

    fn input(&self, call: Read, permit: OwnedSemaphorePermit) -> Option<(Gid, Input)> {
        let Read { call_id, name, event } = call;
        let to = ReplyTo::Pipeline { call_id, permit, outbox: self.outbox.clone() };
        match event {
            Ok(Call { gid, starts, event }) => {
                Some((gid, Input::Request(Request { gid, starts, event, name, to })))
            }
            Err(error) => {
                to.send(Err(error));
                None
            }
        }
    }
}

/// A call that was read, and what it means.
struct Read {
    call_id: u64,
    name: RequestId,
    event: Result<Call, ServiceError>,
}
