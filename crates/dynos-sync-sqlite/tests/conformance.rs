//! An SQLite file on disk passes the suite that every replica has to pass.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::sync::Arc;

use dynos_sync_core::{Replica, conformance::replica::Fixture, replica_conformance};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica, Threads};
use tempfile::TempDir;

struct Disk {
    dir: TempDir,
    threads: Threads,
}

impl Disk {
    fn new(threads: Threads) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), threads }
    }
}

#[async_trait::async_trait]
impl Fixture for Disk {
    async fn open(&self) -> Arc<dyn Replica> {
        let path = self.dir.path().join("device.sqlite");
        let options = SqliteOptions { threads: self.threads, ..SqliteOptions::default() };
        Arc::new(SqliteReplica::open(path, &options).unwrap())
    }
}

mod on_its_own_threads {
    use super::*;
    replica_conformance!(Disk::new(Threads::Own));
}

mod in_the_callers_thread {
    use super::*;
    replica_conformance!(Disk::new(Threads::Caller));
}
