//! What a session may leave to the next one: nothing. And what is said of a table holds from then on.

use std::sync::{Arc, atomic::Ordering};

use dynos_sync::{SyncError, fields};
use dynos_sync_core::{
    REDACTED,
    memory::MemoryReplica,
    replica::{TableOptions, TablePolicy},
};
use dynos_sync_schedules::explore;
use shuttle::future::{block_on, spawn, yield_now};

use crate::{
    file::{TABLE, number},
    world::{World, by_itself, edits, when_asked, with_theirs},
};

#[test]
fn after_a_logout_nothing_of_the_session_comes_back() {
    explore(4000, || {
        block_on(async {
            let world = with_theirs().await;
            let device = world.device(1, by_itself).await;
            let before = device.replica.state().await.unwrap();
            let writing = spawn({
                let (engine, replica) = (device.engine.clone(), Arc::clone(&device.replica));
                async move {
                    let began_in = replica.state().await.unwrap().generation;
                    (began_in, engine.write(TABLE, "mine", number(1)).await)
                }
            });
            device.engine.logout(true).await.unwrap();
            let calls = device.seen.calls.load(Ordering::Relaxed);
            let (began_in, written) = writing.await.unwrap();
            for _ in 0..20 {
                yield_now().await;
            }
            let after = device.replica.state().await.unwrap();
            assert!(after.replica != before.replica && after.generation != before.generation);
            assert_eq!((after.server, after.tables[0].cursor.clone()), (None, None));
            assert_eq!(device.number("theirs"), None);
            // It is there only if it belongs to whoever has the device now.
            let is_there = device.number("mine").is_some();
            assert_eq!(u64::from(is_there), device.pending());
            assert_eq!(is_there, began_in == after.generation && written.is_ok());
            assert_eq!(device.seen.calls.load(Ordering::Relaxed), calls, "nobody has asked for anything");
            device.end().await;
        });
    });
}

#[test]
fn a_logout_that_discards_nothing_loses_nothing() {
    explore(4000, || {
        block_on(async {
            let world = with_theirs().await;
            let device = world.device(1, by_itself).await;
            let writing = spawn({
                let engine = device.engine.clone();
                async move { engine.write(TABLE, "mine", number(1)).await }
            });
            let left = device.engine.logout(false).await;
            let written = writing.await.unwrap();
            match (&left, &written) {
                (Err(SyncError::Unsynced { .. }), Ok(())) => assert_eq!(device.number("mine"), Some(1)),
                // Sent before, or written after.
                (Ok(0), Ok(())) => assert_eq!(world.number("mine").or(device.number("mine")), Some(1)),
                (Ok(0), Err(SyncError::SessionEnded)) => {
                    assert_eq!((world.number("mine"), device.number("mine")), (None, None));
                }
                _ => panic!("{left:?} {written:?}"),
            }
            device.end().await;
        });
    });
}

#[test]
fn an_answer_that_comes_after_another_process_has_logged_out_is_not_committed() {
    explore(4000, || {
        block_on(async {
            let world = with_theirs().await;
            let replica = Arc::new(MemoryReplica::new([1; 16]));
            let one = world.device_on(replica.clone(), when_asked).await;
            let two = world.device_on(replica, when_asked).await;
            edits(one.engine.clone(), "mine", 1..=1).await;
            let syncing = spawn({
                let engine = one.engine.clone();
                async move { engine.sync_all().await.map(drop) }
            });
            two.engine.logout(true).await.unwrap();
            match syncing.await.unwrap() {
                Ok(()) | Err(SyncError::SessionEnded) => {}
                Err(error) => panic!("{error}"),
            }
            one.engine.close().await;
            two.end().await;
        });
    });
}

#[test]
fn what_lost_a_conflict_is_not_brought_back_into_another_session() {
    explore(4000, || {
        block_on(async {
            let world = with_theirs().await;
            let device = world.device(1, when_asked).await;
            edits(device.engine.clone(), "theirs", 2..=2).await;
            device.engine.sync_all().await.unwrap();
            let conflict = device.engine.conflicts().await.unwrap()[0].id;
            let undoing = spawn({
                let engine = device.engine.clone();
                async move { engine.undo_conflict(conflict).await }
            });
            device.engine.logout(true).await.unwrap();
            match undoing.await.unwrap() {
                Ok(()) | Err(SyncError::SessionEnded | SyncError::Invalid(_)) => {}
                Err(error) => panic!("{error}"),
            }
            assert_eq!((device.number("theirs"), device.pending()), (None, 0));
            device.end().await;
        });
    });
}

#[test]
fn once_a_field_is_said_to_be_sensitive_it_is_masked_whoever_looks_at_the_tables_meanwhile() {
    explore(4000, || {
        block_on(async {
            let device = World::default().device(1, when_asked).await;
            let looking: Vec<_> = (0..2)
                .map(|_| {
                    let engine = device.engine.clone();
                    spawn(async move { drop(engine.status().await.unwrap()) })
                })
                .collect();
            let policy =
                TablePolicy { sensitive_fields: vec!["secret".to_owned()], ..TablePolicy::default() };
            let options = TableOptions { policy, ..TableOptions::new(TABLE.parse().unwrap()) };
            device.engine.add_table_with(options).await.unwrap();
            for look in looking {
                look.await.unwrap();
            }
            let fields = fields([("secret", "word".into())]);
            device.engine.write(TABLE, "x", fields).await.unwrap();
            let row = device.engine.get(TABLE, "x").await.unwrap().unwrap();
            assert_eq!(row["secret"], REDACTED);
            device.end().await;
        });
    });
}
