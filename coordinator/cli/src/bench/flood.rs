//! Makes load of a known amount: closed, where an answer makes the next call, or open, where the clock does,
//! whatever is answered. Times count from when a call was *due*, so that a call that could not be
//! sent in time is as late as its caller finds it.

use std::collections::HashMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::child::Parent;
use super::pipeline::{Answered, Pipeline};
use super::wire::{Amount, Flood, FloodMeasured, FloodOrders, Report};
use crate::exit::Exit;
use crate::failure::Failure;

/// The longest time that is told apart: a minute, in microseconds.
const LONGEST_US: u64 = 60_000_000;
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(1);
/// What is not answered so long after the end will not be: transactions have 30 s, and their ends 5 s more.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Connects, and carries out commands until stdin ends.
pub(super) async fn run(orders: FloodOrders, parent: &mut Parent) -> Result<(), Failure> {
    let mut streams = Vec::new();
    for _ in 0..orders.applications {
        streams.push(Pipeline::open(&orders.work).await?);
    }
    parent.report(&Report::Ready { public: None, admin: None }).await?;
    while let Some(flood) = parent.next::<Flood>().await? {
        let mut tasks = JoinSet::new();
        let (count, began) = (streams.len(), Instant::now());
        for (place, stream) in streams.drain(..).enumerate() {
            tasks.spawn(Course::new(share(flood, place, count), began)?.run(stream));
        }
        let mut all = Tally::new()?;
        while let Some(ended) = tasks.join_next().await {
            let (stream, tally) =
                ended.map_err(|error| Failure::new(Exit::Failed, "a stream broke off").because(&error))??;
            streams.push(stream);
            all.add(tally)?;
        }
        parent.report(&Report::Flooded(all.measured(flood.measure))).await?;
    }
    Ok(())
}

/// The part of one stream among so many.
fn share(flood: Flood, place: usize, count: usize) -> Flood {
    let amount = match flood.amount {
        Amount::InFlight(all) => Amount::InFlight(all / count + usize::from(place < all % count)),
        #[expect(clippy::cast_precision_loss, reason = "at most some dozens")]
        Amount::PerSecond(all) => Amount::PerSecond(all / count as f64),
    };
    Flood { amount, ..flood }
}

/// One run over one stream.
struct Course {
    amount: Amount,
    began: Instant,
    measured_from: Instant,
    ends: Instant,
    waiting: HashMap<u64, Instant>,
    tally: Tally,
}

impl Course {
    fn new(flood: Flood, began: Instant) -> Result<Self, Failure> {
        let measured_from = began + flood.warm_up;
        let ends = measured_from + flood.measure;
        Ok(Self {
            amount: flood.amount,
            began,
            measured_from,
            ends,
            waiting: HashMap::new(),
            tally: Tally::new()?,
        })
    }

    async fn run(mut self, mut stream: Pipeline) -> Result<(Pipeline, Tally), Failure> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = 0;
        if let Amount::InFlight(count) = self.amount {
            self.send(&mut stream, &vec![Instant::now(); count])?;
        }
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let now = Instant::now();
                    if let Amount::PerSecond(rate) = self.amount {
                        let due = self.due(rate, sent, now.min(self.ends));
                        sent += due.len();
                        self.send(&mut stream, &due)?;
                    }
                    if now >= self.ends {
                        break;
                    }
                }
                answers = stream.answers() => {
                    let count = self.hear(answers?);
                    let now = Instant::now();
                    if matches!(self.amount, Amount::InFlight(_)) && now < self.ends {
                        self.send(&mut stream, &vec![now; count])?;
                    }
                }
            }
        }
        let until = Instant::now() + ANSWER_WITHIN;
        while !self.waiting.is_empty() {
            match timeout_at(until, stream.answers()).await {
                Ok(answers) => drop(self.hear(answers?)),
                Err(_elapsed) => break,
            }
        }
        self.tally.unanswered += self.waiting.len() as u64;
        Ok((stream, self.tally))
    }

    /// When calls were due until now of which so many were sent.
    fn due(&self, rate: f64, sent: usize, now: Instant) -> Vec<Instant> {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let at = |number: usize| self.began + Duration::from_secs_f64(number as f64 / rate);
        (sent..usize::MAX).map(at).take_while(|at| *at <= now).collect()
    }

    fn send(&mut self, stream: &mut Pipeline, due: &[Instant]) -> Result<(), Failure> {
        let first = stream.submit(due.len())?;
        for (at, call) in due.iter().zip(first..) {
            self.waiting.insert(call, *at);
            self.tally.offered_in_all += 1;
            self.tally.offered += u64::from(self.is_measured(*at));
        }
        Ok(())
    }

    fn is_measured(&self, at: Instant) -> bool {
        (self.measured_from..self.ends).contains(&at)
    }

    /// Takes answers; says how many were waited for.
    fn hear(&mut self, answers: Vec<(u64, Answered)>) -> usize {
        let now = Instant::now();
        let mut count = 0;
        for (call, answer) in answers {
            // One that nobody waits for any more belongs to an earlier run, where it counted as unanswered.
            let Some(due) = self.waiting.remove(&call) else { continue };
            count += 1;
            let took = u64::try_from(now.duration_since(due).as_micros()).unwrap_or(u64::MAX);
            let (is_due_in_time, is_in_time) = (self.is_measured(due), u64::from(self.is_measured(now)));
            let tally = &mut self.tally;
            let histogram = match answer {
                Answered::Committed => {
                    tally.committed_in_all += 1;
                    tally.committed += is_in_time;
                    &mut tally.commits_us
                }
                Answered::Shed => {
                    tally.shed_in_all += 1;
                    tally.shed += is_in_time;
                    &mut tally.sheds_us
                }
                Answered::Otherwise(error) => {
                    tally.errors += 1;
                    tally.first_error.get_or_insert(error);
                    continue;
                }
            };
            if is_due_in_time {
                histogram.saturating_record(took);
            }
        }
        count
    }
}

