//! The files that a database is: who may read them, where they are, and what is not opened.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;

use dynos_sync_core::{
    Edit, RecordKey, Replica, ReplicaError, fields,
    replica::{Batch, Op, TableOptions},
};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
use futures_executor::block_on;
use rusqlite::Connection;

fn open(path: &Path) -> SqliteReplica {
    SqliteReplica::open(path, &SqliteOptions::default()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let files = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
#[cfg(unix)]
fn a_new_database_is_for_its_owner_only_and_an_old_one_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    let new = open(&dir.path().join("new"));
    block_on(new.add_table(TableOptions::new("t".parse().unwrap()))).unwrap();
    assert_eq!([mode("new"), mode("new-wal"), mode("new-shm")], [0o600; 3]);

    let old = dir.path().join("old");
    Connection::open(&old).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o640)).unwrap();
    let _old = open(&old);
    assert_eq!([mode("old"), mode("old-wal"), mode("old-shm")], [0o640; 3]);
}

#[test]
fn what_sqlite_does_not_take_for_a_name_makes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("file:{}/named", dir.path().display());
    open(Path::new(&uri));
    assert!(SqliteReplica::open(":memory:", &SqliteOptions::default()).is_err(), "it has no log");
    assert_eq!(names(dir.path())[0], "named");
    assert!(!Path::new(&uri).exists() && !Path::new(":memory:").exists());
}

#[test]
fn nothing_lies_about_but_the_database_and_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let replica = open(&dir.path().join("app"));
    block_on(replica.add_table(TableOptions::new("t".parse().unwrap()))).unwrap();
    let store = |n: i32| Op::Store {
        key: RecordKey::new("t", &n.to_string()).unwrap(),
        record: Some(fields([("a", n.into())])),
    };
    block_on(replica.commit(Batch { ops: (0..1000).map(store).collect(), ..Batch::default() })).unwrap();
    assert_eq!(names(dir.path()), ["app", "app-shm", "app-wal"]);
    block_on(replica.logout(true)).unwrap();
    assert_eq!(names(dir.path()), ["app", "app-shm", "app-wal"]);
    drop(replica);
}

/// Linux says which files a process has open.
#[cfg(target_os = "linux")]
mod temporary {
    use std::{
        collections::BTreeSet,
        path::PathBuf,
        sync::atomic::{AtomicBool, Ordering},
    };

    use dynos_sync_core::{Edit, replica::DueLimits};

    use super::*;

    /// Temporary files of SQLite's have no name. While one is open, the system says so. Ends when `done`.
    fn temporary_files(done: &AtomicBool) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        while !done.load(Ordering::Acquire) {
            let open = std::fs::read_dir("/proc/self/fd").unwrap();
            let paths = open.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
            found.extend(paths.filter(|path| {
                let path = path.to_string_lossy();
                path.ends_with(" (deleted)") && (path.contains("/#") || path.contains("/etilqs_"))
            }));
        }
        found
    }

    /// A hundred thousand rows from a server, more than any cache holds; thousands of edits; lookups in all of them; and their end.
    #[test]
    fn edits_pages_and_a_logout_need_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let replica = open(&dir.path().join("app"));
        block_on(replica.add_table(TableOptions::new("t".parse().unwrap()))).unwrap();
        let done = AtomicBool::new(false);
        let found = std::thread::scope(|scope| {
            let watching = scope.spawn(|| temporary_files(&done));
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&replica)));
            done.store(true, Ordering::Release);
            worked.unwrap();
            watching.join().unwrap()
        });
        assert_eq!(found, BTreeSet::new());
    }

    fn work(replica: &SqliteReplica) {
        let key =
            |n: u64| RecordKey::new("t", &format!("{:x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).unwrap();
        let record = |n: u64| fields([("text", format!("row {n} {}", "x".repeat(100)).into())]);
        for page in 0..100 {
            let ops = (0..1000).map(|n| Op::Store { key: key(page * 1000 + n), record: Some(record(n)) });
            block_on(replica.commit(Batch { ops: ops.collect(), ..Batch::default() })).unwrap();
        }
        let edit = |n| Op::Write { key: key(n), edit: Edit::Upsert(record(n)), at: 1 };
        block_on(replica.commit(Batch { ops: (0..5000).map(edit).collect(), ..Batch::default() })).unwrap();
        let limits = DueLimits { now: 0, longest_wait: i64::MAX, records: 500, bytes: 1 << 20, under_way: 0 };
        assert_eq!(block_on(replica.due(&limits)).unwrap().groups.len(), 500);
        let ids: Vec<_> = (0..1000).map(|n| key(n * 90).id).collect();
        assert_eq!(block_on(replica.records(&"t".parse().unwrap(), &ids, true)).unwrap().len(), 1000);
        assert_eq!(block_on(replica.queue(0, 10_000)).unwrap().len(), 5000);
        block_on(replica.logout(true)).unwrap();
    }
}

#[test]
fn the_file_is_not_encrypted_and_nothing_pretends_that_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let replica = open(&dir.path().join("app"));
    // SQLCipher would answer its version.
    let cipher =
        block_on(replica.read_with(|db| db.pragma_query_value(None, "cipher_version", |row| row.get(0))));
    let cipher: Result<String, _> = cipher;
    assert!(cipher.is_err(), "an encrypting SQLite is linked: {cipher:?}");
    let bytes = std::fs::read(dir.path().join("app")).unwrap();
    assert!(bytes.is_empty() || bytes.starts_with(b"SQLite format 3\0"));
}

