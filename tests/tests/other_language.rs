//! The protocol in another language: `tests/python/two_branches.py` drives whole transactions as
//! application and as participant, from the `.proto` files alone and without the SDK.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pactum_coordinator::{Config, Coordinator, Listeners, open_log};

/// Every claim that the script has to print before it is done.
const CLAIMS: usize = 12;

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; install Python 3 with venv (Debian: apt-get install python3-venv)")
    });
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A virtual environment with exactly the packages of `requirements.txt`, kept between runs.
fn python(scripts: &Path) -> PathBuf {
    let wanted = fs::read_to_string(scripts.join("requirements.txt")).unwrap();
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let (python, stamp) = (home.join("bin/python"), home.join("requirements.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && python.exists() {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(scripts.join("requirements.txt")));
    fs::write(stamp, wanted).unwrap();
    python
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_two_branch_commit_is_driven_from_the_proto_alone_in_another_language() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let scripts = root.join("tests/python");
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        ..Config::default()
    };
    let log = open_log(&format!("sqlite:{}", folder.path().join("log.db").display())).await.unwrap();
    let listeners = Listeners::bind(&config).await.unwrap();
    let coordinator = Coordinator::start(listeners, log, config).unwrap();
    coordinator.ready().await;
    let address = coordinator.public_addr().to_string();
    let stubs = folder.path().join("stubs");

    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(python(&scripts));
        // Stubs belong to this run; the tree stays as it is.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        run(command.arg(scripts.join("two_branches.py")).arg(root.join("proto")).arg(stubs).arg(address))
    })
    .await
    .unwrap();
    let claims =
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with("ok: ")).count();
    assert_eq!(claims, CLAIMS, "{}", String::from_utf8_lossy(&output.stdout));
    coordinator.stop().await.unwrap();
}
