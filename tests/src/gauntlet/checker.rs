//! What must hold at the end, one property a file. All of it is linear in the history.
//!
//! Each is a function of what was [observed](History), so that its own test can show that it
//! fails where it should. A violation is told with everything that is known of the transfer.

mod answers;
mod books;
mod legs;
mod order;
mod register;

use std::collections::HashMap;
use std::fmt::Write as _;

use pactum::Gid;

use super::journal::{Told, Transfer};
use super::ledger::{Line, Statement};

/// A row of the decision log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) gid: Gid,
    pub(crate) commit: bool,
}

/// What a question at the end was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Committed,
    Aborted,
    /// Nothing is recorded: right for a one-shot that was never started, or whose abort nobody
    /// had to write down.
    NoRecord,
    /// No answer came in time: left in doubt.
    Open,
}

/// Everything that was observed.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) transfers: Vec<Transfer>,
    /// By bank.
    pub(crate) statements: Vec<Statement>,
    /// By the key that the transaction carries as a label.
    pub(crate) decisions: HashMap<String, Decision>,
    /// Decisions of transactions that carry no key of ours.
    pub(crate) strangers: Vec<Decision>,
    /// What was asked at the end, by key.
    pub(crate) settled: HashMap<String, Settled>,
}

impl History {
    /// The ledgers' lines by key, with the bank's place.
    fn lines(&self) -> HashMap<&str, Vec<(usize, &Line)>> {
        let mut lines: HashMap<&str, Vec<(usize, &Line)>> = HashMap::new();
        for (bank, statement) in self.statements.iter().enumerate() {
            for line in &statement.lines {
                lines.entry(&line.leg.key).or_default().push((bank, line));
            }
        }
        lines
    }
}

/// What the checks share.
struct View<'a> {
    history: &'a History,
    lines: HashMap<&'a str, Vec<(usize, &'a Line)>>,
    found: Vec<String>,
}

impl View<'_> {
    /// Whether the ledgers hold anything of it.
    fn is_in_ledgers(&self, key: &str) -> bool {
        self.lines.contains_key(key)
    }

    /// A violation that has to do with one transfer.
    fn violation(&mut self, key: &str, what: &str) {
        let mut text = format!("{what}: {key}");
        if let Some(transfer) = self.history.transfers.iter().find(|transfer| transfer.key == key) {
            let gid = transfer.id.map_or_else(|| "no gid known".into(), |id| id.to_string());
            write!(
                text,
                "\n    {:?}, {gid}, legs {:?}, commit asked: {}, told: {:?} {:?}, later: {:?}, branches: {:?}",
                transfer.shape,
                transfer.legs,
                transfer.asked,
                transfer.told,
                transfer.text,
                transfer.told_later,
                transfer.branches
            )
            .expect("a String takes everything");
        }
        let (decision, settled) = (self.history.decisions.get(key), self.history.settled.get(key));
        write!(
            text,
            "\n    the log says {decision:?}; asked at the end: {settled:?}; ledgers: {:?}",
            self.lines.get(key)
        )
        .expect("a String takes everything");
        self.found.push(text);
    }
}

/// All violations, in words.
pub(crate) fn check(history: &History) -> Vec<String> {
    let mut view = View { lines: history.lines(), history, found: Vec::new() };
    legs::check(&mut view);
    books::check(&mut view);
    answers::check(&mut view);
    register::check(&mut view);
    order::check(&mut view);
    view.found
}

/// Whether it committed, where an application was told.
fn definite(told: Option<Told>) -> Option<bool> {
    match told? {
        Told::Committed => Some(true),
        Told::Aborted | Told::Refused => Some(false),
        Told::Unknown => None,
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A small history that holds, for the tests to spoil.

    use super::*;
    use crate::gauntlet::journal::Shape;
    use crate::gauntlet::ledger::{Leg, OPENING};

    pub(crate) fn transfer(key: &str, told: Option<Told>) -> Transfer {
        let leg = |amount| Leg { key: key.into(), account: 0, amount };
        let legs = vec![(0, leg(-5)), (1, leg(5))];
        Transfer { asked: true, told, ..Transfer::new(key.into(), Shape::Interactive, legs) }
    }

    fn gid(number: u128) -> Gid {
        Gid::from_uuid(uuid::Uuid::from_u128(number))
    }

    /// `c` and `d` committed, in this order on account 0 of both banks; `a` aborted; `u` is
    /// unknown and did not commit.
    pub(crate) fn sound() -> History {
        let line = |key: &str, turn, amount| Line { leg: Leg { key: key.into(), account: 0, amount }, turn };
        let statement = |amount: i64| Statement {
            balances: vec![OPENING + 2 * amount, OPENING],
            turns: vec![2, 0],
            lines: vec![line("c", 1, amount), line("d", 2, amount)],
            ..Statement::default()
        };
        let commit = |number| Decision { gid: gid(number), commit: true };
        History {
            transfers: vec![
                transfer("c", Some(Told::Committed)),
                transfer("d", None),
                transfer("a", Some(Told::Aborted)),
                transfer("u", Some(Told::Unknown)),
            ],
            statements: vec![statement(-5), statement(5)],
            decisions: [("c".into(), commit(1)), ("d".into(), commit(2))].into(),
            strangers: Vec::new(),
            settled: [("d".into(), Settled::Committed), ("u".into(), Settled::Aborted)].into(),
        }
    }

    #[test]
    fn a_sound_history_passes() {
        assert_eq!(check(&sound()), Vec::<String>::new());
    }
}
