//! Figures by the number in flight: both axes grow by factors, since both span orders of magnitude.

use super::svg::{Anchor, COLORS, GRID, INK, PALE, Stroke, Svg, Text, figure};

/// One line: what it is called, and its points.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<Point>,
}

/// A figure at some number in flight, with the least and the most over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) in_flight: u32,
    pub(super) value: f64,
    pub(super) range: [f64; 2],
}

/// A part of the picture with lines.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lines {
    pub(super) heading: &'static str,
    /// What the vertical axis shows, and in what.
    pub(super) unit: &'static str,
    pub(super) series: Vec<Series>,
    /// What all is compared with: drawn across.
    pub(super) across: Option<(&'static str, f64)>,
}

/// The height of one, with its heading, axes and legend, where so many lines are named.
pub(super) fn height(lines: &Lines) -> f64 {
    PLOT_TOP + PLOT + 52.0 + LEGEND * names(lines)
}

/// From the top to the plot, its height, and that of a line of the legend.
const PLOT_TOP: f64 = 48.0;
const PLOT: f64 = 230.0;
const LEGEND: f64 = 18.0;
/// Room for the figures of the vertical axis.
const LEFT: f64 = 52.0;
/// Half of the width of a whisker's ends.
const CAP: f64 = 4.0;

fn names(lines: &Lines) -> f64 {
    let all = lines.series.len() + usize::from(lines.across.is_some());
    f64::from(u32::try_from(all).unwrap_or(u32::MAX))
}

/// A stretch of an axis that grows by factors.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        let share = (value.clamp(self.low, self.high) / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }
}

impl Lines {
    /// Draws it into this box's upper part.
    pub(super) fn draw(&self, svg: &mut Svg, (x, y): (f64, f64), width: f64) {
        svg.text((x, y + 16.0), Anchor::Start, self.heading, Text::Heading);
        svg.text((x, y + 35.0), Anchor::Start, self.unit, Text::Note);
        let (left, right) = (x + LEFT, x + width - 8.0);
        let (top, bottom) = (y + PLOT_TOP, y + PLOT_TOP + PLOT);
        let points = || self.series.iter().flat_map(|series| &series.points);

        let (low, high) =
            decades(points().flat_map(|point| point.range).chain(self.across.map(|(_, value)| value)));
        let vertical = Scale { low, high, from: bottom, to: top };
        let mut mark = low;
        while mark <= high * 1.001 {
            let at = vertical.place(mark);
            svg.line((left, at), (right, at), GRID, Stroke::Thin);
            svg.text((left - 8.0, at + 4.0), Anchor::End, &figure(mark), Text::Note);
            mark *= 10.0;
        }

        let mut marks: Vec<u32> = points().map(|point| point.in_flight).collect();
        marks.sort_unstable();
        marks.dedup();
        let (fewest, greatest) = (marks.first().copied().unwrap_or(1), marks.last().copied().unwrap_or(1));
        // One alone stands in the middle.
        let (low, high) = if fewest == greatest {
            (f64::from(fewest) / 2.0, f64::from(greatest) * 2.0)
        } else {
            (f64::from(fewest), f64::from(greatest))
        };
        let horizontal = Scale { low, high, from: left + 18.0, to: right - 18.0 };
        for mark in marks {
            let at = horizontal.place(f64::from(mark));
            svg.line((at, bottom), (at, bottom + 5.0), PALE, Stroke::Thin);
            svg.text((at, bottom + 19.0), Anchor::Middle, &mark.to_string(), Text::Note);
        }
        svg.line((left, bottom), (right, bottom), PALE, Stroke::Thin);
        svg.text((left.midpoint(right), bottom + 37.0), Anchor::Middle, "transactions in flight", Text::Note);

        let mut legend = bottom + 58.0;
        let mut named = |svg: &mut Svg, color: &str, stroke: Stroke, name: &str| {
            svg.line((left, legend - 4.0), (left + 26.0, legend - 4.0), color, stroke);
            svg.text((left + 34.0, legend), Anchor::Start, name, Text::Label);
            legend += LEGEND;
        };
        if let Some((name, value)) = self.across {
            let at = vertical.place(value);
            svg.line((left, at), (right, at), INK, Stroke::Dashed);
            named(svg, INK, Stroke::Dashed, &format!("{name}: {}", figure(value)));
        }
        for (series, color) in self.series.iter().zip(COLORS.iter().cycle()) {
            let place = |point: &Point, value: f64| {
                (horizontal.place(f64::from(point.in_flight)), vertical.place(value))
            };
            let through: Vec<_> = series.points.iter().map(|point| place(point, point.value)).collect();
            svg.path(&through, color, Stroke::Plain);
            for (point, &at) in series.points.iter().zip(&through) {
                let [least, most] = point.range.map(|value| place(point, value));
                whisker(svg, least, most, color);
                svg.dot(at, color);
                // Figures of several lines would stand in each other's way.
                if self.series.len() == 1 {
                    let above = if at.1.min(most.1) - 9.0 < top { least.1 + 18.0 } else { most.1 - 9.0 };
                    svg.text((at.0, above), Anchor::Middle, &figure(point.value), Text::Label);
                }
            }
            named(svg, color, Stroke::Plain, &series.name);
        }
    }
}

/// From the least to the most.
fn whisker(svg: &mut Svg, (x, least): (f64, f64), (_, most): (f64, f64), color: &str) {
    svg.line((x, least), (x, most), color, Stroke::Whisker);
    for end in [least, most] {
        svg.line((x - CAP, end), (x + CAP, end), color, Stroke::Whisker);
    }
}

/// The powers of ten around all that is more than nothing.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let known = values.filter(|value| value.is_finite() && *value > 0.0);
    let (least, most) =
        known.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    if most <= 0.0 {
        return (1.0, 10.0);
    }
    let (low, high) = (10.0_f64.powf(least.log10().floor()), 10.0_f64.powf(most.log10().ceil()));
    (low, if high > low { high } else { low * 10.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_goes_from_a_power_of_ten_to_the_next_around_all() {
        let near = |(low, high): (f64, f64), (from, to): (f64, f64)| {
            assert!((low / from - 1.0).abs() < 1e-9 && (high / to - 1.0).abs() < 1e-9, "{low} {high}");
        };
        near(decades([0.2, 35.0, 0.0, f64::NAN].into_iter()), (0.1, 100.0));
        near(decades([100.0].into_iter()), (100.0, 1000.0));
        near(decades([].into_iter()), (1.0, 10.0));
    }
}
