//! The database's tables, and how a connection is set up.

use std::{fs::OpenOptions, path::Path};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};

use crate::{config::Durability, store::StoreError};

/// One step a version. A step that was released is never changed; a new one is appended.
const MIGRATIONS: [&str; 1] = ["
    -- The identity of this data, for all of its life.
    CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), server TEXT NOT NULL) STRICT;

    -- One row each time that the server started.
    CREATE TABLE incarnations (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;

    -- name: 'u:' and the subject, or 's'. seq: the number of the newest change.
    CREATE TABLE scopes (scope INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL) STRICT;

    -- The seq that a scope had reached when an incarnation first changed it.
    CREATE TABLE epochs (
        scope INTEGER NOT NULL, n INTEGER NOT NULL, start INTEGER NOT NULL, PRIMARY KEY (scope, n)
    ) STRICT, WITHOUT ROWID;

    -- head: the seq of the newest change. purged: of the newest tombstone that was forgotten.
    CREATE TABLE tables (
        tbl INTEGER PRIMARY KEY, scope INTEGER NOT NULL, name TEXT NOT NULL, spec TEXT NOT NULL,
        head INTEGER NOT NULL DEFAULT 0, purged INTEGER NOT NULL DEFAULT 0, UNIQUE (scope, name)
    ) STRICT;

    -- A replica under the user who syncs it: two users who name the same id are two writers.
    CREATE TABLE writers (
        writer INTEGER PRIMARY KEY, scope INTEGER NOT NULL, replica TEXT NOT NULL, counter INTEGER NOT NULL,
        UNIQUE (scope, replica)
    ) STRICT;

    -- stored: the server's time of the commit. data: the record as JSON, null for a tombstone; it comes last,
    -- so that the rest is read without it.
    CREATE TABLE records (
        tbl INTEGER NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, writer INTEGER NOT NULL,
        counter INTEGER NOT NULL, at INTEGER NOT NULL, stored INTEGER NOT NULL, data TEXT,
        PRIMARY KEY (tbl, id)
    ) STRICT;
    CREATE UNIQUE INDEX records_by_seq ON records (tbl, seq);
    CREATE INDEX records_dead ON records (stored) WHERE data IS NULL;

    -- What became of an entry: seq where it was applied, code and message where it was rejected.
    CREATE TABLE outcomes (
        writer INTEGER NOT NULL, counter INTEGER NOT NULL, digest BLOB NOT NULL, seq INTEGER, code TEXT,
        message TEXT, stored INTEGER NOT NULL, PRIMARY KEY (writer, counter)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX outcomes_by_age ON outcomes (stored);
"];

/// Marks the file as this server's (SQLite's `application_id`): "dyns".
const APPLICATION: i32 = 0x6479_6e73;

/// Everybody's records are in the file: one that is made is for its owner only. SQLite makes its other files alike.
fn make_private(path: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // It is there already, or cannot be made: SQLite will say so.
    let _ = options.open(path);
}

/// Opens the connection that writes, and brings the tables up to date. Whatever the durability that was chosen, what is
/// committed before [`settle`] survives a loss of power.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    make_private(path);
    let mut conn = Connection::open(path)?;
    conn.busy_timeout(std::time::Duration::from_secs(10))?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Corrupt(format!("the file system does not allow a WAL (mode {mode})")));
    }
    conn.pragma_update(None, "synchronous", "FULL")?;
    // Nothing of it is put into temporary files, which are elsewhere.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // KiB, of which only what is used is taken. Ids are in no order: with less, indexes are read again and again.
    conn.pragma_update(None, "cache_size", -64_000)?;
    // What a user deletes is gone from the file, too.
    conn.pragma_update(None, "secure_delete", true)?;
    keep_statements(&conn)?;
    migrate(&mut conn)?;
    Ok(conn)
}

/// From here on commits are as durable as was chosen.
pub(super) fn settle(conn: &Connection, durability: Durability) -> Result<(), StoreError> {
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    Ok(conn.pragma_update(None, "synchronous", synchronous)?)
}

/// Opens a connection that cannot write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.busy_timeout(std::time::Duration::from_secs(10))?;
    keep_statements(&conn)?;
    Ok(conn)
}

fn keep_statements(conn: &Connection) -> Result<(), StoreError> {
    conn.set_prepared_statement_cache_capacity(64);
    // Without this, a statement with `LIMIT ?` is parsed again whenever that is bound.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: usize = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = tx.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let objects: usize = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if objects > 0 && application != APPLICATION {
        return Err(StoreError::Corrupt("the file is another program's database".to_owned()));
    }
    let Some(steps) = MIGRATIONS.get(version..) else {
        return Err(StoreError::Corrupt(format!("the file is of a newer version ({version})")));
    };
    for step in steps {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION)?;
    tx.pragma_update(None, "user_version", MIGRATIONS.len())?;
    Ok(tx.commit()?)
}
