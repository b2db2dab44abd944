//! Snapshots: a first pull as an SQLite file, in place of pages.
//!
//! A server [builds](Builder) the file from its own records, with the very code that stores pulled rows on a device. A device keeps
//! what has arrived of it beside its database, believes nothing of it, and copies whole tables: SQLite moves
//! them record by record, without decoding, where both sides are made alike.

mod build;
mod check;
mod found;
mod indexes;
mod install;
mod staging;
mod unpack;

use std::collections::BTreeMap;

use async_trait::async_trait;
use dynos_sync_core::{
    Generation, ReplicaError, TableName, TableSpec,
    snapshot::{Snapshot, SnapshotError, SnapshotStore},
};
use futures_util::future::join;

pub(crate) use self::staging::Staging;
pub use self::{
    build::{Builder, pack},
    found::NewDatabase,
};
use crate::{error::Result, replica::SqliteReplica, sync::mpsc};

#[async_trait]
impl SnapshotStore for SqliteReplica {
    async fn takes(&self, tables: &[TableName]) -> Result<Vec<TableSpec>> {
        let tables = tables.to_vec();
        self.session(move |session| install::suitable(session, &tables)).await
    }

    async fn staged(&self, snapshot: &Snapshot) -> Result<u64> {
        let snapshot = snapshot.clone();
        self.beside(move |staging| staging.begin(&snapshot)).await
    }

    async fn stage(&self, snapshot: &Snapshot, from: u64, bytes: Vec<u8>) -> Result<()> {
        let snapshot = snapshot.clone();
        self.beside(move |staging| staging.append(&snapshot, from, &bytes)).await
    }

    async fn install(
        &self,
        snapshot: &Snapshot,
        generation: Generation,
    ) -> Result<BTreeMap<TableName, u64>, SnapshotError> {
        let installed = self.take(snapshot.clone(), generation).await;
        // Good or bad, it is of no more use.
        self.unstage().await?;
        installed
    }

    async fn unstage(&self) -> Result<()> {
        self.beside(Staging::clear).await
    }
}

impl SqliteReplica {
    async fn take(
        &self,
        snapshot: Snapshot,
        generation: Generation,
    ) -> Result<BTreeMap<TableName, u64>, SnapshotError> {
        let specs = self.specs(snapshot.tables.keys().cloned().collect()).await?;
        let announced = snapshot.clone();
        let unpacked = self.beside(move |staging| staging.unpack(&announced)).await?;
        let file = unpacked.map_err(SnapshotError::Refused)?;
        let looked_at = file.clone();
        let fault = self.beside(move |_| check::schema_fault(&looked_at, &specs)).await?;
        fault.map_or(Ok(()), |fault| Err(SnapshotError::Refused(fault)))?;
        // Rows are copied while another thread looks through the file, and committed once it has found nothing.
        let (found, verdict) = mpsc::channel();
        let (looked_at, threads) = (file.clone(), self.threads());
        let looking = self.beside(move |_| {
            // Whoever copies may have given up.
            let _ = found.send(check::content_fault(&looked_at, threads)?);
            Ok(())
        });
        let copying =
            self.write(move |writer| install::install(writer, &file, &snapshot, generation, &verdict));
        let (looked, copied) = join(looking, copying).await;
        looked?;
        copied?.map_err(SnapshotError::Refused)
    }

    /// How the tables look now.
    async fn specs(&self, names: Vec<TableName>) -> Result<Vec<TableSpec>> {
        self.session(move |session| {
            names.iter().map(|name| session.catalog.named(name).map(|table| table.spec.clone())).collect()
        })
        .await
    }

    /// Works with the files beside the database, on a thread that reads.
    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Staging) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let staging = self.staging().ok_or_else(|| ReplicaError::Storage {
            message: "a database without a file of its own takes no snapshots".to_owned(),
            source: None,
        })?;
        self.beside_reading(move || work(&staging)).await
    }
}
