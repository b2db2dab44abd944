//! An SQLite file on disk passes the suite that every replica has to pass.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::sync::Arc;

use dynos_sync_core::{Replica, conformance::replica::Fixture, replica_conformance};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
use tempfile::TempDir;

struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[async_trait::async_trait]
impl Fixture for Disk {
    async fn open(&self) -> Arc<dyn Replica> {
        let path = self.0.path().join("device.sqlite");
        Arc::new(SqliteReplica::open(path, &SqliteOptions::default()).unwrap())
    }
}

replica_conformance!(Disk::new());
