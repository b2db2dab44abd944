//! Fields that the server's table has no column for, in a table of the application's.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use dynos_sync_core::{
    Edit, Entry, Fields, RecordKey, Replica, fields, json,
    plan::push,
    replica::{Batch, DeadLetter, DueLimits, Op, Revert, TableOptions},
};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
use futures_executor::block_on;
use rusqlite::Connection;
use tempfile::TempDir;

struct Device {
    _dir: TempDir,
    replica: SqliteReplica,
}

fn key() -> RecordKey {
    RecordKey::new("t", "1").unwrap()
}

impl Device {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app");
        let program = Connection::open(&path).unwrap();
        program
            .execute_batch("CREATE TABLE t (id TEXT PRIMARY KEY, title TEXT NOT NULL, colour TEXT)")
            .unwrap();
        let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
        block_on(replica.add_table(TableOptions::new("t".parse().unwrap()))).unwrap();
        Self { _dir: dir, replica }
    }

    fn commit(&self, ops: Vec<Op>) {
        block_on(self.replica.commit(Batch { ops, ..Batch::default() })).unwrap();
    }

    fn write(&self, edit: Edit) {
        self.commit(vec![Op::Write { key: key(), edit, at: 10 }]);
    }

    fn send(&self) -> Entry {
        let limits =
            DueLimits { now: 1000, longest_wait: i64::MAX, records: 9, bytes: 1 << 20, under_way: 0 };
        let due = block_on(self.replica.due(&limits)).unwrap();
        let mut prepared = push::prepare(&block_on(self.replica.state()).unwrap(), due.groups);
        block_on(self.replica.commit(prepared.batch)).unwrap();
        prepared.entries.remove(0)
    }

    /// Sends what is queued, and takes the colour out of it.
    fn set_colour_aside(&self) {
        let (counter, fields) = (self.send().counter, ["colour".to_owned()].into());
        self.commit(vec![Op::SetAside {
            key: key(),
            counter,
            fields,
            message: "no such column".into(),
            at: 20,
        }]);
    }

    fn bury(&self, revert: Revert) {
        let (counter, code) = (self.send().counter, "constraint".to_owned());
        self.commit(vec![Op::Bury { key: key(), counter, code, message: "no".into(), at: 30, revert }]);
    }

    fn row(&self) -> Option<Fields> {
        let mut row = block_on(self.replica.get(&key())).unwrap()?;
        row.remove("id");
        Some(row)
    }

    fn letters(&self) -> Vec<DeadLetter> {
        block_on(self.replica.dead_letters(0, 9)).unwrap()
    }

    fn retry_all(&self) {
        for letter in self.letters() {
            self.commit(vec![Op::Revive { letter: letter.id, at: 40 }]);
        }
    }
}

fn row(title: &str, colour: &str) -> Fields {
    fields([("title", json!(title)), ("colour", json!(colour))])
}

#[test]
fn they_outlast_what_becomes_of_the_rest() {
    for revert in [Revert::ToBase, Revert::To(Some(fields([("title", json!("theirs"))])))] {
        let title = if revert == Revert::ToBase { "old" } else { "theirs" };
        let device = Device::new();
        device.commit(vec![Op::Store { key: key(), record: Some(fields([("title", json!("old"))])) }]);
        device.write(Edit::Patch(row("new", "red")));
        device.set_colour_aside();
        assert_eq!(device.row(), Some(row("new", "red")));
        device.bury(revert);
        assert_eq!(device.row(), Some(row(title, "red")), "the title alone was given up");
        assert_eq!(device.letters().len(), 2);
    }
}

#[test]
fn a_retry_sends_what_the_row_has_in_them_now() {
    let device = Device::new();
    device.write(Edit::Upsert(row("new", "red")));
    device.set_colour_aside();
    device.write(Edit::Patch(fields([("colour", json!("blue"))])));
    device.set_colour_aside();
    device.commit(vec![Op::Settle { key: key(), counter: device.send().counter, record: None }]);
    assert_eq!(device.letters().len(), 2);
    device.retry_all();
    assert_eq!(device.row(), Some(row("new", "blue")));
    assert_eq!(device.send().edit, Edit::Patch(fields([("colour", json!("blue"))])));
}

#[test]
fn of_a_record_that_was_deleted_since_nothing_comes_back() {
    let device = Device::new();
    device.write(Edit::Upsert(row("new", "red")));
    device.set_colour_aside();
    device.write(Edit::Delete);
    device.retry_all();
    assert_eq!((device.row(), device.letters()), (None, vec![]));
    // And where it was deleted before, nothing is kept.
    device.write(Edit::Upsert(row("new", "red")));
    let sent = device.send();
    device.write(Edit::Delete);
    let fields = ["colour".to_owned()].into();
    device.commit(vec![Op::SetAside {
        key: key(),
        counter: sent.counter,
        fields,
        message: "no".into(),
        at: 20,
    }]);
    assert_eq!((device.letters(), device.send().edit), (vec![], Edit::Delete));
}

#[test]
fn a_record_that_is_given_up_takes_them_along() {
    let device = Device::new();
    device.write(Edit::Upsert(row("new", "red")));
    device.set_colour_aside();
    device.bury(Revert::ToBase);
    assert_eq!((device.row(), device.letters().len()), (None, 1));
    device.retry_all();
    assert_eq!((device.row(), device.letters().len()), (Some(row("new", "red")), 0));
    assert_eq!(device.send().edit, Edit::Upsert(row("new", "red")));
}
