//! What goes wrong in one seed, and how often: drawn per seed, so that some lose nothing and crash
//! much, and others the other way round (swarm testing; Groce and others, 2012).

use super::random::Random;

/// How much trouble a seed has, per mille of the steps of its kind; 0 for all where nothing goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) coordinator_crash: u64,
    pub(crate) participant_crash: u64,
    pub(crate) suspicion: u64,
    pub(crate) answer_lost: u64,
    pub(crate) log_silent: u64,
    pub(crate) log_crash: u64,
    pub(crate) log_outage: u64,
    pub(crate) goes_back: u64,
    pub(crate) cut: u64,
    pub(crate) instance_lost: u64,
    pub(crate) refusal: u64,
    pub(crate) read_only: u64,
    pub(crate) hook_fails: u64,
    pub(crate) retry: u64,
    pub(crate) pause: u64,
    pub(crate) floor: u64,
    /// Somebody wants to know an outcome.
    pub(crate) question: u64,
    /// An operator has a transaction decided.
    pub(crate) resolve: u64,
    /// An application aborts what it has begun, or asked to commit.
    pub(crate) cancel: u64,
    /// A person ends a prepared branch in its database.
    pub(crate) by_hand: u64,
    /// Not a chance: how long the log's disk takes to sync, in milliseconds, on average.
    pub(crate) sync_ms: u64,
}

impl Trouble {
    pub(crate) fn draw(random: &mut Random) -> Self {
        // One seed in fifty has no trouble at all: there nothing may abort (AC4).
        if random.chance(20) {
            return Self::default();
        }
        let mut range = |most: u64| if random.chance(400) { 0 } else { random.next() % (most + 1) };
        let mut trouble = Self {
            lost: range(120),
            repeated: range(150),
            coordinator_crash: range(7),
            participant_crash: range(10),
            suspicion: range(4),
            answer_lost: range(200),
            log_silent: range(150),
            log_crash: range(20),
            log_outage: range(4),
            goes_back: 0,
            cut: range(30),
            instance_lost: range(6),
            refusal: range(50),
            read_only: range(130),
            hook_fails: range(200),
            retry: range(20),
            pause: range(6),
            floor: range(40),
            question: range(40),
            resolve: range(4),
            cancel: range(4),
            by_hand: 0,
            sync_ms: 0,
        };
        // People seldom end branches by hand: what they end tells nothing about the rest any more.
        if random.chance(250) {
            trouble.by_hand = 1 + random.next() % 30;
            // What was ended by hand may be asked about when it is forgotten.
            trouble.floor += 20;
        }
        // From a disk that nobody notices to one that is slower than any deadline; whoever waits for it
        // may be taken for dead.
        if random.chance(400) {
            trouble.sync_ms = [4, 40, 400, 4_000, 16_000][random.below(5)];
            trouble.suspicion += trouble.sync_ms / 4_000;
        }
        // A log that goes back ends much of what there is to see: rarely, and then without forgetting,
        // whose order the model keeps by what the log never loses.
        if random.chance(100) {
            trouble.goes_back = 1 + random.next() % 3;
            trouble.floor = 0;
        }
        trouble
    }

    pub(crate) fn is_none(&self) -> bool {
        let Self { lost, repeated, coordinator_crash, participant_crash, suspicion, .. } = self;
        let Self { answer_lost, log_silent, log_crash, log_outage, goes_back, cut, .. } = self;
        let Self { instance_lost, refusal, read_only, hook_fails, retry, pause, floor, .. } = self;
        let Self { question, resolve, cancel, by_hand, sync_ms, .. } = self;
        [
            lost,
            repeated,
            coordinator_crash,
            participant_crash,
            suspicion,
            answer_lost,
            log_silent,
            log_crash,
            log_outage,
            goes_back,
            cut,
            instance_lost,
            refusal,
            read_only,
            hook_fails,
            retry,
            pause,
            floor,
            question,
            resolve,
            cancel,
            by_hand,
            sync_ms,
        ]
        .iter()
        .all(|chance| **chance == 0)
    }
}
