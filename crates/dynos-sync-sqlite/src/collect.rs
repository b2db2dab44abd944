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
    commit::whole_if_local,
    error::{Result, translate},
    letters::{self, Burial},
    queue::{self, New},
    rows,
    session::Session,
    table::Table,
    value::{Cell, to_json},
};

/// Notes handled at a time: bounds the memory, whatever the log's length.
const CHUNK: usize = 4096;

/// So many more are looked at for the end of a program's transaction.
const FURTHER: usize = 16 * Limits::TRANSACTION;

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
    let notes = read_notes(session)?;
    let Some(last) = notes.last else { return Ok(None) };
    let mut collected = Vec::new();
    let clock = session.header.clock;
    let mut units = Units::of(&notes);
    for (place, mut record) in notes.touched.into_iter().enumerate() {
        record.at = time_of(record.at, clock);
        collected.extend(queue_change(session, record, &mut units, place)?);
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
    /// Whether it was there before its table was synced.
    adopted: bool,
    at: Millis,
}

/// Some of the log.
#[derive(Default)]
struct Notes {
    touched: Vec<Touched>,
    places: HashMap<(i64, RecordId), usize>,
    /// The records that were touched between marks, by their places, and between which.
    within: Vec<(usize, usize)>,
    /// For each beginning, whether its end was found.
    ended: Vec<bool>,
    is_open: bool,
    last: Option<i64>,
}

impl Notes {
    fn mark(&mut self, op: i64) {
        match (op, self.ended.last_mut()) {
            (capture::BEGINNING, _) => {
                self.ended.push(false);
                self.is_open = true;
            }
            (capture::END, Some(ended)) if self.is_open => (*ended, self.is_open) = (true, false),
            _ => {}
        }
    }

    fn touch(&mut self, record: Touched) {
        let new = self.touched.len();
        let place = *self.places.entry((record.table, record.id.clone())).or_insert(new);
        if self.is_open {
            self.within.push((place, self.ended.len() - 1));
        }
        match self.touched.get_mut(place) {
            Some(first) => {
                first.deleted |= record.deleted;
                first.at = first.at.max(record.at);
            }
            None => self.touched.push(record),
        }
    }
}

fn read_notes(session: &Session<'_>) -> Result<Notes> {
    let mut statement =
        session.db.prepare_cached("SELECT * FROM dynos_log ORDER BY seq LIMIT ?").map_err(translate)?;
    let mut found = statement.query([(CHUNK + FURTHER) as i64]).map_err(translate)?;
    let mut notes = Notes::default();
    let mut read = 0;
    while read < CHUNK || notes.is_open {
        let Some(note) = found.next().map_err(translate)? else { break };
        read += 1;
        notes.last = Some(note.get(0).map_err(translate)?);
        let n: i64 = note.get(1).map_err(translate)?;
        if n == capture::NO_TABLE {
            notes.mark(note.get(2).map_err(translate)?);
        }
        let Some(table) = session.catalog.numbered(n) else { continue };
        let Some(record) = read_note(table, note).map_err(translate)? else { continue };
        notes.touch(record);
    }
    Ok(notes)
}

/// Which of the records that were touched are one transaction.
struct Units {
    /// For each record, by its place, the first of its unit.
    first: Vec<Option<usize>>,
    /// The units' numbers, once they have one.
    numbers: HashMap<usize, Counter>,
}

impl Units {
    /// Records that were touched between the same two marks; and where one was so more than once, all that were touched along with it. Where
    /// the end is missing, nobody has said what belongs together.
    fn of(notes: &Notes) -> Self {
        let mut units = Self { first: vec![None; notes.touched.len()], numbers: HashMap::new() };
        let mut begun: Vec<Option<usize>> = vec![None; notes.ended.len()];
        for (place, mark) in notes.within.iter().filter(|(_, mark)| notes.ended[*mark]) {
            let other = *begun[*mark].get_or_insert(*place);
            units.join(*place, other);
        }
        units.settle();
        units
    }

    fn root(&self, mut place: usize) -> usize {
        while let Some(first) = self.first[place].filter(|first| *first != place) {
            place = first;
        }
        place
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        let first = one.min(other);
        (self.first[one], self.first[other]) = (Some(first), Some(first));
    }

    /// Has each record name the first of its unit; none where the unit is too large to be sent as one.
    fn settle(&mut self) {
        let mut sizes: HashMap<usize, usize> = HashMap::new();
        for place in 0..self.first.len() {
            if self.first[place].is_some() {
                let root = self.root(place);
                self.first[place] = Some(root);
                *sizes.entry(root).or_default() += 1;
            }
        }
        sizes.retain(|_, size| *size > Limits::TRANSACTION);
        for records in sizes.values() {
            tracing::warn!(records, "a program's transaction is too large to take effect as a whole");
        }
        for first in &mut self.first {
            first.take_if(|first| sizes.contains_key(first));
        }
    }

    /// The transaction of a record of which an entry is to have the next number.
    fn transaction(&mut self, place: usize, next: Counter) -> Option<Counter> {
        let first = self.first[place]?;
        Some(*self.numbers.entry(first).or_insert(next))
    }
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
    let adopted = op == capture::INSERTED && at == capture::LONG_AGO;
    Ok(Some(Touched { table: table.n, key, id, before, deleted: op == capture::DELETED, adopted, at }))
}

fn queue_change(
    session: &mut Session<'_>,
    touched: Touched,
    units: &mut Units,
    place: usize,
) -> Result<Option<Collected>> {
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
    if first && touched.before.is_some() {
        let key = table.record(touched.id.clone());
        edit = whole_if_local(session, table, &key, &edit)?.into_owned();
    }
    let first = first.then_some(base.as_ref());
    let marked = units.transaction(place, session.header.last_counter + 1);
    let transaction = session.transaction.or(marked);
    let new = New { id: &touched.id, edit: &edit, at: touched.at, first, transaction };
    let counter = queue::append(session.db, &mut session.header, table, &new)?;
    Ok(Some(Collected { table: table.n, id: touched.id, counter, edit }))
}

fn difference(table: &Table, touched: &Touched, now: Option<&[Cell]>) -> Result<Option<Edit>> {
    match (&touched.before, now) {
        (None, None) => Ok(None),
        (None, Some(row)) if touched.adopted => Ok(Some(table.whole(rows::record(table, row)?))),
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
    let burial = Burial { n: table.n, id, edits: &edits, code, message, at, transaction: None };
    letters::bury(session.db, session.header.seal, &burial).map(drop)
}
