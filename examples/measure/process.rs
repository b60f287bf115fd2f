//! What Linux counts of a process.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// `USER_HZ`, which is 100 on every architecture that Linux runs on today.
const TICKS: u64 = 100;

/// Processor time of all threads so far, user and system; in steps of 10 ms.
pub fn processor_time(process: &str) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is a name, in parentheses, that may hold spaces; the 14th and 15th are what was used (proc(5)).
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// The same for the threads that live now, to the nanosecond: for what is too short for ticks.
pub fn time_of_threads(process: u32) -> anyhow::Result<Duration> {
    let mut time = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let schedstat = fs::read_to_string(thread?.path().join("schedstat"))?;
        time += Duration::from_nanos(schedstat.split_whitespace().next().context("schedstat is empty")?.parse()?);
    }
    Ok(time)
}

/// A line of `/proc/…/status` in MiB: `VmRSS`, the memory that is held now, or `VmHWM`, the most that ever was.
pub fn memory(process: &str, line: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kibibytes: f64 = found.and_then(|text| text.trim().strip_suffix(" kB")).context("no such line in status")?.parse()?;
    Ok(kibibytes / 1024.0)
}
