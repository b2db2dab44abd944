//! [`SplitReplica`]: three stores, joined into a replica.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;

use super::{
    image,
    scope::{self, Scope},
    stores::{LocalStore, QueueStore, TimestampStore},
    text,
    turns::Turns,
    work::{self, Work},
};
use crate::{
    doctor::Account,
    entry::Entry,
    ids::{Counter, RecordId, RecordKey, TableName},
    memory::replica::Store,
    record::Fields,
    replica::{
        Batch, DeadLetter, Due, DueLimits, Journaled, Logout, Outcome, Replica, ReplicaError, Seen, State,
        TableOptions,
    },
    schema::Schema,
};

/// A device's database made of any three stores. Its tables are document tables.
///
/// # How a commit is made whole
///
/// First the queue store takes, in one [`apply`](QueueStore::apply), the new state of the queue together with what is
/// still to be done to rows and cursors. This is the moment of the commit. Then the rows are written, then the cursors.
/// Where the process ends in between, or a store fails, the next opening (after a failure: the next call) reads the
/// stores again and does the rest: the rows of records with pending entries are brought to their base image plus the
/// entries, and the other rows and the cursors to what the last commit left to do.
///
/// # What is weaker than one transaction
///
/// * Somebody who reads the local store directly may see rows that lag behind the queue, or a page half applied, until
///   the commit ends or the replica is opened again. Readers that go through the replica wait for the commit.
/// * A call that answers with a store's error may yet take effect, whole, at the next call or opening: where the queue
///   store had taken it before the error.
/// * Identity, counters and clock live in the queue store. Losing it loses them, and all that is unsynced.
/// * Rows of synced tables belong to the replica: one that was changed behind its back may be put back at an opening.
///   Only one replica at a time may be open on the stores.
///
/// The queue, the dead letters, the journal and the ids that a resync has seen are held in memory. Asking for what is due,
/// and for the state, walks through the queue; a write costs as much as its record has pending entries. Rows are not held, but for those that a batch touches, and all of a table's where it is
/// adopted or ends a resync or restore. A commit costs what it touches.
#[derive(Debug)]
pub struct SplitReplica {
    stores: Arc<Stores>,
    turns: Turns,
}

/// The three stores, and what is known of them. One call at a time.
#[derive(Debug)]
struct Stores {
    local: Box<dyn LocalStore>,
    queue: Box<dyn QueueStore>,
    timestamps: Box<dyn TimestampStore>,
    seed: [u8; 16],
    /// All but the rows. Empty while a call is under way, and so after one that did not get there.
    memory: Mutex<Option<Store>>,
    closed: AtomicBool,
}

impl SplitReplica {
    /// Joins three stores, and heals what an earlier process left half done. The identity of new stores is made from
    /// `seed`: 16 random bytes, different at every call.
    ///
    /// # Errors
    /// What the stores answer, and [`ReplicaError::Corrupt`] where the queue store's texts cannot be read.
    pub async fn open(
        local: impl LocalStore,
        queue: impl QueueStore,
        timestamps: impl TimestampStore,
        seed: [u8; 16],
    ) -> Result<Self, ReplicaError> {
        let (local, queue, timestamps) = (Box::new(local), Box::new(queue), Box::new(timestamps));
        let (memory, closed) = (Mutex::default(), AtomicBool::new(false));
        let stores = Stores { local, queue, timestamps, seed, memory, closed };
        stores.keep(stores.load().await?);
        Ok(Self { stores: Arc::new(stores), turns: Turns::default() })
    }

    /// Does this alone, after what was asked for before.
    async fn alone<T, F>(&self, work: impl FnOnce(Arc<Stores>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.turns.take(work(Arc::clone(&self.stores))).await
    }

    /// Answers a question that the rows do not matter to.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, ReplicaError> {
        self.alone(async move |stores: Arc<Stores>| stores.ask(question).await).await
    }

