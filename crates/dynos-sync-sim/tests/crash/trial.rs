//! One scenario, again and again from the same files.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use dynos_sync_core::{Replica, ReplicaError};
use dynos_sync_sim::disk::{Disk, Fault, Image, Loss, ReadOnly};
use dynos_sync_sqlite::{Random, SqliteOptions, SqliteReplica, Synchronous, Threads};
use futures_executor::block_on;
use rusqlite::{Connection, types::Value};

use crate::scenarios::Scenario;

pub(crate) const DATABASE: &str = "device.db";

pub(crate) struct Trial<'a> {
    scenario: &'a Scenario,
    disk: Disk,
    image: Image,
    before: Dump,
    after: Dump,
}

/// Everything in a database that means something.
type Dump = BTreeMap<String, Vec<Vec<Value>>>;

/// As the process opens it that something happens to. What it draws is always the same.
pub(crate) fn open(disk: &Disk, synchronous: Synchronous) -> Result<SqliteReplica, ReplicaError> {
    open_drawing(disk, synchronous, 9)
}

/// As an earlier process opened it.
pub(crate) fn open_earlier(disk: &Disk) -> SqliteReplica {
    open_drawing(disk, Synchronous::Full, 8).expect("nothing goes wrong")
}

fn open_drawing(disk: &Disk, synchronous: Synchronous, drawn: u8) -> Result<SqliteReplica, ReplicaError> {
    let random = Random::new(move || [drawn; 16]);
    let options = SqliteOptions { synchronous, threads: Threads::Caller, random, ..SqliteOptions::default() };
    SqliteReplica::open(disk.path(DATABASE), &options)
}

