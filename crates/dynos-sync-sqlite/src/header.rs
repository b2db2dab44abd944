//! The replica as a whole: the one row of `dynos_state`, and the engine's tables.

use dynos_sync_core::{Counter, Generation, Millis, ReplicaError, ReplicaId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::{Result, damaged, translate},
    random::Random,
};

/// The schema versions, oldest first. A released one is never edited.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
];

/// `dynos_state`, read at the beginning of a transaction and written at its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) replica: ReplicaId,
    pub(crate) file: Option<String>,
    pub(crate) generation: Generation,
    pub(crate) server: Option<String>,
    pub(crate) clock: Millis,
    pub(crate) last_counter: Counter,
    pub(crate) last_sent: Counter,
    pub(crate) pending: i64,
    pub(crate) layout: i64,
    pub(crate) scrub: bool,
}

impl Header {
    pub(crate) fn read(db: &Connection) -> Result<Self> {
        let sql = "SELECT replica, file, generation, server, clock, last_counter, pending, layout, scrub, last_sent \
                   FROM dynos_state";
        let mut statement = db.prepare_cached(sql).map_err(translate)?;
        let (replica, header) = statement
            .query_row([], |row| {
                let header = Self {
                    replica: ReplicaId::from_random([0; 16]),
                    file: row.get(1)?,
                    generation: row.get::<_, i64>(2)? as u64,
                    server: row.get(3)?,
                    clock: row.get(4)?,
                    last_counter: row.get::<_, i64>(5)? as u64,
                    pending: row.get(6)?,
                    layout: row.get(7)?,
                    scrub: row.get(8)?,
                    last_sent: row.get::<_, i64>(9)? as u64,
                };
                Ok((row.get::<_, String>(0)?, header))
            })
            .map_err(translate)?;
        let replica = replica.parse().map_err(|error| damaged("dynos_state.replica", error))?;
        Ok(Self { replica, ..header })
    }

    /// Writes the row. The triggers are awake again from here on.
    pub(crate) fn write(&self, db: &Connection) -> Result<()> {
        let sql = "UPDATE dynos_state SET replica = ?, file = ?, generation = ?, server = ?, clock = ?, last_counter = ?, \
                   pending = ?, layout = ?, scrub = ?, last_sent = ?, capture = 1";
        let mut statement = db.prepare_cached(sql).map_err(translate)?;
        let done = statement.execute(params![
            self.replica.to_string(),
            self.file,
            self.generation as i64,
            self.server,
            self.clock,
            self.last_counter as i64,
            self.pending,
            self.layout,
            self.scrub,
            self.last_sent as i64,
        ]);
        done.map(drop).map_err(translate)
    }
}

/// Silences the triggers until [`Header::write`], or wakes them.
pub(crate) fn set_capture(db: &Connection, on: bool) -> Result<()> {
    let mut statement = db.prepare_cached("UPDATE dynos_state SET capture = ?").map_err(translate)?;
    statement.execute([on]).map(drop).map_err(translate)
}

/// Makes the engine's tables, or brings them up to date.
///
/// # Errors
/// [`ReplicaError::TooNew`] for a file of a later version, which is left as it is.
pub(crate) fn migrate(db: &Connection, random: &Random) -> Result<()> {
    let known = MIGRATIONS.len() as i64;
    if version(db)? == known {
        return Ok(());
    }
    db.execute_batch("BEGIN IMMEDIATE").map_err(translate)?;
    // Another process may have done it while this one waited for the lock.
    let found = version(db)?;
    let done = if found > known {
        Err(ReplicaError::TooNew { found, known })
    } else {
        migrate_from(db, found, random)
    };
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    db.execute_batch(end).map_err(translate)?;
    done
}

fn migrate_from(db: &Connection, found: i64, random: &Random) -> Result<()> {
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        db.execute_batch(migration).map_err(translate)?;
    }
    if found == 0 {
        let sql = "INSERT INTO dynos_state (one, version, replica) VALUES (1, ?, ?)";
        db.execute(sql, params![MIGRATIONS.len() as i64, random.replica_id()?.to_string()])
            .map_err(translate)?;
    } else {
        db.execute("UPDATE dynos_state SET version = ?", [MIGRATIONS.len() as i64]).map_err(translate)?;
    }
    Ok(())
}

fn version(db: &Connection) -> Result<i64> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'dynos_state')";
    if !db.query_row(exists, [], |row| row.get::<_, bool>(0)).map_err(translate)? {
        return Ok(0);
    }
    let version = db.query_row("SELECT version FROM dynos_state", [], |row| row.get(0)).optional();
    version.map_err(translate)?.ok_or_else(|| damaged("dynos_state", "is empty"))
}
