//! Collecting: what the triggers noted becomes entries of the queue.
//!
//! All notes about one record become at most one entry: the difference between what the row was before the first of
//! them and what it is now.

use std::collections::HashMap;

use dynos_sync_core::{
    Counter, Edit, Fields, Limits, Millis, RecordId, Redactor, ReplicaError, plan::write::ownership,
};
use rusqlite::Row;

use crate::{
    capture,
    error::{Result, translate},
    letters::{self, Burial},
    queue, rows,
    session::Session,
    table::Table,
    value::{Cell, to_json},
};

/// Notes handled at a time: bounds the memory, whatever the log's length.
const CHUNK: usize = 4096;

/// What became of a record that was touched.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) table: i64,
    pub(crate) id: RecordId,
    pub(crate) counter: Counter,
    pub(crate) edit: Edit,
}

/// Turns all notes into entries. Answers the last of them.
pub(crate) fn collect(session: &mut Session<'_>) -> Result<Vec<Collected>> {
    let mut latest = Vec::new();
    while let Some(collected) = collect_some(session)? {
        latest = collected;
    }
    Ok(latest)
}

/// Turns the oldest notes into entries; `None` where there are none.
pub(crate) fn collect_some(session: &mut Session<'_>) -> Result<Option<Vec<Collected>>> {
    let (touched, last) = read_notes(session)?;
    let Some(last) = last else { return Ok(None) };
    let mut collected = Vec::new();
    let clock = session.header.clock;
    for mut record in touched {
        record.at = time_of(record.at, clock);
        collected.extend(queue_change(session, record)?);
    }
    let mut statement =
        session.db.prepare_cached("DELETE FROM dynos_log WHERE seq <= ?").map_err(translate)?;
    statement.execute([last]).map_err(translate)?;
    Ok(Some(collected))
}

/// What was noted is newer than all that is queued, also where it was noted by a clock that is behind. What was there before the table was
/// synced has no time.
fn time_of(noted: Millis, clock: Millis) -> Millis {
    if noted == capture::LONG_AGO { noted } else { noted.max(clock.saturating_add(1)).min(Limits::LATEST) }
}

/// Whether there is anything to collect.
pub(crate) fn is_due(db: &rusqlite::Connection) -> Result<bool> {
    let mut statement = db.prepare_cached("SELECT 1 FROM dynos_log LIMIT 1").map_err(translate)?;
    statement.exists([]).map_err(translate)
}

/// A record that was touched.
struct Touched {
    table: i64,
    key: Vec<Cell>,
    id: RecordId,
    /// The row before the first note, by column; a column that was not captured then is unknown. `None`: no row.
    before: Option<Vec<Option<Cell>>>,
    /// Whether it was deleted at some point.
    deleted: bool,
    at: Millis,
}

fn read_notes(session: &Session<'_>) -> Result<(Vec<Touched>, Option<i64>)> {
    let mut statement =
        session.db.prepare_cached("SELECT * FROM dynos_log ORDER BY seq LIMIT ?").map_err(translate)?;
    let mut notes = statement.query([CHUNK as i64]).map_err(translate)?;
    let mut touched: Vec<Touched> = Vec::new();
    let mut places: HashMap<(i64, RecordId), usize> = HashMap::new();
    let mut last = None;
    while let Some(note) = notes.next().map_err(translate)? {
        last = Some(note.get(0).map_err(translate)?);
        let n: i64 = note.get(1).map_err(translate)?;
        let Some(table) = session.catalog.numbered(n) else { continue };
        let Some(record) = read_note(table, note).map_err(translate)? else { continue };
        match places.get(&(n, record.id.clone())) {
            Some(place) => {
                let first = &mut touched[*place];
                first.deleted |= record.deleted;
                first.at = first.at.max(record.at);
            }
            None => {
                places.insert((n, record.id.clone()), touched.len());
                touched.push(record);
            }
        }
    }
    Ok((touched, last))
}

/// Reads a note; `None` where the row has no key that could be an id: such a row cannot be synced.
fn read_note(table: &Table, note: &Row<'_>) -> rusqlite::Result<Option<Touched>> {
    const FIXED: usize = 4;
    let (op, at): (i64, Millis) = (note.get(2)?, note.get(3)?);
    let logged = |name: &str| -> rusqlite::Result<Option<Cell>> {
        match table.captured.iter().position(|captured| captured == name) {
            None => Ok(None),
            Some(place) => Ok(Some(Cell::from(note.get_ref(FIXED + place)?))),
        }
    };
    let image: Vec<Option<Cell>> =
        table.columns.iter().map(|column| logged(&column.name)).collect::<rusqlite::Result<_>>()?;
    let key: Option<Vec<Cell>> = table.key.iter().map(|place| image[*place].clone()).collect();
    let Some(key) = key else { return Ok(None) };
    let Ok(id) = table.key_shape.encode(&key) else {
        tracing::warn!(table = %table.name(), "a row whose key cannot be an id is not synced");
        return Ok(None);
    };
    let before = (op != capture::INSERTED).then_some(image);
    Ok(Some(Touched { table: table.n, key, id, before, deleted: op == capture::DELETED, at }))
}

