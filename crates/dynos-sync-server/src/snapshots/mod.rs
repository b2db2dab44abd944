//! Snapshots for first pulls: prepared once, kept for a while, fetched in pieces.
//!
//! What a snapshot holds is what its caller's own pulls answer, so whoever may not see a record does not find it there. It is
//! kept for that caller alone, or, where all of its tables are shared, for everybody. Giving out one that is some minutes old loses
//! nothing: the device pulls what came later.

mod build;
mod file;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dynos_sync_core::{
    Cursor, Millis, ReplicaId, TableName, TableSpec,
    snapshot::{Snapshot, SnapshotRequest},
    wire::{HeadsRequest, PullRequest},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use self::file::{Packed, Place};
use crate::{
    config::{Config, Now, SnapshotOptions},
    store::{Caller, Store, StoreError},
};

/// How many are built at once: building takes a core, and pushes and pulls are to go on.
const BUILT_AT_ONCE: usize = 1;

/// Whoever has fetched a piece within this time is about to fetch the next.
const IN_USE: Duration = Duration::from_secs(60);

/// The snapshots of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: SnapshotOptions,
    shared: BTreeSet<TableName>,
    now: Now,
    place: Place,
    kept: Mutex<Kept>,
    building: Semaphore,
}

#[derive(Debug, Default)]
struct Kept {
    made: Vec<Made>,
    /// Whoever wants the same waits for the same.
    turns: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
}

/// What can be one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Whose; nobody's in particular where all tables are shared.
    subject: Option<String>,
    /// The tables, as JSON.
    tables: String,
}

#[derive(Debug)]
struct Made {
    key: Key,
    snapshot: Snapshot,
    at: Millis,
    /// When a piece of it was fetched last.
    used: Millis,
    packed: Arc<Packed>,
}

impl Snapshots {
    /// Nothing is written before the first is asked for. `directory` is where they are kept if the options name none.
    pub(crate) fn new(config: &Config, directory: Option<PathBuf>) -> Self {
        let options = config.snapshots.clone();
        let place = Place::new(options.directory.clone().or(directory));
        Self(Arc::new(Inner {
            options,
            shared: config.shared_tables.clone(),
            now: config.now.clone(),
            place,
            kept: Mutex::default(),
            building: Semaphore::new(BUILT_AT_ONCE),
        }))
    }

