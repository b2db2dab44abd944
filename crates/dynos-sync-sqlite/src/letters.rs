//! Dead letters and the conflict journal.

use dynos_sync_core::{
    Counter, Edit, Fields, Invalid, Millis, Operation, RecordId, RecordKey,
    replica::{DeadLetter, Journaled, Resolved},
};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Result, damaged, translate},
    queue,
    schema::Upgrade,
    session::Session,
    sum::Seal,
    table::Catalog,
    transaction,
};

/// An edit as a dead letter keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    op: Operation,
    #[serde(default)]
    data: Fields,
    at: Millis,
}

pub(crate) fn encode(edits: &[(Edit, Millis)]) -> Result<String> {
    let keep = |(edit, at): &(Edit, Millis)| Kept {
        op: edit.operation(),
        data: edit.fields().cloned().unwrap_or_default(),
        at: *at,
    };
    let kept: Vec<Kept> = edits.iter().map(keep).collect();
    serde_json::to_string(&kept).map_err(|error| damaged("dead letter", error))
}

fn decode(edits: &str) -> Result<Vec<(Edit, Millis)>> {
    let kept: Vec<Kept> = serde_json::from_str(edits).map_err(|error| damaged("dynos_dead.edits", error))?;
    Ok(kept.into_iter().map(|kept| (Edit::new(kept.op, kept.data), kept.at)).collect())
}

/// The parts of a letter about to be kept.
pub(crate) struct Burial<'a> {
    pub(crate) n: i64,
    pub(crate) id: &'a str,
    pub(crate) edits: &'a [(Edit, Millis)],
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) at: Millis,
    pub(crate) transaction: Option<Counter>,
}

pub(crate) fn bury(db: &Connection, seal: Seal, burial: &Burial<'_>) -> Result<i64> {
    let sql = "INSERT INTO dynos_dead (tbl, record, edits, code, message, at, sum, txn) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let edits = encode(burial.edits)?;
    let Burial { n, id, code, message, at, .. } = burial;
    let transaction = burial.transaction.map(|transaction| transaction as i64);
    let sum = letter_sum(seal, *n, id, &edits, transaction);
    db.execute(sql, params![n, id, edits, code, message, at, sum, transaction]).map_err(translate)?;
    Ok(db.last_insert_rowid())
}

/// The sum of what a retry would write.
fn letter_sum(seal: Seal, n: i64, record: &str, edits: &str, transaction: Option<i64>) -> i64 {
    let sum = seal.sum().int(n).text(record).text(edits);
    transaction.map_or(sum, |transaction| sum.int(transaction)).end()
}

/// Why a letter has less in it than was written.
const DAMAGED: &str = "damaged";

/// Takes the entries of a record out of the queue, since not all that is kept of them can be read any more. The letter has
/// those that can, and the row what all of them wrote.
pub(crate) fn bury_damaged(session: &mut Session<'_>, n: i64, id: &str) -> Result<()> {
    let intact = queue::intact_of_record(session.db, session.catalog, n, id)?;
    let edits: Vec<(Edit, Millis)> = intact.into_iter().map(|entry| (entry.edit, entry.at)).collect();
    // A number that no table has would hide the letter.
    let known = session.catalog.numbered(n).map_or(NOWHERE, |table| table.n);
    bury_unreadable(session, known, id, &edits)?;
    let delete = "DELETE FROM dynos_queue WHERE tbl = ? AND id = ?";
    session.header.pending -= session.db.execute(delete, params![n, id]).map_err(translate)? as i64;
    transaction::unblock_all(session.db)?;
    let base = "DELETE FROM dynos_base WHERE tbl = ? AND id = ?";
    session.db.execute(base, params![n, id]).map(drop).map_err(translate)
}

/// As [`bury_damaged`], for an entry that does not even say rightly of which record it is.
pub(crate) fn bury_entry(session: &mut Session<'_>, counter: i64) -> Result<()> {
    bury_unreadable(session, NOWHERE, UNREADABLE, &[])?;
    let delete = "DELETE FROM dynos_queue WHERE counter = ?";
    session.header.pending -= session.db.execute(delete, [counter]).map_err(translate)? as i64;
    Ok(())
}

/// The number of no table.
const NOWHERE: i64 = 0;
/// What stands for a name that cannot be read.
const UNREADABLE: &str = "?";

