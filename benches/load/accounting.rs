//! What the kernel books on a process: CPU time, context switches, resident memory. Read from `/proc`, so nothing is
//! added to the process that is measured.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::Result;

/// The books of a process at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    /// User and system time of the whole process, ended threads included; coarse (hundredths of a second).
    coarse: Duration,
    /// By thread: time on a CPU, to the nanosecond, and context switches.
    threads: BTreeMap<u32, (Duration, u64)>,
}

/// What was booked between two moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Voluntary and involuntary context switches.
    pub(crate) switches: u64,
}

impl Books {
    /// Reads them.
    pub(crate) fn read(pid: u32) -> Result<Self> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            // A thread may end between the listing and the reading.
            if let Some((thread, booked)) = read_thread(&entry) {
                threads.insert(thread, booked);
            }
        }
        let coarse =
            coarse_cpu(&fs::read_to_string(format!("/proc/{pid}/stat"))?).ok_or("unexpected /proc/PID/stat")?;
        Ok(Self { coarse, threads })
    }

    /// What was spent since `earlier`. Where a thread has ended meanwhile, its time is in the coarse books only.
    pub(crate) fn since(&self, earlier: &Self) -> Spent {
        let all_live = earlier.threads.keys().all(|thread| self.threads.contains_key(thread));
        let (cpu, switches) = self.totals();
        let (cpu_before, switches_before) = earlier.totals();
        Spent {
            cpu: if all_live { cpu.saturating_sub(cpu_before) } else { self.coarse.saturating_sub(earlier.coarse) },
            switches: switches.saturating_sub(switches_before),
        }
    }

    fn totals(&self) -> (Duration, u64) {
        self.threads.values().fold((Duration::ZERO, 0), |(cpu, switches), booked| (cpu + booked.0, switches + booked.1))
    }
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status_field(&status, "VmRSS:").ok_or_else(|| "no VmRSS in /proc/PID/status".into())
}

fn read_thread(entry: &fs::DirEntry) -> Option<(u32, (Duration, u64))> {
    let thread = entry.file_name().to_str()?.parse().ok()?;
    let schedstat = fs::read_to_string(entry.path().join("schedstat")).ok()?;
    let on_cpu = schedstat.split_whitespace().next()?.parse().ok()?;
    let status = fs::read_to_string(entry.path().join("status")).ok()?;
    let voluntary = status_field(&status, "voluntary_ctxt_switches:")?;
    let involuntary = status_field(&status, "nonvoluntary_ctxt_switches:")?;
    Some((thread, (Duration::from_nanos(on_cpu), voluntary + involuntary)))
}

/// The number behind `name` in a `/proc/PID/status`.
pub(crate) fn status_field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// `utime` plus `stime` of a `/proc/PID/stat`. The second field, the program's name, may hold blanks and parentheses.
pub(crate) fn coarse_cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10)) // USER_HZ is 100 on every Linux that Rust knows
}
