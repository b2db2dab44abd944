//! Looking after the queue when a database is opened: what SQLite itself does not notice would be passed over in silence.
//!
//! An entry is found by an index. Where an index lost its place for it, the entry would wait for ever, and nobody would
//! know; where the entry is lost and its place is not, nobody would know that either.

use std::collections::{BTreeMap, BTreeSet};

use dynos_sync_core::ReplicaError;
use rusqlite::Connection;

use crate::{
    error::{Result, damaged, translate},
    header::Header,
    letters, queue,
    raw::raws,
    rows,
    session::Session,
    tag::tag,
    writer::Writer,
};

impl Writer {
    /// A queue that is longer is not looked through: opening a database is to take no time.
    const LOOKED_THROUGH: i64 = 3000;

    /// Compares the queue with its indexes, and makes them anew where they differ.
    ///
    /// # Errors
    /// [`ReplicaError::Corrupt`] where more is damaged than that: whatever was written to such a file might take what can
    /// still be read with it.
    pub(crate) fn mend(&mut self) -> Result<()> {
        if !self.at_one_moment(|db| differs(db, Self::LOOKED_THROUGH))? {
            return Ok(());
        }
        tracing::error!("the queue and its indexes differ: they are made anew");
        self.transaction(|session| {
            only_indexes(session.db)?;
            renew(session)
        })
    }
}

fn differs(db: &Connection, looked_through: i64) -> Result<bool> {
    let header = Header::read(db)?;
    Ok(header.pending <= looked_through && fault(db, &header)?.is_some())
}

/// Looks through the whole file.
fn only_indexes(db: &Connection) -> Result<()> {
    let mut statement = db.prepare("PRAGMA integrity_check").map_err(translate)?;
    let mut rows = statement.query([]).map_err(translate)?;
    while let Some(row) = rows.next().map_err(translate)? {
        let verdict: String = row.get(0).map_err(translate)?;
        let index = verdict.starts_with("wrong # of entries in index dynos_queue_")
            || (verdict.starts_with("row ") && verdict.contains(" missing from index dynos_queue_"));
        if verdict != "ok" && !index {
            return Err(damaged("dynos_queue", verdict));
        }
    }
    Ok(())
}

/// What fault there is with the queue: found by SQLite, or by comparing it with what the header says of it.
fn fault(db: &Connection, header: &Header) -> Result<Option<String>> {
    let verdict = db.query_row("PRAGMA integrity_check(dynos_queue)", [], |row| row.get::<_, String>(0));
    match verdict.map_err(translate) {
        Ok(verdict) if verdict != "ok" => Ok(Some(verdict)),
        Ok(_) => {
            let counted = count(db)?;
            let right = counted.0 == header.pending && counted.1 <= header.last_counter as i64;
            Ok(match () {
                () if !right => Some("it is not as long as it should be".to_owned()),
                () if !are_heads_right(db, header)? => {
                    Some("it is not known which entries are the oldest".to_owned())
                }
                () => None,
            })
        }
        Err(ReplicaError::Corrupt(what)) => Ok(Some(what)),
        Err(error) => Err(error),
    }
}

/// Whether each record has one oldest entry, and none that is ready would be passed over. No index says so.
fn are_heads_right(db: &Connection, header: &Header) -> Result<bool> {
    let sql = "SELECT (SELECT count(*) FROM (SELECT DISTINCT tbl, id FROM dynos_queue)) \
                    = (SELECT count(*) FROM dynos_queue NOT INDEXED WHERE head IN (1, 2) OR (head = 3 AND txn IS NOT NULL)) \
               AND NOT EXISTS (SELECT 1 FROM dynos_queue NOT INDEXED \
                               WHERE counter < ? AND head = 1 AND sent = 0 AND retry_at IS NULL)";
    db.query_row(sql, [header.fresh as i64], |row| row.get(0)).map_err(translate)
}

