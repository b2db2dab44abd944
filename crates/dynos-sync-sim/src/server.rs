//! The server: the real store, on a disk that can lose what it has acknowledged, and the mirror of what it must have.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dynos_sync_core::{
    Counter, Fields, RecordId, RecordKey, RemoteError, ReplicaId, Seq, TableName,
    wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushRequest, PushResult},
};
use dynos_sync_server::{
    Config,
    config::{Auth, Durability, Now, Secret, Threads},
    store::{Caller, SqliteStore, Store, StoreError},
};
use futures_util::future::BoxFuture;
use tokio::runtime::Runtime;

use crate::{
    disk::{Disk, Image, Loss},
    history::History,
    mirror::{Lineage, Mirror, ScopeName, without_nulls},
    time::Timeline,
};

/// The server. Clones are the same.
#[derive(Clone, Debug)]
pub struct Server(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    runtime: Arc<Runtime>,
    timeline: Timeline,
    config: Config,
    disk: Disk,
    store: Option<SqliteStore>,
    mirror: Mirror,
    history: History,
    backups: Vec<(Image, Lineage)>,
    /// What entries were applied with, where no file is put back, under whose numbers others would be sent.
    applied: Option<BTreeMap<(ReplicaId, Counter), Option<Fields>>>,
    _folder: tempfile::TempDir,
}

const DATABASE: &str = "server.db";

/// What the server refuses for its size.
pub const RECORD_LIMIT: usize = 2000;

impl Server {
    /// Starts a server without data.
    ///
    /// # Errors
    /// Where the machine that all of this runs on has no room for a folder.
    pub fn start(
        runtime: Arc<Runtime>,
        history: &History,
        timeline: &Timeline,
        shared: BTreeSet<TableName>,
        page: usize,
    ) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let disk = Disk::mount(folder.path());
        let secret = Secret::new("nobody signs anything in a simulation");
        let mut config = Config::new(disk.path(DATABASE), Auth::Secret(secret));
        config.durability = Durability::Normal;
        config.threads = Threads::Caller;
        config.shared_tables = shared;
        config.limits.page_changes = page;
        config.limits.record_bytes = RECORD_LIMIT;
        config.retention.tombstones = Duration::from_secs(60);
        config.retention.outcomes = Duration::from_secs(365 * 24 * 60 * 60);
        let clock = timeline.clone();
        config.now = Now::new(move || clock.now());
        let history = history.clone();
        let mut inner = Inner {
            runtime,
            timeline: timeline.clone(),
            config,
            disk,
            store: None,
            mirror: Mirror::default(),
            history,
            backups: Vec::new(),
            applied: None,
            _folder: folder,
        };
        inner.open();
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what the server must have.
    pub fn mirror<T>(&self, look: impl FnOnce(&mut Mirror) -> T) -> T {
        look(&mut self.lock().mirror)
    }

    /// Whether a table is everybody's.
    pub fn scope(&self, user: &str, table: &TableName) -> ScopeName {
        self.lock().scope(user, table)
    }

    /// The process is killed and started again.
    pub fn restart(&self) {
        let mut inner = self.lock();
        inner.disk.kill();
        inner.open();
        inner.check_nothing_lost();
    }

    /// The machine loses its power: what the server acknowledged last may be gone. Answers how many commits are.
    pub fn lose_power(&self, loss: &mut Loss) -> usize {
        let mut inner = self.lock();
        inner.applied.iter_mut().for_each(BTreeMap::clear);
        inner.disk.lose_power(loss);
        inner.open();
        let seqs = inner.seqs();
        let lost = inner.mirror.lose(&seqs);
        inner.forget_backups();
        let left = inner.stored().into_keys().collect();
        inner.mirror.purge(&left);
        lost
    }

    /// Makes a copy of the server's data.
    pub fn back_up(&self) {
        let mut inner = self.lock();
        let copy = (inner.disk.image(), inner.mirror.lineage());
        inner.backups.push(copy);
    }

    /// Puts one of the copies back. Answers false where there is none.
    pub fn restore(&self, random: &mut fastrand::Rng) -> bool {
        let mut inner = self.lock();
        if inner.backups.is_empty() {
            return false;
        }
        inner.applied.iter_mut().for_each(BTreeMap::clear);
        let place = random.usize(..inner.backups.len());
        let (image, lineage) = inner.backups[place].clone();
        inner.disk.put_back(&image);
        inner.mirror.restore(&lineage);
        inner.forget_backups();
        inner.open();
        inner.check_nothing_lost();
        let left = inner.stored().into_keys().collect();
        inner.mirror.purge(&left);
        true
    }

