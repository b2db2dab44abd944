//! How things stand, and following it.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::SystemTime,
};

use dynos_sync_core::{
    TableName,
    replica::{State, TableState},
};
use futures_util::{
    FutureExt, Stream, StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::watch;

use crate::{
    clock::system_time,
    engine::SyncEngine,
    error::SyncError,
    event::EventStream,
    observe::Standing,
    worker::{Shared, next_of},
};

/// How far a table has come that is being pulled from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Changes received so far.
    pub rows: usize,
    /// Changes that there are in all, where the server has said so: the embedded one does with the first page. A walk that is taken up again
    /// after a restart does not know it.
    pub total: Option<u64>,
}

/// How things stand: all that a sync indicator needs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// What is known of the connection to the server.
    pub connection: ConnectionState,
    /// Whether a drain or a pull is under way.
    pub syncing: bool,
    /// Changes that the server has not acknowledged. Changes by other programs count one each until they are collected, then one a
    /// record.
    pub pending: u64,
    /// Refused edits that wait for a decision: see [`SyncEngine::dead_letters`].
    pub dead_letters: u64,
    /// Decided conflicts in the journal: see [`SyncEngine::conflicts`].
    pub conflicts: u64,
    /// Records that the server sent and the local table refuses to take. They are tried again.
    pub quarantined: u64,
    /// The tables that are being pulled from their beginning, and how far each has come.
    pub progress: BTreeMap<TableName, Progress>,
    /// When all that was pending had last been pushed and all tables pulled. `None`: not since the engine was started, or since the last
    /// logout.
    pub last_sync: Option<SystemTime>,
    /// Why the last drain, pull or sync failed, if it did.
    pub last_error: Option<String>,
    /// The synced tables, in the order in which they were added, each with its cursor and last sync.
    pub tables: Vec<TableState>,
}

/// What is known of the connection to the server: what its last answer said, or that none came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionState {
    /// Nothing is: it was not called yet, or the connection over which it sends its hints was lost, and it was not called since.
    #[default]
    Unknown,
    /// It has answered.
    Online,
    /// It cannot be reached, or cannot answer now. It is called again by and by.
    Offline,
    /// Somebody has to sign in: the token is not accepted, or there was a logout. It is not called before the application asks for it, with
    /// [`SyncEngine::sync_all`] for instance.
    SignedOut,
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::SignedOut => "signed out",
        })
    }
}

impl Shared {
    pub(crate) async fn status(&self) -> Result<Status, SyncError> {
        let State { pending, dead_letters, conflicts, quarantined, tables, .. } = self.driver.state().await?;
        let standing = self.driver.observed.standing();
        Ok(Status {
            connection: standing.connection,
            syncing: standing.syncing,
            pending,
            dead_letters,
            conflicts,
            quarantined,
            progress: standing.progress.clone(),
            last_sync: standing.last_sync.map(system_time),
            last_error: standing.failure().map(|failure| failure.error.clone()),
            tables,
        })
    }
}

/// How things stand: at once, and again whenever that has changed. Changes that come while nobody takes the next item count as one.
/// It does not keep the engine alive: it ends with it, when it is closed or its last handle is gone.
pub struct StatusStream(BoxStream<'static, Result<Status, SyncError>>);

impl fmt::Debug for StatusStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatusStream")
    }
}

impl StatusStream {
    /// How things stand now, once that has changed since it was told last. `None`: it has ended.
    pub async fn next(&mut self) -> Option<Result<Status, SyncError>> {
        StreamExt::next(&mut self.0).await
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
        let followed =
            Followed { engine: Arc::downgrade(self.shared()), signals: Signals::new(self), last: None };
        StatusStream(
            stream::unfold(followed, async |mut status| Some((status.next().await?, status))).boxed(),
        )
    }
}

struct Followed {
    engine: Weak<Shared>,
    signals: Signals,
    last: Option<Status>,
}

impl Followed {
    async fn next(&mut self) -> Option<Result<Status, SyncError>> {
        loop {
            self.signals.next().await?;
            let engine = self.engine.upgrade()?;
            match engine.status().await {
                Err(SyncError::Closed) => return None,
                // This engine logs out, and says so in a moment.
                Err(SyncError::SessionEnded) if !engine.driver.session_is_over() => {}
                Err(error) => return Some(Err(error)),
                Ok(status) if self.last.as_ref() == Some(&status) => {}
                Ok(status) => {
                    self.last = Some(status.clone());
                    return Some(Ok(status));
                }
            }
        }
    }
}

/// That something may have changed.
pub(crate) struct Signals {
    standing: watch::Receiver<Standing>,
    changes: watch::Receiver<u64>,
    events: EventStream,
    foreign_commits: Option<BoxStream<'static, ()>>,
    has_begun: bool,
}

impl Signals {
    pub(crate) fn new(engine: &SyncEngine) -> Self {
        let shared = engine.shared();
        Self {
            standing: shared.driver.observed.subscribe(),
            changes: shared.changes.subscribe(),
            events: engine.events(),
            foreign_commits: engine.replica().foreign_commits(),
            has_begun: false,
        }
    }

    /// The first at once. `None` where there will never be one again.
    pub(crate) async fn next(&mut self) -> Option<()> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Some(());
        }
        let something = tokio::select! {
            noted = self.standing.changed() => noted.ok(),
            changed = self.changes.changed() => changed.ok(),
            told = self.events.next() => told.map(drop),
            commit = next_of(&mut self.foreign_commits) => {
                if commit.is_none() {
                    // The others go on.
                    self.foreign_commits = None;
                }
                Some(())
            }
        };
        // What has been told meanwhile is one change.
        while let Some(Some(_)) = self.events.next().now_or_never() {}
        something
    }
}
