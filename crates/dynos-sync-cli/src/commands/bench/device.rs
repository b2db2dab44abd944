//! This side: a device with the engine.

use std::path::{Path, PathBuf};

use dynos_sync::{
    Builder, SyncEngine,
    core::Remote,
    sqlite::{SqliteOptions, SqliteReplica, Synchronous},
};
use rusqlite::Connection;

use super::{
    Case,
    record::{TABLE, USER},
};
use crate::{error::Failure, offline::Nowhere};

/// An application's database that is synced.
pub(super) struct Device {
    pub(super) engine: SyncEngine,
    pub(super) path: PathBuf,
}

impl Device {
    /// A new database with the table, which nothing syncs by itself.
    pub(super) async fn new(case: &Case, synchronous: Synchronous) -> Result<Self, Failure> {
        Self::with(case, synchronous, |builder| builder).await
    }

    /// As [`new`](Self::new), with the engine set up otherwise.
    pub(super) async fn with(
        case: &Case,
        synchronous: Synchronous,
        set_up: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self, Failure> {
        let path = case.fresh()?;
        Connection::open(&path)?.execute_batch(&case.shape.schema())?;
        Self::start(&path, synchronous, Nowhere, set_up).await
    }

    /// An engine on a database that is there.
    pub(super) async fn start(
        path: &Path,
        synchronous: Synchronous,
        remote: impl Remote,
        set_up: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self, Failure> {
        let options = SqliteOptions { synchronous, ..SqliteOptions::default() };
        let replica = SqliteReplica::open(path, &options)?;
        let builder = SyncEngine::builder(replica, remote)
            .table(TABLE)
            .user_id(USER)
            .configure(|config| config.auto_sync = false);
        let engine = set_up(builder).start().await?;
        Ok(Self { engine, path: path.to_owned() })
    }
}
