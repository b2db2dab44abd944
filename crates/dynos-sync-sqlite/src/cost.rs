//! What is done often costs the same however long the queue is: counted in steps of SQLite's virtual machine, which do
//! not depend on how fast the machine is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use dynos_sync_core::{
    Edit, RecordKey, fields,
    replica::{Batch, DueLimits, Op, TableOptions},
};
use rusqlite::{
    Connection, StatementStatus,
    trace::{TraceEvent, TraceEventCodes},
};

use crate::{
    admin, collect,
    commit::commit,
    error::Result,
    header::{Header, migrate},
    random::Random,
    reading,
    replica::SqliteOptions,
    session::Session,
    writer::Writer,
};

/// A database with that many queued rows of 100,000.
fn database(dir: &tempfile::TempDir, queued: u32) -> std::path::PathBuf {
    let path = dir.path().join(format!("{queued}.sqlite"));
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        .unwrap();
    let fill = "INSERT INTO t WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n LIMIT ?) SELECT n, 'x' FROM n";
    db.execute(fill, [100_000 - queued]).unwrap();
    migrate(&db, &Random::default()).unwrap();
    let mut writer = Writer::new(db, &SqliteOptions::default(), Arc::default());
    let options = TableOptions {
        existing: dynos_sync_core::replica::Existing::Ignore,
        ..TableOptions::new("t".parse().unwrap())
    };
    writer.transaction(|session| admin::add_table(session, &options)).unwrap();
    let more = "INSERT INTO t WITH RECURSIVE n (n) AS (VALUES (100001) UNION ALL SELECT n + 1 FROM n LIMIT ?) SELECT n, 'y' FROM n";
    writer.transaction(|session| Ok(session.db.execute(more, [queued]).unwrap())).unwrap();
    writer.collect().unwrap();
    path
}

/// The steps that an operation takes, on a fresh connection.
fn steps(path: &std::path::Path, operation: impl FnOnce(&mut Session<'_>) -> Result<()>) -> i32 {
    let mut db = Connection::open(path).unwrap();
    let counted: Arc<Mutex<HashMap<String, i32>>> = Arc::default();
    let counts = Arc::clone(&counted);
    db.trace_v2(
        TraceEventCodes::SQLITE_TRACE_PROFILE,
        Some(move |event: TraceEvent<'_>| {
            if let TraceEvent::Profile(statement, _) = event {
                let steps = statement.get_status(StatementStatus::VmStep);
                counts.lock().unwrap().insert(statement.sql().into_owned(), steps);
            }
        }),
    )
    .unwrap();
    let mut writer = Writer::new(db, &SqliteOptions::default(), Arc::default());
    writer
        .transaction(|session| {
            collect::collect(session)?;
            operation(session)
        })
        .unwrap();
    counted.lock().unwrap().values().sum()
}

fn assert_constant(name: &str, operation: impl Fn(&mut Session<'_>) -> Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    let few = steps(&database(&dir, 200), &operation);
    let many = steps(&database(&dir, 20_000), &operation);
    assert!(many <= few + few / 10, "{name} takes {few} steps with 200 queued and {many} with 20,000");
}

#[test]
fn the_next_batch_does_not_walk_the_queue() {
    assert_constant("due", |session| {
        let due = reading::due(
            session,
            &DueLimits { now: 0, longest_wait: i64::MAX, records: 100, bytes: 1 << 20, under_way: 0 },
        )?;
        assert_eq!(due.groups.len(), 100);
        Ok(())
    });
}

/// What is due while all that was queued waits, or was drained, and one edit has been made since.
fn due_after(session: &mut Session<'_>) -> Result<()> {
    let due = reading::due(session, &limits(100))?;
    assert_eq!(due.groups.len(), 1);
    Ok(())
}

fn limits(records: usize) -> DueLimits {
    DueLimits { now: 0, longest_wait: i64::MAX, records, bytes: 1 << 30, under_way: 0 }
}

/// Does something to all that is queued, and then makes one more edit.
fn prepared(
    dir: &tempfile::TempDir,
    queued: u32,
    op: impl Fn(&dynos_sync_core::Entry) -> Op,
) -> std::path::PathBuf {
    let path = database(dir, queued);
    let mut writer = Writer::new(Connection::open(&path).unwrap(), &SqliteOptions::default(), Arc::default());
    let all = |session: &mut Session<'_>| {
        let due = reading::due(session, &limits(100_000))?;
        let ops = due.groups.iter().flatten().map(&op).collect();
        commit(session, &Batch { ops, ..Batch::default() }).map(drop)
    };
    writer.transaction(all).unwrap();
    // Looked for once, and not found.
    writer.transaction(|session| reading::due(session, &limits(100)).map(drop)).unwrap();
    let edit = Edit::Upsert(fields([("v", "z".into())]));
    let write = Op::Write { key: RecordKey::new("t", "1").unwrap(), edit, at: 1 };
    writer.transaction(|session| commit(session, &Batch { ops: vec![write], ..Batch::default() })).unwrap();
    path
}

#[test]
fn the_next_batch_does_not_walk_what_waits_nor_what_stands_behind_another() {
    let postponed = |entry: &dynos_sync_core::Entry| Op::Postpone {
        key: entry.key.clone(),
        counter: entry.counter,
        retry_at: 1000,
    };
    let dir = tempfile::tempdir().unwrap();
    let steps = [200, 20_000].map(|queued| steps(&prepared(&dir, queued, postponed), due_after));
    assert!(steps[1] <= steps[0] + steps[0] / 10, "{steps:?}");
}

#[test]
fn a_write_does_not_walk_the_queue() {
    assert_constant("write", |session| {
        let edit = Edit::Patch(fields([("v", "z".into())]));
        let op = Op::Write { key: RecordKey::new("t", "100001")?, edit, at: 1 };
        commit(session, &Batch { ops: vec![op], ..Batch::default() }).map(drop)
    });
}

#[test]
fn the_status_does_not_walk_the_queue() {
    assert_constant("status", |session| {
        let header = Header::read(session.db)?;
        reading::state(session.db, session.catalog, &header).map(drop)
    });
}

#[test]
fn looking_up_a_pages_pending_entries_does_not_walk_the_queue() {
    assert_constant("records", |session| {
        let ids: Vec<_> = (1..200).map(|n: u32| n.to_string().try_into().unwrap()).collect();
        reading::records(session, &"t".parse()?, &ids, false).map(drop)
    });
}
