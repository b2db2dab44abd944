//! [`Builder`]: what an engine is made of.

#[cfg(feature = "sqlite")]
use std::path::Path;
use std::{fmt, future::Future, sync::Arc};

use dynos_sync_core::{Clock, Remote, Replica, ReplicaError, Schema};
use tokio::sync::mpsc;

#[cfg(feature = "sqlite")]
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};

use crate::{
    blocking,
    clock::{SystemClock, random},
    config::SyncConfig,
    driver::{Driver, Random},
    engine::SyncEngine,
    error::SyncError,
    table::Record,
    worker::{self, Shared},
};

/// Makes a [`SyncEngine`].
pub struct Builder {
    replica: Arc<dyn Replica>,
    remote: Arc<dyn Remote>,
    clock: Arc<dyn Clock>,
    config: SyncConfig,
    random: Random,
    tables: Vec<(String, bool)>,
    user_id: Option<String>,
    schema: Option<Schema>,
}

impl Builder {
    fn new(replica: Arc<dyn Replica>, remote: Arc<dyn Remote>) -> Self {
        Self {
            replica,
            remote,
            clock: Arc::new(SystemClock),
            config: SyncConfig::default(),
            random: Box::new(random),
            tables: Vec::new(),
            user_id: None,
            schema: None,
        }
    }

    /// A table to sync. It is added, with the rows that it has, unless it is synced already.
    #[must_use]
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.tables.push((name.into(), true));
        self
    }

    /// The table of a record's type, as [`table`](Self::table).
    #[must_use]
    pub fn record<R: Record>(self) -> Self {
        self.table(R::TABLE)
    }

    /// A table from which the device only sends.
    #[must_use]
    pub fn push_only_table(mut self, name: impl Into<String>) -> Self {
        self.tables.push((name.into(), false));
        self
    }

    /// The device's user: rows that name another owner are refused.
    #[must_use]
    pub fn user_id(mut self, user: impl Into<String>) -> Self {
        self.user_id = Some(user.into());
        self
    }

    /// The version of the application's schema: what waits in the database since an earlier one is brought up to it at
    /// [`start`](Self::start), before anything is sent.
    ///
    /// ```
    /// # use dynos_sync::{SyncEngine, core::memory::MemoryServer};
    /// use dynos_sync::Schema;
    ///
    /// # let (dir, server) = (tempfile::tempdir()?, MemoryServer::new());
    /// # let (path, remote) = (dir.path().join("app.sqlite"), server.remote("ada"));
    /// # futures_executor::block_on(async {
    /// let schema = Schema::version(2).step(2, |part| {
    ///     if part.table() == "tasks" {
    ///         part.rename("name", "title");
    ///     }
    /// });
    /// let engine = SyncEngine::open(path, remote)?.schema(schema).table("tasks").start().await?;
    /// # engine.close().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Changes the configuration.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut SyncConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Another clock than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another source of evenly distributed numbers, for the jitter of pauses, than the system's.
    #[must_use]
    pub fn random(mut self, random: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.random = Box::new(random);
        self
    }

    /// Adds the tables and starts the engine's thread.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] for a table that cannot be synced, [`SyncError::Replica`] where the database fails, or was used by a newer
    /// version of the application.
    pub async fn start(self) -> Result<SyncEngine, SyncError> {
        let (engine, work) = self.prepare().await?;
        worker::start(work).map_err(|error| {
            let message = "the engine's thread cannot be started".to_owned();
            SyncError::Replica(ReplicaError::Storage { message, source: Some(Box::new(error)) })
        })?;
        Ok(engine)
    }

    /// As [`start`](Self::start), for code that waits: see [`blocking`](crate::blocking).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_blocking(self) -> Result<blocking::SyncEngine, SyncError> {
        futures_executor::block_on(self.start()).map(Into::into)
    }

    /// As [`start`](Self::start), but without a thread: the future is the engine's work, to be run on an executor of the
    /// application's own. It ends with [`close`](SyncEngine::close), or when the last handle is gone; until it is polled, nothing is synced.
    /// Backends that use sockets, and [`SystemClock`], need a tokio runtime around it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn prepare(self) -> Result<(SyncEngine, impl Future<Output = ()> + Send + use<>), SyncError> {
        if let Some(schema) = &self.schema
            && self.replica.adopt(schema).await?
        {
            tracing::info!(schema = schema.number(), "what waits was brought up to the application's schema");
        }
        let driver = Driver::new(self.replica, self.remote, self.clock, self.config, self.random).await?;
        let shared = Arc::new(Shared::new(driver));
        let (commands, receiver) = mpsc::unbounded_channel();
        let engine = SyncEngine::new(Arc::clone(&shared), commands, self.user_id);
        for (table, pull) in &self.tables {
            engine.add_table(table, *pull).await?;
        }
        Ok((engine, worker::work(shared, receiver)))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replica, remote, config, tables, .. } = self;
        f.debug_struct("Builder")
            .field("replica", replica)
            .field("remote", remote)
            .field("config", config)
            .field("tables", tables)
            .finish_non_exhaustive()
    }
}

impl SyncEngine {
    /// An engine on an SQLite file, which is made where it is missing, with default [options](crate::sqlite::SqliteOptions).
    ///
    /// ```
    /// # use dynos_sync::core::memory::MemoryServer;
    /// use dynos_sync::{SyncEngine, fields};
    ///
    /// # let (dir, server) = (tempfile::tempdir()?, MemoryServer::new());
    /// # let (path, remote) = (dir.path().join("app.sqlite"), server.remote("ada"));
    /// # futures_executor::block_on(async {
    /// let engine = SyncEngine::open(path, remote)?.table("tasks").start().await?;
    /// engine.write("tasks", "t1", fields([("title", "milk".into())])).await?;
    /// engine.close().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SyncError::Replica`] where the file cannot be opened, is damaged, or was made by a newer version.
    #[cfg(feature = "sqlite")]
    pub fn open(path: impl AsRef<Path>, remote: impl Remote) -> Result<Builder, SyncError> {
        Ok(Self::builder(SqliteReplica::open(path, &SqliteOptions::default())?, remote))
    }

    /// An engine on any database and backend: an SQLite file opened with other options, parts of the application's own.
    pub fn builder(replica: impl Replica, remote: impl Remote) -> Builder {
        Self::builder_on(Arc::new(replica), Arc::new(remote))
    }

    /// As [`builder`](Self::builder), for seams that are shared already.
    pub fn builder_on(replica: Arc<dyn Replica>, remote: Arc<dyn Remote>) -> Builder {
        Builder::new(replica, remote)
    }
}
