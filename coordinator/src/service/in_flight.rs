//! How many calls one pipeline may have in flight, and what becomes of those beyond.
//!
//! A call takes a permit when it is read and gives it back when its answer has been read: so a
//! stream holds a bounded number of calls, and of bytes, and an application that does not read its answers
//! is not read from either.
//!
//! At its limit a stream is not read, which is all that an application needs whose calls come as fast
//! as its answers. One whose calls come by themselves would only wait longer and longer: so a stream
//! that is held back is a sign of overload to the shards (`shard/admission.rs`), and as soon as these
//! shed, it is read on, with permits from a small reserve, to be told so.

use std::future::pending;
use std::sync::Arc;

use pactum_core::coordinator::Event;
use pactum_core::id::Gid;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::wire::Call;
use crate::error::ServiceError;
use crate::outbox::BATCH_MESSAGES_MAX;
use crate::shard::Shards;

/// Calls beyond the limit that wait to be turned away, or belong to an open transaction: one batch.
const RESERVE: usize = BATCH_MESSAGES_MAX;

/// Bytes of payloads that count as one more call: with the default limit, 8 MiB on one stream, half of what may
/// wait for one participant to read. What is smaller costs no more than the transaction itself.
const BYTES_PER_PERMIT: usize = 1024;

/// What a call takes of a stream's permits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Whose call it is; none if it does not say so, which its answer complains of.
    gid: Option<Gid>,
    permits: u32,
}

impl Size {
    /// Of a call, if it could be read.
    pub(crate) fn of(call: Option<&Call>) -> Self {
        let Some(Call { gid, event, .. }) = call else { return Self { gid: None, permits: 1 } };
        let bytes = if let Event::SubmitRequested { branches, .. } = event {
            branches.iter().map(|branch| branch.operation.payload.len()).sum()
        } else {
            0
        };
        Self { gid: Some(*gid), permits: u32::try_from(1 + bytes / BYTES_PER_PERMIT).unwrap_or(u32::MAX) }
    }
}

/// The permits of one stream.
#[derive(Debug)]
pub(crate) struct InFlight {
    calls: Arc<Semaphore>,
    calls_max: u32,
    reserve: Arc<Semaphore>,
}

impl InFlight {
    /// For so many calls.
    pub(crate) fn new(calls_max: usize) -> Self {
        let calls_max = calls_max.min(Semaphore::MAX_PERMITS);
        Self {
            calls: Arc::new(Semaphore::new(calls_max)),
            calls_max: u32::try_from(calls_max).unwrap_or(u32::MAX),
            reserve: Arc::new(Semaphore::new(RESERVE)),
        }
    }

    /// A permit, if the stream is below its limit.
    pub(crate) fn try_take(&self, call: &Size) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.calls).try_acquire_many_owned(self.permits(call)).ok()
    }

    /// A permit at the limit: when answers have been read, or from the reserve while the call's shard sheds
    /// new transactions.
    ///
    /// # Errors
    /// The stream has ended.
    pub(crate) async fn take(
        &self,
        call: &Size,
        shards: &Shards,
    ) -> Result<OwnedSemaphorePermit, ServiceError> {
        let ended = |_: AcquireError| ServiceError::Stopped;
        let reserved = async {
            match call.gid {
                Some(gid) if shards.overload(gid).await => Arc::clone(&self.reserve).acquire_owned().await,
                _ => pending().await,
            }
        };
        tokio::select! {
            biased;
            permit = Arc::clone(&self.calls).acquire_many_owned(self.permits(call)) => permit.map_err(ended),
            permit = reserved => permit.map_err(ended),
        }
    }

    /// Waits until every call's answer has been read.
    pub(crate) async fn all_answered(&self) {
        let reserve_max = u32::try_from(RESERVE).unwrap_or(u32::MAX);
        for (permits, all) in [(&self.calls, self.calls_max), (&self.reserve, reserve_max)] {
            if let Err(closed) = permits.acquire_many(all).await {
                tracing::debug!(%closed, "a pipeline's permits are gone");
            }
        }
    }

    /// The largest call alone still fits.
    fn permits(&self, call: &Size) -> u32 {
        call.permits.min(self.calls_max)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pactum_core::coordinator::{Operation, RequestId, SubmittedBranch, Wait};
    use pactum_core::id::{Branch, BranchId, Incarnation, InstanceId, ResourceName, TransactionId};

    use super::*;

    fn submit(payload_bytes: usize) -> Size {
        let branch = Branch {
            id: BranchId::new(1),
            resource: ResourceName::new("bank").unwrap(),
            instance: InstanceId::NIL,
            marker: false,
        };
        let operation = Operation { name: "debit".into(), payload: vec![0; payload_bytes].into() };
        let id = TransactionId { incarnation: Incarnation::NIL, gid: Gid::NIL };
        let event = Event::SubmitRequested {
            id,
            branches: vec![SubmittedBranch { branch, operation }],
            details: Arc::default(),
            timeout: Duration::from_secs(1),
            wait: Wait::Finished,
            request: RequestId(1),
        };
        Size::of(Some(&Call { gid: id.gid, starts: true, event }))
    }

    #[test]
    fn a_stream_holds_so_many_calls() {
        let in_flight = InFlight::new(2);
        let (first, second) = (in_flight.try_take(&submit(100)), in_flight.try_take(&submit(100)));
        assert!(first.is_some() && second.is_some());
        assert!(in_flight.try_take(&submit(100)).is_none());
        drop(first);
        assert!(in_flight.try_take(&submit(100)).is_some(), "its answer was read");
    }

    #[test]
    fn large_payloads_count_as_several_and_the_largest_alone_still_fits() {
        let in_flight = InFlight::new(10);
        let large = in_flight.try_take(&submit(8 * BYTES_PER_PERMIT));
        assert!(large.is_some());
        assert!(
            in_flight.try_take(&submit(BYTES_PER_PERMIT)).is_none(),
            "one permit is left, and two are needed"
        );
        drop(large);
        assert!(in_flight.try_take(&submit(1000 * BYTES_PER_PERMIT)).is_some());
    }
}
