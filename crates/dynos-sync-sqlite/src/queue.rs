//! The queue: `dynos_queue` and the base images beside it.

use dynos_sync_core::{
    Counter, Cursor, Edit, Entry, Fields, Millis, Operation, RecordId, RecordKey,
    replica::DueLimits,
    sabotage::{Mutant, is_on},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    error::{Result, damaged, translate},
    header::Header,
    rows::parse,
    table::{Catalog, Table},
};

const COLUMNS: &str = "counter, tbl, id, op, data, at, sent, base, attempts, retry_at";

pub(crate) fn operation_code(operation: Operation) -> i64 {
    match operation {
        Operation::Upsert => 0,
        Operation::Replace => 1,
        Operation::Patch => 2,
        Operation::Delete => 3,
    }
}

fn operation(code: i64) -> Result<Operation> {
    match code {
        0 => Ok(Operation::Upsert),
        1 => Ok(Operation::Replace),
        2 => Ok(Operation::Patch),
        3 => Ok(Operation::Delete),
        other => Err(damaged("dynos_queue.op", other)),
    }
}

/// A row of the queue, before its parts are checked.
struct Raw {
    counter: i64,
    tbl: i64,
    id: String,
    op: i64,
    data: Option<String>,
    at: Millis,
    sent: bool,
    base: Option<String>,
    attempts: u32,
    retry_at: Option<Millis>,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            counter: row.get(0)?,
            tbl: row.get(1)?,
            id: row.get(2)?,
            op: row.get(3)?,
            data: row.get(4)?,
            at: row.get(5)?,
            sent: row.get(6)?,
            base: row.get(7)?,
            attempts: row.get(8)?,
            retry_at: row.get(9)?,
        })
    }

    /// `None` for an entry of a table that is gone: it waits until the table is back, or no longer synced.
    fn check(self, catalog: &Catalog) -> Result<Option<Entry>> {
        let Some(table) = catalog.numbered(self.tbl) else { return Ok(None) };
        let id: RecordId = self.id.try_into().map_err(|error| damaged("dynos_queue.id", error))?;
        let fields = self.data.as_deref().map(parse).transpose()?.unwrap_or_default();
        Ok(Some(Entry {
            counter: self.counter as Counter,
            key: table.record(id),
            edit: Edit::new(operation(self.op)?, fields),
            at: self.at,
            sent: self.sent.then(|| sent(self.base)),
            attempts: self.attempts,
            retry_at: self.retry_at,
        }))
    }
}

fn sent(base: Option<String>) -> dynos_sync_core::Sent {
    dynos_sync_core::Sent { base: base.map(Cursor::new) }
}

fn entries(
    db: &Connection,
    catalog: &Catalog,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Entry>> {
    let sql = format!("SELECT {COLUMNS} FROM dynos_queue {rest}");
    let mut statement = db.prepare_cached(&sql).map_err(translate)?;
    let rows = statement.query_map(values, Raw::read).map_err(translate)?;
    rows.filter_map(|raw| raw.map_err(translate).and_then(|raw| raw.check(catalog)).transpose()).collect()
}

/// A record's entries, oldest first.
pub(crate) fn of_record(db: &Connection, catalog: &Catalog, n: i64, id: &str) -> Result<Vec<Entry>> {
    entries(db, catalog, "WHERE tbl = ? AND id = ? ORDER BY counter", params![n, id])
}

/// Entries from after a counter on.
pub(crate) fn page(db: &Connection, catalog: &Catalog, after: Counter, limit: usize) -> Result<Vec<Entry>> {
    entries(db, catalog, "WHERE counter > ? ORDER BY counter LIMIT ?", params![after as i64, limit as i64])
}

/// Sent entries of a table, oldest first.
pub(crate) fn sent_of_table(db: &Connection, catalog: &Catalog, n: i64, limit: usize) -> Result<Vec<Entry>> {
    let rest = "INDEXED BY dynos_queue_sent WHERE sent = 1 AND tbl = ? ORDER BY counter LIMIT ?";
    entries(db, catalog, rest, params![n, limit as i64])
}

/// Which records are asked for, by their oldest entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those with a sent entry.
    Sent,
    /// Those that wait for nothing.
    Ready,
}

