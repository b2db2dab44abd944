//! Who closes, and who no longer waits.

use std::sync::{Arc, atomic::Ordering};

use dynos_sync::{SyncEngine, SyncError};
use dynos_sync_schedules::explore;
use futures_util::{FutureExt, StreamExt};
use shuttle::{
    future::{block_on, spawn, yield_now},
    rand::Rng,
};

use crate::{
    file::{TABLE, number},
    world::{by_itself, edits, when_asked, with_theirs},
};

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
