//! Stores that fail at a chosen call.

use std::{
    collections::BTreeMap,
    future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use dynos_sync_core::{
    Fields, RecordId, RecordKey, ReplicaError, TableName,
    split::{LocalStore, Position, QueueChange, QueueStore, TimestampStore},
};

/// How the chosen call fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum How {
    /// It answers an error; later calls work.
    Fails,
    /// It and all later calls answer errors, as if the process had ended.
    Dies,
    /// It never answers; later calls work.
    Hangs,
}

/// Counts the calls of all stores of a replica.
#[derive(Debug)]
pub(crate) struct Fuse {
    left: AtomicUsize,
    how: How,
    /// Whether the chosen call has taken effect.
    effective: bool,
}

impl Fuse {
    pub(crate) fn new(calls: usize, how: How, effective: bool) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(calls), how, effective })
    }

    pub(crate) fn is_blown(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    async fn pass<T>(&self, call: impl Future<Output = Result<T, ReplicaError>>) -> Result<T, ReplicaError> {
        let left = self.left.load(Ordering::SeqCst);
        self.left.store(left.saturating_sub(1), Ordering::SeqCst);
        match (left, self.how) {
            (0, How::Dies) => return Err(failure()),
            (1, _) => {}
            _ => return call.await,
        }
        if self.effective {
            call.await?;
        }
        if self.how == How::Hangs { future::pending().await } else { Err(failure()) }
    }
}

fn failure() -> ReplicaError {
    ReplicaError::Storage { message: "as the test wants it".to_owned(), source: None }
}

/// A store whose calls pass a fuse.
#[derive(Debug)]
pub(crate) struct Faulty<S>(pub(crate) S, pub(crate) Arc<Fuse>);

#[async_trait]
impl<S: LocalStore> LocalStore for Faulty<S> {
    async fn get(&self, key: &RecordKey) -> Result<Option<Fields>, ReplicaError> {
        self.1.pass(self.0.get(key)).await
    }

    async fn put(&self, key: &RecordKey, row: &Fields) -> Result<(), ReplicaError> {
        self.1.pass(self.0.put(key, row)).await
    }

    async fn delete(&self, key: &RecordKey) -> Result<(), ReplicaError> {
        self.1.pass(self.0.delete(key)).await
    }

    async fn ids(&self, table: &TableName) -> Result<Vec<RecordId>, ReplicaError> {
        self.1.pass(self.0.ids(table)).await
    }

    async fn clear(&self, table: &TableName) -> Result<(), ReplicaError> {
        self.1.pass(self.0.clear(table)).await
    }
}

#[async_trait]
impl<S: QueueStore> QueueStore for Faulty<S> {
    async fn load(&self) -> Result<BTreeMap<String, String>, ReplicaError> {
        self.1.pass(self.0.load()).await
    }

    async fn apply(&self, changes: &[QueueChange]) -> Result<(), ReplicaError> {
        self.1.pass(self.0.apply(changes)).await
    }
}

#[async_trait]
impl<S: TimestampStore> TimestampStore for Faulty<S> {
    async fn all(&self) -> Result<BTreeMap<TableName, Position>, ReplicaError> {
        self.1.pass(self.0.all()).await
    }

    async fn set(&self, table: &TableName, position: &Position) -> Result<(), ReplicaError> {
        self.1.pass(self.0.set(table, position)).await
    }

    async fn remove(&self, table: &TableName) -> Result<(), ReplicaError> {
        self.1.pass(self.0.remove(table)).await
    }
}
