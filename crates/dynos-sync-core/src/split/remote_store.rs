//! [`RemoteStore`]: the least that a backend must be able to do.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{
    clock::Millis,
    entry::Edit,
    ids::{RecordId, RecordKey, ReplicaId, TableName},
    record::Fields,
    remote::RemoteError,
};

/// A backend with a table of rows that carry the time of their last change, and nothing else.
#[async_trait]
pub trait RemoteStore: Debug + Send + Sync + 'static {
    /// Applies an edit to a row and stamps the row with the **server's** time. Repeating it leaves the same row.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] and [`RemoteError::TooLarge`] concern this row alone; any other error ends the push, and
    /// what it had not reached is sent again.
    async fn push(&self, write: &RemoteWrite<'_>) -> Result<(), RemoteError>;

    /// The first `limit` rows after a mark, in the order of (`updated_at`, `id`); from the first row on without one. An
    /// empty answer means that there are none; a shorter one than `limit` means nothing.
    ///
    /// In SQL: `WHERE updated_at > $t OR (updated_at = $t AND id > $id) ORDER BY updated_at, id LIMIT $limit`, and
    /// `updated_at >= $t` where the mark names no id.
    async fn pull_since(
        &self,
        table: &TableName,
        since: Option<&Mark>,
        limit: usize,
    ) -> Result<Vec<RemoteRow>, RemoteError>;
}

/// An edit for a [`RemoteStore`].
#[derive(Clone, Copy, Debug)]
pub struct RemoteWrite<'a> {
    /// The row.
    pub key: &'a RecordKey,
    /// What to do to it.
    pub edit: &'a Edit,
    /// The edit's time by the device's clock: for information. It is no `updated_at`, which has to rise on the server.
    pub at: Millis,
    /// Who sends it. A store that keeps it with the row can tell a device its own changes from others'.
    pub writer: ReplicaId,
}

/// A row of a [`RemoteStore`].
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteRow {
    /// Its id.
    pub id: RecordId,
    /// When it was last changed, by the server's clock.
    pub updated_at: Millis,
    /// Who changed it last, where the store keeps that. Without, a device may take the echo of its own push
    /// for somebody else's change, where it has edited the record again meanwhile and the store keeps other values than it was
    /// given.
    pub writer: Option<ReplicaId>,
    /// Its fields; absent where it was deleted. A store that forgets deleted rows never reports one.
    pub record: Option<Fields>,
}

/// A place in a table's order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// A time of change.
    pub updated_at: Millis,
    /// The last id of that time that lies before the mark; absent where none does.
    pub id: Option<RecordId>,
}
