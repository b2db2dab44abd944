//! What planners and people get to see.

use std::collections::BTreeSet;

use dynos_sync_core::{
    Counter, Entry, Fields, RecordId, RecordKey, ReplicaError, TableName, measure,
    replica::{Due, DueLimits, Seen, State, TableState},
    sabotage::{Mutant, is_on},
};
use rusqlite::Connection;

use crate::{
    columns,
    error::{Result, damaged, translate},
    header::Header,
    letters,
    listing::{self, Listed},
    queue::{self, Head, Which},
    raw::raws,
    rows, schema,
    session::Session,
    table::Catalog,
    transaction,
};

/// The replica as a whole. Nothing in it is counted by walking the queue.
pub(crate) fn state(db: &Connection, catalog: &Catalog, header: &Header) -> Result<State> {
    let count = |sql: &str| -> Result<i64> {
        db.prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(translate)
    };
    let noted = "SELECT coalesce((SELECT max(seq) FROM dynos_log) - (SELECT min(seq) FROM dynos_log) + 1, 0)";
    Ok(State {
        replica: header.replica,
        generation: header.generation,
        server: header.server.clone(),
        clock: header.clock,
        last_counter: header.last_counter,
        last_sent: header.last_sent,
        schema: header.schema,
        tables: tables(db, catalog)?,
        pending: (header.pending + count(noted)?).max(0) as u64,
        dead_letters: count("SELECT count(*) FROM dynos_dead")? as u64,
        conflicts: count("SELECT count(*) FROM dynos_conflict")? as u64,
        quarantined: count("SELECT count(*) FROM dynos_quarantine")? as u64,
    })
}

fn tables(db: &Connection, catalog: &Catalog) -> Result<Vec<TableState>> {
    let state = |listed: Listed| {
        let table = catalog.numbered(listed.n)?;
        let phase = match serde_json::from_str(&listed.phase) {
            Ok(phase) => phase,
            Err(error) => return Some(Err(damaged("dynos_table.phase", error))),
        };
        let gained = match columns::gained(&listed) {
            Ok(gained) => gained,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(TableState {
            spec: table.spec.clone(),
            policy: table.policy.clone(),
            cursor: listed.cursor.map(dynos_sync_core::Cursor::new),
            ahead: listed.ahead.map(dynos_sync_core::Cursor::new),
            phase,
            declared: listed.declared,
            synced_at: listed.synced_at,
            gained,
        }))
    };
    listing::all(db, catalog.seal)?.into_iter().filter_map(state).collect()
}

pub(crate) fn get(db: &Connection, catalog: &Catalog, key: &RecordKey) -> Result<Option<Fields>> {
    let table = catalog.named(&key.table)?;
    let row = rows::select(db, table, &table.key_of(&key.id)?)?;
    row.map(|row| rows::whole(table, &row)).transpose()
}

/// Everything must have been collected.
pub(crate) fn records(
    session: &mut Session<'_>,
    table: &TableName,
    ids: &[RecordId],
    all: bool,
) -> Result<Vec<Seen>> {
    let catalog = session.catalog;
    let table = catalog.named(table)?;
    if session.header.pending == 0 && !all {
        return Ok(Vec::new());
    }
    let mut seen = Vec::new();
    for id in ids {
        let Pending { base, entries } = pending(session, table.n, id.as_str())?;
        if entries.is_empty() && !all {
            continue;
        }
        // An id that no key of this table has: the row cannot exist, and storing it will say so.
        let row = match table.key_of(id) {
            Ok(key) => rows::select(session.db, table, &key)?,
            Err(_) => None,
        };
        let row = row.map(|row| rows::record(table, &row)).transpose()?;
        seen.push(Seen { id: id.clone(), row, base, entries });
    }
    Ok(seen)
}

/// What is pending of a record.
#[derive(Default)]
struct Pending {
    /// The record before its first entry; not looked up where there is none.
    base: Option<Fields>,
    entries: Vec<Entry>,
}

/// What is pending of a record. Where some of it cannot be read any more it goes to the dead letters: a damaged entry is
/// reported, and holds up neither its record nor others.
fn pending(session: &mut Session<'_>, n: i64, id: &str) -> Result<Pending> {
    let entries = queue::of_record(session.db, session.catalog, n, id);
    let read = entries.and_then(|entries| match entries.is_empty() {
        true => Ok(Pending::default()),
        false => Ok(Pending { base: queue::base(session.db, session.header.seal, n, id)?, entries }),
    });
    match read {
        Err(ReplicaError::Corrupt(what)) => {
            tracing::error!(what, "a queued edit cannot be read and goes to the dead letters");
            letters::bury_damaged(session, n, id)?;
            Ok(Pending::default())
        }
        read => read,
    }
}

/// Everything must have been collected, and the waiting records released.
pub(crate) fn due(session: &mut Session<'_>, limits: &DueLimits) -> Result<Due> {
    let next_retry = queue::next_retry(session.db)?;
    let mut groups = match limits.under_way {
        0 => groups(session, Which::Sent, limits)?,
        under_way if queue::sent(session.db)? > under_way => {
            return Ok(Due { groups: Vec::new(), next_retry });
        }
        _ => Vec::new(),
    };
    schema::as_sent(session, &mut groups)?;
    if groups.is_empty() {
        groups = self::groups(session, Which::Ready, limits)?;
    }
    Ok(Due { groups, next_retry })
}

