//! What an engine counts and remembers: of what it has told, and of how its jobs ended.
//!
//! It is in memory, and gone with the engine. What of it has to last is in the database.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
};

use dynos_sync_core::{
    Millis, RecordKey, TableName,
    doctor::{Failed, Recent},
};
use tokio::sync::watch;

use crate::{
    error::SyncError,
    event::SyncEvent,
    metrics::{Counted, Metrics},
    status::{ConnectionState, Progress},
    trace::Job,
};

/// What an engine counts and remembers.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    counts: Counts,
    standing: watch::Sender<Standing>,
}

/// The numbers, each by its place in [`Counted::ALL`].
#[derive(Debug, Default)]
struct Counts([AtomicU64; Counted::ALL.len()]);

/// How an engine stands, as far as it is not in the database: since it was started, or since the last logout.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) connection: ConnectionState,
    /// Whether a job is under way.
    pub(crate) syncing: bool,
    /// How far tables have come that are being pulled from their beginning.
    pub(crate) progress: BTreeMap<TableName, Progress>,
    /// When a sync last succeeded.
    pub(crate) last_sync: Option<Millis>,
    /// The last jobs that failed, oldest first.
    failures: VecDeque<Failed>,
    /// Whether no job has succeeded since.
    is_failing: bool,
    /// Of records that were refused for now, what the server said last.
    refusals: BTreeMap<RecordKey, Failed>,
    resume_at: Option<Millis>,
}

impl Standing {
    /// The last failure, unless a job has succeeded since.
    pub(crate) fn failure(&self) -> Option<&Failed> {
        self.failures.back().filter(|_| self.is_failing)
    }
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

    /// Changes with what is remembered.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// What is remembered now.
    pub(crate) fn standing(&self) -> watch::Ref<'_, Standing> {
        self.standing.borrow()
    }

    /// Remembers something.
    pub(crate) fn remember(&self, note: impl FnOnce(&mut Standing)) {
        self.standing.send_modify(note);
    }

    /// That is known of the connection now; answers what was known before.
    pub(crate) fn connected(&self, connection: ConnectionState) -> ConnectionState {
        let mut before = connection;
        self.standing.send_if_modified(|standing| {
            before = std::mem::replace(&mut standing.connection, connection);
            before != connection
        });
        before
    }

    /// A page has come of a table that is being pulled from its beginning.
    pub(crate) fn walked(&self, table: &TableName, is_first: bool, page: Progress) {
        self.remember(|standing| {
            let progress = standing.progress.entry(table.clone()).or_default();
            let before = if is_first { Progress::default() } else { *progress };
            *progress = Progress { rows: before.rows + page.rows, total: page.total.or(before.total) };
        });
    }

    /// A table has been pulled to its end.
    pub(crate) fn has_walked(&self, table: &TableName) {
        self.standing.send_if_modified(|standing| standing.progress.remove(table).is_some());
    }

    /// A job has ended.
    pub(crate) fn ended(&self, at: Millis, job: Job, error: Option<&SyncError>) {
        match error {
            None => {
                self.add(Counted::Jobs, 1);
                self.remember(|standing| {
                    standing.is_failing = false;
                    if matches!(job, Job::Sync) {
                        standing.last_sync = Some(at);
                    }
                });
            }
            // Somebody has ended it: nothing is wrong.
            Some(SyncError::SessionEnded | SyncError::Closed) => {}
            Some(error) => {
                self.add(Counted::JobFailures, 1);
                self.failed(at, error);
            }
        }
    }

    fn failed(&self, at: Millis, error: &SyncError) {
        let failed =
            Failed { at, kind: error.kind(), error: error.to_string(), needs_sign_in: error.is_auth() };
        self.remember(|standing| {
            standing.is_failing = true;
            if standing.failures.len() == Self::FAILURES {
                standing.failures.pop_front();
            }
            standing.failures.push_back(failed);
        });
    }

    /// Nobody calls the server by himself before this time.
    pub(crate) fn pauses_until(&self, resume_at: Option<Millis>) {
        self.remember(|standing| standing.resume_at = resume_at);
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
        let failed = Failed { at, kind: "refused", error: error.to_owned(), needs_sign_in: false };
        self.remember(|standing| {
            if standing.refusals.len() < Self::REFUSALS || standing.refusals.contains_key(key) {
                standing.refusals.insert(key.clone(), failed);
            }
        });
    }

    fn forget(&self, key: &RecordKey) {
        self.standing.send_if_modified(|standing| standing.refusals.remove(key).is_some());
    }

    /// The user has gone, and with him what was said of his records.
    pub(crate) fn begin_session(&self) {
        self.standing.send_replace(Standing::default());
    }

    /// What is remembered that concerns a record.
    pub(crate) fn recent(&self, key: &RecordKey) -> Recent {
        let standing = self.standing();
        Recent {
            failure: standing.failure().cloned(),
            refusal: standing.refusals.get(key).cloned(),
            resume_at: standing.resume_at,
        }
    }

    /// The last failures, and what was refused lately; oldest first.
    pub(crate) fn failures(&self) -> Vec<Failed> {
        let standing = self.standing();
        let mut failures: Vec<Failed> = standing.failures.iter().cloned().collect();
        failures.extend(standing.refusals.values().take(Self::FAILURES).cloned());
        failures.sort_by_key(|failed| failed.at);
        failures
    }
}
