//! Looking through a file that came over the network, before anything of it is used.
//!
//! It is opened on a connection of its own that writes nothing, trusts no schema and minds every cell. Its schema has to be, word for
//! word, what this crate makes of the declarations: so there is no view, trigger, index, constraint or default in it that the
//! device does not know. Then SQLite looks through every page, row and constraint, and [`indexes`] at what indexes hold.

use std::{
    fs::File,
    io::{self, Read},
    panic::resume_unwind,
    path::Path,
};

use dynos_sync_core::TableSpec;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, config::DbConfig};

use super::indexes;
use crate::{
    create,
    error::{Result, of_theirs},
    file::failed,
    replica::Threads,
};

/// Whether the file has these tables and nothing else; what is wrong with it, if something is.
pub(super) fn schema_fault(file: &Path, specs: &[TableSpec]) -> Result<Option<String>> {
    let wanted = match made(specs) {
        Ok(wanted) => wanted,
        Err(error) => return Ok(Some(error.to_string())),
    };
    if !is_plain(file).map_err(failed(file))? {
        return Ok(Some("it is no SQLite database without a log and with text in UTF-8".to_owned()));
    }
    judged(look(file, |db| {
        Ok((schema(db)? != wanted).then(|| "its tables are not made as they are here".to_owned()))
    }))
}

/// What text is encoded in, in a snapshot and so in whatever takes one.
pub(super) const ENCODING: &str = "UTF-8";

/// Whether the file begins as one of SQLite's, says that it is read and written without a log beside it, and has text in UTF-8. (In the
/// header, since SQLite itself takes no number for a UTF-8, but not in an attached database.)
fn is_plain(file: &Path) -> io::Result<bool> {
    let mut header = [0; 60];
    let read = File::open(file)?.read_exact(&mut header);
    let begins = header.starts_with(b"SQLite format 3\0");
    Ok(read.is_ok() && begins && header[18..20] == [1, 1] && header[56..] == [0, 0, 0, 1])
}

/// Whether every page, row and index entry is sound. The schema was looked at before.
pub(super) fn content_fault(file: &Path, threads: Threads) -> Result<Option<String>> {
    // SQLite's full check takes several times as long as both together.
    let structure = || {
        judged(look(file, |db| {
            let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            Ok((found != "ok").then(|| format!("SQLite finds: {found}")))
        }))
    };
    // Indexes are copied as they are, and one that lacks a row would hide it for ever.
    let indexes = || judged(look(file, indexes::fault));
    let (structure, indexes) = match threads {
        Threads::Own => std::thread::scope(|scope| {
            let indexes = scope.spawn(indexes);
            (structure(), indexes.join().unwrap_or_else(|panic| resume_unwind(panic)))
        }),
        Threads::Caller => (structure(), indexes()),
    };
    Ok(structure?.or(indexes?))
}

fn judged(looked: rusqlite::Result<Option<String>>) -> Result<Option<String>> {
    match looked {
        Ok(fault) => Ok(fault),
        Err(error) if is_content(&error) => Ok(Some(format!("SQLite says: {error}"))),
        Err(error) => Err(of_theirs(error)),
    }
}

/// Whether the file is at fault, and not the machine.
fn is_content(error: &Error) -> bool {
    let machines =
        [ErrorCode::DiskFull, ErrorCode::SystemIoFailure, ErrorCode::OutOfMemory, ErrorCode::CannotOpen];
    error.sqlite_error_code().is_none_or(|code| !machines.contains(&code))
}

type Schema = Vec<(String, String, String, Option<String>)>;

/// The schema that the declarations lead to.
fn made(specs: &[TableSpec]) -> Result<Schema> {
    let db = Connection::open_in_memory().map_err(of_theirs)?;
    for spec in specs {
        for statement in create::statements(spec)? {
            db.execute_batch(&statement).map_err(of_theirs)?;
        }
    }
    schema(&db).map_err(of_theirs)
}

fn schema(db: &Connection) -> rusqlite::Result<Schema> {
    // SQLite keeps that table by itself, once any table has counted with it.
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema
               WHERE sql IS NOT 'CREATE TABLE sqlite_sequence(name,seq)' ORDER BY 1, 2, 3, 4";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    rows.collect()
}

fn look(
    file: &Path,
    find: impl FnOnce(&Connection) -> rusqlite::Result<Option<String>>,
) -> rusqlite::Result<Option<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(file, flags)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Of the cache, in KiB, only what is used is taken. Some indexes are looked up in, row by row: with less, they are read again and again.
    db.execute_batch("PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA cache_size = -16000")?;
    find(&db)
}
