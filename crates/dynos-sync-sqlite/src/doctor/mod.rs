//! [`Examiner`]: looking at a database without touching it.
//!
//! Opening a [`SqliteReplica`](crate::SqliteReplica) looks after the file: it brings tables up to date, makes indexes anew, puts triggers back,
//! takes a new identity in a copy. An examiner does nothing of that. It reads, also what another program has open, and also what is so
//! damaged that it cannot be opened otherwise.

mod account;
mod check;
mod open;
mod survey;

use std::path::{Path, PathBuf};

use dynos_sync_core::{
    RecordKey, ReplicaError,
    doctor::{Account, Depth, Finding, Inspection, Level},
    replica::State,
};
use rusqlite::Connection;

pub(crate) use self::account::account;
use self::open::Alone;
use crate::{
    error::{Result, at, of_theirs},
    header::{Header, versions},
    reading,
    table::Catalog,
};

/// A database that is only looked at. Nothing is ever written to it, and no file is made beside it that was not there; where another program
/// has it open, or has left its journal, SQLite may make the index of the journal anew.
#[derive(Debug)]
pub struct Examiner {
    path: PathBuf,
    db: Connection,
    /// Set where nobody else had the file open: then it is read as it lies there, and looked at again if somebody comes.
    alone: Option<Alone>,
}

/// Whether the engine's tables are in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// They are not: nothing is synced.
    Missing,
    /// An earlier version has made them. They are brought up to date where the database is opened to sync.
    Older,
    /// They are as this version makes them.
    Current,
    /// A later version has made them.
    Newer,
}

impl Examiner {
    /// Opens a file that exists.
    ///
    /// # Errors
    /// [`ReplicaError::Corrupt`] where it is no database, [`ReplicaError::ReadOnly`] where it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let (db, alone) = open::open(&path).map_err(of_theirs).map_err(at(&path))?;
        let mut examiner = Self { path, db, alone };
        // SQLite reads nothing before it is asked to.
        examiner.look(|db| {
            db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(of_theirs)
        })?;
        Ok(examiner)
    }

    /// Whether the engine's tables are there.
    ///
    /// # Errors
    /// [`ReplicaError::Corrupt`].
    pub fn tables(&mut self) -> Result<Tables> {
        self.look(tables)
    }

    /// The replica as a whole.
    ///
    /// # Errors
    /// [`ReplicaError::Corrupt`]; [`ReplicaError::TooNew`], or [`ReplicaError::Storage`] where the tables are missing or older.
    pub fn state(&mut self) -> Result<State> {
        self.look(|db| {
            let (header, catalog) = known(db)?;
            reading::state(db, &catalog, &header)
        })
    }

    /// What is kept of one record.
    ///
    /// # Errors
    /// As [`state`](Self::state); [`ReplicaError::UnknownTable`].
    pub fn account(&mut self, key: &RecordKey) -> Result<Account> {
        self.look(|db| {
            let (header, catalog) = known(db)?;
            account(db, &catalog, &header, key)
        })
    }

    /// Looks through the file. What cannot be read is a finding.
    pub fn inspect(&mut self, depth: Depth) -> Inspection {
        let path = self.path.clone();
        let found = self.look(|db| Ok(inspect(db, &path, depth)));
        found.unwrap_or_else(|error| {
            let remedy = "try again";
            let finding = Finding::new(Level::Fault, "file", error.to_string(), remedy);
            Inspection { findings: vec![finding], ..Inspection::default() }
        })
    }

    /// Everything that `work` reads is of one moment.
    fn look<T>(&mut self, work: impl Fn(&Connection) -> Result<T>) -> Result<T> {
        let seen = moment(&self.db, &work);
        let is_disturbed = self.alone.as_ref().is_some_and(|alone| !alone.still(&self.path));
        if is_disturbed {
            // Somebody has opened it meanwhile, and may have written while it was read: as SQLite reads what others write.
            self.db = open::shared(&self.path).map_err(of_theirs).map_err(at(&self.path))?;
            self.alone = None;
            return moment(&self.db, &work).map_err(at(&self.path));
        }
        seen.map_err(at(&self.path))
    }
}

fn moment<T>(db: &Connection, work: impl Fn(&Connection) -> Result<T>) -> Result<T> {
    db.execute_batch("BEGIN").map_err(of_theirs)?;
    let seen = work(db);
    if !db.is_autocommit() {
        db.execute_batch("ROLLBACK").map_err(of_theirs)?;
    }
    seen
}

fn tables(db: &Connection) -> Result<Tables> {
    let (found, known) = versions(db)?;
    Ok(match found {
        0 => Tables::Missing,
        found if found < known => Tables::Older,
        found if found > known => Tables::Newer,
        _ => Tables::Current,
    })
}

/// The header and the tables, where this version can read them.
fn known(db: &Connection) -> Result<(Header, Catalog)> {
    let (found, known) = versions(db)?;
    let other = |message: &str| ReplicaError::Storage { message: message.to_owned(), source: None };
    match tables(db)? {
        Tables::Missing => Err(other("no table of the database is synced")),
        Tables::Older => Err(other(
            "an earlier version of dynos-sync has made the database's tables (any command that syncs brings them up to date)",
        )),
        Tables::Newer => Err(ReplicaError::TooNew { found, known }),
        Tables::Current => {
            let header = Header::read(db)?;
            let catalog = Catalog::read(db, header.seal, (0, 0))?;
            Ok((header, catalog))
        }
    }
}

/// Looks through a database, on a connection that is in a transaction.
pub(crate) fn inspect(db: &Connection, path: &Path, depth: Depth) -> Inspection {
    let mut inspection = Inspection { findings: check::findings(db, path, depth), ..Inspection::default() };
    if matches!(tables(db), Ok(Tables::Current))
        && let Err(error) = survey::count(db, depth, &mut inspection.survey)
    {
        let remedy = "see the other findings; what was counted before is told";
        inspection.findings.push(Finding::new(Level::Fault, "survey", error.to_string(), remedy));
    }
    survey::storage(db, path, &mut inspection.survey);
    inspection
}
