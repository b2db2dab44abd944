//! The database's threads: one that writes, some that read, and whoever calls.

use std::panic::resume_unwind;

use dynos_sync_core::{
    Replica, ReplicaError,
    replica::{Batch, Logout, Op, Outcome},
};
use dynos_sync_schedules::explore;
use dynos_sync_sqlite::SqliteReplica;
use shuttle::{
    future::{JoinHandle, block_on, spawn},
    rand::Rng,
};

use crate::file::{File, a_write, key, number, until, write};

#[test]
fn every_write_is_committed_once_and_who_was_told_so_reads_it() {
    explore(1000, || {
        let file = File::new();
        let replica = file.open();
        let writers: Vec<_> = (0..3).map(|n| spawn(writes_and_reads(replica.clone(), n))).collect();
        // Neither fits into a group of writes.
        let other = spawn(looks_and_declares(replica.clone()));
        block_on(async {
            let mut counters = Vec::new();
            for writer in writers {
                counters.extend(writer.await.unwrap());
            }
            other.await.unwrap();
            counters.sort_unstable();
            let queued: Vec<_> =
                replica.queue(0, 100).await.unwrap().into_iter().map(|entry| entry.counter).collect();
            assert_eq!(queued, counters);
            assert_eq!(queued.len(), 6);
            replica.close().await;
        });
    });
}

async fn writes_and_reads(replica: SqliteReplica, n: i64) -> Vec<u64> {
    let own = format!("{n}");
    let mut counters = Vec::new();
    for id in [own.as_str(), "shared"] {
        counters.extend(write(&replica, id, n).await.unwrap().written.into_iter().flatten());
        let row = replica.get(&key(id)).await.unwrap();
        assert!(row.is_some(), "{id} was acknowledged");
        assert!(id == "shared" || row == Some(number(n)));
    }
    counters
}

async fn looks_and_declares(replica: SqliteReplica) {
    for _ in 0..2 {
        let before = replica.state().await.unwrap();
        let declared = vec![Op::Declared { table: "notes".parse().unwrap() }];
        let done = replica.commit(Batch { ops: declared, ..Batch::default() }).await.unwrap();
        assert!(matches!(done, Outcome::Committed(_)));
        assert!(replica.queue(0, 100).await.unwrap().len() as u64 >= before.pending);
    }
}

#[test]
fn a_close_ends_after_what_was_handed_in_and_frees_the_file() {
    explore(1000, || {
        let file = File::new();
        let replica = file.open();
        let writers: Vec<_> = (0..2).map(|n| spawn(writes_until_closed(replica.clone(), n))).collect();
        let reader = spawn(reads_until_closed(replica.clone()));
        let closers: Vec<_> = (0..2).map(|_| spawn(closes(replica.clone(), file.clone()))).collect();
        block_on(async {
            let mut acknowledged = Vec::new();
            for writer in writers {
                acknowledged.extend(writer.await.unwrap());
            }
            reader.await.unwrap();
            for closer in closers {
                closer.await.unwrap();
            }
            acknowledged.sort_unstable();
            assert_eq!(file.ids(), acknowledged, "what was acknowledged, and nothing else");
        });
    });
}