    /// A snapshot of the tables; none where they are small, or cannot travel so. It is built to its end whether or not the caller
    /// waits for it: whoever asks again finds it.
    pub(crate) async fn offer(
        &self,
        store: &Arc<dyn Store>,
        caller: Caller,
        request: SnapshotRequest,
    ) -> Result<Option<Snapshot>, StoreError> {
        check(&request)?;
        if self.0.options.bytes == 0 || request.tables.is_empty() {
            return Ok(None);
        }
        let (this, store) = (self.clone(), Arc::clone(store));
        let made = tokio::spawn(async move { this.find_or_make(&*store, &caller, request.tables).await });
        made.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Bytes of a snapshot from `from` on, at most `most`; `None` where there is no such snapshot for this caller.
    pub(crate) async fn read(
        &self,
        caller: &Caller,
        id: &str,
        from: u64,
        most: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(packed) = self.named(caller, id) else { return Ok(None) };
        let read = spawn_blocking(move || packed.read(from, most)).await;
        read.unwrap_or_else(|_| Err(StoreError::Unavailable)).map(Some)
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        self.kept().made.clear();
        self.0.place.remove();
    }

    async fn find_or_make(
        &self,
        store: &dyn Store,
        caller: &Caller,
        tables: Vec<TableSpec>,
    ) -> Result<Option<Snapshot>, StoreError> {
        let key = self.key(caller, &tables)?;
        let turn = Arc::clone(self.kept().turns.entry(key.clone()).or_default());
        let _turn = turn.lock().await;
        if let Some(snapshot) = self.newest(&key)
            && still_leads_on(store, caller, &snapshot).await?
        {
            return Ok(Some(snapshot));
        }
        let _building = self.0.building.acquire().await.map_err(|_| StoreError::Unavailable)?;
        self.make_room(&key);
        let file = self.0.place.file()?;
        let Some((snapshot, packed)) = build::build(store, caller, tables, &self.0.options, file).await?
        else {
            return Ok(None);
        };
        let (at, packed) = (self.0.now.millis(), Arc::new(packed));
        self.kept().made.push(Made { key, snapshot: snapshot.clone(), at, used: at, packed });
        Ok(Some(snapshot))
    }

    fn key(&self, caller: &Caller, tables: &[TableSpec]) -> Result<Key, StoreError> {
        let all_shared = tables.iter().all(|spec| self.0.shared.contains(&spec.name));
        let subject = (!all_shared).then(|| caller.subject.clone());
        let tables = serde_json::to_string(tables)
            .map_err(|error| StoreError::Corrupt(format!("BUG: declarations cannot be written: {error}")))?;
        Ok(Key { subject, tables })
    }

    /// What is given out again.
    fn newest(&self, key: &Key) -> Option<Snapshot> {
        let kept = self.kept();
        let made = kept.made.iter().rev().find(|made| made.key == *key)?;
        self.is_within(made.at, self.0.options.age).then(|| made.snapshot.clone())
    }

    fn is_within(&self, time: Millis, age: Duration) -> bool {
        let passed = self.0.now.millis().saturating_sub(time);
        (0..i64::try_from(age.as_millis()).unwrap_or(i64::MAX)).contains(&passed)
    }

    /// Drops what is too old, what this caller had before, and what was used longest ago for as long as there is no room for another
    /// one. What somebody is fetching stays, unless there is no room.
    fn make_room(&self, wanted: &Key) {
        let mut kept = self.kept();
        kept.made.retain(|made| {
            let same_caller = wanted.subject.is_some() && made.key.subject == wanted.subject;
            let of_use = self.is_within(made.at, self.0.options.age) && !same_caller;
            of_use || self.is_within(made.used, IN_USE)
        });
        kept.made.sort_by_key(|made| made.used);
        let mut total: u64 = kept.made.iter().map(|made| made.snapshot.bytes).sum();
        while total > self.0.options.bytes / 2 {
            total -= kept.made.remove(0).snapshot.bytes;
        }
        kept.made.sort_by_key(|made| made.at);
        kept.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    }

    fn named(&self, caller: &Caller, id: &str) -> Option<Arc<Packed>> {
        let now = self.0.now.millis();
        let mut kept = self.kept();
        let made = kept.made.iter_mut().find(|made| made.snapshot.id == id)?;
        made.key.subject.as_ref().is_none_or(|subject| *subject == caller.subject).then(|| {
            made.used = now;
            Arc::clone(&made.packed)
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(request: &SnapshotRequest) -> Result<(), StoreError> {
    let (asked, limit) = (request.tables.len(), HeadsRequest::MAX_TABLES);
    if asked > limit {
        return Err(StoreError::Invalid(format!("{asked} tables, the limit is {limit}")));
    }
    let mut names = BTreeSet::new();
    for spec in &request.tables {
        spec.validate()?;
        if !names.insert(spec.name.as_str().to_lowercase()) {
            return Err(StoreError::Invalid(format!("table {} is named twice", spec.name)));
        }
    }
    Ok(())
}

/// Whether the histories that the snapshot's cursors belong to are still there: not where the store was restored meanwhile, nor where
/// tombstones that came later are gone.
async fn still_leads_on(store: &dyn Store, caller: &Caller, snapshot: &Snapshot) -> Result<bool, StoreError> {
    for (table, held) in &snapshot.tables {
        let request = pull_request(table.clone(), Some(held.cursor.clone()), 1);
        match store.pull(caller, request).await {
            Ok(_) => {}
            Err(StoreError::Expired(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn pull_request(table: TableName, cursor: Option<Cursor>, limit: usize) -> PullRequest {
    // A replica that has never written.
    let replica = ReplicaId::from_random([0; 16]);
    PullRequest { replica, table, cursor, seen: None, limit, unsettled: Vec::new(), all: true }
}

/// A name that nobody guesses.
fn fresh_name() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::Unavailable)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}
