//! [`Transaction`]: several edits as one.

use dynos_sync_core::{Edit, Fields, Invalid, RecordKey};

use crate::{
    engine::SyncEngine,
    error::SyncError,
    table::{Record, parts},
};

/// Edits of records, of any tables, that take effect together: here in one transaction of the database, and on the server all of them at
/// the same time, or none.
///
/// Nothing is done before [`commit`](Self::commit). Where the server refuses one of the edits it refuses all: they are sent again
/// together, and become dead letters together, which are retried and discarded together. Where somebody else has changed one of the records
/// first, none of the edits takes effect until that conflict is decided, by the strategy, for that record; what comes out of it is sent with
/// the others, as one transaction again. A strategy that lets the server's version stand takes that record out of it.
///
/// Other devices pull table by table, and may see what was changed in one table before they see what was changed in another. A backend that
/// is reached without the protocol's own server (a Supabase project in plain mode, a [`RemoteStore`](dynos_sync_core::split::RemoteStore))
/// knows no transactions: there the edits take effect one after the other.
///
/// ```
/// # use futures_executor::block_on;
/// # use dynos_sync::{SyncEngine, fields, sqlite::{SqliteOptions, SqliteReplica}};
/// # let dir = tempfile::tempdir()?;
/// # let remote = dynos_sync::core::memory::MemoryServer::new().remote("ada");
/// # block_on(async {
/// # let replica = SqliteReplica::open(dir.path().join("app.sqlite"), &SqliteOptions::default())?;
/// # let engine = SyncEngine::builder(replica, remote).table("orders").table("lines").table("carts").start().await?;
/// engine
///     .transaction()
///     .write("orders", "o1", fields([("customer", "ada".into())]))
///     .write("lines", "o1-1", fields([("order", "o1".into()), ("article", "tea".into())]))
///     .write("lines", "o1-2", fields([("order", "o1".into()), ("article", "milk".into())]))
///     .remove("carts", "ada")
///     .commit()
///     .await?;
/// # assert!(engine.get("lines", "o1-2").await?.is_some());
/// # engine.close().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is done before it is committed"]
pub struct Transaction {
    engine: SyncEngine,
    /// Or what was wrong with the first one that cannot be made.
    edits: Result<Vec<(RecordKey, Edit)>, SyncError>,
}

impl SyncEngine {
    /// Begins a transaction.
    pub fn transaction(&self) -> Transaction {
        Transaction { engine: self.clone(), edits: Ok(Vec::new()) }
    }
}

impl Transaction {
    /// Stores a record, as [`Table::put`](crate::Table::put).
    pub fn put<R: Record>(self, record: &R) -> Self {
        match parts::<R>(record) {
            Ok((id, data)) => self.write(R::TABLE, &id, data),
            Err(fault) => Self { edits: self.edits.and(Err(fault)), ..self },
        }
    }

    /// Sets a record's fields, as [`SyncEngine::write`].
    pub fn write(self, table: &str, id: &str, data: Fields) -> Self {
        self.edit(table, id, Edit::Upsert(data))
    }

    /// Sets fields of a record that exists, as [`SyncEngine::patch`].
    pub fn patch(self, table: &str, id: &str, data: Fields) -> Self {
        self.edit(table, id, Edit::Patch(data))
    }

    /// Deletes a record, if it is there.
    pub fn remove(self, table: &str, id: &str) -> Self {
        self.edit(table, id, Edit::Delete)
    }

    fn edit(mut self, table: &str, id: &str, edit: Edit) -> Self {
        let key: Result<RecordKey, Invalid> = RecordKey::new(table, id);
        match (&mut self.edits, key) {
            (Ok(edits), Ok(key)) => edits.push((key, edit)),
            (edits @ Ok(_), Err(invalid)) => *edits = Err(invalid.into()),
            (Err(_), _) => {}
        }
        self
    }

    /// Makes the edits, in their order: all or none. Does not wait for the network.
    ///
    /// # Errors
    /// As [`SyncEngine::write`], for the first edit that is refused; [`SyncError::Invalid`] also for more edits, or more bytes of fields,
    /// than one request takes ([`Limits::TRANSACTION`](dynos_sync_core::Limits::TRANSACTION),
    /// [`max_batch_bytes`](crate::SyncConfig::max_batch_bytes)).
    pub async fn commit(self) -> Result<(), SyncError> {
        self.engine.make_together(self.edits?).await
    }
}
