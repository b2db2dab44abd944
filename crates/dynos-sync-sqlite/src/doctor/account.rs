//! What is kept of one record, read and nothing else: nothing is collected, and what is damaged stays where it is.

use dynos_sync_core::{
    RecordKey, ReplicaError,
    doctor::{Account, Noted},
};
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use crate::{
    error::{Result, translate},
    header::Header,
    letters, queue,
    raw::raws,
    rows,
    sql::all,
    table::{Catalog, Table},
    value::Cell,
};

pub(crate) fn account(
    db: &Connection,
    catalog: &Catalog,
    header: &Header,
    key: &RecordKey,
) -> Result<Account> {
    let table = catalog.named(&key.table)?;
    let (n, id) = (table.n, key.id.as_str());
    let mut account = Account::empty(key.clone());
    // An id that no key of this table has: there is no such row.
    if let Ok(cells) = table.key_of(&key.id) {
        let row = rows::select(db, table, &cells)?;
        account.row = row.map(|row| rows::record(table, &row)).transpose()?;
        account.noted = noted(db, table, &cells)?;
    }
    account.entries = queue::intact_of_record(db, catalog, n, id)?;
    let found = raws(db, "WHERE tbl = ? AND id = ? ORDER BY counter", params![n, id])?;
    let is_damaged =
        |raw: &Result<crate::raw::Raw>| raw.as_ref().map_or(true, |raw| !raw.is_intact(header.seal));
    account.damaged = found.iter().filter(|(_, raw)| is_damaged(raw)).count() as u64;
    match queue::base(db, header.seal, n, id) {
        Ok(base) => account.base = base,
        Err(ReplicaError::Corrupt(_)) => account.damaged += 1,
        Err(error) => return Err(error),
    }
    account.letters = letters::of_record(db, catalog, n, id)?;
    account.conflicts = letters::conflicts_of(db, header.seal, n, key)?;
    let quarantine = "SELECT error FROM dynos_quarantine WHERE tbl = ? AND id = ?";
    account.quarantine =
        db.query_row(quarantine, params![n, id], |row| row.get(0)).optional().map_err(translate)?;
    let local = "SELECT EXISTS (SELECT 1 FROM dynos_local WHERE tbl = ? AND id = ?)";
    account.never_offered = db.query_row(local, params![n, id], |row| row.get(0)).map_err(translate)?;
    Ok(account)
}

/// What the triggers have noted of a row.
fn noted(db: &Connection, table: &Table, key: &[Cell]) -> Result<Option<Noted>> {
    let mut conditions = Vec::new();
    for place in &table.key {
        let name = &table.columns[*place].name;
        // A column that the triggers in place do not note: they are put right where the database is opened.
        let Some(captured) = table.captured.iter().position(|captured| captured == name) else {
            return Ok(None);
        };
        conditions.push(format!("c{captured} IS ?"));
    }
    let sql = format!("SELECT count(*), max(at) FROM dynos_log WHERE {} AND tbl = ?", all(conditions));
    let values: Vec<&dyn ToSql> =
        key.iter().map(|cell| cell as &dyn ToSql).chain([&table.n as &dyn ToSql]).collect();
    let (changes, at): (i64, Option<i64>) =
        db.query_row(&sql, values.as_slice(), |row| Ok((row.get(0)?, row.get(1)?))).map_err(translate)?;
    Ok(at.map(|at| Noted { changes: changes as u64, at }))
}
