//! What was done, counted.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    time::Duration,
};

/// Counts of a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cycles: u64,
    pub(crate) checks: u64,
    pub(crate) kills: BTreeMap<&'static str, u64>,
    pub(crate) faults: BTreeMap<String, u64>,
    /// How processes ended that nobody killed.
    pub(crate) ends: BTreeMap<String, u64>,
    pub(crate) bytes: u64,
    pub(crate) transactions: u64,
    pub(crate) edits: u64,
    pub(crate) conflicts: u64,
    pub(crate) applied: u64,
    pub(crate) records: u64,
    /// The most memory of a process, in KiB, by its kind.
    pub(crate) memory: BTreeMap<&'static str, u64>,
    /// The largest file, in bytes, by its kind.
    pub(crate) files: BTreeMap<&'static str, u64>,
    pub(crate) longest_settling: Duration,
    pub(crate) violations: Vec<String>,
}

impl Tally {
    pub(crate) fn kill(&mut self, part: &'static str) {
        *self.kills.entry(part).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, name: &str) {
        *self.faults.entry(name.to_owned()).or_default() += 1;
    }

    pub(crate) fn end(&mut self, how: String) {
        *self.ends.entry(how).or_default() += 1;
    }

    pub(crate) fn memory(&mut self, kind: &'static str, kib: Option<u64>) {
        let most = self.memory.entry(kind).or_default();
        *most = (*most).max(kib.unwrap_or(0));
    }

    pub(crate) fn file(&mut self, kind: &'static str, bytes: u64) {
        let most = self.files.entry(kind).or_default();
        *most = (*most).max(bytes);
    }

    /// The line that says how it ended.
    pub(crate) fn verdict(&self) -> String {
        let kills: u64 = self.kills.values().sum();
        format!("{} cycles, {kills} kills, {} violations", self.cycles, self.violations.len())
    }

    /// The figures.
    pub(crate) fn report(&self, took: Duration) -> String {
        let rate = self.cycles as f64 / took.as_secs_f64().max(0.001);
        let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        let sizes: Vec<String> =
            self.files.iter().map(|(kind, bytes)| format!("{kind} {:.1}", mib(*bytes))).collect();
        let memory: Vec<String> =
            self.memory.iter().map(|(kind, kib)| format!("{kind} {}", kib / 1024)).collect();
        let faults: u64 = self.faults.values().sum();
        [
            format!("killed: {}", Counts(&self.kills)),
            format!("faults: {faults}: {}", Counts(&self.faults)),
            format!("ended by themselves: {}", Counts(&self.ends)),
            format!(
                "written: {} transactions, {} edits; {} applied by the server, {} conflicts, {} records in the end",
                self.transactions, self.edits, self.applied, self.conflicts, self.records
            ),
            format!("checks: {}, the longest wait for one {:.1?}", self.checks, self.longest_settling),
            format!("most MiB of memory: {}; of files: {}", memory.join(", "), sizes.join(", ")),
            format!("{:.1} cycles a second, {:.1} MiB through the proxies, {took:.0?}", rate, mib(self.bytes)),
        ]
        .join("\n")
    }
}

struct Counts<'a, K>(&'a BTreeMap<K, u64>);

impl<K: Display> Display for Counts<'_, K> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (n, (name, count)) in self.0.iter().enumerate() {
            write!(f, "{}{name} {count}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