fn bury_unreadable(session: &Session<'_>, n: i64, id: &str, edits: &[(Edit, Millis)]) -> Result<()> {
    let message = match edits {
        [] => "the queued edit cannot be read; write the record again",
        _ => "a part of what was queued cannot be read; see what is here, and write the record again",
    };
    let at = session.header.clock;
    let burial = Burial { n, id, edits, code: DAMAGED, message, at, transaction: None };
    bury(session.db, session.header.seal, &burial).map(drop)
}

const LETTER: &str = "SELECT id, tbl, record, edits, code, message, at, sum, txn FROM dynos_dead";

struct RawLetter {
    n: i64,
    record: String,
    edits: String,
    code: String,
    message: String,
    at: Millis,
    sum: i64,
    transaction: Option<i64>,
}

impl RawLetter {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            n: row.get(1)?,
            record: row.get(2)?,
            edits: row.get(3)?,
            code: row.get(4)?,
            message: row.get(5)?,
            at: row.get(6)?,
            sum: row.get(7)?,
            transaction: row.get(8)?,
        })
    }

    /// `None` for a letter of a table that is gone.
    fn check(self, id: i64, catalog: &Catalog) -> Result<Option<DeadLetter>> {
        if self.sum != letter_sum(catalog.seal, self.n, &self.record, &self.edits, self.transaction) {
            return Err(damaged("dynos_dead", "it is not as it was written"));
        }
        let record: RecordId = self.record.try_into().map_err(|error| damaged("dynos_dead.record", error))?;
        let key = match catalog.numbered(self.n) {
            Some(table) => table.record(record),
            None if self.n == NOWHERE => RecordKey::new(UNREADABLE, record.as_str())?,
            None => return Ok(None),
        };
        let edits = decode(&self.edits)?;
        let transaction = self.transaction.map(|transaction| transaction as Counter);
        Ok(Some(DeadLetter {
            id,
            key,
            edits,
            code: self.code,
            message: self.message,
            at: self.at,
            transaction,
        }))
    }
}

/// What is told of a letter that cannot be read: it is there, and can be discarded.
fn unreadable(id: i64, catalog: &Catalog, raw: Option<(i64, String)>) -> Result<DeadLetter> {
    let named = raw.and_then(|(n, record)| Some(catalog.numbered(n)?.record(record.try_into().ok()?)));
    let key = match named {
        Some(key) => key,
        None => RecordKey::new(UNREADABLE, UNREADABLE)?,
    };
    let message = "the letter cannot be read; write the record again, and discard it".to_owned();
    Ok(DeadLetter { id, key, edits: Vec::new(), code: DAMAGED.to_owned(), message, at: 0, transaction: None })
}

fn read_letter(row: &Row<'_>, catalog: &Catalog) -> Result<Option<DeadLetter>> {
    let id = row.get(0).map_err(translate)?;
    let letter = RawLetter::read(row).map_err(translate).and_then(|raw| raw.check(id, catalog));
    letter.or_else(|error| {
        tracing::error!(%error, "a dead letter cannot be read");
        let named = row.get(1).ok().zip(row.get(2).ok());
        unreadable(id, catalog, named).map(Some)
    })
}

/// A letter, taken out, and the others of its transaction with it.
///
/// # Errors
/// [`Invalid`] where one has no edits: all stay.
pub(crate) fn take(db: &Connection, catalog: &Catalog, letter: i64) -> Result<Vec<DeadLetter>> {
    let found = find(db, catalog, &format!("WHERE {SIBLINGS} ORDER BY id"), [letter])?;
    if found.iter().any(|found| found.edits.is_empty()) {
        return Err(Invalid::new("letter", "it holds no edit that can be written again")
            .remedy("write the record anew, and discard the letter")
            .into());
    }
    discard(db, letter)?;
    Ok(found)
}

/// What was set aside of a record, taken out.
pub(crate) fn take_set_aside(
    db: &Connection,
    catalog: &Catalog,
    n: i64,
    id: &str,
) -> Result<Vec<DeadLetter>> {
    let found = of_record(db, catalog, n, id)?;
    let aside: Vec<DeadLetter> = found.into_iter().filter(DeadLetter::is_set_aside).collect();
    for letter in &aside {
        db.execute("DELETE FROM dynos_dead WHERE id = ?", [letter.id]).map_err(translate)?;
    }
    Ok(aside)
}

