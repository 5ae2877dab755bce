//! The admission in front of a log that answers at a fixed rate, in injected time.

use std::collections::VecDeque;

use super::*;

/// One turn of the shard.
const TURN: Duration = Duration::from_millis(1);

/// The wait that is aimed at where so many are answered in a turn: of the shortest queue, if that is longer.
fn aim(answers: u32) -> Duration {
    WAIT_AIM.max(TURN * u32::try_from(SHORTEST).unwrap() / answers)
}

/// A queue in front of a log: what is admitted waits until the log has answered all before it.
struct World {
    admission: Admission,
    now: Timestamp,
    seen: Seen,
    /// Those whose participants have not voted: when they will have, when they were admitted, and how many.
    voting: VecDeque<(Timestamp, Timestamp, usize)>,
    /// Those that wait for the log: when they were admitted, and how many.
    queue: VecDeque<(Timestamp, usize)>,
    /// How long the last answered one waited.
    wait: Duration,
    /// How long participants take.
    voted_after: Duration,
    /// How many of their votes come in one turn at most.
    votes: usize,
    /// Transactions that wait for a participant that hangs.
    hanging: usize,
    /// How far away the log is.
    distance: Duration,
    shed: usize,
    admitted: usize,
    /// Callers who were shed, by when they come again.
    outside: std::collections::BTreeMap<Timestamp, usize>,
    retry_after: Duration,
}

impl World {
    fn new() -> Self {
        Self {
            admission: Admission::new(1, 8192),
            now: Timestamp::ORIGIN,
            seen: Seen::default(),
            voting: VecDeque::new(),
            queue: VecDeque::new(),
            wait: Duration::ZERO,
            voted_after: Duration::from_millis(2),
            votes: usize::MAX,
            hanging: 0,
            distance: Duration::ZERO,
            shed: 0,
            admitted: 0,
            outside: std::collections::BTreeMap::new(),
            retry_after: Duration::ZERO,
        }
    }

    fn in_flight(&self) -> usize {
        self.seen.unanswered + self.voting.iter().map(|(.., count)| count).sum::<usize>()
    }

    /// One turn: the log answers so many of those that wait, then so many new ones come.
    fn turn(&mut self, answers: usize, arrivals: usize) {
        self.now = self.now + TURN;
        let mut votes = self.votes;
        while votes > 0
            && let Some((until, at, count)) = self.voting.front_mut()
            && *until <= self.now
        {
            let part = votes.min(*count);
            votes -= part;
            *count -= part;
            self.seen.unanswered += part;
            self.queue.push_back((*at, part));
            if *count == 0 {
                self.voting.pop_front();
            }
        }
        let mut left = answers.min(self.seen.unanswered);
        self.seen.unanswered -= left;
        self.seen.answered += left as u64;
        while left > 0
            && let Some((at, count)) = self.queue.front_mut()
        {
            let part = left.min(*count);
            *count -= part;
            left -= part;
            self.wait = self.now.since(*at);
            self.seen.quickest = sooner(self.seen.quickest, Some(self.wait + self.distance));
            if *count == 0 {
                self.queue.pop_front();
            }
        }
        self.seen.voting = self.in_flight() - self.seen.unanswered + self.hanging;
        let seen = self.seen;
        self.seen.quickest = None;
        self.admission.turn(self.now, seen);
        let mut admitted = 0;
        for _ in 0..arrivals {
            if !self.admission.is_shedding() {
                admitted += 1;
                continue;
            }
            match self.admission.admit(self.now) {
                Ok(()) => admitted += 1,
                Err(retry_after) => {
                    self.shed += 1;
                    self.retry_after = retry_after;
                    *self.outside.entry(self.now + retry_after).or_default() += 1;
                }
            }
        }
        self.admitted += admitted;
        if admitted > 0 {
            self.voting.push_back((self.now + self.voted_after, self.now, admitted));
        }
    }

    /// Those whose pause is over.
    fn come_again(&mut self) -> usize {
        let later = self.outside.split_off(&(self.now + TURN + Duration::from_nanos(1)));
        std::mem::replace(&mut self.outside, later).into_values().sum()
    }

