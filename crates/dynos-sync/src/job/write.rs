//! Local edits. Nothing here waits for the network.

use dynos_sync_core::{
    Edit, Fields, Generation, Invalid, Operation, RecordKey, ReplicaError, TableName,
    plan::write,
    replica::{Op, Receipt, TableState},
};

use crate::{driver::Driver, error::SyncError};

impl Driver {
    /// Sets a record's fields, creating it where it is missing.
    ///
    /// # Errors
    /// See [`SyncEngine::write`](crate::SyncEngine::write).
    pub async fn write(&self, table: &str, id: &str, data: Fields) -> Result<(), SyncError> {
        self.edit(RecordKey::new(table, id)?, Edit::Upsert(data)).await.map(drop)
    }

    /// Sets fields of a record that exists.
    ///
    /// # Errors
    /// See [`SyncEngine::patch`](crate::SyncEngine::patch).
    pub async fn patch(&self, table: &str, id: &str, data: Fields) -> Result<(), SyncError> {
        self.edit(RecordKey::new(table, id)?, Edit::Patch(data)).await.map(drop)
    }

    /// Deletes a record. Answers whether it was there.
    ///
    /// # Errors
    /// See [`SyncEngine::remove`](crate::SyncEngine::remove).
    pub async fn remove(&self, table: &str, id: &str) -> Result<bool, SyncError> {
        self.edit(RecordKey::new(table, id)?, Edit::Delete).await
    }

    /// Sets the fields of many records in one transaction: all or none.
    ///
    /// # Errors
    /// See [`SyncEngine::write_many`](crate::SyncEngine::write_many).
    pub async fn write_many(&self, table: &str, records: Vec<(String, Fields)>) -> Result<(), SyncError> {
        let name: TableName = table.parse()?;
        let (session, table) = self.known(&name).await?;
        let mut ops = Vec::with_capacity(records.len());
        for (id, data) in records {
            let key = RecordKey { table: name.clone(), id: id.try_into()? };
            ops.push(self.pass(&table, key, Edit::Upsert(data)).await?);
        }
        self.commit_edits(session, ops).await.map(drop)
    }

    /// Queues an edit whose row the application has written itself.
    ///
    /// # Errors
    /// See [`SyncEngine::push`](crate::SyncEngine::push).
    pub async fn push(
        &self,
        table: &str,
        id: &str,
        data: Fields,
        operation: Operation,
    ) -> Result<(), SyncError> {
        let key = RecordKey::new(table, id)?;
        let (session, table) = self.known(&key.table).await?;
        let Op::Write { key, edit, at } = self.pass(&table, key, Edit::new(operation, data)).await? else {
            unreachable!("BUG: an edit that passed is a write")
        };
        self.commit_edits(session, vec![Op::Enqueue { key, edit, at }]).await.map(drop)
    }

    async fn edit(&self, key: RecordKey, edit: Edit) -> Result<bool, SyncError> {
        let (session, table) = self.known(&key.table).await?;
        let op = self.pass(&table, key, edit).await?;
        let receipt = self.commit_edits(session, vec![op]).await?;
        Ok(receipt.written.first().is_some_and(Option::is_some))
    }

    /// Commits edits in the session in which they began: what one user writes is not the next one's.
    async fn commit_edits(&self, session: Generation, ops: Vec<Op>) -> Result<Receipt, SyncError> {
        let done = self.commit_of(session, ops).await;
        if matches!(done, Err(SyncError::SessionEnded)) {
            // Another process may have logged out: what comes now is of the new session.
            self.state().await?;
        }
        done
    }

    /// The gates of a local edit.
    async fn pass(&self, table: &TableState, key: RecordKey, edit: Edit) -> Result<Op, SyncError> {
        let at = self.stamp();
        let guarded = table.policy.user.is_some() && !table.policy.owner_columns.is_empty();
        let current = if guarded { self.replica.get(&key).await? } else { None };
        let edit = write::write(table, &key, edit, at, self.config.max_payload_bytes, current.as_ref())?;
        Ok(Op::Write { key, edit, at })
    }

    async fn known(&self, name: &TableName) -> Result<(Generation, TableState), SyncError> {
        if let Some(known) = self.table(name) {
            return Ok(known);
        }
        // Another process may have added it.
        self.state().await?;
        self.table(name).ok_or_else(|| ReplicaError::UnknownTable(name.clone()).into())
    }

    /// A record, as it is on this device.
    ///
    /// # Errors
    /// [`SyncError::Invalid`], [`SyncError::Replica`].
    pub async fn get(&self, table: &str, id: &str) -> Result<Option<Fields>, SyncError> {
        Ok(self.replica.get(&RecordKey::new(table, id)?).await?)
    }
}

/// The answer where something was named that is not there.
pub(crate) fn no_such(field: &str, problem: String, remedy: &str) -> SyncError {
    SyncError::Invalid(Invalid::new(field, problem).remedy(remedy))
}
