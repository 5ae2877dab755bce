//! `docs/cli.md` against what can be typed: its tables are made from the same definitions.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;
use crate::exit::Exit;

/// Set to write the tables anew instead of comparing them.
const WRITE: &str = "PACTUM_TEST_WRITE_REFERENCE";

#[test]
fn the_reference_has_every_command_and_option() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let made = replaced(&replaced(&text, "commands", &commands()), "options", &options());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert!(
        made == std::fs::read_to_string(&path).unwrap(),
        "docs/cli.md is not what can be typed: run this test with {WRITE}=1, and read what it wrote"
    );
}

#[test]
fn the_reference_has_every_exit_code() {
    let text = include_str!("../../../../docs/cli.md");
    for word in Exit::HELP.split_whitespace().filter(|word| word.parse::<u8>().is_ok()) {
        assert!(text.contains(&format!("\n| {word} | ")), "{word}");
    }
}

/// The text with another table between the marks of that name.
fn replaced(text: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- {name}: made from the program; a test compares -->\n");
    let end = format!("<!-- end of {name} -->");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
    format!("{before}{begin}{table}{end}{after}")
}

/// Every command that is shown, with its own options.
fn commands() -> String {
    let mut table = "| Command | Options | |\n|---|---|---|\n".to_owned();
    add(&mut table, "pactum", &Cli::command());
    table
}

fn add(table: &mut String, path: &str, command: &Command) {
    let shown = |sub: &&Command| !sub.is_hide_set() && sub.get_name() != "help";
    if command.has_subcommands() {
        for sub in command.get_subcommands().filter(shown) {
            add(table, &format!("{path} {}", sub.get_name()), sub);
        }
        return;
    }
    let own = || command.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set());
    let places: Vec<String> =
        own().filter(|arg| arg.is_positional()).map(|arg| format!(" {}", place(arg))).collect();
    let places = places.concat();
    let options: Vec<String> = own()
        .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        .filter_map(|arg| arg.get_long().map(|long| format!("`--{long}`")))
        .collect();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(table, "| `{path}{places}` | {} | {about} |", options.join(" ")).unwrap();
}

/// `ID...`, or `[CODE]` where it may be left out.
fn place(arg: &Arg) -> String {
    let name = arg.get_value_names().map_or_else(|| arg.get_id().to_string(), |names| names[0].to_string());
    let several = arg.get_action().takes_values() && matches!(arg.get_action(), clap::ArgAction::Append);
    let name = format!("{name}{}", if several { "..." } else { "" });
    if arg.is_required_set() { name } else { format!("[{name}]") }
}

/// The options of every command, with their variables.
fn options() -> String {
    let mut table = "| Option | Variable | |\n|---|---|---|\n".to_owned();
    for arg in Cli::command().get_arguments().filter(|arg| arg.is_global_set()) {
        let short = arg.get_short().map(|short| format!("`-{short}` ")).unwrap_or_default();
        let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(table, "| {short}`--{}` | `{variable}` | {help} |", arg.get_long().unwrap_or_default())
            .unwrap();
    }
    table
}
