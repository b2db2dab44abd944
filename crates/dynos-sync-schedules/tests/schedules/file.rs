//! A database file, and what the tests do with it.

use std::sync::Arc;

use dynos_sync_core::{
    Edit, Fields, RecordKey, Replica, ReplicaError, fields,
    replica::{Batch, Op, Outcome, Receipt, TableOptions},
};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
use shuttle::future::{block_on, yield_now};
use tempfile::TempDir;

pub(crate) const TABLE: &str = "notes";

/// A directory with one database, which is in nobody's hands yet.
#[derive(Clone)]
pub(crate) struct File(Arc<TempDir>);

impl File {
    pub(crate) fn new() -> Self {
        // In memory, where the platform has that: there are thousands.
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self(Arc::new(dir.unwrap()))
    }

    /// The database, with one table.
    pub(crate) fn open(&self) -> SqliteReplica {
        let replica = SqliteReplica::open(self.0.path().join("db"), &SqliteOptions::default()).unwrap();
        block_on(replica.add_table(TableOptions::new(TABLE.parse().unwrap()))).unwrap();
        replica
    }

    /// Whether all that was written is in the one file.
    pub(crate) fn is_whole(&self) -> bool {
        !self.0.path().join("db-wal").exists()
    }

    /// Whether nobody has the file open any more: the journal cannot be left otherwise.
    pub(crate) fn is_free(&self) -> bool {
        let db = rusqlite::Connection::open(self.0.path().join("db")).unwrap();
        db.busy_timeout(std::time::Duration::ZERO).unwrap();
        db.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0))
            .is_ok_and(|mode| mode == "delete")
    }

    /// The numbers in the table, read by another program.
    pub(crate) fn ids(&self) -> Vec<String> {
        let db = rusqlite::Connection::open(self.0.path().join("db")).unwrap();
        let mut rows = db.prepare("SELECT id FROM notes ORDER BY id").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }
}

pub(crate) fn key(id: &str) -> RecordKey {
    RecordKey::new(TABLE, id).unwrap()
}

pub(crate) fn number(n: i64) -> Fields {
    fields([("n", n.into())])
}

pub(crate) fn a_write(id: &str, n: i64) -> Batch {
    Batch { ops: vec![Op::Write { key: key(id), edit: Edit::Upsert(number(n)), at: n }], ..Batch::default() }
}

pub(crate) async fn write(replica: &dyn Replica, id: &str, n: i64) -> Result<Receipt, ReplicaError> {
    match replica.commit(a_write(id, n)).await? {
        Outcome::Committed(receipt) => Ok(receipt),
        Outcome::Stale => panic!("nothing was expected"),
    }
}

/// Others go on until `so`. If they cannot, the run never ends, and fails.
pub(crate) async fn until(so: impl Fn() -> bool) {
    while !so() {
        yield_now().await;
    }
}
