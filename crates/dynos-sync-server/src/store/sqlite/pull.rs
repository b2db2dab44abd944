//! Reading: where histories end, and pages of changes.

use std::collections::{BTreeMap, BTreeSet};

use dynos_sync_core::{
    Cursor, RecordId, Seq, TableName,
    sabotage::{Mutant, is_on},
    wire::{Expired, Heads, HeadsRequest, PullRequest},
};
use rusqlite::{Connection, Row};
use serde_json::value::RawValue;

use super::{
    Rules,
    catalog::{self, Table, WriterId},
    history::{self, Standing},
    outcome,
};
use crate::store::{Caller, Change, Page, StoreError, cursor::Position};

/// Where the tables' histories end. A table that nobody declared is at the beginning of its own.
pub(super) fn heads(
    conn: &Connection,
    rules: &Rules,
    caller: &Caller,
    request: &HeadsRequest,
) -> Result<Heads, StoreError> {
    if request.tables.len() > HeadsRequest::MAX_TABLES {
        let (asked, limit) = (request.tables.len(), HeadsRequest::MAX_TABLES);
        return Err(StoreError::Invalid(format!("{asked} tables, the limit is {limit}")));
    }
    let head = |name: &TableName| match catalog::table(conn, &rules.scope(caller, name), name)? {
        Some(table) => history::cursor(conn, table.scope, table.head),
        None => history::zero(conn),
    };
    let heads: Result<_, StoreError> =
        request.tables.iter().map(|name| Ok((name.clone(), head(name)?))).collect();
    let known = catalog::writer(conn, &rules.user(caller), request.replica)?;
    let server = conn.query_row("SELECT server FROM meta", [], |row| row.get(0))?;
    Ok(Heads { server, last_counter: known.map_or(0, |(_, counter)| counter), heads: heads? })
}

/// A page of changes. Everything in it is of one moment.
pub(super) fn pull(
    conn: &Connection,
    rules: &Rules,
    caller: &Caller,
    request: &PullRequest,
) -> Result<Page, StoreError> {
    if request.unsettled.len() > rules.push_entries {
        let (asked, limit) = (request.unsettled.len(), rules.push_entries);
        return Err(StoreError::TooLarge(format!("{asked} unsettled counters, the limit is {limit}")));
    }
    let us = catalog::writer(conn, &rules.user(caller), request.replica)?.map(|(writer, _)| writer);
    let table = find(conn, rules, caller, &request.table)?;
    let (after, floor) = start(conn, &table, request)?;
    let (changes, has_more) = changes(conn, rules, &table, us, after, request)?;
    let end = changes.last().filter(|_| has_more).map(|last| last.seq);
    let next = match end {
        Some(seq) => history::cursor_within(conn, table.scope, seq, floor, table.head)?,
        None => history::cursor(conn, table.scope, table.head)?,
    };
    let settled =
        us.map(|us| outcome::settled(conn, us, &request.unsettled, end)).transpose()?.unwrap_or_default();
    let total =
        (has_more && request.cursor.is_none()).then(|| count(conn, &table, us, request)).transpose()?;
    Ok(Page { changes, settled, next, has_more, total })
}

/// How many changes a walk from the beginning lists.
fn count(
    conn: &Connection,
    table: &Table,
    us: Option<WriterId>,
    request: &PullRequest,
) -> Result<u64, StoreError> {
    // Without the last writer an index says it.
    let sql = match us.filter(|_| !request.all) {
        None => "SELECT count(*) FROM records WHERE tbl = ?1 AND ?2 IS NULL",
        Some(_) => "SELECT count(*) FROM records WHERE tbl = ?1 AND writer IS NOT ?2",
    };
    let passed_over = us.filter(|_| !request.all);
    Ok(conn.prepare_cached(sql)?.query_row((table.id, passed_over), |row| row.get(0))?)
}

/// The table; an empty one where nobody declared it, so that a cursor from before a restore is judged all the same.
fn find(conn: &Connection, rules: &Rules, caller: &Caller, name: &TableName) -> Result<Table, StoreError> {
    let scope = rules.scope(caller, name);
    if let Some(table) = catalog::table(conn, &scope, name)? {
        return Ok(table);
    }
    let spec = dynos_sync_core::TableSpec::document(name.clone());
    // No row has a negative number.
    let scope = catalog::scope(conn, &scope)?.map_or(-1, |(scope, _)| scope);
    Ok(Table { id: -1, scope, spec, head: 0, purged: 0 })
}

