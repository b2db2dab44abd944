//! The engine's worker, and whoever calls it meanwhile.

use std::{
    ops::RangeInclusive,
    sync::{Arc, atomic::Ordering},
};

use dynos_sync::{SyncEngine, SyncError};
use dynos_sync_core::{
    REDACTED,
    memory::MemoryReplica,
    replica::{TableOptions, TablePolicy},
};
use dynos_sync_schedules::explore;
use futures_util::{FutureExt, StreamExt};
use shuttle::{
    future::{block_on, spawn, yield_now},
    rand::Rng,
};

use crate::{
    file::{File, TABLE, number, until},
    world::{Device, World, by_itself, when_asked},
};

async fn edits(engine: SyncEngine, id: &'static str, numbers: RangeInclusive<i64>) {
    for n in numbers {
        engine.write(TABLE, id, number(n)).await.unwrap();
    }
}

async fn asks(engine: SyncEngine) {
    engine.drain().await.unwrap();
    engine.pull_all().await.unwrap();
    engine.drain_once().await.unwrap();
    engine.sync_all().await.unwrap();
}

#[test]
fn one_drain_runs_at_a_time_and_every_edit_counts_once_and_in_its_order() {
    explore(4000, || {
        block_on(async {
            let world = World::default();
            let device = world.device(1, by_itself).await;
            all_at_once(&world, device).await;
        });
    });
}

#[test]
fn so_it_is_on_a_database_with_threads_of_its_own() {
    explore(500, || {
        block_on(async {
            let world = World::default();
            let file = File::new();
            let device = world.device_on(Arc::new(file.open()), by_itself).await;
            all_at_once(&world, device).await;
        });
    });
}

async fn all_at_once(world: &World, device: Device) {
    let engine = &device.engine;
    let tasks = [
        spawn(edits(engine.clone(), "x", 1..=3)),
        spawn(edits(engine.clone(), "y", 1..=2)),
        spawn(asks(engine.clone())),
        spawn(asks(engine.clone())),
    ];
    for task in tasks {
        task.await.unwrap();
    }
    engine.sync_all().await.unwrap();
    assert_eq!((world.number("x"), world.number("y")), (Some(3), Some(2)));
    device.check_order();
    device.end().await;
}