/// Records from after a counter on: counter, table and id.
pub(crate) fn heads(
    db: &Connection,
    which: Which,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, i64, String)>> {
    let chosen = match which {
        Which::Sent => "INDEXED BY dynos_queue_sent WHERE sent = 1",
        Which::Ready => "INDEXED BY dynos_queue_ready WHERE head = 1 AND sent = 0 AND retry_at IS NULL",
    };
    let sql =
        format!("SELECT counter, tbl, id FROM dynos_queue {chosen} AND counter > ? ORDER BY counter LIMIT ?");
    let mut statement = db.prepare_cached(&sql).map_err(translate)?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let rows = statement.query_map([after, limit as i64], read).map_err(translate)?;
    rows.collect::<rusqlite::Result<_>>().map_err(translate)
}

/// When the first of the waiting records may be sent.
pub(crate) fn next_retry(db: &Connection) -> Result<Option<Millis>> {
    waiting(db, "min")
}

fn waiting(db: &Connection, which: &str) -> Result<Option<Millis>> {
    let sql = format!(
        "SELECT {which}(retry_at) FROM dynos_queue INDEXED BY dynos_queue_waiting WHERE head = 1 AND retry_at IS NOT NULL"
    );
    let mut statement = db.prepare_cached(&sql).map_err(translate)?;
    statement.query_row([], |row| row.get(0)).map_err(translate)
}

/// Lets the records go that have waited long enough.
pub(crate) fn release(db: &Connection, limits: &DueLimits) -> Result<()> {
    let far = limits.now.saturating_add(limits.longest_wait);
    let first = waiting(db, "min")?.is_some_and(|at| at <= limits.now);
    let last = waiting(db, "max")?.is_some_and(|at| at > far);
    if !first && !last {
        return Ok(());
    }
    let sql = "UPDATE dynos_queue INDEXED BY dynos_queue_waiting SET retry_at = NULL \
               WHERE head = 1 AND retry_at IS NOT NULL AND (retry_at <= ? OR retry_at > ?)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    statement.execute([limits.now, far]).map(drop).map_err(translate)
}

/// The number of a record's newest entry.
pub(crate) fn newest(db: &Connection, n: i64, id: &str) -> Result<Option<Counter>> {
    let sql = "SELECT max(counter) FROM dynos_queue WHERE tbl = ? AND id = ?";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let newest: Option<i64> = statement.query_row(params![n, id], |row| row.get(0)).map_err(translate)?;
    Ok(newest.map(|counter| counter as Counter))
}

/// Appends an entry. `base` is what the record was before; it is kept if the entry is the record's first.
pub(crate) fn append(
    db: &Connection,
    header: &mut Header,
    table: &Table,
    id: &RecordId,
    edit: &Edit,
    at: Millis,
    first: Option<Option<&Fields>>,
) -> Result<Counter> {
    header.last_counter += 1;
    header.clock = header.clock.max(at);
    if let Some(Some(base)) = first {
        set_base(db, table.n, id, Some(base))?;
    }
    let counter = header.last_counter;
    insert(db, table.n, id, counter, edit, at, first.is_some())?;
    header.pending += 1;
    Ok(counter)
}

fn insert(
    db: &Connection,
    n: i64,
    id: &RecordId,
    counter: Counter,
    edit: &Edit,
    at: Millis,
    head: bool,
) -> Result<()> {
    let sql = "INSERT INTO dynos_queue (counter, tbl, id, op, data, at, head) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let op = operation_code(edit.operation());
    let done = statement.execute(params![counter as i64, n, id.as_str(), op, text(edit)?, at, head]);
    done.map(drop).map_err(translate)
}