    /// Calls come by themselves, so many in each turn, on one stream, for so many turns.
    fn open_loop(&mut self, turns: usize, answers: usize, arrivals: usize) {
        for _ in 0..turns {
            // What a stream may not have in flight is not read, unless we shed.
            let in_flight = self.in_flight().saturating_sub(answers.min(self.seen.unanswered));
            let room = if self.admission.is_shedding() { usize::MAX } else { 8192 - in_flight.min(8192) };
            self.seen.held_back = room < arrivals;
            self.turn(answers, arrivals.min(room));
        }
    }

    /// An application that keeps `population` calls in flight, for so many turns.
    fn closed_loop(&mut self, turns: usize, answers: usize, population: usize) {
        for _ in 0..turns {
            self.seen.held_back = false;
            let again = self.come_again();
            let outside: usize = self.outside.values().sum();
            let arrivals = (population
                .saturating_sub(self.in_flight().saturating_sub(answers.min(self.seen.unanswered))))
            .saturating_sub(outside)
            .max(again);
            self.turn(answers, arrivals);
        }
    }
}

#[test]
fn at_twice_the_rate_the_excess_is_shed_and_the_wait_stays_where_it_is_aimed() {
    let mut world = World::new();
    // 20 000 per second are answered. First at nine tenths of it.
    world.open_loop(2000, 20, 18);
    assert_eq!(world.shed, 0);
    // Then 40 000 come: after a second the overload is known, and its burst has gone.
    world.open_loop(1500, 20, 40);
    assert!(world.admission.is_shedding());
    let (admitted, shed) = (world.admitted, world.shed);
    let mut longest = Duration::ZERO;
    for _ in 0..5000 {
        world.open_loop(1, 20, 40);
        longest = longest.max(world.wait);
        assert!(world.in_flight() > 40, "the log is kept busy");
    }
    assert!(longest < aim(20) * 3 / 2, "{longest:?}");
    let (admitted, shed) = (world.admitted - admitted, world.shed - shed);
    assert!((99_000..101_000).contains(&admitted), "as many as were answered: {admitted}");
    assert_eq!(admitted + shed, 5000 * 40);
}

#[test]
fn one_application_with_a_full_pipeline_in_flight_is_never_shed() {
    for population in [1, 256, 2048, 8192] {
        // From a log that is slow to one that is quick.
        for answers in [1, 20, 500] {
            let mut world = World::new();
            world.closed_loop(5000, answers, population);
            assert_eq!(world.shed, 0, "{population} in flight, {answers} answers in a turn");
        }
    }
}

/// Also when its workers start one after the other.
#[test]
fn an_application_that_starts_slowly_is_not_shed() {
    let mut world = World::new();
    for population in 1..=2048 {
        world.closed_loop(1, 1, population);
    }
    world.closed_loop(3000, 1, 2048);
    assert_eq!(world.shed, 0);
}

/// Many applications are each far from their limits, and what is under way grows and grows.
#[test]
fn the_excess_of_many_applications_is_shed_before_they_wait_for_long() {
    let mut world = World::new();
    for _ in 0..500 {
        world.turn(20, 40);
    }
    assert!(world.admission.is_shedding());
    let mut longest = Duration::ZERO;
    for _ in 0..5000 {
        world.turn(20, 40);
        // Whoever was admitted after half a second.
        if world.now.since(Timestamp::ORIGIN) > Duration::from_millis(500) + world.wait {
            longest = longest.max(world.wait);
        }
    }
    assert!(longest < aim(20) * 2, "{longest:?}");
}

#[test]
fn a_burst_that_the_log_works_off_is_not_shed() {
    let mut world = World::new();
    for _ in 0..5 {
        world.turn(100, 12_000);
        for _ in 0..200 {
            world.turn(100, 1);
        }
    }
    assert_eq!(world.shed, 0);
}

