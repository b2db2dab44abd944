//! Forgetting what nobody needs any more.

use dynos_sync_core::Millis;
use rusqlite::Connection;

use super::Rules;
use crate::store::{Purged, StoreError, before};

/// How many rows of a kind one transaction forgets: a push that waits for it should not notice.
const CHUNK: usize = 1000;

/// Forgets a chunk of each kind.
pub(super) fn purge(conn: &Connection, rules: &Rules, now: Millis) -> Result<Purged, StoreError> {
    let tombstones = tombstones(conn, before(now, rules.retention.tombstones))?;
    let outcomes = conn
        .prepare_cached(
            "DELETE FROM outcomes WHERE (writer, counter) IN
                 (SELECT writer, counter FROM outcomes WHERE stored < ?1 ORDER BY stored LIMIT ?2)",
        )?
        .execute((before(now, rules.retention.outcomes), CHUNK))?;
    Ok(Purged { tombstones, outcomes, more: tombstones == CHUNK || outcomes == CHUNK })
}

/// A cursor that is older than a forgotten tombstone cannot be continued from: the table keeps its seq.
fn tombstones(conn: &Connection, before: Millis) -> Result<usize, StoreError> {
    let mut dead = conn.prepare_cached(
        "SELECT rowid, tbl, seq FROM records WHERE data IS NULL AND stored < ?1 ORDER BY stored LIMIT ?2",
    )?;
    let dead: Result<Vec<(i64, i64, u64)>, _> =
        dead.query_map((before, CHUNK), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect();
    let dead = dead?;
    let mut note = conn.prepare_cached("UPDATE tables SET purged = max(purged, ?2) WHERE tbl = ?1")?;
    let mut forget = conn.prepare_cached("DELETE FROM records WHERE rowid = ?1")?;
    for (row, table, seq) in &dead {
        note.execute((table, seq))?;
        forget.execute([row])?;
    }
    Ok(dead.len())
}
