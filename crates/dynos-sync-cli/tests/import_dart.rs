//! A database that the Dart package dynos_sync has used, from the command line.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use serde_json::json;
use support::{World, number, run, sql, text};

/// What the Dart application has left: `e1` and `e2` were not pushed, `e3` names a column that there is not.
const LEFT: &str = "
    CREATE TABLE tasks (id TEXT PRIMARY KEY, title TEXT, secret TEXT);
    INSERT INTO tasks VALUES ('old', 'pushed', NULL), ('t1', 'milk', 'x'), ('t2', 'bread', NULL);
    CREATE TABLE dynos_sync_timestamps (table_name TEXT NOT NULL PRIMARY KEY, last_synced_at INTEGER NOT NULL);
    INSERT INTO dynos_sync_timestamps VALUES ('tasks', 1700000000000);
    CREATE TABLE dynos_sync_queue (id TEXT NOT NULL PRIMARY KEY, table_name TEXT NOT NULL, record_id TEXT NOT NULL, operation TEXT NOT NULL,
        payload TEXT NOT NULL, created_at INTEGER NOT NULL, synced_at INTEGER, retry_count INTEGER NOT NULL DEFAULT 0, next_retry_at INTEGER);
    INSERT INTO dynos_sync_queue (id, table_name, record_id, operation, payload, created_at) VALUES
        ('e1', 'tasks', 't1', 'upsert', '{\"id\":\"t1\",\"title\":\"milk\",\"secret\":\"x\"}', 1700000001000),
        ('e2', 'tasks', 't2', 'upsert', '{\"id\":\"t2\",\"title\":\"bread\"}', 1700000002000),
        ('e3', 'tasks', 'old', 'patch', '{\"colour\":\"red\"}', 1700000003000)";

#[test]
fn what_was_not_pushed_arrives_and_what_cannot_be_taken_over_is_named() {
    let world = World::new();
    let phone = world.path("phone.sqlite");
    sql(&phone, LEFT);
    let database = phone.to_str().unwrap();
    let ran = run(["--json", "import-dart", database, "--sensitive", "secret"]).failed(3, "incomplete");
    let done = ran.json();
    assert_eq!((&done["tables"], &done["queued"]), (&json!(["tasks"]), &json!(2)));
    assert_eq!(done["left"][0]["entry"], "e3");
    assert!(done["left"][0]["problem"].as_str().unwrap().contains("colour"), "{done}");

    // Once more, when that has been put right. The field stays masked.
    sql(&phone, "ALTER TABLE tasks ADD COLUMN colour TEXT");
    let again = run(["import-dart", database]).ok();
    assert!(again.out.contains("queued: 1 record"), "{again:?}");
    let nothing = run(["--json", "import-dart", database]).ok().json();
    assert_eq!(
        (&nothing["tables"], &nothing["queued"], &nothing["left"]),
        (&json!([]), &json!(0), &json!([]))
    );

    world.sync(&phone);
    let laptop = world.cloned("laptop.sqlite");
    assert_eq!(number(&laptop, "SELECT count(*) FROM tasks WHERE id IN ('t1', 't2')"), 2);
    assert_ne!(text(&laptop, "SELECT coalesce(secret, 'null') FROM tasks WHERE id = 't1'"), "x");
}

#[test]
fn a_database_that_the_package_has_not_used_is_said_to_be_so() {
    let world = World::new();
    let other = world.path("other.sqlite");
    sql(&other, "CREATE TABLE tasks (id TEXT PRIMARY KEY)");
    run(["--json", "import-dart", other.to_str().unwrap()]).failed(1, "invalid");
    run(["--json", "import-dart", "no-such-file"]).failed(1, "not_found");
}
