//! What the command prints. Data goes to stdout, in one of three forms; hints, notes and errors go
//! to stderr, so that a script may read one and ignore the other.

pub(crate) mod audit;
pub(crate) mod heuristic;
pub(crate) mod participant;
pub(crate) mod plan;
pub(crate) mod prepared;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod times;
pub(crate) mod transaction;
pub(crate) mod view;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::args::{Color, Format, Global, TimeForm};
use crate::exit::Exit;
use crate::failure::Failure;
use times::Times;

/// Where and how to print.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    /// Nothing is ever asked.
    no_input: bool,
    time: Option<TimeForm>,
    color: ColorChoice,
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

impl Output {
    /// As the global options want it.
    pub(crate) fn new(global: &Global) -> Self {
        let color = match global.color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        // For whoever does not get this value: the log.
        color.write_global();
        Self {
            format: global.output,
            quiet: global.quiet,
            no_input: global.no_input,
            time: global.time,
            color,
        }
    }

    /// How times look, ages as of now.
    pub(crate) fn times(&self) -> Times {
        Times::new(self.time, jiff::Timestamp::now())
    }

    /// Whether a question can be asked and answered: people read, and a terminal is there to type at.
    pub(crate) fn can_ask(&self) -> bool {
        self.for_people() && !self.no_input && io::stdin().is_terminal()
    }

    /// Prints text for people to a terminal in place of what stood there, or below it where stdout is
    /// no terminal.
    pub(crate) fn screen(&self, text: impl fmt::Display) -> Result<(), Failure> {
        if Self::is_screen() {
            // Home, and clear from there down: less flicker than clearing everything first.
            self.text(format_args!("\x1b[H\x1b[J{text}"))
        } else {
            self.text(text)
        }
    }

    /// Whether stdout is a terminal.
    pub(crate) fn is_screen() -> bool {
        io::stdout().is_terminal()
    }

    /// Whether people read what is printed.
    pub(crate) fn for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Prints text for people to stdout.
    pub(crate) fn text(&self, text: impl fmt::Display) -> Result<(), Failure> {
        // A reader that went away (`pactum tx list | head`) is no failure of ours.
        match writeln!(AutoStream::new(io::stdout(), self.color).lock(), "{text}") {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Failed, "stdout cannot be written").because(&error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Prints one document to stdout. With `-o jsonl` on one line, with `-o json` indented.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        let text = match self.format {
            Format::Jsonl => serde_json::to_string(document),
            Format::Table | Format::Json => serde_json::to_string_pretty(document),
        };
        let text =
            text.map_err(|error| Failure::new(Exit::Failed, "no JSON can be made of this").because(&error))?;
        self.text(text)
    }

    /// Prints one document to stdout, on a line of its own.
    pub(crate) fn line(&self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document)
            .map_err(|error| Failure::new(Exit::Failed, "no JSON can be made of this").because(&error))?;
        self.text(text)
    }

    /// Tells people what to type next, on stderr.
    pub(crate) fn hint(&self, text: impl fmt::Display) {
        if self.for_people() && !self.quiet {
            self.note(format_args!("{HINT}{text}{HINT:#}"));
        }
    }

    /// Tells people something that is not data, on stderr.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        // Nobody is left to be told if stderr is closed.
        drop(writeln!(AutoStream::new(io::stderr(), self.color).lock(), "{text}"));
    }

    /// Tells what went wrong, on stderr.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.for_people() {
            self.note(format_args!("{ERROR}error:{ERROR:#} {failure}"));
        } else {
            self.note(failure.json());
        }
    }
}
