//! A new device's database, in one piece.

use std::path::Path;

use dynos_sync_core::{
    Remote, RemoteError, ReplicaId, TableSpec,
    snapshot::{SnapshotError, SnapshotRequest, SnapshotStore},
    wire::HeadsRequest,
};
use dynos_sync_sqlite::{SqliteOptions, snapshot::NewDatabase};

use crate::{error::SyncError, job::snapshot::fetch};

/// Makes a database that is not there yet of what the server keeps for the caller: of a snapshot, whose file becomes the database. Its tables
/// are synced from where the snapshot ends; open it with [`SqliteReplica`](dynos_sync_sqlite::SqliteReplica) and sync as ever.
///
/// Answers false, and makes nothing, where the server offers no snapshot of at most `max_bytes`, or only a bad one: make the tables then, and
/// pull. Where the connection breaks after a part has arrived, a later call goes on from there.
///
/// # Errors
/// [`SyncError::Remote`], [`SyncError::AuthExpired`] or [`SyncError::Replica`]; nothing of the name `path` is there then.
pub async fn clone_database(
    path: &Path,
    options: &SqliteOptions,
    remote: &dyn Remote,
    max_bytes: u64,
) -> Result<bool, SyncError> {
    let Some(source) = remote.snapshots() else { return Ok(false) };
    // The database gets an identity of its own when it is made.
    let replica = ReplicaId::from_random([0; 16]);
    let server = remote.heads(HeadsRequest { replica, tables: Vec::new() }).await?.server;
    let tables = TableSpec::parents_first(remote.tables().await?);
    let names: Vec<_> = tables.iter().map(|spec| spec.name.clone()).collect();
    let new = NewDatabase::new(path, options, &server, tables)?;
    let request = SnapshotRequest { replica, tables: new.takes(&names).await? };
    let Some(snapshot) = source.offer(&request).await? else { return Ok(false) };
    if let Err(problem) = snapshot.check(&request, max_bytes) {
        tracing::warn!(problem, "a snapshot was not taken");
        return Ok(false);
    }
    if let Err(error) = fetch(source, &new, &snapshot, RemoteError::is_transient).await? {
        tracing::warn!(%error, "a snapshot was not fetched");
        return Ok(false);
    }
    match new.install(&snapshot, 0).await {
        Ok(_) => Ok(true),
        Err(SnapshotError::Replica(error)) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "a snapshot was not taken");
            Ok(false)
        }
    }
}
