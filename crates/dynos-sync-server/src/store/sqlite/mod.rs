//! The store in one SQLite file: one connection writes, a few read beside it.

mod catalog;
mod declare;
mod history;
mod log;
mod outcome;
mod pull;
mod purge;
mod push;
mod readers;
mod record;
mod schema;
mod writer;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use async_trait::async_trait;
use dynos_sync_core::{
    Millis, TableName, TableSpec,
    wire::{Heads, HeadsRequest, PullRequest, PushAnswer, PushRequest},
};
use rusqlite::Connection;
use tokio::sync::{RwLock, broadcast};

use self::{readers::Readers, writer::Writer};
use super::{Caller, Health, MOVES, Moved, Page, Purged, Scope, Store, StoreError};
use crate::config::{Config, Now, Retention, Threads};

/// A [`Store`] in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    rules: Arc<Rules>,
    /// The incarnation that this store began when it was opened.
    incarnation: i64,
    readers: Readers,
    writer: RwLock<Option<Writer>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    moves: broadcast::Sender<Moved>,
    /// Held as long as the store is open: a second process would commit under the first one's incarnation.
    lock: File,
}

/// What of the configuration concerns the store.
#[derive(Debug)]
struct Rules {
    shared: BTreeSet<TableName>,
    push_entries: usize,
    record_bytes: usize,
    page_changes: usize,
    page_bytes: usize,
    tables: usize,
    retention: Retention,
    now: Now,
}

impl Rules {
    fn new(config: &Config) -> Self {
        let limits = &config.limits;
        Self {
            shared: config.shared_tables.clone(),
            push_entries: limits.push_entries,
            record_bytes: limits.record_bytes,
            page_changes: limits.page_changes,
            page_bytes: limits.page_bytes,
            tables: limits.tables,
            retention: config.retention.clone(),
            now: config.now.clone(),
        }
    }

    fn user(&self, caller: &Caller) -> Scope {
        Scope::User(caller.subject.clone())
    }

    /// The scope in which a caller's table is.
    fn scope(&self, caller: &Caller, table: &TableName) -> Scope {
        if self.shared.contains(table) { Scope::Shared } else { self.user(caller) }
    }
}

impl SqliteStore {
    /// Opens the file, makes it where it is missing, and begins an incarnation.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where another server has it open; [`StoreError::Sqlite`] or
    /// [`StoreError::Corrupt`] where it cannot be used.
    pub fn open(config: &Config) -> Result<Self, StoreError> {
        let path = config.database.clone();
        let lock = lock(&path)?;
        let mut conn = schema::open_writer(&path)?;
        let incarnation = begin(&mut conn, &config.now)?;
        schema::settle(&conn, config.durability)?;
        let readers = Readers::open(&path, config.threads)?;
        let (writer, thread) = match config.threads {
            Threads::Own => Writer::start(conn).map(|(writer, thread)| (writer, Some(thread)))?,
            Threads::Caller => (Writer::Caller(Mutex::new(conn)), None),
        };
        Ok(Self {
            path,
            rules: Arc::new(Rules::new(config)),
            incarnation,
            readers,
            writer: RwLock::new(Some(writer)),
            thread: Mutex::new(thread),
            moves: broadcast::Sender::new(MOVES),
            lock,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Rules) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let rules = self.rules.clone();
        self.readers.call(move |conn| work(conn, &rules)).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Rules) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let rules = self.rules.clone();
        let writer = self.writer.read().await;
        let writer = writer.as_ref().ok_or(StoreError::Unavailable)?;
        writer.call(move |conn| work(conn, &rules), then).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn declare(&self, caller: &Caller, specs: Vec<TableSpec>) -> Result<Vec<TableSpec>, StoreError> {
        let caller = caller.clone();
        self.write(move |conn, rules| declare::declare(conn, rules, &caller, &specs), |_| ()).await
    }

    async fn tables(&self, caller: &Caller) -> Result<Vec<TableSpec>, StoreError> {
        let caller = caller.clone();
        self.read(move |conn, rules| declare::tables(conn, rules, &caller)).await
    }

    async fn heads(&self, caller: &Caller, request: HeadsRequest) -> Result<Heads, StoreError> {
        let caller = caller.clone();
        self.read(move |conn, rules| pull::heads(conn, rules, &caller, &request)).await
    }

    async fn push(&self, caller: &Caller, request: PushRequest) -> Result<PushAnswer, StoreError> {
        let (caller, incarnation, moves) = (caller.clone(), self.incarnation, self.moves.clone());
        let tell = move |(_, moved): &(PushAnswer, Vec<Moved>)| {
            for moved in moved {
                // Nobody may be listening.
                let _ = moves.send(moved.clone());
            }
        };
        let work =
            move |conn: &Connection, rules: &Rules| push::push(conn, rules, incarnation, &caller, &request);
        Ok(self.write(work, tell).await?.0)
    }

    async fn pull(&self, caller: &Caller, request: PullRequest) -> Result<Page, StoreError> {
        let caller = caller.clone();
        self.read(move |conn, rules| pull::pull(conn, rules, &caller, &request)).await
    }

    async fn purge(&self, now: Millis) -> Result<Purged, StoreError> {
        self.write(move |conn, rules| purge::purge(conn, rules, now), |_| ()).await
    }

    fn moves(&self) -> broadcast::Receiver<Moved> {
        self.moves.subscribe()
    }

    async fn health(&self) -> Result<Health, StoreError> {
        let path = self.path.clone();
        // Both sides have to answer.
        self.write(|conn, _| Ok(conn.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?), |()| ())
            .await?;
        self.read(move |conn, _| {
            conn.query_row("SELECT server FROM meta", [], |_| Ok(()))?;
            let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
            Ok(Health { bytes: size(&path) + size(&beside(&path, "-wal")) })
        })
        .await
    }

    async fn close(&self) -> Result<(), StoreError> {
        // Readers first: the writer's last checkpoint cannot be whole while one of them holds a snapshot.
        self.readers.close().await;
        // Waits for the calls under way. Without a sender the thread ends, when it has done what waits.
        drop(self.writer.write().await.take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        let joined = tokio::task::spawn_blocking(|| thread.join()).await;
        // Clones of the server may live on. They hold nothing that the next one needs.
        let unlocked = self.lock.unlock();
        joined.map_err(|_| StoreError::Unavailable)?.map_err(|_| StoreError::Unavailable)?;
        unlocked.map_err(|_| StoreError::Unavailable)
    }
}

/// Names the data if it is new, and begins an incarnation.
fn begin(conn: &mut Connection, now: &Now) -> Result<i64, StoreError> {
    let tx = conn.transaction()?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| StoreError::Unavailable)?;
    let server = uuid::Builder::from_random_bytes(random).into_uuid().to_string();
    tx.execute("INSERT OR IGNORE INTO meta (one, server) VALUES (1, ?1)", [server])?;
    let incarnation = history::begin(&tx, now.millis())?;
    tx.commit()?;
    Ok(incarnation)
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let unavailable = |error: &dyn std::error::Error| {
        tracing::error!(%error, "the database cannot be locked: does another server have it open?");
        StoreError::Unavailable
    };
    let file = File::create(beside(path, "-lock")).map_err(|error| unavailable(&error))?;
    file.try_lock().map_err(|error| unavailable(&error))?;
    Ok(file)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
