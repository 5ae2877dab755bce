//! The way into the shards: who wants something of a transaction finds its shard by the gid.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pactum_core::coordinator::{Event, RequestId};
use pactum_core::id::Gid;
use pactum_core::outcome::DecisionRecord;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::history::PastStep;
use super::inspect::Inspect;
use crate::error::ServiceError;
use crate::reply::{Reply, ReplyTo};

/// What comes to a shard from outside.
#[derive(Debug)]
pub(crate) enum Input {
    /// A fact that needs no answer.
    Event(Event),
    /// A request.
    Request(Request),
    /// An operator looks.
    Inspect(Inspect),
    /// An operator asks what happened to a transaction.
    Steps(Gid, oneshot::Sender<Vec<PastStep>>),
}

/// A request that needs exactly one answer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) gid: Gid,
    /// Whether it may open a transaction, so that it is refused when none may be opened.
    pub(crate) starts: bool,
    /// Names the request as `name` does.
    pub(crate) event: Event,
    pub(crate) name: RequestId,
    pub(crate) to: ReplyTo,
}

/// What a shard shows of itself, for all to read.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    open: AtomicUsize,
    /// Recovered commits handed over and not finished.
    recovering: AtomicUsize,
    violations: AtomicU64,
    /// Calls that found its queue full.
    shed: AtomicU64,
    start_floor: Mutex<Option<Gid>>,
    /// Streams that are not read because they have as much in flight as they may.
    held_back: AtomicUsize,
    /// Whether it sheds new transactions.
    overload: watch::Sender<bool>,
}

impl Gauge {
    /// Whether some stream wants more in flight than it may have.
    pub(super) fn is_held_back(&self) -> bool {
        self.held_back.load(Ordering::Relaxed) > 0
    }

    pub(super) fn publish_overload(&self, is_shedding: bool) {
        self.overload.send_replace(is_shedding);
    }

    /// Counts a stream as held back while it waits; true once the shard sheds, which answers at once.
    pub(crate) async fn overload(&self) -> bool {
        struct HeldBack<'a>(&'a AtomicUsize);
        impl Drop for HeldBack<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        let _held_back = HeldBack(&self.held_back);
        self.overload.subscribe().wait_for(|is_shedding| *is_shedding).await.is_ok()
    }

    pub(super) fn publish(&self, open: usize, start_floor: Gid) {
        self.open.store(open, Ordering::Relaxed);
        *self.start_floor.lock().unwrap_or_else(PoisonError::into_inner) = Some(start_floor);
    }

    /// One recovered commit has finished, or was known already.
    pub(super) fn recovered(&self) {
        self.recovering.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn count_violation(&self) {
        self.violations.fetch_add(1, Ordering::Relaxed);
    }
}

/// All shards.
pub(crate) struct Shards {
    inputs: Vec<mpsc::Sender<Input>>,
    /// A queue of its own for what comes by itself: see `shard.rs`.
    calls: Vec<mpsc::Sender<Input>>,
    answers: Vec<mpsc::UnboundedSender<Event>>,
    gauges: Vec<Arc<Gauge>>,
    requests: AtomicU64,
    /// What the shards' timestamps count from.
    origin: Instant,
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shards({})", self.inputs.len())
    }
}

impl Shards {
    pub(crate) fn new(
        inputs: Vec<mpsc::Sender<Input>>,
        calls: Vec<mpsc::Sender<Input>>,
        answers: Vec<mpsc::UnboundedSender<Event>>,
        gauges: Vec<Arc<Gauge>>,
        origin: Instant,
    ) -> Self {
        Self { inputs, calls, answers, gauges, requests: AtomicU64::new(1), origin }
    }

