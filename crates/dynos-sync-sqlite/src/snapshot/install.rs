//! Copying tables out of a snapshot that was looked through.

use std::{collections::BTreeMap, path::Path};

use dynos_sync_core::{
    Generation, Shape, TableName, TableSpec, Value,
    plan::write::ownership,
    replica::Phase,
    snapshot::{Held, Snapshot},
};
use rusqlite::Connection;

use super::check::ENCODING;
use crate::{
    capture, columns,
    describe::is_literal,
    error::{Result, damaged, of_table, of_theirs, refusal},
    listing,
    session::Session,
    sql::ident,
    sync::mpsc::Receiver,
    table::Table,
    value::{Cell, to_json},
    writer::Writer,
};

/// The tables among `names` that take a snapshot, as they are declared.
pub(super) fn suitable(session: &mut Session<'_>, names: &[TableName]) -> Result<Vec<TableSpec>> {
    let encoding: String =
        session.db.query_row("PRAGMA encoding", [], |row| row.get(0)).map_err(of_theirs)?;
    if encoding != ENCODING {
        return Ok(Vec::new());
    }
    let mut specs = Vec::new();
    for name in names {
        let Ok(table) = session.catalog.named(name) else { continue };
        if takes_rows_as_they_are(table) && is_untouched(session, table)? {
            specs.push(table.spec.clone());
        }
    }
    Ok(specs)
}

/// Nothing in the table's policy or declaration makes of a pulled row something else than the server has.
fn takes_rows_as_they_are(table: &Table) -> bool {
    let masked = !table.policy.sensitive_fields.is_empty();
    // A document names its owner somewhere in its text.
    let owned = table.document && table.policy.user.is_some();
    // What a column is without a value, the server does not know.
    let computed = table.description.defaults.iter().flatten().any(|default| !is_literal(default));
    !(masked || owned || computed)
}

/// Nothing was pulled, nothing is there, nothing is kept aside.
fn is_untouched(session: &mut Session<'_>, table: &Table) -> Result<bool> {
    if listing::one(session.db, session.header.seal, table.n)?.cursor.is_some()
        || session.phase(table.n)? != Phase::First
    {
        return Ok(false);
    }
    let kept = ["dynos_queue", "dynos_log", "dynos_local", "dynos_quarantine"]
        .map(|kept| format!("EXISTS (SELECT 1 FROM {kept} WHERE tbl = {})", table.n));
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {}) OR {}", table.sql_name(), kept.join(" OR "));
    session.db.query_row(&sql, [], |row| row.get::<_, bool>(0)).map(|any| !any).map_err(of_table)
}

/// Puts the snapshot's tables in place, each in a transaction of its own. Answers how many rows each has got; or what is wrong with the
/// file, by the verdict that comes while rows are copied.
pub(super) fn install(
    writer: &mut Writer,
    file: &Path,
    snapshot: &Snapshot,
    generation: Generation,
    verdict: &Receiver<Option<String>>,
) -> Result<Result<BTreeMap<TableName, u64>, String>> {
    writer.collect()?;
    writer.set_temporary_files(true)?;
    writer.set_foreign_keys(false)?;
    // Left over, if ending the last one failed.
    let _ = writer.db.execute_batch("DETACH dynos_snapshot");
    let name = file.to_str().ok_or_else(|| damaged("the file's name", "is not UTF-8"))?;
    writer.db.execute("ATTACH ?1 AS dynos_snapshot", [name]).map_err(of_theirs)?;
    let mut verdict = Verdict { coming: verdict, known: None };
    let done = take_all(writer, snapshot, generation, &mut verdict);
    let detached = writer.db.execute_batch("DETACH dynos_snapshot").map_err(of_theirs);
    // What cannot be copied may be the file's fault.
    if let Some(fault) = verdict.fault() {
        return Ok(Err(fault.clone()));
    }
    done.and_then(|done| detached.map(|()| Ok(done)))
}

/// What comes of looking through the file.
struct Verdict<'a> {
    coming: &'a Receiver<Option<String>>,
    known: Option<Option<String>>,
}

impl Verdict<'_> {
    /// Waits for it.
    fn fault(&mut self) -> Option<&String> {
        let gone = || Some("it could not be looked through".to_owned());
        self.known.get_or_insert_with(|| self.coming.recv().unwrap_or_else(|_| gone())).as_ref()
    }
}

fn take_all(
    writer: &mut Writer,
    snapshot: &Snapshot,
    generation: Generation,
    verdict: &mut Verdict<'_>,
) -> Result<BTreeMap<TableName, u64>> {
    let mut done = BTreeMap::new();
    for (name, held) in &snapshot.tables {
        let work = |session: &mut Session<'_>| {
            if session.header.generation != generation {
                return Ok(None);
            }
            session.header.clock = session.header.clock.max(snapshot.at);
            let rows = take(session, name, held)?;
            Ok(rows.filter(|_| verdict.fault().is_none()))
        };
        let rows = writer.transaction_if(work, Option::is_some)?;
        done.extend(rows.map(|rows| (name.clone(), rows)));
    }
    Ok(done)
}

/// The rows, and the cursor that they stand for. `None` where the table is to be left as it is: it is not empty any more, or refuses
/// one of them.
fn take(session: &mut Session<'_>, name: &TableName, held: &Held) -> Result<Option<u64>> {
    let catalog = session.catalog;
    let Ok(table) = catalog.named(name) else { return Ok(None) };
    if !is_untouched(session, table)? || !is_owned(session.db, table)? {
        return Ok(None);
    }
    session.set_capture(false)?;
    // A table with triggers gets its rows one by one, from values that were decoded.
    capture::remove(session.db, table.n)?;
    let (target, source) = (table.sql_name(), ident(table.name().as_str()));
    let sql = format!("INSERT INTO main.{target} SELECT * FROM dynos_snapshot.{source}");
    let rows = match session.db.execute(&sql, []) {
        Ok(rows) => u64::try_from(rows).unwrap_or(u64::MAX),
        Err(error) if refusal(&error).is_some() => return Ok(None),
        Err(error) => return Err(of_table(error)),
    };
    if rows != held.rows {
        return Ok(None);
    }
    capture::install(session.db, table)?;
    let seal = session.header.seal;
    listing::change(
        session.db,
        seal,
        table.n,
        "cursor = ?, left_out = ?",
        [held.cursor.as_str(), columns::ANY],
    )?;
    Ok(Some(rows))
}

/// Whether no row names another owner than the device's user.
fn is_owned(db: &Connection, table: &Table) -> Result<bool> {
    if table.policy.user.is_none() || table.spec.shape == Shape::Document {
        return Ok(true);
    }
    for column in table.columns.iter().filter(|column| table.policy.owner_columns.contains(&column.name)) {
        let named = ident(&column.name);
        let sql = format!("SELECT DISTINCT {named} FROM dynos_snapshot.{}", table.sql_name());
        let mut statement = db.prepare(&sql).map_err(of_table)?;
        let mut rows = statement.query([]).map_err(of_table)?;
        while let Some(row) = rows.next().map_err(of_table)? {
            let cell = Cell::from(row.get_ref(0).map_err(of_table)?);
            let owner: Value = to_json(cell.as_ref(), column.reading);
            let record = [(column.name.clone(), owner)].into_iter().collect();
            if ownership(&table.policy).check(&record).is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
