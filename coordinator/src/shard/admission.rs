//! Whether a new transaction is taken in, or shed because it would only wait behind others.
//!
//! A queue that absorbs a burst is good; one that *stands* only adds its length to everybody's wait,
//! and no throughput (Nichols and Jacobson, *Controlling Queue Delay*, ACM Queue 10(5), 2012). What
//! tells the two apart is the least that was seen over an interval. Two things are looked at:
//!
//! * **the queues of our own**: decisions handed to the log and not answered, and calls and other inputs that
//!   the shard has not taken;
//! * **the quickest commit**, for queues elsewhere that all transactions share: processors, the network,
//!   participants that are asked for more than they can do. A participant that hangs, is gone or is slow
//!   by itself is none: those that do not touch it commit as quickly as before.
//!
//! ```text
//!  Open ── the queue stands, and more is asked for than one application has in flight ──▶ Shedding
//!    ▲                                                                                      │
//!    └── nothing stands and nothing was shed for a second, or no more than that is kept out ◀┘
//! ```
//!
//! **When.** A standing queue alone proves nothing: an application that keeps 8 192 in flight makes one
//! that is just that long, gets the full throughput, and would gain nothing by being shed. So there must be
//! demand behind it: what is under way grows and grows, or a stream is at its limit of calls in flight and
//! wants more, or the queue is longer than one such stream can make.
//!
//! **How many.** While shedding, a new transaction enters when an old one is decided (conservation, as in
//! Jacobson, *Congestion Avoidance and Control*, SIGCOMM 1988, section 1), and what is too much or too
//! little under way is made good over [`SETTLE`]. How many should be under way is the rate at which the log
//! answers times the wait that is aimed at (Little's law): [`WAIT_AIM`], or three times what the quickest commit
//! took while there was no overload, so that a distant log is kept as busy as a near one. How many are
//! is counted, less those that the quickest commit does not explain: these wait for something of their own.
//! All of it is measured as it goes, so there is nothing to tune.
//!
//! **What it does not see.** One participant that is asked for too much, while transactions without it are
//! quick, makes nothing shed: its transactions wait for it, up to their deadlines.
//!
//! It is fed with times and counts once for each turn of its shard, and has no clock; a transaction that is
//! admitted while there is no overload costs one comparison. It does not know what a transaction is.

use std::time::Duration;

use pactum_core::time::Timestamp;

/// Over which the least queue is taken: several writes of the log, several answers of participants.
/// As in `CoDel`, where it stands for the longest round trip that is common.
const INTERVAL: Duration = Duration::from_millis(100);

/// The wait in our queues that shedding leads to, if commits are usually much quicker: long enough for
/// batches at which the log is at its best, and no longer. What it adds, everybody waits: a machine that commits
/// its most with a thousand in flight does so in about this time.
const WAIT_AIM: Duration = Duration::from_millis(15);

/// The same as a multiple of what the quickest commit took of late, without overload.
const WAIT_FACTOR: u32 = 3;

/// For how long that is remembered: once to twice this.
const MEMORY: Duration = Duration::from_secs(5);

/// Over which a queue that is too short is made good. Several times the delay between an admission and
/// its arrival in the log's queue, or the two would swing.
const SETTLE: Duration = Duration::from_millis(200);

/// The same for one that is too long: as soon as may be, for whoever enters meanwhile waits for all of it.
const SETTLE_LONG: Duration = Duration::from_millis(50);

/// Calls that one application may well have in flight, all shards together: a full pipeline of the default size.
const ONE_APPLICATION: usize = 8192;

/// So many under way, all shards together, that grow and grow are more than an application's start.
const GROWING: usize = 3072;

/// For so many intervals in turn, each by a fifth of what was decided, or more.
const GROWN_IN_TURN: u8 = 2;

/// The shortest queue that shedding leads to, all shards together: what the log's writer takes in two
/// batches of a size at which it is not far from its best.
const SHORTEST: usize = 512;

/// How many inputs one transaction of two branches is for its shard, beside its call: votes and ends. Fewer would
/// take a queue of votes for more transactions than there are.
const INPUTS_PER_TRANSACTION: usize = 4;

/// Nothing was shed for so long: the overload is over.
const CALM: Duration = Duration::from_secs(1);

/// A caller who was shed is told to wait at least and at most so long. The most is also the round in
/// which each of those who are kept out is counted about once.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The share of the newest interval in the rate.
const NEWEST: f64 = 0.3;

/// What a shard sees of its queues at one turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Inputs of transactions that are open, which came and have not been taken in before this turn.
    pub(super) inputs: usize,
    /// Calls likewise. None while new transactions are shed: then each is answered in the turn in which it is seen.
    pub(super) calls: usize,
    /// Transactions whose votes are awaited.
    pub(super) voting: usize,
    /// Decisions handed to the log and not answered.
    pub(super) unanswered: usize,
    /// Answers of the log so far.
    pub(super) answered: u64,
    /// The quickest commit since the last turn: from its first Prepare until it was known durable.
    pub(super) quickest: Option<Duration>,
    /// A stream wants more calls in flight than it may have.
    pub(super) held_back: bool,
}

