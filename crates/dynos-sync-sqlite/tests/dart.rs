//! A database that the Dart package dynos_sync has used goes on with this engine, and loses nothing.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use dynos_sync_core::{
    Edit, Entry, Replica, ReplicaError, fields,
    replica::{State, TablePolicy},
};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
use futures_executor::block_on;
use rusqlite::Connection;

/// As the package's Drift adapter makes them.
const TABLES: &str = "
    CREATE TABLE dynos_sync_queue (id TEXT NOT NULL PRIMARY KEY, table_name TEXT NOT NULL, record_id TEXT NOT NULL, operation TEXT NOT NULL,
        payload TEXT NOT NULL, created_at INTEGER NOT NULL, synced_at INTEGER, retry_count INTEGER NOT NULL DEFAULT 0, next_retry_at INTEGER);
    CREATE TABLE dynos_sync_timestamps (table_name TEXT NOT NULL PRIMARY KEY, last_synced_at INTEGER NOT NULL);
    CREATE TABLE tasks (id TEXT PRIMARY KEY, title TEXT, done BOOLEAN);
    CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT);
    INSERT INTO dynos_sync_timestamps VALUES ('tasks', 1700000000000), ('notes', 1700000000000), ('dropped', 1700000000000);
    INSERT INTO tasks VALUES ('old', 'pushed long ago', 1), ('new', 'milk', 0), ('changed', 'bread', 1);
    INSERT INTO dynos_sync_queue (id, table_name, record_id, operation, payload, created_at, synced_at) VALUES
        ('e1', 'tasks', 'old', 'upsert', '{\"id\":\"old\",\"title\":\"pushed long ago\"}', 1700000000000, 1700000000001),
        ('e2', 'tasks', 'new', 'upsert', '{\"id\":\"new\",\"title\":\"water\",\"done\":false}', 1700000001000, NULL),
        ('e4', 'tasks', 'changed', 'patch', '{\"done\":true}', 1700000003000, NULL),
        ('e3', 'tasks', 'new', 'patch', '{\"title\":\"milk\"}', 1700000002000, NULL),
        ('e5', 'notes', 'gone', 'delete', '{}', 1700000004000, NULL),
        ('e6', 'notes', 'lost', 'upsert', '{\"id\":\"lost\",\"text\":\"the app died before its row\"}', 1700000005000, NULL),
        ('e7', 'tasks', 'old', 'patch', '{\"no_such\":1}', 1700000006000, NULL),
        ('e8', 'tasks', 'changed', 'merge', '{}', 1700000007000, NULL),
        ('e9', 'dropped', 'x', 'upsert', '{}', 1700000008000, NULL)";

fn open() -> (SqliteReplica, Connection, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sqlite");
    let program = Connection::open(&path).unwrap();
    program.execute_batch(TABLES).unwrap();
    (SqliteReplica::open(&path, &SqliteOptions::default()).unwrap(), program, dir)
}

fn names(state: &State) -> Vec<&str> {
    state.tables.iter().map(|table| table.spec.name.as_str()).collect()
}

fn shown(entry: &Entry) -> (&str, Edit, i64) {
    (entry.key.id.as_str(), entry.edit.clone(), entry.at)
}

#[test]
fn what_was_not_pushed_is_queued_in_its_order() {
    let (replica, program, _dir) = open();
    let done = block_on(replica.take_over_from_dart(&TablePolicy::default())).unwrap();
    assert_eq!((done.tables.len(), done.records), (2, 4));
    let left: Vec<(&str, &str)> =
        done.left.iter().map(|left| (left.entry.as_str(), left.problem.as_str())).collect();
    assert_eq!(left.iter().map(|(entry, _)| *entry).collect::<Vec<_>>(), ["e7", "e8", "e9"], "{left:?}");
    assert!(
        left[0].1.contains("no_such") && left[1].1.contains("merge") && left[2].1.contains("dropped"),
        "{left:?}"
    );
    let queue = block_on(replica.queue(0, 10)).unwrap();
    let milk = fields([("title", "milk".into()), ("done", false.into())]);
    let lost = fields([("text", "the app died before its row".into())]);
    let entries: Vec<_> = queue.iter().map(shown).collect();
    assert_eq!(entries[0], ("new", Edit::Upsert(milk), 1_700_000_002_000));
    assert_eq!(entries[1], ("changed", Edit::Patch(fields([("done", true.into())])), 1_700_000_003_000));
    assert_eq!((entries[2].0, &entries[2].1), ("gone", &Edit::Delete));
    assert_eq!((entries[3].0, &entries[3].1), ("lost", &Edit::Upsert(lost)));
    let state = block_on(replica.state()).unwrap();
    assert_eq!((names(&state), state.pending), (vec!["notes", "tasks"], 4));
    let text: String =
        program.query_row("SELECT text FROM notes WHERE id = 'lost'", [], |row| row.get(0)).unwrap();
    assert_eq!(text, "the app died before its row");
}

#[test]
fn it_may_be_called_again() {
    let (replica, program, _dir) = open();
    block_on(replica.take_over_from_dart(&TablePolicy::default())).unwrap();
    program
        .execute_batch("UPDATE dynos_sync_queue SET payload = '{\"done\":false}' WHERE id = 'e7'")
        .unwrap();
    let again = block_on(replica.take_over_from_dart(&TablePolicy::default())).unwrap();
    assert_eq!((again.tables.len(), again.records, again.left.len()), (0, 1, 2));
    assert_eq!(block_on(replica.state()).unwrap().pending, 5);
    let third = block_on(replica.take_over_from_dart(&TablePolicy::default())).unwrap();
    assert_eq!((third.records, third.left.len()), (0, 2));
    let hidden = TablePolicy { sensitive_fields: vec!["title".to_owned()], ..TablePolicy::default() };
    block_on(replica.take_over_from_dart(&hidden)).unwrap();
    let policies = block_on(replica.state()).unwrap().tables;
    assert!(
        policies.iter().all(|table| table.policy == TablePolicy::default()),
        "a synced table keeps its own"
    );
}

#[test]
fn a_database_of_another_application_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let replica = SqliteReplica::open(dir.path().join("app.sqlite"), &SqliteOptions::default()).unwrap();
    let refused = block_on(replica.take_over_from_dart(&TablePolicy::default()));
    assert!(
        matches!(&refused, Err(ReplicaError::Invalid(invalid)) if invalid.field == "dynos_sync_queue"),
        "{refused:?}"
    );
}

#[test]
fn another_users_rows_are_left() {
    let (replica, program, _dir) = open();
    program.execute_batch("ALTER TABLE tasks ADD COLUMN user_id TEXT; UPDATE tasks SET user_id = iif(id = 'new', 'bob', 'ada')").unwrap();
    let policy = TablePolicy { user: Some("ada".to_owned()), ..TablePolicy::default() };
    let done = block_on(replica.take_over_from_dart(&policy)).unwrap();
    let left: Vec<&str> = done.left.iter().map(|left| left.entry.as_str()).collect();
    assert_eq!(left, ["e7", "e8", "e9", "e2", "e3"]);
    let queue = block_on(replica.queue(0, 10)).unwrap();
    assert!(queue.iter().all(|entry| entry.key.id.as_str() != "new"));
}
