//! A picture of a transaction's course: one bar for each branch, on a logarithmic scale, because what
//! is looked for lies within milliseconds of the beginning and within hours of now.
//!
//! It is drawn with classes only, no styles of its own, so that it obeys the policy of the page and
//! its light or dark colours. Everything in it is also in the table of steps beside it.

use std::time::Duration;

use pactum_proto::v1;

use super::text;

/// Widths and heights, in the picture's own units.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 24.0;
const WIDTH: f64 = 880.0;
const ROW: f64 = 34.0;
const TOP: f64 = 30.0;

/// What is drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) ticks: Vec<Tick>,
    pub(super) rows: Vec<Lane>,
    /// The same in one sentence, for those who cannot see it.
    pub(super) summary: String,
}

/// A mark on the axis.
#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub(super) x: String,
    pub(super) label: String,
}

/// One branch, or the whole transaction.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) label: String,
    pub(super) title: String,
    pub(super) y: f64,
    pub(super) middle: f64,
    pub(super) bars: Vec<Bar>,
    pub(super) marks: Vec<Mark>,
}

/// A stretch of time.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) class: &'static str,
    pub(super) title: String,
}

/// A moment.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) x: String,
    pub(super) class: &'static str,
    pub(super) title: String,
}

/// A place along the axis: a hundredth of a unit is finer than any screen.
fn place(x: f64) -> String {
    format!("{x:.2}")
}

/// Draws it; `None` where nothing of its course is known.
pub(super) fn draw(transaction: &v1::Transaction) -> Option<Timeline> {
    let steps: Vec<Step<'_>> = transaction.steps.iter().filter_map(Step::read).collect();
    let last_step = steps.iter().map(|step| step.at).max()?;
    let age = transaction.age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
    let ended =
        matches!(transaction.state(), v1::TransactionState::Committed | v1::TransactionState::Aborted);
    let end = if ended { last_step } else { last_step.max(age) };
    let axis = Axis { end: end.max(Duration::from_millis(10)) };

    let decided = steps.iter().find(|step| step.name == "decided").map(|step| step.at);
    let mut rows = Vec::new();
    let mut lane = |label: String, title: String, bars: Vec<Bar>, marks: Vec<Mark>| {
        #[allow(clippy::cast_precision_loss, reason = "a transaction has 64 branches at most")]
        let y = TOP + ROW * rows.len() as f64;
        rows.push(Lane { label, title, y, middle: y + ROW / 2.0, bars, marks });
    };

    let whole: Vec<&Step<'_>> = steps.iter().filter(|step| step.branch == 0).collect();
    let mut bars = vec![axis.bar(Duration::ZERO, decided.unwrap_or(end), "undecided", "undecided")];
    if let Some(decided) = decided {
        bars.push(axis.bar(decided, end, "decided", "decided"));
    }
    lane("transaction".into(), "the whole transaction".into(), bars, axis.marks(&whole));

    for branch in &transaction.branches {
        let name = branch.branch.clone().unwrap_or_default();
        let own: Vec<&Step<'_>> =
            steps.iter().filter(|step| step.branch == name.id && name.id != 0).collect();
        let at = |step: &str| own.iter().find(|one| one.name == step).map(|one| one.at);
        let finished = own.iter().rev().find(|one| one.name == "finished").map(|one| one.at);
        let (sent, voted) = (at("prepare-sent"), at("voted"));
        let mut bars = Vec::new();
        if let Some(from) = at("enlisted") {
            bars.push(axis.bar(from, sent.or(voted).or(finished).unwrap_or(end), "work", "local work"));
        }
        if let Some(from) = sent {
            bars.push(axis.bar(from, voted.or(finished).unwrap_or(end), "prepare", "preparing"));
        }
        if let Some(from) = voted
            && branch.vote == "commit"
        {
            bars.push(axis.bar(from, finished.unwrap_or(end), "doubt", "in doubt: prepared, not finished"));
        }
        lane(shortened(&name.resource), name.resource, bars, axis.marks(&own));
    }
    #[allow(clippy::cast_precision_loss, reason = "a transaction has 64 branches at most")]
    let height = TOP + ROW * rows.len() as f64 + 8.0;
    let summary = format!(
        "Course of the transaction over {}, with {}; {}.",
        text::duration(end),
        text::count(transaction.branches.len(), "branch", "branches"),
        decided.map_or_else(
            || "no decision was seen".to_owned(),
            |at| format!("decided after {}", text::duration(at))
        ),
    );
    Some(Timeline { width: WIDTH, height, left: LEFT, ticks: axis.ticks(), rows, summary })
}

/// A name of 64 characters has no room beside the bars.
fn shortened(name: &str) -> String {
    const ROOM: usize = 18;
    if name.chars().count() <= ROOM {
        return name.to_owned();
    }
    name.chars().take(ROOM - 1).chain(['…']).collect()
}

struct Step<'a> {
    at: Duration,
    name: &'a str,
    branch: u64,
    detail: &'a str,
}

impl<'a> Step<'a> {
    fn read(step: &'a v1::TransactionStep) -> Option<Self> {
        let at = Duration::try_from(step.at?).ok()?;
        Some(Self { at, name: &step.step, branch: step.branch, detail: &step.detail })
    }
}

struct Axis {
    end: Duration,
}

impl Axis {
    /// Linear within the first millisecond, logarithmic from there.
    fn x(&self, at: Duration) -> f64 {
        let scale = |length: Duration| (1.0 + length.as_secs_f64() * 1000.0).ln();
        LEFT + (WIDTH - LEFT - RIGHT) * (scale(at) / scale(self.end)).clamp(0.0, 1.0)
    }