    /// Forgets the tombstones whose time has come.
    pub fn purge(&self) {
        let mut inner = self.lock();
        let now = inner.timeline.now();
        let Some(store) = &inner.store else { return };
        while inner.runtime.block_on(store.purge(now)).is_ok_and(|purged| purged.more) {}
        let left = inner.stored().into_keys().collect();
        inner.mirror.purge(&left);
    }

    /// From now on, an entry that was applied and is sent again has to be what it was.
    pub fn expect_repeats(&self) {
        self.lock().applied = Some(BTreeMap::new());
    }

    /// A push, as it arrives. Answers the tables that moved, too.
    ///
    /// # Errors
    /// As the real server.
    pub fn push(
        &self,
        user: &str,
        device: usize,
        request: &PushRequest,
    ) -> Result<(PushAnswer, Vec<(ScopeName, TableName)>), RemoteError> {
        let mut inner = self.lock();
        let answer = inner.call(user, |store, caller| store.push(caller, request.clone()))?;
        let history = inner.history.clone();
        inner.check_repeats(device, request, &answer);
        let mut moved = Vec::new();
        for (entry, result) in request.entries.iter().zip(&answer.results) {
            let scope = inner.scope(user, &entry.table);
            let line = format!(
                "server: device {device} {:?} {}/{} as {} on {:?} of {:?}: {result:?}",
                entry.op,
                entry.table,
                entry.id,
                entry.counter,
                entry.base.as_ref().map(crate::mirror::seq_of),
                entry.data
            );
            history.note(inner.timeline.now(), &line);
            let mirror = &mut inner.mirror;
            let writer = (user.to_owned(), request.replica);
            mirror.committed(&history, &scope, &writer, device, entry, result);
            moved.push((scope, entry.table.clone()));
        }
        for unit in request.entries.iter().zip(&answer.results).collect::<Vec<_>>().chunk_by(
            |(one, _), (other, _)| one.transaction.is_some() && one.transaction == other.transaction,
        ) {
            let is_applied = |(_, result): &&(_, &PushResult)| matches!(result, PushResult::Applied { .. });
            let is_open = |(_, result): &&(_, &PushResult)| !result.is_done();
            if let (Some((applied, _)), Some((open, _))) =
                (unit.iter().find(is_applied), unit.iter().find(is_open))
            {
                let found = format!(
                    "{}/{} was applied, and {}/{} was not",
                    applied.table, applied.id, open.table, open.id
                );
                history.violation("transaction", found);
            }
        }
        for (table, head) in &answer.heads {
            let scope = inner.scope(user, table);
            inner.mirror.tell(&scope, &head.before);
            inner.mirror.tell(&scope, &head.after);
        }
        Ok((answer, moved))
    }

    /// A pull, as it arrives.
    ///
    /// # Errors
    /// As the real server.
    pub fn pull(&self, user: &str, request: PullRequest) -> Result<Page, RemoteError> {
        let mut inner = self.lock();
        let scope = inner.scope(user, &request.table);
        let page = inner.call(user, |store, caller| store.pull(caller, request))?;
        inner.mirror.tell(&scope, &page.next);
        let unreadable = |error: serde_json::Error| RemoteError::Protocol(error.to_string());
        serde_json::from_value(serde_json::to_value(&page).map_err(unreadable)?).map_err(unreadable)
    }

    /// Asks for heads.
    ///
    /// # Errors
    /// As the real server.
    pub fn heads(&self, user: &str, request: HeadsRequest) -> Result<Heads, RemoteError> {
        let mut inner = self.lock();
        let heads = inner.call(user, |store, caller| store.heads(caller, request))?;
        for (table, head) in &heads.heads {
            let scope = inner.scope(user, table);
            inner.mirror.tell(&scope, head);
        }
        Ok(heads)
    }

    /// Declares tables.
    ///
    /// # Errors
    /// As the real server.
    pub fn declare(&self, user: &str, tables: Vec<dynos_sync_core::TableSpec>) -> Result<(), RemoteError> {
        self.lock().call(user, |store, caller| store.declare(caller, tables)).map(drop)
    }

    /// The tables that a user sees.
    ///
    /// # Errors
    /// As the real server.
    pub fn tables(&self, user: &str) -> Result<Vec<dynos_sync_core::TableSpec>, RemoteError> {
        self.lock().call(user, |store, caller| store.tables(caller))
    }

    /// Compares what the server has with what it must have.
    pub fn check(&self) {
        let inner = self.lock();
        let found = inner.stored();
        for scope in inner.mirror.scopes() {
            for (key, kept) in inner.mirror.records(&scope) {
                let there = found.get(&(scope.clone(), key.clone()));
                let same = match there {
                    Some((seq, record)) => *seq == kept.seq && without_nulls(record.clone()) == kept.record,
                    // A tombstone that was purged.
                    None => kept.record.is_none(),
                };
                if !same {
                    let found = format!("{scope} {key}: {there:?} in place of {:?}", kept.record);
                    inner.history.violation("server", found);
                }
            }
        }
        let known = |place: &(ScopeName, RecordKey)| inner.mirror.record(&place.0, &place.1).is_some();
        for place in found.keys().filter(|place| !known(place)) {
            inner.history.violation("no invention", format!("the server has {} {}", place.0, place.1));
        }
    }
}

