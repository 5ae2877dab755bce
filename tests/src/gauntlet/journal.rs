//! What an application did and was told, written down as it happens.
//!
//! One line an event, one write a line, into a file that outlives the process: whoever is killed
//! between asking and being told leaves the question behind. Formats, with blanks between:
//!
//! ```text
//! B KEY i|s BANK ACCOUNT AMOUNT BANK ACCOUNT AMOUNT   it was begun: interactive, or one-shot
//! C KEY INCARNATION GID BRANCH,…|-                    commit is about to be asked
//! A KEY c|a|e|u INCARNATION|- GID|- TEXT              the answer: committed, aborted,
//!                                                     an error that says it did not happen, unknown
//! Q KEY c|a|u                                         what a later question was answered
//! ```

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pactum::{Branch, TransactionId};

use super::ledger::Leg;

/// The file's name, inside the application's directory.
const NAME: &str = "journal";

/// How the transfer was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Services are called, and commit is asked.
    Interactive,
    /// All in one request.
    OneShot,
}

/// What an application was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Committed,
    /// That it aborted; or the application aborted it itself.
    Aborted,
    /// An error that promises that nothing happened and nothing will.
    Refused,
    /// Nothing definite.
    Unknown,
}

impl Told {
    fn letter(self) -> char {
        match self {
            Self::Committed => 'c',
            Self::Aborted => 'a',
            Self::Refused => 'e',
            Self::Unknown => 'u',
        }
    }

    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "c" => Self::Committed,
            "a" => Self::Aborted,
            "e" => Self::Refused,
            "u" => Self::Unknown,
            _ => return None,
        })
    }
}

/// A transfer, as its application saw it.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) key: String,
    pub(crate) shape: Shape,
    /// The bank, by its place, and what was to be done there: one at each of two.
    pub(crate) legs: Vec<(usize, Leg)>,
    /// The transaction, as far as the application knew it.
    pub(crate) id: Option<TransactionId>,
    /// What commit named.
    pub(crate) branches: Vec<Branch>,
    /// Whether commit was asked: an interactive one without it cannot have committed.
    pub(crate) asked: bool,
    /// `None`: the application did not live to hear it.
    pub(crate) told: Option<Told>,
    /// What later questions were answered.
    pub(crate) told_later: Vec<Told>,
    /// For people.
    pub(crate) text: String,
}

impl Transfer {
    pub(crate) fn new(key: String, shape: Shape, legs: Vec<(usize, Leg)>) -> Self {
        Self {
            key,
            shape,
            legs,
            id: None,
            branches: Vec::new(),
            // A one-shot is its own question.
            asked: shape == Shape::OneShot,
            told: None,
            told_later: Vec::new(),
            text: String::new(),
        }
    }
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Journal(Mutex<File>);

impl Journal {
    /// Goes on where an earlier life of the application ended.
    pub(crate) fn open(directory: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(directory.join(NAME))?;
        Ok(Self(Mutex::new(file)))
    }

    fn write(&self, line: &str) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{line}\n").as_bytes())
            .expect("the journal can be written: is the disk full?");
    }

    pub(crate) fn begun(&self, transfer: &Transfer) {
        let shape = if transfer.shape == Shape::OneShot { 's' } else { 'i' };
        let legs: Vec<String> = transfer
            .legs
            .iter()
            .map(|(bank, leg)| format!("{bank} {} {}", leg.account, leg.amount))
            .collect();
        self.write(&format!("B {} {shape} {}", transfer.key, legs.join(" ")));
    }

    pub(crate) fn asked(&self, key: &str, id: TransactionId, branches: &[Branch]) {
        let names: Vec<String> = branches.iter().map(crate::role::name_branch).collect();
        let names = if names.is_empty() { "-".into() } else { names.join(",") };
        self.write(&format!("C {key} {} {} {names}", id.incarnation, id.gid));
    }