fn queue_change(session: &mut Session<'_>, touched: Touched) -> Result<Option<Collected>> {
    let Some(table) = session.catalog.numbered(touched.table) else { return Ok(None) };
    let now = rows::select(session.db, table, &touched.key)?;
    let mut edit = match difference(table, &touched, now.as_deref()) {
        Ok(Some(edit)) => edit,
        Ok(None) => return Ok(None),
        Err(error) => return refuse(session, table, &touched, None, "invalid", &error).map(|()| None),
    };
    if let Some(fields) = edit.fields_mut() {
        if let Err(violation) = ownership(&table.policy).check(fields) {
            let message = format!("{} names another owner", violation.column);
            let error = ReplicaError::Constraint { key: table.record(touched.id.clone()), message };
            return refuse(session, table, &touched, Some(edit), "forbidden", &error).map(|()| None);
        }
        Redactor::new(&table.policy.sensitive_fields).mask(fields);
    }
    let first = queue::newest(session.db, table.n, touched.id.as_str())?.is_none();
    let base = if first { base_image(table, touched.before.as_deref()) } else { None };
    let first = first.then_some(base.as_ref());
    let counter =
        queue::append(session.db, &mut session.header, table, &touched.id, &edit, touched.at, first)?;
    Ok(Some(Collected { table: table.n, id: touched.id, counter, edit }))
}

fn difference(table: &Table, touched: &Touched, now: Option<&[Cell]>) -> Result<Option<Edit>> {
    match (&touched.before, now) {
        (None, None) => Ok(None),
        (None, Some(row)) => Ok(Some(Edit::Upsert(rows::record(table, row)?))),
        (Some(_), None) => Ok(Some(Edit::Delete)),
        (Some(_), Some(row)) if touched.deleted => Ok(Some(Edit::Replace(rows::record(table, row)?))),
        (Some(before), Some(row)) if table.document => document_difference(table, before, row),
        (Some(before), Some(row)) => {
            let changed = rows::changed(table, before, row);
            Ok((!changed.is_empty()).then_some(Edit::Patch(changed)))
        }
    }
}

fn document_difference(table: &Table, before: &[Option<Cell>], row: &[Cell]) -> Result<Option<Edit>> {
    let after = rows::record(table, row)?;
    let Some(before) = base_image(table, Some(before)) else { return Ok(Some(Edit::Replace(after))) };
    if before.keys().any(|name| !after.contains_key(name)) {
        return Ok(Some(Edit::Replace(after)));
    }
    let changed: Fields = after.into_iter().filter(|(name, value)| before.get(name) != Some(value)).collect();
    Ok((!changed.is_empty()).then_some(Edit::Patch(changed)))
}

/// The record before, as far as it was captured.
fn base_image(table: &Table, before: Option<&[Option<Cell>]>) -> Option<Fields> {
    let before = before?;
    if table.document {
        let row: Vec<Cell> = before.iter().cloned().collect::<Option<_>>()?;
        return rows::record(table, &row).ok();
    }
    let pairs = table.columns.iter().zip(before).filter(|(column, _)| !column.in_key);
    let mut base: Fields = pairs
        .filter_map(|(c, cell)| Some((c.name.clone(), to_json(cell.as_ref()?.as_ref(), c.reading))))
        .collect();
    Redactor::new(&table.policy.sensitive_fields).mask(&mut base);
    Some(base)
}

/// A change that cannot be offered to the server goes to the dead letters at once: it is not lost, and it does not
/// hold up others.
fn refuse(
    session: &Session<'_>,
    table: &Table,
    touched: &Touched,
    edit: Option<Edit>,
    code: &str,
    error: &ReplicaError,
) -> Result<()> {
    let edits: Vec<(Edit, Millis)> = edit.into_iter().map(|edit| (edit, touched.at)).collect();
    let (id, message, at) = (touched.id.as_str(), &error.to_string(), touched.at);
    let burial = Burial { n: table.n, id, edits: &edits, code, message, at };
    letters::bury(session.db, session.header.seal, &burial).map(drop)
}
