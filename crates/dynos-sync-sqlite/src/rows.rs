//! The rows of the application's tables.

use std::{borrow::Cow, collections::HashSet};

use dynos_sync_core::{Edit, Fields, Invalid, REDACTED, RecordId, RecordKey, ReplicaError, Value};
use rusqlite::{Connection, params_from_iter};

use crate::{
    error::{Result, damaged, of_record, of_table},
    sql::{ident, idents, list},
    table::{Field, Table, insert_sql},
    value::{Cell, reads_as, to_json, to_sql},
};

/// A row with all columns of the table, by its key's values.
pub(crate) fn select(db: &Connection, table: &Table, key: &[Cell]) -> Result<Option<Vec<Cell>>> {
    let mut statement = db.prepare_cached(&table.select).map_err(of_table)?;
    let mut rows = statement.query(params_from_iter(key)).map_err(of_table)?;
    match rows.next().map_err(of_table)? {
        None => Ok(None),
        Some(row) => {
            let cell = |place| Ok(Cell::from(row.get_ref(place)?));
            (0..table.columns.len()).map(cell).collect::<rusqlite::Result<_>>().map(Some).map_err(of_table)
        }
    }
}

/// The record that a row holds: its fields, without the key's columns.
pub(crate) fn record(table: &Table, row: &[Cell]) -> Result<Fields> {
    if table.document {
        return document(&row[1]);
    }
    let pairs = table.columns.iter().zip(row).filter(|(column, _)| !column.in_key);
    Ok(pairs.map(|(column, cell)| (column.name.clone(), to_json(cell.as_ref(), column.reading))).collect())
}

/// The record as the application sees it: with the key's columns, in a table that has columns.
pub(crate) fn whole(table: &Table, row: &[Cell]) -> Result<Fields> {
    if table.document {
        return document(&row[1]);
    }
    let pairs = table.columns.iter().zip(row);
    Ok(pairs.map(|(column, cell)| (column.name.clone(), to_json(cell.as_ref(), column.reading))).collect())
}

fn document(cell: &Cell) -> Result<Fields> {
    let text = match cell {
        Cell::Text(text) | Cell::Blob(text) => text,
        _ => return Err(damaged("document", "is not text")),
    };
    serde_json::from_slice(text).map_err(|error| damaged("document", error))
}

/// The record by its id.
pub(crate) fn get(db: &Connection, table: &Table, id: &RecordId) -> Result<Option<Fields>> {
    let row = select(db, table, &table.key_of(id)?)?;
    row.map(|row| record(table, &row)).transpose()
}

/// Fields as the table keeps them: the key's columns compared with the id and taken out, every value in the form in
/// which it will be read again.
pub(crate) struct Prepared<'a> {
    /// Those that were given, where that is the form already.
    pub(crate) fields: Cow<'a, Fields>,
    /// By their places.
    cells: Vec<(usize, Cell)>,
}

impl Prepared<'_> {
    /// Whether SQLite will store every value as it is given.
    pub(crate) fn is_exact(&self, table: &Table) -> bool {
        self.cells.iter().all(|(place, cell)| table.columns[*place].affinity.keeps(cell))
    }

    /// A negative zero loses its sign in columns of most types. An edit that SQLite would alter is refused.
    fn refuse_lost_signs(&self, table: &Table) -> Result<(), Invalid> {
        let lost = |(place, cell): &&(usize, Cell)| {
            cell.is_negative_zero() && !table.columns[*place].affinity.keeps(cell)
        };
        match self.cells.iter().find(lost) {
            None => Ok(()),
            Some((place, _)) => {
                let problem = "a negative zero, which SQLite cannot keep in a column of this type";
                Err(Invalid::new(&table.columns[*place].name, problem).remedy("store 0.0, or text"))
            }
        }
    }

    /// The same fields as they read in the row that was stored.
    pub(crate) fn as_stored(&self, table: &Table, row: &[Cell]) -> Fields {
        let stored = |place: usize| to_json(row[place].as_ref(), table.columns[place].reading);
        self.cells.iter().map(|(place, _)| (table.columns[*place].name.clone(), stored(*place))).collect()
    }
}

/// Makes fields ready for a table with columns.
///
/// # Errors
/// [`Invalid`] for an unknown column, a value that SQLite cannot keep, or a key that is not the record's.
pub(crate) fn prepare<'a>(table: &Table, key: &[Cell], fields: &'a Fields) -> Result<Prepared<'a>, Invalid> {
    let mut cells = Vec::with_capacity(fields.len());
    let mut as_given = true;
    for (name, value) in fields {
        let place = table.place(name)?;
        let column = &table.columns[place];
        let cell = to_sql(value, name)?;
        if column.in_key {
            require_same_key(table, key, name, &cell)?;
            as_given = false;
            continue;
        }
        as_given &= reads_as(&cell, column.reading, value);
        cells.push((place, cell));
    }
    cells.sort_unstable_by_key(|(place, _)| *place);
    let read = |(place, cell): &(usize, Cell)| {
        let column = &table.columns[*place];
        (column.name.clone(), to_json(cell.as_ref(), column.reading))
    };
    let fields = match as_given {
        true => Cow::Borrowed(fields),
        false => Cow::Owned(cells.iter().map(read).collect()),
    };
    Ok(Prepared { fields, cells })
}

