//! Opening a file so that nothing of it changes.
//!
//! Whoever reads a database in WAL mode joins in: SQLite makes the journal and its index beside the file, and leaves them there where it may
//! only read. Where neither is there nobody has the file open, and it is read as it lies there (`immutable`), which needs neither; it works on
//! a medium that cannot be written, too. Whether that was right is looked at afterwards.

use std::{
    ffi::OsString,
    fmt::Write,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

/// How long to wait for another program that holds the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// A file that nobody else had open, as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alone {
    bytes: u64,
    written: Option<SystemTime>,
}

impl Alone {
    /// None where somebody has it open, or has left a journal.
    fn of(path: &Path) -> Option<Self> {
        let is_there = |suffix: &str| beside(path, suffix).exists();
        if ["-wal", "-shm", "-journal"].into_iter().any(is_there) {
            return None;
        }
        let metadata = fs::metadata(path).ok()?;
        Some(Self { bytes: metadata.len(), written: metadata.modified().ok() })
    }

    /// Whether it still is.
    pub(super) fn still(&self, path: &Path) -> bool {
        Self::of(path).as_ref() == Some(self)
    }
}

/// A file that SQLite has beside a database.
pub(super) fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

pub(super) fn open(path: &Path) -> rusqlite::Result<(Connection, Option<Alone>)> {
    let alone = Alone::of(path);
    match (&alone, as_uri(path)) {
        (Some(_), Some(uri)) => {
            let flags = read_only() | OpenFlags::SQLITE_OPEN_URI;
            Ok((careful(Connection::open_with_flags(uri, flags)?)?, alone))
        }
        _ => Ok((shared(path)?, None)),
    }
}

/// As everybody else reads it.
pub(super) fn shared(path: &Path) -> rusqlite::Result<Connection> {
    careful(Connection::open_with_flags(path, read_only())?)
}

fn read_only() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// The file may be damaged, or somebody else's: its schema is not trusted, and each cell minded.
fn careful(db: Connection) -> rusqlite::Result<Connection> {
    db.busy_timeout(PATIENCE)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.execute_batch("PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA query_only = ON")?;
    Ok(db)
}

/// The path as a URI that says that nobody writes the file. None where paths are not made of `/`.
fn as_uri(path: &Path) -> Option<String> {
    if cfg!(not(unix)) {
        return None;
    }
    let path = std::path::absolute(path).ok()?;
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            // Writing to a text does not fail.
            other => drop(write!(uri, "%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Some(uri)
}
