//! The replica as a whole: the one row of `dynos_state`, and the engine's tables.

use dynos_sync_core::{Counter, Generation, Invalid, Millis, ReplicaError, ReplicaId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::{Result, damaged, translate},
    letters, listing, queue,
    random::Random,
    raw::raws,
    sum::{Seal, Sum},
};

/// The schema versions, oldest first. A released one is never edited.
const MIGRATIONS: [&str; 8] = [
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
];

/// `dynos_state`, read at the beginning of a transaction and written at its end, unless the queue says what has changed.
///
/// The row says how it was at its `last_counter`. What the queue holds after that was only appended since, one entry a number, and the
/// newest entry's time is the clock. A transaction that did anything else writes the row.
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
    /// Below this number, no entry is ready but those that became so later ([`queue::heads`]).
    pub(crate) fresh: Counter,
    /// The version of the application's schema; 0 where it has named none.
    pub(crate) schema: u32,
    /// What the sums of this session begin with.
    pub(crate) seal: Seal,
}

impl Header {
    pub(crate) fn read(db: &Connection) -> Result<Self> {
        let header = Self::stored(db)?;
        let after = header.last_counter as i64;
        match raws(db, "WHERE counter > ? ORDER BY counter DESC LIMIT 1", [after])?.pop() {
            None => Ok(header),
            Some((counter, Ok(raw))) if raw.is_intact(header.seal) => Ok(Self {
                clock: header.clock.max(raw.at),
                last_counter: counter as Counter,
                pending: header.pending + (counter - after),
                ..header
            }),
            Some(_) => header.with_all_after(db),
        }
    }

    /// Where the newest entry cannot be believed, all of them are looked at.
    fn with_all_after(mut self, db: &Connection) -> Result<Self> {
        for (_, raw) in raws(db, "WHERE counter > ?", [self.last_counter as i64])? {
            self.last_counter += 1;
            self.pending += 1;
            let intact = raw.ok().filter(|raw| raw.is_intact(self.seal));
            self.clock = intact.map_or(self.clock, |raw| self.clock.max(raw.at));
        }
        Ok(self)
    }

    /// Whether all that has changed since `before` is what the queue says of itself.
    fn is_told_by_queue(&self, db: &Connection, before: &Self) -> Result<bool> {
        let appended = self.last_counter.saturating_sub(before.last_counter) as i64;
        let (clock, last_counter, pending) = (self.clock, self.last_counter, before.pending + appended);
        let grown = Self { clock, last_counter, pending, ..before.clone() };
        Ok(appended > 0 && *self == grown && queue::time_of(db, last_counter)? == Some(clock))
    }

    /// Whether the row has to be written, for the next to read what this says.
    pub(crate) fn is_to_be_written(&self, db: &Connection, before: &Self) -> Result<bool> {
        Ok(self != before && !self.is_told_by_queue(db, before)?)
    }

    /// The row alone. Its `clock`, `last_counter` and `pending` may be of earlier.
    pub(crate) fn stored(db: &Connection) -> Result<Self> {
        let (header, sum, awake) = Self::parts(db)?;
        if header.sum() != sum {
            return Err(damaged("dynos_state", "it is not as it was written"));
        }
        if !awake {
            return Err(damaged("dynos_state.capture", "the triggers are asleep"));
        }
        Ok(header)
    }

    /// The row as it stands there, its sum, and whether the triggers are awake.
    ///
    /// A later version may have taken the tables over while this one has them open: this one does not know what belongs into them now.
    fn parts(db: &Connection) -> Result<(Self, i64, bool)> {
        let sql = "SELECT replica, file, generation, server, clock, last_counter, pending, layout, scrub, seal, sum, capture, last_sent, fresh, schema, version \
                   FROM dynos_state";
        let mut statement = db.prepare_cached(sql).map_err(translate)?;
        let (replica, sum, awake, found, header) = statement
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
                    last_sent: row.get::<_, i64>(12)? as u64,
                    fresh: row.get::<_, i64>(13)? as u64,
                    schema: row.get(14)?,
                    seal: Seal(row.get(9)?),
                };
                Ok((row.get::<_, String>(0)?, row.get(10)?, row.get(11)?, row.get(15)?, header))
            })
            .map_err(translate)?;
        refuse_later(found)?;
        let replica = replica.parse().map_err(|error| damaged("dynos_state.replica", error))?;
        Ok((Self { replica, ..header }, sum, awake))
    }

    /// Writes the row. The triggers are awake again from here on.
    pub(crate) fn write(&self, db: &Connection) -> Result<()> {
        let sql = "UPDATE dynos_state SET replica = ?, file = ?, generation = ?, server = ?, clock = ?, last_counter = ?, \
                   pending = ?, layout = ?, scrub = ?, last_sent = ?, fresh = ?, schema = ?, seal = ?, sum = ?, capture = 1";
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
            self.fresh as i64,
            self.schema,
            self.seal.0,
            self.sum(),
        ]);
        done.map(drop).map_err(translate)
    }

    fn sum(&self) -> i64 {
        let Self {
            replica,
            file,
            generation,
            server,
            clock,
            last_counter,
            last_sent,
            pending,
            layout,
            scrub,
            fresh,
            schema,
            seal,
        } = self;
        let texts = seal.sum().text(&replica.to_string()).maybe(file.as_deref()).maybe(server.as_deref());
        let counters = [*generation, *last_counter, *last_sent].map(|counter| counter as i64);
        let numbers = counters.into_iter().chain([*clock, *pending, *layout, (*scrub).into()]);
        // In a file of before there was one, it is 0 and no part of the sum.
        let numbers = numbers.chain((*fresh > 0).then_some(*fresh as i64));
        let schema = [-1, i64::from(*schema)].into_iter().filter(|_| *schema > 0);
        numbers.chain(schema).fold(texts, Sum::int).end()
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
    let done = refuse_later(found).and_then(|()| migrate_from(db, found, random));
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    db.execute_batch(end).map_err(translate)?;
    done
}