#[test]
fn lost_answers_and_panics_cost_no_edit_its_place() {
    explore(4000, || {
        block_on(async {
            let world = World::default();
            let device = world.device(1, by_itself).await;
            let fault =
                if shuttle::rand::thread_rng().r#gen() { &device.seen.loses } else { &device.seen.panics };
            fault.store(true, Ordering::Relaxed);
            let editing = spawn(edits(device.engine.clone(), "x", 1..=3));
            for _ in 0..3 {
                match device.engine.sync_all().await {
                    Ok(_) | Err(SyncError::Panicked) => {}
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
            editing.await.unwrap();
            fault.store(false, Ordering::Relaxed);
            device.engine.sync_all().await.unwrap();
            assert_eq!((world.number("x"), device.pending()), (Some(3), 0));
            device.check_order();
            device.end().await;
        });
    });
}

#[test]
fn no_edit_and_no_hint_is_forgotten() {
    explore(4000, || {
        block_on(async {
            let world = World::default();
            let (one, two) = (world.device(1, by_itself).await, world.device(2, by_itself).await);
            let tasks = [
                spawn(edits(one.engine.clone(), "x", 1..=2)),
                spawn(edits(two.engine.clone(), "y", 1..=2)),
                spawn(edits(two.engine.clone(), "shared", 5..=5)),
                spawn(edits(one.engine.clone(), "shared", 6..=6)),
            ];
            for task in tasks {
                task.await.unwrap();
            }
            // Nobody asks, and time stands still.
            let agree =
                |device: &Device, id| world.number(id).is_some() && device.number(id) == world.number(id);
            let settled = |device: &Device| {
                device.pending() == 0 && ["x", "y", "shared"].iter().all(|id| agree(device, id))
            };
            until(|| settled(&one) && settled(&two)).await;
            assert_eq!((world.number("x"), world.number("y")), (Some(2), Some(2)));
            one.end().await;
            two.end().await;
        });
    });
}

/// A world in which another device has made a record.
async fn with_theirs() -> World {
    let world = World::default();
    let other = world.device(9, when_asked).await;
    edits(other.engine.clone(), "theirs", 1..=1).await;
    other.engine.sync_all().await.unwrap();
    other.end().await;
    world
}

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
fn a_close_answers_everybody_and_nothing_happens_afterwards() {
    explore(4000, || {
        block_on(async {
            let world = with_theirs().await;
            let device = world.device(1, by_itself).await;
            let engine = &device.engine;
            let mut events = engine.events();
            let mut tasks = vec![spawn(async move { while events.next().await.is_some() {} })];
            tasks.push(spawn(calls(engine.clone())));
            tasks.push(spawn({
                let engine = engine.clone();
                async move { engine.logout(true).await.map_or_else(ended, drop) }
            }));
            tasks.push(spawn({
                let engine = engine.clone();
                async move { engine.initial_sync_done().await.map_or_else(ended, drop) }
            }));
            for _ in 0..2 {
                let (engine, seen) = (engine.clone(), Arc::clone(&device.seen));
                tasks.push(spawn(async move {
                    engine.close().await;
                    assert_eq!(seen.under_way.swap(0, Ordering::Relaxed), 0, "a call is still under way");
                    seen.ended.store(true, Ordering::Relaxed);
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            let late = device.engine.write(TABLE, "late", number(1)).await;
            assert!(matches!(late, Err(SyncError::Closed)), "{late:?}");
            device.ended().await;
        });
    });
}

async fn calls(engine: SyncEngine) {
    engine.write(TABLE, "x", number(1)).await.map_or_else(ended, drop);
    engine.sync_all().await.map_or_else(ended, drop);
    engine.status().await.map_or_else(ended, drop);
    engine.drain().await.map_or_else(ended, drop);
}

/// What a call may answer that meets a logout or the end.
fn ended(error: SyncError) {
    assert!(matches!(error, SyncError::Closed | SyncError::SessionEnded), "{error:?}");
}

#[test]
fn who_no_longer_waits_holds_up_nobody() {
    explore(4000, || {
        block_on(async {
            let world = with_theirs().await;
            let device = world.device(1, when_asked).await;
            edits(device.engine.clone(), "mine", 1..=1).await;
            let calls = [
                spawn(gives_up({
                    let engine = device.engine.clone();
                    async move { drop(engine.logout(false).await) }
                })),
                spawn(gives_up({
                    let engine = device.engine.clone();
                    async move { drop(engine.sync_all().await) }
                })),
                spawn(gives_up({
                    let engine = device.engine.clone();
                    async move { drop(engine.logout(false).await) }
                })),
            ];
            for call in calls {
                call.await.unwrap();
            }
            device.engine.sync_all().await.unwrap();
            // Logged out or not, and whoever was asked: it has arrived.
            assert_eq!((world.number("mine"), device.pending()), (Some(1), 0));
            device.end().await;
        });
    });
}

/// Waits for a while.
async fn gives_up(call: impl Future<Output = ()>) {
    let mut call = Box::pin(call);
    for _ in 0..shuttle::rand::thread_rng().gen_range(0..10) {
        if call.as_mut().now_or_never().is_some() {
            return;
        }
        yield_now().await;
    }
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
            let fields = dynos_sync::fields([("secret", "word".into())]);
            device.engine.write(TABLE, "x", fields).await.unwrap();
            let row = device.engine.get(TABLE, "x").await.unwrap().unwrap();
            assert_eq!(row["secret"], REDACTED);
            device.end().await;
        });
    });
}
