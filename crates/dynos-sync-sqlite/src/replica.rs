//! [`SqliteReplica`]: the seam, on one writing and some reading threads.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use dynos_sync_core::{
    Counter, Entry, Fields, Limits, Queries, RecordId, RecordKey, Replica, ReplicaError, Schema, TableName,
    TableSpec,
    doctor::{Account, Depth, Inspection},
    replica::{Batch, DeadLetter, Due, DueLimits, Journaled, Logout, Outcome, Seen, State, TableOptions},
    sabotage::{Mutant, is_on},
    snapshot::SnapshotStore,
};
use futures_channel::oneshot;
use futures_util::{StreamExt, stream::BoxStream};
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{
    admin,
    checkpoint::Checkpointer,
    collect,
    crew::Crew,
    describe,
    desk::{Clerk, Desk, Seat},
    doctor,
    error::{Result, at, caught, of_theirs},
    file,
    header::{Header, migrate},
    hub::{Hub, Listener, Whose},
    letters, queue,
    random::Random,
    reading, schema,
    session::Session,
    snapshot::Staging,
    sql::exec,
    sum::Seal,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    table::Catalog,
    watch::{self, Watch},
    writer::{Job, Writer, refresh},
};

/// When SQLite makes a commit durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// At every commit: an acknowledged write survives a power loss.
    Full,
    /// At checkpoints: an acknowledged write survives the crash of any program, but the latest may be lost when the
    /// machine loses power. The file is intact either way.
    #[default]
    Normal,
}

impl Synchronous {
    /// As SQLite calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            _ if is_on(Mutant::NotSynced) => "OFF",
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}

/// Who does a database's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// Threads of its own: whoever calls is not blocked, and writes that wait together are committed together. Only a few edits that
    /// nothing is in the way of are committed by whoever makes them, in some tens of microseconds: waking a thread takes longer. At
    /// [`Synchronous::Full`], where a commit waits for the disk, only while that has lately taken less than half a millisecond.
    #[default]
    Own,
    /// Whoever calls, within the call, on one connection that writes and one that reads: for platforms without threads, and
    /// for simulations, which have to come out the same each time.
    Caller,
}

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Default: [`Synchronous::Normal`].
    pub synchronous: Synchronous,
    /// How long to wait for another program that holds the database before answering
    /// [`ReplicaError::Busy`]. Default: 5 s. Too short, and a busy neighbour makes writes fail.
    pub busy_timeout: Duration,
    /// Threads that read beside the writer. Default: 2.
    pub readers: usize,
    /// Who does the work. Default: [`Threads::Own`].
    pub threads: Threads,
    /// Where new identities come from. Default: the system's randomness.
    pub random: Random,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::default(),
            busy_timeout: Duration::from_secs(5),
            readers: 2,
            threads: Threads::default(),
            random: Random::default(),
        }
    }
}

/// A device's database in an SQLite file, shared with whatever other programs use that file.
///
/// Cheap to clone: clones share the threads.
#[derive(Clone, Debug)]
pub struct SqliteReplica(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writer: Desk<Writer>,
    writers: Crew,
    reader: Desk<Reader>,
    readers: Crew,
    checkpointers: Crew,
    watchers: Crew,
    hub: Arc<Hub>,
    /// Tells of what other programs write, where the platform does.
    watch: Option<Watch>,
    staging: Option<Arc<Staging>>,
    threads: Threads,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hub.close();
        self.watch.iter().for_each(Watch::end);
    }
}

type ReadJob = Box<dyn FnOnce(&mut Reader) + Send>;

/// A reading connection, and what it knows.
#[derive(Debug)]
struct Reader {
    db: Connection,
    catalog: Catalog,
}

impl SqliteReplica {
    /// Opens a database, making the file and the engine's tables where they are missing. The journal is switched to WAL.
    /// A file that is made is for its owner only (Unix: mode 0600); one that is there keeps its mode.
    ///
    /// # Errors
    /// [`ReplicaError::ReadOnly`], [`ReplicaError::Corrupt`], [`ReplicaError::TooNew`], [`ReplicaError::Busy`].
    pub fn open(path: impl AsRef<Path>, options: &SqliteOptions) -> Result<Self> {
        let path = path.as_ref();
        Self::open_file(path.to_owned(), options).map_err(at(path))
    }