fn groups(session: &mut Session<'_>, which: Which, limits: &DueLimits) -> Result<Vec<Vec<Entry>>> {
    let (mut groups, mut bytes, mut after) = (Vec::new(), 0, 0);
    let mut transactions = BTreeSet::new();
    loop {
        let heads = queue::heads(session.db, which, after, session.header.fresh, limits.records)?;
        if which == Which::Ready && after == 0 {
            note_fresh(session, &heads, limits.records);
        }
        let Some(last) = heads.last() else { return Ok(groups) };
        after = last.counter;
        for head in heads {
            let unit = match head.transaction(session.header.seal) {
                None => alone(session, which, head)?,
                Some(transaction) if !transactions.insert(transaction) => continue,
                Some(transaction) => together(session, which, transaction)?,
            };
            bytes += unit.iter().flatten().map(size).sum::<usize>();
            let is_full = bytes > limits.bytes || groups.len() + unit.len() > limits.records;
            if is_full && !groups.is_empty() {
                return Ok(groups);
            }
            // Of a table that was dropped, and of a damaged record, there are none: others take the place.
            groups.extend(unit);
            if groups.len() >= limits.records {
                return Ok(groups);
            }
        }
    }
}

/// What is sent of a record; none where what there is cannot be sent.
fn alone(session: &mut Session<'_>, which: Which, head: Head) -> Result<Vec<Vec<Entry>>> {
    let counter = head.counter;
    let mut group = of_head(session, head)?;
    if group.is_empty() {
        set_aside(session, counter)?;
        return Ok(Vec::new());
    }
    match which {
        Which::Sent => group.retain(|entry| entry.sent.is_some()),
        Which::Ready => group.truncate(Entry::first_group(&group)),
    }
    Ok(vec![group])
}

/// What is sent of a transaction: all, or nothing while one of its records waits. Where some of it was sent, that is asked about in any case.
fn together(session: &mut Session<'_>, which: Which, transaction: Counter) -> Result<Vec<Vec<Entry>>> {
    let (mut groups, mut is_ready) = (Vec::new(), true);
    for (n, id) in transaction::records(session.db, transaction)? {
        let mut entries = pending(session, n, &id)?.entries;
        let Some(first) = entries.first() else {
            // It was damaged, and is gone; or its table is.
            is_ready &= queue::newest(session.db, n, &id)?.is_none();
            continue;
        };
        if first.transaction != Some(transaction) {
            is_ready = false;
            continue;
        }
        is_ready &= first.retry_at.is_none();
        let size = if first.sent.is_some() { 1 } else { Entry::first_group(&entries) };
        entries.truncate(size);
        groups.push(entries);
    }
    let is_sent = |group: &Vec<Entry>| group[0].sent.is_some();
    match which {
        _ if is_on(Mutant::TransactionTornApart) => groups.truncate(1),
        Which::Sent if !is_ready => groups.retain(is_sent),
        Which::Ready if !is_ready => {
            transaction::block(session.db, transaction)?;
            groups.clear();
        }
        Which::Ready if groups.iter().any(is_sent) => groups.clear(),
        Which::Sent | Which::Ready => {}
    }
    Ok(groups)
}

/// Remembers where the first ready entry stands, so that what is before it is not looked through again.
fn note_fresh(session: &mut Session<'_>, heads: &[Head], limit: usize) {
    match heads.iter().find(|head| head.is_fresh) {
        Some(first) => session.header.fresh = first.counter as Counter,
        None if heads.len() < limit => session.header.fresh = session.header.last_counter + 1,
        None => {}
    }
}

/// The entries of a record, by its oldest.
fn of_head(session: &mut Session<'_>, head: Head) -> Result<Vec<Entry>> {
    let Some(raw) = head.raw else { return Ok(Vec::new()) };
    if head.has_more || !raw.is_intact(session.header.seal) {
        return Ok(pending(session, raw.tbl, &raw.id)?.entries);
    }
    let (n, id) = (raw.tbl, raw.id.clone());
    match raw.check(session.catalog) {
        Ok(entry) => Ok(entry.into_iter().collect()),
        // It says of itself that it is as it was written, and yet cannot be read.
        Err(ReplicaError::Corrupt(_)) => Ok(pending(session, n, &id)?.entries),
        Err(error) => Err(error),
    }
}

/// An entry of which its record knows nothing: of a table that was dropped, and then it waits; or damaged in what says of
/// which record it is.
fn set_aside(session: &mut Session<'_>, counter: i64) -> Result<()> {
    let found = raws(session.db, "WHERE counter = ?", [counter])?.pop();
    let intact = found.map(|(_, raw)| raw.and_then(|raw| raw.check(session.catalog)).map(drop));
    match intact {
        Some(Err(ReplicaError::Corrupt(what))) => {
            tracing::error!(what, "a queued edit cannot be read and goes to the dead letters");
            letters::bury_entry(session, counter)
        }
        _ => queue::keep_for_later(session.db, counter),
    }
}

/// The queue from after a counter on. What of it cannot be read goes to the dead letters.
pub(crate) fn queue(session: &mut Session<'_>, after: Counter, limit: usize) -> Result<Vec<Entry>> {
    let (after, limit) = (after as i64, limit as i64);
    let found = raws(session.db, "WHERE counter > ? ORDER BY counter LIMIT ?", [after, limit])?;
    let mut entries = Vec::new();
    for (counter, raw) in found {
        let record = raw.as_ref().map(|raw| (raw.tbl, raw.id.clone())).ok();
        match raw.and_then(|raw| raw.check(session.catalog)) {
            Err(ReplicaError::Corrupt(_)) => {
                if let Some((n, id)) = record {
                    pending(session, n, &id)?;
                }
                set_aside(session, counter)?;
            }
            read => entries.extend(read?),
        }
    }
    Ok(entries)
}

fn size(entry: &Entry) -> usize {
    entry.edit.fields().and_then(|fields| measure(fields).ok()).unwrap_or(0)
}
