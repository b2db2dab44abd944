//! A record's row.

use dynos_sync_core::{
    Counter, Fields, Millis, RecordId, ReplicaId, Seq, plan::admit::LastChange, wire::PushEntry,
};
use rusqlite::{Connection, OptionalExtension as _};

use super::catalog::WriterId;
use crate::store::StoreError;

/// A record as it is kept.
#[derive(Debug)]
pub(super) struct Stored {
    seq: Seq,
    writer: WriterId,
    counter: Counter,
    data: Option<String>,
}

impl Stored {
    /// Its last change, as the replica sees it that is the database's writer number `us`.
    ///
    /// Another user may name the same replica id. That is somebody else all the same: if their changes of a
    /// shared record were taken for ours, ours would overwrite them unseen.
    pub(super) fn last(&self, us: WriterId, replica: ReplicaId) -> LastChange {
        let [one, two] = [1, 2].map(|byte| ReplicaId::from_random([byte; 16]));
        let stranger = if replica == one { two } else { one };
        let writer = if self.writer == us { replica } else { stranger };
        LastChange { seq: self.seq, writer, counter: self.counter }
    }

    /// Its fields; `None` for a tombstone.
    pub(super) fn fields(&self) -> Result<Option<Fields>, StoreError> {
        let parse = |data: &String| serde_json::from_str(data);
        self.data
            .as_ref()
            .map(parse)
            .transpose()
            .map_err(|_| StoreError::Corrupt("a record's data".to_owned()))
    }

    /// The size of its data, in bytes.
    pub(super) fn size(&self) -> usize {
        self.data.as_ref().map_or(0, String::len)
    }
}

/// Looks a record up.
pub(super) fn find(conn: &Connection, table: i64, id: &RecordId) -> Result<Option<Stored>, StoreError> {
    let mut find =
        conn.prepare_cached("SELECT seq, writer, counter, data FROM records WHERE tbl = ?1 AND id = ?2")?;
    let stored = |row: &rusqlite::Row<'_>| {
        Ok(Stored { seq: row.get(0)?, writer: row.get(1)?, counter: row.get(2)?, data: row.get(3)? })
    };
    Ok(find.query_row((table, id.as_str()), stored).optional()?)
}

/// Writes a change.
pub(super) fn write(
    conn: &Connection,
    table: i64,
    entry: &PushEntry,
    seq: Seq,
    writer: WriterId,
    now: Millis,
    after: Option<Fields>,
) -> Result<(), StoreError> {
    let data = after.map(|fields| serde_json::to_string(&fields)).transpose();
    let data = data.map_err(|_| StoreError::Corrupt("BUG: a record cannot be written as JSON".to_owned()))?;
    conn.prepare_cached(
        "INSERT INTO records (tbl, id, seq, writer, counter, at, stored, data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (tbl, id) DO UPDATE SET seq = excluded.seq, writer = excluded.writer,
             counter = excluded.counter, at = excluded.at, stored = excluded.stored, data = excluded.data",
    )?
    .execute((table, entry.id.as_str(), seq, writer, entry.counter, entry.at, now, data))?;
    Ok(())
}
