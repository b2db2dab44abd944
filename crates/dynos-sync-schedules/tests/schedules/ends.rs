//! Who closes, and who no longer waits.

use std::sync::{Arc, atomic::Ordering};

use dynos_sync::{SyncEngine, SyncError};
use dynos_sync_schedules::explore;
use futures_util::FutureExt;
use shuttle::{
    future::{block_on, spawn, yield_now},
    rand::Rng,
};

use crate::{
    file::{TABLE, key, number},
    world::{Witness, by_itself, edits, when_asked, with_theirs},
};

#[test]
fn a_close_answers_everybody_and_nothing_happens_afterwards() {
    explore(4000, || {
        block_on(async {
            let world = with_theirs().await;
            let device = world.device(1, by_itself).await;
            let engine = &device.engine;
            let mut events = engine.events();
            let tasks = [
                spawn(async move { while events.next().await.is_some() {} }),
                spawn(calls(engine.clone())),
                spawn(logs_out(engine.clone())),
                spawn(waits_for_the_first_sync(engine.clone())),
                spawn(closes(engine.clone(), Arc::clone(&device.seen))),
                spawn(closes(engine.clone(), Arc::clone(&device.seen))),
            ];
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
    engine.write(TABLE, "x", number(1)).await.map_or_else(|error| ended(&error), drop);
    engine.sync_all().await.map_or_else(|error| ended(&error), drop);
    engine.status().await.map_or_else(|error| ended(&error), drop);
    engine.drain().await.map_or_else(|error| ended(&error), drop);
}

async fn logs_out(engine: SyncEngine) {
    engine.logout(true).await.map_or_else(|error| ended(&error), drop);
}

async fn waits_for_the_first_sync(engine: SyncEngine) {
    engine.initial_sync_done().await.map_or_else(|error| ended(&error), drop);
}

async fn closes(engine: SyncEngine, seen: Arc<Witness>) {
    engine.close().await;
    assert_eq!(seen.under_way.load(Ordering::Relaxed), 0, "a call is still under way");
    seen.ended.store(true, Ordering::Relaxed);
}

/// What a call may answer that meets a logout or the end.
fn ended(error: &SyncError) {
    assert!(matches!(error, SyncError::Closed | SyncError::SessionEnded), "{error:?}");
}

#[test]
fn when_the_last_handle_goes_the_work_and_the_streams_end() {
    explore(4000, || {
        block_on(async {
            let device = with_theirs().await.device(1, by_itself).await;
            let mut events = device.engine.events();
            let listening = spawn(async move { while events.next().await.is_some() {} });
            let writing = spawn(edits(device.engine.clone(), "mine", 1..=1));
            let replica = Arc::clone(&device.replica);
            device.ended().await;
            writing.await.unwrap();
            listening.await.unwrap();
            assert!(replica.get(&key("mine")).await.unwrap().is_some());
        });
    });
}

#[test]
fn who_no_longer_waits_holds_up_nobody() {
    explore(4000, || {
        block_on(async {
            let world = with_theirs().await;
            let device = world.device(1, when_asked).await;
            edits(device.engine.clone(), "mine", 1..=1).await;
            let calls = [
                spawn(gives_up(leaves_if_all_is_synced(device.engine.clone()))),
                spawn(gives_up(syncs(device.engine.clone()))),
                spawn(gives_up(leaves_if_all_is_synced(device.engine.clone()))),
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

async fn leaves_if_all_is_synced(engine: SyncEngine) {
    drop(engine.logout(false).await);
}

async fn syncs(engine: SyncEngine) {
    drop(engine.sync_all().await);
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
