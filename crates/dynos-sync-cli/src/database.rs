//! Opening a device's database.

use std::path::Path;

use dynos_sync::{
    core::{Replica, replica::State},
    sqlite::{SqliteOptions, SqliteReplica},
};
use rusqlite::{Connection, OpenFlags};

use crate::error::{Code, Failure};

/// Opens a database that exists, and closes it when `work` is done.
pub(crate) async fn with<T>(
    path: &Path,
    work: impl AsyncFnOnce(&SqliteReplica) -> Result<T, Failure>,
) -> Result<T, Failure> {
    must_exist(path)?;
    let replica =
        SqliteReplica::open(path, &SqliteOptions::default()).map_err(|error| named(path, &error.into()))?;
    let done = work(&replica).await;
    replica.close().await;
    done
}

/// As [`with`], for a database that syncs something. One that does not is left as it is, to the byte.
pub(crate) async fn with_tracked<T>(
    path: &Path,
    work: impl AsyncFnOnce(&SqliteReplica, State) -> Result<T, Failure>,
) -> Result<T, Failure> {
    must_exist(path)?;
    if !has_engine(path)? {
        return Err(not_tracked(path));
    }
    with(path, async |replica| {
        let state = replica.state().await?;
        work(replica, state).await
    })
    .await
}

/// The answer where a table has to be synced and none is.
pub(crate) fn not_tracked(path: &Path) -> Failure {
    Failure::new(Code::NotTracked, format!("{}: no table is synced", path.display()))
        .hint(format!("choose tables with: dynos track {} --all", path.display()))
}

/// A row of the server's that the local table refuses.
pub(crate) struct Quarantined {
    pub(crate) table: String,
    pub(crate) id: String,
    pub(crate) error: String,
}

/// The rows that are kept aside. The engine tells of them only in the moment, so they are read where it keeps them.
pub(crate) async fn quarantine(replica: &SqliteReplica) -> Result<Vec<Quarantined>, Failure> {
    let sql = "SELECT t.name, q.id, q.error FROM dynos_quarantine AS q JOIN dynos_table AS t ON t.n = q.tbl \
               ORDER BY 1, 2 LIMIT 1000";
    let read = |db: &Connection| {
        let mut statement = db.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Quarantined { table: row.get(0)?, id: row.get(1)?, error: row.get(2)? })
        })?;
        rows.collect()
    };
    Ok(replica.read_with(read).await?)
}

/// Refuses what is not a file.
pub(crate) fn must_exist(path: &Path) -> Result<(), Failure> {
    if path.is_file() {
        return Ok(());
    }
    let problem = if path.exists() { "is not a file" } else { "there is no such file" };
    Err(Failure::new(Code::NotFound, format!("{}: {problem}", path.display()))
        .hint("name an SQLite database that exists; dynos clone makes a new one from a server"))
}

/// Whether the engine's tables are in the file. The file is only read.
fn has_engine(path: &Path) -> Result<bool, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'dynos_state')";
    let found = Connection::open_with_flags(path, flags).and_then(|db| {
        db.busy_timeout(SqliteOptions::default().busy_timeout)?;
        db.query_row(sql, [], |row| row.get(0))
    });
    match found {
        Ok(found) => Ok(found),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            Err(Failure::new(Code::Damaged, format!("{}: this is not an SQLite database", path.display()))
                .hint("check the file's name"))
        }
        // Opening it properly says more.
        Err(_) => Ok(true),
    }
}

/// Names the file in a failure that does not.
pub(crate) fn named(path: &Path, failure: &Failure) -> Failure {
    let (path, message) = (path.display().to_string(), failure.message());
    let message = if message.contains(&path) { message.to_owned() } else { format!("{path}: {message}") };
    let named = Failure::new(failure.code(), message);
    match failure.advice() {
        Some(hint) => named.hint(hint),
        None => named,
    }
}