#[test]
fn a_log_that_answers_nothing_is_not_given_more_than_twice_what_one_application_may_have() {
    let mut world = World::new();
    world.voted_after = Duration::ZERO;
    world.turn(0, 100_000);
    // What came in one turn was admitted: the queue was empty when it began.
    world.turn(0, 1);
    assert!(world.admission.is_shedding());
    assert_eq!(world.shed, 1);

    let mut world = World::new();
    for _ in 0..10_000 {
        world.turn(0, 10);
    }
    assert!(world.in_flight() <= 2 * (8192 + 4096) + 30, "{}", world.in_flight());
}

#[test]
fn a_stream_that_is_held_back_by_a_log_that_hangs_is_told_so() {
    let mut world = World::new();
    world.turn(0, 8192);
    world.seen.held_back = true;
    for _ in 0..300 {
        world.turn(0, 0);
        if world.admission.is_shedding() {
            break;
        }
    }
    assert!(world.admission.is_shedding());
    assert_eq!(world.admission.admit(world.now), Err(RETRY_MAX), "nobody knows for how long");
}

/// What a participant that hangs holds has no decisions for the log: its stream is at its limit, while others
/// commit as ever.
#[test]
fn a_participant_that_hangs_makes_nothing_shed() {
    let mut world = World::new();
    world.hanging = 20_000;
    for _ in 0..20_000 {
        world.seen.held_back = true;
        world.turn(20, 10);
    }
    assert_eq!(world.shed, 0);
}

/// And in an overload it does not take the place of those that commit.
#[test]
fn a_participant_that_hangs_in_an_overload_costs_no_throughput() {
    let mut world = World::new();
    world.hanging = 20_000;
    world.open_loop(4000, 20, 40);
    assert!(world.admission.is_shedding());
    let answered = world.seen.answered;
    world.open_loop(10_000, 20, 40);
    assert!(world.wait < aim(20) * 3 / 2, "{:?}", world.wait);
    assert!(world.seen.answered - answered > 199_000, "{}", world.seen.answered - answered);
}

/// Also one that is slow by nature, with a stream that is at its limit all the time.
#[test]
fn a_participant_that_is_slow_makes_nothing_shed() {
    let mut world = World::new();
    world.voted_after = Duration::from_secs(2);
    world.open_loop(20_000, 20, 10);
    assert!(world.seen.held_back, "10 000 per second for 2 s are more than one stream holds");
    assert_eq!(world.shed, 0);
}

/// A real log answers nothing for a while, and then a batch.
#[test]
fn a_log_that_answers_in_batches_is_kept_busy() {
    let mut world = World::new();
    let mut longest = Duration::ZERO;
    let mut answered = 0;
    for turn in 0..10_000 {
        let answers = if turn % 25 == 0 { 500 } else { 0 };
        world.turn(answers, 40);
        if turn == 2000 {
            (answered, longest) = (world.seen.answered, Duration::ZERO);
        }
        longest = longest.max(world.wait);
    }
    assert!(world.admission.is_shedding());
    assert!(longest < aim(20) * 2, "{longest:?}");
    assert!(world.seen.answered - answered > 8000 * 20 * 97 / 100, "{}", world.seen.answered - answered);
}

/// Participants that are asked for more than they can do are an overload too: theirs is the queue.
#[test]
fn what_participants_can_not_do_is_shed() {
    let mut world = World::new();
    world.votes = 10;
    world.open_loop(2000, 20, 9);
    assert_eq!(world.shed, 0);
    world.open_loop(6000, 20, 20);
    let answered = world.seen.answered;
    for _ in 0..20_000 {
        world.open_loop(1, 20, 20);
        assert!(world.admission.is_shedding());
        assert!(world.wait < aim(10) * 3, "{:?}", world.wait);
    }
    assert!(world.seen.answered - answered > 199_000, "and they are kept busy");
}