fn require_same_key(table: &Table, key: &[Cell], name: &str, given: &Cell) -> Result<(), Invalid> {
    let place = table.key.iter().position(|place| table.columns[*place].name == name);
    match place.and_then(|place| key.get(place)) {
        Some(cell) if cell == given => Ok(()),
        _ => {
            Err(Invalid::new(name, "differs from the record's id").remedy("leave it out, or correct the id"))
        }
    }
}

/// What a statement does with a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Insert,
    Update,
    /// Update, resetting the columns that are not given.
    Reset,
}

/// Writes fields to a row of a table with columns. `exists` says whether the row is there.
pub(crate) fn put(
    db: &Connection,
    table: &Table,
    id: &RecordKey,
    key: &[Cell],
    prepared: &Prepared<'_>,
    exists: bool,
    reset: bool,
) -> Result<()> {
    let mode = match (exists, reset) {
        (false, _) => Mode::Insert,
        (true, false) => Mode::Update,
        (true, true) => Mode::Reset,
    };
    if mode == Mode::Update && prepared.cells.is_empty() {
        return Ok(());
    }
    let Some(sql) = put_sql(table, mode, &prepared.cells) else { return Ok(()) };
    let mut statement = db.prepare_cached(&sql).map_err(of_table)?;
    let given = prepared.cells.iter().map(|(_, cell)| cell);
    statement.execute(params_from_iter(given.chain(key))).map(drop).map_err(of_record(id))
}

fn put_sql<'a>(table: &'a Table, mode: Mode, cells: &[(usize, Cell)]) -> Option<Cow<'a, str>> {
    let given = || cells.iter().map(|(place, _)| table.columns[*place].name.as_str());
    if mode == Mode::Insert {
        let key = table.key.iter().map(|place| table.columns[*place].name.as_str());
        return Some(match cells.len() + table.key.len() == table.columns.len() {
            true => Cow::Borrowed(&table.insert),
            false => Cow::Owned(insert_sql(table.name(), given().chain(key))),
        });
    }
    let mut sets: Vec<String> = given().map(|column| format!("{} = ?", ident(column))).collect();
    if mode == Mode::Reset {
        let given: HashSet<&str> = given().collect();
        let missing = table.fields().filter(|field| !given.contains(field.name.as_str()));
        sets.extend(missing.map(reset_sql));
    }
    let (name, by_key) = (table.sql_name(), &table.by_key);
    (!sets.is_empty()).then(|| format!("UPDATE {name} SET {} WHERE {by_key}", list(sets)).into())
}

fn reset_sql(field: &Field) -> String {
    format!("{} = ({})", ident(&field.name), field.default.as_deref().unwrap_or("NULL"))
}

/// Writes a whole document.
pub(crate) fn put_document(db: &Connection, table: &Table, id: &RecordKey, fields: &Fields) -> Result<()> {
    let sql = format!(
        "INSERT INTO {} (\"id\", \"data\") VALUES (?, ?) ON CONFLICT DO UPDATE SET \"data\" = excluded.\"data\"",
        table.sql_name()
    );
    let text = serde_json::to_string(fields).map_err(|error| damaged("document", error))?;
    let mut statement = db.prepare_cached(&sql).map_err(of_table)?;
    let key = table.key_of(&id.id)?;
    statement
        .execute(params_from_iter(key.into_iter().chain([Cell::text(&text)])))
        .map(drop)
        .map_err(of_record(id))
}

/// Deletes a row, if it is there.
pub(crate) fn delete(db: &Connection, table: &Table, id: &RecordKey, key: &[Cell]) -> Result<()> {
    let sql = format!("DELETE FROM {} WHERE {}", table.sql_name(), table.by_key);
    let mut statement = db.prepare_cached(&sql).map_err(of_table)?;
    statement.execute(params_from_iter(key)).map(drop).map_err(of_record(id))
}