/// The tables of whose history the caller has seen more than there is.
pub(super) fn lost(
    conn: &Connection,
    rules: &Rules,
    caller: &Caller,
    seen: &BTreeMap<TableName, Cursor>,
) -> Result<BTreeSet<TableName>, StoreError> {
    let mut lost = BTreeSet::new();
    for (name, cursor) in seen {
        match history::judge(conn, &find(conn, rules, caller, name)?, cursor)? {
            Standing::Expired(Expired::RolledBack { .. }) => {
                lost.insert(name.clone());
            }
            Standing::Valid(_) | Standing::Expired(Expired::Purged) => {}
            Standing::Malformed => return Err(malformed()),
        }
    }
    Ok(lost)
}

fn malformed() -> StoreError {
    StoreError::Invalid("the cursor is not one of this server's".to_owned())
}

/// After which seq the page starts, and the floor of the walk that it belongs to.
fn start(conn: &Connection, table: &Table, request: &PullRequest) -> Result<(Seq, Seq), StoreError> {
    let judge = |cursor: &Cursor| history::judge(conn, table, cursor);
    let standing = request.cursor.as_ref().map(judge).transpose()?;
    let lost_more = matches!(standing, Some(Standing::Expired(Expired::RolledBack { .. })));
    if let Some(seen) = request.seen.as_ref().filter(|_| !lost_more) {
        match judge(seen)? {
            Standing::Valid(_) | Standing::Expired(Expired::Purged) => {}
            Standing::Expired(Expired::RolledBack { common, .. }) => {
                return Err(StoreError::Expired(own_lost(request.cursor.as_ref(), common)));
            }
            Standing::Malformed => return Err(malformed()),
        }
    }
    match standing {
        None => Ok((0, table.purged)),
        Some(Standing::Valid(position)) => Ok((position.seq, position.floor)),
        Some(Standing::Expired(expired)) => Err(StoreError::Expired(expired)),
        Some(Standing::Malformed) => Err(malformed()),
    }
}

/// What the caller has pushed is lost beyond `own`. Of others' changes it has seen those up to its cursor.
fn own_lost(cursor: Option<&Cursor>, own: Seq) -> Expired {
    let common = cursor.and_then(Position::parse).map_or(0, |position| position.seq).min(own);
    Expired::RolledBack { common, own: (own > common).then_some(own) }
}

/// At least one change, where there is one, and then as many as fit.
fn changes(
    conn: &Connection,
    rules: &Rules,
    table: &Table,
    us: Option<WriterId>,
    after: Seq,
    request: &PullRequest,
) -> Result<(Vec<Change>, bool), StoreError> {
    let limit = request.limit.clamp(1, rules.page_changes.max(1));
    let passed_over = us.filter(|_| !request.all);
    let mut find = conn.prepare_cached(
        "SELECT id, seq, at, writer IS ?3, data FROM records
         WHERE tbl = ?1 AND seq > ?2 AND writer IS NOT ?4 ORDER BY seq LIMIT ?5",
    )?;
    let mut rows = find.query((table.id, after, us, passed_over, limit + 1))?;
    let (mut changes, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (change, size) = change(row, request.all)?;
        if change.record.is_none() && is_on(Mutant::TombstonesLost) {
            continue;
        }
        bytes += size;
        if changes.len() == limit || (bytes > rules.page_bytes && !changes.is_empty()) {
            return Ok((changes, true));
        }
        changes.push(change);
    }
    Ok((changes, false))
}

fn change(row: &Row<'_>, all: bool) -> Result<(Change, usize), StoreError> {
    let corrupt = || StoreError::Corrupt("a record".to_owned());
    let id = RecordId::try_from(row.get::<_, String>(0)?).map_err(|_| corrupt())?;
    let data: Option<String> = row.get(4)?;
    let size = id.as_str().len() + data.as_ref().map_or(0, String::len);
    let record = data.map(RawValue::from_string).transpose().map_err(|_| corrupt())?;
    let own = all && row.get::<_, bool>(3)?;
    Ok((Change { id, seq: row.get(1)?, at: row.get(2)?, own, record }, size))
}