    fn open_file(path: PathBuf, options: &SqliteOptions) -> Result<Self> {
        make_private(&path);
        let db = connect(&path, options, OpenFlags::default())?;
        migrate(&db, &options.random)?;
        let hub = Arc::<Hub>::default();
        let mut writer = Writer::new(db, options, Arc::clone(&hub));
        writer.begin(file_identity(&path))?;
        let read = || -> Result<Reader> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_NO_MUTEX
                | OpenFlags::SQLITE_OPEN_URI;
            Ok(Reader { db: connect(&path, options, flags)?, catalog: Catalog::default() })
        };
        let (writers, readers, checkpointers) = (Crew::default(), Crew::default(), Crew::default());
        let watchers = Crew::default();
        let (writer, reader, watch) = match options.threads {
            Threads::Caller => (Desk::here(writer), Desk::here(read()?), None),
            Threads::Own => {
                let reading: Result<Vec<_>> = (0..options.readers.max(1)).map(|_| read()).collect();
                let checkpointer =
                    Checkpointer::new(connect(&path, options, OpenFlags::default())?, options.synchronous)?;
                writer.leave_log_to(checkpointer.clone(), checkpoints(&checkpointers, checkpointer)?)?;
                let seat = Arc::new(Seat::new(writer));
                let watch = watch::start(&watchers, &path, &seat, &hub)?;
                (on_thread(&writers, &seat)?, on_threads(&readers, reading?)?, watch)
            }
        };
        let staging = Staging::beside(&path).map(Arc::new);
        let threads = options.threads;
        let inner = Inner {
            path,
            writer,
            writers,
            reader,
            readers,
            checkpointers,
            watchers,
            hub,
            watch,
            staging,
            threads,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The application's tables that can be synced, parents before the children that refer to them, and those that
    /// cannot, with the reason.
    ///
    /// # Errors
    /// [`ReplicaError`] where the catalogue cannot be read.
    pub async fn candidates(&self) -> Result<Candidates> {
        self.read(|reader| describe::candidates(&reader.db)).await
    }

    /// Runs the application's own SQL in one transaction. What it writes to synced tables is queued in that same
    /// transaction, as it is for any program.
    ///
    /// # Errors
    /// Whatever `work` answers; then nothing was done.
    pub async fn write_with<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write_captured(work, false).await
    }

