//! The three roles in memory. Clones share their data, so that a test can open the same stores again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::stores::{LocalStore, Position, QueueChange, QueueStore, TimestampStore};
use crate::{
    ids::{RecordId, RecordKey, TableName},
    record::Fields,
    replica::ReplicaError,
};

/// A map that its clones share.
#[derive(Debug)]
struct Shared<K, V>(Arc<Mutex<BTreeMap<K, V>>>);

impl<K, V> Shared<K, V> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Clone for Shared<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Rows in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryLocalStore(Shared<RecordKey, Fields>);

#[async_trait]
impl LocalStore for MemoryLocalStore {
    async fn get(&self, key: &RecordKey) -> Result<Option<Fields>, ReplicaError> {
        Ok(self.0.lock().get(key).cloned())
    }

    async fn put(&self, key: &RecordKey, row: &Fields) -> Result<(), ReplicaError> {
        self.0.lock().insert(key.clone(), row.clone());
        Ok(())
    }

    async fn delete(&self, key: &RecordKey) -> Result<(), ReplicaError> {
        self.0.lock().remove(key);
        Ok(())
    }

    async fn ids(&self, table: &TableName) -> Result<Vec<RecordId>, ReplicaError> {
        Ok(self.0.lock().keys().filter(|key| key.table == *table).map(|key| key.id.clone()).collect())
    }

    async fn clear(&self, table: &TableName) -> Result<(), ReplicaError> {
        self.0.lock().retain(|key, _| key.table != *table);
        Ok(())
    }
}

/// A queue in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryQueueStore(Shared<String, String>);

#[async_trait]
impl QueueStore for MemoryQueueStore {
    async fn load(&self) -> Result<BTreeMap<String, String>, ReplicaError> {
        Ok(self.0.lock().clone())
    }

    async fn apply(&self, changes: &[QueueChange]) -> Result<(), ReplicaError> {
        let mut texts = self.0.lock();
        for change in changes {
            match change {
                QueueChange::Set { key, value } => drop(texts.insert(key.clone(), value.clone())),
                QueueChange::Remove { key } => drop(texts.remove(key)),
            }
        }
        Ok(())
    }
}

/// Positions in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryTimestampStore(Shared<TableName, Position>);

#[async_trait]
impl TimestampStore for MemoryTimestampStore {
    async fn all(&self) -> Result<BTreeMap<TableName, Position>, ReplicaError> {
        Ok(self.0.lock().clone())
    }

    async fn set(&self, table: &TableName, position: &Position) -> Result<(), ReplicaError> {
        self.0.lock().insert(table.clone(), position.clone());
        Ok(())
    }

    async fn remove(&self, table: &TableName) -> Result<(), ReplicaError> {
        self.0.lock().remove(table);
        Ok(())
    }
}