/// What has become slow is taken for overload at first, since nobody can tell; then for what it is.
#[test]
fn a_participant_that_becomes_slow_costs_a_moment_and_not_the_throughput() {
    let mut world = World::new();
    world.open_loop(3000, 20, 18);
    world.voted_after = Duration::from_millis(700);
    world.open_loop(10_000, 20, 18);
    let (shed, answered) = (world.shed, world.seen.answered);
    world.open_loop(10_000, 20, 18);
    assert!(world.seen.held_back, "12 600 are more than one stream holds");
    assert_eq!(world.shed, shed);
    assert!(world.seen.answered - answered > 8192 * 10 * 9 / 7, "nine tenths of what fits into the stream");
}

/// What repeats itself because all are slow would make them slower still: in an overload, and as soon as its queue
/// stands.
#[test]
fn a_queue_that_is_longer_than_it_need_be_is_known_at_once() {
    let mut world = World::new();
    world.open_loop(2000, 20, 18);
    assert!(!world.admission.is_behind());
    world.turn(20, SHORTEST + 60);
    world.open_loop(3, 20, 0);
    assert!(world.admission.is_behind() && !world.admission.is_shedding());
    world.open_loop(100, 20, 10);
    assert!(!world.admission.is_behind(), "it has been worked off");
    world.open_loop(1500, 20, 40);
    assert!(world.admission.is_behind() && world.admission.is_shedding());
}

#[test]
fn after_the_overload_everything_is_taken_again() {
    let mut world = World::new();
    world.open_loop(2000, 20, 60);
    assert!(world.admission.is_shedding());
    world.open_loop(3000, 20, 10);
    assert!(!world.admission.is_shedding());
    let shed = world.shed;
    world.open_loop(3000, 20, 18);
    assert_eq!(world.shed, shed);
}

/// What an overload leaves behind may be one application with a full pipeline. It is not shed for ever.
#[test]
fn a_closed_loop_after_an_overload_is_taken_whole() {
    let mut world = World::new();
    world.open_loop(2000, 20, 60);
    assert!(world.admission.is_shedding());
    world.outside.clear();
    world.closed_loop(20_000, 20, 8000);
    assert!(!world.admission.is_shedding());
    let (shed, answered) = (world.shed, world.seen.answered);
    world.closed_loop(5000, 20, 8000);
    assert_eq!(world.shed, shed);
    assert_eq!(world.seen.answered - answered, 5000 * 20, "at the full rate");
}

/// An overload that goes on is not forgotten between its rounds, however little it is above the rate.
#[test]
fn an_overload_by_a_fifth_is_shed_as_long_as_it_lasts() {
    let mut world = World::new();
    world.open_loop(2000, 20, 18);
    world.open_loop(4000, 20, 24);
    for _ in 0..20_000 {
        world.open_loop(1, 20, 24);
        assert!(world.admission.is_shedding());
        assert!(world.wait < aim(20) * 3 / 2, "{:?}", world.wait);
    }
}

#[test]
fn the_pause_grows_with_the_overload_and_is_bounded() {
    let mut world = World::new();
    world.open_loop(1000, 20, 60);
    let early = world.retry_after;
    assert!(early >= RETRY_MIN && early < Duration::from_secs(1), "{early:?}");
    world.open_loop(3000, 20, 60);
    assert!(world.retry_after > early);
    world.open_loop(10_000, 20, 60);
    assert_eq!(world.retry_after, RETRY_MAX);
}

/// A distant log answers each batch after 100 ms, all that was handed over: what is admitted in an
/// overload keeps it as busy as it can be.
#[test]
fn a_distant_log_is_kept_busy() {
    let mut world = World::new();
    world.distance = Duration::from_millis(100);
    world.open_loop(3000, 20, 10);
    world.open_loop(3000, 20, 60);
    assert!(world.admission.is_shedding());
    // 20 000 per second at 100 ms are 2 000 under way.
    assert!(world.admission.aim.queue > 4000.0, "{}", world.admission.aim.queue);
}

#[test]
fn a_shard_of_many_has_its_share() {
    let admission = Admission::new(8, 8192);
    assert_eq!((admission.high, admission.ordinary, admission.low), (1536, 1024, 64));
    let larger = Admission::new(1, 32_768);
    assert_eq!(larger.high, 49_152);
}
