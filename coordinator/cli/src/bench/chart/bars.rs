//! Figures side by side, as bars that lie: their names are long.

use super::svg::{Anchor, COLORS, GRID, INK, PALE, Stroke, Svg, Text, figure, text_width};

/// One bar: its name, and its parts from left to right.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) name: String,
    /// What each stands for, by its place among [`Bars::parts`], and its length.
    pub(super) parts: Vec<(usize, f64)>,
    /// The least and the most over the rounds, of the whole bar.
    pub(super) range: Option<[f64; 2]>,
}

impl Bar {
    /// Of one part.
    pub(super) fn plain(name: String, value: f64, range: Option<[f64; 2]>) -> Self {
        Self { name, parts: vec![(0, value)], range }
    }

    fn whole(&self) -> f64 {
        self.parts.iter().map(|(_, length)| length).sum()
    }
}

/// A part of the picture with bars.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bars {
    pub(super) heading: &'static str,
    /// What the lengths are.
    pub(super) unit: &'static str,
    /// What the parts are called; nothing where every bar is one part.
    pub(super) parts: Vec<String>,
    pub(super) each: Vec<Bar>,
}

/// From the top to the first bar; a bar with the room below it; its thickness; below the last.
const TOP: f64 = 44.0;
const STEP: f64 = 26.0;
const THICK: f64 = 17.0;
const BELOW: f64 = 24.0;
const LEGEND: f64 = 22.0;
/// Room for figures on the right.
const RIGHT: f64 = 70.0;
/// Half of the height of a whisker's ends.
const CAP: f64 = 4.0;

/// The height of one, with its heading and its axis.
pub(super) fn height(bars: &Bars) -> f64 {
    let count = f64::from(u32::try_from(bars.each.len()).unwrap_or(u32::MAX));
    TOP + STEP * count + BELOW + if bars.parts.is_empty() { 0.0 } else { LEGEND }
}

impl Bars {
    /// Draws it into this box's upper part.
    pub(super) fn draw(&self, svg: &mut Svg, (x, y): (f64, f64), width: f64) {
        svg.text((x, y + 16.0), Anchor::Start, self.heading, Text::Heading);
        svg.text((x, y + 35.0), Anchor::Start, self.unit, Text::Note);
        let names = self.each.iter().map(|bar| text_width(&bar.name)).fold(0.0, f64::max);
        let (left, right) = (x + names + 10.0, x + width - RIGHT);
        let longest = self.each.iter().map(|bar| bar.range.map_or(0.0, |[_, most]| most).max(bar.whole()));
        let most = longest.filter(|length| length.is_finite()).fold(0.0_f64, f64::max);
        let mark = mark(most);
        let place =
            |length: f64| left + (length / most.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0) * (right - left);
        let (top, bottom) =
            (y + TOP, y + height(self) - BELOW - if self.parts.is_empty() { 0.0 } else { LEGEND });

        let mut at = 0.0;
        while at <= most * 1.001 {
            svg.line((place(at), top - 2.0), (place(at), bottom), GRID, Stroke::Thin);
            svg.text((place(at), bottom + 15.0), Anchor::Middle, &figure(at), Text::Note);
            at += mark;
        }
        let mut y = top + 2.0;
        for bar in &self.each {
            svg.text((left - 10.0, y + 13.0), Anchor::End, &bar.name, Text::Label);
            let mut from = 0.0;
            for &(part, length) in &bar.parts {
                let to = from + length;
                svg.rect((place(from), y), (place(to) - place(from), THICK), COLORS[part % COLORS.len()]);
                from = to;
            }
            let mut end = place(from);
            if let Some([least, most]) = bar.range {
                let middle = y + THICK / 2.0;
                svg.line((place(least), middle), (place(most), middle), INK, Stroke::Whisker);
                for at in [least, most].map(place) {
                    svg.line((at, middle - CAP), (at, middle + CAP), INK, Stroke::Whisker);
                }
                end = end.max(place(most));
            }
            svg.text((end + 8.0, y + 13.0), Anchor::Start, &figure(bar.whole()), Text::Label);
            y += STEP;
        }
        svg.line((left, top - 2.0), (left, bottom), PALE, Stroke::Thin);
        self.legend(svg, (x, bottom + 36.0));
    }

    fn legend(&self, svg: &mut Svg, (mut x, y): (f64, f64)) {
        for (name, color) in self.parts.iter().zip(COLORS.iter().cycle()) {
            svg.rect((x, y - 10.0), (12.0, 12.0), color);
            svg.text((x + 18.0, y), Anchor::Start, name, Text::Label);
            x += 42.0 + text_width(name);
        }
    }
}

/// The distance of the marks on an axis up to this: a round figure, with three to six of them.
fn mark(most: f64) -> f64 {
    if !most.is_finite() || most <= 0.0 {
        return 1.0;
    }
    let power = 10.0_f64.powf((most / 3.0).log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|step| step * power).find(|step| most / step >= 3.0).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_three_to_eight_marks_at_round_figures() {
        for most in [0.003, 0.9, 1.0, 1.2, 7.0, 30_000.0, 99.0, 123_456.0] {
            let count = most / mark(most);
            assert!((2.999..=8.001).contains(&count), "{most}: {count}");
        }
        assert!((mark(0.9) - 0.2).abs() < 1e-12 && (mark(30_000.0) - 10_000.0).abs() < 1e-6);
        assert!(mark(0.0) > 0.0 && mark(f64::NAN) > 0.0);
    }
}
