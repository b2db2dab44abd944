//! Entries that take effect together: which are whole and ready, and what becomes of them where one is replaced.

use std::collections::BTreeSet;

use dynos_sync_core::{
    Counter, Entry, RecordId,
    sabotage::{Mutant, is_on},
};
use rusqlite::{Connection, params};

use crate::{
    error::{Result, translate},
    queue::transactions_of,
    raw::raws,
    sum::Seal,
    tag::of,
};

/// The records that a transaction is about.
pub(crate) fn records(db: &Connection, transaction: Counter) -> Result<Vec<(i64, String)>> {
    let sql = "SELECT tbl, id FROM dynos_queue INDEXED BY dynos_queue_txn WHERE txn = ? GROUP BY tbl, id ORDER BY min(counter)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    let rows =
        statement.query_map([transaction as i64], |row| Ok((row.get(0)?, row.get(1)?))).map_err(translate)?;
    rows.collect::<rusqlite::Result<_>>().map_err(translate)
}

/// Leaves a transaction out of what is looked through for what is ready. One of its records will say so when it is.
pub(crate) fn block(db: &Connection, transaction: Counter) -> Result<()> {
    let sql = "UPDATE dynos_queue INDEXED BY dynos_queue_txn SET head = 3 WHERE txn = ? AND head IN (1, 2)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    statement.execute([transaction as i64]).map(drop).map_err(translate)
}

/// Has a transaction looked at again.
pub(crate) fn unblock(db: &Connection, transaction: Counter) -> Result<()> {
    let sql = "UPDATE dynos_queue INDEXED BY dynos_queue_txn SET head = 2 WHERE txn = ? AND head = 3";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    statement.execute([transaction as i64]).map(drop).map_err(translate)
}

/// As [`unblock`], for that of a record's oldest entry.
pub(crate) fn unblock_of(db: &Connection, n: i64, id: &RecordId) -> Result<()> {
    let sql = "UPDATE dynos_queue INDEXED BY dynos_queue_txn SET head = 2 WHERE head = 3 AND txn = \
         (SELECT txn FROM dynos_queue WHERE tag = ? AND tbl = ? AND id = ? ORDER BY counter LIMIT 1)";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    statement.execute(of![n, id.as_str()]).map(drop).map_err(translate)
}

pub(crate) fn is_any_blocked(db: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM dynos_queue INDEXED BY dynos_queue_txn WHERE txn IS NOT NULL AND head = 3";
    db.prepare(sql).and_then(|mut statement| statement.exists([])).map_err(translate)
}

/// Has all transactions looked at again.
pub(crate) fn unblock_all(db: &Connection) -> Result<()> {
    let sql = "UPDATE dynos_queue INDEXED BY dynos_queue_txn SET head = 2 WHERE txn IS NOT NULL AND head = 3";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    statement.execute([]).map(drop).map_err(translate)
}

/// The transaction of what takes the place of some entries of a record, which were taken out: all of theirs become one. It comes instead of
/// the last of them, so those in between become a part of it too, or each could wait for the other.
pub(crate) fn join(db: &Connection, seal: Seal, gone: &[Entry]) -> Result<Option<Counter>> {
    let theirs = transactions_of(gone);
    let (Some(first), Some(last)) = (theirs.first().copied(), theirs.last().copied()) else {
        return Ok(None);
    };
    if is_on(Mutant::TransactionTornApart) {
        return Ok(None);
    }
    if first < last {
        let sent =
            among(db, "INDEXED BY dynos_queue_sent WHERE sent = 1 AND txn BETWEEN ? AND ?", first, last)?;
        let between = among(db, "INDEXED BY dynos_queue_txn WHERE txn BETWEEN ? AND ?", first, last)?;
        let is_part = |transaction: &Counter| theirs.contains(transaction) || !sent.contains(transaction);
        let parts: BTreeSet<Counter> = between.into_iter().filter(is_part).collect();
        let mut touched = BTreeSet::new();
        for part in &parts {
            touched.extend(records(db, *part)?);
        }
        for (n, id) in touched {
            merge(db, seal, (n, &id), &parts, last)?;
        }
    }
    Ok(Some(last))
}

fn among(db: &Connection, which: &str, first: Counter, last: Counter) -> Result<BTreeSet<Counter>> {
    let mut statement =
        db.prepare_cached(&format!("SELECT DISTINCT txn FROM dynos_queue {which}")).map_err(translate)?;
    let rows = statement.query_map([first as i64, last as i64], |row| row.get(0)).map_err(translate)?;
    let found: rusqlite::Result<BTreeSet<i64>> = rows.collect();
    Ok(found.map_err(translate)?.into_iter().map(|transaction| transaction as Counter).collect())
}

/// Makes a record's entries from the first to the last of some transactions a part of one, unsent.
fn merge(
    db: &Connection,
    seal: Seal,
    (n, id): (i64, &str),
    parts: &BTreeSet<Counter>,
    into: Counter,
) -> Result<()> {
    let sql = "UPDATE dynos_queue SET txn = ?, sent = 0, base = NULL, head = 2 * (head > 0), sum = ? WHERE counter = ?";
    let mut statement = db.prepare_cached(sql).map_err(translate)?;
    // What cannot be read stays as it is, to be set aside when it is its turn.
    let found = raws(db, "WHERE tag = ? AND tbl = ? AND id = ? ORDER BY counter", of![n, id])?;
    let found: Vec<_> = found.into_iter().filter_map(|(_, raw)| raw.ok()).collect();
    let is_part =
        |raw: &crate::raw::Raw| raw.transaction.is_some_and(|txn| parts.contains(&(txn as Counter)));
    let Some(begin) = found.iter().position(is_part) else { return Ok(()) };
    let end = found.iter().rposition(is_part).unwrap_or(begin);
    for raw in found.into_iter().take(end + 1).skip(begin) {
        let counter = raw.counter;
        let raw = raw.within(seal, into as i64);
        statement.execute(params![raw.transaction, raw.sum, counter]).map_err(translate)?;
    }
    Ok(())
}
