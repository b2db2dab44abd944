//! A device that has something of everything, and the same device put back again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dynos_sync::{Driver, SyncConfig, SyncError};
use dynos_sync_core::{
    Edit, Fields, RecordKey, Remote, Replica, ReplicaError, ReplicaId,
    conflict::StrategyName,
    fields, json,
    memory::MemoryServer,
    replica::{Batch, Op, Outcome, Resolved, Revert, TableOptions},
};
use dynos_sync_sim::disk::{Disk, Image};
use dynos_sync_sqlite::{Random, SqliteOptions, SqliteReplica, Threads};
use futures_executor::block_on;
use rusqlite::Connection;

use crate::server::{Still, Tap, elsewhere, values};

pub(crate) const DATABASE: &str = "device.db";
pub(crate) const LOG: &str = "device.db-wal";
pub(crate) const NOW: i64 = 1_800_000_000_000;

/// Small pages, so that there are many of every kind.
const SCHEMA: &str = "PRAGMA page_size = 512; PRAGMA journal_mode = WAL;
    CREATE TABLE tasks (id TEXT PRIMARY KEY, a TEXT, b TEXT, n INTEGER CHECK (n < 1000)); CREATE INDEX tasks_a ON tasks (a)";

/// How many there are.
static DISKS: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Device {
    pub(crate) disk: Disk,
    pub(crate) server: MemoryServer,
    /// The file as it was before anything was queued.
    pub(crate) earlier: Vec<u8>,
    place: u64,
    /// How often it has drawn something.
    drawn: Arc<AtomicU64>,
}

/// What a device was at some moment, and what it must not lose.
pub(crate) struct Moment {
    pub(crate) image: Image,
    /// The records with queued edits, and their counters.
    pub(crate) queued: BTreeMap<RecordKey, Vec<u64>>,
    /// Those of them that have arrived, though nobody said so.
    pub(crate) sent: BTreeSet<RecordKey>,
    pub(crate) rows: BTreeMap<RecordKey, Option<Fields>>,
    drawn: u64,
}

pub(crate) fn key(table: &str, id: &str) -> RecordKey {
    RecordKey::new(table, id).unwrap()
}

impl Device {
    /// A device of a user's: rows that were pulled, edits that are queued, sent, waiting and refused, conflicts.
    pub(crate) fn new(name: &str, user: &str) -> Self {
        let place = DISKS.fetch_add(1, Ordering::Relaxed);
        let disk = Disk::mount(format!("/rot/{}/{name}/{place}", std::process::id()));
        let (server, earlier, drawn) = (MemoryServer::new(), Vec::new(), Arc::default());
        let mut device = Self { disk, server, earlier, place, drawn };
        device.earlier = device.fill(user);
        device
    }

