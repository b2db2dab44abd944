//! What an operation has done.

use std::{collections::BTreeMap, time::Duration};

use dynos_sync_core::TableName;

/// What a drain has done.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Requests made.
    pub cycles: usize,
    /// Records that the server has taken.
    pub pushed: usize,
    /// Records that somebody else had changed first.
    pub conflicts: usize,
    /// Records that were refused and will be tried again.
    pub retried: usize,
    /// Records that were refused for good.
    pub dead_letters: usize,
    /// Bytes of fields sent, before compression.
    pub bytes: usize,
    /// How long it took.
    pub duration: Duration,
}

/// What a pull has done.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PullReport {
    /// What was done in each table that had changed.
    pub tables: BTreeMap<TableName, TableReport>,
    /// How long it took.
    pub duration: Duration,
}

/// What a pull has done in one table.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TableReport {
    /// Pages fetched.
    pub pages: usize,
    /// Changes received.
    pub rows: usize,
    /// Of those, conflicts.
    pub conflicts: usize,
    /// Bytes of fields received, before compression.
    pub bytes: usize,
}

/// What a sync has done.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SyncReport {
    /// What was pushed.
    pub drain: DrainReport,
    /// What was pulled.
    pub pull: PullReport,
}

impl DrainReport {
    pub(crate) fn add(&mut self, other: &Self) {
        self.cycles += other.cycles;
        self.pushed += other.pushed;
        self.conflicts += other.conflicts;
        self.retried += other.retried;
        self.dead_letters += other.dead_letters;
        self.bytes += other.bytes;
        self.duration += other.duration;
    }
}

impl PullReport {
    /// Changes received, over all tables.
    pub fn rows(&self) -> usize {
        self.tables.values().map(|table| table.rows).sum()
    }

    /// Conflicts decided, over all tables.
    pub fn conflicts(&self) -> usize {
        self.tables.values().map(|table| table.conflicts).sum()
    }
}
