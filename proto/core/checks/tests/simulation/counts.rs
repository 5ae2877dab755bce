//! What was executed: a run that did nothing proves nothing.

/// Declares the counters, so that none is forgotten when they are added up and told.
macro_rules! counts {
    ($($name:ident),* $(,)?) => {
        /// How often each thing was done.
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
    slow_syncs,
    goes_back,
    takeovers,
    lost_writes,
    partitions,
    instances_lost,
    pauses,
    floor_raises,
    ended_by_hand,
    overruled,
    resolves,
    cancels,
    ended_by_another_instance,
);
