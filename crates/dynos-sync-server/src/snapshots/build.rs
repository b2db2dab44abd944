//! Building a snapshot by pulling, as a device would.

use std::collections::BTreeMap;

use dynos_sync_core::{
    Cursor, Fields, Millis, ReplicaError, TableName, TableSpec,
    snapshot::{Held, Snapshot},
};
use dynos_sync_sqlite::snapshot::Builder;
use tokio::task::spawn_blocking;

use super::{
    file::{File, Packed},
    fresh_name, pull_request,
};
use crate::{
    config::SnapshotOptions,
    store::{Caller, Page, Store, StoreError},
};

/// The changes of a page that is asked for; stores have a limit of their own.
const PAGE: usize = 1000;

/// Builds and packs; `None` where pages are better, or the only way.
pub(super) async fn build(
    store: &dyn Store,
    caller: &Caller,
    tables: Vec<TableSpec>,
    options: &SnapshotOptions,
    file: File,
) -> Result<Option<(Snapshot, Packed)>, StoreError> {
    let names: Vec<TableName> = tables.iter().map(|spec| spec.name.clone()).collect();
    let path = file.path().to_owned();
    let Ok(builder) = blocking(move || Builder::create(&path, &tables)).await? else { return Ok(None) };
    let mut work = Work { builder, at: 0, held: BTreeMap::new(), left_out: false };
    let mut records = 0;
    for name in names {
        let mut next = pull(store, caller, &name, None).await?;
        let mut cursor = None;
        while let Some(page) = next {
            records += page.changes.len() as u64;
            cursor = Some(page.next.clone());
            let has_more = page.has_more;
            // The next page is read while this one is stored.
            let following =
                async { if has_more { pull(store, caller, &name, cursor.clone()).await } else { Ok(None) } };
            let (stored, following) = tokio::join!(work.take(name.clone(), page), following);
            work = stored?;
            next = following?.filter(|_| !work.left_out && file.bytes() <= options.bytes);
        }
        if file.bytes() > options.bytes {
            return Ok(None);
        }
        work = work.end_table(name, cursor).await?;
    }
    if records < options.rows || work.held.is_empty() {
        return Ok(None);
    }
    let Work { builder, at, held, .. } = work;
    let Ok(size) = blocking(move || builder.finish()).await? else { return Ok(None) };
    if size > options.bytes {
        return Ok(None);
    }
    let packed = blocking(move || file.pack()).await??;
    let (bytes, digest) = (packed.bytes, packed.digest.clone());
    let id = fresh_name()?;
    Ok(Some((Snapshot { id, digest, bytes, size, at, tables: held }, packed)))
}

/// A page of the caller's; `None` for a table that the store does not have.
async fn pull(
    store: &dyn Store,
    caller: &Caller,
    table: &TableName,
    cursor: Option<Cursor>,
) -> Result<Option<Page>, StoreError> {
    match store.pull(caller, pull_request(table.clone(), cursor, PAGE)).await {
        Ok(page) => Ok(Some(page)),
        Err(StoreError::Invalid(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

struct Work {
    builder: Builder,
    /// The newest edit time.
    at: Millis,
    held: BTreeMap<TableName, Held>,
    /// Whether the table that is being read turned out not to fit.
    left_out: bool,
}

impl Work {
    async fn take(mut self, table: TableName, page: Page) -> Result<Self, StoreError> {
        blocking(move || {
            self.left_out = !self.store(&table, page)?;
            Ok(self)
        })
        .await?
    }

    /// Answers false where a device would not simply take a record.
    fn store(&mut self, table: &TableName, page: Page) -> Result<bool, StoreError> {
        for change in page.changes {
            self.at = self.at.max(change.at);
            let parse = |record: Box<serde_json::value::RawValue>| {
                serde_json::from_str::<Fields>(record.get())
                    .map_err(|error| StoreError::Corrupt(format!("a record: {error}")))
            };
            let record = change.record.map(parse).transpose()?;
            match self.builder.put(table, &change.id, record.as_ref()) {
                Ok(()) => {}
                Err(ReplicaError::Constraint { .. } | ReplicaError::Invalid(_)) => return Ok(false),
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(true)
    }

    async fn end_table(mut self, name: TableName, cursor: Option<Cursor>) -> Result<Self, StoreError> {
        let left_out = std::mem::take(&mut self.left_out);
        blocking(move || {
            match cursor.filter(|_| !left_out) {
                Some(cursor) => {
                    let rows = self.builder.rows(&name).map_err(|error| failed(&error))?;
                    self.held.insert(name, Held { cursor, rows });
                }
                None => self.builder.leave_out(&name).map_err(|error| failed(&error))?,
            }
            Ok(self)
        })
        .await?
    }
}

fn failed(error: &ReplicaError) -> StoreError {
    tracing::warn!(%error, "a snapshot could not be built");
    StoreError::Unavailable
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    spawn_blocking(work).await.map_err(|_| StoreError::Unavailable)
}