/// A letter, and the others of its transaction.
const SIBLINGS: &str = "(id = ?1 OR txn = (SELECT txn FROM dynos_dead WHERE id = ?1))";

/// Drops a letter, and the others of its transaction.
pub(crate) fn discard(db: &Connection, letter: i64) -> Result<()> {
    db.execute(&format!("DELETE FROM dynos_dead WHERE {SIBLINGS}"), [letter]).map(drop).map_err(translate)
}

/// Brings letters and the journal up to date with the application's schema.
pub(crate) fn upgrade(db: &Connection, catalog: &Catalog, upgrade: &Upgrade<'_>) -> Result<()> {
    each(db, catalog, |mut letter| {
        let before = letter.edits.clone();
        upgrade.schema.upgrade_letter(upgrade.found, &mut letter);
        if letter.edits == before { Ok(()) } else { write_again(db, catalog, &letter) }
    })?;
    let mut before = i64::MAX;
    loop {
        let page = conflicts(db, catalog.seal, before, 1000)?;
        let Some(last) = page.last() else { return Ok(()) };
        before = last.id;
        for Journaled { id, resolved } in page {
            let Some(was) = resolved else { continue };
            let mut resolved = was.clone();
            upgrade.schema.upgrade_resolved(upgrade.found, &mut resolved);
            if resolved != was {
                let text = text_of(&resolved)?;
                let values = params![text, journal_sum(catalog.seal, &text), id];
                db.execute("UPDATE dynos_conflict SET resolved = ?, sum = ? WHERE id = ?", values)
                    .map_err(translate)?;
            }
        }
    }
}

fn write_again(db: &Connection, catalog: &Catalog, letter: &DeadLetter) -> Result<()> {
    let (edits, n) = (encode(&letter.edits)?, catalog.named(&letter.key.table)?.n);
    let transaction = letter.transaction.map(|transaction| transaction as i64);
    let sum = letter_sum(catalog.seal, n, letter.key.id.as_str(), &edits, transaction);
    let values = params![edits, sum, letter.id];
    db.execute("UPDATE dynos_dead SET edits = ?, sum = ? WHERE id = ?", values).map(drop).map_err(translate)
}

/// Letters from after one on, oldest first.
pub(crate) fn page(db: &Connection, catalog: &Catalog, after: i64, limit: usize) -> Result<Vec<DeadLetter>> {
    find(db, catalog, "WHERE id > ? ORDER BY id LIMIT ?", [after, limit as i64])
}

/// A record's letters, oldest first.
pub(crate) fn of_record(db: &Connection, catalog: &Catalog, n: i64, id: &str) -> Result<Vec<DeadLetter>> {
    find(db, catalog, "WHERE tbl = ? AND record = ? ORDER BY id", params![n, id])
}

/// Shows all letters, oldest first, some at a time.
pub(crate) fn each(
    db: &Connection,
    catalog: &Catalog,
    mut show: impl FnMut(DeadLetter) -> Result<()>,
) -> Result<()> {
    const PAGE: &str = "SELECT max(id) FROM (SELECT id FROM dynos_dead WHERE id > ? ORDER BY id LIMIT 1000)";
    let mut after = i64::MIN;
    while let Some(last) =
        db.query_row(PAGE, [after], |row| row.get::<_, Option<i64>>(0)).map_err(translate)?
    {
        let page = find(db, catalog, "WHERE id > ? AND id <= ? ORDER BY id", [after, last])?;
        page.into_iter().try_for_each(&mut show)?;
        after = last;
    }
    Ok(())
}