async fn writes_until_closed(replica: SqliteReplica, n: i64) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for id in (0..3).map(|m| format!("{n}-{m}")) {
        match write(&replica, &id, n).await {
            Ok(_) => acknowledged.push(id),
            Err(ReplicaError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    acknowledged
}

async fn reads_until_closed(replica: SqliteReplica) {
    for _ in 0..3 {
        match replica.state().await {
            Ok(_) => {}
            Err(ReplicaError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn closes(replica: SqliteReplica, file: File) {
    replica.close().await;
    assert!(file.is_whole(), "who has closed the database may copy its file");
    assert!(file.is_free(), "who has closed the database may move its file");
    assert!(matches!(write(&replica, "late", 0).await, Err(ReplicaError::Closed)));
    assert!(matches!(replica.state().await, Err(ReplicaError::Closed)));
}

#[test]
fn a_panic_fails_its_own_call_and_no_other() {
    explore(1000, || {
        let file = File::new();
        let replica = file.open();
        let writers: Vec<_> = (0..2).map(|n| spawn(writes_and_reads(replica.clone(), n))).collect();
        let panicking = [spawn(panics_writing(replica.clone())), spawn(panics_reading(replica.clone()))];
        block_on(async {
            for writer in writers {
                assert_eq!(writer.await.unwrap().len(), 2);
            }
            for one in panicking {
                one.await.unwrap();
            }
            assert_eq!(replica.get(&key("half")).await.unwrap(), None, "it was undone");
            assert_eq!(replica.queue(0, 100).await.unwrap().len(), 4);
            replica.close().await;
        });
    });
}

async fn panics_writing(replica: SqliteReplica) {
    let half = |db: &rusqlite::Connection| -> rusqlite::Result<()> {
        db.execute("INSERT INTO notes VALUES ('half', '{}')", [])?;
        // The hook of the machinery would take a panic that is caught for the end of the run.
        resume_unwind(Box::new("of the application's"))
    };
    let answer = replica.write_with(half).await;
    assert!(matches!(answer, Err(ReplicaError::Storage { .. })), "{answer:?}");
}

async fn panics_reading(replica: SqliteReplica) {
    let panics = |_: &rusqlite::Connection| -> rusqlite::Result<()> { resume_unwind(Box::new("too")) };
    // As many as there are threads that read.
    for _ in 0..2 {
        let answer = replica.read_with(panics).await;
        assert!(matches!(answer, Err(ReplicaError::Storage { .. })), "{answer:?}");
    }
}

#[test]
fn who_no_longer_waits_holds_up_nobody_and_the_last_handle_ends_the_threads() {
    explore(1000, || {
        let file = File::new();
        let replica = file.open();
        let impatient: Vec<JoinHandle<_>> =
            (0..3).map(|n| spawn(writes_until_closed(replica.clone(), n))).collect();
        let patient = spawn(writes_and_reads(replica.clone(), 7));
        block_on(async {
            for (n, task) in impatient.iter().enumerate() {
                if shuttle::rand::thread_rng().gen_bool(0.7) || n == 0 {
                    task.abort();
                }
            }
            assert_eq!(patient.await.unwrap().len(), 2);
            drop(impatient);
            drop(replica);
            until(|| file.is_free()).await;
            assert!(file.ids().contains(&"7".to_owned()));
        });
    });
}

#[test]
fn a_logout_is_before_or_after_each_write() {
    explore(1000, || {
        let file = File::new();
        let replica = file.open();
        block_on(async {
            let before = replica.state().await.unwrap();
            let writer = spawn({
                let replica = replica.clone();
                async move { write(&replica, "new", 1).await.map(drop) }
            });
            // What was planned in the session, as an answer of the server's is.
            let late = spawn({
                let replica = replica.clone();
                let mut batch = a_write("old", 1);
                batch.expected.generation = Some(before.generation);
                async move { replica.commit(batch).await.unwrap() != Outcome::Stale }
            });
            let leaving = spawn({
                let replica = replica.clone();
                async move { replica.logout(false).await.unwrap() }
            });
            let (written, committed, left) =
                (writer.await.unwrap(), late.await.unwrap(), leaving.await.unwrap());
            let after = replica.state().await.unwrap();
            let queued: Vec<_> =
                replica.queue(0, 10).await.unwrap().into_iter().map(|entry| entry.key).collect();
            match left {
                Logout::Unsynced { changes } => {
                    assert_eq!((after.replica, after.generation), (before.replica, before.generation));
                    written.unwrap();
                    assert!(committed && changes > 0, "nobody has logged out");
                    assert_eq!(queued.len(), 2);
                }
                Logout::Done { discarded } => {
                    assert!(after.replica != before.replica && after.generation != before.generation);
                    assert_eq!(discarded, 0);
                    assert!(!committed, "it would have been lost, or come too late");
                    written.unwrap();
                    assert_eq!(queued, [key("new")], "it was written after the logout");
                }
            }
            replica.close().await;
        });
    });
}
