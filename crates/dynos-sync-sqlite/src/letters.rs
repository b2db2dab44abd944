//! Dead letters and the conflict journal.

use dynos_sync_core::{
    Edit, Fields, Millis, Operation, RecordId,
    replica::{DeadLetter, Journaled, Resolved},
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Result, damaged, translate},
    session::Session,
    table::Catalog,
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
    pub(crate) id: &'a RecordId,
    pub(crate) edits: &'a [(Edit, Millis)],
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) at: Millis,
}

pub(crate) fn bury(db: &Connection, burial: &Burial<'_>) -> Result<i64> {
    let sql = "INSERT INTO dynos_dead (tbl, record, edits, code, message, at) VALUES (?, ?, ?, ?, ?, ?)";
    let edits = encode(burial.edits)?;
    db.execute(sql, params![burial.n, burial.id.as_str(), edits, burial.code, burial.message, burial.at])
        .map_err(translate)?;
    Ok(db.last_insert_rowid())
}

/// Takes the entries of a record out of the queue that cannot be read any more. The row still has what they wrote.
pub(crate) fn bury_damaged(session: &mut Session<'_>, n: i64, id: &str) -> Result<()> {
    let insert =
        "INSERT INTO dynos_dead (tbl, record, edits, code, message, at) VALUES (?, ?, '[]', 'damaged', ?, ?)";
    let message = "the queued edit cannot be read; write the record again";
    session.db.execute(insert, params![n, id, message, session.header.clock]).map_err(translate)?;
    let delete = "DELETE FROM dynos_queue WHERE tbl = ? AND id = ?";
    session.header.pending -= session.db.execute(delete, params![n, id]).map_err(translate)? as i64;
    let base = "DELETE FROM dynos_base WHERE tbl = ? AND id = ?";
    session.db.execute(base, params![n, id]).map(drop).map_err(translate)
}

const LETTER: &str = "SELECT id, tbl, record, edits, code, message, at FROM dynos_dead";

type RawLetter = (i64, i64, String, String, String, String, Millis);

fn read_letter(row: &Row<'_>) -> rusqlite::Result<RawLetter> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
}

/// `None` for a letter of a table that is gone.
fn check_letter(catalog: &Catalog, raw: RawLetter) -> Result<Option<DeadLetter>> {
    let (id, n, record, edits, code, message, at) = raw;
    let Some(table) = catalog.numbered(n) else { return Ok(None) };
    let record: RecordId = record.try_into().map_err(|error| damaged("dynos_dead.record", error))?;
    Ok(Some(DeadLetter { id, key: table.record(record), edits: decode(&edits)?, code, message, at }))
}

/// A letter, taken out.
pub(crate) fn take(db: &Connection, catalog: &Catalog, letter: i64) -> Result<Option<DeadLetter>> {
    let found = db.query_row(&format!("{LETTER} WHERE id = ?"), [letter], read_letter).optional();
    let Some(raw) = found.map_err(translate)? else { return Ok(None) };
    let found = check_letter(catalog, raw)?;
    if found.is_some() {
        discard(db, letter)?;
    }
    Ok(found)
}

pub(crate) fn discard(db: &Connection, letter: i64) -> Result<()> {
    db.execute("DELETE FROM dynos_dead WHERE id = ?", [letter]).map(drop).map_err(translate)
}

/// Letters from after one on, oldest first.
pub(crate) fn page(db: &Connection, catalog: &Catalog, after: i64, limit: usize) -> Result<Vec<DeadLetter>> {
    let mut statement =
        db.prepare(&format!("{LETTER} WHERE id > ? ORDER BY id LIMIT ?")).map_err(translate)?;
    let rows = statement.query_map([after, limit as i64], read_letter).map_err(translate)?;
    rows.filter_map(|raw| raw.map_err(translate).and_then(|raw| check_letter(catalog, raw)).transpose())
        .collect()
}

pub(crate) fn journal(db: &Connection, n: i64, resolved: &Resolved) -> Result<()> {
    let text = serde_json::to_string(resolved).map_err(|error| damaged("conflict", error))?;
    let mut statement = db
        .prepare_cached("INSERT INTO dynos_conflict (tbl, resolved, decided_at) VALUES (?, ?, ?)")
        .map_err(translate)?;
    statement.execute(params![n, text, resolved.decided_at]).map(drop).map_err(translate)
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
pub(crate) fn conflicts(db: &Connection, before: i64, limit: usize) -> Result<Vec<Journaled>> {
    let sql = "SELECT id, resolved FROM dynos_conflict WHERE id < ? ORDER BY id DESC LIMIT ?";
    let mut statement = db.prepare(sql).map_err(translate)?;
    let rows = statement
        .query_map([before, limit as i64], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
        .map_err(translate)?;
    rows.map(|row| {
        let (id, text) = row.map_err(translate)?;
        let resolved =
            serde_json::from_str(&text).map_err(|error| damaged("dynos_conflict.resolved", error))?;
        Ok(Journaled { id, resolved })
    })
    .collect()
}