/// The admission of one shard.
#[derive(Debug)]
pub(crate) struct Admission {
    /// A longer queue than one application makes, in this shard.
    high: usize,
    /// See [`SHORTEST`], of this shard.
    low: usize,
    /// See [`ONE_APPLICATION`], of this shard.
    ordinary: usize,
    /// See [`GROWING`], of this shard.
    growing: usize,
    /// The last turn, and the answers and the queue then.
    turned: Timestamp,
    answered: u64,
    backlog: usize,
    interval: Interval,
    /// Decisions per second, smoothed.
    rate: f64,
    best: Best,
    aim: Aim,
    growth: Growth,
    shedding: Option<Shedding>,
}

/// What is gathered until an interval is over.
#[derive(Debug)]
struct Interval {
    began: Timestamp,
    /// Of the queue, and of all under way.
    least: usize,
    least_under_way: usize,
    answered: u64,
    quickest: Option<Duration>,
    held_back: bool,
}

/// What the last interval has led to.
#[derive(Clone, Copy, Debug)]
struct Aim {
    /// How long the queue should be.
    queue: f64,
    /// How many were under way, from the first Prepare to the decision, as the quickest commit says:
    /// without those that wait for a participant that hangs.
    under_way: f64,
    /// How long the queue was, as a wait.
    wait: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Shedding {
    since: Timestamp,
    /// Transactions that may enter now; below zero, so many must leave first.
    credit: f64,
    /// When the last one was shed.
    last: Timestamp,
    round: Timestamp,
    shed_in_round: usize,
}

impl Interval {
    fn new(began: Timestamp) -> Self {
        Self {
            began,
            least: usize::MAX,
            least_under_way: usize::MAX,
            answered: 0,
            quickest: None,
            held_back: false,
        }
    }
}

impl Admission {
    /// Of one of so many shards, where a stream may have so many calls in flight.
    pub(crate) fn new(shards: usize, pipeline_in_flight_max: usize) -> Self {
        let ordinary = ONE_APPLICATION.max(pipeline_in_flight_max.min(usize::MAX / 2));
        // A gid's shard is random: a half more leaves room for an uneven share, and for two shards' worth of chance.
        let share = |all: usize, least: usize| all.div_ceil(shards.max(1)).max(least);
        Self {
            high: share(ordinary + ordinary / 2, 64),
            low: share(SHORTEST, 16),
            ordinary: share(ordinary, 32),
            growing: share(GROWING, 24),
            growth: Growth::default(),
            turned: Timestamp::ORIGIN,
            answered: 0,
            backlog: 0,
            interval: Interval::new(Timestamp::ORIGIN),
            rate: 0.0,
            best: Best::default(),
            aim: Aim { queue: 0.0, under_way: 0.0, wait: Duration::ZERO },
            shedding: None,
        }
    }

    /// Whether some new transactions are shed.
    pub(super) fn is_shedding(&self) -> bool {
        self.shedding.is_some()
    }

    /// Whether our queues are longer than they need be: what is not answered yet most likely waits in one.
    pub(super) fn is_behind(&self) -> bool {
        self.is_shedding() || self.backlog > self.low
    }

    /// How long the queue is, in transactions.
    pub(super) fn backlog(&self) -> usize {
        self.backlog
    }

    /// When to come again even if nothing happens: a queue that nobody serves is one that stands.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        self.is_behind().then(|| self.interval.began + INTERVAL)
    }

    /// Takes in how things are, before anything is admitted in this turn.
    pub(super) fn turn(&mut self, now: Timestamp, seen: Seen) {
        let backlog = seen.unanswered + seen.calls + seen.inputs / INPUTS_PER_TRANSACTION;
        let answered = seen.answered.saturating_sub(self.answered);
        let interval = &mut self.interval;
        interval.least = interval.least.min(backlog);
        interval.least_under_way = interval.least_under_way.min(backlog + seen.voting);
        interval.answered += answered;
        interval.quickest = sooner(interval.quickest, seen.quickest);
        interval.held_back |= seen.held_back;
        if let Some(shedding) = &mut self.shedding {
            let turn = now.since(self.turned).min(INTERVAL).as_secs_f64();
            let under_way = real(backlog + seen.voting).min(self.aim.under_way);
            let too_few = self.aim.queue - real(backlog).max(under_way);
            let settle = if too_few < 0.0 { SETTLE_LONG } else { SETTLE };
            let credit = shedding.credit + real_u64(answered) + too_few * turn / settle.as_secs_f64();
            // A log answers in batches, as large as the queue at most. More at once would be a burst of our
            // own making, less a debt from long ago.
            shedding.credit = credit.clamp(-self.aim.queue, self.aim.queue);
        } else if backlog > self.high.saturating_mul(2) {
            self.shed_from(now);
        }
        self.turned = now;
        self.answered = seen.answered;
        self.backlog = backlog;
        if now.since(self.interval.began) >= INTERVAL {
            self.judge(now);
        }
    }