fn text(edit: &Edit) -> Result<Option<String>> {
    edit.fields().map(json).transpose()
}

pub(crate) fn json(fields: &Fields) -> Result<String> {
    serde_json::to_string(fields).map_err(|error| damaged("record", error))
}

/// What the record was before its first pending entry.
pub(crate) fn base(db: &Connection, n: i64, id: &str) -> Result<Option<Fields>> {
    let mut statement =
        db.prepare_cached("SELECT data FROM dynos_base WHERE tbl = ? AND id = ?").map_err(translate)?;
    let text: Option<String> =
        statement.query_row(params![n, id], |row| row.get(0)).optional().map_err(translate)?;
    text.as_deref().map(parse).transpose()
}

pub(crate) fn set_base(db: &Connection, n: i64, id: &RecordId, base: Option<&Fields>) -> Result<()> {
    let Some(base) = base else {
        let mut statement =
            db.prepare_cached("DELETE FROM dynos_base WHERE tbl = ? AND id = ?").map_err(translate)?;
        return statement.execute(params![n, id.as_str()]).map(drop).map_err(translate);
    };
    let sql = "INSERT OR REPLACE INTO dynos_base (tbl, id, data) VALUES (?, ?, ?)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    statement.execute(params![n, id.as_str(), json(base)?]).map(drop).map_err(translate)
}

/// One entry, if it is still queued for the record.
pub(crate) fn entry(
    db: &Connection,
    catalog: &Catalog,
    n: i64,
    id: &str,
    counter: Counter,
) -> Result<Option<Entry>> {
    let rest = "WHERE counter = ? AND tbl = ? AND id = ?";
    Ok(entries(db, catalog, rest, params![counter as i64, n, id])?.pop())
}

/// Takes a record's entries out of the queue, with its base image.
pub(crate) fn take(
    db: &Connection,
    header: &mut Header,
    catalog: &Catalog,
    n: i64,
    id: &RecordId,
) -> Result<Vec<Entry>> {
    let gone = of_record(db, catalog, n, id.as_str())?;
    if !gone.is_empty() {
        let mut statement =
            db.prepare_cached("DELETE FROM dynos_queue WHERE tbl = ? AND id = ?").map_err(translate)?;
        statement.execute(params![n, id.as_str()]).map_err(translate)?;
        set_base(db, n, id, None)?;
        header.pending -= gone.len() as i64;
    }
    Ok(gone)
}

/// Takes one entry out and lets the next of the record be its oldest. Answers whether others remain.
pub(crate) fn remove(
    db: &Connection,
    header: &mut Header,
    n: i64,
    id: &RecordId,
    counter: Counter,
) -> Result<bool> {
    let mut statement = db.prepare_cached("DELETE FROM dynos_queue WHERE counter = ?").map_err(translate)?;
    header.pending -= statement.execute([counter as i64]).map_err(translate)? as i64;
    promote(db, n, id)
}

/// Marks the oldest entry that a record still has. Answers whether there is one.
fn promote(db: &Connection, n: i64, id: &RecordId) -> Result<bool> {
    let sql = "UPDATE dynos_queue SET head = 1 \
               WHERE counter = (SELECT min(counter) FROM dynos_queue WHERE tbl = ? AND id = ?)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    Ok(statement.execute(params![n, id.as_str()]).map_err(translate)? > 0)
}

