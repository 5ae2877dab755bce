//! Runs what the operators' manual says: every command of docs/operations.md, in its order, against
//! real processes and databases. A command that fails, or that is refused otherwise than the manual
//! says, fails here.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::{pactum, until};

/// The manual.
const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");

/// One command of the manual.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    command: String,
    /// How it is to end: 0, or what the manual says behind it.
    exit: i32,
    /// It goes on serving while the next ones are run.
    serves: bool,
}

/// A part of the manual that is practised on one scene: the files that it gives, and its commands.
#[derive(Debug, Default)]
struct Part {
    files: BTreeMap<String, String>,
    lines: Vec<Line>,
}

/// Reads the parts by the name of their scene: `<!-- scene: NAME -->` begins one.
fn parts(text: &str) -> BTreeMap<String, Part> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    let (mut scene, mut block): (Option<String>, Option<(String, String)>) = (None, None);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("<!-- scene: ").and_then(|rest| rest.strip_suffix(" -->")) {
            scene = Some(name.to_owned());
        } else if let Some(info) = line.strip_prefix("```") {
            match block.take() {
                None => block = Some((info.to_owned(), String::new())),
                Some((info, text)) => {
                    let Some(scene) = &scene else { continue };
                    let part = parts.entry(scene.clone()).or_default();
                    match info.split_once(' ') {
                        None if info == "sh" => part.lines.extend(commands(&text)),
                        Some((_, file)) => drop(part.files.insert(file.to_owned(), text)),
                        None => {}
                    }
                }
            }
        } else if let Some((_, text)) = &mut block {
            text.push_str(line);
            text.push('\n');
        }
    }
    assert!(block.is_none(), "the last block has no end");
    parts
}

fn commands(text: &str) -> impl Iterator<Item = Line> + '_ {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let (command, note) = line.split_once("  #").unwrap_or((line, ""));
        let exit = note.trim().strip_prefix("exits ").map_or(0, |rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        });
        let command = command.trim();
        let serves = command.ends_with('&');
        Line { command: command.trim_end_matches('&').trim().to_owned(), exit, serves }
    })
}

#[test]
fn a_manual_is_read_by_scenes_blocks_and_notes() {
    let text = "```sh\nrm -rf /\n```\n<!-- scene: one -->\n```toml a.toml\nx = 1\n```\n```sh\n# no\npactum status\n\
                pactum tx show X  # exits 3: unknown\npactum serve &\n```\n```text\nnot run\n```\n";
    let parts = parts(text);
    assert_eq!(parts.len(), 1);
    assert_eq!(parts["one"].files["a.toml"], "x = 1\n");
    let line = |command: &str, exit, serves| Line { command: command.into(), exit, serves };
    assert_eq!(
        parts["one"].lines,
        [line("pactum status", 0, false), line("pactum tx show X", 3, false), line("pactum serve", 0, true)]
    );
}

/// What a part is run with: variables, a directory, and what it left serving.
struct Shell {
    directory: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    serving: Vec<Child>,
}

impl Shell {
    fn new(part: &Part, variables: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in &part.files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { directory, variables, serving: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        // The shell finds `pactum` where the one under test is; nobody is there to answer questions.
        let clean = pactum(&[]);
        let home = Path::new(clean.get_program()).parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.directory.path()).stdin(Stdio::null());
        for (name, value) in clean.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .env("PATH", format!("{}:{path}", home.display()))
            .env("PACTUM_YES", "true")
            .envs(&self.variables);
        command
    }

