//! One transaction: the connection, what is synced, and the replica's header.

use std::cell::Cell;

use dynos_sync_core::{
    Counter, Fields, Limits, Millis, RecordId, RecordKey, ReplicaError,
    replica::Phase,
    sabotage::{Mutant, is_on},
};
use rusqlite::{Connection, config::DbConfig, params};

use crate::{
    error::{Result, damaged, translate},
    header::{Header, set_capture},
    listing, queue,
    random::Random,
    rows,
    sql::exec,
    table::{Catalog, Table},
};

/// One transaction.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) db: &'a Connection,
    pub(crate) catalog: &'a Catalog,
    pub(crate) header: Header,
    pub(crate) random: &'a Random,
    /// How many transactions have needed no trigger, one after the other.
    calm: &'a Cell<u32>,
    /// Whether the triggers are awake.
    awake: bool,
    /// Server versions that a constraint refused, to be tried again when the rest of the batch is in place.
    refused: Vec<Refused>,
    /// Whether any record is kept aside: in quarantine, or as one that the server was never offered. Asked once.
    aside: Option<bool>,
    /// What is being done about the table that was asked about last.
    walking: Option<(i64, Phase)>,
    /// The transaction that edits are a part of.
    pub(crate) transaction: Option<Counter>,
}

/// A version of a row that a constraint was against.
#[derive(Debug)]
struct Refused {
    key: RecordKey,
    version: Option<Fields>,
    reset: bool,
}

impl<'a> Session<'a> {
    /// A connection that has needed none for so many transactions does without triggers. To go from one to the other has SQLite compile each
    /// statement again.
    pub(crate) const CALM: u32 = 100;

    pub(crate) fn new(
        db: &'a Connection,
        catalog: &'a Catalog,
        header: Header,
        random: &'a Random,
        calm: &'a Cell<u32>,
    ) -> Self {
        let (refused, aside, walking) = (Vec::new(), None, None);
        Self { db, catalog, header, random, calm, awake: true, refused, aside, walking, transaction: None }
    }