impl<'a> Trial<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        static DISKS: AtomicU64 = AtomicU64::new(0);
        let disk =
            Disk::mount(format!("/crash/{}/{}", std::process::id(), DISKS.fetch_add(1, Ordering::Relaxed)));
        (scenario.prepare)(&disk);
        let image = disk.image();
        let mut trial = Self { scenario, disk, image, before: Dump::new(), after: Dump::new() };
        trial.before = trial.reopened();
        trial.disk.put_back(&trial.image);
        trial.act(Synchronous::Full).expect("nothing goes wrong");
        trial.after = trial.reopened();
        assert_ne!(trial.before, trial.after, "the scenario does something");
        trial
    }

    fn act(&self, synchronous: Synchronous) -> Result<(), ReplicaError> {
        let done =
            open(&self.disk, synchronous).and_then(|replica| (self.scenario.act)(&self.disk, &replica));
        self.disk.kill_quietly();
        done
    }

    /// Opens the database, as the next process would, and reads everything.
    fn reopened(&self) -> Dump {
        if self.disk.names().iter().any(|name| name == DATABASE) || !self.scenario.makes_the_file {
            drop(open(&self.disk, Synchronous::Full).expect("it opens again"));
        }
        dump(&self.disk)
    }

    pub(crate) fn kill(&self, call: u64) -> bool {
        self.disk.put_back(&self.image);
        self.disk.arm(call, Fault::Kill);
        let done = self.act(Synchronous::Full);
        let met = self.disk.disarm();
        self.disk.kill();
        if met && std::env::var_os("DYNOS_CRASH_PAIRS").is_some() {
            self.crash_again(call, done.is_ok());
        }
        self.check(&format!("killed at call {call}"), done.is_ok());
        met
    }

    /// The recovery is killed, too.
    fn crash_again(&self, first: u64, done: bool) {
        let wreck = self.disk.image();
        for call in 0.. {
            self.disk.put_back(&wreck);
            self.disk.arm(call, Fault::Kill);
            drop(open(&self.disk, Synchronous::Full));
            let met = self.disk.disarm();
            self.disk.kill();
            self.check(&format!("killed at call {first}, and at {call} of the recovery"), done);
            if !met {
                break;
            }
        }
        self.disk.put_back(&wreck);
    }

    pub(crate) fn lose_power(&self, call: u64, seed: u64) -> bool {
        let mut met = false;
        for synchronous in [Synchronous::Full, Synchronous::Normal] {
            self.disk.put_back(&self.image);
            self.disk.arm(call, Fault::Kill);
            let done = self.act(synchronous);
            met |= self.disk.disarm();
            self.disk.lose_power(&mut Loss::new(seed));
            // Only FULL promises that what was acknowledged is there after a loss of power.
            let promised = done.is_ok() && synchronous == Synchronous::Full;
            self.check(&format!("power lost at call {call}, {synchronous:?}, seed {seed}"), promised);
        }
        met
    }

    pub(crate) fn fill(&self, call: u64, calls: u64) -> bool {
        self.fail(&format!("disk full at call {call} for {calls}"), call, Fault::Full { calls })
    }

    pub(crate) fn break_disk(&self, call: u64, calls: u64) -> bool {
        self.fail(&format!("disk broken at call {call} for {calls}"), call, Fault::Broken { calls })
    }

    fn fail(&self, what: &str, call: u64, fault: Fault) -> bool {
        let typed = |error: &ReplicaError| match fault {
            Fault::Full { .. } => matches!(error, ReplicaError::Full),
            _ => matches!(error, ReplicaError::Full | ReplicaError::Storage { .. } | ReplicaError::Busy),
        };
        self.hinder(what, |disk| disk.arm(call, fault), Disk::disarm, typed)
    }

    /// Others hold the locks that are asked for from there on, for longer than anybody waits, or only once.
    pub(crate) fn hold(&self, call: u64, calls: u64) -> bool {
        let what = format!("{calls} locks held from the {call}th on");
        let typed = |error: &ReplicaError| matches!(error, ReplicaError::Busy);
        self.hinder(&what, |disk| disk.hold_locks(call, calls), Disk::release_locks, typed)
    }

    /// Something is in the way of opening the database and of using it; then it is gone.
    fn hinder(
        &self,
        what: &str,
        begin: impl Fn(&Disk),
        end: impl Fn(&Disk) -> bool,
        typed: impl Fn(&ReplicaError) -> bool,
    ) -> bool {
        self.disk.put_back(&self.image);
        begin(&self.disk);
        let opened = open(&self.disk, Synchronous::Full);
        let done = opened.as_ref().map(|replica| (self.scenario.act)(&self.disk, replica));
        let met = end(&self.disk);
        let (acknowledged, error) = match done {
            Ok(Ok(())) => (true, None),
            Ok(Err(error)) => (false, Some(format!("{error:?}")).filter(|_| !typed(&error))),
            Err(error) => (false, Some(format!("{error:?}")).filter(|_| !typed(error))),
        };
        assert_eq!(error, None, "{}: {what}", self.scenario.name);
        if let Ok(replica) = &opened {
            block_on(replica.state())
                .unwrap_or_else(|error| panic!("{}: {what}: {error}", self.scenario.name));
        }
        drop(opened);
        self.disk.kill();
        self.check(what, acknowledged);
        met
    }

    /// Another process is in the midst of a transaction that writes. Once it has ended, all is done as ever.
    pub(crate) fn hold_the_writers_lock(&self) {
        self.disk.put_back(&self.image);
        let other = Connection::open(self.disk.path(DATABASE)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let opened = open(&self.disk, Synchronous::Full);
        let done = opened.and_then(|replica| {
            let done = (self.scenario.act)(&self.disk, &replica);
            other.execute_batch("ROLLBACK").unwrap();
            self.is_busy(&done);
            (self.scenario.act)(&self.disk, &replica)
        });
        if let Err(error) = done {
            // It could not even be opened.
            self.is_busy(&Err(error));
            other.execute_batch("ROLLBACK").unwrap();
            self.act(Synchronous::Full).expect("nobody is in the way");
        }
        drop(other);
        self.disk.kill();
        self.check("the writer's lock was held", true);
    }

    fn is_busy(&self, done: &Result<(), ReplicaError>) {
        assert!(matches!(done, Err(ReplicaError::Busy)), "{}: {done:?}", self.scenario.name);
    }

    /// Another process reads all the while: the log cannot be emptied into the file.
    pub(crate) fn hold_a_readers_lock(&self) {
        self.disk.put_back(&self.image);
        let other = Connection::open(self.disk.path(DATABASE)).unwrap();
        other.execute_batch("BEGIN").unwrap();
        other.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).unwrap();
        let replica = open(&self.disk, Synchronous::Full).expect("a reader is in nobody's way");
        (self.scenario.act)(&self.disk, &replica).expect("a reader is in nobody's way");
        drop((replica, other));
        self.disk.kill();
        self.check("a reader's lock was held", true);
    }

    /// What cannot be written is left as it is, and said to be so.
    pub(crate) fn forbid(&self, what: ReadOnly) {
        self.disk.put_back(&self.image);
        self.disk.set_read_only(Some(what));
        let done = self.act(Synchronous::Full);
        self.disk.set_read_only(None);
        let name = self.scenario.name;
        assert!(matches!(done, Err(ReplicaError::ReadOnly(_))), "{name}: {what:?}: {done:?}");
        self.disk.kill();
        let found = self.disk.read(DATABASE);
        assert!(found.is_none() || self.image.read(DATABASE) == found.as_deref(), "{name}: {what:?}");
        self.act(Synchronous::Full).expect("it can be written again");
        self.check(&format!("{what:?} was read-only"), true);
    }

    /// It is as it was, or as it was to be; the latter for certain where that was acknowledged.
    fn check(&self, what: &str, acknowledged: bool) {
        let found = self.reopened();
        let what = format!("{}: {what}", self.scenario.name);
        assert!(
            found == self.after || (!acknowledged && found == self.before),
            "{what}: {}",
            difference(&found, &self.after)
        );
        let db = Connection::open(self.disk.path(DATABASE)).unwrap();
        let intact: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(intact, "ok", "{what}");
        drop(db);
        self.disk.kill();
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.disk.unmount();
    }
}