    fn run(&mut self, line: &Line) {
        if line.serves {
            self.serve(&line.command);
            return;
        }
        let output = self.command(&line.command).output().unwrap();
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(line.exit),
            "{}\nstdout:\n{said}\nstderr:\n{told}",
            line.command
        );
    }

    /// Starts what serves, and waits until it does: it writes ready.json then.
    fn serve(&mut self, line: &str) {
        let ready = self.path("ready.json");
        drop(std::fs::remove_file(&ready));
        // Any free ports, and found by `exec` under the id of the child that we have.
        let mut child = self
            .command(&format!("exec {line}"))
            .env("PACTUM_LISTEN", "127.0.0.1:0")
            .env("PACTUM_ADMIN_LISTEN", "127.0.0.1:0")
            .env("PACTUM_READY_FILE", &ready)
            .spawn()
            .unwrap();
        let addresses: serde_json::Value = until("it serves", || {
            assert!(child.try_wait().unwrap().is_none(), "{line} has ended");
            serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()
        });
        self.serving.push(child);
        let admin = addresses["admin"].as_str().unwrap().to_owned();
        self.variables.insert("PACTUM_SERVER".into(), admin);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for child in &mut self.serving {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn part(name: &str) -> Part {
    let mut parts = parts(&std::fs::read_to_string(MANUAL).unwrap());
    let part = parts.remove(name).unwrap_or_else(|| panic!("the manual has no scene {name}"));
    assert!(part.lines.len() >= 5, "the manual's scene {name} has hardly a command");
    part
}

#[test]
fn day_one_and_day_two_are_as_the_manual_says() {
    let server =
        pactum_postgres_server::PostgresServer::start_with(&[("max_prepared_transactions", "20")]).unwrap();
    let part = part("fresh");
    let mut shell = Shell::new(&part, [("LOG", server.superuser_url())]);
    for line in &part.lines {
        shell.run(line);
    }
    assert_eq!(shell.serving.len(), 1, "the manual starts a coordinator");
}

/// The practice scene, as `pactum demo outage` sets it.
struct Scene {
    demo: Child,
    told: serde_json::Value,
}

impl Scene {
    fn set() -> Self {
        let mut demo = pactum(&["demo", "outage", "-o", "jsonl"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(demo.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let told = serde_json::from_str(&line).unwrap_or_else(|error| {
            drop(demo.kill());
            panic!("{error}: {line:?}")
        });
        Self { demo, told }
    }

    fn gid(&self, name: &str) -> String {
        let transactions = self.told["transactions"].as_array().unwrap();
        let found = transactions.iter().find(|one| one["name"] == name).unwrap();
        found["gid"].as_str().unwrap().to_owned()
    }

    fn text(&self, pointer: &str) -> String {
        self.told.pointer(pointer).unwrap().as_str().unwrap().to_owned()
    }

    fn start(&mut self, bank: &str) {
        writeln!(self.demo.stdin.as_mut().unwrap(), "start {bank}").unwrap();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        support::send(&self.demo, rustix::process::Signal::INT);
        drop(self.demo.wait());
    }
}

#[test]
fn the_worst_day_is_as_the_manual_says() {
    let mut scene = Scene::set();
    let part = part("outage");
    let mut shell = Shell::new(
        &part,
        [
            ("PACTUM_SERVER", scene.text("/server")),
            ("LOG", scene.text("/log")),
            ("BANK_B", scene.text("/databases/bank-b")),
            ("INVOICE", scene.gid("invoice")),
            ("PAYROLL", scene.gid("payroll")),
            ("REFUND", scene.gid("refund")),
        ],
    );
    for line in &part.lines {
        match line.command.strip_prefix("start ") {
            // Typed into the scene's own terminal, as the manual says.
            Some(bank) => scene.start(bank),
            None => shell.run(line),
        }
    }
    // An audit that verifies is left behind, and nothing is open.
    let audit = std::fs::read_to_string(shell.path("audit.jsonl")).unwrap();
    assert!(audit.lines().count() >= 4, "{audit}");
    until("nothing is open", || {
        let list = shell.command("pactum tx list -o json").output().unwrap();
        let list: serde_json::Value = serde_json::from_slice(&list.stdout).ok()?;
        list["transactions"].as_array()?.is_empty().then_some(())
    });
}
