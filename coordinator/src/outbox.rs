//! What waits to be read by one stream's peer: bounded, and drained into one message per wake-up.
//!
//! Shards push without waiting, so one slow reader delays nobody but itself: when its outbox is
//! full it is closed, what waited in it is dropped, and the stream ends with that reason. The
//! protocol makes up for it as for any lost message.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use futures::task::AtomicWaker;

use crate::error::ServiceError;

pub(crate) use pactum_proto::limits::BATCH_MESSAGES_MAX;

/// Bytes in one batch: what the wire allows, less what the batch's own framing may take (a tag and a
/// length of at most 8 bytes for each of its messages).
const BATCH_BYTES_MAX: usize = pactum_proto::limits::BATCH_BYTES_MAX - BATCH_MESSAGES_MAX * 8;

/// Knows how large it is on the wire.
pub(crate) trait Measured {
    /// Its encoded length in bytes.
    fn bytes(&self) -> usize;
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxLimits {
    /// Messages.
    pub(crate) messages_max: usize,
    /// Bytes, as encoded.
    pub(crate) bytes_max: usize,
}

/// The pushing half.
pub(crate) struct Outbox<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Clone for Outbox<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M> fmt::Debug for Outbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.shared.lock();
        write!(f, "Outbox({} messages, {} bytes)", queue.messages.len(), queue.bytes)
    }
}

struct Shared<M> {
    queue: Mutex<Queue<M>>,
    reader: AtomicWaker,
    limits: OutboxLimits,
}

struct Queue<M> {
    messages: VecDeque<(M, usize)>,
    bytes: usize,
    state: State,
}

enum State {
    Open,
    /// What waits is still sent, then the stream ends so.
    Closed(Option<ServiceError>),
    /// Nobody reads any more.
    Gone,
}

impl<M> Shared<M> {
    /// A queue is valid after each statement on it, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Queue<M>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The message was not taken: nothing of it will be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The reader is too slow; the outbox is closed now.
    Full,
    /// It was closed before.
    Closed,
    /// More waits than the caller wants to add to.
    Later,
}

impl<M: Measured> Outbox<M> {
    /// An empty outbox, and its reader.
    pub(crate) fn new(limits: OutboxLimits) -> (Self, Drain<M>) {
        let queue = Queue { messages: VecDeque::new(), bytes: 0, state: State::Open };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), reader: AtomicWaker::new(), limits });
        (Self { shared: Arc::clone(&shared) }, Drain { shared })
    }

    /// Adds a message.
    ///
    /// # Errors
    /// Not taken: the caller may be certain that the peer will not see it.
    pub(crate) fn push(&self, message: M) -> Result<(), NotTaken> {
        self.take(message, None)
    }

    /// Adds a message unless so many wait already, or half of the bytes that may: what can wait for
    /// its turn leaves room for what cannot.
    ///
    /// # Errors
    /// Not taken. With [`NotTaken::Later`] the outbox is as before.
    pub(crate) fn push_below(&self, message: M, messages: usize) -> Result<(), NotTaken> {
        self.take(message, Some(messages))
    }

    fn take(&self, message: M, below: Option<usize>) -> Result<(), NotTaken> {
        let bytes = message.bytes();
        let mut queue = self.shared.lock();
        if !matches!(queue.state, State::Open) {
            return Err(NotTaken::Closed);
        }
        let limits = self.shared.limits;
        let is_much = |below| queue.messages.len() >= below || queue.bytes >= limits.bytes_max / 2;
        if below.is_some_and(is_much) {
            return Err(NotTaken::Later);
        }
        if queue.messages.len() >= limits.messages_max || queue.bytes + bytes > limits.bytes_max {
            queue.messages.clear();
            queue.bytes = 0;
            queue.state = State::Closed(Some(ServiceError::TooSlow));
            drop(queue);
            self.shared.reader.wake();
            return Err(NotTaken::Full);
        }
        queue.bytes += bytes;
        queue.messages.push_back((message, bytes));
        // A reader is only asleep at an empty queue.
        let first = queue.messages.len() == 1;
        drop(queue);
        if first {
            self.shared.reader.wake();
        }
        Ok(())
    }

    /// Ends the stream after what waits: with an error, or well.
    pub(crate) fn close(&self, error: Option<ServiceError>) {
        let mut queue = self.shared.lock();
        if matches!(queue.state, State::Open) {
            queue.state = State::Closed(error);
        }
        drop(queue);
        self.shared.reader.wake();
    }

    /// Whether nothing is taken any more.
    pub(crate) fn is_closed(&self) -> bool {
        !matches!(self.shared.lock().state, State::Open)
    }
}