/// Applies an edit to a row, and answers the edit as it now stands: in the form in which other devices shall see it.
pub(crate) fn apply<'a>(
    db: &Connection,
    table: &Table,
    id: &RecordKey,
    key: &[Cell],
    before: Option<&[Cell]>,
    edit: &'a Edit,
) -> Result<Cow<'a, Edit>> {
    let Some(fields) = edit.fields() else {
        delete(db, table, id, key)?;
        return Ok(Cow::Borrowed(edit));
    };
    if table.document {
        let before = before.map(|row| record(table, row)).transpose()?;
        if let Some(after) = edit.apply(before) {
            put_document(db, table, id, &after)?;
        }
        return Ok(Cow::Borrowed(edit));
    }
    let prepared = prepare(table, key, fields)?;
    prepared.refuse_lost_signs(table)?;
    let resets = matches!(edit, Edit::Replace(_));
    put(db, table, id, key, &prepared, before.is_some(), resets)?;
    // A row that begins here has all of its columns from here: one that is not named may stand otherwise elsewhere.
    let whole = (resets || before.is_none()) && prepared.cells.len() < table.fields().count();
    let stored = if prepared.is_exact(table) && !whole {
        match prepared.fields {
            Cow::Borrowed(_) => return Ok(Cow::Borrowed(edit)),
            Cow::Owned(fields) => fields,
        }
    } else {
        let row = select(db, table, key)?.ok_or_else(|| ReplicaError::NotFound(id.clone()))?;
        if whole { record(table, &row)? } else { prepared.as_stored(table, &row) }
    };
    Ok(Cow::Owned(Edit::new(edit.operation(), stored)))
}

/// Puts the server's version into a row. In a table with columns those that are not given are left alone, unless `reset` gives them their
/// defaults.
pub(crate) fn store(
    db: &Connection,
    table: &Table,
    id: &RecordKey,
    version: Option<&Fields>,
    reset: bool,
) -> Result<()> {
    let key = table.key_of(&id.id)?;
    match version {
        None => delete(db, table, id, &key),
        Some(fields) if table.document => put_document(db, table, id, fields),
        Some(fields) => {
            let exists = exists(db, table, &key)?;
            let known = |name: &String| table.place(name).is_ok_and(|place| !table.columns[place].in_key);
            let taken =
                |(name, value): &(&String, &Value)| known(name) && !(exists && hides(table, name, value));
            if fields.iter().all(|field| taken(&field)) {
                return put(db, table, id, &key, &prepare(table, &key, fields)?, exists, reset);
            }
            let mut given: Fields =
                fields.iter().filter(taken).map(|(n, v)| (n.clone(), v.clone())).collect();
            if let (true, Some(row)) = (reset, get(db, table, &id.id)?) {
                let is_hidden =
                    |(name, _): &(String, Value)| fields.get(name).is_some_and(|v| hides(table, name, v));
                given.extend(row.into_iter().filter(is_hidden));
            }
            put(db, table, id, &key, &prepare(table, &key, &given)?, exists, reset)
        }
    }
}

/// Whether a value is but the mask of a sensitive column: it is not to overwrite what this device knows.
fn hides(table: &Table, name: &str, value: &Value) -> bool {
    *value == REDACTED && table.policy.sensitive_fields.iter().any(|field| field.eq_ignore_ascii_case(name))
}

fn exists(db: &Connection, table: &Table, key: &[Cell]) -> Result<bool> {
    let sql = format!("SELECT 1 FROM {} WHERE {}", table.sql_name(), table.by_key);
    let mut statement = db.prepare_cached(&sql).map_err(of_table)?;
    statement.exists(params_from_iter(key)).map_err(of_table)
}

/// Columns whose values differ between two rows, with the later values.
pub(crate) fn changed(table: &Table, before: &[Option<Cell>], after: &[Cell]) -> Fields {
    let columns = table.columns.iter().zip(before.iter().zip(after));
    let differs =
        |before: &Option<Cell>, after: &Cell| before.as_ref().map_or(*after != Cell::Null, |b| b != after);
    columns
        .filter(|(column, (before, after))| !column.in_key && differs(before, after))
        .map(|(column, (_, after))| (column.name.clone(), to_json(after.as_ref(), column.reading)))
        .collect()
}

/// The ids of all rows, each handed to `each`.
pub(crate) fn for_each_id(
    db: &Connection,
    table: &Table,
    mut each: impl FnMut(RecordId) -> Result<()>,
) -> Result<()> {
    let sql = format!(
        "SELECT {} FROM {}",
        idents(table.columns.iter().filter(|c| c.in_key).map(|c| &c.name)),
        table.sql_name()
    );
    let order: Vec<usize> = {
        let in_table_order: Vec<usize> =
            (0..table.columns.len()).filter(|p| table.columns[*p].in_key).collect();
        table.key.iter().filter_map(|place| in_table_order.iter().position(|p| p == place)).collect()
    };
    let mut statement = db.prepare(&sql).map_err(of_table)?;
    let mut rows = statement.query([]).map_err(of_table)?;
    while let Some(row) = rows.next().map_err(of_table)? {
        let cell = |place: &usize| Ok(Cell::from(row.get_ref(*place)?));
        let key: Vec<Cell> = order.iter().map(cell).collect::<rusqlite::Result<_>>().map_err(of_table)?;
        // A row whose key cannot be an id was never synced.
        if let Ok(id) = table.key_shape.encode(&key) {
            each(id)?;
        }
    }
    Ok(())
}

/// A JSON object as it stands in the engine's own tables.
pub(crate) fn parse(text: &str) -> Result<Fields> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(damaged("stored record", "is not an object")),
        Err(error) => Err(damaged("stored record", error)),
    }
}
