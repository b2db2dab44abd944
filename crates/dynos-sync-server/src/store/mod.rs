//! The seam to where the server keeps its data.
//!
//! A store keeps the promises of the protocol; HTTP, tokens and limits of requests are not its concern. Every
//! method is one transaction.

mod cursor;
mod digest;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod sqlite;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::cursor::reread;

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use dynos_sync_core::{
    Counter, Cursor, Millis, RecordId, Seq, TableName, TableSpec,
    wire::{Expired, Heads, HeadsRequest, PullRequest, PushAnswer, PushRequest},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::broadcast;

pub(crate) use self::digest::used_twice;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
pub use self::sqlite::SqliteStore;

/// How many changes of tables a listener may be behind before it is told only that it missed some.
const MOVES: usize = 1024;

/// Who calls, as their token says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The token's `sub`.
    pub subject: String,
}

/// The unit in which changes are ordered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The tables of one user.
    User(String),
    /// The tables of all users.
    Shared,
}

/// Something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// A table.
    Table {
        /// Whose.
        scope: Scope,
        /// Which.
        table: TableName,
    },
    /// Nobody knows what: the store could not listen for a while.
    Anything,
}

/// Where the server keeps its data.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Joins declarations with what is known of the tables, and returns these tables as they are kept now.
    async fn declare(&self, caller: &Caller, specs: Vec<TableSpec>) -> Result<Vec<TableSpec>, StoreError>;

    /// The tables that the caller sees, by name.
    async fn tables(&self, caller: &Caller) -> Result<Vec<TableSpec>, StoreError>;

    /// Where the tables' histories end.
    async fn heads(&self, caller: &Caller, request: HeadsRequest) -> Result<Heads, StoreError>;

    /// Decides about entries, and commits what is admitted.
    async fn push(&self, caller: &Caller, request: PushRequest) -> Result<PushAnswer, StoreError>;

    /// A page of changes.
    async fn pull(&self, caller: &Caller, request: PullRequest) -> Result<Page, StoreError>;

    /// Forgets a bounded number of tombstones and outcomes whose retention has passed.
    async fn purge(&self, now: Millis) -> Result<Purged, StoreError>;

    /// What changes from now on: told after the commit.
    fn moves(&self) -> broadcast::Receiver<Moved>;

    /// Whether the store can answer, and how large it is.
    async fn health(&self) -> Result<Health, StoreError>;

    /// Ends the store's work and leaves it tidy. Calls that come later fail.
    async fn close(&self) -> Result<(), StoreError>;
}

/// What [`Store::purge`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Purged {
    /// Tombstones forgotten.
    pub tombstones: usize,
    /// Outcomes forgotten.
    pub outcomes: usize,
    /// Whether there is more to forget: call again.
    pub more: bool,
}

/// How a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its size, in bytes.
    pub bytes: u64,
}

/// A page as [`wire::Page`](dynos_sync_core::wire::Page) is written, its records being passed on as they were stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// The newest change of every record that changed after the cursor.
    pub changes: Vec<Change>,
    /// Which of the unsettled entries were applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<Counter>,
    /// Where the next page starts.
    pub next: Cursor,
    /// Whether there is one.
    pub has_more: bool,
    /// How many changes there are in all: with the first page of a walk from the beginning, unless it is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// A change as [`dynos_sync_core::Change`] is written.
#[derive(Debug, Serialize, Deserialize)]
pub struct Change {
    /// The record's id.
    pub id: RecordId,
    /// The change's number.
    pub seq: Seq,
    /// The edit's time.
    pub at: Millis,
    /// Whether the asking replica made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// The record; absent where it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Box<RawValue>>,
}

/// Why a store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The request makes no sense to this server.
    #[error("{0}")]
    Invalid(String),
    /// The request is larger than the server takes.
    #[error("{0}")]
    TooLarge(String),
    /// The cursor cannot be continued from.
    #[error("this server no longer has the history that the cursor belongs to")]
    Expired(Expired),
    /// A counter was used before for something else.
    #[error("counter {0} was used before for another entry: two databases use this replica's identity")]
    Forked(Counter),
    /// The store cannot answer now.
    #[error("the store cannot answer now")]
    Unavailable,
    /// The store took too long.
    #[error("the store took too long")]
    TimedOut,
    /// The SQLite database failed.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The database failed, with this SQLSTATE.
    #[error("the database failed ({0})")]
    Database(String),
    /// What the database holds does not make sense.
    #[error("the database holds something unexpected: {0}")]
    Corrupt(String),
}

impl From<dynos_sync_core::Invalid> for StoreError {
    fn from(invalid: dynos_sync_core::Invalid) -> Self {
        Self::Invalid(invalid.to_string())
    }
}

/// The time that lies a retention before another.
fn before(now: Millis, retention: Duration) -> Millis {
    now.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX))
}
