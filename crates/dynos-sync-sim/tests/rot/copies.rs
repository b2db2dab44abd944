//! Copies of a file: one that goes on as another device, one that is put back, and two processes on one file.

use std::{collections::BTreeMap, sync::Arc, thread};

use dynos_sync::{Driver, SyncError};
use dynos_sync_core::{RecordId, Replica, Value, memory::MemoryServer};
use dynos_sync_sqlite::SqliteReplica;
use futures_executor::block_on;

use crate::{
    device::{Device, drive},
    log::transactions,
    server::{Tap, values},
};

/// A device that is in use.
struct Running {
    replica: SqliteReplica,
    driver: Driver,
}

impl Running {
    fn start(device: &Device, tap: &Arc<Tap>) -> Self {
        let replica = device.open().unwrap();
        let driver = drive(&replica, tap).unwrap();
        Self { replica, driver }
    }

    fn write(&self, id: &str, what: &str) {
        block_on(self.driver.write("tasks", id, values("tasks", id, &["a"], what))).unwrap();
    }

    fn sync(&self) {
        block_on(self.driver.sync_all()).unwrap();
    }

    fn rows(&self) -> BTreeMap<String, Option<Value>> {
        let read = |db: &rusqlite::Connection| {
            let mut statement = db.prepare("SELECT id, a FROM tasks")?;
            let row = |row: &rusqlite::Row<'_>| {
                Ok((row.get(0)?, row.get::<_, Option<String>>(1)?.map(Value::from)))
            };
            statement.query_map([], row)?.collect()
        };
        block_on(self.replica.read_with(read)).unwrap()
    }

    /// Nothing waits, and nothing was given up.
    fn is_at_rest(&self) -> bool {
        let state = block_on(self.replica.state()).unwrap();
        // Two edits were refused before.
        (state.pending, state.dead_letters) == (0, 2)
    }
}

/// The server's rows.
fn records(server: &MemoryServer, user: &str) -> BTreeMap<String, Option<Value>> {
    let records = server.records(user, &"tasks".parse().unwrap());
    let a = |(id, record): (RecordId, dynos_sync_core::Fields)| (id.to_string(), record.get("a").cloned());
    records.into_iter().map(a).collect()
}

/// Each entry that the server has applied, it has applied once.
fn each_once(tap: &Tap) {
    let applied = tap.applied.lock().unwrap();
    assert!(!applied.is_empty() && applied.values().all(|times| *times == 1), "{applied:?}");
}

/// Both have the same identity and give the same numbers, and nothing on the disk tells the files apart: the server does.
#[test]
fn of_a_file_and_its_copy_every_edit_arrives_once_whoever_is_first() {
    for copy_first in [false, true] {
        let device = Device::new("original", "ada");
        let copy = device.copied("copy");
        let tap = Tap::new(&device.server, "ada");
        let mut both = [Running::start(&device, &tap), Running::start(&copy, &tap)];
        for (running, name) in both.iter().zip(["original", "copy"]) {
            for n in 0..5 {
                running.write(&format!("{name} {n}"), "made");
            }
            // The same record under the same number, with other content.
            running.write("both", &format!("by the {name}"));
        }
        if copy_first {
            both.reverse();
        }
        for _ in 0..3 {
            both.iter().for_each(Running::sync);
        }
        each_once(&tap);
        let records = records(&device.server, "ada");
        assert!(both.iter().all(|running| running.is_at_rest() && running.rows() == records), "{records:?}");
        let made = records.keys().filter(|id| id.starts_with("original") || id.starts_with("copy"));
        assert_eq!(made.count(), 10);
        assert!(records["both"].as_ref().unwrap().as_str().unwrap().starts_with("tasks/both/a/by the "));
        let [one, other] = both.map(|running| block_on(running.replica.state()).unwrap().replica);
        assert_ne!(one, other, "one of them has taken another identity");
    }
}

#[test]
fn a_file_and_its_log_put_back_to_any_earlier_moment_lose_and_double_nothing() {
    let images = transactions(&Device::new("count", "ada"), "ada").len();
    for moment in 0..images {
        let device = Device::new("back", "ada");
        let image = transactions(&device, "ada").swap_remove(moment);
        let tap = Tap::new(&device.server, "ada");
        let running = Running::start(&device, &tap);
        running.write("later", "made");
        running.sync();
        assert!(running.is_at_rest());
        let before = records(&device.server, "ada");
        drop(running);
        device.disk.put_back(&image);
        let running = Running::start(&device, &tap);
        // Under a number that is used already.
        running.write("anew", "made");
        (0..3).for_each(|_| running.sync());
        each_once(&tap);
        let mut after = records(&device.server, "ada");
        assert_eq!(running.rows(), after, "moment {moment}");
        assert!(running.is_at_rest(), "moment {moment}");
        assert!(after.remove("anew").is_some());
        assert_eq!(after, before, "moment {moment}");
    }
}

/// Nobody is refused: there is no lease. Whatever one has planned is planned again where the other was faster.
#[test]
fn two_engines_on_one_file_send_every_edit_once() {
    let device = Device::new("shared", "ada");
    let tap = Tap::new(&device.server, "ada");
    let work = |name: &str| {
        let replica = patient(|| Ok(device.open()?));
        let driver = patient(|| drive(&replica, &tap));
        for n in 0..60 {
            let id = format!("{name} {n}");
            patient(|| block_on(driver.write("tasks", &id, values("tasks", &id, &["a"], "made"))));
            if n % 5 == 0 {
                patient(|| block_on(driver.sync_all()).map(drop));
            }
        }
    };
    thread::scope(|scope| {
        let threads = ["one", "other"].map(|name| scope.spawn(move || work(name)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let running = Running::start(&device, &tap);
    running.sync();
    each_once(&tap);
    let records = records(&device.server, "ada");
    assert_eq!(running.rows(), records);
    assert!(running.is_at_rest());
    assert_eq!(records.keys().filter(|id| id.starts_with("one ") || id.starts_with("other ")).count(), 120);
}

/// Tries again what may work later. The disk's time is virtual: nobody waits for long for a lock.
fn patient<T>(mut call: impl FnMut() -> Result<T, SyncError>) -> T {
    loop {
        match call() {
            Err(error) if error.is_transient() => thread::yield_now(),
            done => return done.unwrap(),
        }
    }
}
