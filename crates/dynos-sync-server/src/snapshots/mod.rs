//! Snapshots for first pulls: prepared once, kept for a while, fetched in pieces.
//!
//! What a snapshot holds is what its caller's own pulls answer ([`build`]), so whoever may not see a record does not find it there. It is
//! kept for that caller alone, or, where all of its tables are shared, for everybody. Giving out one that is some minutes old loses
//! nothing: the device pulls what came later.

mod build;
mod file;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

/// The snapshots of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: SnapshotOptions,
    shared: BTreeSet<TableName>,
    now: Now,
    place: Place,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    building: Semaphore,
}

/// What can be one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Whose; nobody's in particular where all tables are shared.
    subject: Option<String>,
    /// The tables, as JSON.
    tables: String,
}

/// Whoever wants the same waits for the same.
type Slot = tokio::sync::Mutex<Option<Arc<Made>>>;

#[derive(Debug)]
struct Made {
    snapshot: Snapshot,
    at: Millis,
    packed: Packed,
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
            slots: Mutex::default(),
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
        let Some(made) = self.named(caller, id) else { return Ok(None) };
        let read = spawn_blocking(move || made.packed.read(from, most)).await;
        read.unwrap_or_else(|_| Err(StoreError::Unavailable)).map(Some)
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        self.slots().clear();
        self.0.place.remove();
    }

    async fn find_or_make(
        &self,
        store: &dyn Store,
        caller: &Caller,
        tables: Vec<TableSpec>,
    ) -> Result<Option<Snapshot>, StoreError> {
        let key = self.key(caller, &tables);
        let slot = Arc::clone(self.slots().entry(key.clone()).or_default());
        let mut kept = slot.lock().await;
        if let Some(made) = kept.as_ref()
            && self.is_fresh(made)
            && still_leads_on(store, caller, &made.snapshot).await?
        {
            return Ok(Some(made.snapshot.clone()));
        }
        *kept = None;
        let _turn = self.0.building.acquire().await.map_err(|_| StoreError::Unavailable)?;
        self.make_room(&key);
        let file = self.0.place.file()?;
        let Some((snapshot, packed)) = build::build(store, caller, tables, &self.0.options, file).await?
        else {
            return Ok(None);
        };
        let at = self.0.now.millis();
        *kept = Some(Arc::new(Made { snapshot: snapshot.clone(), at, packed }));
        Ok(Some(snapshot))
    }

    fn key(&self, caller: &Caller, tables: &[TableSpec]) -> Key {
        let all_shared = tables.iter().all(|spec| self.0.shared.contains(&spec.name));
        let subject = (!all_shared).then(|| caller.subject.clone());
        Key { subject, tables: serde_json::to_string(tables).unwrap_or_default() }
    }

    fn is_fresh(&self, made: &Made) -> bool {
        let age = self.0.now.millis().saturating_sub(made.at);
        (0..i64::try_from(self.0.options.age.as_millis()).unwrap_or(i64::MAX)).contains(&age)
    }

    /// Drops what is too old, what this caller had before, and the oldest for as long as there is no room for another one.
    fn make_room(&self, wanted: &Key) {
        let mut slots = self.slots();
        slots.retain(|key, slot| {
            // One that is locked is being made or asked for.
            let Ok(kept) = slot.try_lock() else { return true };
            let same_caller = wanted.subject.is_some() && key.subject == wanted.subject;
            kept.as_ref().is_some_and(|made| self.is_fresh(made) && !same_caller)
        });
        let mut by_age: Vec<(Millis, u64, Key)> = slots
            .iter()
            .filter_map(|(key, slot)| {
                let made = slot.try_lock().ok()?.clone()?;
                Some((made.at, made.snapshot.bytes, key.clone()))
            })
            .collect();
        by_age.sort_by_key(|(at, ..)| *at);
        let mut total: u64 = by_age.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, key) in by_age {
            if total <= self.0.options.bytes / 2 {
                break;
            }
            slots.remove(&key);
            total -= bytes;
        }
    }

    fn named(&self, caller: &Caller, id: &str) -> Option<Arc<Made>> {
        let slots = self.slots();
        let theirs = slots
            .iter()
            .filter(|(key, _)| key.subject.as_ref().is_none_or(|subject| *subject == caller.subject));
        // One that is locked is being replaced, or looked at for a moment: the caller asks for it anew.
        theirs.filter_map(|(_, slot)| slot.try_lock().ok()?.clone()).find(|made| made.snapshot.id == id)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
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