    pub(crate) fn answered(&self, key: &str, told: Told, id: Option<TransactionId>, text: &str) {
        let id = id.map_or_else(|| "- -".into(), |id| format!("{} {}", id.incarnation, id.gid));
        let text = text.replace(['\n', '\r'], " ");
        self.write(&format!("A {key} {} {id} {text}", told.letter()));
    }

    pub(crate) fn asked_again(&self, key: &str, told: Told) {
        self.write(&format!("Q {key} {}", told.letter()));
    }
}

/// Reads a journal. A line that was cut short by a kill is left out, and may only be the last.
pub(crate) fn read(directory: &Path) -> anyhow::Result<Vec<Transfer>> {
    let text = std::fs::read_to_string(directory.join(NAME)).unwrap_or_default();
    parse(&text)
}

fn parse(text: &str) -> anyhow::Result<Vec<Transfer>> {
    let mut transfers: Vec<Transfer> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let malformed = || anyhow::anyhow!("a journal holds the line {line:?}");
        let mut words = line.splitn(6, ' ');
        let mut word = || words.next().ok_or_else(malformed);
        let (kind, key) = (word()?, word()?);
        if kind == "B" {
            let shape = if word()? == "s" { Shape::OneShot } else { Shape::Interactive };
            let numbers: Vec<i64> = line
                .split(' ')
                .skip(3)
                .map(str::parse)
                .collect::<Result<_, _>>()
                .map_err(|_bad| malformed())?;
            let legs = numbers.chunks_exact(3).map(|leg| {
                let (bank, account) = (usize::try_from(leg[0])?, i32::try_from(leg[1])?);
                Ok((bank, Leg { key: key.to_owned(), account, amount: leg[2] }))
            });
            let legs = legs.collect::<anyhow::Result<_>>()?;
            places.insert(key.to_owned(), transfers.len());
            transfers.push(Transfer::new(key.to_owned(), shape, legs));
            continue;
        }
        let place = *places.get(key).ok_or_else(malformed)?;
        let transfer = &mut transfers[place];
        match kind {
            "C" => {
                transfer.id = read_id(word()?, word()?);
                let names = word()?;
                let names = names.split(',').filter(|name| *name != "-");
                transfer.branches =
                    names.map(crate::role::read_branch).collect::<Option<_>>().ok_or_else(malformed)?;
                transfer.asked = true;
            }
            "A" => {
                transfer.told = Some(Told::read(word()?).ok_or_else(malformed)?);
                let id = read_id(word()?, word()?);
                transfer.id = transfer.id.or(id);
                word()?.clone_into(&mut transfer.text);
            }
            "Q" => transfer.told_later.push(Told::read(word()?).ok_or_else(malformed)?),
            _ => return Err(malformed()),
        }
    }
    Ok(transfers)
}

fn read_id(incarnation: &str, gid: &str) -> Option<TransactionId> {
    Some(TransactionId { incarnation: incarnation.parse().ok()?, gid: gid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_a_torn_line_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        let leg = |amount| Leg { key: "a-1".into(), account: 7, amount };
        let transfer = Transfer::new("a-1".into(), Shape::Interactive, vec![(0, leg(-5)), (1, leg(5))]);
        let uuid = uuid::Uuid::from_u128(9);
        let id = TransactionId {
            incarnation: pactum::Incarnation::from_uuid(uuid),
            gid: pactum::Gid::from_uuid(uuid),
        };
        journal.begun(&transfer);
        journal.asked("a-1", id, &[]);
        journal.answered("a-1", Told::Unknown, Some(id), "nobody\nanswered");
        journal.asked_again("a-1", Told::Committed);
        journal.write("B a-2 s 0 1 -2 1 2 2");
        let path = directory.path().join(NAME);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("A a-2 c - - tor");
        let read = parse(&text).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].legs, transfer.legs);
        assert_eq!((read[0].id, read[0].told), (Some(id), Some(Told::Unknown)));
        assert_eq!((read[0].asked, &*read[0].text), (true, "nobody answered"));
        assert_eq!(read[0].told_later, [Told::Committed]);
        assert_eq!((read[1].shape, read[1].told, read[1].asked), (Shape::OneShot, None, true));
    }
}