/// What became of the calls.
struct Tally {
    offered: u64,
    committed: u64,
    shed: u64,
    offered_in_all: u64,
    committed_in_all: u64,
    shed_in_all: u64,
    errors: u64,
    first_error: Option<String>,
    unanswered: u64,
    /// Of calls that were due in the time that is measured, however late their answers came.
    commits_us: Histogram<u64>,
    sheds_us: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        let histogram = || {
            let made = Histogram::new_with_bounds(1, LONGEST_US, 3);
            made.map_err(|error| Failure::new(Exit::Failed, "no histogram can be made").because(&error))
        };
        Ok(Self {
            offered: 0,
            committed: 0,
            shed: 0,
            offered_in_all: 0,
            committed_in_all: 0,
            shed_in_all: 0,
            errors: 0,
            first_error: None,
            unanswered: 0,
            commits_us: histogram()?,
            sheds_us: histogram()?,
        })
    }

    fn add(&mut self, other: Self) -> Result<(), Failure> {
        let failed = |error: hdrhistogram::AdditionError| {
            Failure::new(Exit::Failed, "histograms cannot be put together").because(&error)
        };
        self.offered += other.offered;
        self.committed += other.committed;
        self.shed += other.shed;
        self.offered_in_all += other.offered_in_all;
        self.committed_in_all += other.committed_in_all;
        self.shed_in_all += other.shed_in_all;
        self.errors += other.errors;
        self.unanswered += other.unanswered;
        self.first_error = self.first_error.take().or(other.first_error);
        self.commits_us.add(other.commits_us).map_err(failed)?;
        self.sheds_us.add(other.sheds_us).map_err(failed)
    }

    fn measured(self, measure: Duration) -> FloodMeasured {
        #[expect(clippy::cast_precision_loss, reason = "at most a minute of microseconds")]
        let quantile = |of: &Histogram<u64>, quantile: f64| of.value_at_quantile(quantile) as f64 / 1000.0;
        FloodMeasured {
            seconds: measure.as_secs_f64(),
            offered: self.offered,
            committed: self.committed,
            shed: self.shed,
            offered_in_all: self.offered_in_all,
            committed_in_all: self.committed_in_all,
            shed_in_all: self.shed_in_all,
            errors: self.errors,
            unanswered: self.unanswered,
            p50_ms: quantile(&self.commits_us, 0.5),
            p99_ms: quantile(&self.commits_us, 0.99),
            shed_p99_ms: quantile(&self.sheds_us, 0.99),
            first_error: self.first_error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_whole() {
        let flood = |amount| Flood { amount, warm_up: Duration::ZERO, measure: Duration::ZERO };
        let in_flight: usize = (0..4)
            .map(|place| match share(flood(Amount::InFlight(10)), place, 4).amount {
                Amount::InFlight(count) => count,
                Amount::PerSecond(_) => 0,
            })
            .sum();
        assert_eq!(in_flight, 10);
    }

    #[test]
    fn calls_are_due_by_the_clock_and_each_once() {
        let flood = Flood {
            amount: Amount::PerSecond(1000.0),
            warm_up: Duration::ZERO,
            measure: Duration::from_secs(1),
        };
        let began = Instant::now();
        let course = Course::new(flood, began).unwrap();
        let ms = Duration::from_millis;
        assert_eq!(course.due(1000.0, 0, began + ms(2)), [began, began + ms(1), began + ms(2)]);
        assert_eq!(course.due(1000.0, 3, began + ms(2)), []);
        assert_eq!(course.due(1000.0, 3, began + ms(4)), [began + ms(3), began + ms(4)]);
    }
}
