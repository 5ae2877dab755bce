//! The participant's role (being written).

mod event;

pub use event::{BranchKey, Command, Event, SessionId};

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// What one participant's core is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many ended branches are remembered, to answer repeated messages and to vote no to
    /// late ones; the oldest is forgotten first.
    pub remembered_max: usize,
    /// An inquiry for one branch is repeated no sooner than this.
    pub inquiry_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { remembered_max: 100_000, inquiry_interval: Duration::from_secs(1) }
    }
}

/// The participant's role for all branches of one instance.
#[derive(Clone, Debug)]
pub struct Participant {
    commands: VecDeque<Command>,
}

impl Participant {
    /// A core that holds nothing yet.
    pub fn new(_config: Config) -> Self {
        Self { commands: VecDeque::new() }
    }

    /// Takes in one fact.
    ///
    /// # Errors
    /// [`IllegalEvent`]; the state is as before.
    pub fn handle_event(&mut self, _event: Event, _now: Timestamp) -> Result<(), IllegalEvent> {
        Ok(())
    }

    /// Acts on every deadline that is due.
    pub fn handle_timeout(&mut self, _now: Timestamp) {}

    /// The next order, until there is none.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }
}

/// An event that cannot be in the state it meets: a broken contract of the shell. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} of branch {key:?} is illegal in state {state}")]
pub struct IllegalEvent {
    /// The branch.
    pub key: BranchKey,
    /// The event's name.
    pub event: &'static str,
    /// The state's name.
    pub state: &'static str,
}