    /// As [`write_with`](Self::write_with); and what is written to synced tables is one transaction on the server too: all of it takes effect
    /// there at the same time, or none of it.
    ///
    /// # Errors
    /// Whatever `work` answers, and [`ReplicaError::Invalid`] where it changes more records than a transaction may
    /// ([`Limits::TRANSACTION`]); then nothing was done.
    pub async fn transaction<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write_captured(work, true).await
    }

    /// Brings the application's tables and what waits in the queue up to a version of its schema, together or not at all: where the
    /// database is of an earlier version, `migrate` is given that version's number and changes the tables, and the schema's steps are applied
    /// to [all that waits](Replica::adopt). Rows that `migrate` writes in synced tables are edits like any other. Answers whether there was
    /// anything to do.
    ///
    /// A database that no application of a named version has used is of version 0, also where it is new.
    ///
    /// ```
    /// use dynos_sync_core::Schema;
    /// use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
    /// # use futures_executor::block_on;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.sqlite");
    /// let schema = Schema::version(2).step(2, |part| if part.table() == "tasks" { part.rename("name", "title") });
    /// let replica = SqliteReplica::open(path, &SqliteOptions::default())?;
    /// let migrated = replica.migrate(&schema, |db, found| {
    ///     if found < 1 {
    ///         db.execute_batch("CREATE TABLE tasks (id TEXT PRIMARY KEY, name TEXT)")?;
    ///     }
    ///     if found < 2 {
    ///         db.execute_batch("ALTER TABLE tasks RENAME COLUMN name TO title")?;
    ///     }
    ///     Ok(())
    /// });
    /// assert!(block_on(migrated)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Whatever `migrate` answers, and [`ReplicaError::NewerSchema`]; then nothing was done.
    pub async fn migrate<F>(&self, schema: &Schema, migrate: F) -> Result<bool>
    where
        F: FnOnce(&Connection, u32) -> rusqlite::Result<()> + Send + 'static,
    {
        let schema = schema.clone();
        let work = move |session: &mut Session<'_>| {
            let found = session.header.schema;
            let is_older = schema::adopt(session, &schema)?;
            if is_older {
                session.set_capture(true)?;
                migrate(session.db, found).map_err(of_theirs)?;
            }
            Ok(is_older)
        };
        self.whole_tables(work).await
    }

    async fn write_captured<T, F>(&self, work: F, together: bool) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write(move |writer| {
            writer.set_temporary_files(true)?;
            writer.set_foreign_keys(true)?;
            writer.transaction(|session| {
                // What other programs have written is no part of it.
                collect::collect(session)?;
                session.set_capture(true)?;
                let value = work(session.db).map_err(of_theirs)?;
                if together {
                    session.begin_transaction();
                }
                let before = session.header.last_counter;
                collect::collect(session)?;
                if together {
                    let edits = session.header.last_counter - before;
                    Limits::check_transaction(usize::try_from(edits).unwrap_or(usize::MAX))?;
                }
                Ok(value)
            })
        })
        .await
    }

    /// Runs the application's own queries, on a connection that cannot write.
    ///
    /// # Errors
    /// Whatever `work` answers.
    pub async fn read_with<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.read(|reader| work(&reader.db).map_err(of_theirs)).await
    }

    /// As [`read_with`](Self::read_with), for reading that answers with the seam's errors.
    pub(crate) async fn on_reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.read(|reader| work(&mut reader.db)).await
    }

    pub(crate) fn listen(&self, whose: Whose) -> Listener {
        self.0.hub.listen(whose)
    }

    pub(crate) fn staging(&self) -> Option<Arc<Staging>> {
        self.0.staging.clone()
    }

    pub(crate) fn threads(&self) -> Threads {
        self.0.threads
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Run(Box::new(move |writer| {
            let done = work(writer);
            Box::new(move || drop(reply.send(done)))
        }));
        self.0.writer.hand_in(job)?;
        answer.await.map_err(|_| ReplicaError::Closed)?.map_err(at(&self.0.path))
    }

    /// As [`write`](Self::write), in one transaction in which everything is collected.
    pub(crate) async fn session<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.session_of(false, work).await
    }

    /// As [`session`](Self::session), for what may touch whole tables.
    async fn whole_tables<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.session_of(true, work).await
    }

    async fn session_of<T: Send + 'static>(
        &self,
        temporary_files: bool,
        work: impl FnOnce(&mut Session<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write(move |writer| {
            writer.collect()?;
            writer.set_temporary_files(temporary_files)?;
            writer.set_foreign_keys(false)?;
            writer.transaction(|session| {
                collect::collect(session)?;
                work(session)
            })
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.on_reader(|reader| reader.at_one_moment(work)).await?.map_err(at(&self.0.path))
    }

    /// Does something else on a thread that reads.
    pub(crate) async fn beside_reading<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.on_reader(|_| caught(work)).await?
    }

    async fn on_reader<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader) -> T + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |reader| drop(reply.send(work(reader))));
        self.0.reader.hand_in(job)?;
        answer.await.map_err(|_| ReplicaError::Closed)
    }
}

fn on_thread(crew: &Crew, seat: &Arc<Seat<Writer>>) -> Result<Desk<Writer>> {
    let (desk, jobs) = Desk::beside(seat);
    let seat = Arc::clone(seat);
    crew.start("dynos-sqlite-writer", move || Writer::run(&seat, &jobs))?;
    Ok(desk)
}

/// A thread that checkpoints when it is told to. It ends when nobody is left to tell it.
fn checkpoints(crew: &Crew, checkpointer: Checkpointer) -> Result<Sender<()>> {
    let (due, is_due) = mpsc::channel();
    crew.start("dynos-sqlite-checkpoint", move || checkpointer.run(&is_due))?;
    Ok(due)
}

