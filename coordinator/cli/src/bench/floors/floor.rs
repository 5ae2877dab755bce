//! One figure, what it must be, and whether it is.

use serde::{Serialize, Serializer};

use super::super::sample::Spread;

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Less than this.
    Below(f64),
    /// From the first to the second, both included.
    Between(f64, f64),
}

impl Bound {
    /// Whether the figure is as it must be. What is not a number, or without end, never is: it says
    /// that something was divided by nothing.
    fn holds(self, figure: f64) -> bool {
        figure.is_finite()
            && match self {
                Self::AtLeast(least) => figure >= least,
                Self::AtMost(most) => figure <= most,
                Self::Below(bound) => figure < bound,
                Self::Between(least, most) => (least..=most).contains(&figure),
            }
    }

    /// In words.
    fn words(self) -> &'static str {
        match self {
            Self::AtLeast(_) => "at least",
            Self::AtMost(_) => "at most",
            Self::Below(_) => "below",
            Self::Between(..) => "between",
        }
    }

    /// The bound; of two the lower one.
    fn floor(self) -> f64 {
        match self {
            Self::AtLeast(bound) | Self::AtMost(bound) | Self::Below(bound) | Self::Between(bound, _) => {
                bound
            }
        }
    }

    /// The upper one of two.
    fn upper(self) -> Option<f64> {
        match self {
            Self::Between(_, upper) => Some(upper),
            Self::AtLeast(_) | Self::AtMost(_) | Self::Below(_) => None,
        }
    }

    /// For people.
    pub(super) fn text(self) -> String {
        match self.upper() {
            Some(upper) => format!("{} to {}", plain(self.floor()), plain(upper)),
            None => format!("{} {}", self.words(), plain(self.floor())),
        }
    }
}

/// A figure that was measured, and what it must be.
#[derive(Clone, Debug)]
pub(super) struct Floor {
    /// What it is, with its unit.
    pub(super) name: String,
    /// Over the rounds; the median counts.
    pub(super) value: Spread,
    pub(super) bound: Bound,
    /// What it would best be.
    pub(super) aim: Option<f64>,
    /// What one must know to read it.
    pub(super) note: Option<String>,
}

impl Floor {
    /// A figure without an aim.
    pub(super) fn new(name: impl Into<String>, value: Spread, bound: Bound) -> Self {
        Self { name: name.into(), value, bound, aim: None, note: None }
    }

    /// With an aim.
    pub(super) fn aim(mut self, aim: f64) -> Self {
        self.aim = Some(aim);
        self
    }

    /// With a note.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Whether it is as it must be: the median is, and every round gave a number.
    pub(super) fn held(&self) -> bool {
        let Spread { median, min, max } = self.value;
        // What is not a number is sorted to one of the ends.
        min.is_finite() && max.is_finite() && self.bound.holds(median)
    }

    /// As it is shown.
    pub(super) fn words(&self) -> &'static str {
        if self.held() { "held" } else { "missed" }
    }
}

impl Serialize for Floor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// The public form.
        #[derive(Serialize)]
        struct Form<'a> {
            name: &'a str,
            /// Null if it is not a number.
            value: f64,
            /// Least and most of the rounds.
            range: [f64; 2],
            must_be: &'static str,
            floor: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            upper: Option<f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            aim: Option<f64>,
            held: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            note: Option<&'a str>,
        }
        let Spread { median, min, max } = self.value;
        let form = Form {
            name: &self.name,
            value: median,
            range: [min, max],
            must_be: self.bound.words(),
            floor: self.bound.floor(),
            upper: self.bound.upper(),
            aim: self.aim,
            held: self.held(),
            note: self.note.as_deref(),
        };
        form.serialize(serializer)
    }
}

/// A figure with as many places as say something.
pub(super) fn plain(figure: f64) -> String {
    let places = match figure.abs() {
        100.0.. => 0,
        0.1.. => 2,
        _ => 5,
    };
    let text = format!("{figure:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(values: &[f64], bound: Bound) -> Floor {
        Floor::new("a figure", Spread::of(values.iter().copied()), bound)
    }

    #[test]
    fn a_floor_is_held_up_to_its_very_bound_and_missed_beyond() {
        let held = |value, bound| floor(&[value], bound).held();
        assert!(held(0.5, Bound::AtLeast(0.5)) && !held(0.499, Bound::AtLeast(0.5)));
        assert!(held(3.0, Bound::AtMost(3.0)) && !held(3.001, Bound::AtMost(3.0)));
        assert!(held(0.019, Bound::Below(0.02)) && !held(0.02, Bound::Below(0.02)));
        let between = Bound::Between(0.98, 1.05);
        assert!(held(0.98, between) && held(1.05, between));
        assert!(!held(0.979, between) && !held(1.051, between));
    }

    #[test]
    fn what_is_not_a_number_is_missed_whatever_must_be() {
        let all = [Bound::AtLeast(0.0), Bound::AtMost(9.0), Bound::Below(9.0), Bound::Between(0.0, 9.0)];
        for bound in all {
            for value in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert!(!floor(&[value], bound).held(), "{value} {bound:?}");
                assert!(!floor(&[1.0, value, 2.0], bound).held(), "one round of three: {value} {bound:?}");
            }
            assert!(floor(&[1.0, 3.0, 2.0], bound).held(), "{bound:?}");
        }
    }

    #[test]
    fn the_median_counts_and_not_the_worst_round() {
        assert!(floor(&[0.4, 0.6, 0.6], Bound::AtLeast(0.5)).held());
        assert!(!floor(&[0.4, 0.4, 9.0], Bound::AtLeast(0.5)).held());
    }

    #[test]
    fn the_document_has_both_bounds_and_leaves_out_what_there_is_not() {
        let json = |floor: &Floor| serde_json::to_value(floor).expect("numbers and texts");
        let between = json(&floor(&[1.0], Bound::Between(0.98, 1.05)));
        assert_eq!(
            between,
            serde_json::json!({"name": "a figure", "value": 1.0, "range": [1.0, 1.0], "must_be": "between",
                "floor": 0.98, "upper": 1.05, "held": true})
        );
        let aimed = json(&floor(&[f64::NAN], Bound::AtLeast(0.5)).aim(0.8).note("why"));
        assert_eq!(aimed["aim"], 0.8);
        assert_eq!(aimed["note"], "why");
        assert_eq!((&aimed["held"], aimed["value"].is_null()), (&false.into(), true));
        assert!(aimed.get("upper").is_none());
    }

    #[test]
    fn people_read_figures_without_needless_places() {
        let texts =
            [(0.5, "0.5"), (1024.0, "1024"), (0.012_34, "0.01234"), (2.0, "2"), (0.0, "0"), (100.4, "100")];
        for (figure, text) in texts {
            assert_eq!(plain(figure), text);
        }
        assert_eq!(Bound::Between(0.98, 1.05).text(), "0.98 to 1.05");
        assert_eq!(Bound::Below(0.02).text(), "below 0.02");
        assert_eq!(plain(f64::NAN), "NaN");
    }
}
