//! `process_*`: what the daemon's process takes of the machine, under the names that Prometheus' own clients give.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use rustix::process::{Resource, getrlimit};

/// Of a second, in /proc: `USER_HZ` is 100 on every machine that bellpull is built for.
const TICKS: f64 = 100.0;

type Number = Gauge<f64, AtomicU64>;

#[derive(Debug, Default)]
pub struct Process {
    cpu: Counter<f64, AtomicU64>,
    resident: Number,
    open_files: Number,
    max_files: Number,
    started: Number,
}

impl Process {
    pub fn register(&self, r: &mut Registry) {
        let cpu = self.cpu.clone();
        r.register_with_unit("process_cpu", "Time of processors, of user and system", Unit::Seconds, cpu);
        r.register_with_unit("process_resident_memory", "Memory that is resident", Unit::Bytes, self.resident.clone());
        r.register("process_open_fds", "File descriptors that are open", self.open_files.clone());
        r.register("process_max_fds", "File descriptors that may be open", self.max_files.clone());
        let started = self.started.clone();
        r.register_with_unit("process_start_time", "When the process began, since 1970", Unit::Seconds, started);
    }

    /// Reads them. What the machine does not tell stays as it was.
    pub fn look(&self) {
        let read = |path: &str| fs::read_to_string(path).ok();
        if let Some((cpu, began)) = read("/proc/self/stat").as_deref().and_then(times) {
            self.cpu.inner().store(cpu.to_bits(), Ordering::Relaxed);
            if let Some(booted) = read("/proc/stat").as_deref().and_then(|text| number(text, "btime ")) {
                self.started.set(booted + began);
            }
        }
        if let Some(kib) = read("/proc/self/status").as_deref().and_then(|text| number(text, "VmRSS:")) {
            self.resident.set(kib * 1024.0);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One is that of the listing.
            let open = u32::try_from(open.count().saturating_sub(1)).unwrap_or(u32::MAX);
            self.open_files.set(open.into());
        }
        let max = getrlimit(Resource::Nofile).current.and_then(|max| u32::try_from(max).ok());
        self.max_files.set(max.map_or(f64::INFINITY, f64::from));
    }
}

/// Seconds of processors, and from the boot to the start, by proc_pid_stat(5). The name of a program may hold what looks like the end
/// of it.
fn times(stat: &str) -> Option<(f64, f64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The third field of the page is the first one behind the name.
    let ticks = |field: usize| fields.get(field.checked_sub(3)?)?.parse::<f64>().ok();
    Some(((ticks(14)? + ticks(15)?) / TICKS, ticks(22)? / TICKS))
}

/// The number at the start of a line behind a word.
fn number(text: &str, word: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        let behind = "S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 12345 1000 200";
        for name in ["bellpull", "a b", "x) S 1 (y", ")"] {
            assert_eq!(times(&format!("42 ({name}) {behind}")), Some((3.0, 123.45)), "{name}");
        }
        for wrong in
            ["", "42 (bellpull", "42 (bellpull) S 1", "42 (bellpull) S x x x x x x x x x x x x x x x x x x x x"]
        {
            assert_eq!(times(wrong), None, "{wrong}");
        }
        assert_eq!(number("VmSize: 1 kB\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(number("cpu 1\n", "btime "), None);
    }

    /// Of this very process, on Linux.
    #[test]
    fn the_process_tells_of_itself() {
        let process = Process::default();
        process.look();
        assert!(process.cpu.get() >= 0.0 && process.resident.get() > 1e6, "{process:?}");
        assert!(process.open_files.get() >= 3.0 && process.max_files.get() >= process.open_files.get(), "{process:?}");
        assert!(process.started.get() > 1.5e9, "{process:?}");
    }
}
