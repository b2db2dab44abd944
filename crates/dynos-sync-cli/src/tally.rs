//! A remote that counts what passes, by table.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use dynos_sync::core::{
    Remote, RemoteError, TableName, TableSpec,
    snapshot::{Held, Snapshot, SnapshotRequest, SnapshotSource},
    wire::{Heads, HeadsRequest, Hint, Page, PullRequest, PushAnswer, PushRequest, PushResult},
};
use futures_util::stream::BoxStream;

use crate::progress::Progress;

/// What passed of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Changes that the server took.
    pub(crate) pushed: usize,
    /// Changes of other devices that came from the server.
    pub(crate) pulled: usize,
    /// Changes that the server refused.
    pub(crate) rejected: usize,
}

/// Counts on the way to another remote.
#[derive(Debug)]
pub(crate) struct Tally {
    remote: Arc<dyn Remote>,
    passed: Mutex<BTreeMap<TableName, Passed>>,
    /// The rows of the snapshot that was offered last of each table. They count when it is offered: all of it may be here already, of an attempt
    /// that was ended.
    offered: Mutex<BTreeMap<TableName, usize>>,
    /// All changes that came, those of this device too.
    received: AtomicUsize,
    progress: Progress,
}

impl Tally {
    pub(crate) fn new(remote: Arc<dyn Remote>, progress: Progress) -> Self {
        let (passed, offered) = (Mutex::default(), Mutex::default());
        Self { remote, passed, offered, received: AtomicUsize::new(0), progress }
    }

    /// What has passed so far.
    pub(crate) fn passed(&self) -> BTreeMap<TableName, Passed> {
        let mut passed = lock(&self.passed).clone();
        for (table, rows) in lock(&self.offered).iter() {
            let pulled = &mut passed.entry(table.clone()).or_default().pulled;
            *pulled = pulled.saturating_add(*rows);
        }
        passed
    }

    fn note(&self, table: &TableName, note: impl FnOnce(&mut Passed)) {
        note(lock(&self.passed).entry(table.clone()).or_default());
    }

    fn note_push(&self, request: &PushRequest, answer: &PushAnswer) {
        for (entry, result) in request.entries.iter().zip(&answer.results) {
            self.note(&entry.table, |passed| match result {
                PushResult::Applied { .. } | PushResult::Duplicate { .. } => passed.pushed += 1,
                PushResult::Rejected { .. } => passed.rejected += 1,
                // Counted where it is decided: in the journal.
                PushResult::Conflict { .. } => {}
            });
        }
        self.progress.pushed(request.entries.len());
    }
}

#[async_trait]
impl Remote for Tally {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.remote.declare(tables).await
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.remote.tables().await
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        self.remote.heads(request).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        let answer = self.remote.push(request).await?;
        self.note_push(request, &answer);
        Ok(answer)
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        let table = request.table.clone();
        if request.cursor.is_none() {
            // From the beginning, in place of what a snapshot holds.
            lock(&self.offered).remove(&table);
        }
        let page = self.remote.pull(request).await?;
        self.note(&table, |passed| passed.pulled += others(&page));
        let received = self.received.fetch_add(page.changes.len(), Ordering::Relaxed) + page.changes.len();
        self.progress.received(received);
        Ok(page)
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        self.remote.hints()
    }

    fn snapshots(&self) -> Option<&dyn SnapshotSource> {
        self.remote.snapshots().map(|_| self as &dyn SnapshotSource)
    }
}

#[async_trait]
impl SnapshotSource for Tally {
    async fn offer(&self, request: &SnapshotRequest) -> Result<Option<Snapshot>, RemoteError> {
        let Some(source) = self.remote.snapshots() else { return Ok(None) };
        let offered = source.offer(request).await?;
        if let Some(snapshot) = &offered {
            lock(&self.offered).extend(rows(snapshot));
        }
        Ok(offered)
    }

    async fn fetch(&self, snapshot: &Snapshot, from: u64) -> Result<Vec<u8>, RemoteError> {
        let source = self.remote.snapshots().ok_or_else(|| RemoteError::transient("no snapshots"))?;
        let piece = source.fetch(snapshot, from).await?;
        if from + piece.len() as u64 == snapshot.bytes {
            let rows = rows(snapshot).into_values().fold(0, usize::saturating_add);
            self.progress.received(self.received.fetch_add(rows, Ordering::Relaxed).saturating_add(rows));
        }
        Ok(piece)
    }
}

fn rows(snapshot: &Snapshot) -> BTreeMap<TableName, usize> {
    let rows = |held: &Held| usize::try_from(held.rows).unwrap_or(usize::MAX);
    snapshot.tables.iter().map(|(table, held)| (table.clone(), rows(held))).collect()
}

fn lock<T>(counted: &Mutex<T>) -> MutexGuard<'_, T> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

fn others(page: &Page) -> usize {
    page.changes.iter().filter(|change| !change.own).count()
}
