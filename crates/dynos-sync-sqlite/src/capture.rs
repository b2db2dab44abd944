//! Capture: triggers in plain SQL that note which row any program touched, and what it was before.
//!
//! They write no JSON and no new values. The truth about a row is the row itself; what the log adds is *look at this row*
//! and *this is what it was*. A note too many is therefore harmless, and the triggers can afford to be careful: before an
//! insert or an update they also note every row that `REPLACE` might delete silently (SQLite fires no delete trigger
//! for those).
//!
//! The triggers are silent while `dynos_state.capture` is 0, which it is only inside the engine's own transactions.

use dynos_sync_core::Millis;
use rusqlite::Connection;

use crate::{
    error::{Result, damaged, of_table, translate},
    sql::{all, ident, idents, join, list},
    table::Table,
};

/// The log's notes.
pub(crate) const INSERTED: i64 = 0;
pub(crate) const UPDATED: i64 = 1;
pub(crate) const DELETED: i64 = 2;
pub(crate) const MAY_BE_REPLACED: i64 = 3;

/// Marks in the log, of no table: what a program writes between the two takes effect on the server together.
pub(crate) const BEGINNING: i64 = 4;
pub(crate) const END: i64 = 5;
/// The number of no table.
pub(crate) const NO_TABLE: i64 = 0;

/// The time of what was there before its table was synced.
pub(crate) const LONG_AGO: Millis = 0;

/// The time in milliseconds. It is never behind the newest that the device has seen, but for edits that were queued since `dynos_state` was
/// written: those are seen to where notes are collected.
const NOW: &str = "max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state))";

/// Puts a table's triggers in place, or renews them.
pub(crate) fn install(db: &Connection, table: &Table) -> Result<()> {
    remove(db, table.n)?;
    widen_log(db, table.columns.len())?;
    for statement in triggers(table) {
        db.execute_batch(&statement).map_err(of_table)?;
    }
    Ok(())
}

/// Takes a table's triggers away.
pub(crate) fn remove(db: &Connection, n: i64) -> Result<()> {
    for kind in KINDS {
        db.execute_batch(&format!("DROP TRIGGER IF EXISTS {}", ident(&trigger_name(n, kind))))
            .map_err(of_table)?;
    }
    Ok(())
}

/// Notes every row of the table as if it had just been inserted, long ago.
pub(crate) fn note_existing(db: &Connection, table: &Table) -> Result<()> {
    let key = table.key.iter().map(|place| ident(&table.columns[*place].name));
    let sql = format!(
        "INSERT INTO dynos_log (tbl, op, at, {}) SELECT {}, {INSERTED}, {LONG_AGO}, {} FROM {}",
        list(log_columns(&table.key)),
        table.n,
        list(key),
        table.sql_name()
    );
    db.execute_batch(&sql).map_err(of_table)
}

const KINDS: [&str; 5] = ["insert", "update", "delete", "before_insert", "before_update"];

fn trigger_name(n: i64, kind: &str) -> String {
    format!("dynos_{n}_{kind}")
}

fn log_columns(places: &[usize]) -> impl Iterator<Item = String> {
    places.iter().map(|place| format!("c{place}"))
}

fn widen_log(db: &Connection, columns: usize) -> Result<()> {
    let sql = "SELECT count(*) FROM pragma_table_info('dynos_log') WHERE name GLOB 'c[0-9]*'";
    let present: i64 = db.query_row(sql, [], |row| row.get(0)).map_err(translate)?;
    for column in usize::try_from(present).unwrap_or(0)..columns {
        db.execute_batch(&format!("ALTER TABLE dynos_log ADD COLUMN c{column}")).map_err(translate)?;
    }
    Ok(())
}

