//! Conditions on a list of transactions, as an operator writes them:
//! `state=committing in-doubt=true age>5m age<1h name=transfer resource=bank-a label.app=pay
//! heuristic=mixed`, with spaces between; a value with spaces stands in double quotes. All must hold.

use std::time::Duration;

use pactum_core::coordinator::Phase;
use pactum_core::outcome::HeuristicOutcome;
use pactum_proto::v1::TransactionState;

use super::find::Found;
use super::show;
use crate::error::ServiceError;
use crate::shard::Phases;

/// Longest filter, in bytes.
const BYTES_MAX: usize = 512;

/// What is told to whoever used a key that there is not.
const KEYS: &str = "state, in-doubt, age, name, resource, label.KEY, heuristic";

/// The states that a list may be narrowed to, by the names that operators see.
const STATES: [(&str, TransactionState); 8] = [
    ("active", TransactionState::Active),
    ("preparing", TransactionState::Preparing),
    ("deciding", TransactionState::Deciding),
    ("committing", TransactionState::Committing),
    ("aborting", TransactionState::Aborting),
    ("committed", TransactionState::Committed),
    ("aborted", TransactionState::Aborted),
    ("undecided", TransactionState::Undecided),
];

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    State(TransactionState),
    InDoubt(bool),
    AgeAbove(Duration),
    AgeBelow(Duration),
    Name(String),
    Resource(String),
    Label { key: String, value: String },
    Heuristic(Heuristic),
}

/// Which heuristic outcome is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heuristic {
    None,
    Any,
    Exactly(HeuristicOutcome),
}

/// Conditions all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions(Vec<Condition>);

impl Conditions {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`ServiceError::Malformed`] that names the key and what is known.
    pub(super) fn parse(filter: &str) -> Result<Self, ServiceError> {
        if filter.len() > BYTES_MAX {
            return Err(malformed(format!("at most {BYTES_MAX} bytes are taken")));
        }
        let mut conditions = Vec::new();
        let mut rest = filter.trim_start();
        while !rest.is_empty() {
            let (condition, after) = Self::next(rest)?;
            conditions.push(condition);
            rest = after.trim_start();
        }
        Ok(Self(conditions))
    }

    /// Reads the first condition, and returns what follows it.
    fn next(text: &str) -> Result<(Condition, &str), ServiceError> {
        let end = text.find(|c: char| matches!(c, '=' | '<' | '>') || c.is_whitespace());
        let (key, rest) = text.split_at(end.unwrap_or(text.len()));
        let Some(operator @ ('=' | '<' | '>')) = rest.chars().next() else {
            let shown: String = key.chars().take(64).collect();
            return Err(malformed(format!(
                "{shown:?} is no condition: KEY=VALUE is needed; keys are {KEYS}"
            )));
        };
        let (value, after) = value(key, &rest[1..])?;
        Ok((condition(key, operator, value)?, after))
    }

    /// Adds that the state must be this one.
    pub(super) fn and_state(&mut self, state: TransactionState) {
        self.0.push(Condition::State(state));
    }

    /// Adds that a branch may be in doubt.
    pub(super) fn and_in_doubt(&mut self) {
        self.0.push(Condition::InDoubt(true));
    }

    /// Adds an age that it must have reached.
    pub(super) fn and_older_than(&mut self, age: Duration) {
        self.0.push(Condition::AgeAbove(age));
    }

    /// Whether anything is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether only finished transactions could be meant, or those among others: then they are listed.
    pub(super) fn want_finished(&self) -> bool {
        self.0.iter().any(|condition| match condition {
            Condition::State(TransactionState::Committed | TransactionState::Aborted)
            | Condition::Heuristic(Heuristic::Any | Heuristic::Exactly(_)) => true,
            Condition::State(_)
            | Condition::InDoubt(_)
            | Condition::AgeAbove(_)
            | Condition::AgeBelow(_)
            | Condition::Name(_)
            | Condition::Resource(_)
            | Condition::Label { .. }
            | Condition::Heuristic(Heuristic::None) => false,
        })
    }

    /// Phases that an open transaction must be in for its state to be wanted; the rest is for
    /// [`hold`](Self::hold) to say.
    pub(super) fn phases(&self) -> Phases {
        let mut phases = Phases::Any;
        for condition in &self.0 {
            match condition {
                Condition::State(state) => return phase(*state).map_or(Phases::None, Phases::One),
                Condition::InDoubt(true) => phases = Phases::InDoubt,
                Condition::InDoubt(false)
                | Condition::AgeAbove(_)
                | Condition::AgeBelow(_)
                | Condition::Name(_)
                | Condition::Resource(_)
                | Condition::Label { .. }
                | Condition::Heuristic(_) => {}
            }
        }
        phases
    }

    /// Whether all hold of a transaction.
    pub(super) fn hold(&self, found: &Found) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::State(wanted) => show::state(found) == *wanted,
            Condition::InDoubt(wanted) => show::is_in_doubt(found) == *wanted,
            Condition::AgeAbove(age) => show::age(found) >= *age,
            Condition::AgeBelow(age) => show::age(found) < *age,
            Condition::Name(name) => found.details().is_some_and(|details| *details.name == **name),
            Condition::Resource(resource) => {
                found.branches().any(|branch| branch.resource.as_str() == resource)
            }
            Condition::Label { key, value } => {
                let label = found.details().and_then(|details| details.labels.get(key.as_str()));
                label.is_some_and(|label| **label == **value)
            }
            Condition::Heuristic(wanted) => match (wanted, show::heuristic(found)) {
                (Heuristic::None, outcome) => outcome.is_none(),
                (Heuristic::Any, outcome) => outcome.is_some(),
                (Heuristic::Exactly(wanted), outcome) => outcome == Some(*wanted),
            },
        })
    }
}

