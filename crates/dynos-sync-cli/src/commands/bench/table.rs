//! The results, for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use super::{record::Shape, sample::Sample, workload::Workload};

/// What stands above the lines.
pub(super) const HEADING: &str = "\
workload                            rows     limit/s      ours/s   ratio   p50 ms   p99 ms  peak MiB  wire MiB  disk MiB";

/// A workload, measured several times.
pub(super) struct Measured {
    workload: Workload,
    rows: u64,
    pub(super) limit: Vec<Sample>,
    pub(super) ours: Vec<Sample>,
}

impl Measured {
    pub(super) fn new(workload: Workload, rows: u64) -> Self {
        Self { workload, rows, limit: Vec::new(), ours: Vec::new() }
    }

    /// The engine's rate as a part of the limit's.
    fn ratio(&self) -> Option<f64> {
        Some(median(&self.ours, |s| Some(s.rate()))? / median(&self.limit, |s| Some(s.rate()))?)
    }

    fn document(&self) -> Value {
        let (title, limit) = self.workload.title();
        json!({
            "workload": self.workload.name(), "title": title, "limit_title": limit, "rows": self.rows,
            "ratio": self.ratio(), "limit": self.limit, "ours": self.ours,
        })
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    let mut all: Vec<f64> = samples.iter().filter_map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, _) = self.workload.title();
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let rate = |samples: &[Sample]| number(median(samples, |s| Some(s.rate())), 0);
        let ours = |of: fn(&Sample) -> Option<f64>, digits| number(median(&self.ours, of), digits);
        let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / f64::from(1 << 20));
        write!(
            f,
            "{title:<30} {:>9} {:>11} {:>11} {:>7}",
            self.rows,
            rate(&self.limit),
            rate(&self.ours),
            number(self.ratio(), 3)
        )?;
        write!(f, " {:>8} {:>8}", ours(|s| s.p50_ms, 3), ours(|s| s.p99_ms, 3))?;
        let size = |of: fn(&Sample) -> Option<u64>| number(median(&self.ours, |s| mib(of(s))), 1);
        write!(
            f,
            " {:>9} {:>9} {:>9}",
            size(|s| s.peak_bytes),
            size(|s| s.wire_bytes),
            size(|s| s.disk_bytes)
        )?;
        match self.ours.last().and_then(|sample| sample.remark.as_ref()) {
            Some(remark) => write!(f, "  {remark}"),
            None => Ok(()),
        }
    }
}

/// Everything that was measured.
pub(super) struct Results {
    shape: Shape,
    runs: usize,
    all: Vec<Measured>,
}

impl Results {
    pub(super) fn new(shape: Shape, runs: usize) -> Self {
        Self { shape, runs, all: Vec::new() }
    }

    pub(super) fn push(&mut self, measured: Measured) {
        self.all.push(measured);
    }

    pub(super) fn document(&self) -> Value {
        let all: Vec<Value> = self.all.iter().map(Measured::document).collect();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        json!({"shape": self.shape.name(), "runs": self.runs, "cores": cores, "workloads": all})
    }
}
