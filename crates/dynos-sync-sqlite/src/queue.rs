//! The queue: `dynos_queue` and the base images beside it.

use std::collections::BTreeSet;

use dynos_sync_core::{
    Counter, Cursor, Edit, Entry, Fields, Millis, RecordId, RecordKey,
    replica::DueLimits,
    sabotage::{Mutant, is_on},
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use crate::{
    error::{Result, damaged, translate},
    header::Header,
    raw::{COLUMNS, Raw, raws},
    rows::parse,
    sum::Seal,
    table::{Catalog, Table},
    tag::{of, tag},
    transaction,
};

fn entries(
    db: &Connection,
    catalog: &Catalog,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Entry>> {
    let raws = raws(db, rest, values)?.into_iter();
    raws.filter_map(|(_, raw)| raw.and_then(|raw| raw.check(catalog)).transpose()).collect()
}

/// As [`entries`], without those that are damaged.
fn intact(
    db: &Connection,
    catalog: &Catalog,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Entry>> {
    let raws = raws(db, rest, values)?.into_iter();
    Ok(raws.filter_map(|(_, raw)| raw.and_then(|raw| raw.check(catalog)).ok().flatten()).collect())
}

/// A record's entries, oldest first.
pub(crate) fn of_record(db: &Connection, catalog: &Catalog, n: i64, id: &str) -> Result<Vec<Entry>> {
    entries(db, catalog, "WHERE tag = ? AND tbl = ? AND id = ? ORDER BY counter", of![n, id])
}

/// What can still be read of a record's entries.
pub(crate) fn intact_of_record(db: &Connection, catalog: &Catalog, n: i64, id: &str) -> Result<Vec<Entry>> {
    intact(db, catalog, "WHERE tag = ? AND tbl = ? AND id = ? ORDER BY counter", of![n, id])
}

/// Sent entries of a table, oldest first. One that is damaged is nothing to ask the server about.
pub(crate) fn sent_of_table(db: &Connection, catalog: &Catalog, n: i64, limit: usize) -> Result<Vec<Entry>> {
    let rest = "INDEXED BY dynos_queue_sent WHERE sent = 1 AND tbl = ? ORDER BY counter LIMIT ?";
    intact(db, catalog, rest, params![n, limit as i64])
}

/// Which records are asked for, by their oldest entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those with a sent entry.
    Sent,
    /// Those that wait for nothing.
    Ready,
}

/// A record's oldest entry.
pub(crate) struct Head {
    pub(crate) counter: i64,
    /// Whether it has been its record's oldest, and ready, since it was appended.
    pub(crate) is_fresh: bool,
    /// As it stands there, unless it cannot be read.
    pub(crate) raw: Option<Raw>,
    /// Whether the record has other entries, or a base image.
    pub(crate) has_more: bool,
}

impl Head {
    /// The transaction that the entry is a part of. One that is damaged may say anything.
    pub(crate) fn transaction(&self, seal: Seal) -> Option<Counter> {
        let transaction = self.raw.as_ref()?.transaction?;
        let is_intact = self.raw.as_ref().is_some_and(|raw| raw.is_intact(seal));
        is_intact.then_some(transaction as Counter)
    }
}

/// Entries that were ready when they were appended are most of the queue, in their order: those that are left of them are found by looking
/// through it. Only what became ready later has an index.
const FRESH: &str = "NOT INDEXED WHERE head = 1 AND sent = 0 AND retry_at IS NULL AND counter > max(?1, ?2)";
const LATER: &str =
    "INDEXED BY dynos_queue_later WHERE head = 2 AND sent = 0 AND retry_at IS NULL AND counter > ?1";
const SENT: &str = "INDEXED BY dynos_queue_sent WHERE sent = 1 AND counter > max(?1, ?2)";

/// Records from after a counter on. None that is ready is fresh below `fresh`.
pub(crate) fn heads(
    db: &Connection,
    which: Which,
    after: i64,
    fresh: Counter,
    limit: usize,
) -> Result<Vec<Head>> {
    let select = format!(
        "SELECT {COLUMNS}, head = 1, \
           EXISTS (SELECT 1 FROM dynos_queue AS o WHERE o.tag = q.tag AND o.counter <> q.counter AND o.tbl = q.tbl AND o.id = q.id) \
           OR EXISTS (SELECT 1 FROM dynos_base AS b WHERE b.tbl = q.tbl AND b.id = q.id) \
         FROM dynos_queue AS q"
    );
    let (sql, least) = match which {
        Which::Sent => (format!("{select} {SENT}"), 0),
        Which::Ready => (format!("{select} {FRESH} UNION ALL {select} {LATER}"), fresh.saturating_sub(1)),
    };
    let mut statement = db.prepare_cached(&format!("{sql} ORDER BY counter LIMIT ?3")).map_err(translate)?;
    let rows = statement.query_map([after, least as i64, limit as i64], |row| {
        let (is_fresh, has_more) = (row.get(13)?, row.get(14)?);
        Ok(Head { counter: row.get(0)?, is_fresh, raw: Raw::read(row).ok(), has_more })
    });
    rows.map_err(translate)?.collect::<rusqlite::Result<_>>().map_err(translate)
}

/// How many entries were sent and not answered.
pub(crate) fn sent(db: &Connection) -> Result<usize> {
    let sql = "SELECT count(*) FROM dynos_queue INDEXED BY dynos_queue_sent WHERE sent = 1";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let sent: i64 = statement.query_row([], |row| row.get(0)).map_err(translate)?;
    Ok(usize::try_from(sent).unwrap_or(usize::MAX))
}

/// When the first of the waiting records may be sent.
pub(crate) fn next_retry(db: &Connection) -> Result<Option<Millis>> {
    waiting(db, "min")
}

fn waiting(db: &Connection, which: &str) -> Result<Option<Millis>> {
    let sql = format!(
        "SELECT {which}(retry_at) FROM dynos_queue INDEXED BY dynos_queue_retry WHERE head > 0 AND retry_at IS NOT NULL"
    );
    let mut statement = db.prepare_cached(&sql).map_err(translate)?;
    statement.query_row([], |row| row.get(0)).map_err(translate)
}

/// Has an entry found by the index from now on: others that are ready are not looked for from there on at each time.
pub(crate) fn keep_for_later(db: &Connection, counter: i64) -> Result<()> {
    let mut statement = db
        .prepare_cached("UPDATE dynos_queue SET head = 2 WHERE counter = ? AND head = 1")
        .map_err(translate)?;
    statement.execute([counter]).map(drop).map_err(translate)
}

/// Lets the records go that have waited long enough.
pub(crate) fn release(db: &Connection, limits: &DueLimits) -> Result<()> {
    let far = limits.now.saturating_add(limits.longest_wait);
    let first = waiting(db, "min")?.is_some_and(|at| at <= limits.now);
    let last = waiting(db, "max")?.is_some_and(|at| at > far);
    if !first && !last {
        return Ok(());
    }
    let sql = "UPDATE dynos_queue INDEXED BY dynos_queue_retry SET retry_at = NULL, head = 2 \
               WHERE head > 0 AND retry_at IS NOT NULL AND (retry_at <= ? OR retry_at > ?)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    statement.execute([limits.now, far]).map(drop).map_err(translate)
}

/// The number of a record's newest entry.
pub(crate) fn newest(db: &Connection, n: i64, id: &str) -> Result<Option<Counter>> {
    let sql = "SELECT max(counter) FROM dynos_queue WHERE tag = ? AND tbl = ? AND id = ?";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let newest: Option<i64> = statement.query_row(of![n, id], |row| row.get(0)).map_err(translate)?;
    Ok(newest.map(|counter| counter as Counter))
}

/// An entry's time.
pub(crate) fn time_of(db: &Connection, counter: Counter) -> Result<Option<Millis>> {
    let mut statement =
        db.prepare_cached("SELECT at FROM dynos_queue WHERE counter = ?").map_err(translate)?;
    statement.query_row([counter as i64], |row| row.get(0)).optional().map_err(translate)
}

/// An entry to come.
pub(crate) struct New<'a> {
    pub(crate) id: &'a RecordId,
    pub(crate) edit: &'a Edit,
    pub(crate) at: Millis,
    /// What the record was before, if the entry is its first.
    pub(crate) first: Option<Option<&'a Fields>>,
    pub(crate) transaction: Option<Counter>,
}

/// Appends an entry.
pub(crate) fn append(db: &Connection, header: &mut Header, table: &Table, new: &New<'_>) -> Result<Counter> {
    let New { id, edit, at, first, transaction } = *new;
    header.last_counter += 1;
    header.clock = header.clock.max(at);
    if let Some(Some(base)) = first {
        set_base(db, header.seal, table.n, id, Some(base))?;
    }
    let counter = header.last_counter;
    let transaction = transaction.map(|transaction| transaction as i64);
    let raw = Raw { transaction, ..Raw::of(counter, table.n, id, edit, at)? };
    insert(db, header.seal, &raw, first.is_some())?;
    header.pending += 1;
    Ok(counter)
}

fn insert(db: &Connection, seal: Seal, raw: &Raw, head: bool) -> Result<()> {
    let sql = "INSERT INTO dynos_queue (counter, tbl, id, op, data, at, head, sum, txn, tag) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let Raw { counter, tbl, id, op, data, at, transaction, tag, .. } = raw;
    let values = params![counter, tbl, id, op, data, at, head, raw.right_sum(seal), transaction, tag];
    let done = statement.execute(values);
    done.map(drop).map_err(translate)
}

pub(crate) fn json(fields: &Fields) -> Result<String> {
    serde_json::to_string(fields).map_err(|error| damaged("record", error))
}

/// What the record was before its first pending entry.
pub(crate) fn base(db: &Connection, seal: Seal, n: i64, id: &str) -> Result<Option<Fields>> {
    let mut statement =
        db.prepare_cached("SELECT data, sum FROM dynos_base WHERE tbl = ? AND id = ?").map_err(translate)?;
    let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
    match statement.query_row(params![n, id], read).optional().map_err(translate)? {
        None => Ok(None),
        Some((text, sum)) if sum == base_sum(seal, n, id, &text) => parse(&text).map(Some),
        Some(_) => Err(damaged("dynos_base", "it is not as it was written")),
    }
}

fn base_sum(seal: Seal, n: i64, id: &str, text: &str) -> i64 {
    seal.sum().int(n).text(id).text(text).end()
}

pub(crate) fn set_base(
    db: &Connection,
    seal: Seal,
    n: i64,
    id: &RecordId,
    base: Option<&Fields>,
) -> Result<()> {
    let Some(base) = base else {
        let mut statement =
            db.prepare_cached("DELETE FROM dynos_base WHERE tbl = ? AND id = ?").map_err(translate)?;
        return statement.execute(params![n, id.as_str()]).map(drop).map_err(translate);
    };
    let sql = "INSERT OR REPLACE INTO dynos_base (tbl, id, data, sum) VALUES (?, ?, ?, ?)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let text = json(base)?;
    let sum = base_sum(seal, n, id.as_str(), &text);
    statement.execute(params![n, id.as_str(), text, sum]).map(drop).map_err(translate)
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
        let sql = "DELETE FROM dynos_queue WHERE tag = ? AND tbl = ? AND id = ?";
        let mut statement = db.prepare_cached(sql).map_err(translate)?;
        statement.execute(of![n, id.as_str()]).map_err(translate)?;
        set_base(db, header.seal, n, id, None)?;
        header.pending -= gone.len() as i64;
    }
    for transaction in transactions_of(&gone) {
        transaction::unblock(db, transaction)?;
    }
    Ok(gone)
}

