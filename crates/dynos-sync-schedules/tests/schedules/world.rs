//! Devices and a server in memory. The engines are the real ones; wherever they meet what is not theirs, others may go on first.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use dynos_sync::{SyncConfig, SyncEngine};
use dynos_sync_core::{
    Fields, Replica,
    memory::{MemoryReplica, MemoryServer},
    wire::Hint,
};
use futures_channel::mpsc::UnboundedSender;
use futures_util::FutureExt;
use shuttle::future::{JoinHandle, spawn};

use crate::{
    file::{TABLE, key, number},
    seams::{Database, Line, Standing},
};

/// Whose data all devices have.
pub(crate) const USER: &str = "ada";

#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) server: MemoryServer,
    pub(crate) listeners: Arc<Mutex<Vec<UnboundedSender<Hint>>>>,
}

pub(crate) struct Device {
    pub(crate) engine: SyncEngine,
    pub(crate) replica: Arc<dyn Replica>,
    pub(crate) seen: Arc<Witness>,
    work: JoinHandle<()>,
}

/// What an engine did, and what goes wrong for it.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// Calls of the server's that wait for an answer.
    pub(crate) under_way: AtomicUsize,
    pub(crate) calls: AtomicUsize,
    /// The edits that the server took, in its order: id and number.
    pub(crate) taken: Mutex<Vec<(String, i64)>>,
    /// The session in which the last call was made.
    pub(crate) asked_in: Mutex<Option<u64>>,
    /// From now on nothing may happen.
    pub(crate) ended: AtomicBool,
    /// Now and then an answer is lost.
    pub(crate) loses: AtomicBool,
    /// Now and then the client panics.
    pub(crate) panics: AtomicBool,
}

impl World {
    pub(crate) async fn device(&self, seed: u8, configure: impl FnOnce(&mut SyncConfig)) -> Device {
        self.device_on(Arc::new(MemoryReplica::new([seed; 16])), configure).await
    }

    /// A device on a database that may have others.
    pub(crate) async fn device_on(
        &self,
        replica: Arc<dyn Replica>,
        configure: impl FnOnce(&mut SyncConfig),
    ) -> Device {
        let seen = Arc::new(Witness::default());
        let database = Database { inner: Arc::clone(&replica), seen: Arc::clone(&seen) };
        let line = Line {
            inner: self.server.remote(USER),
            replica: Arc::clone(&replica),
            listeners: Arc::clone(&self.listeners),
            seen: Arc::clone(&seen),
        };
        let builder = SyncEngine::builder(database, line).clock(Arc::new(Standing::default())).random(|| 7);
        let (engine, work) = builder.configure(configure).table(TABLE).prepare().await.unwrap();
        Device { engine, replica, seen, work: spawn(work) }
    }

    /// A record's number, on the server.
    pub(crate) fn number(&self, id: &str) -> Option<i64> {
        self.server.records(USER, &TABLE.parse().unwrap()).get(&key(id).id).and_then(number_in)
    }
}

/// By itself, or only when asked.
pub(crate) fn by_itself(config: &mut SyncConfig) {
    config.auto_sync = true;
}

pub(crate) fn when_asked(config: &mut SyncConfig) {
    config.auto_sync = false;
}

pub(crate) fn number_in(fields: &Fields) -> Option<i64> {
    fields.get("n")?.as_i64()
}

/// A world in which another device has made a record.
pub(crate) async fn with_theirs() -> World {
    let world = World::default();
    let other = world.device(9, when_asked).await;
    edits(other.engine.clone(), "theirs", 1..=1).await;
    other.engine.sync_all().await.unwrap();
    other.end().await;
    world
}

pub(crate) async fn edits(engine: SyncEngine, id: &'static str, numbers: RangeInclusive<i64>) {
    for n in numbers {
        engine.write(TABLE, id, number(n)).await.unwrap();
    }
}

impl Device {
    /// A record's number, on the device.
    pub(crate) fn number(&self, id: &str) -> Option<i64> {
        self.replica.get(&key(id)).now_or_never().unwrap().unwrap().as_ref().and_then(number_in)
    }

    pub(crate) fn pending(&self) -> u64 {
        self.replica.state().now_or_never().unwrap().unwrap().pending
    }

    /// The server took each record's edits in their order, each once.
    pub(crate) fn check_order(&self) {
        let mut newest = BTreeMap::new();
        for (id, n) in self.seen.taken.lock().unwrap().iter() {
            let before = newest.insert(id.clone(), *n);
            assert!(before.is_none_or(|before| before < *n), "{id}: {n} after {before:?}");
        }
    }

    /// Closes the engine. Its work ends.
    pub(crate) async fn end(self) {
        self.engine.close().await;
        self.seen.ended.store(true, Ordering::Relaxed);
        self.work.await.unwrap();
    }

    /// The engine's work ends, since somebody has closed it, or nobody is left.
    pub(crate) async fn ended(self) {
        let Self { engine, work, .. } = self;
        drop(engine);
        work.await.unwrap();
    }
}
