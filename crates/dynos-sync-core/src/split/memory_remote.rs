//! [`MemoryRemoteStore`]: a simple backend in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::remote_store::{Mark, RemoteRow, RemoteStore, RemoteWrite};
use crate::{
    clock::Millis,
    entry::Edit,
    ids::{RecordId, RecordKey, TableName},
    record::Fields,
    remote::RemoteError,
};

/// A simple backend in memory, for tests. It reports deletes. Clones share their data.
#[derive(Clone, Debug, Default)]
pub struct MemoryRemoteStore(Arc<Mutex<Data>>);

#[derive(Debug, Default)]
struct Data {
    /// The server's time: it rises with every push, so that rows are stamped in the order of their commits.
    now: Millis,
    rows: BTreeMap<RecordKey, RemoteRow>,
}

impl MemoryRemoteStore {
    /// Puts a row in place as another program would, with whatever time.
    pub fn put(&self, table: &TableName, row: RemoteRow) {
        let mut data = self.lock();
        data.now = data.now.max(row.updated_at);
        data.rows.insert(RecordKey { table: table.clone(), id: row.id.clone() }, row);
    }

    /// A table's records.
    pub fn records(&self, table: &TableName) -> BTreeMap<RecordId, Fields> {
        let data = self.lock();
        let rows = data.rows.iter().filter(|(key, _)| key.table == *table);
        rows.filter_map(|(key, row)| Some((key.id.clone(), row.record.clone()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Data> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RemoteStore for MemoryRemoteStore {
    async fn push(&self, write: &RemoteWrite<'_>) -> Result<(), RemoteError> {
        let mut data = self.lock();
        let before = data.rows.get(write.key).and_then(|row| row.record.clone());
        if before.is_none() && matches!(write.edit, Edit::Patch(_)) {
            let (code, message) = ("not_found".to_owned(), "the record does not exist".to_owned());
            return Err(RemoteError::Refused { code, message });
        }
        data.now = write.at.max(data.now.saturating_add(1));
        let (id, updated_at) = (write.key.id.clone(), data.now);
        let row = RemoteRow { id, updated_at, writer: Some(write.writer), record: write.edit.apply(before) };
        data.rows.insert(write.key.clone(), row);
        Ok(())
    }

    async fn pull_since(
        &self,
        table: &TableName,
        since: Option<&Mark>,
        limit: usize,
    ) -> Result<Vec<RemoteRow>, RemoteError> {
        let data = self.lock();
        let mark = |row: &RemoteRow| Mark { updated_at: row.updated_at, id: Some(row.id.clone()) };
        let rows = data.rows.iter().filter(|(key, _)| key.table == *table).map(|(_, row)| row);
        let mut rows: Vec<&RemoteRow> =
            rows.filter(|row| since.is_none_or(|since| mark(row) > *since)).collect();
        rows.sort_by_key(|row| mark(row));
        Ok(rows.into_iter().take(limit).cloned().collect())
    }
}
