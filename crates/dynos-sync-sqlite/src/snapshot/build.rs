//! Building the file.

use std::{
    collections::HashMap,
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use dynos_sync_core::{Fields, RecordId, ReplicaError, TableName, TableSpec, replica::TablePolicy};
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::{
    create,
    describe::describe,
    error::{Result, damaged, of_theirs},
    file::{failed, private},
    rows,
    sql::{exec, ident},
    table::Table,
};

/// Quick: the file is read once.
const ZSTD_LEVEL: i32 = 1;

/// Builds a snapshot: an SQLite file with tables as a device declares them, and rows as the device would store them.
///
/// ```
/// use dynos_sync_core::{RecordId, TableSpec, fields};
/// use dynos_sync_sqlite::snapshot::Builder;
///
/// let dir = tempfile::tempdir()?;
/// let notes = TableSpec::document("notes".parse()?);
/// let mut builder = Builder::create(&dir.path().join("notes.db"), std::slice::from_ref(&notes))?;
/// let milk: RecordId = "1".parse()?;
/// builder.put(&notes.name, &milk, Some(&fields([("title", "milk".into())])))?;
/// let size = builder.finish()?;
/// assert_eq!(size, std::fs::metadata(dir.path().join("notes.db"))?.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Builder {
    db: Connection,
    path: PathBuf,
    tables: HashMap<TableName, Table>,
}

impl Builder {
    /// Begins a file that must not be there yet. It is for its owner only (Unix: mode 0600).
    ///
    /// # Errors
    /// [`ReplicaError::Invalid`] for a declaration that is not plain; others where the file cannot be made.
    pub fn create(path: &Path, specs: &[TableSpec]) -> Result<Self> {
        private(OpenOptions::new().write(true).create_new(true)).open(path).map_err(failed(path))?;
        let db = Connection::open(path).map_err(of_theirs)?;
        db.set_prepared_statement_cache_capacity(256);
        // A file that is not finished is of no use to anybody.
        let quick = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
                     PRAGMA foreign_keys = OFF; PRAGMA cache_size = -64000";
        db.execute_batch(quick).map_err(of_theirs)?;
        exec(&db, "BEGIN")?;
        let mut tables = HashMap::new();
        for (n, spec) in (1..).zip(specs) {
            for statement in create::statements(spec)? {
                db.execute_batch(&statement).map_err(of_theirs)?;
            }
            let description = describe(&db, &spec.name)?.ok_or_else(|| damaged("table", "was not made"))?;
            let table = Table::new(n, description, TablePolicy::default(), Vec::new());
            tables.insert(spec.name.clone(), table);
        }
        Ok(Self { db, path: path.to_owned(), tables })
    }

    /// Stores a record, or deletes it: the newest version counts.
    ///
    /// # Errors
    /// [`ReplicaError::Constraint`] and [`ReplicaError::Invalid`] where a device would keep the record aside, and where it does not
    /// say what each column holds: its default is the device's own affair. The table cannot travel as a snapshot then:
    /// [`leave_out`](Self::leave_out).
    pub fn put(&mut self, table: &TableName, id: &RecordId, record: Option<&Fields>) -> Result<()> {
        let table = self.tables.get(table).ok_or_else(|| ReplicaError::UnknownTable(table.clone()))?;
        if let Some(record) = record.filter(|_| !table.document)
            && let Some(field) = table.fields().find(|field| !record.contains_key(&field.name))
        {
            return Err(dynos_sync_core::Invalid::new(&field.name, "the record does not name it").into());
        }
        rows::store(&self.db, table, &table.record(id.clone()), record, false)
    }

    /// Takes a table out again.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn leave_out(&mut self, table: &TableName) -> Result<()> {
        if self.tables.remove(table).is_some() {
            self.db.execute_batch(&format!("DROP TABLE {}", ident(table.as_str()))).map_err(of_theirs)?;
        }
        Ok(())
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn rows(&self, table: &TableName) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", ident(table.as_str()));
        let rows: i64 = self.db.query_row(&sql, [], |row| row.get(0)).map_err(of_theirs)?;
        Ok(rows.unsigned_abs())
    }

    /// Ends the file. Answers its size.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(self) -> Result<u64> {
        exec(&self.db, "COMMIT")?;
        self.db.flush_prepared_statement_cache();
        self.db.close().map_err(|(_, error)| of_theirs(error))?;
        self.path.metadata().map(|metadata| metadata.len()).map_err(failed(&self.path))
    }
}

/// Packs a file as snapshots travel. Answers how many bytes that are, and their digest.
///
/// # Errors
/// Where one cannot be read, or the other not be written.
pub fn pack(file: &Path, packed: impl Write) -> io::Result<(u64, String)> {
    let hashing = Hashing { to: packed, digest: Sha256::new(), bytes: 0 };
    let mut encoder = zstd::stream::write::Encoder::new(hashing, ZSTD_LEVEL)?;
    io::copy(&mut File::open(file)?, &mut encoder)?;
    let mut hashing = encoder.finish()?;
    hashing.flush()?;
    Ok((hashing.bytes, hexadecimal(hashing.digest)))
}

/// Hashes and counts what is written.
struct Hashing<W> {
    to: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.to.write(buffer)?;
        self.digest.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A digest as it is announced.
pub(super) fn hexadecimal(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("path", &self.path).finish_non_exhaustive()
    }
}
