//! [`SyncEngine`]: what applications hold.

use std::sync::Arc;

use dynos_sync_core::{
    Edit, Fields, Operation, RecordKey, Replica, TableName, Value,
    doctor::{Depth, Explanation, Inspection, Names},
    replica::{DeadLetter, Existing, Journaled, TableOptions, TableState},
};
use futures_channel::oneshot;
use tokio::sync::mpsc;

use crate::{
    config::SyncConfig,
    error::SyncError,
    event::EventStream,
    metrics::Metrics,
    report::{DrainReport, PullReport, SyncReport},
    status::Status,
    worker::{Command, Shared},
};

/// A local database kept in sync with a backend. Cheap to clone; clones are the same engine.
///
/// Its futures may be awaited on any executor: what needs a runtime runs on the engine's own thread.
#[derive(Clone, Debug)]
pub struct SyncEngine {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    user_id: Option<String>,
}

impl SyncEngine {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: mpsc::UnboundedSender<Command>,
        user_id: Option<String>,
    ) -> Self {
        Self { shared, commands, user_id }
    }

    /// Sets a record's fields, creating it where it is missing. Row and queue entry are one local transaction; the network
    /// is not waited for.
    ///
    /// # Errors
    /// [`SyncError::Invalid`], [`SyncError::PayloadTooLarge`], [`SyncError::RlsViolation`], [`SyncError::SessionEnded`] where a
    /// logout came in between, or [`SyncError::Replica`] where the table refuses the row. Then nothing was stored.
    pub async fn write(&self, table: &str, id: &str, data: Fields) -> Result<(), SyncError> {
        self.shared.driver.write(table, id, data).await?;
        self.queued();
        Ok(())
    }

    /// Sets fields of a record that exists; the others stay as they are, here and everywhere.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`ReplicaError::NotFound`](dynos_sync_core::ReplicaError::NotFound) where there is no such record.
    pub async fn patch(&self, table: &str, id: &str, data: Fields) -> Result<(), SyncError> {
        self.shared.driver.patch(table, id, data).await?;
        self.queued();
        Ok(())
    }

    /// Sets those fields of a record that `change` makes of it, whatever it is at that moment: where somebody else changes it
    /// meanwhile, `change` is called again with what it is then. Without fields nothing is written.
    ///
    /// # Errors
    /// As [`patch`](Self::patch), and what `change` answers.
    pub async fn update(
        &self,
        table: &str,
        id: &str,
        change: impl FnMut(Fields) -> Result<Fields, SyncError>,
    ) -> Result<(), SyncError> {
        self.shared.driver.update(table, id, change).await?;
        self.queued();
        Ok(())
    }

    /// Deletes a record. Answers whether it was there.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn remove(&self, table: &str, id: &str) -> Result<bool, SyncError> {
        let removed = self.shared.driver.remove(table, id).await?;
        self.queued();
        Ok(removed)
    }

    /// Sets the fields of many records in one local transaction: all or none.
    ///
    /// # Errors
    /// As [`write`](Self::write), for the first record that is refused.
    pub async fn write_many(&self, table: &str, records: Vec<(String, Fields)>) -> Result<(), SyncError> {
        self.shared.driver.write_many(table, records).await?;
        self.queued();
        Ok(())
    }

    pub(crate) async fn make_together(&self, edits: Vec<(RecordKey, Edit)>) -> Result<(), SyncError> {
        self.shared.driver.transaction(edits).await?;
        self.queued();
        Ok(())
    }

    /// Queues an edit whose row the application has written itself.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn push(
        &self,
        table: &str,
        id: &str,
        data: Fields,
        operation: Operation,
    ) -> Result<(), SyncError> {
        self.shared.driver.push(table, id, data, operation).await?;
        self.queued();
        Ok(())
    }

    /// A record, as it is on this device.
    ///
    /// # Errors
    /// [`SyncError::Invalid`], [`SyncError::Replica`].
    pub async fn get(&self, table: &str, id: &str) -> Result<Option<Fields>, SyncError> {
        self.shared.driver.get(table, id).await
    }

    /// Pushes until nothing is left that can be pushed now. While one runs, a second one waits for it: there are never two.
    ///
    /// # Errors
    /// [`SyncError::Remote`] and [`SyncError::AuthExpired`] where a call failed: the queue is as it was.
    pub async fn drain(&self) -> Result<DrainReport, SyncError> {
        self.ask(Command::Drain).await
    }

    /// Pushes one batch.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub async fn drain_once(&self) -> Result<DrainReport, SyncError> {
        self.ask(Command::DrainOnce).await
    }

    /// Pulls every table that has changed.
    ///
    /// # Errors
    /// As [`drain`](Self::drain). Pages that were applied before the failure stay applied.
    pub async fn pull_all(&self) -> Result<PullReport, SyncError> {
        self.ask(Command::PullAll).await
    }

    /// Pushes, pulls, and pushes what the pull has made.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub async fn sync_all(&self) -> Result<SyncReport, SyncError> {
        self.ask(Command::SyncAll).await
    }

    /// Begins to sync a table, with the rows that it has; `pull` says whether others' changes are wanted. Answers whether anything
    /// changed. Safe while a sync runs.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] for a table that cannot be synced.
    pub async fn add_table(&self, table: &str, pull: bool) -> Result<bool, SyncError> {
        let driver = &self.shared.driver;
        let name: TableName = table.parse()?;
        let policy = driver.config.policy(self.user_id.as_deref(), pull);
        let options = TableOptions { policy, existing: Existing::Push, ..TableOptions::new(name) };
        self.add_table_with(options).await
    }

    /// As [`add_table`](Self::add_table), with everything said.
    ///
    /// # Errors
    /// As [`add_table`](Self::add_table).
    pub async fn add_table_with(&self, options: TableOptions) -> Result<bool, SyncError> {
        let changed = self.shared.driver.replica.add_table(options).await?;
        self.shared.driver.state().await?;
        self.queued();
        Ok(changed)
    }

    /// Ends the syncing of a table: its rows stay, what is queued of it goes. Answers whether it was synced.
    ///
    /// # Errors
    /// [`SyncError::Replica`].
    pub async fn remove_table(&self, table: &str) -> Result<bool, SyncError> {
        let removed = self.shared.driver.replica.remove_table(&table.parse()?).await?;
        self.shared.driver.state().await?;
        self.changed();
        Ok(removed)
    }

    /// The synced tables.
    ///
    /// # Errors
    /// [`SyncError::Replica`].
    pub async fn tables(&self) -> Result<Vec<TableName>, SyncError> {
        let state = self.shared.driver.state().await?;
        Ok(state.tables.into_iter().map(|table| table.spec.name).collect())
    }

    /// Events from now on. A listener that falls behind by more than 1,024 is told how many it missed.
    pub fn events(&self) -> EventStream {
        self.shared.driver.events()
    }

    /// How things stand: what is pending, dead letters, each table's cursor and last sync, online or not.
    ///
    /// # Errors
    /// [`SyncError::Replica`].
    pub async fn status(&self) -> Result<Status, SyncError> {
        self.shared.status().await
    }

    /// Whether a drain or a pull is under way.
    pub fn is_draining(&self) -> bool {
        self.shared.driver.observed.standing().syncing
    }

    /// Waits for the first `sync_all` to end, and says whether it succeeded.
    ///
    /// # Errors
    /// [`SyncError::Closed`] where the engine was closed before.
    pub async fn initial_sync_done(&self) -> Result<bool, SyncError> {
        let mut first = self.shared.first_sync.subscribe();
        tokio::select! {
            biased;
            done = first.wait_for(Option::is_some) => done.ok().and_then(|done| *done).ok_or(SyncError::Closed),
            () = self.commands.closed() => Err(SyncError::Closed),
        }
    }

    /// The device's user.
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    /// The configuration.
    pub fn config(&self) -> &SyncConfig {
        &self.shared.driver.config
    }

    /// Refused edits, oldest first.
    ///
    /// # Errors
    /// [`SyncError::Replica`].
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, SyncError> {
        Ok(self.shared.driver.replica.dead_letters(0, usize::MAX >> 1).await?)
    }

    /// Takes up a dead letter: its edits are written and queued again.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] where there is no such letter.
    pub async fn retry_dead_letter(&self, letter: i64) -> Result<(), SyncError> {
        self.shared.driver.retry_dead_letter(letter).await?;
        self.queued();
        Ok(())
    }

    /// Drops a dead letter.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] where there is no such letter.
    pub async fn discard_dead_letter(&self, letter: i64) -> Result<(), SyncError> {
        self.shared.driver.discard_dead_letter(letter).await?;
        self.changed();
        Ok(())
    }

    /// The conflict journal, newest first.
    ///
    /// # Errors
    /// [`SyncError::Replica`].
    pub async fn conflicts(&self) -> Result<Vec<Journaled>, SyncError> {
        Ok(self.shared.driver.replica.conflicts(i64::MAX, usize::MAX >> 1).await?)
    }

    /// Brings back the version that lost a conflict, as a new edit.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] where there is no such conflict, or where it cannot be read any more.
    pub async fn undo_conflict(&self, conflict: i64) -> Result<(), SyncError> {
        self.shared.driver.undo_conflict(conflict).await?;
        self.queued();
        Ok(())
    }

    /// Drops a conflict from the journal.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] where there is no such conflict.
    pub async fn discard_conflict(&self, conflict: i64) -> Result<(), SyncError> {
        self.shared.driver.discard_conflict(conflict).await?;
        self.changed();
        Ok(())
    }

    /// Explains why a record is as it is: what the local row is to its base, what is pending, what the server said last, when the next
    /// attempt is, and what that amounts to. What the server said, and why a sync failed, is known since the engine was started.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] for a name or an id that cannot be one, [`SyncError::Replica`] where the database cannot be read. That a table
    /// is not synced is no error: it is an explanation.
    pub async fn explain(&self, table: &str, id: &str) -> Result<Explanation, SyncError> {
        self.shared.driver.explain(table, id).await
    }

    /// Looks through the database: what is wrong with it and what to do, and what there is in it. Reads the whole file, while others may go
    /// on writing.
    ///
    /// # Errors
    /// [`SyncError::Replica`] where nothing could be looked at. What is damaged is a finding.
    pub async fn inspect(&self, depth: Depth) -> Result<Inspection, SyncError> {
        self.shared.driver.inspect(depth).await
    }

    /// Says how everything stands, as a JSON document for somebody who is not to see the user's data: no value, no id, no address and no
    /// token is in it, and of messages only [known phrases](dynos_sync_core::doctor::scrub).
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect).
    pub async fn support_bundle(&self, depth: Depth, names: Names) -> Result<Value, SyncError> {
        self.shared.driver.support_bundle(depth, names).await
    }

    /// What was done since the engine was started, in numbers that only rise. How things stand is [`status`](Self::status).
    pub fn metrics(&self) -> Metrics {
        self.shared.driver.metrics()
    }

    /// Forgets the user, in one transaction: the synced tables' rows, the queue, dead letters, conflicts, cursors and the
    /// replica's identity. A sync that is under way ends, and can no longer write. Edits that are asked for before it has answered are
    /// refused ([`SyncError::SessionEnded`]): none of them is ever the next user's. Answers how many unsynced changes were discarded.
    ///
    /// # Errors
    /// [`SyncError::Unsynced`] where changes would be lost and `discard` is not set; then nothing was done.
    pub async fn logout(&self, discard: bool) -> Result<u64, SyncError> {
        let left = {
            let (_interrupt, _leaving) = (Interrupt::new(&self.shared), self.shared.driver.leave());
            self.ask(|reply| Command::Logout { discard, reply }).await
        };
        // What was read meanwhile said nothing to those who follow the status.
        self.changed();
        left
    }

    /// Ends the engine: what is under way is given up, the database is closed. Clones of this handle answer
    /// [`SyncError::Closed`] afterwards.
    pub async fn close(&self) {
        let _interrupt = Interrupt::new(&self.shared);
        let (reply, closed) = oneshot::channel();
        if self.commands.send(Command::Close(reply)).is_ok() {
            // An error says that the thread has ended already.
            let _ = closed.await;
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn replica(&self) -> &dyn Replica {
        &*self.shared.driver.replica
    }

    /// A synced table.
    pub(crate) async fn table_state(&self, name: &TableName) -> Result<TableState, SyncError> {
        self.shared.driver.known(name).await
    }

    fn queued(&self) {
        self.shared.queued.notify_one();
        self.changed();
    }

    /// Whoever follows how things stand looks again.
    fn changed(&self) {
        self.shared.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, SyncError>>) -> Command,
    ) -> Result<T, SyncError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| SyncError::Closed)?;
        answer.await.map_err(|_| SyncError::Closed)?
    }
}

/// While it lives, no job goes on.
struct Interrupt<'a>(&'a Shared);

impl<'a> Interrupt<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.interrupts.send_modify(|waiting| *waiting += 1);
        Self(shared)
    }
}

impl Drop for Interrupt<'_> {
    fn drop(&mut self) {
        self.0.interrupts.send_modify(|waiting| *waiting -= 1);
    }
}
