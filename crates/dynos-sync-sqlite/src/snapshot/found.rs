//! A new database that is a snapshot: its file becomes the database.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use dynos_sync_core::{
    Generation, Invalid, Replica, ReplicaError, TableName, TableSpec,
    replica::{Existing, TableOptions},
    snapshot::{Held, Snapshot, SnapshotError, SnapshotStore},
};
use futures_channel::oneshot;

use super::{check, staging::Staging};
use crate::{
    admin, columns,
    error::{Result, caught},
    file::failed,
    listing,
    replica::{SqliteOptions, SqliteReplica, Threads},
    session::Session,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A database that is not there yet, and will be what a snapshot holds.
///
/// [`install`](SnapshotStore::install) makes the file, with its tables synced from where the snapshot ends, or leaves nothing behind;
/// then [`SqliteReplica::open`] opens it. Tables that the snapshot does not hold are made empty. What has been fetched so far is kept
/// beside the file, so that a later attempt goes on from there.
#[derive(Debug)]
pub struct NewDatabase {
    path: PathBuf,
    staging: Arc<Staging>,
    /// Who puts the last piece away.
    stager: Mutex<Option<JoinHandle<()>>>,
    options: SqliteOptions,
    server: String,
    tables: Vec<TableSpec>,
}

impl NewDatabase {
    /// A database at `path` with these tables, parents before the children that refer to them, which belongs to the server of that
    /// identity ([`Heads::server`](dynos_sync_core::wire::Heads)).
    ///
    /// # Errors
    /// [`ReplicaError::Invalid`] where something is there already, or the path is no file's.
    pub fn new(path: &Path, options: &SqliteOptions, server: &str, tables: Vec<TableSpec>) -> Result<Self> {
        let refuse = |problem: &str| Invalid::new("path", problem).remedy("name a file that is not there");
        if path.symlink_metadata().is_ok() {
            return Err(refuse("there is something of this name").into());
        }
        let staging = Staging::beside(path).ok_or_else(|| refuse("it is not a file's name"))?;
        let (path, server) = (path.to_owned(), server.to_owned());
        let (staging, stager) = (Arc::new(staging), Mutex::default());
        Ok(Self { path, staging, stager, options: options.clone(), server, tables })
    }

    /// Puts a piece away on a thread: whoever fetches the next one meanwhile may have but one.
    async fn stage_beside(&self, snapshot: Snapshot, from: u64, bytes: Vec<u8>) -> Result<()> {
        let (done, staged) = oneshot::channel();
        let staging = Arc::clone(&self.staging);
        // Whoever asked may have given up.
        let work = move || drop(done.send(caught(|| staging.append(&snapshot, from, &bytes))));
        let stager = thread::Builder::new().name("dynos-snapshot".to_owned()).spawn(work);
        *self.stager() = Some(stager.map_err(failed(&self.path))?);
        staged.await.map_err(|_| ReplicaError::Closed)?
    }

    fn stager(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.stager.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, snapshot: &Snapshot) -> Result<BTreeMap<TableName, u64>, SnapshotError> {
        let file = self.staging.unpack(snapshot)?.map_err(SnapshotError::Refused)?;
        let held = |spec: &&TableSpec| snapshot.tables.contains_key(&spec.name);
        let specs: Vec<TableSpec> = self.tables.iter().filter(held).cloned().collect();
        if let Some(fault) = self.fault(&file, &specs)? {
            return Err(SnapshotError::Refused(fault));
        }
        let replica = SqliteReplica::open(&file, &self.options)?;
        let furnished = self.furnish(&replica, snapshot).await;
        replica.close().await;
        furnished?;
        if !self.staging.is_one_file() {
            let message = "the log of the new database could not be moved into it".to_owned();
            return Err(ReplicaError::Storage { message, source: None }.into());
        }
        appear(&file, &self.path).map_err(failed(&self.path))?;
        Ok(snapshot.tables.iter().map(|(name, held)| (name.clone(), held.rows)).collect())
    }

    /// Looks through the file, while the disk takes it.
    fn fault(&self, file: &Path, specs: &[TableSpec]) -> Result<Option<String>> {
        if let Some(fault) = check::schema_fault(file, specs)? {
            return Ok(Some(fault));
        }
        if self.options.threads == Threads::Caller {
            return check::content_fault(file, Threads::Caller);
        }
        thread::scope(|scope| {
            // It is synced again when it is closed: then there is nothing left to do. A failure shows there, too.
            scope.spawn(|| fs::File::open(file).and_then(|file| file.sync_all()));
            check::content_fault(file, Threads::Own)
        })
    }

    async fn furnish(&self, replica: &SqliteReplica, snapshot: &Snapshot) -> Result<()> {
        let (tables, server, at) = (self.tables.clone(), self.server.clone(), snapshot.at);
        let held = snapshot.tables.clone();
        let work = move |session: &mut Session<'_>| {
            session.header.server = Some(server);
            session.header.clock = at;
            tables.into_iter().try_for_each(|spec| register(session, spec, &held))
        };
        replica.session(work).await
    }
}

impl Drop for NewDatabase {
    /// The next one of this name is not to find the files in use.
    fn drop(&mut self) {
        if let Some(stager) = self.stager().take() {
            // What it panicked with was told to whoever waited for it.
            let _ = stager.join();
        }
    }
}

fn register(session: &mut Session<'_>, spec: TableSpec, held: &BTreeMap<TableName, Held>) -> Result<()> {
    let name = spec.name.clone();
    let options = TableOptions { create: Some(spec), existing: Existing::Ignore, ..TableOptions::new(name) };
    let table = admin::register(session, &options)?;
    match held.get(&options.name) {
        Some(Held { cursor, .. }) => {
            let seal = session.header.seal;
            listing::change(
                session.db,
                seal,
                table.n,
                "cursor = ?, declared = 1, left_out = ?",
                [cursor.as_str(), columns::ANY],
            )
        }
        None => Ok(()),
    }
}

/// Gives a file its name, unless something has it. On the disk, too: what is written to it later must not vanish with the name.
fn appear(file: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(file, path) {
        Ok(()) => fs::remove_file(file)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        // Not every file system has links.
        Err(_) if !path.exists() => fs::rename(file, path)?,
        Err(error) => return Err(error),
    }
    #[cfg(unix)]
    {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

#[async_trait]
impl SnapshotStore for NewDatabase {
    async fn takes(&self, tables: &[TableName]) -> Result<Vec<TableSpec>> {
        Ok(self.tables.iter().filter(|spec| tables.contains(&spec.name)).cloned().collect())
    }

    async fn staged(&self, snapshot: &Snapshot) -> Result<u64> {
        self.staging.begin(snapshot)
    }

    async fn stage(&self, snapshot: &Snapshot, from: u64, bytes: Vec<u8>) -> Result<()> {
        match self.options.threads {
            Threads::Own => self.stage_beside(snapshot.clone(), from, bytes).await,
            Threads::Caller => self.staging.append(snapshot, from, &bytes),
        }
    }

    /// Makes the file. The session is a new one, whatever `generation` is.
    async fn install(
        &self,
        snapshot: &Snapshot,
        _: Generation,
    ) -> Result<BTreeMap<TableName, u64>, SnapshotError> {
        let made = self.make(snapshot).await;
        self.unstage().await?;
        made
    }

    async fn unstage(&self) -> Result<(), ReplicaError> {
        self.staging.clear()
    }
}
