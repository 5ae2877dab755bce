//! Calls that wait, cut into messages within the protocol's bounds.

use std::collections::HashMap;

use pactum_proto::v1;
use pactum_proto::v1::pipeline_call::Call;
use tokio::sync::oneshot;

use super::{Answer, Queued, Ticket};

/// Calls in one message, as the protocol bounds them.
pub(super) const BATCH_CALLS_MAX: usize = 1024;

/// Bytes in one message: the protocol's 1 MiB, less what the framing of the calls takes.
const BATCH_BYTES_MAX: usize = (1 << 20) - BATCH_CALLS_MAX * 16;

/// Takes from the front what fits into one message, and notes who waits for it.
pub(super) fn cut(
    batch: &mut Vec<Queued>,
    in_flight: &mut HashMap<u64, oneshot::Sender<Answer>>,
    next_call_id: &mut u64,
) -> Vec<v1::PipelineCall> {
    let mut bytes = 0;
    // One call alone is far under the limit: a Submit's payloads are bounded to 256 KiB.
    let fitting = batch.iter().take_while(|queued| {
        bytes += call_bytes(&queued.call);
        bytes <= BATCH_BYTES_MAX
    });
    let count = fitting.count().max(1).min(batch.len());
    let mut calls = Vec::with_capacity(count);
    for Queued { call, ticket, answer } in batch.drain(..count) {
        let gone = answer.as_ref().is_some_and(oneshot::Sender::is_closed);
        if gone || !ticket.take(Ticket::SENT) {
            continue;
        }
        let call_id = *next_call_id;
        *next_call_id += 1;
        if let Some(answer) = answer {
            in_flight.insert(call_id, answer);
        }
        calls.push(v1::PipelineCall { call_id, call: Some(call) });
    }
    calls
}

/// An upper bound of a call's size that costs little to compute.
fn call_bytes(call: &Call) -> usize {
    const BRANCH: usize = 128;
    let details = |details: &Option<v1::Details>| {
        details.as_ref().map_or(0, |details| {
            let labels = details.labels.iter().map(|(key, value)| key.len() + value.len() + 16);
            details.name.len() + details.traceparent.len() + 16 + labels.sum::<usize>()
        })
    };
    96 + match call {
        Call::Commit(call) => call.branches.len() * BRANCH + details(&call.details),
        Call::Submit(call) => {
            let operations = call.operations.iter();
            operations.map(|operation| BRANCH + 64 + operation.payload.len()).sum::<usize>()
                + details(&call.details)
        }
        Call::Abort(call) => call.branches.len() * BRANCH + call.message.len(),
        Call::GetTransaction(call) => call.branches.len() * BRANCH,
    }
}
