//! A device: its database, the engine on it, and the program that writes with plain SQL.
//!
//! Most inputs meet devices that stay open, whose programs use the engine's connection; they are emptied for the next. Some
//! meet new files, and programs with connections of their own.

use std::{path::Path, sync::Arc, time::Duration};

use dynos_sync::{Driver, SyncConfig};
use dynos_sync_core::{
    Clock, Millis, Remote, Replica as _, ReplicaError, TableName, memory::MemoryServer, replica::TableOptions,
};
use dynos_sync_sqlite::{Random, SqliteOptions, SqliteReplica, Threads};
use futures_executor::block_on;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, params_from_iter, types::Value};
use tempfile::TempDir;

use super::sheet::quoted;
use crate::script;

/// Two devices.
pub(super) struct Pair {
    pub(super) first: Device,
    pub(super) second: Device,
    _folder: TempDir,
}

impl Pair {
    /// Two devices in new files. `staying`: for many inputs.
    pub(super) fn new(staying: bool) -> Self {
        let folder = script::folder();
        let device = |name: &str, seed: u8| Device::new(&folder.path().join(name), seed, staying);
        Self { first: device("one.db", 1), second: device("other.db", 2), _folder: folder }
    }
}

pub(super) struct Device {
    replica: Arc<SqliteReplica>,
    /// `None` where it uses the engine's connection.
    program: Option<Connection>,
    /// The engine's tables but for the one that holds a row from the beginning, and that row.
    empty: Vec<String>,
    header: Vec<Value>,
}

impl Device {
    fn new(path: &Path, seed: u8, staying: bool) -> Self {
        let random = Random::new(move || [seed; 16]);
        let options = SqliteOptions { threads: Threads::Caller, random, ..SqliteOptions::default() };
        let replica = Arc::new(SqliteReplica::open(path, &options).expect("a replica"));
        let program = (!staying).then(|| connect(path));
        let mut device = Self { replica, program, empty: Vec::new(), header: Vec::new() };
        if staying {
            device.header =
                device.sql(|db| db.query_row("SELECT * FROM dynos_state", [], cells)).expect("a row");
            device.empty = device
                .sql(|db| names(db, "name LIKE 'dynos\\_%' ESCAPE '\\' AND type = 'table'"))
                .expect("names");
        }
        device
    }

    /// What the program does, in one transaction.
    ///
    /// # Errors
    /// What SQLite refuses.
    pub(super) fn sql<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReplicaError> {
        match &self.program {
            None => block_on(self.replica.write_with(work)),
            Some(program) => work(program).map_err(|error| ReplicaError::Corrupt(error.to_string())),
        }
    }

    /// What the program reads. Where it uses the engine's connections, the one that writes would compile all its statements
    /// anew: foreign keys hold for programs alone.
    pub(super) fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> T {
        let seen = match &self.program {
            None => block_on(self.replica.read_with(work)),
            Some(program) => work(program).map_err(|error| ReplicaError::Corrupt(error.to_string())),
        };
        seen.expect("what the program reads")
    }

    /// Removes what an earlier input has left, and does what the program begins with, in the same transaction: each change
    /// of a schema costs a lot.
    ///
    /// # Errors
    /// What SQLite refuses. Then nothing was done.
    pub(super) fn begin(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), ReplicaError> {
        let (empty, header) = (self.empty.clone(), self.header.clone());
        self.sql(move |db| {
            if !header.is_empty() {
                clear(db, &empty, &header)?;
            }
            work(db)
        })
    }

    pub(super) fn replica(&self) -> &SqliteReplica {
        &self.replica
    }

    /// Syncs the table, which is made as the server says where there is none. `None` where the table's name or a column's
    /// cannot be synced.
    pub(super) fn track(&self, table: &str, server: &MemoryServer) -> Option<Driver> {
        let remote: Arc<dyn Remote> = Arc::new(server.remote("ada"));
        let name: TableName = table.parse().ok()?;
        let known = block_on(remote.tables()).expect("the server's tables");
        let create = known.into_iter().find(|spec| spec.name == name);
        match block_on(self.replica.add_table(TableOptions { create, ..TableOptions::new(name) })) {
            Ok(_) => {}
            Err(ReplicaError::Invalid(_)) => return None,
            Err(error) => panic!("{error:?}"),
        }
        let config = SyncConfig::default();
        let driver = Driver::new(self.replica.clone(), remote, Arc::new(Still), config, Box::new(|| 7));
        Some(block_on(driver).expect("a driver"))
    }
}

fn connect(path: &Path) -> Connection {
    let db = Connection::open(path).expect("a database");
    db.execute_batch("PRAGMA synchronous = OFF").expect("a setting");
    db
}

/// Leaves the engine's tables alone, as they were when they were made.
fn clear(db: &Connection, empty: &[String], header: &[Value]) -> rusqlite::Result<()> {
    for kind in ["view", "table"] {
        let theirs = "name NOT LIKE 'dynos\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        for name in names(db, &format!("type = '{kind}' AND {theirs}"))? {
            db.execute_batch(&format!("DROP {kind} {}", quoted(&name)))?;
        }
    }
    for table in empty {
        db.prepare_cached(&format!("DELETE FROM {table}"))?.execute([])?;
    }
    let marks = vec!["?"; header.len()].join(", ");
    let insert = format!("INSERT INTO dynos_state VALUES ({marks})");
    db.prepare_cached(&insert)?.execute(params_from_iter(header)).map(drop)
}

fn names(db: &Connection, which: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare_cached(&format!("SELECT name FROM sqlite_schema WHERE {which}"))?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn cells(row: &rusqlite::Row<'_>) -> rusqlite::Result<Vec<Value>> {
    (0..row.as_ref().column_count()).map(|place| row.get(place)).collect()
}

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Millis {
        1_800_000_000_000
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