    /// The same files on a disk of another device's, which syncs with the same server.
    pub(crate) fn copied(&self, name: &str) -> Self {
        let place = DISKS.fetch_add(1, Ordering::Relaxed);
        let disk = Disk::mount(format!("/rot/{}/{name}/{place}", std::process::id()));
        disk.put_back(&self.disk.image());
        let (server, earlier) = (self.server.clone(), self.earlier.clone());
        Self { disk, server, earlier, place, drawn: Arc::default() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.disk.path(DATABASE)
    }

    pub(crate) fn open(&self) -> Result<SqliteReplica, ReplicaError> {
        let (place, drawn) = (self.place, Arc::clone(&self.drawn));
        let random = Random::new(move || bytes(place, drawn.fetch_add(1, Ordering::Relaxed)));
        let options = SqliteOptions { threads: Threads::Caller, random, ..SqliteOptions::default() };
        SqliteReplica::open(self.path(), &options)
    }

    /// Whether an identity is the device's, or one that it may have drawn.
    pub(crate) fn may_be(&self, replica: ReplicaId) -> bool {
        let drawn = self.drawn.load(Ordering::Relaxed);
        (0..drawn).any(|draw| replica == ReplicaId::from_random(bytes(self.place, draw)))
    }

    /// Answers what the file was before anything was queued.
    fn fill(&self, user: &str) -> Vec<u8> {
        Connection::open(self.path()).unwrap().execute_batch(SCHEMA).unwrap();
        let replica = self.open().unwrap();
        for table in ["tasks", "notes"] {
            block_on(replica.add_table(TableOptions::new(table.parse().unwrap()))).unwrap();
        }
        let tap = Tap::new(&self.server, user);
        let specs = block_on(replica.state()).unwrap().tables.into_iter().map(|table| table.spec);
        block_on(tap.declare(&specs.collect::<Vec<_>>())).unwrap();
        let row = |table: &'static str, n: usize| {
            let id = format!("{user}{n}");
            let names: &[&str] = if table == "tasks" { &["a", "b"] } else { &["title", "text"] };
            (id.clone(), Edit::Upsert(values(table, &id, names, "first")))
        };
        for (table, rows) in [("tasks", 40), ("notes", 12)] {
            let rows: Vec<_> = (0..rows).map(|n| row(table, n)).collect();
            let rows: Vec<_> =
                rows.iter().map(|(id, edit)| (table, id.as_str(), edit.clone(), NOW - 1000)).collect();
            let first = if table == "tasks" { 1 } else { 1000 };
            elsewhere(&self.server, user, first, &rows);
        }
        let driver = drive(&replica, &tap).unwrap();
        block_on(driver.sync_all()).unwrap();
        self.decided(&replica, user);
        block_on(replica.close());
        drop((driver, replica));
        let earlier = self.disk.read(DATABASE).unwrap();
        let replica = self.open().unwrap();
        let driver = drive(&replica, &tap).unwrap();
        // Sent, and applied there, but the answer was lost.
        for n in 0..3 {
            let id = format!("{user}{n}");
            block_on(driver.patch("tasks", &id, values("tasks", &id, &["a"], "sent"))).unwrap();
        }
        tap.loses_answers.store(true, Ordering::Relaxed);
        block_on(driver.drain()).unwrap_err();
        self.edited(&driver, user);
        self.postponed(&replica, user);
        block_on(replica.close());
        // Meanwhile others went on: news, and a conflict.
        let theirs = |n: usize| {
            let id = format!("{user}{n}");
            (id.clone(), Edit::Patch(values("tasks", &id, &["b"], "theirs")))
        };
        let theirs: Vec<_> = [5, 30, 31, 32].map(theirs).into();
        let theirs: Vec<_> =
            theirs.iter().map(|(id, edit)| ("tasks", id.as_str(), edit.clone(), NOW - 1)).collect();
        elsewhere(&self.server, user, 2000, &theirs);
        earlier
    }

    /// Dead letters, conflicts, and a row that the table refuses.
    fn decided(&self, replica: &SqliteReplica, user: &str) {
        for n in [20, 21] {
            let key = key("tasks", &format!("{user}{n}"));
            let fields = values("tasks", key.id.as_str(), &["b"], "refused");
            commit(replica, vec![Op::Write { key: key.clone(), edit: Edit::Patch(fields), at: NOW }]);
            let counter = block_on(replica.state()).unwrap().last_counter;
            let (code, message) = ("constraint".to_owned(), "no".to_owned());
            commit(replica, vec![Op::Bury { key, counter, code, message, at: NOW, revert: Revert::ToBase }]);
        }
        for n in [22, 23] {
            let key = key("tasks", &format!("{user}{n}"));
            let side = |what: &str| Some(values("tasks", key.id.as_str(), &["a", "b"], what));
            let conflict = Resolved {
                key: key.clone(),
                base: side("first"),
                mine: side("mine"),
                theirs: side("first"),
                outcome: side("first"),
                strategy: StrategyName::ServerWins,
                at: NOW - 500,
                decided_at: NOW,
            };
            commit(replica, vec![Op::Resolve { conflict: Box::new(conflict), edit: None }]);
        }
        let record = Some(fields([("a", json!("x")), ("n", json!(5000))]));
        commit(replica, vec![Op::Store { key: key("tasks", "kept aside"), record }]);
    }

