//! How things stand, and following it.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use dynos_sync_core::{Millis, TableName, replica::State};
use futures_util::{
    FutureExt, Stream, StreamExt,
    future::select_all,
    stream::{self, BoxStream},
};
use tokio::sync::watch;

use crate::{engine::SyncEngine, error::SyncError, event::EventStream};

/// How things stand: all that a sync indicator needs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Whether the server could be reached last.
    pub online: bool,
    /// Whether a drain or a pull is under way.
    pub syncing: bool,
    /// The tables that are being pulled from their beginning, with the changes received so far.
    pub progress: BTreeMap<TableName, usize>,
    /// When all that was pending had last been pushed and all tables pulled, in milliseconds since 1970. `None`: not since the engine was started.
    pub last_sync: Option<Millis>,
    /// Why the last drain or sync failed, if it did.
    pub last_error: Option<String>,
    /// The database: pending changes, dead letters, conflicts, tables with their cursors and last sync.
    pub state: State,
}

/// What the engine's thread notes down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) online: bool,
    pub(crate) syncing: bool,
    pub(crate) last_sync: Option<Millis>,
    pub(crate) last_error: Option<String>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { online: true, syncing: false, last_sync: None, last_error: None }
    }
}

/// How far tables have come that are being pulled from their beginning.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<BTreeMap<TableName, usize>>);

impl Progress {
    pub(crate) fn set(&self, table: &TableName, rows: usize) {
        self.with(|tables| tables.insert(table.clone(), rows));
    }

    pub(crate) fn end(&self, table: &TableName) {
        self.with(|tables| tables.remove(table));
    }

    pub(crate) fn all(&self) -> BTreeMap<TableName, usize> {
        self.with(|tables| tables.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<TableName, usize>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How things stand: at once, and again whenever that has changed. Changes that come while nobody takes the next item count as one.
/// It ends with the engine.
pub struct StatusStream(BoxStream<'static, Result<Status, SyncError>>);

impl fmt::Debug for StatusStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatusStream")
    }
}

impl Stream for StatusStream {
    type Item = Result<Status, SyncError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl SyncEngine {
    /// Follows the [`status`](Self::status): it yields the first at once, and the next when something in it has changed. An error is an
    /// item like any other.
    pub fn watch_status(&self) -> StatusStream {
        let followed = Followed {
            standing: self.standing(),
            edits: self.edits(),
            events: self.events(),
            foreign_commits: self.replica().foreign_commits(),
            engine: self.clone(),
            has_begun: false,
            last: None,
        };
        StatusStream(
            stream::unfold(followed, async |mut status| Some((status.next().await?, status))).boxed(),
        )
    }
}

struct Followed {
    engine: SyncEngine,
    standing: watch::Receiver<Standing>,
    edits: watch::Receiver<u64>,
    events: EventStream,
    foreign_commits: Option<BoxStream<'static, ()>>,
    has_begun: bool,
    last: Option<Status>,
}

impl Followed {
    async fn next(&mut self) -> Option<Result<Status, SyncError>> {
        loop {
            if self.has_begun {
                self.something().await?;
            }
            self.has_begun = true;
            match self.engine.status().await {
                Err(SyncError::Closed) => return None,
                Err(error) => return Some(Err(error)),
                Ok(status) if self.last.as_ref() == Some(&status) => {}
                Ok(status) => {
                    self.last = Some(status.clone());
                    return Some(Ok(status));
                }
            }
        }
    }

    /// Waits for anything that may have changed something. `None` where nothing ever will.
    async fn something(&mut self) -> Option<()> {
        let noted = self.standing.changed().map(Result::ok);
        let edited = self.edits.changed().map(Result::ok);
        let told = self.events.next().map(|event| event.map(drop));
        let mut ways = vec![noted.boxed(), edited.boxed(), told.boxed()];
        if let Some(commits) = &mut self.foreign_commits {
            // Where they end, the others go on.
            ways.push(
                async {
                    if commits.next().await.is_some() { Some(()) } else { std::future::pending().await }
                }
                .boxed(),
            );
        }
        let (one, ..) = select_all(ways).await;
        // What has been told meanwhile is one change.
        while let Some(Some(_)) = self.events.next().now_or_never() {}
        one
    }
}
