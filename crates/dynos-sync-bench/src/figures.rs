//! What `dynos bench --json` prints.

use std::{fs, path::Path};

use serde::Deserialize;

/// The figures of one call of `dynos bench`.
#[derive(Debug, Deserialize)]
pub(crate) struct Figures {
    /// What the records look like.
    pub(crate) shape: String,
    /// How often each was measured.
    pub(crate) runs: usize,
    /// The machine's cores.
    pub(crate) cores: usize,
    /// Each workload.
    pub(crate) workloads: Vec<Workload>,
}

/// A workload, measured several times beside its limit.
#[derive(Debug, Deserialize)]
pub(crate) struct Workload {
    pub(crate) workload: String,
    pub(crate) title: String,
    pub(crate) limit_title: String,
    pub(crate) rows: u64,
    pub(crate) ratio: Option<f64>,
    pub(crate) limit: Vec<Sample>,
    pub(crate) ours: Vec<Sample>,
}

/// One run of one side.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    pub(crate) count: u64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) peak_bytes: Option<u64>,
    pub(crate) wire_bytes: Option<u64>,
    pub(crate) disk_bytes: Option<u64>,
    #[serde(default)]
    pub(crate) remark: Option<String>,
}

impl Sample {
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

impl Figures {
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// One of several: a later one's workloads take the place of an earlier one's, and what is said of all is the first one's.
    pub(crate) fn merge(all: Vec<Self>) -> Option<Self> {
        let mut all = all.into_iter();
        let mut merged = all.next()?;
        for later in all {
            for new in later.workloads {
                match merged
                    .workloads
                    .iter_mut()
                    .find(|old| old.workload == new.workload && old.rows == new.rows)
                {
                    Some(old) => *old = new,
                    None => merged.workloads.push(new),
                }
            }
        }
        Some(merged)
    }
}

/// The median of what samples say.
pub(crate) fn median(samples: &[Sample], of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    let mut all: Vec<f64> = samples.iter().filter_map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}