fn dump(disk: &Disk) -> Dump {
    let mut dump = Dump::new();
    let Ok(db) = Connection::open(disk.path(DATABASE)) else { return dump };
    let names =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name";
    let names: Vec<String> = match db.prepare(names) {
        Ok(mut names) => names.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap(),
        Err(_) => return dump,
    };
    for name in names {
        dump.insert(name.clone(), rows(&db, &format!("SELECT * FROM \"{name}\"")));
    }
    // Whether the file was scrubbed already is no part of what it says.
    if let Some(state) = dump.get_mut("dynos_state") {
        *state = rows(
            &db,
            // What was only appended is told by the queue, whether the header was written since or not.
            "SELECT replica, generation, server, max(clock, newest.at), max(last_counter, newest.counter), \
                    pending + max(0, newest.counter - last_counter), layout, capture \
             FROM dynos_state, (SELECT coalesce(max(counter), 0) AS counter, coalesce(max(at), 0) AS at FROM dynos_queue) AS newest",
        );
    }
    let schema =
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY type, name";
    dump.insert("schema".to_owned(), rows(&db, schema));
    dump
}

fn rows(db: &Connection, sql: &str) -> Vec<Vec<Value>> {
    let mut statement = db.prepare(sql).unwrap();
    let columns = statement.column_count();
    let read = |row: &rusqlite::Row<'_>| (0..columns).map(|place| row.get(place)).collect();
    let mut rows: Vec<Vec<Value>> = statement.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap();
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

fn difference(found: &Dump, after: &Dump) -> String {
    let names: std::collections::BTreeSet<&String> = found.keys().chain(after.keys()).collect();
    let differ = names.into_iter().filter(|name| found.get(*name) != after.get(*name));
    differ
        .map(|name| format!("{name}: {:?} in place of {:?}", found.get(name), after.get(name)))
        .collect::<Vec<_>>()
        .join("; ")
}