    /// Whether one more is admitted now; else after how long to ask again. Only while
    /// [shedding](Self::is_shedding) is there anything to ask.
    ///
    /// # Errors
    /// Not admitted: the pause before its next attempt.
    pub(super) fn admit(&mut self, now: Timestamp) -> Result<(), Duration> {
        let Some(shedding) = &mut self.shedding else { return Ok(()) };
        if shedding.credit >= 1.0 {
            shedding.credit -= 1.0;
            return Ok(());
        }
        shedding.last = now;
        shedding.shed_in_round += 1;
        // What has lasted for so long will last as long again, and there are the more who wait outside.
        let lasted = now.since(shedding.since);
        Err(self.aim.wait.max(lasted).clamp(RETRY_MIN, RETRY_MAX))
    }

    /// An interval is over: what it says of the queue.
    fn judge(&mut self, now: Timestamp) {
        let over = std::mem::replace(&mut self.interval, Interval::new(now));
        let elapsed = now.since(over.began).as_secs_f64();
        let rate = real_u64(over.answered) / elapsed;
        self.rate = if self.rate > 0.0 { self.rate + (rate - self.rate) * NEWEST } else { rate };
        let wait_aim = |best: &Best| best.time().map_or(WAIT_AIM, |best| (best * WAIT_FACTOR).max(WAIT_AIM));
        if self.shedding.is_none() {
            self.best.saw(over.quickest, now);
        }
        let mut aimed_at = wait_aim(&self.best);
        self.aim.queue = (self.rate * aimed_at.as_secs_f64()).clamp(real(self.low), real(self.high));
        let stands_here = real(over.least) > self.aim.queue;
        self.aim.wait = wait(over.least, self.rate).max(over.quickest.unwrap_or_default());
        self.aim.under_way = over.quickest.map_or(0.0, |quickest| self.rate * quickest.as_secs_f64());
        if let (Some(quickest), Some(shedding), false) = (over.quickest, self.shedding, stands_here)
            && self.aim.under_way > self.aim.queue * 2.0
            && now.since(shedding.since) > quickest * 2 + CALM
        {
            // Whatever commits now was admitted while few were, and they are slow all the same: a participant, or
            // what it works with, has become so by itself.
            self.best.is_now(quickest, now);
            aimed_at = wait_aim(&self.best);
        }
        let stands = stands_here || over.quickest.is_some_and(|quickest| quickest > aimed_at);
        match &mut self.shedding {
            None => {
                let grows = self.growth.of(&over) && over.least_under_way > self.growing;
                if over.least > self.high || (stands && (over.held_back || grows)) {
                    self.shed_from(now);
                }
            }
            Some(shedding) => {
                let round_is_over = now.since(shedding.round) >= RETRY_MAX;
                // Each of those outside comes about once in a round. No more than one application may
                // have in flight: then they make a queue that is just so long, and no overload.
                let outside = shedding.shed_in_round;
                let is_ordinary = over.answered > 0 && outside + over.least <= self.ordinary;
                let is_calm = !stands && now.since(shedding.last) >= CALM;
                if is_calm || (round_is_over && is_ordinary) {
                    self.shedding = None;
                } else if round_is_over {
                    (shedding.round, shedding.shed_in_round) = (now, 0);
                }
            }
        }
    }

    fn shed_from(&mut self, now: Timestamp) {
        self.shedding = Some(Shedding { since: now, credit: 0.0, last: now, round: now, shed_in_round: 0 });
    }
}

/// Whether there is more and more under way: what an application does not do that waits for its answers.
#[derive(Debug, Default)]
struct Growth {
    before: usize,
    in_turn: u8,
}

impl Growth {
    /// Takes in an interval; answers whether it is so.
    fn of(&mut self, over: &Interval) -> bool {
        let more = over.least_under_way.saturating_sub(self.before);
        let is_growth = more > 0 && real(more) > real_u64(over.answered) / 5.0;
        self.in_turn = if is_growth { self.in_turn.saturating_add(1) } else { 0 };
        self.before = over.least_under_way;
        self.in_turn >= GROWN_IN_TURN
    }
}

/// The quickest commit of late, without overload: in an overload all are slow, and the longer it lasted
/// the longer a wait would be aimed at.
#[derive(Debug, Default)]
struct Best {
    now: Option<Duration>,
    before: Option<Duration>,
    began: Timestamp,
}

impl Best {
    fn saw(&mut self, quickest: Option<Duration>, now: Timestamp) {
        if now.since(self.began) >= MEMORY {
            (self.before, self.now, self.began) = (self.now, None, now);
        }
        self.now = sooner(self.now, quickest);
    }

    /// Nothing is as quick any more as it was.
    fn is_now(&mut self, quickest: Duration, now: Timestamp) {
        *self = Self { now: Some(quickest), before: None, began: now };
    }

    fn time(&self) -> Option<Duration> {
        sooner(self.now, self.before)
    }
}

fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

/// How long so many wait at this rate.
fn wait(queue: usize, rate: f64) -> Duration {
    if queue == 0 {
        Duration::ZERO
    } else {
        Duration::try_from_secs_f64(real(queue) / rate).unwrap_or(RETRY_MAX)
    }
}

/// A queue's length as a number to calculate with. Beyond what fits, all are equally too long.
fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn real_u64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
