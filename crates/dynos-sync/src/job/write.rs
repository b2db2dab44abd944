//! Local edits. Nothing here waits for the network.

use dynos_sync_core::{
    Edit, Fields, Invalid, Limits, Operation, RecordKey, ReplicaError, TableName, measure,
    plan::write,
    replica::{Batch, Expected, Op, Outcome, TableState},
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
        let (session, name): (_, TableName) = (self.editing()?, table.parse()?);
        let table = self.known(&name).await?;
        let mut ops = Vec::with_capacity(records.len());
        for (id, data) in records {
            let key = RecordKey { table: name.clone(), id: id.try_into()? };
            ops.push(self.pass(&table, key, Edit::Upsert(data))?);
        }
        self.commit_in(session, ops).await.map(drop)
    }

    /// Makes edits that take effect together, here and on the server.
    ///
    /// # Errors
    /// See [`Transaction::commit`](crate::Transaction::commit).
    pub async fn transaction(&self, edits: Vec<(RecordKey, Edit)>) -> Result<(), SyncError> {
        let session = self.editing()?;
        Limits::check_transaction(edits.len())?;
        let (mut ops, mut bytes) = (Vec::with_capacity(edits.len()), 0);
        for (key, edit) in edits {
            let table = self.known(&key.table).await?;
            bytes += edit.fields().map(measure).transpose()?.unwrap_or(0);
            ops.push(self.pass(&table, key, edit)?);
        }
        if bytes > self.config.max_batch_bytes {
            let problem = format!("{bytes} bytes of fields, the limit is {}", self.config.max_batch_bytes);
            return Err(Invalid::new("transaction", problem)
                .remedy("write less at once, or raise max_batch_bytes")
                .into());
        }
        let expected = Expected { generation: Some(session), ..Expected::default() };
        match self.commit_batch(Batch { expected, ops, transaction: true }).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Stale => Err(SyncError::SessionEnded),
        }
    }

    /// Sets those fields of a record that `change` makes of it. Where the record is changed meanwhile, `change` is asked again.
    ///
    /// # Errors
    /// As [`patch`](Self::patch), and what `change` answers; [`SyncError::Contention`] where the record never stands still.
    pub async fn update(
        &self,
        table: &str,
        id: &str,
        mut change: impl FnMut(Fields) -> Result<Fields, SyncError>,
    ) -> Result<(), SyncError> {
        let key = RecordKey::new(table, id)?;
        let session = self.editing()?;
        for _ in 0..Self::REPLANS {
            let (table, expected) = (self.known(&key.table).await?, self.as_it_is(&key).await?);
            if expected.generation != Some(session) {
                return Err(SyncError::SessionEnded);
            }
            let record = self.replica.get(&key).await?.ok_or_else(|| ReplicaError::NotFound(key.clone()))?;
            let changed = change(record)?;
            if changed.is_empty() {
                return Ok(());
            }
            let ops = vec![self.pass(&table, key.clone(), Edit::Patch(changed))?];
            if matches!(
                self.commit_batch(Batch { expected, ops, ..Batch::default() }).await?,
                Outcome::Committed(_)
            ) {
                return Ok(());
            }
        }
        Err(SyncError::Contention(format!("record {key}")))
    }

    /// What must still be so for a record to be as it is now.
    async fn as_it_is(&self, key: &RecordKey) -> Result<Expected, SyncError> {
        let state = self.state().await?;
        let cursor = state.table(&key.table).map(|table| (key.table.clone(), table.cursor.clone()));
        let pending = self.replica.records(&key.table, std::slice::from_ref(&key.id), false).await?;
        let newest = pending.first().and_then(|record| record.entries.last()).map(|entry| entry.counter);
        Ok(Expected { generation: Some(state.generation), newest: vec![(key.clone(), newest)], cursor })
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
        let (session, key) = (self.editing()?, RecordKey::new(table, id)?);
        let table = self.known(&key.table).await?;
        let Op::Write { key, edit, at } = self.pass(&table, key, Edit::new(operation, data))? else {
            unreachable!("BUG: an edit that passed is a write")
        };
        self.commit_in(session, vec![Op::Enqueue { key, edit, at }]).await.map(drop)
    }

    async fn edit(&self, key: RecordKey, edit: Edit) -> Result<bool, SyncError> {
        let session = self.editing()?;
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

    /// A synced table.
    pub(crate) async fn known(&self, name: &TableName) -> Result<TableState, SyncError> {
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