fn triggers(table: &Table) -> Vec<String> {
    let everything: Vec<usize> = (0..table.columns.len()).collect();
    let name = |place: &usize| ident(&table.columns[*place].name);
    let of = |row: &str, places: &[usize]| list(places.iter().map(|place| format!("{row}.{}", name(place))));
    let note = |op: i64, places: &[usize], values: &str| {
        let columns = list(log_columns(places));
        format!("INSERT INTO dynos_log (tbl, op, at, {columns}) SELECT {}, {op}, {NOW}, {values}", table.n)
    };
    let inserted = note(INSERTED, &table.key, &of("NEW", &table.key));
    let updated = note(UPDATED, &everything, &of("OLD", &everything));
    let deleted = note(DELETED, &everything, &of("OLD", &everything));
    let key_moved =
        join(table.key.iter().map(|place| format!("NEW.{0} IS NOT OLD.{0}", name(place))), " OR ");
    let victims = format!(
        "{} FROM {} WHERE {}",
        note(MAY_BE_REPLACED, &everything, &of(&table.sql_name(), &everything)),
        table.sql_name(),
        victims(table)
    );
    let watched = idents(distinct_unique_columns(table));
    vec![
        trigger(table, "insert", "AFTER INSERT", &[&inserted]),
        trigger(table, "update", "AFTER UPDATE", &[&updated, &format!("{inserted} WHERE {key_moved}")]),
        trigger(table, "delete", "AFTER DELETE", &[&deleted]),
        trigger(table, "before_insert", "BEFORE INSERT", &[&victims]),
        trigger(table, "before_update", &format!("BEFORE UPDATE OF {watched}"), &[&victims]),
    ]
}

/// The rows that share the new row's value in some unique set of columns.
fn victims(table: &Table) -> String {
    let same = |(column, collation): &(String, String)| {
        let column = ident(column);
        format!("{}.{column} = NEW.{column} COLLATE {}", table.sql_name(), ident(collation))
    };
    let sets = table.description.uniques.iter().map(|set| format!("({})", all(set.iter().map(same))));
    join(sets, " OR ")
}

fn distinct_unique_columns(table: &Table) -> Vec<&String> {
    let mut columns: Vec<&String> =
        table.description.uniques.iter().flatten().map(|(column, _)| column).collect();
    columns.sort();
    columns.dedup();
    columns
}

fn trigger(table: &Table, kind: &str, event: &str, steps: &[&str]) -> String {
    format!(
        "CREATE TRIGGER {} {event} ON {} WHEN (SELECT capture FROM dynos_state) BEGIN {}; END",
        ident(&trigger_name(table.n, kind)),
        table.sql_name(),
        join(steps.iter(), "; ")
    )
}

/// Whether no trigger in the file is another's.
pub(crate) fn is_alone(db: &Connection) -> Result<bool> {
    let others =
        "SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name NOT LIKE 'dynos\\_%' ESCAPE '\\'";
    db.prepare(others).and_then(|mut others| others.exists([])).map(|any| !any).map_err(translate)
}

/// Whether a table's triggers are all in place, word for word.
///
/// # Errors
/// [`Corrupt`](dynos_sync_core::ReplicaError::Corrupt) where the schema lists one under another name: it could neither be used nor taken away.
pub(crate) fn installed(db: &Connection, table: &Table) -> Result<bool> {
    let sql =
        "SELECT type, name, sql FROM sqlite_schema WHERE sql GLOB 'CREATE TRIGGER \"dynos_' || ? || '_*'";
    let mut statement = db.prepare(sql).map_err(of_table)?;
    let listed = statement.query_map([table.n], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let listed: rusqlite::Result<Vec<(String, String, String)>> = listed.map_err(of_table)?.collect();
    let mut present = Vec::new();
    for (kind, name, sql) in listed.map_err(of_table)? {
        if kind != "trigger" || !sql.starts_with(&format!("CREATE TRIGGER {} ", ident(&name))) {
            return Err(damaged("sqlite_schema", format_args!("a trigger is listed as {kind} {name}")));
        }
        present.push(sql);
    }
    let mut wanted = triggers(table);
    present.sort();
    wanted.sort();
    Ok(present == wanted)
}
