//! A walk over a table from its beginning is cut short: nothing of the table may be pushed before it has ended.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use common::TestClock;
use dynos_sync::{
    Driver, SyncConfig,
    core::{
        Remote, RemoteError, Replica, TableSpec, Value,
        memory::{MemoryRemote, MemoryReplica, MemoryServer},
        replica::{TableOptions, TablePolicy},
        wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushRequest},
    },
    fields, json,
};
use futures_executor::block_on;

const TABLE: &str = "notes";

/// A connection that answers so many pulls and then no more.
#[derive(Debug)]
struct Cut {
    inner: MemoryRemote,
    pulls: AtomicUsize,
}

#[async_trait::async_trait]
impl Remote for Cut {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.inner.declare(tables).await
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.inner.tables().await
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        self.inner.heads(request).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        self.inner.push(request).await
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        let left = |left: usize| left.checked_sub(1);
        match self.pulls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(_) => self.inner.pull(request).await,
            Err(_) => Err(RemoteError::transient("cut")),
        }
    }
}

struct Device {
    driver: Driver,
    remote: Arc<Cut>,
    replica: Arc<MemoryReplica>,
}

impl Device {
    fn new(name: u8, server: &MemoryServer) -> Self {
        let replica = Arc::new(MemoryReplica::new([name; 16]));
        block_on(replica.add_table(TableOptions::new(TABLE.parse().unwrap()))).unwrap();
        let remote = Arc::new(Cut { inner: server.remote("ada"), pulls: AtomicUsize::new(usize::MAX) });
        let mut config = SyncConfig::default();
        config.max_retries = 1;
        let clock = Arc::new(TestClock::default());
        let parts = (Arc::clone(&replica) as Arc<dyn Replica>, Arc::clone(&remote) as Arc<dyn Remote>);
        let driver = block_on(Driver::new(parts.0, parts.1, clock, config, Box::new(|| 0))).unwrap();
        Self { driver, remote, replica }
    }

    fn sync(&self) {
        block_on(self.driver.sync_all()).unwrap();
    }

    /// Syncs until the connection is cut, after the device has learned that its cursor has expired.
    fn sync_and_be_cut(&self) {
        self.remote.pulls.store(1, Ordering::Relaxed);
        assert!(block_on(self.driver.sync_all()).unwrap_err().is_transient());
        self.remote.pulls.store(usize::MAX, Ordering::Relaxed);
    }

    fn get(&self, id: &str) -> Option<Value> {
        block_on(self.driver.get(TABLE, id)).unwrap().map(Value::Object)
    }

    fn refused(&self) -> u64 {
        block_on(self.replica.state()).unwrap().dead_letters
    }
}

fn kept(server: &MemoryServer, id: &str) -> Option<Value> {
    let records = server.records("ada", &TABLE.parse().unwrap());
    records.get(&id.parse().unwrap()).cloned().map(Value::Object)
}

#[test]
fn a_patch_of_what_a_restored_server_has_lost_waits_for_the_record() {
    let server = MemoryServer::new();
    let device = Device::new(1, &server);
    device.sync();
    let copy = server.backup();
    block_on(device.driver.write(TABLE, "lost", fields([("a", 1.into()), ("b", 1.into())]))).unwrap();
    device.sync();
    server.restore(&copy);
    block_on(device.driver.patch(TABLE, "lost", fields([("a", 2.into())]))).unwrap();
    device.sync_and_be_cut();
    device.sync();
    let expected = Some(json!({"a": 2, "b": 1}));
    assert_eq!((device.refused(), device.get("lost")), (0, expected.clone()));
    assert_eq!(kept(&server, "lost"), expected);
}

#[test]
fn a_patch_of_what_was_purged_waits_until_that_is_known() {
    let server = MemoryServer::new();
    let [one, two] = [1, 2].map(|name| Device::new(name, &server));
    block_on(one.driver.write(TABLE, "purged", fields([("a", 1.into()), ("b", 1.into())]))).unwrap();
    one.sync();
    two.sync();
    block_on(one.driver.remove(TABLE, "purged")).unwrap();
    one.sync();
    server.purge();
    block_on(two.driver.patch(TABLE, "purged", fields([("a", 2.into())]))).unwrap();
    two.sync_and_be_cut();
    two.sync();
    // The edit is later than a deletion whose tombstone is gone: the record comes back whole.
    let expected = Some(json!({"a": 2, "b": 1}));
    assert_eq!((two.refused(), two.get("purged")), (0, expected.clone()));
    assert_eq!(kept(&server, "purged"), expected);
}

#[test]
fn a_record_that_was_pushed_before_the_first_pull_and_deleted_and_purged_before_it_is_deleted_here() {
    let server = MemoryServer::new();
    let [one, two] = [1, 2].map(|name| Device::new(name, &server));
    block_on(one.driver.write(TABLE, "gone", fields([("a", 1.into())]))).unwrap();
    block_on(one.driver.drain()).unwrap();
    assert!(kept(&server, "gone").is_some());
    two.sync();
    block_on(two.driver.remove(TABLE, "gone")).unwrap();
    two.sync();
    server.purge();
    one.sync();
    assert_eq!(one.get("gone"), None);
}

#[test]
fn a_table_is_pushed_once_its_first_pull_has_begun() {
    let server = MemoryServer::new();
    let device = Device::new(1, &server);
    block_on(device.driver.write(TABLE, "one", fields([("a", 1.into())]))).unwrap();
    device.remote.pulls.store(0, Ordering::Relaxed);
    assert!(block_on(device.driver.drain()).unwrap_err().is_transient());
    assert_eq!(kept(&server, "one"), None);
    device.remote.pulls.store(1, Ordering::Relaxed);
    assert_eq!(block_on(device.driver.drain()).unwrap().pushed, 1);
    assert!(kept(&server, "one").is_some());
}

#[test]
fn a_table_that_is_only_pushed_is_not_pulled_for_it() {
    let server = MemoryServer::new();
    let device = Device::new(1, &server);
    let policy = TablePolicy { pull: false, ..TablePolicy::default() };
    let options = TableOptions { policy, ..TableOptions::new(TABLE.parse().unwrap()) };
    block_on(device.replica.add_table(options)).unwrap();
    block_on(device.driver.write(TABLE, "one", fields([("a", 1.into())]))).unwrap();
    device.remote.pulls.store(0, Ordering::Relaxed);
    assert_eq!(block_on(device.driver.drain()).unwrap().pushed, 1);
    assert!(kept(&server, "one").is_some());
}
