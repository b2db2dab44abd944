//! Databases that earlier versions have left, as they were written by these.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use dynos_sync_core::{
    Edit, Entry, RecordKey, Replica, Schema, fields, json,
    plan::push,
    replica::{Batch, DueLimits, Op},
};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
use futures_executor::block_on;
use rusqlite::Connection;

fn due(replica: &SqliteReplica, now: i64) -> Vec<(String, u64, bool)> {
    let limits = DueLimits { now, longest_wait: i64::MAX, records: 100, bytes: 1 << 20, under_way: 0 };
    let told = |entry: Entry| (entry.key.id.to_string(), entry.counter, entry.sent.is_some());
    block_on(replica.due(&limits)).unwrap().groups.into_iter().flatten().map(told).collect()
}

fn commit(replica: &SqliteReplica, ops: Vec<Op>) {
    block_on(replica.commit(Batch { ops, ..Batch::default() })).unwrap();
}

#[test]
fn a_file_of_version_4_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app");
    Connection::open(&path).unwrap().execute_batch(include_str!("kept/0004.sql")).unwrap();
    let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
    let state = block_on(replica.state()).unwrap();
    assert_eq!((state.pending, state.last_counter, state.last_sent), (6, 6, 2));
    let entry = |id: &str, counter, sent| (id.to_owned(), counter, sent);
    let (first, second) = (entry("sent", 1, true), entry("sent2", 2, true));
    assert_eq!(due(&replica, 1000), [first, second]);

    // Taken back, they are ready as the others are: each record's edits together, the one that waits when it is its time.
    let key = |id: &str| RecordKey::new("t", id).unwrap();
    let thaw = |id: &str, counter| Op::Thaw { key: key(id), counter };
    commit(&replica, vec![thaw("sent", 1), thaw("sent2", 2)]);
    let ready = vec![
        entry("sent", 1, false),
        entry("sent", 5, false),
        entry("sent2", 2, false),
        entry("ready", 3, false),
        entry("ready", 6, false),
    ];
    assert_eq!(due(&replica, 1000), ready);
    let waited = entry("waiting", 4, false);
    assert_eq!(due(&replica, 6000), [&ready[..], &[waited]].concat());

    // And go on, also for a program that only knows SQL.
    let edit = Edit::Upsert(fields([("v", json!(1))]));
    commit(&replica, vec![Op::Write { key: key("new"), edit, at: 1 }]);
    Connection::open(&path).unwrap().execute_batch("INSERT INTO t VALUES ('plain', 1)").unwrap();
    let now = due(&replica, 6000);
    assert_eq!(now[6..], [entry("new", 7, false), entry("plain", 8, false)]);
    let state = block_on(replica.state()).unwrap();
    assert_eq!((state.pending, state.last_counter), (8, 8));
}

/// What both files of later versions hold: see `kept/`.
fn goes_on(dump: &str, transaction: bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app");
    Connection::open(&path).unwrap().execute_batch(dump).unwrap();
    let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
    let renamed = Schema::version(1).step(1, |part| part.rename("v", "w"));
    assert!(block_on(replica.adopt(&renamed)).unwrap());

    // What was sent goes again as it was; then what waits, in the form of now.
    let send = |now| {
        let limits = DueLimits { now, longest_wait: i64::MAX, records: 100, bytes: 1 << 20, under_way: 0 };
        let due = block_on(replica.due(&limits)).unwrap();
        let prepared = push::prepare(&block_on(replica.state()).unwrap(), due.groups);
        block_on(replica.commit(prepared.batch)).unwrap();
        prepared.entries
    };
    let told = |entries: &[Entry]| -> Vec<_> {
        entries.iter().map(|entry| (entry.key.id.to_string(), entry.edit.clone())).collect()
    };
    let part = |name: &str, value: i64| fields([(name, json!(value))]);
    let sent = send(1000);
    assert_eq!(told(&sent), [("sent".to_owned(), Edit::Patch(part("v", 1)))]);
    commit(&replica, vec![Op::Settle { key: sent[0].key.clone(), counter: sent[0].counter, record: None }]);
    let mut expected = vec![
        ("sent".to_owned(), Edit::Patch(part("w", 2))),
        ("ready".to_owned(), Edit::Upsert(part("w", 1))),
    ];
    if transaction {
        expected.extend(["one", "two"].map(|id| (id.to_owned(), Edit::Upsert(part("w", 7)))));
    }
    assert_eq!(told(&send(1000)), expected);

    let letter = block_on(replica.dead_letters(0, 10)).unwrap().remove(0);
    assert_eq!((letter.key.id.as_str(), &letter.edits[0].0), ("dead", &Edit::Patch(part("w", 1))));
    let decided = block_on(replica.conflicts(i64::MAX, 10)).unwrap().remove(0).resolved.unwrap();
    assert_eq!((decided.mine, decided.theirs), (Some(part("w", 1)), Some(part("w", 2))));
}

#[test]
fn a_file_of_version_5_goes_on_where_it_was() {
    goes_on(include_str!("kept/0005.sql"), false);
}

#[test]
fn a_file_of_version_6_goes_on_where_it_was() {
    goes_on(include_str!("kept/0006.sql"), true);
}

#[test]
fn a_file_of_version_7_goes_on_where_it_was() {
    goes_on(include_str!("kept/0007.sql"), true);
}