fn on_threads(crew: &Crew, readers: Vec<Reader>) -> Result<Desk<Reader>> {
    let (desk, jobs) = Desk::elsewhere();
    let jobs = Arc::new(Mutex::new(jobs));
    for reader in readers {
        let jobs = Arc::clone(&jobs);
        crew.start("dynos-sqlite-reader", move || reader.run(&jobs))?;
    }
    Ok(desk)
}

/// Tables that can be synced, and tables that cannot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates {
    /// Those that can, parents first.
    pub suitable: Vec<TableSpec>,
    /// The names of those that cannot, with the reason.
    pub unsuitable: Vec<(String, String)>,
}

impl Clerk for Reader {
    type Job = ReadJob;

    fn work(&mut self, job: ReadJob) {
        job(self);
    }
}

impl Reader {
    fn run(mut self, jobs: &Mutex<Receiver<ReadJob>>) {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match job {
                Ok(job) => self.work(job),
                Err(_) => return,
            }
        }
    }

    /// Everything that `work` reads is of one moment.
    fn at_one_moment<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        exec(&self.db, "BEGIN")?;
        let result = caught(|| work(self));
        // Some failures end the transaction by themselves.
        let ended = if self.db.is_autocommit() { Ok(()) } else { exec(&self.db, "COMMIT") };
        let value = result?;
        ended.map(|()| value)
    }

    /// Reads the catalogue again, where it has changed.
    fn refresh(&mut self) -> Result<Seal> {
        let header = Header::stored(&self.db)?;
        refresh(&self.db, &mut self.catalog, &header)?;
        Ok(header.seal)
    }
}

/// What tells a file from a copy of it, where the platform says: a file that is moved keeps it.
pub(crate) fn file_identity(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let born = metadata.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = 0;
    Some(format!("{number}:{}", born.as_nanos()))
}

/// The rows are the user's, and nobody else's on this machine. SQLite makes its other files alike.
fn make_private(path: &Path) {
    if file::is_none(path) {
        return;
    }
    // It is there already, or cannot be made: SQLite will say so.
    let _ = file::private(OpenOptions::new().write(true).create_new(true)).open(path);
}

fn connect(path: &Path, options: &SqliteOptions, flags: OpenFlags) -> Result<Connection> {
    let db = Connection::open_with_flags(path, flags).map_err(of_theirs)?;
    db.busy_timeout(options.busy_timeout).map_err(of_theirs)?;
    db.set_prepared_statement_cache_capacity(256);
    // Without this, a statement with `LIMIT ?` is parsed again whenever that is bound.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(of_theirs)?;
    if !flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        let mode: String =
            db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(of_theirs)?;
        if mode != "wal" {
            return Err(ReplicaError::ReadOnly(format!("its journal mode stays {mode}, WAL is needed")));
        }
        db.pragma_update(None, "synchronous", options.synchronous.name()).map_err(of_theirs)?;
        // KiB, of which only what is used is taken. Ids are in no order: with less, indexes are read again and again.
        db.pragma_update(None, "cache_size", -16_000).map_err(of_theirs)?;
    }
    Ok(db)
}

#[cfg(fuzzing)]
impl SqliteReplica {
    /// What opening does once it is connected, again: for a file that another program has changed since. `afresh`: with nothing
    /// known of its tables.
    #[doc(hidden)]
    pub async fn begin_again(&self, file: &str, afresh: bool) -> Result<()> {
        let file = file.to_owned();
        if afresh {
            self.read(|reader| {
                reader.catalog = Catalog::default();
                Ok(())
            })
            .await?;
        }
        self.write(move |writer| {
            writer.forget(afresh);
            writer.begin(Some(file))
        })
        .await
    }
}