    /// See [`Stores::change`].
    async fn change<T: Send + 'static>(
        &self,
        scope: impl FnOnce(&Store) -> Scope + Send + 'static,
        change: impl FnOnce(&mut Store) -> Result<T, ReplicaError> + Send + 'static,
    ) -> Result<T, ReplicaError> {
        self.alone(async move |stores: Arc<Stores>| stores.change(scope, change).await).await
    }
}

impl Stores {
    /// Reads the stores and finishes what they show to be unfinished.
    async fn load(&self) -> Result<Store, ReplicaError> {
        let mut texts = self.queue.load().await?;
        if texts.is_empty() {
            let fresh = Store::new(self.seed);
            self.queue.apply(&image::first(&fresh)?).await?;
            return Ok(fresh);
        }
        if let Some(left) = texts.remove(image::WORK) {
            let work: Work = text::parse(&left)?;
            work.carry_out(&*self.local, &*self.timestamps).await?;
        }
        let store = image::read(&texts, self.seed, self.timestamps.all().await?)?;
        work::replay(&store.queue, &*self.local).await?;
        Ok(store)
    }

    /// What is in memory, read anew where the last change did not get through. Whoever takes it out [keeps](Self::keep) it again, unless
    /// the stores do not have what it says.
    async fn memory(&self) -> Result<Store, ReplicaError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ReplicaError::Closed);
        }
        let kept = self.memory.lock().unwrap_or_else(PoisonError::into_inner).take();
        match kept {
            Some(store) => Ok(store),
            None => self.load().await,
        }
    }

    fn keep(&self, store: Store) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
    }

    async fn ask<T>(&self, question: impl FnOnce(&Store) -> T) -> Result<T, ReplicaError> {
        let store = self.memory().await?;
        let answer = question(&store);
        self.keep(store);
        Ok(answer)
    }

    /// A row, where there is such a table.
    async fn get(&self, key: &RecordKey) -> Result<Option<Fields>, ReplicaError> {
        self.ask(|store| store.require(key)).await??;
        self.local.get(key).await
    }

    async fn records(
        &self,
        table: &TableName,
        ids: &[RecordId],
        rows: bool,
    ) -> Result<Vec<Seen>, ReplicaError> {
        let mut records = self.ask(|store| store.records(table, ids, rows)).await?;
        for seen in &mut records {
            seen.row = self.local.get(&RecordKey { table: table.clone(), id: seen.id.clone() }).await?;
        }
        Ok(records)
    }

    async fn account(&self, key: &RecordKey) -> Result<Account, ReplicaError> {
        let mut account = self.ask(|store| store.account(key)).await??;
        account.row = self.local.get(key).await?;
        Ok(account)
    }

    /// Changes the part of the state that `scope` names, in memory and in the stores. A `change` that fails leaves the
    /// part as it was.
    async fn change<T>(
        &self,
        scope: impl FnOnce(&Store) -> Scope,
        change: impl FnOnce(&mut Store) -> Result<T, ReplicaError> + Send,
    ) -> Result<T, ReplicaError> {
        // Whatever goes wrong from here on, this future being dropped included: nothing stays behind that the stores
        // do not have, as nothing stays behind at all.
        let mut store = self.memory().await?;
        let scope = scope(&store);
        let mut before = scope::take(&mut store, &scope);
        self.read_rows(&scope, &mut before).await?;
        let mut after = before.clone();
        let answer = change(&mut after);
        self.write(&before, &after, Work::between(&before, &after)).await?;
        scope::give(&mut store, after);
        self.keep(store);
        answer
    }

    async fn logout(&self, discard: bool) -> Result<Logout, ReplicaError> {
        let before = self.memory().await?;
        let mut after = before.clone();
        let answer = after.logout(discard);
        let mut work = Work::between(&before, &after);
        if matches!(answer, Logout::Done { .. }) {
            let synced = after.tables.iter().map(|table| table.spec.name.clone());
            work.cleared = synced.chain(before.former.iter().cloned()).collect();
        }
        self.write(&before, &after, work).await?;
        self.keep(after);
        Ok(answer)
    }

    async fn read_rows(&self, scope: &Scope, part: &mut Store) -> Result<(), ReplicaError> {
        let mut keys = scope.rows.clone();
        for table in &scope.rows_of {
            let ids = self.local.ids(table).await?.into_iter();
            keys.extend(ids.map(|id| RecordKey { table: table.clone(), id }));
        }
        for key in keys {
            if let Some(row) = self.local.get(&key).await? {
                part.rows.insert(key, row);
            }
        }
        Ok(())
    }

    /// Queue, rows, cursors: the order that [`load`](Self::load) can finish from any point.
    async fn write(&self, before: &Store, after: &Store, work: Work) -> Result<(), ReplicaError> {
        let mut changes = image::difference(before, after)?;
        if changes.is_empty() && work.is_empty() {
            return Ok(());
        }
        changes.push(work.kept(after)?);
        self.queue.apply(&changes).await?;
        work.carry_out(&*self.local, &*self.timestamps).await
    }
}