    fn bar(&self, from: Duration, to: Duration, class: &'static str, what: &str) -> Bar {
        let x = self.x(from);
        let title = match to.checked_sub(from) {
            Some(length) if !length.is_zero() => {
                format!("{what}: {} from {}", text::duration(length), text::duration(from))
            }
            _ => format!("{what} at {}", text::duration(from)),
        };
        // A bar that is too short to be seen was there all the same.
        Bar { x: place(x), width: place((self.x(to) - x).max(2.0)), class, title }
    }

    fn marks(&self, steps: &[&Step<'_>]) -> Vec<Mark> {
        steps
            .iter()
            .map(|step| Mark {
                x: place(self.x(step.at)),
                class: match step.name {
                    "failed" => "failed",
                    "decided" => "decision",
                    "finished" => "finished",
                    _ => "step",
                },
                title: if step.detail.is_empty() {
                    format!("{} at {}", step.name, text::duration(step.at))
                } else {
                    format!("{} at {}: {}", step.name, text::duration(step.at), step.detail)
                },
            })
            .collect()
    }

    /// Round moments up to the end, as many as keep apart.
    fn ticks(&self) -> Vec<Tick> {
        const ROUND: [(u64, &str); 11] = [
            (0, "0"),
            (1, "1 ms"),
            (10, "10 ms"),
            (100, "100 ms"),
            (1000, "1 s"),
            (10_000, "10 s"),
            (60_000, "1 m"),
            (600_000, "10 m"),
            (3_600_000, "1 h"),
            (43_200_000, "12 h"),
            (604_800_000, "7 d"),
        ];
        const APART: f64 = 46.0;
        let mut ticks = Vec::new();
        let mut last = f64::NEG_INFINITY;
        for (milliseconds, label) in ROUND {
            let at = Duration::from_millis(milliseconds);
            let x = self.x(at);
            if at <= self.end && x - last >= APART {
                ticks.push(Tick { x: place(x), label: label.to_owned() });
                last = x;
            }
        }
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(milliseconds: u64, name: &str, branch: u64, detail: &str) -> v1::TransactionStep {
        v1::TransactionStep {
            at: Duration::from_millis(milliseconds).try_into().ok(),
            step: name.into(),
            branch,
            detail: detail.into(),
        }
    }

    fn transaction() -> v1::Transaction {
        let branch = |id, resource: &str| v1::BranchStatus {
            branch: Some(v1::Branch { id, resource: resource.into(), ..v1::Branch::default() }),
            vote: "commit".into(),
            ..v1::BranchStatus::default()
        };
        v1::Transaction {
            state: v1::TransactionState::Committing.into(),
            age: Duration::from_secs(372).try_into().ok(),
            branches: vec![branch(1, "bank-a"), branch(2, &"b".repeat(64))],
            steps: vec![
                step(0, "begun", 0, ""),
                step(1, "enlisted", 1, ""),
                step(1, "enlisted", 2, ""),
                step(3, "prepare-sent", 1, ""),
                step(3, "prepare-sent", 2, ""),
                step(6, "voted", 1, "commit"),
                step(7, "voted", 2, "commit"),
                step(9, "decided", 0, "commit"),
                step(12, "finished", 1, "committed"),
                step(900, "failed", 2, "connection refused"),
            ],
            ..v1::Transaction::default()
        }
    }

    #[test]
    fn a_branch_in_doubt_reaches_to_now_and_a_finished_one_does_not() {
        let drawn = draw(&transaction()).unwrap();
        let right = |lane: &Lane| {
            let bar = lane.bars.iter().find(|bar| bar.class == "doubt").unwrap();
            bar.x.parse::<f64>().unwrap() + bar.width.parse::<f64>().unwrap()
        };
        let [whole, finished, doubted] = &drawn.rows[..] else { panic!("{drawn:?}") };
        assert_eq!(whole.bars.len(), 2, "undecided, then decided");
        assert!((right(doubted) - (WIDTH - RIGHT)).abs() < 0.1, "{doubted:?}");
        assert!(right(finished) < right(doubted) / 2.0 + LEFT, "{finished:?}");
        assert!(doubted.marks.iter().any(|mark| mark.title.contains("connection refused")));
        assert!(drawn.summary.contains("6 m 12 s") && drawn.summary.contains("decided after 9 ms"));
    }

    #[test]
    fn everything_lies_within_the_picture_and_marks_of_the_axis_keep_apart() {
        for minutes in [0, 1, 60, 60 * 24 * 30] {
            let mut transaction = transaction();
            transaction.age = Duration::from_secs(60 * minutes).try_into().ok();
            let drawn = draw(&transaction).unwrap();
            let x = |text: &str| text.parse::<f64>().unwrap();
            for lane in &drawn.rows {
                for bar in &lane.bars {
                    assert!(x(&bar.x) >= LEFT && x(&bar.x) + x(&bar.width) <= WIDTH, "{bar:?}");
                }
                assert!(lane.y + ROW <= drawn.height);
            }
            let ticks: Vec<f64> = drawn.ticks.iter().map(|tick| x(&tick.x)).collect();
            assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] >= 46.0), "{ticks:?}");
            assert!(ticks.len() >= 2, "{ticks:?}");
        }
    }

    #[test]
    fn nothing_is_drawn_of_a_course_that_nobody_saw() {
        assert!(draw(&v1::Transaction { steps: Vec::new(), ..transaction() }).is_none());
    }
}