#[async_trait]
impl Replica for SqliteReplica {
    async fn state(&self) -> Result<State> {
        self.read(|reader| {
            reader.refresh()?;
            let header = Header::read(&reader.db)?;
            reading::state(&reader.db, &reader.catalog, &header)
        })
        .await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Fields>> {
        let key = key.clone();
        self.read(move |reader| {
            reader.refresh()?;
            reading::get(&reader.db, &reader.catalog, &key)
        })
        .await
    }

    async fn records(&self, table: &TableName, ids: &[RecordId], rows: bool) -> Result<Vec<Seen>> {
        let (table, ids) = (table.clone(), ids.to_vec());
        self.session(move |session| reading::records(session, &table, &ids, rows)).await
    }

    async fn due(&self, limits: &DueLimits) -> Result<Due> {
        let limits = *limits;
        let due = self
            .session(move |session| {
                queue::release(session.db, &limits)?;
                reading::due(session, &limits)
            })
            .await?;
        if due.groups.iter().flatten().any(|entry| entry.sent.is_some()) {
            self.write(Writer::vouch).await?;
        }
        Ok(due)
    }

    async fn unsettled(&self, table: &TableName, limit: usize) -> Result<Vec<Entry>> {
        let table = table.clone();
        self.read(move |reader| {
            reader.refresh()?;
            let n = reader.catalog.named(&table)?.n;
            queue::sent_of_table(&reader.db, &reader.catalog, n, limit)
        })
        .await
    }

    async fn commit(&self, batch: Batch) -> Result<Outcome> {
        let (reply, answer) = oneshot::channel();
        self.0.writer.hand_in(Job::Commit(batch, reply))?;
        answer.await.map_err(|_| ReplicaError::Closed)?.map_err(at(&self.0.path))
    }

    async fn adopt(&self, schema: &Schema) -> Result<bool> {
        let schema = schema.clone();
        self.whole_tables(move |session| schema::adopt(session, &schema)).await
    }

    async fn add_table(&self, options: TableOptions) -> Result<bool> {
        self.whole_tables(move |session| admin::add_table(session, &options)).await
    }

    async fn remove_table(&self, table: &TableName) -> Result<bool> {
        let table = table.clone();
        self.whole_tables(move |session| admin::remove_table(session, &table)).await
    }

    async fn logout(&self, discard: bool) -> Result<Logout> {
        let done = self.whole_tables(move |session| admin::logout(session, discard)).await?;
        if matches!(done, Logout::Done { .. }) {
            if self.staging().is_some() {
                self.unstage().await?;
            }
            match self.write(Writer::scrub).await {
                Err(ReplicaError::Busy) => {
                    tracing::warn!("another program reads the file: it is scrubbed at the next opening");
                }
                scrubbed => scrubbed?,
            }
        }
        Ok(done)
    }

    async fn queue(&self, after: Counter, limit: usize) -> Result<Vec<Entry>> {
        self.session(move |session| reading::queue(session, after, limit)).await
    }

    async fn dead_letters(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>> {
        self.session(move |session| letters::page(session.db, session.catalog, after, limit)).await
    }

    async fn conflicts(&self, before: i64, limit: usize) -> Result<Vec<Journaled>> {
        self.read(move |reader| {
            let seal = reader.refresh()?;
            letters::conflicts(&reader.db, seal, before, limit)
        })
        .await
    }

    fn queries(&self) -> Option<&dyn Queries> {
        Some(self)
    }

    fn foreign_commits(&self) -> Option<BoxStream<'static, ()>> {
        self.0.watch.as_ref().map(|_| self.0.hub.listen(Whose::Others).boxed())
    }

    async fn account(&self, key: &RecordKey) -> Result<Account> {
        let key = key.clone();
        self.read(move |reader| {
            reader.refresh()?;
            let header = Header::read(&reader.db)?;
            doctor::account(&reader.db, &reader.catalog, &header, &key)
        })
        .await
    }

    async fn inspect(&self, depth: Depth) -> Result<Inspection> {
        let path = self.0.path.clone();
        self.read(move |reader| Ok(doctor::inspect(&reader.db, &path, depth))).await
    }

    fn snapshots(&self) -> Option<&dyn SnapshotStore> {
        self.0.staging.as_ref().map(|_| self as &dyn SnapshotStore)
    }

    async fn close(&self) {
        if let Some(staging) = &self.0.staging {
            staging.release();
        }
        self.0.hub.close();
        self.0.watch.iter().for_each(Watch::end);
        self.0.watchers.ended().await;
        drop(self.0.reader.close());
        let writer = self.0.writer.close();
        // The connection that goes last moves the journal into the file, if it may write.
        self.0.readers.ended().await;
        drop(writer);
        self.0.writers.ended().await;
        self.0.checkpointers.ended().await;
    }
}
