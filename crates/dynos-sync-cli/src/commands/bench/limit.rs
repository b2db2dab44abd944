//! The other side: what the machine does without any sync.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params, params_from_iter, types::Value as Cell};

use super::{
    Case, failed,
    process::Process,
    record::{Shape, TABLE},
};
use crate::error::Failure;

/// A database of an application that keeps a queue of its own, in the simplest way: beside each row, what is to be sent.
pub(super) struct Plain {
    pub(super) db: Connection,
    pub(super) path: PathBuf,
    shape: Shape,
}

/// What is bound: the row, and its JSON.
pub(super) type Bound = (Vec<Cell>, String);

impl Plain {
    pub(super) fn new(case: &Case, synchronous: &str) -> Result<Self, Failure> {
        let path = case.fresh()?;
        let db = open(&path, synchronous)?;
        db.execute_batch(&case.shape.schema())?;
        db.execute_batch(
            "CREATE TABLE queue (n INTEGER PRIMARY KEY, name TEXT, id TEXT, data TEXT, at INTEGER)",
        )?;
        Ok(Self { db, path, shape: case.shape })
    }

    /// What is bound for each of these rows: made before the clock runs.
    pub(super) fn bound(&self, rows: u64) -> Vec<Bound> {
        let text = |n| serde_json::Value::Object(self.shape.record(n).1).to_string();
        (0..rows).map(|n| (self.shape.row(n), text(n))).collect()
    }

    /// One transaction of these rows.
    pub(super) fn write(&self, rows: &[Bound]) -> rusqlite::Result<()> {
        let mut begin = self.db.prepare_cached("BEGIN IMMEDIATE")?;
        let mut commit = self.db.prepare_cached("COMMIT")?;
        let mut row = self.db.prepare_cached(&self.shape.insert())?;
        let mut queue =
            self.db.prepare_cached("INSERT INTO queue (name, id, data, at) VALUES (?, ?, ?, ?)")?;
        begin.execute([])?;
        for (cells, text) in rows {
            row.execute(params_from_iter(cells))?;
            queue.execute(params![TABLE, cells[0], text, 1_700_000_000_000_i64])?;
        }
        commit.execute([]).map(drop)
    }

    /// One transaction of these rows, without the queue.
    pub(super) fn insert(db: &Connection, sql: &str, rows: &[Bound]) -> rusqlite::Result<()> {
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut row = db.prepare_cached(sql)?;
        for (cells, _) in rows {
            row.execute(params_from_iter(cells))?;
        }
        db.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

/// A connection as applications have it.
pub(super) fn open(path: &Path, synchronous: &str) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    db.pragma_update(None, "synchronous", synchronous)?;
    Ok(db)
}

/// A client without any of the engine's care.
pub(super) fn client() -> Result<reqwest::Client, Failure> {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().map_err(|error| failed(&error))
}

/// One call of the limit's server, which tells whoever listens.
pub(super) async fn tell(client: &reqwest::Client, server: &Process) -> Result<(), Failure> {
    let told = client.post(format!("{}/tell", server.url)).send().await.map_err(|error| failed(&error))?;
    told.error_for_status().map(drop).map_err(|error| failed(&error))
}