    /// Edits of every kind that were never sent.
    fn edited(&self, driver: &Driver, user: &str) {
        let id = |n: usize| format!("{user}{n}");
        let patch = |n: usize, names: &[&str], what: &str| {
            block_on(driver.patch("tasks", &id(n), values("tasks", &id(n), names, what))).unwrap();
        };
        patch(5, &["a"], "patched");
        patch(6, &["a"], "once");
        patch(6, &["b"], "twice");
        patch(0, &["b"], "after it was sent");
        block_on(driver.remove("tasks", &id(7))).unwrap();
        block_on(driver.remove("tasks", &id(8))).unwrap();
        block_on(driver.write("tasks", &id(8), values("tasks", &id(8), &["a"], "anew"))).unwrap();
        for n in 100..106 {
            block_on(driver.write("tasks", &id(n), values("tasks", &id(n), &["a", "b"], "made"))).unwrap();
        }
        let (note, new) = (id(3), id(200));
        block_on(driver.patch("notes", &note, values("notes", &note, &["title"], "patched"))).unwrap();
        block_on(driver.write("notes", &new, values("notes", &new, &["title", "text"], "made"))).unwrap();
    }

    /// An edit that the server refused, and that waits.
    fn postponed(&self, replica: &SqliteReplica, user: &str) {
        let key = key("tasks", &format!("{user}9"));
        let edit = Edit::Patch(values("tasks", key.id.as_str(), &["a"], "waiting"));
        commit(replica, vec![Op::Write { key: key.clone(), edit, at: NOW }]);
        let counter = block_on(replica.state()).unwrap().last_counter;
        commit(replica, vec![Op::Postpone { key, counter, retry_at: NOW - 1 }]);
    }

    /// What it draws next is what it drew next then.
    pub(crate) fn begin_again(&self, moment: &Moment) {
        self.disk.put_back(&moment.image);
        self.drawn.store(moment.drawn, Ordering::Relaxed);
    }

    /// What it is now: closed, with everything in the file.
    pub(crate) fn moment(&self) -> Moment {
        let image = self.disk.image();
        let drawn = self.drawn.load(Ordering::Relaxed);
        let replica = self.open().unwrap();
        let mut queued: BTreeMap<RecordKey, Vec<u64>> = BTreeMap::new();
        let mut sent = BTreeSet::new();
        for entry in block_on(replica.queue(0, 1000)).unwrap() {
            sent.extend(entry.sent.as_ref().map(|_| entry.key.clone()));
            queued.entry(entry.key).or_default().push(entry.counter);
        }
        let mut rows = BTreeMap::new();
        for (table, id) in ids(&replica) {
            let key = key(table, &id);
            let row = block_on(replica.get(&key)).unwrap();
            rows.insert(key, row);
        }
        block_on(replica.close());
        drop(replica);
        self.disk.put_back(&image);
        Moment { image, queued, sent, rows, drawn }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.disk.kill();
        self.disk.unmount();
    }
}

fn bytes(place: u64, draw: u64) -> [u8; 16] {
    (u128::from(place + 1) << 64 | u128::from(draw)).to_le_bytes()
}

fn ids(replica: &SqliteReplica) -> Vec<(&'static str, String)> {
    let all = |table: &'static str| {
        let sql = format!("SELECT id FROM {table}");
        let read = move |db: &Connection| {
            db.prepare(&sql)?.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
        };
        block_on(replica.read_with(read)).unwrap().into_iter().map(move |id| (table, id))
    };
    all("tasks").chain(all("notes")).collect()
}

pub(crate) fn commit(replica: &SqliteReplica, ops: Vec<Op>) {
    let outcome = block_on(replica.commit(Batch { ops, ..Batch::default() })).unwrap();
    assert_ne!(outcome, Outcome::Stale);
}

/// The engine's jobs on a database.
pub(crate) fn drive(replica: &SqliteReplica, remote: &Arc<Tap>) -> Result<Driver, SyncError> {
    let remote = Arc::clone(remote) as Arc<dyn Remote>;
    let mut config = SyncConfig::default();
    config.stop_on_first_error = false;
    let clock = Arc::new(Still(NOW));
    block_on(Driver::new(Arc::new(replica.clone()), remote, clock, config, Box::new(|| 0)))
}