fn find(
    db: &Connection,
    catalog: &Catalog,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<DeadLetter>> {
    let mut statement = db.prepare(&format!("{LETTER} {rest}")).map_err(translate)?;
    let mut rows = statement.query(values).map_err(translate)?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next().map_err(translate)? {
        letters.extend(read_letter(row, catalog)?);
    }
    Ok(letters)
}

pub(crate) fn journal(db: &Connection, seal: Seal, n: i64, resolved: &Resolved) -> Result<()> {
    let text = text_of(resolved)?;
    let mut statement = db
        .prepare_cached("INSERT INTO dynos_conflict (tbl, resolved, decided_at, sum) VALUES (?, ?, ?, ?)")
        .map_err(translate)?;
    let values = params![n, text, resolved.decided_at, journal_sum(seal, &text)];
    statement.execute(values).map(drop).map_err(translate)
}

fn text_of(resolved: &Resolved) -> Result<String> {
    serde_json::to_string(resolved).map_err(|error| damaged("conflict", error))
}

fn journal_sum(seal: Seal, text: &str) -> i64 {
    seal.sum().text(text).end()
}

pub(crate) fn forget(db: &Connection, conflict: i64) -> Result<()> {
    db.execute("DELETE FROM dynos_conflict WHERE id = ?", [conflict]).map(drop).map_err(translate)
}

pub(crate) fn prune(db: &Connection, before: Millis) -> Result<()> {
    // In the order of deciding, so the first that is young enough ends the search.
    let sql = "DELETE FROM dynos_conflict WHERE id < coalesce(
                   (SELECT id FROM dynos_conflict WHERE decided_at >= ? ORDER BY id LIMIT 1), 9223372036854775807)";
    db.execute(sql, [before]).map(drop).map_err(translate)
}

/// Journal entries from before one on, newest first.
pub(crate) fn conflicts(db: &Connection, seal: Seal, before: i64, limit: usize) -> Result<Vec<Journaled>> {
    let sql = "SELECT id, resolved, sum FROM dynos_conflict WHERE id < ? ORDER BY id DESC LIMIT ?";
    let mut statement = db.prepare(sql).map_err(translate)?;
    let mut rows = statement.query([before, limit as i64]).map_err(translate)?;
    let mut conflicts = Vec::new();
    while let Some(row) = rows.next().map_err(translate)? {
        conflicts.push(Journaled { id: row.get(0).map_err(translate)?, resolved: read_conflict(row, seal) });
    }
    Ok(conflicts)
}

/// A record's journal entries, newest first. One that cannot be read does not say whose it is, and is left out.
pub(crate) fn conflicts_of(db: &Connection, seal: Seal, n: i64, key: &RecordKey) -> Result<Vec<Journaled>> {
    let sql = "SELECT id, resolved, sum FROM dynos_conflict WHERE tbl = ? ORDER BY id DESC";
    let mut statement = db.prepare(sql).map_err(translate)?;
    let mut rows = statement.query([n]).map_err(translate)?;
    let mut conflicts = Vec::new();
    while let Some(row) = rows.next().map_err(translate)? {
        let resolved = read_conflict(row, seal).filter(|resolved| resolved.key == *key);
        if resolved.is_some() {
            conflicts.push(Journaled { id: row.get(0).map_err(translate)?, resolved });
        }
    }
    Ok(conflicts)
}

fn read_conflict(row: &Row<'_>, seal: Seal) -> Option<Resolved> {
    let (text, sum): (String, i64) = (row.get(1).ok()?, row.get(2).ok()?);
    if sum != journal_sum(seal, &text) {
        return None;
    }
    serde_json::from_str(&text).ok()
}

/// Gives what an earlier version has kept its first sums.
pub(crate) fn seal(db: &Connection, seal: Seal) -> Result<()> {
    let sql = "UPDATE dynos_dead SET sum = ? WHERE id = ?";
    let mut update = db.prepare_cached(sql).map_err(translate)?;
    let mut letters =
        db.prepare_cached("SELECT id, tbl, record, edits FROM dynos_dead").map_err(translate)?;
    let mut rows = letters.query([]).map_err(translate)?;
    while let Some(row) = rows.next().map_err(translate)? {
        let read = || -> rusqlite::Result<(i64, i64, String, String)> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        };
        let (id, n, record, edits) = read().map_err(translate)?;
        let sum = letter_sum(seal, n, &record, &edits, None);
        update.execute([sum, id]).map_err(translate)?;
    }
    let sql = "UPDATE dynos_conflict SET sum = ? WHERE id = ?";
    let mut update = db.prepare_cached(sql).map_err(translate)?;
    let mut conflicts = db.prepare_cached("SELECT id, resolved FROM dynos_conflict").map_err(translate)?;
    let mut rows = conflicts.query([]).map_err(translate)?;
    while let Some(row) = rows.next().map_err(translate)? {
        let read = || -> rusqlite::Result<(i64, String)> { Ok((row.get(0)?, row.get(1)?)) };
        let (id, text) = read().map_err(translate)?;
        let sum = journal_sum(seal, &text);
        update.execute([sum, id]).map_err(translate)?;
    }
    Ok(())
}
