//! The night that `pactum demo outage` sets up, with the console alone: each of the three is found, its
//! reason read, ended if it may be, refused if it may not, and the audit that is left verifies.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::acts::confirm;
use crate::browser::{Browser, Kind};

/// The command, which is built beside the programs of the tests.
fn pactum() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_pactum-tests-role"));
    let pactum = beside.with_file_name("pactum");
    assert!(pactum.exists(), "{} is missing: cargo build -p pactum-cli", pactum.display());
    pactum
}

/// The scene; taken away when dropped.
struct Outage {
    demo: Child,
    told: Value,
}

impl Outage {
    fn set() -> Self {
        let mut demo = Command::new(pactum())
            .args(["demo", "outage", "-o", "jsonl"])
            // Open: that its end is the end of the demo's orders is not to be tried here.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(demo.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { demo, told }
    }

    fn gid(&self, name: &str) -> String {
        let transactions = self.told["transactions"].as_array().unwrap();
        let found = transactions.iter().find(|transaction| transaction["name"] == name).unwrap();
        found["gid"].as_str().unwrap().to_owned()
    }

    fn server(&self) -> &str {
        self.told["server"].as_str().unwrap()
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        // If it cannot be told, it has ended.
        if kill_process(Pid::from_child(&self.demo), Signal::INT).is_ok() {
            drop(self.demo.wait());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_night_is_mastered_with_the_console_alone() {
    let outage = tokio::task::spawn_blocking(Outage::set).await.unwrap();
    let [invoice, payroll, refund] = ["invoice", "payroll", "refund"].map(|name| outage.gid(name));
    let browser = Browser::open(outage.server(), Kind::DESK).await;

    // Decided, and its participant is gone: nothing to end, and nobody can take it back.
    browser.go("/in-doubt").await;
    browser.says("invoice").await;
    browser.go(&format!("/transactions/{invoice}")).await;
    browser.says("Why it waits").await;
    let text = browser.text().await;
    assert!(text.contains("bank-b (not attached"), "{text}");
    browser.click("Resolve").await;
    browser.says("It would be refused").await;
    assert!(browser.text().await.contains("PACTUM-0007"));

    // Undecided, and the other branch holds its locks meanwhile: aborted, through the log.
    browser.go("/transactions").await;
    browser.says("payroll").await;
    browser.go(&format!("/transactions/{payroll}")).await;
    browser.says("Why it waits").await;
    let text = browser.text().await;
    assert!(text.contains("votes of bank-c"), "{text}");
    browser.click("Resolve").await;
    browser.says("What would be done").await;
    confirm(&browser, "bank-c is down until noon").await;
    browser.says("Done").await;
    browser.go(&format!("/act?do=resolve&gid={payroll}")).await;
    browser.says("It would be refused").await;

    // Decided, and ended by hand: known for what it is, and forgotten once it is set right.
    browser.go("/heuristics").await;
    browser.says("bank-d").await;
    browser.go(&format!("/transactions/{refund}")).await;
    browser.says("mixed").await;
    browser.click("Forget").await;
    browser.says("What would be done").await;
    confirm(&browser, "booked again as 4711").await;
    browser.says("Done").await;

    // What is left behind is whole, here and for whoever takes it away.
    browser.go("/audit/verify").await;
    browser.says("The audit is whole").await;
    let export = "const get = new XMLHttpRequest(); get.open('GET', '/audit/export', false); get.send(); \
                  return get.responseText;";
    let export = browser.run(export).await.as_str().unwrap().to_owned();
    for told in ["bank-c is down until noon", "booked again as 4711", "\"resolve\"", "\"forget\""] {
        assert!(export.contains(told), "{told} is missing in {export}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    std::fs::write(&file, export).unwrap();
    let verified = Command::new(pactum()).args(["audit", "verify", "--file"]).arg(&file).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    browser.close().await;
}