/// The transactions that entries are a part of.
pub(crate) fn transactions_of(entries: &[Entry]) -> BTreeSet<Counter> {
    entries.iter().filter_map(|entry| entry.transaction).collect()
}

/// Takes the oldest entries of a record out, of which it has others; they are made again on top of `base`.
pub(crate) fn take_first(
    db: &Connection,
    header: &mut Header,
    n: i64,
    id: &RecordId,
    entries: &[Entry],
    base: Option<&Fields>,
) -> Result<()> {
    for entry in entries {
        delete(db, header, entry.counter)?;
    }
    for transaction in transactions_of(entries) {
        transaction::unblock(db, transaction)?;
    }
    set_base(db, header.seal, n, id, base)?;
    promote(db, n, id)
}

/// What a record has in the queue.
pub(crate) struct Holding {
    /// Whether the entry that was asked about.
    pub(crate) entry: bool,
    /// Whether others.
    pub(crate) others: bool,
    /// Whether a base image.
    pub(crate) base: bool,
}

/// What a record has, beside this entry.
pub(crate) fn holding(db: &Connection, n: i64, id: &str, counter: Counter) -> Result<Holding> {
    let sql = "SELECT coalesce(max(counter = ?4), 0), coalesce(max(counter <> ?4), 0), \
                 EXISTS (SELECT 1 FROM dynos_base WHERE tbl = ?2 AND id = ?3) \
               FROM dynos_queue WHERE tag = ?1 AND tbl = ?2 AND id = ?3";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let read = |row: &Row<'_>| Ok(Holding { entry: row.get(0)?, others: row.get(1)?, base: row.get(2)? });
    statement.query_row(of![n, id, counter as i64], read).map_err(translate)
}