/// Refuses tables of a version that this one does not know.
fn refuse_later(found: i64) -> Result<()> {
    let known = MIGRATIONS.len() as i64;
    if found > known { Err(ReplicaError::TooNew { found, known }) } else { Ok(()) }
}

fn migrate_from(db: &Connection, found: i64, random: &Random) -> Result<()> {
    if found < 0 {
        return Err(damaged("dynos_state.version", found));
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        refuse_taken_names(db, migration)?;
        db.execute_batch(migration).map_err(translate)?;
    }
    if found == 0 {
        let sql = "INSERT INTO dynos_state (one, version, replica) VALUES (1, ?, ?)";
        db.execute(sql, params![MIGRATIONS.len() as i64, random.replica_id()?.to_string()])
            .map_err(translate)?;
    } else {
        db.execute("UPDATE dynos_state SET version = ?", [MIGRATIONS.len() as i64]).map_err(translate)?;
    }
    if found < SEALED {
        seal(db, random)?;
    }
    if found < TAGGED { queue::tag_all(db) } else { Ok(()) }
}

/// From this version on entries have tags.
const TAGGED: i64 = 8;

/// From this version on there are sums.
const SEALED: i64 = 4;

/// Gives what an earlier version has kept its first sums.
fn seal(db: &Connection, random: &Random) -> Result<()> {
    let seal = Seal::draw(random)?;
    queue::seal(db, seal)?;
    letters::seal(db, seal)?;
    listing::seal_all(db, seal)?;
    seal_header(db, seal)
}

fn seal_header(db: &Connection, seal: Seal) -> Result<()> {
    let (header, ..) = Header::parts(db)?;
    Header { seal, ..header }.write(db)
}

/// Gives what a table holds its right sums, as a program would that knows the seal. What cannot be read keeps a wrong one.
#[cfg(fuzzing)]
pub(crate) fn seal_again(db: &Connection, table: &str) {
    let seal = db.query_row("SELECT seal FROM dynos_state", [], |row| row.get(0)).map(Seal);
    let _ = seal.map_err(translate).and_then(|seal| match table {
        "dynos_state" => seal_header(db, seal),
        "dynos_table" => listing::seal_all(db, seal),
        "dynos_dead" | "dynos_conflict" => letters::seal(db, seal),
        _ => queue::seal(db, seal).and_then(|()| queue::tag_all(db)),
    });
}

/// The application may have made tables of the engine's names before it ever opened the engine.
fn refuse_taken_names(db: &Connection, migration: &str) -> Result<()> {
    let made = migration.lines().filter_map(|line| {
        let rest = line.strip_prefix("CREATE TABLE ").or_else(|| line.strip_prefix("CREATE INDEX "))?;
        rest.split_whitespace().next()
    });
    for name in made {
        let sql = "SELECT type FROM sqlite_schema WHERE name = ? COLLATE NOCASE AND type <> 'trigger'";
        let taken: Option<String> =
            db.query_row(sql, [name], |row| row.get(0)).optional().map_err(translate)?;
        if let Some(kind) = taken {
            return Err(taken_name(name, &kind));
        }
    }
    Ok(())
}

fn taken_name(name: &str, kind: &str) -> ReplicaError {
    let problem =
        format!("the {kind} {name} is there already, and names that begin with dynos_ are the engine's");
    Invalid::new("table", problem).remedy(format!("rename the {kind} before the database is opened")).into()
}

fn version(db: &Connection) -> Result<i64> {
    let exists =
        "SELECT type FROM sqlite_schema WHERE name = 'dynos_state' COLLATE NOCASE AND type <> 'trigger'";
    let kind: Option<String> = db.query_row(exists, [], |row| row.get(0)).optional().map_err(translate)?;
    let Some(kind) = kind else { return Ok(0) };
    let columns =
        "SELECT count(*) FROM pragma_table_info('dynos_state') WHERE name IN ('one', 'version', 'replica')";
    if db.query_row(columns, [], |row| row.get::<_, i64>(0)).map_err(translate)? != 3 {
        return Err(taken_name("dynos_state", &kind));
    }
    let version = db.query_row("SELECT version FROM dynos_state", [], |row| row.get(0)).optional();
    version.map_err(translate)?.ok_or_else(|| damaged("dynos_state", "is empty"))
}

/// The version of the engine's tables, 0 where they are missing, and the version that this program makes.
pub(crate) fn versions(db: &Connection) -> Result<(i64, i64)> {
    Ok((version(db)?, MIGRATIONS.len() as i64))
}
