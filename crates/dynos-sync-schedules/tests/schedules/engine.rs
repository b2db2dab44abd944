//! The engine's worker, and whoever writes and asks meanwhile.

use std::sync::{Arc, atomic::Ordering};

use dynos_sync::{Strategy, SyncConfig, SyncEngine, SyncError};
use dynos_sync_schedules::explore;
use shuttle::{
    future::{block_on, spawn},
    rand::Rng,
};

use crate::{
    file::{File, until},
    world::{Device, World, by_itself, edits, with_theirs},
};

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

#[test]
fn an_edit_during_a_pull_of_its_record_stands() {
    explore(4000, || {
        block_on(async {
            let world = with_theirs().await;
            let mine_wins = |config: &mut SyncConfig| config.conflict_strategy = Strategy::ClientWins;
            let device = world.device(1, mine_wins).await;
            edits(device.engine.clone(), "theirs", 5..=5).await;
            assert_eq!(device.number("theirs"), Some(5), "it was acknowledged");
            device.engine.sync_all().await.unwrap();
            assert_eq!((device.number("theirs"), world.number("theirs")), (Some(5), Some(5)));
            device.end().await;
        });
    });
}