/// Takes the only entry of a record out, with the record's base image.
pub(crate) fn remove_last(
    db: &Connection,
    header: &mut Header,
    n: i64,
    id: &RecordId,
    counter: Counter,
    has_base: bool,
) -> Result<()> {
    delete(db, header, counter)?;
    if has_base { set_base(db, header.seal, n, id, None) } else { Ok(()) }
}

/// Takes one entry out and lets the next of the record be its oldest.
pub(crate) fn remove(
    db: &Connection,
    header: &mut Header,
    n: i64,
    id: &RecordId,
    counter: Counter,
) -> Result<()> {
    delete(db, header, counter)?;
    promote(db, n, id)
}

fn delete(db: &Connection, header: &mut Header, counter: Counter) -> Result<()> {
    let mut statement = db.prepare_cached("DELETE FROM dynos_queue WHERE counter = ?").map_err(translate)?;
    header.pending -= statement.execute([counter as i64]).map_err(translate)? as i64;
    Ok(())
}

/// Marks the oldest entry that a record still has.
fn promote(db: &Connection, n: i64, id: &RecordId) -> Result<()> {
    let sql = "UPDATE dynos_queue SET head = 2 WHERE counter = (SELECT min(counter) FROM dynos_queue WHERE tag = ? AND tbl = ? AND id = ?)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    statement.execute(of![n, id.as_str()]).map(drop).map_err(translate)?;
    transaction::unblock_of(db, n, id)
}

