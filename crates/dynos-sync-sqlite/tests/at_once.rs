//! Small edits are committed by whoever makes them, unless something is in the way; and who moves the log into the file.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{
    path::{Path, PathBuf},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use dynos_sync_core::{
    RecordKey, Replica, ReplicaError, fields,
    replica::{Batch, Op, Outcome, TableOptions},
};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica, Synchronous};
use futures_executor::block_on;
use rusqlite::Connection;

struct Database {
    _dir: tempfile::TempDir,
    path: PathBuf,
    replica: SqliteReplica,
}

impl Database {
    fn with(synchronous: Synchronous, busy_timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sqlite");
        let options = SqliteOptions { synchronous, busy_timeout, ..SqliteOptions::default() };
        let replica = SqliteReplica::open(&path, &options).unwrap();
        block_on(replica.add_table(TableOptions::new("notes".parse().unwrap()))).unwrap();
        Self { _dir: dir, path, replica }
    }

    fn new() -> Self {
        Self::with(Synchronous::Normal, Duration::from_secs(5))
    }

    fn log(&self) -> u64 {
        let mut name = self.path.as_os_str().to_owned();
        name.push("-wal");
        std::fs::metadata(Path::new(&name)).map_or(0, |file| file.len())
    }
}

fn writes(ids: impl IntoIterator<Item = usize>) -> Batch {
    let write = |id: usize| Op::Write {
        key: RecordKey::new("notes", &id.to_string()).unwrap(),
        edit: dynos_sync_core::Edit::Upsert(fields([("text", "x".repeat(500).into())])),
        at: 1,
    };
    Batch { ops: ids.into_iter().map(write).collect(), ..Batch::default() }
}

/// Asks once whether a commit is done.
fn at_once(database: &Database, batch: Batch) -> Poll<Result<Outcome, ReplicaError>> {
    pin!(database.replica.commit(batch)).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_few_edits_are_committed_when_the_call_returns() {
    let database = Database::new();
    let mut at_once_done = 0;
    for n in 0..100 {
        // The thread does this, and has left its place when it answers.
        block_on(database.replica.queue(0, 1)).unwrap();
        let mut commit = pin!(database.replica.commit(writes(n * 3..n * 3 + 3)));
        match commit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => {
                at_once_done += 1;
                assert!(matches!(done, Ok(Outcome::Committed(_))), "{n}: {done:?}");
            }
            // Now and then somebody looks whether other programs have written.
            Poll::Pending => drop(block_on(commit).unwrap()),
        }
    }
    assert!(at_once_done > 80, "{at_once_done} of 100");
    assert_eq!(block_on(database.replica.state()).unwrap().pending, 300);
}

#[test]
fn whoever_calls_waits_neither_for_a_disk_that_may_be_slow_nor_for_much_work() {
    let database = Database::with(Synchronous::Full, Duration::from_secs(5));
    assert!(at_once(&database, writes([1])).is_pending(), "nothing is known of the disk");
    let database = Database::new();
    assert!(at_once(&database, writes(0..1000)).is_pending());
}

#[test]
fn whoever_calls_does_not_wait_for_another_program() {
    let database = Database::new();
    let program = Connection::open(&database.path).unwrap();
    program.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut commit = pin!(database.replica.commit(writes([1])));
    assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    program.execute_batch("COMMIT").unwrap();
    assert!(matches!(block_on(commit), Ok(Outcome::Committed(_))));
}

#[test]
fn what_another_program_wrote_comes_before() {
    let database = Database::new();
    let program = Connection::open(&database.path).unwrap();
    program.execute_batch("INSERT INTO notes (id, data) VALUES ('theirs', '{}')").unwrap();
    block_on(database.replica.commit(writes([1]))).unwrap();
    let queue = block_on(database.replica.queue(0, 10)).unwrap();
    assert_eq!(queue.iter().map(|entry| entry.key.id.as_str()).collect::<Vec<_>>(), ["theirs", "1"]);
}

#[test]
fn the_log_stays_short_while_somebody_writes_all_the_time() {
    let database = Database::new();
    for n in 0..6000 {
        // Every page that is written is a new one.
        block_on(database.replica.commit(writes(n * 10..(n + 1) * 10))).unwrap();
    }
    let longest = 9000 * 4120;
    assert!(database.log() < longest, "{} bytes", database.log());
    block_on(database.replica.close());
    assert_eq!(database.log(), 0, "who has closed the database may copy its file");
}
