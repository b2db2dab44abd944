//! The three roles of a device's storage.

use std::{collections::BTreeMap, fmt::Debug};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    cursor::Cursor,
    ids::{RecordId, RecordKey, TableName},
    record::Fields,
    replica::{Phase, ReplicaError, TableState},
};

/// The application's rows.
///
/// What a call has done is durable when it answers, and seen by every later call. A call that fails, or whose future is
/// dropped, has taken effect or never will. A future may be polled by any caller's task, on any thread: whoever waits for a
/// call does what comes before it. While a [`SplitReplica`](super::SplitReplica) is open, the rows of synced
/// tables are changed through it alone.
#[async_trait]
pub trait LocalStore: Debug + Send + Sync + 'static {
    /// A row, with every value as it was put.
    async fn get(&self, key: &RecordKey) -> Result<Option<Fields>, ReplicaError>;

    /// Makes a row exactly these fields, whether it was there or not.
    async fn put(&self, key: &RecordKey, row: &Fields) -> Result<(), ReplicaError>;

    /// Deletes a row. One that is not there is no error.
    async fn delete(&self, key: &RecordKey) -> Result<(), ReplicaError>;

    /// The ids of all rows of a table, in any order; none where there is no such table.
    async fn ids(&self, table: &TableName) -> Result<Vec<RecordId>, ReplicaError>;

    /// Deletes all rows of a table. Where it fails, some of them may be gone.
    async fn clear(&self, table: &TableName) -> Result<(), ReplicaError>;
}

/// What is to be sent, and all else that a replica has to remember: texts under keys, in any key-value store.
///
/// Keys and values are opaque. A key has at most 8 KiB; a value may hold a page of rows.
#[async_trait]
pub trait QueueStore: Debug + Send + Sync + 'static {
    /// Everything in it. Called when a replica is opened, and after a failure.
    async fn load(&self) -> Result<BTreeMap<String, String>, ReplicaError>;

    /// Makes these changes, in order, **all or none of them**: this is the moment at which a commit is decided. They are
    /// durable when it answers. A call that fails, or whose future is dropped, has taken effect or never will.
    async fn apply(&self, changes: &[QueueChange]) -> Result<(), ReplicaError>;
}

/// One change of a [`QueueStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueChange {
    /// Puts a text under a key, in place of what was there.
    Set {
        /// The key.
        key: String,
        /// The text.
        value: String,
    },
    /// Removes a key and its text, if they are there.
    Remove {
        /// The key.
        key: String,
    },
}

/// Up to where each table was pulled. (The Dart package keeps a time here; a [`Cursor`] is what a server answers.)
///
/// The promises are those of [`LocalStore`]: durable when answered, seen by later calls.
#[async_trait]
pub trait TimestampStore: Debug + Send + Sync + 'static {
    /// All positions.
    async fn all(&self) -> Result<BTreeMap<TableName, Position>, ReplicaError>;

    /// Sets a table's position, whole.
    async fn set(&self, table: &TableName, position: &Position) -> Result<(), ReplicaError>;

    /// Removes a table's position, if there is one.
    async fn remove(&self, table: &TableName) -> Result<(), ReplicaError>;
}

/// Where a table stands. A store may keep it as the JSON that it serializes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// See [`TableState::cursor`].
    pub cursor: Option<Cursor>,
    /// See [`TableState::ahead`].
    pub ahead: Option<Cursor>,
    /// See [`TableState::phase`].
    pub phase: Phase,
    /// See [`TableState::synced_at`].
    pub synced_at: Option<Millis>,
}

impl Position {
    pub(super) fn of(table: &TableState) -> Self {
        let TableState { cursor, ahead, phase, synced_at, .. } = table;
        Self { cursor: cursor.clone(), ahead: ahead.clone(), phase: *phase, synced_at: *synced_at }
    }
}

impl Default for Position {
    /// Nothing was pulled yet.
    fn default() -> Self {
        Self { cursor: None, ahead: None, phase: Phase::First, synced_at: None }
    }
}