/// Replaces a record's unsent entries up to this one's counter by this one, marked as sent. Answers false where the entry
/// is gone or sent already: then nothing of this transaction is to stay.
pub(crate) fn freeze(db: &Connection, header: &mut Header, n: i64, entry: &Entry) -> Result<bool> {
    let id = &entry.key.id;
    let base = entry.sent.as_ref().and_then(|sent| sent.base.as_ref()).map(Cursor::as_str);
    let raw = Raw::of(entry.counter, n, id, &entry.edit, entry.at)?;
    let transaction = entry.transaction.map(|transaction| transaction as i64);
    let raw = Raw { sent: true, base: base.map(str::to_owned), transaction, ..raw };
    let sum = raw.right_sum(header.seal);
    let values =
        params![raw.op, raw.data, raw.at, raw.base, entry.attempts, sum, raw.counter, n, id.as_str()];
    // Mostly it is its record's oldest. (To have the row answer which it is, with RETURNING, costs more than to ask twice.)
    let is_oldest = mark_sent(db, "head > 0", values)?;
    if !is_oldest && !mark_sent(db, "head = 0", values)? {
        return Ok(false);
    }
    header.last_sent = header.last_sent.max(entry.counter);
    if !is_oldest {
        let merged =
            "DELETE FROM dynos_queue WHERE tag = ? AND tbl = ? AND id = ? AND counter < ? AND sent = 0";
        let mut statement = db.prepare_cached(merged).map_err(translate)?;
        let gone = statement.execute(of![n, id.as_str(), entry.counter as i64]).map_err(translate)?;
        header.pending -= gone as i64;
        promote(db, n, id)?;
    }
    Ok(true)
}

fn mark_sent(db: &Connection, which: &str, values: &[&dyn ToSql]) -> Result<bool> {
    let sql = format!(
        "UPDATE dynos_queue SET op = ?, data = ?, at = ?, base = ?, attempts = ?, retry_at = NULL, sent = 1, sum = ? \
         WHERE counter = ? AND tbl = ? AND id = ? AND sent = 0 AND {which}"
    );
    let mut statement = db.prepare_cached(&sql).map_err(translate)?;
    statement.execute(values).map(|marked| marked > 0).map_err(translate)
}

/// Lets a sent entry be sent again with a later base.
pub(crate) fn thaw(db: &Connection, seal: Seal, counter: Counter) -> Result<()> {
    thaw_all(db, seal, "WHERE counter = ?", [counter as i64])
}

/// Lets all sent entries be sent again.
pub(crate) fn thaw_sent(db: &Connection, seal: Seal) -> Result<()> {
    thaw_all(db, seal, "INDEXED BY dynos_queue_sent WHERE sent = 1", [])
}

fn thaw_all(db: &Connection, seal: Seal, which: &str, values: impl rusqlite::Params) -> Result<()> {
    let sql =
        "UPDATE dynos_queue SET sent = 0, base = NULL, head = 2 * (head > 0), sum = ? WHERE counter = ?";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    // What cannot be read stays as it is, to be set aside when it is its turn.
    for (counter, raw) in raws(db, which, values)? {
        let Ok(raw) = raw else { continue };
        statement.execute([raw.unsent(seal, counter).sum, counter]).map_err(translate)?;
    }
    Ok(())
}

