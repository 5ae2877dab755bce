//! What processes cost: processor time and memory, as Linux tells in `/proc`. Elsewhere nothing is known.

use std::fs;

use crate::exit::Exit;
use crate::failure::Failure;

/// Processor time that a process and all that it has waited for has taken, in seconds; with `family`
/// also that of its children which are alive.
pub(super) fn cpu_seconds(pid: u32, family: bool) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "hundredths of seconds, far below 2^52")]
    let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let mut all = seconds(ticks(pid)?);
    if family {
        for child in children(pid) {
            // Where a hundred backends work for two seconds, a tick is much of what each has taken.
            all += thread_seconds(child).or_else(|| ticks(child).map(seconds)).unwrap_or(0.0);
        }
    }
    Some(all)
}

/// Processor time of a process's first thread, to the nanosecond. Servers' children have no other.
fn thread_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanoseconds = stat.split_whitespace().next()?.parse().ok()?;
    Some(std::time::Duration::from_nanos(nanoseconds).as_secs_f64())
}

/// The most memory that a process has ever held, in bytes; with `family` its present children's
/// anonymous memory is added, since what they share would be counted many times.
pub(super) fn peak_memory(pid: u32, family: bool) -> Option<u64> {
    let own = status_kib(pid, "VmHWM:")?;
    let of_children = if family {
        children(pid).into_iter().filter_map(|child| status_kib(child, "RssAnon:")).sum()
    } else {
        0
    };
    Some((own + of_children) * 1024)
}

/// The memory that a process holds now, in bytes.
pub(super) fn resident_memory(pid: u32) -> Option<u64> {
    Some(status_kib(pid, "VmRSS:")? * 1024)
}

/// For whoever cannot do without the figure.
pub(super) fn known(memory: Option<u64>) -> Result<u64, Failure> {
    let unknown = || Failure::new(Exit::Failed, "the memory of a process is not known on this system");
    memory.ok_or_else(|| unknown().next("run it on Linux"))
}

/// User and system time, with those of ended children, in ticks.
fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; the state is the first field after it.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let field = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(field(11)? + field(12)? + field(13)? + field(14)?)
}

fn status_kib(pid: u32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The machine, in a few words.
pub(super) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    let gib = kib.and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib.div_ceil(1 << 20));
    format!("{cores} cores of {model}, {gib} GiB, {}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_taken_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid, true).is_some_and(|seconds| seconds >= 0.0));
        assert!(thread_seconds(pid).is_some_and(|seconds| seconds > 0.0 && seconds < 86_400.0));
        assert!(peak_memory(pid, false) >= resident_memory(pid).map(|resident| resident / 2));
        assert!(resident_memory(pid).is_some_and(|bytes| bytes > 100_000));
        assert!(machine().contains(" cores of "), "{}", machine());
    }

    #[test]
    fn a_process_that_is_not_there_has_no_figures() {
        assert_eq!((cpu_seconds(u32::MAX, true), peak_memory(u32::MAX, false)), (None, None));
    }
}
