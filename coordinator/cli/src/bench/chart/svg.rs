//! A drawing, written as text: a few shapes of SVG, with everything that was given escaped.

use std::fmt;

/// What things are drawn in. All have a contrast of at least 3 to white, and differ in lightness as well.
pub(super) const COLORS: [&str; 6] = ["#0b5cad", "#c2410c", "#0f766e", "#9d2f7a", "#6b7280", "#a16207"];
/// Text, and what is to be seen first.
pub(super) const INK: &str = "#1f2933";
/// Text that explains.
pub(super) const PALE: &str = "#52606d";
/// Lines that only guide.
pub(super) const GRID: &str = "#d9dee4";

/// Which end of a text stands at its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// The shapes so far. Lengths are in pixels at the size drawn.
#[derive(Debug, Default)]
pub(super) struct Svg(String);

impl Svg {
    fn put(&mut self, shape: fmt::Arguments<'_>) {
        self.0.push_str(&shape.to_string());
        self.0.push('\n');
    }

    /// A straight line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), color: &str, style: Stroke) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let (width, dash) = (style.width(), style.dash());
        self.put(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{color}" stroke-width="{width}"{dash}/>"#
        ));
    }

    /// A line through all points.
    pub(super) fn path(&mut self, points: &[(f64, f64)], color: &str, style: Stroke) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (points, width, dash) = (points.join(" "), style.width(), style.dash());
        self.put(format_args!(
            r#"<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{width}" stroke-linejoin="round"{dash}/>"#
        ));
    }

    /// A filled box.
    pub(super) fn rect(&mut self, corner: (f64, f64), size: (f64, f64), color: &str) {
        let ((x, y), (width, height)) = (corner, (size.0.max(0.0), size.1.max(0.0)));
        self.put(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{color}"/>"#
        ));
    }

    /// A dot.
    pub(super) fn dot(&mut self, (x, y): (f64, f64), color: &str) {
        self.put(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{color}"/>"#));
    }

    /// A text, on one line.
    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str, style: Text) {
        let (size, weight, color) = style.look();
        let (anchor, text) = (anchor.name(), escaped(text));
        self.put(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{color}">{text}</text>"#
        ));
    }

    /// The whole document. It stands on white, so that it is read alike where all around it is dark.
    pub(super) fn document(self, (width, height): (f64, f64), title: &str, description: &str) -> String {
        let (title, description, shapes) = (escaped(title), escaped(description), self.0);
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-labelledby="title description" font-family="system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif">
<title id="title">{title}</title>
<desc id="description">{description}</desc>
<rect width="100%" height="100%" fill="#ffffff"/>
{shapes}</svg>
"##
        )
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stroke {
    /// Guides the eye.
    Thin,
    /// Shows a range.
    Whisker,
    /// Is what is to be seen.
    Plain,
    /// Is what that is compared with.
    Dashed,
}

impl Stroke {
    fn width(self) -> f64 {
        match self {
            Self::Thin => 1.0,
            Self::Whisker | Self::Dashed => 1.5,
            Self::Plain => 2.0,
        }
    }

    fn dash(self) -> &'static str {
        if self == Self::Dashed { r#" stroke-dasharray="6 4""# } else { "" }
    }
}

/// How a text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Of the whole picture.
    Title,
    /// Of a part of it.
    Heading,
    /// A figure, or what something is called.
    Label,
    /// What explains.
    Note,
}

impl Text {
    fn look(self) -> (u8, u16, &'static str) {
        match self {
            Self::Title => (18, 600, INK),
            Self::Heading => (14, 600, INK),
            Self::Label => (12, 400, INK),
            Self::Note => (12, 400, PALE),
        }
    }
}

/// About how wide a label is: no less than it is in any of the fonts asked for.
pub(super) fn text_width(text: &str) -> f64 {
    7.0 * f64::from(u32::try_from(text.chars().count()).unwrap_or(u32::MAX))
}

/// The text with what XML would take for its own replaced, and without what it does not allow.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(' '),
            other if other.is_control() || matches!(other, '\u{fffe}' | '\u{ffff}') => {}
            other => out.push(other),
        }
    }
    out
}

/// A figure in at most three digits that say something, with its thousands and millions as letters.
pub(super) fn figure(value: f64) -> String {
    let (scaled, letter) = match value.abs() {
        size if size >= 999_500.0 => (value / 1_000_000.0, " M"),
        size if size >= 999.5 => (value / 1000.0, " k"),
        _ => (value, ""),
    };
    let places = match scaled.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.0995 || size == 0.0 => 2,
        _ => 3,
    };
    let text = format!("{scaled:.places$}");
    let text = if places > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{letter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let all = [
            (0.0, "0"),
            (0.0123, "0.012"),
            (0.5, "0.5"),
            (1.0, "1"),
            (7.654, "7.65"),
            (30.04, "30"),
            (999.0, "999"),
            (999.9, "1 k"),
            (30_123.0, "30.1 k"),
            (1_250_000.0, "1.25 M"),
        ];
        for (value, text) in all {
            assert_eq!(figure(value), text, "{value}");
        }
    }

    #[test]
    fn what_xml_would_take_for_its_own_is_escaped() {
        assert_eq!(escaped("a<b> & \"c\"\n\u{1}d"), "a&lt;b&gt; &amp; &quot;c&quot; d");
    }
}
