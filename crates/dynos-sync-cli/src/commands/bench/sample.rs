//! What one run of one side measured.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// What one run measured. A process makes one, so that the memory is its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sample {
    /// What was timed, in seconds.
    pub(super) seconds: f64,
    /// How many rows, or calls, were timed.
    pub(super) count: u64,
    /// The median time of one, in milliseconds, where each is timed.
    pub(super) p50_ms: Option<f64>,
    /// The 99th percentile of these.
    pub(super) p99_ms: Option<f64>,
    /// The most memory that the process had, in bytes.
    pub(super) peak_bytes: Option<u64>,
    /// What crossed the loopback interface, headers and both directions included, in bytes.
    pub(super) wire_bytes: Option<u64>,
    /// The database with its log, in bytes.
    pub(super) disk_bytes: Option<u64>,
    /// What else is worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remark: Option<String>,
}

impl Sample {
    /// How many a second.
    pub(super) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// With the sizes of a database's files.
    pub(super) fn on_disk(mut self, database: &Path) -> Self {
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        self.disk_bytes = Some(size(database) + size(Path::new(&log)));
        self
    }

    /// With a remark.
    pub(super) fn remarking(mut self, remark: String) -> Self {
        self.remark = Some(remark);
        self
    }
}

/// Times what lies between its making and its end.
pub(super) struct Watch {
    start: Instant,
    wire: Option<u64>,
    each: Vec<Duration>,
}

impl Watch {
    pub(super) fn start() -> Self {
        Self { each: Vec::new(), wire: loopback_bytes(), start: Instant::now() }
    }

    /// One of many calls took this long.
    pub(super) fn took(&mut self, time: Duration) {
        self.each.push(time);
    }

    /// How many were timed so far.
    pub(super) fn count(&self) -> u64 {
        self.each.len() as u64
    }

    /// Ends the timing.
    pub(super) fn stop(mut self, count: u64) -> Sample {
        let seconds = self.start.elapsed().as_secs_f64();
        self.each.sort_unstable();
        let at = |share: f64| {
            let place = ((self.each.len() as f64 * share) as usize).min(self.each.len().saturating_sub(1));
            self.each.get(place).map(|time| time.as_secs_f64() * 1000.0)
        };
        let (p50_ms, p99_ms) = (at(0.5), at(0.99));
        let wire_bytes = self.wire.zip(loopback_bytes()).map(|(before, after)| after - before);
        Sample {
            seconds,
            count,
            p50_ms,
            p99_ms,
            wire_bytes,
            peak_bytes: peak_bytes("self"),
            ..Sample::default()
        }
    }
}

/// The most memory that a process has had so far, where the system says.
pub(super) fn peak_bytes(process: &str) -> Option<u64> {
    status(process, "VmHWM:")
}

/// The memory that a process has now, where the system says.
pub(super) fn memory_bytes(process: &str) -> Option<u64> {
    status(process, "VmRSS:")
}

fn status(process: &str, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn loopback_bytes() -> Option<u64> {
    let devices = fs::read_to_string("/proc/net/dev").ok()?;
    let counts = devices.lines().find_map(|line| line.trim().strip_prefix("lo:"))?;
    counts.split_whitespace().next()?.parse().ok()
}
