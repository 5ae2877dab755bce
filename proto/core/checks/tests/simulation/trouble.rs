//! What goes wrong in one seed, and how often: drawn per seed, so that some lose nothing and crash
//! much, and others the other way round (swarm testing; Groce and others, 2012).

/// splitmix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// True in `per_mille` of a thousand cases.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }
}

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
}

impl Trouble {
    pub(crate) fn draw(random: &mut Random) -> Self {
        // One seed in fifty has no trouble at all: there nothing may abort (AC4).
        if random.chance(20) {
            return Self::default();
        }
        let mut range = |most: u64| if random.chance(400) { 0 } else { random.next() % (most + 1) };
        let mut trouble = Self {
            lost: range(150),
            repeated: range(150),
            coordinator_crash: range(8),
            participant_crash: range(12),
            suspicion: range(4),
            answer_lost: range(200),
            log_silent: range(150),
            log_crash: range(20),
            log_outage: range(4),
            goes_back: 0,
            cut: range(40),
            instance_lost: range(6),
            refusal: range(120),
            read_only: range(100),
            hook_fails: range(200),
            retry: range(20),
            pause: range(6),
            floor: range(20),
        };
        // A log that goes back ends much of what there is to see: rarely, and then without forgetting,
        // whose order the model keeps by what the log never loses.
        if random.chance(60) {
            trouble.goes_back = 1 + random.next() % 3;
            trouble.floor = 0;
        }
        trouble
    }

    pub(crate) fn is_none(&self) -> bool {
        let Self { lost, repeated, coordinator_crash, participant_crash, suspicion, .. } = self;
        let Self { answer_lost, log_silent, log_crash, log_outage, goes_back, cut, .. } = self;
        let Self { instance_lost, refusal, read_only, hook_fails, retry, pause, floor, .. } = self;
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
        ]
        .iter()
        .all(|chance| **chance == 0)
    }
}

/// Declares the counters, so that none is forgotten when they are added up and told.
macro_rules! counts {
    ($($name:ident),* $(,)?) => {
        /// What was executed: a run that did nothing proves nothing.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Counts {
            $(pub(crate) $name: u64,)*
        }

        impl Counts {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            pub(crate) fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counts!(
    transactions,
    committed,
    aborted,
    in_quarantine,
    steps,
    messages_delivered,
    messages_lost,
    messages_repeated,
    messages_held,
    coordinator_crashes,
    participant_crashes,
    log_crashes,
    log_outages,
    goes_back,
    takeovers,
    lost_writes,
    partitions,
    instances_lost,
    pauses,
    floor_raises,
);
