//! What a seed stands for: the shape of the cluster, the work, and which faults come how often.
//!
//! Swarm testing (Groce and others, *Swarm Testing*, ISSTA 2012): each seed leaves out some kinds of
//! fault altogether, since some defects show only where others do not get in the way.

use std::time::Duration;

use clap::ValueEnum;

use crate::dice::Dice;

/// One seed's plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all of it was drawn from.
    pub seed: u64,
    /// Coordinators on the one log.
    pub coordinators: usize,
    /// Banks: resources with a store and a participant each.
    pub banks: usize,
    /// Whether the first bank has a second participant on the same store.
    pub twin: bool,
    /// Applications.
    pub applications: usize,
    /// Whether everybody is given the address of the first coordinator only, and must hear of the others.
    pub one_address: bool,
    /// Transfers that each application begins while there are faults, at most.
    pub transfers: u32,
    /// Transfers that one application has under way at once.
    pub at_once: usize,
    /// Longest pause of an application between two of them.
    pub pause_max: Duration,
    /// Per mille of transfers that are submitted in one request.
    pub submitted: u64,
    /// Per mille that stay in one bank: a transaction of one branch.
    pub inside_one_bank: u64,
    /// Per mille that the application aborts, or drops, although all is well.
    pub given_up: u64,
    /// Per mille of branches that refuse to prepare.
    pub refused: u64,
    /// Per mille of hooks that fail, before or after they took effect.
    pub hook_failures: u64,
    /// Longest time that one step of a hook takes.
    pub hook_time_max: Duration,
    /// Whether banks keep markers, so that a transaction of one branch needs no row in the log.
    pub markers: bool,
    /// How far one step of the simulation goes.
    pub tick: Duration,
    /// Longest time that a message takes.
    pub latency_max: Duration,
    /// Longest time that the log takes to force a write.
    pub force_max: Duration,
    /// Per mille of the log's answers that are lost.
    pub answers_lost: u64,
    /// How long there are faults.
    pub faults_for: Duration,
    /// Mean time between two faults of each kind; `None` for those that this seed has not.
    pub every: Every,
    /// What is wrong with the world on purpose: nothing, unless it is asked for.
    pub flaw: Option<Flaw>,
}

/// Broken promises of what surrounds Pactum. With each of them some seed has to fail: a check that
/// cannot fail proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flaw {
    /// The log answers a decision before it is forced.
    LogAnswersTooSoon,
    /// The log tells an owner whose commit came too late that it has won: another coordinator had closed
    /// the transaction, or had ended the owner.
    LogDeniesLosing,
    /// A bank that starts again has forgotten what it had prepared.
    BankForgetsPrepared,
    /// A bank that is told to commit once more does so.
    BankCommitsTwice,
}

/// Mean times between faults.
#[derive(Clone, Debug, Default)]
pub struct Every {
    /// The process ends; its connections are closed by its host.
    pub kill: Option<Duration>,
    /// The host falls silent, and the process ends.
    pub power_off: Option<Duration>,
    /// The process is told to stop, and started again.
    pub stop: Option<Duration>,
    /// Messages between two hosts, or one and all others, are held and delivered late.
    pub hold: Option<Duration>,
    /// They are lost, both ways or one way.
    pub cut: Option<Duration>,
    /// A host stands still as seen by everybody else: nothing reaches it or leaves it, nor the log; then
    /// it goes on, late.
    pub pause: Option<Duration>,
    /// The log ends, loses what it had not forced, and comes back.
    pub log_crash: Option<Duration>,
    /// One coordinator cannot reach the log, and the others can.
    pub log_unreachable: Option<Duration>,
}

impl Every {
    /// Whether nothing at all goes wrong.
    pub fn is_quiet(&self) -> bool {
        let Self { kill, power_off, stop, hold, cut, pause, log_crash, log_unreachable } = self;
        [kill, power_off, stop, hold, cut, pause, log_crash, log_unreachable]
            .iter()
            .all(|every| every.is_none())
    }
}

impl Plan {
    /// Draws everything from a seed.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let millis = Duration::from_millis;
        // One in sixteen has no fault: there, whatever can commit must.
        let quiet = dice.chance(60);
        let mut every = |low: u64, high: u64| {
            let (present, mean) = (dice.chance(600), dice.between(low, high));
            (present && !quiet).then(|| Duration::from_millis(mean))
        };
        let every = Every {
            kill: every(1_000, 6_000),
            power_off: every(4_000, 20_000),
            stop: every(4_000, 20_000),
            hold: every(1_500, 10_000),
            cut: every(2_000, 15_000),
            pause: every(4_000, 15_000),
            log_crash: every(2_000, 10_000),
            log_unreachable: every(3_000, 15_000),
        };
        Self {
            seed,
            coordinators: 2 + dice.place(2),
            banks: 2 + dice.place(2),
            twin: dice.chance(300),
            applications: 1 + dice.place(2),
            one_address: dice.chance(500),
            transfers: u32::try_from(dice.between(20, 100)).unwrap_or(20),
            at_once: 1 + dice.place(4),
            pause_max: millis(dice.between(20, 800)),
            submitted: dice.between(0, 600),
            inside_one_bank: dice.between(0, 300),
            given_up: if quiet { 0 } else { dice.between(0, 100) },
            refused: if quiet { 0 } else { dice.between(0, 100) },
            hook_failures: if quiet { 0 } else { dice.between(0, 100) },
            hook_time_max: millis(dice.between(1, 40)),
            markers: dice.chance(600),
            tick: *dice.pick(&[millis(2), millis(5), millis(5), millis(10)]).unwrap_or(&millis(5)),
            latency_max: millis(dice.between(2, 60)),
            force_max: millis(dice.between(5, 80)),
            answers_lost: if quiet || dice.chance(400) { 0 } else { dice.between(1, 100) },
            faults_for: millis(dice.between(6_000, 16_000)),
            every,
            flaw: None,
        }
    }

    /// Whether nothing goes wrong in this run, so that whatever can commit must.
    pub fn is_quiet(&self) -> bool {
        self.every.is_quiet() && self.answers_lost == 0 && self.hook_failures == 0 && self.refused == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_and_some_are_quiet() {
        let plans: Vec<Plan> = (0..400).map(Plan::draw).collect();
        let quiet = plans.iter().filter(|plan| plan.is_quiet()).count();
        assert!((5..60).contains(&quiet), "{quiet} of 400");
        let without_kill = plans.iter().filter(|plan| plan.every.kill.is_none()).count();
        assert!((100..300).contains(&without_kill), "{without_kill} of 400");
        assert_eq!(format!("{:?}", Plan::draw(5)), format!("{:?}", Plan::draw(5)));
    }
}
