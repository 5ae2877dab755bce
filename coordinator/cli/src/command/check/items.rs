//! What the facts mean. Pure.

use std::time::Duration;

use serde::Serialize;

use super::Thresholds;
use super::facts::{Facts, Open, PAGE};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::age;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// Nothing can be said; something else may be worse.
    Unknown,
    Warning,
    Critical,
}

impl Level {
    pub(super) fn worst(items: &[Item]) -> Self {
        items.iter().map(|item| item.level).max().unwrap_or(Self::Unknown)
    }

    /// For people and programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The number that monitors know.
    pub(super) fn number(self) -> u8 {
        super::exit(self) as u8
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Item {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) text: String,
    /// Its number, in the unit of its gauge.
    pub(super) value: Option<f64>,
    /// The name of that gauge, without the prefix.
    #[serde(skip)]
    pub(super) gauge: &'static str,
}

fn item(name: &'static str, level: Level, text: impl Into<String>) -> Item {
    Item { name, level, text: text.into(), value: None, gauge: "" }
}

impl Item {
    #[expect(clippy::cast_precision_loss, reason = "counts here are at most a page")]
    fn count(self, gauge: &'static str, count: u64) -> Self {
        Self { value: Some(count as f64), gauge, ..self }
    }

    fn seconds(self, gauge: &'static str, time: Duration) -> Self {
        Self { value: Some(time.as_secs_f64()), gauge, ..self }
    }
}

/// A coordinator that did not say anything of use.
pub(super) fn unanswered(failure: &Failure) -> Item {
    let silent = matches!(failure.exit(), Exit::CannotConnect | Exit::Deadline);
    let level = if silent { Level::Critical } else { Level::Unknown };
    // One line: what follows the sentence is for people who run other commands.
    item("coordinator", level, failure.sentence().to_owned())
}

/// Judges each thing by itself.
pub(super) fn judge(facts: &Facts, limits: &Thresholds) -> Vec<Item> {
    let mut items = vec![coordinator(facts, limits), log(facts), doubted(facts)];
    items.extend(replication(facts, limits));
    match &facts.open {
        Ok(open) => {
            items.extend([in_doubt(open, limits), heuristics(open, limits), participants(open, limits)]);
        }
        Err(why) => items.push(item("transactions", Level::Unknown, why.clone())),
    }
    items
}

fn coordinator(facts: &Facts, limits: &Thresholds) -> Item {
    let living = facts.status.coordinators.len();
    let level = match &facts.status.incarnation {
        None => Level::Critical,
        Some(_) if living < limits.min_coordinators => Level::Critical,
        Some(_) => Level::Ok,
    };
    let text = if facts.status.incarnation.is_none() {
        "it has no incarnation in the log, and takes no transactions".to_owned()
    } else {
        format!("{living} alive on the log")
    };
    item("coordinator", level, text).count("coordinators", living as u64)
}

fn log(facts: &Facts) -> Item {
    let log = &facts.status.log;
    let (level, text) = match (&log.problem, log.available) {
        (_, true) => (Level::Ok, "can be written".to_owned()),
        (Some(problem), false) => (Level::Critical, format!("cannot be written: {}", one_line(problem))),
        (None, false) => (Level::Critical, "cannot be written".to_owned()),
    };
    item("log", level, text).count("log_writable", u64::from(log.available))
}

fn in_doubt(facts: &Open, limits: &Thresholds) -> Item {
    let over = |limit: u64| limit > 0 && facts.in_doubt > limit;
    let level = if facts.oldest >= limits.max_age && facts.in_doubt > 0 || over(limits.max_in_doubt) {
        Level::Critical
    } else if facts.old > 0 || over(limits.warn_in_doubt) {
        Level::Warning
    } else {
        Level::Ok
    };
    let text = match facts.in_doubt {
        0 => "none".to_owned(),
        count => {
            let more = if count >= u64::from(PAGE) { " or more" } else { "" };
            format!("{count}{more}, the oldest for {}", age(facts.oldest))
        }
    };
    item("in-doubt", level, text).seconds("in_doubt_oldest_seconds", facts.oldest)
}

fn doubted(facts: &Facts) -> Item {
    let count = facts.status.log.doubted;
    let (level, text) = match count {
        0 => (Level::Ok, "the log has not gone back in time".to_owned()),
        _ => (
            Level::Critical,
            format!(
                "the log went back in time: {count} incarnations wait for an operator (pactum log status)"
            ),
        ),
    };
    item("doubt", level, text).count("log_doubted_incarnations", count)
}

fn heuristics(facts: &Open, limits: &Thresholds) -> Item {
    let level = match (facts.heuristics, limits.heuristics_critical) {
        (0, _) => Level::Ok,
        (_, true) => Level::Critical,
        (_, false) => Level::Warning,
    };
    let text = match facts.heuristics {
        0 => "none".to_owned(),
        count => format!("{count} branches ended without the decision (pactum heuristic list)"),
    };
    item("heuristics", level, text).count("heuristics", facts.heuristics)
}

fn participants(facts: &Open, limits: &Thresholds) -> Item {
    let missing: Vec<&str> =
        limits.expect.iter().filter(|name| !facts.resources.contains(*name)).map(String::as_str).collect();
    let count = facts.resources.len() as u64;
    let (level, text) = if missing.is_empty() {
        (Level::Ok, format!("{count} resources attached"))
    } else {
        (Level::Critical, format!("{} not attached", missing.join(", ")))
    };
    item("participants", level, text).count("resources_attached", count)
}

/// Nothing where the log is one file.
fn replication(facts: &Facts, limits: &Thresholds) -> Option<Item> {
    let log = facts.status.log.replication.as_ref()?;
    let (required, confirmed) = (log.required, log.confirmed);
    let (level, text) = if required < limits.min_standbys {
        (
            Level::Warning,
            format!("each commit waits for {required} standbys, of {} asked for", limits.min_standbys),
        )
    } else if log.visible && confirmed < required {
        (Level::Critical, format!("each commit waits: {confirmed} of {required} standbys stream"))
    } else {
        (Level::Ok, format!("each commit waits for {required} standbys"))
    };
    Some(item("replication", level, text).count("log_standbys_streaming", u64::from(confirmed)))
}

/// What a server says may have several lines; a monitor reads one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use pactum_proto::v1;