    /// A name for a request, unique while this coordinator lives.
    pub(crate) fn draw_request(&self) -> RequestId {
        RequestId(self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Which shard owns a gid: by its low bits, which are random and not the time.
    fn index(&self, gid: Gid) -> usize {
        let low = gid.as_uuid().as_u64_pair().1;
        let shards = self.inputs.len() as u64;
        usize::try_from(low % shards).unwrap_or(0)
    }

    /// Sends a request of a unary call and waits for its answer; sheds it when the queue is full. One that opens
    /// nothing does not wait behind those that would.
    pub(crate) async fn ask(&self, request: RequestId, gid: Gid, starts: bool, event: Event) -> Reply {
        let (sender, answer) = oneshot::channel();
        let to = ReplyTo::Unary(sender);
        let input = Input::Request(Request { gid, starts, event, name: request, to });
        let index = self.index(gid);
        let queue = if starts { &self.calls } else { &self.inputs };
        match queue[index].try_send(input) {
            Ok(()) => answer.await.unwrap_or(Err(ServiceError::Stopped)),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.gauges[index].shed.fetch_add(1, Ordering::Relaxed);
                Err(ServiceError::shed("the queue is full"))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ServiceError::Stopped),
        }
    }

    /// Sends what a message of a participant held, waiting for room: its stream is not read meanwhile,
    /// so that it feels it (back-pressure).
    pub(crate) async fn send_all(&self, inputs: Vec<(Gid, Input)>) {
        self.send(&self.inputs, inputs).await;
    }

    /// The same for calls of an application's stream, in their order.
    pub(crate) async fn send_calls(&self, calls: Vec<(Gid, Input)>) {
        self.send(&self.calls, calls).await;
    }

    async fn send(&self, queues: &[mpsc::Sender<Input>], inputs: Vec<(Gid, Input)>) {
        let mut shares: Vec<Vec<Input>> = self.inputs.iter().map(|_| Vec::new()).collect();
        for (gid, input) in inputs {
            shares[self.index(gid)].push(input);
        }
        for (sender, share) in queues.iter().zip(shares) {
            let mut share = share.into_iter().peekable();
            while share.peek().is_some() {
                let count = share.len().min(sender.max_capacity());
                match sender.reserve_many(count).await {
                    Ok(permits) => permits.zip(share.by_ref()).for_each(|(permit, input)| permit.send(input)),
                    Err(_) => {
                        for input in share.by_ref() {
                            if let Input::Request(request) = input {
                                request.to.send(Err(ServiceError::Stopped));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Waits while a stream is held back, until this gid's shard sheds new transactions.
    pub(crate) async fn overload(&self, gid: Gid) -> bool {
        self.gauges[self.index(gid)].overload().await
    }

    /// Tells every shard a fact from inside.
    pub(crate) fn tell_all(&self, event: &Event) {
        for answers in &self.answers {
            if answers.send(event.clone()).is_err() {
                tracing::debug!("a shard has ended");
            }
        }
    }

    /// Tells the shard of a gid a fact from inside.
    pub(crate) fn tell(&self, gid: Gid, event: Event) {
        if self.answers[self.index(gid)].send(event).is_err() {
            tracing::debug!(%gid, "its shard has ended");
        }
    }

    /// Hands over a commit of an ended incarnation that is not finished. It counts as
    /// [recovering](Self::recovering) until it is.
    pub(crate) fn recover(&self, record: DecisionRecord) {
        let gid = record.id.gid;
        self.gauges[self.index(gid)].recovering.fetch_add(1, Ordering::Relaxed);
        self.tell(gid, Event::CommitRecovered { record });
    }

    /// Recovered commits that are not finished.
    pub(crate) fn recovering(&self) -> usize {
        self.gauges.iter().map(|gauge| gauge.recovering.load(Ordering::Relaxed)).sum()
    }

    /// Asks every shard, and waits for all answers.
    pub(crate) async fn inspect<T>(
        &self,
        make: impl Fn(oneshot::Sender<T>) -> Inspect,
    ) -> Result<Vec<T>, ServiceError> {
        let mut answers = Vec::with_capacity(self.inputs.len());
        for sender in &self.inputs {
            let (reply, answer) = oneshot::channel();
            if sender.send(Input::Inspect(make(reply))).await.is_err() {
                return Err(ServiceError::Stopped);
            }
            answers.push(answer);
        }
        let mut all = Vec::with_capacity(answers.len());
        for answer in answers {
            all.push(answer.await.map_err(|_closed| ServiceError::Stopped)?);
        }
        Ok(all)
    }

    /// What happened to a transaction of late, oldest first, as far as its shard remembers.
    pub(crate) async fn steps(&self, gid: Gid) -> Result<Vec<PastStep>, ServiceError> {
        let (reply, answer) = oneshot::channel();
        let asked = self.inputs[self.index(gid)].send(Input::Steps(gid, reply)).await;
        asked.map_err(|_closed| ServiceError::Stopped)?;
        answer.await.map_err(|_closed| ServiceError::Stopped)
    }

    /// Whole seconds since the shards' origin.
    pub(crate) fn seconds(&self) -> u64 {
        self.origin.elapsed().as_secs()
    }

    /// Calls that found a queue full.
    pub(crate) fn shed(&self) -> u64 {
        self.gauges.iter().map(|gauge| gauge.shed.load(Ordering::Relaxed)).sum()
    }

    /// Open transactions, about.
    pub(crate) fn open(&self) -> usize {
        self.gauges.iter().map(|gauge| gauge.open.load(Ordering::Relaxed)).sum()
    }

    /// Broken contracts so far.
    pub(crate) fn violations(&self) -> u64 {
        self.gauges.iter().map(|gauge| gauge.violations.load(Ordering::Relaxed)).sum()
    }

    /// The highest gid that some shard starts no more.
    pub(crate) fn start_floor(&self) -> Gid {
        let floors = self.gauges.iter().map(|gauge| {
            gauge.start_floor.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Gid::NIL)
        });
        floors.max().unwrap_or(Gid::NIL)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use pactum_core::id::{Incarnation, TransactionId};
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn what_is_in_flight_does_not_wait_behind_calls() {
        let gid = Gid::from_uuid(Uuid::from_u128(1));
        let id = TransactionId { incarnation: Incarnation::NIL, gid };
        let ((inputs, mut inputs_of), (calls, calls_of)) = (mpsc::channel(2), mpsc::channel(1));
        let (answers, _answers_of) = mpsc::unbounded_channel();
        let shards =
            Shards::new(vec![inputs], vec![calls], vec![answers], vec![Arc::default()], Instant::now());
        let ask = |starts| {
            let request = shards.draw_request();
            shards.ask(request, gid, starts, Event::OutcomeRequested { id, branches: None, request })
        };
        assert!(ask(true).now_or_never().is_none(), "it waits for its answer");
        let shed = ask(true).now_or_never();
        assert!(matches!(shed, Some(Err(ServiceError::Shed { .. }))), "the queue is full: {shed:?}");

        assert!(ask(false).now_or_never().is_none(), "it waits for its answer");
        let fact = (gid, Input::Event(Event::IncarnationEnded));
        assert_eq!(shards.send_all(vec![fact]).now_or_never(), Some(()), "there is room");
        assert!(matches!(inputs_of.try_recv(), Ok(Input::Request(Request { starts: false, .. }))));
        assert!(matches!(inputs_of.try_recv(), Ok(Input::Event(_))));
        assert_eq!((calls_of.len(), shards.shed()), (1, 1));
    }
}
