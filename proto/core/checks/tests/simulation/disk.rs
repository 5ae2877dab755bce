//! The log's trouble: a slow disk, lost answers, crashes, outages, a past that is lost; and who looks
//! after it.

use std::time::Duration;

use pactum_core_checked::coordinator::Event;

use pactum_core_checked::time::Timestamp;

use super::seed::Simulation;
use super::world::{self, TIMEOUT};

/// The log's disk: one sync at a time, of everything that was written when it began.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// While the log cannot be reached, until then.
    pub(crate) away: Option<Timestamp>,
    /// A sync that is under way: when it ends, and of how many writes it is.
    sync: Option<(Timestamp, usize)>,
    /// How many writes, from the oldest, are synced and not answered yet.
    synced: usize,
}

impl Simulation {
    pub(crate) fn log(&mut self) {
        self.log_trouble();
        if self.disk.away.is_some() {
            return;
        }
        let count = self.synced();
        if count == 0 {
            return;
        }
        let index = self.random.below(count);
        let waited_for = self.world.log.writes[index].run.is_some();
        if waited_for && self.random.chance(self.trouble.log_silent) {
            self.counts.lost_writes += 1;
            self.say(|| "log is silent".into());
            self.world.log_silent(index, self.now);
        } else {
            let answered = !self.random.chance(self.trouble.answer_lost);
            self.counts.lost_writes += u64::from(!answered && waited_for);
            self.disk.synced = self.disk.synced.saturating_sub(1);
            self.say(|| format!("log applies (answered {answered})"));
            self.world.log_applies(index, answered, self.now);
        }
    }

    /// How many writes, from the oldest, may be carried out now.
    fn synced(&mut self) -> usize {
        let written = self.world.log.writes.len();
        if self.trouble.sync_ms == 0 {
            return written;
        }
        if self.disk.synced > 0 {
            return self.disk.synced;
        }
        match self.disk.sync {
            None if written > 0 => {
                let takes = Duration::from_millis(1 + self.random.next() % (2 * self.trouble.sync_ms));
                self.counts.slow_syncs += u64::from(takes > TIMEOUT);
                self.say(|| format!("a sync of {written} writes begins, {takes:?}"));
                self.disk.sync = Some((self.now + takes, written));
            }
            Some((ends, of)) if ends <= self.now => {
                self.disk.sync = None;
                self.disk.synced = of;
            }
            // Now and then it is all that happens.
            Some((ends, _)) if self.random.chance(150) => self.now = ends,
            None | Some(_) => {}
        }
        self.disk.synced
    }

    /// The log's own server has trouble.
    fn log_trouble(&mut self) {
        if self.random.chance(self.trouble.log_crash * 10) && !self.world.log.writes.is_empty() {
            // It had synced some of what was handed to it; of the rest nothing is left. Nobody
            // is told which.
            let synced = self.random.below(self.world.log.writes.len() + 1);
            self.counts.log_crashes += 1;
            self.say(|| format!("log crashes, {synced} writes were synced"));
            (self.disk.sync, self.disk.synced) = (None, 0);
            for _ in 0..synced {
                self.counts.lost_writes += u64::from(self.world.log.writes[0].run.is_some());
                self.world.log_applies(0, false, self.now);
            }
            while let Some(write) = self.world.log.writes.first() {
                if write.run.is_some() {
                    self.counts.lost_writes += 1;
                    self.world.log_silent(0, self.now);
                    // Its orphan went to the end of the queue, or stands here; either way it is gone.
                }
                self.world.log.writes.retain(|write| write.run.is_some());
            }
        }
        match self.disk.away {
            None if self.random.chance(self.trouble.log_outage * 10) => {
                self.counts.log_outages += 1;
                self.disk.away = Some(self.now + Duration::from_secs(1 + self.random.next() % 180));
                self.say(|| "log is away".into());
                self.tell_log_available(false);
            }
            Some(until) if until <= self.now => self.log_back(),
            Some(_) if self.random.chance(100) => {
                self.now = self.now + Duration::from_secs(self.random.next() % 60);
            }
            None | Some(_) => {}
        }
        if self.random.chance(self.trouble.goes_back * 10) {
            self.counts.goes_back += 1;
            self.say(|| "log goes back in time".into());
            let kept = [0, 500, 900][self.random.below(3)];
            let random = &mut self.random;
            self.world.log.go_back_keeping(|_| random.chance(kept));
            self.world.log.adopt();
        }
    }

    pub(crate) fn log_back(&mut self) {
        if self.disk.away.take().is_some() {
            self.say(|| "log is back".into());
            self.tell_log_available(true);
        }
    }

    fn tell_log_available(&mut self, available: bool) {
        for place in 0..self.world.coordinators.len() {
            self.world.tell_coordinator(place, Event::LogAvailabilityChanged { available }, self.now);
        }
    }

    /// A person takes out of doubt what he has found whole.
    fn release(&mut self) {
        let log = &self.world.log;
        let dead = log.doubted.iter().filter(|doubted| !log.live.contains(doubted));
        let whole: Vec<_> = dead.filter(|doubted| log.may_release(**doubted)).copied().collect();
        for released in whole {
            self.world.release(released);
        }
    }

    /// Coordinators vouch for their incarnations, a person releases what was not lost, and the floor
    /// passes what is finished.
    pub(crate) fn keep_log(&mut self) {
        if !self.world.log.doubted.is_empty() {
            for place in 0..self.world.coordinators.len() {
                let node = &self.world.coordinators[place];
                let own = world::incarnation(node.run);
                if node.core.is_some() && !node.paused && self.world.log.doubted.contains(&own) {
                    self.world.vouch(place, self.now);
                    self.world.read_live(place, self.now);
                }
            }
            // A person takes his time, as long as there is trouble.
            if self.trouble.goes_back == 0 || self.random.chance(200) {
                self.release();
            }
        }
        if self.random.chance(self.trouble.floor * 10) && !self.world.transactions.is_empty() {
            let oldest = self.random.below(self.world.transactions.len().div_ceil(2));
            let settled = self.world.transactions[..=oldest]
                .iter()
                .all(|transaction| !transaction.told.is_empty() && !self.is_open(&transaction.id));
            if settled && self.world.log.may_forget(world::gid(oldest)) {
                self.counts.floor_raises += 1;
                self.say(|| format!("the floor passes transaction {oldest}"));
                let told = self.random.chance(500);
                self.world.raise_floor(world::gid(oldest), told, self.now);
            }
        }
    }
}