#[test]
fn a_file_of_a_later_version_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app");
    block_on(open(&path).close());
    let db = Connection::open(&path).unwrap();
    db.execute_batch("UPDATE dynos_state SET version = version + 1").unwrap();
    drop(db);
    let refused = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap_err();
    assert!(matches!(refused, ReplicaError::TooNew { found: 9, known: 8 }), "{refused:?}");
    let db = Connection::open(&path).unwrap();
    let version: i64 = db.query_row("SELECT version FROM dynos_state", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 9);
}

/// An application is updated while another process of it runs.
#[test]
fn who_has_a_file_open_while_a_later_version_takes_it_over_writes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app");
    let replica = open(&path);
    block_on(replica.add_table(TableOptions::new("notes".parse().unwrap()))).unwrap();
    Connection::open(&path).unwrap().execute_batch("UPDATE dynos_state SET version = version + 1").unwrap();
    let key = RecordKey::new("notes", "a").unwrap();
    let write = Op::Write { key, edit: Edit::Upsert(fields([])), at: 1 };
    let refused = block_on(replica.commit(Batch { ops: vec![write], ..Batch::default() })).unwrap_err();
    assert!(matches!(refused, ReplicaError::TooNew { found: 9, known: 8 }), "{refused:?}");
    assert!(matches!(block_on(replica.state()).unwrap_err(), ReplicaError::TooNew { .. }));
}

#[test]
fn a_table_of_the_engines_name_is_refused_by_name_and_left_as_it_is() {
    for (made, name) in [
        ("CREATE TABLE dynos_queue (x)", "dynos_queue"),
        ("CREATE TABLE DYNOS_STATE (x)", "dynos_state"),
        ("CREATE TABLE dynos_state (version)", "dynos_state"),
        ("CREATE VIEW dynos_former AS SELECT 1", "dynos_former"),
        ("CREATE TABLE theirs (x); CREATE INDEX dynos_queue_ready ON theirs (x)", "dynos_queue_ready"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(made).unwrap();
        let refused = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, ReplicaError::Invalid(_)), "{made}: {refused:?}");
        assert!(text.contains(name) && text.contains("rename"), "{made}: {text}");
        let objects = "SELECT count(*) FROM sqlite_schema WHERE sql IS NOT NULL";
        let objects: i64 = db.query_row(objects, [], |row| row.get(0)).unwrap();
        assert_eq!(objects as usize, made.split(';').count(), "{made}: nothing was made");
    }
}

#[test]
fn what_is_no_database_is_refused_by_its_path_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |name: &str| {
        let path = dir.path().join(name);
        let refused = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap_err();
        assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
        refused
    };
    for content in
        [&b"a letter to somebody"[..], &[0x5a; 8192], &[0; 4096], b"SQLite format 3\0 and nothing more"]
    {
        std::fs::write(dir.path().join("file"), content).unwrap();
        assert!(matches!(refuse("file"), ReplicaError::Corrupt(_)), "{content:?}");
        assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), content);
    }
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    assert!(matches!(refuse("folder"), ReplicaError::ReadOnly(_)));
    assert!(matches!(refuse("missing/file"), ReplicaError::ReadOnly(_)));
    assert_eq!(names(dir.path()), ["file", "folder"], "nothing was made");
}

#[test]
fn an_empty_file_becomes_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app");
    std::fs::write(&path, b"").unwrap();
    let replica = open(&path);
    assert_eq!(block_on(replica.state()).unwrap().pending, 0);
}

#[test]
fn another_applications_database_keeps_what_it_has_and_nothing_of_it_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs");
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA application_id = 77; PRAGMA user_version = 5; CREATE TABLE moz (id INTEGER PRIMARY KEY, v); INSERT INTO moz VALUES (1, 2)")
        .unwrap();
    let replica = open(&path);
    assert_eq!(block_on(replica.state()).unwrap().pending, 0);
    assert!(block_on(replica.queue(0, 10)).unwrap().is_empty());
    block_on(replica.close());
    let theirs =
        "SELECT (SELECT sum(v) FROM moz) * 10000 + (SELECT application_id FROM pragma_application_id) * 100
                  + (SELECT user_version FROM pragma_user_version)";
    assert_eq!(db.query_row(theirs, [], |row| row.get::<_, i64>(0)).unwrap(), 27705);
}
