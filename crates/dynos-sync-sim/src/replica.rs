//! A device's database as its engine sees it: the real one, but others may go first before every call and after it, and what
//! the engine is about is noted.

use std::sync::Arc;

use async_trait::async_trait;
use dynos_sync_core::{
    Counter, Entry, Fields, RecordId, RecordKey, Replica, ReplicaError, Schema, TableName,
    replica::{
        Batch, DeadLetter, Due, DueLimits, Journaled, Logout, Op, Outcome, Phase, Seen, State, TableOptions,
    },
};

use crate::{
    executor::step_aside,
    history::History,
    tally::{Activity, Doing},
};

/// See the module.
#[derive(Debug)]
pub struct Interleaved {
    inner: Arc<dyn Replica>,
    activity: Activity,
    history: History,
}

impl Interleaved {
    /// Wraps a database.
    pub fn new(inner: Arc<dyn Replica>, activity: Activity, history: History) -> Self {
        Self { inner, activity, history }
    }

    /// After a restore a device takes what the server has changed since, also where it knows something newer that the server
    /// lost: nobody can tell which of the two was there first.
    async fn note_taken(&self, batch: &Batch) -> Result<(), ReplicaError> {
        let stores = batch.ops.iter().filter_map(|op| match op {
            Op::Store { key, record } => Some((key, record)),
            _ => None,
        });
        let stores: Vec<_> = stores.collect();
        let Some((first, _)) = stores.first() else { return Ok(()) };
        let state = self.inner.state().await?;
        if state.table(&first.table).is_some_and(|table| matches!(table.phase, Phase::Restore { .. })) {
            for (key, record) in stores {
                let row = self.inner.get(key).await?;
                self.history.replaced(key, row.as_ref(), record.as_ref());
            }
        }
        Ok(())
    }

    async fn call<T>(&self, call: impl Future<Output = T> + Send) -> T {
        step_aside().await;
        let answer = call.await;
        step_aside().await;
        answer
    }
}

fn doing(batch: &Batch) -> Option<Doing> {
    batch.ops.iter().find_map(|op| match op {
        Op::Write { .. } | Op::Enqueue { .. } | Op::Revive { .. } => Some(Doing::Writing),
        Op::Freeze(_)
        | Op::Thaw { .. }
        | Op::Postpone { .. }
        | Op::Bury { .. }
        | Op::SetAside { .. }
        | Op::Skip { .. } => Some(Doing::Pushing),
        Op::Restart { phase: Phase::Resync | Phase::Restore { .. }, .. } => Some(Doing::CatchingUp),
        _ => None,
    })
}

#[async_trait]
impl Replica for Interleaved {
    async fn state(&self) -> Result<State, ReplicaError> {
        self.call(self.inner.state()).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Fields>, ReplicaError> {
        self.call(self.inner.get(key)).await
    }

    async fn records(
        &self,
        table: &TableName,
        ids: &[RecordId],
        rows: bool,
    ) -> Result<Vec<Seen>, ReplicaError> {
        self.call(self.inner.records(table, ids, rows)).await
    }

    async fn due(&self, limits: &DueLimits) -> Result<Due, ReplicaError> {
        self.call(self.inner.due(limits)).await
    }

    async fn unsettled(&self, table: &TableName, limit: usize) -> Result<Vec<Entry>, ReplicaError> {
        self.call(self.inner.unsettled(table, limit)).await
    }

    async fn commit(&self, batch: Batch) -> Result<Outcome, ReplicaError> {
        step_aside().await;
        if let Some(doing) = doing(&batch) {
            self.activity.set(doing);
        }
        self.note_taken(&batch).await?;
        let answer = self.inner.commit(batch).await;
        step_aside().await;
        answer
    }

    async fn adopt(&self, schema: &Schema) -> Result<bool, ReplicaError> {
        self.call(self.inner.adopt(schema)).await
    }

    async fn add_table(&self, options: TableOptions) -> Result<bool, ReplicaError> {
        self.call(self.inner.add_table(options)).await
    }

    async fn remove_table(&self, table: &TableName) -> Result<bool, ReplicaError> {
        self.call(self.inner.remove_table(table)).await
    }

    async fn logout(&self, discard: bool) -> Result<Logout, ReplicaError> {
        self.activity.set(Doing::Leaving);
        self.call(self.inner.logout(discard)).await
    }

    async fn queue(&self, after: Counter, limit: usize) -> Result<Vec<Entry>, ReplicaError> {
        self.call(self.inner.queue(after, limit)).await
    }

    async fn dead_letters(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, ReplicaError> {
        self.call(self.inner.dead_letters(after, limit)).await
    }

    async fn conflicts(&self, before: i64, limit: usize) -> Result<Vec<Journaled>, ReplicaError> {
        self.call(self.inner.conflicts(before, limit)).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