/// Gives a record's entries fresh counters, unsent. The oldest waits until `retry_at`.
pub(crate) fn renumber(
    db: &Connection,
    header: &mut Header,
    key: &RecordKey,
    n: i64,
    attempts: Option<(u32, Millis)>,
) -> Result<()> {
    let found = raws(db, "WHERE tag = ? AND tbl = ? AND id = ? ORDER BY counter", of![n, key.id.as_str()])?;
    let mut found: Vec<Raw> = found.into_iter().map(|(_, raw)| raw).collect::<Result<_>>()?;
    if is_on(Mutant::RefusedLast) && attempts.is_some() {
        found.rotate_left(1);
    }
    let sql = "UPDATE dynos_queue SET counter = ?1, sent = 0, base = NULL, head = ?2, \
               attempts = coalesce(?3, attempts), retry_at = coalesce(?4, retry_at), sum = ?5 WHERE counter = ?6";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    for (place, raw) in found.into_iter().enumerate() {
        header.last_counter += 1;
        let first = place == 0;
        let tried = attempts.filter(|_| first).map(|(tries, _)| tries);
        let retry_at = attempts.map(|(_, at)| at);
        let counter = raw.counter;
        let raw = raw.unsent(header.seal, header.last_counter as i64);
        statement
            .execute(params![raw.counter, 2 * i64::from(first), tried, retry_at, raw.sum, counter])
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
pub(crate) fn amend(db: &Connection, seal: Seal, (n, counter): (i64, Counter), new: &New<'_>) -> Result<()> {
    let mut statement = db
        .prepare_cached("UPDATE dynos_queue SET op = ?, data = ?, at = ?, sum = ? WHERE counter = ?")
        .map_err(translate)?;
    let transaction = new.transaction.map(|transaction| transaction as i64);
    let raw = Raw { transaction, ..Raw::of(counter, n, new.id, new.edit, new.at)? };
    let sum = raw.right_sum(seal);
    statement.execute(params![raw.op, raw.data, raw.at, sum, raw.counter]).map(drop).map_err(translate)
}

/// Gives each entry its record's tag, where it has another.
pub(crate) fn tag_all(db: &Connection) -> Result<()> {
    let sql = "UPDATE dynos_queue SET tag = ?1 WHERE counter = ?2 AND tag <> ?1";
    let mut update = db.prepare_cached(sql).map_err(translate)?;
    let mut entries =
        db.prepare("SELECT counter, tbl, id FROM dynos_queue NOT INDEXED").map_err(translate)?;
    let mut rows = entries.query([]).map_err(translate)?;
    while let Some(row) = rows.next().map_err(translate)? {
        let counter: i64 = row.get(0).map_err(translate)?;
        // One that cannot be read is put away when it is its turn.
        if let (Ok(n), Ok(id)) = (row.get(1), row.get::<_, String>(2)) {
            update.execute([tag(n, &id), counter]).map_err(translate)?;
        }
    }
    Ok(())
}

/// Gives what an earlier version has kept its first sums.
pub(crate) fn seal(db: &Connection, seal: Seal) -> Result<()> {
    let sql = "UPDATE dynos_queue SET sum = ? WHERE counter = ?";
    let mut update = db.prepare_cached(sql).map_err(translate)?;
    let mut after = 0;
    loop {
        let raws = raws(db, "WHERE counter > ? ORDER BY counter LIMIT 1000", [after])?;
        if raws.is_empty() {
            break;
        }
        for (counter, raw) in raws {
            after = counter;
            let values = [raw?.right_sum(seal), counter];
            update.execute(values).map_err(translate)?;
        }
    }
    let sql = "UPDATE dynos_base SET sum = ? WHERE tbl = ? AND id = ?";
    let mut update = db.prepare_cached(sql).map_err(translate)?;
    let mut bases = db.prepare_cached("SELECT tbl, id, data FROM dynos_base").map_err(translate)?;
    let mut rows = bases.query([]).map_err(translate)?;
    while let Some(row) = rows.next().map_err(translate)? {
        let read =
            || -> rusqlite::Result<(i64, String, String)> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
        let (n, id, text) = read().map_err(translate)?;
        let values = params![base_sum(seal, n, &id, &text), n, id];
        update.execute(values).map_err(translate)?;
    }
    Ok(())
}