/// Replaces a record's unsent entries up to this one's counter by this one, marked as sent. Answers false, having
/// done nothing, where the entry is gone or sent already.
pub(crate) fn freeze(db: &Connection, header: &mut Header, n: i64, entry: &Entry) -> Result<bool> {
    let id = &entry.key.id;
    let present = "SELECT 1 FROM dynos_queue WHERE counter = ? AND tbl = ? AND id = ? AND sent = 0";
    let mut statement = db.prepare_cached(present).map_err(translate)?;
    if !statement.exists(params![entry.counter as i64, n, id.as_str()]).map_err(translate)? {
        return Ok(false);
    }
    header.last_sent = header.last_sent.max(entry.counter);
    let merged = "DELETE FROM dynos_queue WHERE tbl = ? AND id = ? AND counter < ? AND sent = 0";
    let mut statement = db.prepare_cached(merged).map_err(translate)?;
    let gone = statement.execute(params![n, id.as_str(), entry.counter as i64]).map_err(translate)?;
    header.pending -= gone as i64;
    let base = entry.sent.as_ref().and_then(|sent| sent.base.as_ref()).map(Cursor::as_str);
    let sql = "UPDATE dynos_queue SET op = ?, data = ?, at = ?, base = ?, attempts = ?, retry_at = NULL, sent = 1 \
               WHERE counter = ?";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let op = operation_code(entry.edit.operation());
    let values = params![op, text(&entry.edit)?, entry.at, base, entry.attempts, entry.counter as i64];
    statement.execute(values).map_err(translate)?;
    if gone > 0 {
        promote(db, n, id)?;
    }
    Ok(true)
}

/// Lets a sent entry be sent again with a later base.
pub(crate) fn thaw(db: &Connection, counter: Counter) -> Result<()> {
    let mut statement = db
        .prepare_cached("UPDATE dynos_queue SET sent = 0, base = NULL WHERE counter = ?")
        .map_err(translate)?;
    statement.execute([counter as i64]).map(drop).map_err(translate)
}

/// Gives a record's entries fresh counters, unsent. The oldest waits until `retry_at`.
pub(crate) fn renumber(
    db: &Connection,
    header: &mut Header,
    key: &RecordKey,
    n: i64,
    attempts: Option<(u32, Millis)>,
) -> Result<()> {
    let counters: Vec<i64> = {
        let sql = "SELECT counter FROM dynos_queue WHERE tbl = ? AND id = ? ORDER BY counter";
        let mut statement = db.prepare_cached(sql).map_err(translate)?;
        let rows = statement.query_map(params![n, key.id.as_str()], |row| row.get(0)).map_err(translate)?;
        rows.collect::<rusqlite::Result<_>>().map_err(translate)?
    };
    let counters: Vec<i64> = match is_on(Mutant::RefusedLast) && attempts.is_some() {
        true => counters[1..].iter().chain(&counters[..1]).copied().collect(),
        false => counters,
    };
    let sql = "UPDATE dynos_queue SET counter = ?1, sent = 0, base = NULL, head = ?2, \
               attempts = coalesce(?3, attempts), retry_at = coalesce(?4, retry_at) WHERE counter = ?5";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    for (place, counter) in counters.into_iter().enumerate() {
        header.last_counter += 1;
        let first = place == 0;
        let tried = attempts.filter(|_| first).map(|(tries, _)| tries);
        let retry_at = attempts.map(|(_, at)| at);
        statement
            .execute(params![header.last_counter as i64, first, tried, retry_at, counter])
            .map_err(translate)?;
    }
    Ok(())
}

/// The records of a table that have sent entries.
pub(crate) fn records_with_sent(db: &Connection, n: i64) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT id FROM dynos_queue INDEXED BY dynos_queue_sent WHERE sent = 1 AND tbl = ?";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let rows = statement.query_map([n], |row| row.get(0)).map_err(translate)?;
    rows.collect::<rusqlite::Result<_>>().map_err(translate)
}

/// Gives an entry that was only just appended its final form.
pub(crate) fn amend(db: &Connection, counter: Counter, edit: &Edit, at: Millis) -> Result<()> {
    let mut statement = db
        .prepare_cached("UPDATE dynos_queue SET op = ?, data = ?, at = ? WHERE counter = ?")
        .map_err(translate)?;
    let op = operation_code(edit.operation());
    statement.execute(params![op, text(edit)?, at, counter as i64]).map(drop).map_err(translate)
}