#[async_trait]
impl Replica for SplitReplica {
    async fn state(&self) -> Result<State, ReplicaError> {
        self.ask(Store::state).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Fields>, ReplicaError> {
        let key = key.clone();
        self.alone(async move |stores: Arc<Stores>| stores.get(&key).await).await
    }

    async fn records(
        &self,
        table: &TableName,
        ids: &[RecordId],
        rows: bool,
    ) -> Result<Vec<Seen>, ReplicaError> {
        let (table, ids) = (table.clone(), ids.to_vec());
        self.alone(async move |stores: Arc<Stores>| stores.records(&table, &ids, rows).await).await
    }

    async fn due(&self, limits: &DueLimits) -> Result<Due, ReplicaError> {
        let limits = *limits;
        self.ask(move |store| store.due(&limits)).await
    }

    async fn unsettled(&self, table: &TableName, limit: usize) -> Result<Vec<Entry>, ReplicaError> {
        let table = table.clone();
        self.ask(move |store| store.unsettled(&table, limit)).await
    }

    async fn commit(&self, batch: Batch) -> Result<Outcome, ReplicaError> {
        let planned = batch.clone();
        self.change(move |store| Scope::of(store, &planned), |part| part.try_commit(batch)).await
    }

    async fn adopt(&self, schema: &Schema) -> Result<bool, ReplicaError> {
        let schema = schema.clone();
        self.change(Scope::all, move |part| part.adopt(&schema)).await
    }

    async fn add_table(&self, options: TableOptions) -> Result<bool, ReplicaError> {
        let name = options.name.clone();
        self.change(move |store| Scope::to_add(store, &name), |part| Ok(part.add_table(options))).await
    }

    async fn remove_table(&self, table: &TableName) -> Result<bool, ReplicaError> {
        let (table, name) = (table.clone(), table.clone());
        self.change(move |store| Scope::to_remove(store, &table), move |part| Ok(part.remove_table(&name)))
            .await
    }

    async fn logout(&self, discard: bool) -> Result<Logout, ReplicaError> {
        self.alone(async move |stores: Arc<Stores>| stores.logout(discard).await).await
    }

    async fn queue(&self, after: Counter, limit: usize) -> Result<Vec<Entry>, ReplicaError> {
        self.ask(move |store| store.entries(after, limit)).await
    }

    async fn dead_letters(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, ReplicaError> {
        self.ask(move |store| store.dead_letters(after, limit)).await
    }

    async fn conflicts(&self, before: i64, limit: usize) -> Result<Vec<Journaled>, ReplicaError> {
        self.ask(move |store| store.conflicts(before, limit)).await
    }

    async fn account(&self, key: &RecordKey) -> Result<Account, ReplicaError> {
        let key = key.clone();
        self.alone(async move |stores: Arc<Stores>| stores.account(&key).await).await
    }

    async fn close(&self) {
        self.alone(async |stores: Arc<Stores>| stores.closed.store(true, Ordering::Release)).await;
    }
}