    /// Has the triggers note what follows, or not: to be called before rows are written. Where all triggers are the engine's, this connection
    /// can do without any. Otherwise ours sleep, in this transaction: then the header's page has to be written.
    pub(crate) fn set_capture(&mut self, on: bool) -> Result<()> {
        if is_on(Mutant::AppliedIsCaptured) {
            return Ok(());
        }
        if on {
            self.calm.set(0);
        }
        let without = self.calm.get() >= Self::CALM && self.catalog.triggers_are_ours;
        self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, !without).map_err(translate)?;
        if without { Ok(()) } else { self.set_awake(on) }
    }

    /// Has our triggers sleep, which in any case changes something in the file.
    pub(crate) fn set_awake(&mut self, on: bool) -> Result<()> {
        if self.awake != on {
            set_capture(self.db, on)?;
            self.awake = on;
        }
        Ok(())
    }

    /// Writes the header, where somebody could not tell it otherwise, and wakes the triggers.
    pub(crate) fn finish(self, before: &Header) -> Result<()> {
        self.calm.set(self.calm.get().saturating_add(1));
        if !self.awake || self.header.is_to_be_written(self.db, before)? {
            self.header.write(self.db)?;
        }
        Ok(())
    }

    /// Runs a part of the transaction that can be undone alone: `keep` says whether its result is to stand.
    pub(crate) fn part<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T>,
        keep: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        let before = (self.header.clone(), self.awake);
        exec(self.db, "SAVEPOINT dynos_part")?;
        let result = run(self);
        if result.as_ref().is_ok_and(keep) {
            exec(self.db, "RELEASE dynos_part")?;
        } else {
            exec(self.db, "ROLLBACK TO dynos_part")?;
            exec(self.db, "RELEASE dynos_part")?;
            (self.header, self.awake) = before;
            self.refused.clear();
            (self.aside, self.walking) = (None, None);
        }
        result
    }

    /// Has the edits that follow take effect on the server together, or not at all.
    pub(crate) fn begin_transaction(&mut self) {
        self.transaction = Some(self.header.last_counter + 1);
    }

    /// What is being done about a table.
    pub(crate) fn phase(&self, n: i64) -> Result<Phase> {
        let phase = listing::one(self.db, self.header.seal, n)?.phase;
        serde_json::from_str(&phase).map_err(|error| damaged("dynos_table.phase", error))
    }

    /// Whether a table is being walked from its beginning, in a resync or a restore.
    pub(crate) fn walks(&mut self, n: i64) -> Result<bool> {
        Ok(matches!(self.walk(n)?, Phase::Resync | Phase::Restore { .. }))
    }

    /// As [`phase`](Self::phase), asked once.
    fn walk(&mut self, n: i64) -> Result<Phase> {
        if let Some((_, phase)) = self.walking.filter(|(known, _)| *known == n) {
            return Ok(phase);
        }
        let phase = self.phase(n)?;
        self.walking = Some((n, phase));
        Ok(phase)
    }

    /// The table's phase changes.
    pub(crate) fn forget_walk(&mut self) {
        self.walking = None;
    }

    /// The time of a new edit: never at or below the newest that was seen.
    pub(crate) fn stamp(&self, at: Millis) -> Millis {
        at.max(self.header.clock.saturating_add(1)).min(Limits::LATEST)
    }

    /// Puts the server's version into a row. What the table refuses is kept aside: one bad row does not stop its table.
    pub(crate) fn store(&mut self, table: &Table, key: &RecordKey, version: Option<&Fields>) -> Result<()> {
        // What the server has lost may be a column's values, and that it knew the column.
        let reset = matches!(self.walk(table.n)?, Phase::Restore { .. });
        self.store_as(table, key, version, reset)
    }

    /// As [`store`](Self::store), in place of what edits have made of the row: a column that the version does not name is not to stay as one
    /// of them left it.
    pub(crate) fn put_back(
        &mut self,
        table: &Table,
        key: &RecordKey,
        version: Option<&Fields>,
    ) -> Result<()> {
        self.store_as(table, key, version, true)
    }

    fn store_as(
        &mut self,
        table: &Table,
        key: &RecordKey,
        version: Option<&Fields>,
        reset: bool,
    ) -> Result<()> {
        self.set_capture(false)?;
        match rows::store(self.db, table, key, version, reset) {
            Ok(()) => self.release(table.n, &key.id),
            Err(ReplicaError::Constraint { .. } | ReplicaError::Invalid(_)) => {
                self.refused.push(Refused { key: key.clone(), version: version.cloned(), reset });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Tries once more what was refused: by now the rows that were in the way may have moved. What is refused again
    /// goes into quarantine, and is answered.
    pub(crate) fn settle_refused(&mut self) -> Result<Vec<(RecordKey, String)>> {
        let mut quarantined = Vec::new();
        for Refused { key, version, reset } in std::mem::take(&mut self.refused) {
            let table = self.catalog.named(&key.table)?;
            match rows::store(self.db, table, &key, version.as_ref(), reset) {
                Ok(()) => self.release(table.n, &key.id)?,
                Err(error @ (ReplicaError::Constraint { .. } | ReplicaError::Invalid(_))) => {
                    self.quarantine(table.n, &key.id, version.as_ref(), &error.to_string())?;
                    quarantined.push((key, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(quarantined)
    }

    fn quarantine(&mut self, n: i64, id: &RecordId, version: Option<&Fields>, error: &str) -> Result<()> {
        self.aside = Some(true);
        let data = version.map(queue::json).transpose()?.unwrap_or_else(|| "null".to_owned());
        let sql = "INSERT OR REPLACE INTO dynos_quarantine (tbl, id, data, error) VALUES (?, ?, ?, ?)";
        self.db.execute(sql, params![n, id.as_str(), data, error]).map(drop).map_err(translate)
    }

    /// The server and this device have the record alike: it is not kept aside any longer.
    pub(crate) fn release(&mut self, n: i64, id: &RecordId) -> Result<()> {
        if self.is_any_aside()? {
            for table in ["dynos_quarantine", "dynos_local"] {
                let sql = format!("DELETE FROM {table} WHERE tbl = ? AND id = ?");
                let mut statement = self.db.prepare_cached(&sql).map_err(translate)?;
                statement.execute(params![n, id.as_str()]).map_err(translate)?;
            }
        }
        Ok(())
    }

    /// The server was never offered this row.
    fn is_any_aside(&mut self) -> Result<bool> {
        const ASIDE: &str =
            "SELECT EXISTS (SELECT 1 FROM dynos_quarantine) OR EXISTS (SELECT 1 FROM dynos_local)";
        let is_any = match self.aside {
            Some(known) => known,
            None => {
                let mut statement = self.db.prepare_cached(ASIDE).map_err(translate)?;
                statement.query_row([], |row| row.get(0)).map_err(translate)?
            }
        };
        self.aside = Some(is_any);
        Ok(is_any)
    }

    /// Whether a record is one that the server was never offered.
    pub(crate) fn is_local(&mut self, n: i64, id: &RecordId) -> Result<bool> {
        if !self.is_any_aside()? {
            return Ok(false);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM dynos_local WHERE tbl = ? AND id = ?)";
        let mut statement = self.db.prepare_cached(sql).map_err(translate)?;
        statement.query_row(params![n, id.as_str()], |row| row.get(0)).map_err(translate)
    }

    pub(crate) fn keep_local(&mut self, n: i64, id: &RecordId) -> Result<()> {
        self.aside = Some(true);
        let mut statement = self
            .db
            .prepare_cached("INSERT OR IGNORE INTO dynos_local (tbl, id) VALUES (?, ?)")
            .map_err(translate)?;
        statement.execute(params![n, id.as_str()]).map(drop).map_err(translate)
    }

    /// Tries a table's quarantined rows again.
    pub(crate) fn retry_quarantined(&mut self, table: &Table) -> Result<()> {
        const AT_ONCE: i64 = 1000;
        let kept: Vec<(String, String)> = {
            let sql = "SELECT id, data FROM dynos_quarantine WHERE tbl = ? LIMIT ?";
            let mut statement = self.db.prepare_cached(sql).map_err(translate)?;
            let kept = statement.query_map([table.n, AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?)));
            kept.map_err(translate)?.collect::<rusqlite::Result<_>>().map_err(translate)?
        };
        for (id, data) in kept {
            let Ok(id) = RecordId::try_from(id) else { continue };
            let version = if data == "null" { None } else { Some(rows::parse(&data)?) };
            self.store(table, &table.record(id), version.as_ref())?;
        }
        Ok(())
    }
}
