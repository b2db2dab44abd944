//! Fields that the server has and a table has no columns for; and what becomes of them once it does.
//!
//! What is pulled goes into the columns that are there. Should the application add one later, of which the server had values all the time,
//! the rows do not have them: the table is pulled from the beginning again.

use std::collections::BTreeSet;

use dynos_sync_core::{
    Cursor, Fields, RecordKey, TableName, TableSpec,
    replica::Phase,
    sabotage::{Mutant, is_on},
    wire::Expired,
};

use crate::{
    commit::walk_again,
    error::{Result, damaged},
    listing::{self, Listed},
    queue, rows,
    session::Session,
    table::Table,
};

/// Stands for fields of which nobody has told: those of a snapshot, which has no more columns than the table.
pub(crate) const ANY: &str = "[\"*\"]";

/// Remembers fields that are left out.
pub(crate) fn leave_out(session: &Session<'_>, name: &TableName, fields: &BTreeSet<String>) -> Result<()> {
    let table = session.catalog.named(name)?;
    let known = names(listing::one(session.db, session.header.seal, table.n)?.left_out.as_deref())?;
    if fields.is_subset(&known) {
        return Ok(());
    }
    let all: BTreeSet<&String> = fields.union(&known).collect();
    listing::change(session.db, session.header.seal, table.n, "left_out = ?", [json(&all)?])
}

/// The columns that a table is walked again for.
pub(crate) fn gained(listed: &Listed) -> Result<BTreeSet<String>> {
    names(listed.gained.as_deref())
}

/// Begins to walk a table again where it has gained a column for what was left out.
pub(crate) fn note_gained(session: &mut Session<'_>, table: &Table) -> Result<()> {
    let listed = listing::one(session.db, session.header.seal, table.n)?;
    let new = new_columns(&listed, table)?;
    if new.is_empty() || listed.cursor.is_none() || !table.policy.pull || is_on(Mutant::LeftOutForgotten) {
        return Ok(());
    }
    let all: BTreeSet<String> = new.into_iter().chain(gained(&listed)?).collect();
    tracing::info!(table = %table.name(), columns = ?all, "the table is pulled again for its new columns");
    listing::change(session.db, session.header.seal, table.n, "gained = ?", [json(&all)?])?;
    let phase: Phase =
        serde_json::from_str(&listed.phase).map_err(|error| damaged("dynos_table.phase", error))?;
    let ahead = listed.ahead.or(listed.cursor).map(Cursor::new);
    walk_again(session, table, phase.after(&Expired::Purged), ahead.as_ref())
}

/// Columns that the table did not have, of which something may have been left out.
fn new_columns(listed: &Listed, table: &Table) -> Result<Vec<String>> {
    let Some(left_out) = listed.left_out.as_deref() else { return Ok(Vec::new()) };
    let left_out = names(Some(left_out))?;
    let before: TableSpec =
        serde_json::from_str(&listed.spec).map_err(|error| damaged("dynos_table.spec", error))?;
    let (before, any) = (before.field_names().unwrap_or_default(), left_out.contains("*"));
    let is_new = |name: &&str| !before.contains(name) && (any || left_out.contains(*name));
    Ok(table.spec.field_names().into_iter().flatten().filter(is_new).map(str::to_owned).collect())
}

/// The walk has ended: nothing of its columns is left out any more.
pub(crate) fn walked(session: &Session<'_>, table: &Table) -> Result<()> {
    let listed = listing::one(session.db, session.header.seal, table.n)?;
    if listed.gained.is_none() {
        return Ok(());
    }
    let mut left_out = names(listed.left_out.as_deref())?;
    let columns = table.column_names();
    left_out.retain(|name| !columns.contains(name));
    let set = "gained = NULL, left_out = ?";
    listing::change(session.db, session.header.seal, table.n, set, [json(&left_out)?])
}

/// Puts the server's values into a record with pending entries.
pub(crate) fn fill(session: &mut Session<'_>, key: &RecordKey, base: &Fields, row: &Fields) -> Result<()> {
    let table = session.catalog.named(&key.table)?;
    if let Some(mut record) = queue::base(session.db, session.header.seal, table.n, key.id.as_str())? {
        record.extend(base.clone());
        queue::set_base(session.db, session.header.seal, table.n, &key.id, Some(&record))?;
    }
    match rows::get(session.db, table, &key.id)? {
        Some(mut record) => {
            record.extend(row.clone());
            session.store(table, key, Some(&record))
        }
        None => Ok(()),
    }
}

fn names(list: Option<&str>) -> Result<BTreeSet<String>> {
    let read = |list| serde_json::from_str(list).map_err(|error| damaged("dynos_table", error));
    list.map_or(Ok(BTreeSet::new()), read)
}

fn json(names: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(names).map_err(|error| damaged("dynos_table", error))
}
