//! The example of two services with a database each: it runs, and shows what it says.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::process::{Command, Output, Stdio};

#[test]
fn the_example_shows_what_it_says() {
    let output = Command::new(env!("CARGO_BIN_EXE_transfer")).output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{}:\n{out}\n{err}", output.status);
    for line in [
        "  order-1   1 lamp   ada     40.00 €  accepted\n",
        "  order-3   1 chair  ada     100.00 €  accepted\n",
        "refused: there are not 9 of lamp on hand\n",
        "refused: the account of blaise holds less than 20000 cents\n",
        "aborted: VotedNo: ledger: the account of blaise holds less than 30000 cents\n",
        "aborted: LockTimeout: ",
        "  order-20  1 lamp   ada     40.00 €  accepted\n",
        "  orders reserved: 12, charged: 12, the same ones, and just those that were accepted\n",
        "  branches in doubt: 0\n",
        "Shown: ",
    ] {
        assert!(out.contains(line), "{line:?} is missing in:\n{out}\n{err}");
    }
    assert!(!err.contains("ERROR"), "{err}");
}

#[test]
fn a_service_without_its_settings_says_which() {
    for role in ["inventory", "ledger"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transfer"));
        let output = command.arg(role).env_remove("DATABASE_URL").stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        assert!(texts(&output).1.contains("DATABASE_URL must be set"), "{}", texts(&output).1);
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