fn renew(session: &mut Session<'_>) -> Result<()> {
    // An index that cannot be read itself says nothing of what was lost.
    let listed = listed(session.db).unwrap_or_default();
    session.db.execute_batch("REINDEX dynos_queue").map_err(translate)?;
    // Otherwise it is the index that is of an earlier time, and knows what was settled since.
    let is_short = count(session.db)?.0 < session.header.pending;
    let mut lost = BTreeMap::new();
    for (counter, of) in listed {
        let is_lost = match raws(session.db, "WHERE counter = ?", [counter])?.pop() {
            // Or it was appended last, and the queue alone said so.
            None => is_short || counter as u64 > session.header.last_counter,
            Some((_, Ok(raw))) => tag(raw.tbl, &raw.id) != of && !raw.is_intact(session.header.seal),
            Some((_, Err(_))) => true,
        };
        if is_lost {
            session.db.execute("DELETE FROM dynos_queue WHERE counter = ?", [counter]).map_err(translate)?;
            lost.insert(of, counter);
        }
    }
    queue::tag_all(session.db)?;
    // The index knows of which records they were. What else is queued of these was made on top of what is lost.
    for (n, id) in records_of(session, &lost)? {
        letters::bury_damaged(session, n, &id)?;
        lost.remove(&tag(n, &id));
    }
    for counter in lost.into_values() {
        letters::bury_entry(session, counter)?;
    }
    let oldest = "UPDATE dynos_queue SET head = 2 * (counter = \
                  (SELECT min(first.counter) FROM dynos_queue AS first WHERE first.tbl = dynos_queue.tbl AND first.id = dynos_queue.id))";
    session.db.execute(oldest, []).map_err(translate)?;
    let (pending, last) = count(session.db)?;
    session.header.pending = pending;
    session.header.last_counter = session.header.last_counter.max(last as u64);
    match fault(session.db, &session.header)? {
        Some(fault) => Err(damaged("dynos_queue", fault)),
        None => Ok(()),
    }
}

/// How many entries there are, and the highest counter.
fn count(db: &Connection) -> Result<(i64, i64)> {
    let sql = "SELECT count(*), coalesce(max(counter), 0) FROM dynos_queue NOT INDEXED";
    db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(translate)
}

/// The entries that the index of records knows, and of which records they are, by their tags.
fn listed(db: &Connection) -> Result<Vec<(i64, i64)>> {
    let sql = "SELECT counter, tag FROM dynos_queue INDEXED BY dynos_queue_tag";
    let mut statement = db.prepare(sql).map_err(translate)?;
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(translate)?;
    found.collect::<rusqlite::Result<_>>().map_err(translate)
}

/// The records that have these tags: those that are there, those that were when their first edit was queued, and those of which other edits
/// are queued. (One that was made and deleted before any of it was sent is none of these.)
fn records_of(session: &Session<'_>, tags: &BTreeMap<i64, i64>) -> Result<BTreeSet<(i64, String)>> {
    let mut found = BTreeSet::new();
    if tags.is_empty() {
        return Ok(found);
    }
    let mut look = |n: i64, id: &str| {
        if tags.contains_key(&tag(n, id)) {
            found.insert((n, id.to_owned()));
        }
    };
    for table in session.catalog.all() {
        rows::for_each_id(session.db, table, |id| {
            look(table.n, id.as_str());
            Ok(())
        })?;
    }
    let sql = "SELECT tbl, id FROM dynos_base UNION ALL SELECT tbl, id FROM dynos_queue NOT INDEXED";
    let mut statement = session.db.prepare(sql).map_err(translate)?;
    let mut rows = statement.query([]).map_err(translate)?;
    while let Some(row) = rows.next().map_err(translate)? {
        if let (Ok(n), Ok(id)) = (row.get(0), row.get::<_, String>(1)) {
            look(n, &id);
        }
    }
    Ok(found)
}
