//! Who did what when, from what the children reported: the step tables.

use std::collections::HashMap;
use std::fmt::Write as _;

use pactum_core::id::Gid;

use super::process::{Event, Seen};
use super::workload::{Ending, Finished};
use crate::output::table::{aligned, render, short_gid, table};

/// Everything seen.
#[derive(Debug, Default)]
pub(super) struct Steps {
    by_gid: HashMap<Gid, Vec<Entry>>,
    crash: Option<CrashSeen>,
}

/// One thing that somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    at_us: u64,
    who: String,
    step: String,
    branch: Option<u64>,
}

/// The crash, and the return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CrashSeen {
    pub(super) who: String,
    pub(super) at_us: u64,
    /// The transaction that was at the step.
    pub(super) gid: Option<Gid>,
    pub(super) back_us: Option<u64>,
}

/// The coordinator's name among the processes.
pub(super) const COORDINATOR: &str = "coordinator";

impl Steps {
    /// Takes in what was seen.
    pub(super) fn saw(&mut self, seen: Seen) {
        match seen.event {
            Event::Back { at_us } => {
                if let Some(crash) = self.crash.as_mut().filter(|crash| crash.who == seen.who) {
                    crash.back_us = Some(at_us);
                }
            }
            Event::Step(step) => {
                let gid = step.gid.map(|gid| gid.0);
                if step.fatal {
                    let who = seen.who.clone();
                    self.crash = Some(CrashSeen { who, at_us: step.at_us, gid, back_us: None });
                }
                if let Some(gid) = gid {
                    let entry =
                        Entry { at_us: step.at_us, who: seen.who, step: step.step, branch: step.branch };
                    self.by_gid.entry(gid).or_default().push(entry);
                }
            }
        }
    }

    /// The crash, if there was one.
    pub(super) fn crash(&self) -> Option<&CrashSeen> {
        self.crash.as_ref()
    }

    fn of(&self, finished: &Finished) -> &[Entry] {
        let gid = finished.id.map_or(Gid::NIL, |id| id.gid);
        self.by_gid.get(&gid).map_or(&[], Vec::as_slice)
    }

    /// A transfer in five lines.
    pub(super) fn table(&self, finished: &Finished) -> String {
        let entries = self.of(finished);
        let ms = |at_us: u64| millis(at_us, finished.began_us);
        let first = |who: &str, step: &str| {
            let of_step = entries.iter().filter(|entry| entry.who == who && entry.step == step);
            of_step.map(|entry| entry.at_us).min()
        };
        let dash = || "-".to_owned();
        let at = |at: Option<u64>| at.map_or_else(dash, ms);
        // `bank-a YES 3.1 ms` for each branch that a step was seen of.
        let each = |step: &str, word: &dyn Fn(u64) -> &'static str| -> Vec<String> {
            let mut cells = Vec::new();
            for (branch, bank) in &finished.branches {
                let seen = entries.iter().find(|entry| {
                    entry.who == COORDINATOR && entry.step == step && entry.branch == Some(*branch)
                });
                if let Some(entry) = seen {
                    cells.push(format!("{bank} {} {}", word(*branch), ms(entry.at_us)));
                }
            }
            cells
        };
        let prepared = |branch: u64| {
            let is_it = |entry: &&Entry| entry.step == "prepared" && entry.branch == Some(branch);
            if entries.iter().any(|entry| is_it(&entry)) { "YES" } else { "NO" }
        };
        let committed = finished.ending == Ending::Committed;
        let (decision, done) =
            if committed { ("COMMIT durable", "committed") } else { ("ABORT, nothing written", "aborted") };
        let prepare = match first(COORDINATOR, "prepare-sent") {
            Some(prepare) => row("prepare", ms(prepare), each("vote-received", &prepared)),
            None => row("prepare", dash(), vec!["not asked: a bank had refused".to_owned()]),
        };
        let decided = first(COORDINATOR, "decision-durable").filter(|_| committed);
        let rows = [
            row("begin", "0.0 ms".to_owned(), Vec::new()),
            prepare,
            row("decide", at(decided), vec![decision.to_owned()]),
            row(
                if committed { "commit" } else { "abort" },
                at(first(COORDINATOR, "decision-sent")),
                each("branch-finished", &|_| done),
            ),
            row("told", ms(finished.told_us), vec![ending(&finished.ending)]),
        ];
        format!("{}\n{}", title(finished), aligned(rows))
    }

    /// Everything that was seen of a transfer, in order; for the one that a crash struck.
    pub(super) fn timeline(&self, finished: &Finished) -> String {
        let mut entries: Vec<(u64, String, String)> = self
            .of(finished)
            .iter()
            .map(|entry| {
                let bank = finished.branches.iter().find(|(branch, _)| entry.branch == Some(*branch));
                let of = match bank {
                    Some((_, bank)) if *bank != entry.who => format!(" ({bank})"),
                    _ => String::new(),
                };
                (entry.at_us, entry.who.clone(), format!("{}{of}", entry.step.replace('-', " ")))
            })
            .collect();
        entries.push((finished.began_us, "application".into(), "begins".into()));
        entries.push((
            finished.told_us,
            "application".into(),
            format!("is told: {}", ending(&finished.ending)),
        ));
        if let Some(crash) = &self.crash {
            entries.push((crash.at_us, crash.who.clone(), "KILLED".into()));
            if let Some(back) = crash.back_us {
                entries.push((back, crash.who.clone(), "STARTED AGAIN".into()));
            }
        }
        // Stable: what was reported first stays first among equals, and KILLED comes last.
        entries.sort_by_key(|(at, ..)| *at);
        let mut table = table(["MS", "WHO", "STEP"]);
        for (at, who, step) in entries {
            table.add_row([millis(at, finished.began_us), who, step]);
        }
        format!("{}\n{}", title(finished), render(&table))
    }
}