impl Inner {
    /// A device sends again what it has sent, whatever has become of its application meanwhile.
    fn check_repeats(&mut self, device: usize, request: &PushRequest, answer: &PushAnswer) {
        let Some(applied) = &mut self.applied else { return };
        for (entry, result) in request.entries.iter().zip(&answer.results) {
            let number = (request.replica, entry.counter);
            if let Some(before) = applied.get(&number).filter(|before| **before != entry.data) {
                let found = format!(
                    "device {device} sent entry {} as {before:?}, and again as {:?}",
                    entry.counter, entry.data
                );
                self.history.violation("repeat", found);
            }
            if matches!(result, PushResult::Applied { .. }) {
                applied.insert(number, entry.data.clone());
            }
        }
    }

    fn open(&mut self) {
        // What was open is dead already: nothing of it reaches the disk any more.
        drop(self.store.take());
        match self.runtime.block_on(async { SqliteStore::open(&self.config) }) {
            Ok(store) => self.store = Some(store),
            Err(error) => self.history.violation("server", format!("does not open again: {error:?}")),
        }
    }

    /// Copies of a history that was given up are not put back any more.
    fn forget_backups(&mut self) {
        let mirror = &self.mirror;
        self.backups.retain(|(_, lineage)| mirror.is_of_this_history(lineage));
    }

    fn scope(&self, user: &str, table: &TableName) -> ScopeName {
        match self.config.shared_tables.contains(table) {
            true => "s".to_owned(),
            false => format!("u:{user}"),
        }
    }

    fn call<T>(
        &mut self,
        user: &str,
        call: impl for<'a> FnOnce(&'a SqliteStore, &'a Caller) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> Result<T, RemoteError> {
        let caller = Caller { subject: user.to_owned() };
        let Some(store) = &self.store else { return Err(RemoteError::transient("the server is down")) };
        self.runtime.block_on(call(store, &caller)).map_err(as_remote)
    }

    fn db(&self) -> Option<rusqlite::Connection> {
        rusqlite::Connection::open(self.disk.path(DATABASE)).ok()
    }

    /// Every record that the server has, tombstones included.
    fn stored(&self) -> BTreeMap<(ScopeName, RecordKey), (Seq, Option<Fields>)> {
        let sql = "SELECT s.name, t.name, r.id, r.seq, r.data FROM records r JOIN tables t USING (tbl) JOIN scopes s USING (scope)";
        let read = || -> rusqlite::Result<_> {
            let db = self.db().ok_or(rusqlite::Error::InvalidQuery)?;
            let mut statement = db.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                let (scope, table, id): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok((scope, table, id, row.get::<_, Seq>(3)?, row.get::<_, Option<String>>(4)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut stored = BTreeMap::new();
        for (scope, table, id, seq, data) in read().unwrap_or_default() {
            let (Ok(table), Ok(id)) = (table.parse(), RecordId::try_from(id)) else { continue };
            let record = data.and_then(|data| serde_json::from_str(&data).ok());
            stored.insert((scope, RecordKey { table, id }), (seq, record));
        }
        stored
    }

    fn seqs(&self) -> BTreeMap<ScopeName, Seq> {
        let read = || -> rusqlite::Result<_> {
            let db = self.db().ok_or(rusqlite::Error::InvalidQuery)?;
            let mut statement = db.prepare("SELECT name, seq FROM scopes")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        read().unwrap_or_default()
    }

    fn check_nothing_lost(&mut self) {
        let seqs = self.seqs();
        for scope in self.mirror.scopes() {
            let (has, must) = (seqs.get(&scope).copied().unwrap_or(0), self.mirror.scope_seq(&scope));
            if has != must {
                self.history.violation("server", format!("{scope} is at {has} in place of {must}"));
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.disk.kill();
        drop(self.store.take());
        self.disk.unmount();
    }
}

/// As the real client reads the real server's answers.
fn as_remote(error: StoreError) -> RemoteError {
    let refused = |code: &str, message| RemoteError::Refused { code: code.to_owned(), message };
    match error {
        StoreError::Invalid(message) => refused("invalid", message),
        StoreError::TooLarge(_) => RemoteError::TooLarge,
        StoreError::Expired(expired) => RemoteError::CursorExpired(expired),
        StoreError::Forked(_) => RemoteError::ReplicaForked,
        other => RemoteError::transient(other.to_string()),
    }
}
