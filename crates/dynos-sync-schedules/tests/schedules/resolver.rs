//! An application that decides conflicts, and uses the engine meanwhile.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use dynos_sync::{Strategy, SyncEngine, SyncError};
use dynos_sync_core::conflict::{Conflict, Resolution, Resolver};
use dynos_sync_schedules::explore;
use shuttle::{
    future::{block_on, spawn},
    rand::Rng,
};

use crate::{
    file::{TABLE, number},
    world::{Device, World, when_asked},
};

/// Writes and looks; and, if it is told so, waits for the sync that waits for it.
#[derive(Default)]
struct Uses {
    engine: OnceLock<SyncEngine>,
    waits: bool,
}

impl std::fmt::Debug for Uses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Uses")
    }
}

#[async_trait]
impl Resolver for Uses {
    async fn resolve(&self, _: &Conflict) -> Resolution {
        let engine = self.engine.get().unwrap();
        // Either may meet a logout or the end.
        drop(engine.write(TABLE, "note", number(1)).await);
        drop(engine.status().await);
        if self.waits {
            drop(engine.sync_all().await);
        }
        Resolution::KeepLocal
    }
}

/// A device with an edit of a record that another one has made too.
async fn in_conflict(world: &World, waits: bool) -> Device {
    let other = world.device(9, when_asked).await;
    other.engine.write(TABLE, "x", number(1)).await.unwrap();
    other.engine.sync_all().await.unwrap();
    other.end().await;
    let resolver = Arc::new(Uses { waits, ..Uses::default() });
    let strategy = Strategy::Custom(resolver.clone());
    let device = world
        .device(1, |config| {
            when_asked(config);
            config.conflict_strategy = strategy;
        })
        .await;
    resolver.engine.set(device.engine.clone()).ok().unwrap();
    device.engine.write(TABLE, "x", number(2)).await.unwrap();
    device
}

#[test]
fn a_resolver_may_use_the_engine() {
    explore(4000, || {
        block_on(async {
            let world = World::default();
            let device = in_conflict(&world, false).await;
            let writing = spawn({
                let engine = device.engine.clone();
                async move { engine.write(TABLE, "more", number(3)).await.unwrap() }
            });
            device.engine.sync_all().await.unwrap();
            writing.await.unwrap();
            device.engine.sync_all().await.unwrap();
            let all = [("x", Some(2)), ("note", Some(1)), ("more", Some(3))];
            assert_eq!(all.map(|(id, _)| (id, world.number(id))), all);
            device.end().await;
        });
    });
}

#[test]
fn a_resolver_that_waits_for_itself_holds_up_no_edit_no_logout_and_no_end() {
    explore(4000, || {
        block_on(async {
            let world = World::default();
            let device = in_conflict(&world, true).await;
            let syncing = spawn({
                let engine = device.engine.clone();
                async move { engine.sync_all().await }
            });
            device.engine.write(TABLE, "more", number(3)).await.unwrap();
            if shuttle::rand::thread_rng().r#gen() {
                device.engine.logout(true).await.unwrap();
            }
            device.engine.close().await;
            match syncing.await.unwrap() {
                // It came after the logout.
                Ok(_) => {}
                Err(SyncError::SessionEnded | SyncError::Closed) => {}
                Err(error) => panic!("{error}"),
            }
            device.end().await;
        });
    });
}
