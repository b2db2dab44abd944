//! First pulls in one piece, where the server and the replica can.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use dynos_sync_core::{
    RemoteError, ReplicaError, TableName,
    replica::{Phase, State},
    snapshot::{Snapshot, SnapshotError, SnapshotRequest, SnapshotSource, SnapshotStore},
};
use futures_util::future::join;
use tracing::{Instrument, Span};

use crate::{driver::Driver, error::SyncError, event::SyncEvent, metrics::Counted, trace};

impl Driver {
    /// Takes a snapshot of those among the tables of which nothing was pulled yet. Answers how many rows each has got; those that it
    /// does not name are pulled by pages from the beginning, the others from where the snapshot ends.
    ///
    /// # Errors
    /// Where the session has ended, the database fails, or the connection breaks after a part has arrived: the next attempt goes on
    /// from there. Whatever else is wrong with a snapshot is told, and pages are pulled.
    pub(crate) async fn take_snapshot(
        &self,
        state: &State,
        tables: &[TableName],
    ) -> Result<BTreeMap<TableName, u64>, SyncError> {
        let Some(store) = self.replica.snapshots() else { return Ok(BTreeMap::new()) };
        let taken = match self.remote.snapshots() {
            Some(source) => self.take_from(source, store, state, tables).await?,
            None => BTreeMap::new(),
        };
        if !self.has_swept.swap(true, Ordering::Relaxed) {
            // What an earlier process began with and nobody needs any more.
            store.unstage().await?;
        }
        Ok(taken)
    }

    async fn take_from(
        &self,
        source: &dyn SnapshotSource,
        store: &dyn SnapshotStore,
        state: &State,
        tables: &[TableName],
    ) -> Result<BTreeMap<TableName, u64>, SyncError> {
        let most = self.config.max_snapshot_bytes;
        let is_new = |name: &&TableName| {
            state.table(name).is_some_and(|table| table.cursor.is_none() && table.phase == Phase::First)
        };
        let new: Vec<TableName> = tables.iter().filter(is_new).cloned().collect();
        let tables = if new.is_empty() || most == 0 { Vec::new() } else { store.takes(&new).await? };
        if tables.is_empty() {
            return Ok(BTreeMap::new());
        }
        let request = SnapshotRequest { replica: state.replica, tables };
        let span = trace::snapshot(request.tables.len());
        let taken = self.take_offered(source, store, state, &request, &span).instrument(span.clone()).await;
        if let Ok(taken) = &taken {
            let rows: u64 = taken.values().sum();
            span.record("rows", rows);
            self.observed.add(Counted::SnapshotRows, usize::try_from(rows).unwrap_or(usize::MAX));
        }
        trace::end(&span, &taken);
        taken
    }

    async fn take_offered(
        &self,
        source: &dyn SnapshotSource,
        store: &dyn SnapshotStore,
        state: &State,
        request: &SnapshotRequest,
        span: &Span,
    ) -> Result<BTreeMap<TableName, u64>, SyncError> {
        let snapshot = match source.offer(request).await {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return Ok(BTreeMap::new()),
            Err(error) if error.is_auth() => return Err(error.into()),
            Err(error) => return self.without(&error.to_string()),
        };
        span.record("bytes", snapshot.bytes);
        if let Err(problem) = snapshot.check(request, self.config.max_snapshot_bytes) {
            return self.without(&problem);
        }
        let is_transient = |error: &RemoteError| self.config.is_transient(error);
        if let Err(error) = fetch(source, store, &snapshot, is_transient).await? {
            return self.without(&error.to_string());
        }
        match store.install(&snapshot, state.generation).await {
            Ok(installed) => Ok(installed),
            Err(SnapshotError::Replica(error)) => Err(error.into()),
            Err(error) => self.without(&error.to_string()),
        }
    }

    fn without(&self, problem: &str) -> Result<BTreeMap<TableName, u64>, SyncError> {
        self.tell(SyncEvent::SyncError { error: problem.to_owned(), context: "snapshot" });
        Ok(BTreeMap::new())
    }
}

/// Fetches what is not here yet, the next piece while the last is put away. The inner error is one that did not get anywhere: asking again
/// would not help.
pub(crate) async fn fetch(
    source: &dyn SnapshotSource,
    store: &dyn SnapshotStore,
    snapshot: &Snapshot,
    is_transient: impl Fn(&RemoteError) -> bool,
) -> Result<Result<(), RemoteError>, SyncError> {
    let begun = store.staged(snapshot).await?;
    let (mut here, mut last) = (begun, None);
    while here < snapshot.bytes {
        let (fetched, stored) =
            join(source.fetch(snapshot, here), put_away(store, snapshot, last.take())).await;
        stored?;
        let error = match fetched {
            Ok(piece) if (1..=snapshot.bytes - here).contains(&(piece.len() as u64)) => {
                let from = here;
                here += piece.len() as u64;
                last = Some((from, piece));
                continue;
            }
            Ok(piece) => RemoteError::Protocol(format!("a piece of {} bytes", piece.len())),
            Err(error) if error.is_auth() || (here > begun && is_transient(&error)) => {
                return Err(error.into());
            }
            Err(error) => error,
        };
        store.unstage().await?;
        return Ok(Err(error));
    }
    put_away(store, snapshot, last).await?;
    Ok(Ok(()))
}

async fn put_away(
    store: &dyn SnapshotStore,
    snapshot: &Snapshot,
    piece: Option<(u64, Vec<u8>)>,
) -> Result<(), ReplicaError> {
    match piece {
        Some((from, bytes)) => store.stage(snapshot, from, bytes).await,
        None => Ok(()),
    }
}
