//! Tables without lines, and the short forms of ages and ids that stand in them.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use pactum_core::id::Gid;

/// A table with this header, in our layout: two spaces between columns, no lines.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = bare();
    table.set_header(header);
    space(&mut table);
    table
}

/// Rows under each other, without a header.
pub(crate) fn aligned(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = bare();
    for row in rows {
        table.add_row(row);
    }
    space(&mut table);
    render(&table)
}

fn bare() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn space(table: &mut Table) {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
}

/// The table as text, without blanks at the ends of its lines.
pub(crate) fn render(table: &Table) -> String {
    table.trim_fmt()
}

/// Enough of a gid to recognise it: both ends. The end alone is what people type.
pub(crate) fn short_gid(gid: Gid) -> String {
    let text = gid.as_uuid().simple().to_string();
    format!("{}..{}", &text[..6], &text[26..])
}

/// The last six characters: what a person types to confirm, and enough to find it again.
pub(crate) fn gid_tail(gid: Gid) -> String {
    gid.as_uuid().simple().to_string()[26..].to_owned()
}

/// The last six characters of an id: enough to tell a few apart, and to type.
pub(crate) fn tail(id: &str) -> &str {
    id.char_indices().rev().nth(5).map_or(id, |(index, _)| &id[index..])
}

/// Cuts a text for a column, and shows that it did.
pub(crate) fn cut(text: &str, characters: usize) -> String {
    let line = text.replace(['\n', '\r', '\t'], " ");
    if line.chars().count() <= characters {
        return line;
    }
    let kept: String = line.chars().take(characters.saturating_sub(2)).collect();
    format!("{}..", kept.trim_end())
}

/// An age in two units: `420ms`, `6.3s`, `6m12s`, `3h05m`, `2d04h`.
pub(crate) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0 => format!("{}ms", age.as_millis()),
        1..60 => format!("{seconds}.{}s", age.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let cases =
            [(0.42, "420ms"), (6.34, "6.3s"), (372.0, "6m12s"), (11_100.0, "3h05m"), (187_200.0, "2d04h")];
        for (seconds, text) in cases {
            assert_eq!(age(Duration::from_secs_f64(seconds)), text);
        }
    }

    #[test]
    fn long_texts_are_cut_and_tails_are_short() {
        assert_eq!(cut("as it is", 8), "as it is");
        assert_eq!(cut("two\nlines of it", 9), "two lin..");
        assert_eq!((tail("0199c3d0-004a7f2a"), tail("abc"), tail("")), ("4a7f2a", "abc", ""));
    }

    #[test]
    fn a_table_has_no_lines_and_no_trailing_blanks() {
        let mut table = table(["TRANSACTION", "STATE"]);
        table.add_row(["a", "b"]);
        assert_eq!(render(&table), "TRANSACTION  STATE\na            b");
    }
}