/// What came of it, in words.
fn ending(ending: &Ending) -> String {
    match ending {
        Ending::Committed => "committed".to_owned(),
        Ending::Refused(why) => format!("refused: {why}"),
        Ending::Aborted(why) => format!("aborted: {why}"),
        Ending::Unknown(why) => format!("unknown: {why}"),
    }
}

fn title(finished: &Finished) -> String {
    let gid = finished.id.map_or_else(|| "-".to_owned(), |id| short_gid(id.gid));
    let mut title = String::new();
    let wrote = write!(title, "{gid}  transfer {}", finished.transfer.describe());
    wrote.expect("writing to a string never fails");
    title
}

/// One row: what, when, and what is said of each branch.
fn row(what: &str, when: String, cells: Vec<String>) -> Vec<String> {
    [format!("  {what}"), when].into_iter().chain(cells).collect()
}

fn millis(at_us: u64, origin_us: u64) -> String {
    let micros = at_us.saturating_sub(origin_us);
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use pactum_core::id::{Incarnation, TransactionId};
    use uuid::Uuid;

    use super::super::wire::{Gid16, StepReport};
    use super::super::workload::Transfer;
    use super::*;

    fn steps(list: &[(&str, &str, u64, Option<u64>)]) -> (Steps, Finished) {
        let gid = Gid::from_uuid(Uuid::from_u128(0x0199_c3d0_0000_7000_8000_0000_004a_7f2a));
        let mut steps = Steps::default();
        for (who, step, at_us, branch) in list {
            let report = StepReport {
                at_us: *at_us,
                step: (*step).to_owned(),
                gid: Some(Gid16(gid)),
                branch: *branch,
                fatal: *step == "decision-durable",
            };
            steps.saw(Seen { who: (*who).to_owned(), event: Event::Step(report) });
        }
        let incarnation = Incarnation::from_uuid(Uuid::from_u128(1));
        let finished = Finished {
            transfer: Transfer::planned(0, 0),
            id: Some(TransactionId { incarnation, gid }),
            ending: Ending::Committed,
            began_us: 1000,
            told_us: 9900,
            branches: vec![(7, "bank-a".into()), (8, "bank-b".into())],
        };
        (steps, finished)
    }

    #[test]
    fn the_table_shows_each_phase_with_its_time() {
        let (steps, finished) = steps(&[
            ("coordinator", "prepare-sent", 2000, Some(7)),
            ("bank-a", "prepared", 2500, Some(7)),
            ("coordinator", "vote-received", 3100, Some(7)),
            ("bank-b", "prepared", 2500, Some(8)),
            ("coordinator", "vote-received", 3200, Some(8)),
            ("coordinator", "decision-durable", 5000, None),
            ("coordinator", "decision-sent", 5100, Some(7)),
            ("coordinator", "branch-finished", 6100, Some(7)),
            ("coordinator", "branch-finished", 6200, Some(8)),
        ]);
        let text = steps.table(&finished);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "0199c3..4a7f2a  transfer 1 from bank-a #0 to bank-b #1");
        assert_eq!(lines[1], "  begin    0.0 ms");
        assert_eq!(lines[2], "  prepare  1.0 ms  bank-a YES 2.1 ms        bank-b YES 2.2 ms");
        assert_eq!(lines[3], "  decide   4.0 ms  COMMIT durable");
        assert_eq!(lines[4], "  commit   4.1 ms  bank-a committed 5.1 ms  bank-b committed 5.2 ms");
        assert_eq!(lines[5], "  told     8.9 ms  committed");
    }

    #[test]
    fn the_timeline_shows_the_crash_in_its_place() {
        let (mut steps, finished) = steps(&[
            ("coordinator", "prepare-sent", 2000, Some(7)),
            ("coordinator", "decision-durable", 5000, None),
            ("bank-a", "branch-ended", 8000, Some(7)),
        ]);
        steps.saw(Seen { who: "coordinator".into(), event: Event::Back { at_us: 7000 } });
        let text = steps.timeline(&finished);
        let steps: Vec<_> = text
            .lines()
            .skip(2)
            .map(|line| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            steps,
            [
                "application begins",
                "coordinator prepare sent (bank-a)",
                "coordinator decision durable",
                "coordinator KILLED",
                "coordinator STARTED AGAIN",
                "bank-a branch ended",
                "application is told: committed",
            ]
        );
    }
}