    use super::*;
    use crate::output::view::{ReplicationView, StatusView};

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        thresholds: Thresholds,
    }

    fn limits(args: &[&str]) -> Thresholds {
        Typed::parse_from([&["check"], args].concat()).thresholds
    }

    fn well() -> Facts {
        let info = v1::GetServerInfoResponse {
            incarnation: vec![1; 16],
            log_available: true,
            coordinators: vec![v1::Coordinator::default()],
            ..v1::GetServerInfoResponse::default()
        };
        Facts { status: StatusView::from(info), open: Ok(attached()) }
    }

    fn attached() -> Open {
        Open { resources: ["bank-a".to_owned()].into(), ..Open::default() }
    }

    fn with(open: Open) -> Facts {
        Facts { open: Ok(open), ..well() }
    }

    /// The worst level, and which items are not well.
    fn judged(facts: &Facts, args: &[&str]) -> (Level, Vec<&'static str>) {
        let items = judge(facts, &limits(args));
        let bad = items.iter().filter(|item| item.level != Level::Ok).map(|item| item.name).collect();
        (Level::worst(&items), bad)
    }

    #[test]
    fn each_thing_is_judged_by_itself_and_the_worst_counts() {
        assert_eq!(judged(&well(), &["--expect", "bank-a"]), (Level::Ok, vec![]));
        let minutes =
            |minutes| with(Open { in_doubt: 2, old: 1, oldest: Duration::from_mins(minutes), ..attached() });
        assert_eq!(judged(&minutes(2), &[]), (Level::Warning, vec!["in-doubt"]));
        assert_eq!(judged(&minutes(5), &[]), (Level::Critical, vec!["in-doubt"]));
        assert_eq!(judged(&minutes(5), &["--max-age", "6m"]), (Level::Warning, vec!["in-doubt"]));
        let many = with(Open { in_doubt: 7, ..attached() });
        assert_eq!(judged(&many, &[]), (Level::Ok, vec![]));
        assert_eq!(judged(&many, &["--warn-in-doubt", "6"]), (Level::Warning, vec!["in-doubt"]));
        assert_eq!(judged(&many, &["--max-in-doubt", "6"]), (Level::Critical, vec!["in-doubt"]));
        assert_eq!(judged(&well(), &["--expect", "bank-b"]), (Level::Critical, vec!["participants"]));
        assert_eq!(judged(&well(), &["--min-coordinators", "2"]), (Level::Critical, vec!["coordinator"]));
        let heuristic = with(Open { heuristics: 1, ..attached() });
        assert_eq!(judged(&heuristic, &[]), (Level::Warning, vec!["heuristics"]));
        assert_eq!(judged(&heuristic, &["--heuristics-critical"]), (Level::Critical, vec!["heuristics"]));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_critical_and_so_is_doubt() {
        let mut facts = well();
        facts.status.log.available = false;
        facts.status.log.problem = Some("disk\nfull".into());
        let items = judge(&facts, &limits(&[]));
        let log = items.iter().find(|item| item.name == "log").unwrap();
        assert_eq!((log.level, log.text.as_str()), (Level::Critical, "cannot be written: disk full"));
        let mut facts = well();
        facts.status.log.doubted = 1;
        assert_eq!(judged(&facts, &[]), (Level::Critical, vec!["doubt"]));
        facts.status.incarnation = None;
        assert_eq!(judged(&facts, &[]), (Level::Critical, vec!["coordinator", "doubt"]));
        // Without its log it cannot say what is open; what it can say counts.
        let silent = Facts { open: Err("the log did not answer".into()), ..well() };
        assert_eq!(judged(&silent, &[]), (Level::Unknown, vec!["transactions"]));
    }

    #[test]
    fn replication_is_judged_where_there_is_some() {
        let replicated = |required, confirmed, visible| {
            let mut facts = well();
            let configured = "ANY 1 (a, b)".to_owned();
            facts.status.log.replication = Some(ReplicationView { configured, required, confirmed, visible });
            facts
        };
        assert_eq!(judged(&replicated(1, 2, true), &["--min-standbys", "1"]), (Level::Ok, vec![]));
        assert_eq!(judged(&replicated(1, 0, true), &[]), (Level::Critical, vec!["replication"]));
        assert_eq!(judged(&replicated(1, 0, false), &[]), (Level::Ok, vec![]), "not seen is not missing");
        assert_eq!(
            judged(&replicated(0, 0, true), &["--min-standbys", "1"]),
            (Level::Warning, vec!["replication"])
        );
    }
}
