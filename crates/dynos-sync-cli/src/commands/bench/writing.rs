//! Local writes.

use std::time::Instant;

use dynos_sync::sqlite::Synchronous;
use futures_util::future;

use super::{
    Case,
    device::Device,
    limit::{self, Plain},
    record::TABLE,
    sample::{Sample, Watch},
};
use crate::error::Failure;

/// Rows a transaction, where there are many.
const AT_ONCE: usize = 1000;

/// `write()` one by one, each awaited.
pub(super) async fn one_by_one(case: &Case, synchronous: Synchronous) -> Result<Sample, Failure> {
    let device = Device::new(case, synchronous).await?;
    write_each(case, &device).await
}

async fn write_each(case: &Case, device: &Device) -> Result<Sample, Failure> {
    let records: Vec<_> = case.records().collect();
    let mut watch = Watch::start();
    for (id, fields) in records {
        let start = Instant::now();
        device.engine.write(TABLE, &id, fields).await?;
        watch.took(start.elapsed());
    }
    let sample = watch.stop(case.rows);
    device.engine.close().await;
    Ok(sample.on_disk(&device.path))
}

/// The same two inserts, one transaction each.
pub(super) fn one_by_one_limit(case: &Case, synchronous: &str) -> Result<Sample, Failure> {
    let plain = Plain::new(case, synchronous)?;
    let rows = plain.bound(case.rows);
    let mut watch = Watch::start();
    for row in &rows {
        let start = Instant::now();
        plain.write(std::slice::from_ref(row))?;
        watch.took(start.elapsed());
    }
    Ok(watch.stop(case.rows).on_disk(&plain.path))
}

/// 64 tasks, each writing one row after the other.
pub(super) async fn by_64_tasks(case: &Case) -> Result<Sample, Failure> {
    const TASKS: usize = 64;
    let device = Device::new(case, Synchronous::Normal).await?;
    let mut shares: Vec<Vec<_>> = (0..TASKS).map(|_| Vec::new()).collect();
    for (n, record) in case.records().enumerate() {
        shares[n % TASKS].push(record);
    }
    let watch = Watch::start();
    let tasks = shares.into_iter().map(|share| {
        let engine = device.engine.clone();
        tokio::spawn(async move {
            for (id, fields) in share {
                engine.write(TABLE, &id, fields).await?;
            }
            Ok::<(), dynos_sync::SyncError>(())
        })
    });
    for task in future::join_all(tasks.collect::<Vec<_>>()).await {
        task.map_err(|error| super::failed(&error))??;
    }
    let sample = watch.stop(case.rows);
    device.engine.close().await;
    Ok(sample.on_disk(&device.path))
}

/// `write_many`.
pub(super) async fn many(case: &Case) -> Result<Sample, Failure> {
    let device = Device::new(case, Synchronous::Normal).await?;
    let records: Vec<_> = case.records().collect();
    let watch = Watch::start();
    device.engine.write_many(TABLE, records).await?;
    let sample = watch.stop(case.rows);
    device.engine.close().await;
    Ok(sample.on_disk(&device.path))
}

/// The same two inserts, 1,000 rows a transaction.
pub(super) fn many_limit(case: &Case) -> Result<Sample, Failure> {
    let plain = Plain::new(case, "NORMAL")?;
    let rows = plain.bound(case.rows);
    let watch = Watch::start();
    for rows in rows.chunks(AT_ONCE) {
        plain.write(rows)?;
    }
    Ok(watch.stop(case.rows).on_disk(&plain.path))
}

/// Plain SQL on a table that is tracked, or on one that is not, 1,000 rows a transaction.
pub(super) async fn plain_sql(case: &Case, tracked: bool) -> Result<Sample, Failure> {
    let plain = Plain::new(case, "NORMAL")?;
    let rows = plain.bound(case.rows);
    if tracked {
        let options = dynos_sync::sqlite::SqliteOptions::default();
        let replica = dynos_sync::sqlite::SqliteReplica::open(&plain.path, &options)?;
        let engine = dynos_sync::SyncEngine::builder(replica, crate::offline::Nowhere)
            .table(TABLE)
            .configure(|config| config.auto_sync = false);
        engine.start().await?.close().await;
    }
    let db = limit::open(&plain.path, "NORMAL")?;
    let watch = Watch::start();
    for rows in rows.chunks(AT_ONCE) {
        Plain::insert(&db, &case.shape.insert(), rows)?;
    }
    Ok(watch.stop(case.rows).on_disk(&plain.path))
}

/// `write()` one by one on a table whose policy masks, and guards the owner, or asks for nothing.
pub(super) async fn guarded(case: &Case, guarded: bool) -> Result<Sample, Failure> {
    let device = Device::with(case, Synchronous::Normal, |builder| {
        builder.configure(|config| {
            config.owner_columns = if guarded { vec!["user_id".to_owned()] } else { Vec::new() };
            config.sensitive_fields = if guarded { vec!["body".to_owned()] } else { Vec::new() };
        })
    })
    .await?;
    write_each(case, &device).await
}