/// The reading half: a stream of batches.
pub(crate) struct Drain<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Stream for Drain<M> {
    type Item = Result<Vec<M>, ServiceError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Registered before the queue is looked at: a push in between wakes again.
        self.shared.reader.register(context.waker());
        let mut queue = self.shared.lock();
        let mut batch = Vec::with_capacity(queue.messages.len().min(BATCH_MESSAGES_MAX));
        let mut batch_bytes = 0;
        while let Some((_, bytes)) = queue.messages.front() {
            let full = batch.len() == BATCH_MESSAGES_MAX || batch_bytes + bytes > BATCH_BYTES_MAX;
            if full && !batch.is_empty() {
                break;
            }
            batch_bytes += bytes;
            if let Some((message, bytes)) = queue.messages.pop_front() {
                queue.bytes -= bytes;
                batch.push(message);
            }
        }
        if !batch.is_empty() {
            return Poll::Ready(Some(Ok(batch)));
        }
        match std::mem::replace(&mut queue.state, State::Gone) {
            State::Open => {
                queue.state = State::Open;
                Poll::Pending
            }
            State::Closed(Some(error)) => Poll::Ready(Some(Err(error))),
            State::Closed(None) | State::Gone => Poll::Ready(None),
        }
    }
}

impl<M> Drop for Drain<M> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.state = State::Gone;
        queue.messages.clear();
        queue.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    impl Measured for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    const LIMITS: OutboxLimits = OutboxLimits { messages_max: 3, bytes_max: 3 * 1024 * 1024 };

    #[test]
    fn what_waits_goes_out_in_one_batch() {
        let (outbox, mut drain) = Outbox::new(LIMITS);
        for message in [1, 2, 3] {
            outbox.push(message).unwrap();
        }
        assert_eq!(drain.next().now_or_never().unwrap().unwrap().unwrap(), [1, 2, 3]);
        assert!(drain.next().now_or_never().is_none(), "nothing more, and open");
    }

    #[test]
    fn a_batch_is_bounded_in_bytes() {
        let (outbox, mut drain) = Outbox::new(LIMITS);
        for _ in 0..3 {
            outbox.push(600 * 1024).unwrap();
        }
        assert_eq!(drain.next().now_or_never().unwrap().unwrap().unwrap().len(), 1);
    }

    #[test]
    fn a_reader_that_is_too_slow_is_cut_off() {
        let (outbox, mut drain) = Outbox::new(LIMITS);
        for message in [1, 2, 3] {
            outbox.push(message).unwrap();
        }
        assert_eq!(outbox.push(4), Err(NotTaken::Full));
        assert_eq!(outbox.push(5), Err(NotTaken::Closed));
        assert!(matches!(drain.next().now_or_never(), Some(Some(Err(ServiceError::TooSlow)))));
        assert!(matches!(drain.next().now_or_never(), Some(None)));
    }

    #[test]
    fn what_can_wait_is_not_taken_and_spoils_nothing() {
        let (outbox, mut drain) = Outbox::new(LIMITS);
        outbox.push_below(1, 2).unwrap();
        outbox.push_below(2, 2).unwrap();
        assert_eq!(outbox.push_below(3, 2), Err(NotTaken::Later));
        outbox.push(4).unwrap();
        assert_eq!(drain.next().now_or_never().unwrap().unwrap().unwrap(), [1, 2, 4]);
        outbox.push_below(3, 2).unwrap();
    }

    #[test]
    fn what_waited_is_sent_before_a_close() {
        let (outbox, mut drain) = Outbox::new(LIMITS);
        outbox.push(1).unwrap();
        outbox.close(Some(ServiceError::Draining));
        assert_eq!(drain.next().now_or_never().unwrap().unwrap().unwrap(), [1]);
        assert!(matches!(drain.next().now_or_never(), Some(Some(Err(ServiceError::Draining)))));
    }

    #[test]
    fn nothing_is_taken_when_nobody_reads() {
        let (outbox, drain) = Outbox::new(LIMITS);
        drop(drain);
        assert_eq!(outbox.push(1), Err(NotTaken::Closed));
    }
}
