//! The answer, written as its reader wants it.

use std::fmt::Write as _;

use super::Form;
use super::items::{Item, Level};
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::aligned;

/// Prints it to stdout.
pub(super) fn print(form: Form, items: &[Item], output: &Output) -> Result<(), Failure> {
    match form {
        Form::Text => output.text(text(items)),
        Form::Json => {
            let status = Level::worst(items);
            output.document(&serde_json::json!({ "status": status, "items": items }))
        }
        Form::Prometheus => output.text(prometheus(items).trim_end()),
        Form::Nagios => output.text(nagios(items)),
    }
}

fn text(items: &[Item]) -> String {
    let rows = items
        .iter()
        .map(|item| vec![item.level.name().to_uppercase(), item.name.to_owned(), item.text.clone()]);
    aligned(rows)
}

/// Only items that are not well are told in words; the numbers follow after the bar.
fn nagios(items: &[Item]) -> String {
    let worst = Level::worst(items);
    let bad: Vec<String> = items
        .iter()
        .filter(|item| item.level != Level::Ok)
        .map(|item| format!("{}: {}", item.name, item.text))
        .collect();
    let told = if bad.is_empty() { "all is well".to_owned() } else { bad.join("; ") };
    let numbers: Vec<String> = items
        .iter()
        .filter_map(|item| {
            let unit = if item.gauge.ends_with("_seconds") { "s" } else { "" };
            Some(format!("{}={}{unit}", item.gauge, item.value?))
        })
        .collect();
    let bar = if numbers.is_empty() { String::new() } else { format!(" | {}", numbers.join(" ")) };
    // A bar in the text would end it.
    format!("PACTUM {} - {}{bar}", worst.name().to_uppercase(), told.replace('|', "/"))
}

fn prometheus(items: &[Item]) -> String {
    let mut text = "# HELP pactum_check_status How well it is: 0 ok, 1 warning, 2 critical, 3 unknown.\n\
                    # TYPE pactum_check_status gauge\n"
        .to_owned();
    for item in items {
        writeln!(text, "pactum_check_status{{item=\"{}\"}} {}", item.name, item.level.number())
            .expect("writing to a String cannot fail");
    }
    for item in items {
        let Some(value) = item.value else { continue };
        let gauge = item.gauge;
        write!(
            text,
            "# HELP pactum_check_{gauge} What `pactum check` found of {}.\n# TYPE pactum_check_{gauge} gauge\npactum_check_{gauge} {value}\n",
            item.name
        )
        .expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Item> {
        let item =
            |name, level, text: &str, value, gauge| Item { name, level, text: text.into(), value, gauge };
        vec![
            item("log", Level::Ok, "can be written", Some(1.0), "log_writable"),
            item("in-doubt", Level::Warning, "2 | or so", Some(61.5), "in_doubt_oldest_seconds"),
        ]
    }

    #[test]
    fn each_form_is_what_its_reader_reads() {
        assert_eq!(
            nagios(&items()),
            "PACTUM WARNING - in-doubt: 2 / or so | log_writable=1 in_doubt_oldest_seconds=61.5s"
        );
        assert_eq!(text(&items()), "OK       log       can be written\nWARNING  in-doubt  2 | or so");
        let prometheus = prometheus(&items());
        assert!(prometheus.contains("pactum_check_status{item=\"in-doubt\"} 1\n"), "{prometheus}");
        assert!(prometheus.contains("\npactum_check_in_doubt_oldest_seconds 61.5\n"), "{prometheus}");
        assert!(prometheus.lines().all(|line| line.starts_with("# ") || line.starts_with("pactum_check_")));
    }
}
