//! What an engine counts and remembers: of what it has told, and of how its jobs ended.
//!
//! It is in memory, and gone with the engine. What of it has to last is in the database.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use dynos_sync_core::{
    Millis, RecordKey,
    doctor::{Failed, Recent},
};

use crate::{
    error::SyncError,
    event::SyncEvent,
    metrics::{Counted, Metrics},
};

/// What an engine counts and remembers.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    counts: Counts,
    remembered: Mutex<Remembered>,
}

/// The numbers, each by its place in [`Counted::ALL`].
#[derive(Debug, Default)]
struct Counts([AtomicU64; Counted::ALL.len()]);

#[derive(Debug, Default)]
struct Remembered {
    /// The last jobs that failed, oldest first.
    failures: VecDeque<Failed>,
    /// Whether no job has succeeded since.
    is_failing: bool,
    /// Of records that were refused for now, what the server said last.
    refusals: BTreeMap<RecordKey, Failed>,
    resume_at: Option<Millis>,
}

impl Observed {
    /// So many failures are remembered.
    const FAILURES: usize = 20;
    /// Of so many records the refusal is remembered: those beyond wait all the same, without a reason that could be told.
    const REFUSALS: usize = 1000;

    pub(crate) fn add(&self, counted: Counted, count: usize) {
        self.counts.0[counted as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let value = |counted: Counted| self.counts.0[counted as usize].load(Ordering::Relaxed);
        Metrics::new(Counted::ALL.iter().map(|counted| (*counted, value(*counted))))
    }

    /// A job has ended.
    pub(crate) fn ended<T>(&self, at: Millis, result: &Result<T, SyncError>) {
        match result {
            Ok(_) => {
                self.add(Counted::Jobs, 1);
                self.remembered().is_failing = false;
            }
            // Somebody has ended it: nothing is wrong.
            Err(SyncError::SessionEnded | SyncError::Closed) => {}
            Err(error) => {
                self.add(Counted::JobFailures, 1);
                self.failed(at, error);
            }
        }
    }

    fn failed(&self, at: Millis, error: &SyncError) {
        let failed =
            Failed { at, kind: error.kind(), error: error.to_string(), needs_sign_in: error.is_auth() };
        let mut remembered = self.remembered();
        remembered.is_failing = true;
        if remembered.failures.len() == Self::FAILURES {
            remembered.failures.pop_front();
        }
        remembered.failures.push_back(failed);
    }

    /// Nobody calls the server by himself before this time.
    pub(crate) fn pauses_until(&self, resume_at: Option<Millis>) {
        self.remembered().resume_at = resume_at;
    }

    /// Something was told.
    pub(crate) fn note(&self, at: Millis, event: &SyncEvent) {
        match event {
            SyncEvent::Pushed { key } => {
                self.add(Counted::RecordsPushed, 1);
                self.forget(key);
            }
            SyncEvent::RetryScheduled { entry, error, .. } => {
                self.add(Counted::Refusals, 1);
                self.refused(at, &entry.key, error);
            }
            SyncEvent::PoisonPill { entry, .. } => {
                self.add(Counted::DeadLetters, 1);
                self.forget(&entry.key);
            }
            SyncEvent::Conflict { .. } => self.add(Counted::Conflicts, 1),
            SyncEvent::Quarantined { .. } => self.add(Counted::Quarantined, 1),
            SyncEvent::Resync { .. } => self.add(Counted::Walks, 1),
            _ => {}
        }
    }

    fn refused(&self, at: Millis, key: &RecordKey, error: &str) {
        let mut remembered = self.remembered();
        if remembered.refusals.len() < Self::REFUSALS || remembered.refusals.contains_key(key) {
            let failed = Failed { at, kind: "refused", error: error.to_owned(), needs_sign_in: false };
            remembered.refusals.insert(key.clone(), failed);
        }
    }

    fn forget(&self, key: &RecordKey) {
        let mut remembered = self.remembered();
        if !remembered.refusals.is_empty() {
            remembered.refusals.remove(key);
        }
    }

    /// The user has gone, and with him what was said of his records.
    pub(crate) fn begin_session(&self) {
        *self.remembered() = Remembered::default();
    }

    /// What is remembered that concerns a record.
    pub(crate) fn recent(&self, key: &RecordKey) -> Recent {
        let remembered = self.remembered();
        Recent {
            failure: remembered.failures.back().filter(|_| remembered.is_failing).cloned(),
            refusal: remembered.refusals.get(key).cloned(),
            resume_at: remembered.resume_at,
        }
    }

    /// The last failures, and what was refused lately; oldest first.
    pub(crate) fn failures(&self) -> Vec<Failed> {
        let remembered = self.remembered();
        let mut failures: Vec<Failed> = remembered.failures.iter().cloned().collect();
        failures.extend(remembered.refusals.values().take(Self::FAILURES).cloned());
        failures.sort_by_key(|failed| failed.at);
        failures
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
