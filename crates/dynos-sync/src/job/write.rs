//! Local edits. Nothing here waits for the network.

use dynos_sync_core::{
    Edit, Fields, Invalid, Operation, RecordKey, ReplicaError, TableName,
    plan::write,
    replica::{Op, TableState},
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
        let (session, name): (_, TableName) = (self.session(), table.parse()?);
        let table = self.known(&name).await?;
        let mut ops = Vec::with_capacity(records.len());
        for (id, data) in records {
            let key = RecordKey { table: name.clone(), id: id.try_into()? };
            ops.push(self.pass(&table, key, Edit::Upsert(data))?);
        }
        self.commit_in(session, ops).await.map(drop)
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
        let (session, key) = (self.session(), RecordKey::new(table, id)?);
        let table = self.known(&key.table).await?;
        let Op::Write { key, edit, at } = self.pass(&table, key, Edit::new(operation, data))? else {
            unreachable!("BUG: an edit that passed is a write")
        };
        self.commit_in(session, vec![Op::Enqueue { key, edit, at }]).await.map(drop)
    }

    async fn edit(&self, key: RecordKey, edit: Edit) -> Result<bool, SyncError> {
        let session = self.session();
        let table = self.known(&key.table).await?;
        let op = self.pass(&table, key, edit)?;
        let receipt = self.commit_in(session, vec![op]).await?;
        Ok(receipt.written.first().is_some_and(Option::is_some))
    }

    /// The gates of a local edit.
    fn pass(&self, table: &TableState, key: RecordKey, edit: Edit) -> Result<Op, SyncError> {
        let at = self.stamp();
        let edit = write::write(table, &key, edit, at, self.config.max_payload_bytes)?;
        Ok(Op::Write { key, edit, at })
    }

    async fn known(&self, name: &TableName) -> Result<TableState, SyncError> {
        if let Some(table) = self.table(name) {
            return Ok(table);
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
