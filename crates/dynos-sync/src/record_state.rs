//! [`RecordState`]: what stands beside a record on the screen.

use std::{fmt, time::SystemTime};

use dynos_sync_core::{
    RecordKey,
    doctor::{Account, Recent},
};

use crate::{
    clock::system_time,
    driver::Driver,
    engine::SyncEngine,
    error::SyncError,
    table::{Record, Table},
};

/// How a record stands between this device and the server. Where several are so, it is the first of [`Rejected`](Self::Rejected),
/// [`Quarantined`](Self::Quarantined), [`Pending`](Self::Pending), [`Conflicted`](Self::Conflicted) and [`Local`](Self::Local).
///
/// [`SyncEngine::explain`] says all of it, and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordState {
    /// Nothing of it waits. So it is where there is no such record, too.
    Synced,
    /// Edits of it wait for the server.
    Pending {
        /// How many. Edits of another program count one each.
        edits: u64,
        /// The server has refused them for now: they are not sent before this time.
        retry_at: Option<SystemTime>,
        /// What it said, since the engine was started.
        error: Option<String>,
    },
    /// A conflict was decided, and stands in the journal still.
    Conflicted {
        /// The newest: for [`SyncEngine::undo_conflict`], or [`SyncEngine::discard_conflict`], after which it is so no longer.
        conflict: i64,
    },
    /// The server has refused an edit for good.
    Rejected {
        /// The newest dead letter: for [`SyncEngine::retry_dead_letter`] or [`SyncEngine::discard_dead_letter`].
        letter: i64,
        /// Why, as a word.
        code: String,
        /// Why, in words.
        message: String,
    },
    /// The local table refuses the server's version. It is tried again with each sync.
    Quarantined {
        /// Why.
        message: String,
    },
    /// It was there when its table was added, and stays on this device until it is changed.
    Local,
}

impl RecordState {
    fn new(account: Account, recent: Recent) -> Self {
        let edits =
            account.entries.len() as u64 + account.damaged + account.noted.map_or(0, |noted| noted.changes);
        if let Some(letter) = account.letters.into_iter().next_back() {
            Self::Rejected { letter: letter.id, code: letter.code, message: letter.message }
        } else if let Some(message) = account.quarantine {
            Self::Quarantined { message }
        } else if edits > 0 {
            let retry_at = account.entries.iter().filter_map(|entry| entry.retry_at).max().map(system_time);
            Self::Pending { edits, retry_at, error: recent.refusal.map(|refusal| refusal.error) }
        } else if let Some(conflict) = account.conflicts.first() {
            Self::Conflicted { conflict: conflict.id }
        } else if account.never_offered {
            Self::Local
        } else {
            Self::Synced
        }
    }
}

impl Driver {
    async fn record_states(&self, keys: Vec<RecordKey>) -> Result<Vec<RecordState>, SyncError> {
        self.state().await?;
        let mut states = Vec::with_capacity(keys.len());
        for key in keys {
            let account = self.replica.account(&key).await?;
            states.push(RecordState::new(account, self.observed.recent(&key)));
        }
        Ok(states)
    }
}

impl SyncEngine {
    /// How a record stands: for a mark beside it on the screen. It changes when the [status](Self::watch_status) does.
    ///
    /// ```
    /// # use futures_executor::block_on;
    /// # let (dir, server) = (tempfile::tempdir()?, dynos_sync::core::memory::MemoryServer::new());
    /// # let (path, remote) = (dir.path().join("app.sqlite"), server.remote("ada"));
    /// use dynos_sync::{RecordState, SyncEngine, fields};
    ///
    /// # block_on(async {
    /// let engine = SyncEngine::open(path, remote)?.table("tasks").configure(|config| config.auto_sync = false).start().await?;
    /// engine.write("tasks", "t1", fields([("title", "milk".into())])).await?;
    /// let mark = match engine.record_state("tasks", "t1").await? {
    ///     RecordState::Synced => "",
    ///     RecordState::Pending { error: None, .. } => "waiting",
    ///     RecordState::Conflicted { .. } => "merged: look at it",
    ///     RecordState::Rejected { .. } => "refused",
    ///     _ => "!",
    /// };
    /// assert_eq!(mark, "waiting");
    /// engine.sync_all().await?;
    /// assert_eq!(engine.record_state("tasks", "t1").await?, RecordState::Synced);
    /// # engine.close().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SyncError::Invalid`] for a name or an id that cannot be one, [`SyncError::Replica`] where the table is not synced.
    pub async fn record_state(&self, table: &str, id: &str) -> Result<RecordState, SyncError> {
        let mut states = self.record_states(table, &[id]).await?;
        Ok(states.pop().expect("BUG: each id has a state"))
    }

    /// How many records stand, in the order of their ids: those of a list that are on the screen. A record takes some tens of
    /// microseconds, and more where the journal has many conflicts of its table.
    ///
    /// # Errors
    /// As [`record_state`](Self::record_state).
    pub async fn record_states(
        &self,
        table: &str,
        ids: &[impl AsRef<str> + Sync],
    ) -> Result<Vec<RecordState>, SyncError> {
        let keys = ids.iter().map(|id| RecordKey::new(table, id.as_ref())).collect::<Result<_, _>>()?;
        self.shared().driver.record_states(keys).await
    }
}

impl<R: Record> Table<R> {
    /// How a record stands. See [`SyncEngine::record_state`].
    ///
    /// # Errors
    /// As [`SyncEngine::record_state`].
    pub async fn state(&self, id: impl fmt::Display) -> Result<RecordState, SyncError> {
        self.engine().record_state(R::TABLE, &id.to_string()).await
    }

    /// How many records stand, in the order of their ids. See [`SyncEngine::record_states`].
    ///
    /// # Errors
    /// As [`SyncEngine::record_state`].
    pub async fn states(&self, ids: &[impl AsRef<str> + Sync]) -> Result<Vec<RecordState>, SyncError> {
        self.engine().record_states(R::TABLE, ids).await
    }
}
