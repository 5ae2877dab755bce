//! Signals, and the family of a process: what the standard library lacks.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Sends a signal.
pub(crate) fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    kill_process(as_pid(pid)?, signal).map_err(io::Error::from)
}

/// The direct children of a process, dead ones left out.
pub(crate) fn children(parent: u32) -> BTreeSet<u32> {
    if let Ok(entries) = fs::read_dir("/proc") {
        let pids =
            entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let found: BTreeSet<u32> = pids
            .filter(|pid| proc_stat(*pid).is_some_and(|(state, ppid)| !is_dead(&state) && ppid == parent))
            .collect();
        if proc_stat(std::process::id()).is_some() {
            return found;
        }
    }
    // No /proc (macOS, the BSDs).
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output() else {
        return BTreeSet::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            let (child, its_parent) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
            (its_parent == parent).then_some(child)
        })
        .collect()
}

/// Whether a process has ended. One that is dead and that nobody has reaped counts as gone: it
/// holds no memory, file or port.
pub(crate) fn gone(pid: u32) -> bool {
    let Ok(as_pid) = as_pid(pid) else { return true };
    match proc_stat(pid) {
        Some((state, _)) => is_dead(&state),
        None => test_kill_process(as_pid).is_err(),
    }
}

/// Whether a process has stopped after SIGSTOP, or has ended.
pub(crate) fn stopped(pid: u32) -> bool {
    if let Some((state, _)) = proc_stat(pid) {
        return state.starts_with(['T', 't']) || is_dead(&state);
    }
    if proc_stat(std::process::id()).is_some() {
        return true; // It has ended, and somebody has reaped it.
    }
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output();
    output.is_ok_and(|output| {
        let state = String::from_utf8_lossy(&output.stdout);
        state.trim().is_empty() || state.trim().starts_with(['T', 'Z'])
    })
}

/// Waits for a condition; false if it did not come within the bound.
pub(crate) fn wait_until(bound: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + bound;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

fn as_pid(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn is_dead(state: &str) -> bool {
    matches!(state, "Z" | "X")
}

/// Its state, and its parent. The name in brackets may itself hold brackets and spaces.
fn proc_stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.to_owned();
    Some((state, fields.next()?.parse().ok()?))
}
