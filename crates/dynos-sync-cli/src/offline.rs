//! What can be done to a database without a server.

use std::sync::Arc;

use async_trait::async_trait;
use dynos_sync::{
    Driver, SyncConfig, SyncError, SystemClock,
    core::{
        Remote, RemoteError, TableSpec,
        wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushRequest},
    },
    sqlite::SqliteReplica,
};

/// A driver for what needs no server.
pub(crate) async fn driver(replica: &SqliteReplica) -> Result<Driver, SyncError> {
    let random = Box::new(|| getrandom::u64().unwrap_or(u64::MAX / 2));
    let (replica, clock) = (Arc::new(replica.clone()), Arc::new(SystemClock));
    Driver::new(replica, Arc::new(Nowhere), clock, SyncConfig::default(), random).await
}

#[derive(Debug)]
pub(crate) struct Nowhere;

fn nowhere<T>() -> Result<T, RemoteError> {
    Err(RemoteError::transient("no server was named"))
}

#[async_trait]
impl Remote for Nowhere {
    async fn declare(&self, _: &[TableSpec]) -> Result<(), RemoteError> {
        nowhere()
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        nowhere()
    }

    async fn heads(&self, _: HeadsRequest) -> Result<Heads, RemoteError> {
        nowhere()
    }

    async fn push(&self, _: &PushRequest) -> Result<PushAnswer, RemoteError> {
        nowhere()
    }

    async fn pull(&self, _: PullRequest) -> Result<Page, RemoteError> {
        nowhere()
    }
}