fn malformed(problem: impl Into<String>) -> ServiceError {
    ServiceError::malformed("filter", problem)
}

/// Reads a value, quoted or not, and returns what follows it.
fn value<'a>(key: &str, text: &'a str) -> Result<(String, &'a str), ServiceError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        if value.is_empty() {
            return Err(malformed(format!("{key} has no value")));
        }
        if value.contains('"') {
            return Err(malformed(format!("the value of {key} has a quote within: put all of it in quotes")));
        }
        return Ok((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let after = &quoted[at + 1..];
                if after.starts_with(|c: char| !c.is_whitespace()) {
                    return Err(malformed(format!("a space is needed after the quoted value of {key}")));
                }
                return Ok((value, after));
            }
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                Some(_) | None => {
                    return Err(malformed(format!("the value of {key}: \\ stands before \" or \\ only")));
                }
            },
            c => value.push(c),
        }
    }
    Err(malformed(format!("the quotes of {key} are not closed")))
}

/// What a key and its value mean.
fn condition(key: &str, operator: char, value: String) -> Result<Condition, ServiceError> {
    let shown: String = key.chars().take(64).collect();
    if key == "age" {
        let age = humantime::parse_duration(&value).map_err(|_malformed| {
            malformed(format!("age: {value:?} is no length of time such as 90s or 5m"))
        })?;
        return match operator {
            '>' => Ok(Condition::AgeAbove(age)),
            '<' => Ok(Condition::AgeBelow(age)),
            _ => Err(malformed("age: age>TIME or age<TIME is needed")),
        };
    }
    let condition = match key {
        "state" => {
            let named = STATES.iter().find(|(name, _)| value.eq_ignore_ascii_case(name));
            let known = STATES.map(|(name, _)| name).join(", ");
            let (_, state) =
                named.ok_or_else(|| malformed(format!("state: {value:?} is none of {known}")))?;
            Condition::State(*state)
        }
        "in-doubt" => match value.as_str() {
            "true" => Condition::InDoubt(true),
            "false" => Condition::InDoubt(false),
            _ => return Err(malformed(format!("in-doubt: {value:?} is neither true nor false"))),
        },
        "name" => Condition::Name(value),
        "resource" => Condition::Resource(value),
        "heuristic" => Condition::Heuristic(match value.as_str() {
            "none" => Heuristic::None,
            "any" => Heuristic::Any,
            "committed" => Heuristic::Exactly(HeuristicOutcome::Committed),
            "aborted" => Heuristic::Exactly(HeuristicOutcome::Aborted),
            "mixed" => Heuristic::Exactly(HeuristicOutcome::Mixed),
            "hazard" => Heuristic::Exactly(HeuristicOutcome::Hazard),
            _ => {
                let known = "none, any, committed, aborted, mixed, hazard";
                return Err(malformed(format!("heuristic: {value:?} is none of {known}")));
            }
        }),
        label => match label.strip_prefix("label.").filter(|key| !key.is_empty()) {
            Some(key) => Condition::Label { key: key.to_owned(), value },
            None => return Err(malformed(format!("the key {shown:?} is unknown; keys are {KEYS}"))),
        },
    };
    if operator == '=' {
        Ok(condition)
    } else {
        Err(malformed(format!("{shown}: only {shown}=VALUE can be asked for")))
    }
}

/// The phase of open transactions that are shown in a state.
fn phase(state: TransactionState) -> Option<Phase> {
    match state {
        TransactionState::Active => Some(Phase::Active),
        TransactionState::Preparing => Some(Phase::Preparing),
        TransactionState::Deciding => Some(Phase::Deciding),
        TransactionState::Committing => Some(Phase::Committing),
        TransactionState::Aborting => Some(Phase::Aborting),
        TransactionState::Committed
        | TransactionState::Aborted
        | TransactionState::Undecided
        | TransactionState::Unspecified => None,
    }
}

#[cfg(test)]
mod tests;
