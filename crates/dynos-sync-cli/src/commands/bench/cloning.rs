//! A new device's database.

use std::{fs::File, io};

use dynos_sync::{
    SyncEngine, clone_database,
    core::Remote,
    sqlite::{SqliteOptions, SqliteReplica},
};
use rusqlite::Connection;

use super::{
    Case, failed,
    process::Process,
    pulling::{filled, offer},
    record::{TABLE, USER},
    sample::{Sample, Watch},
};
use crate::error::Failure;

/// Makes a database of a snapshot that the server has prepared, and pulls what came later: nothing.
pub(super) async fn clone(case: &Case) -> Result<Sample, Failure> {
    let server = Process::server(&filled(case))?;
    let remote = server.remote()?;
    offer(&remote).await?;
    let path = case.fresh()?;
    let options = SqliteOptions::default();
    let watch = Watch::start();
    if !clone_database(&path, &options, &remote, u64::MAX).await? {
        return Err(failed(&"it was not made of a snapshot"));
    }
    let builder = SyncEngine::builder(SqliteReplica::open(&path, &options)?, remote);
    let engine = builder.user_id(USER).configure(|config| config.auto_sync = false).start().await?;
    engine.pull_all().await?;
    let sample = watch.stop(case.rows);
    engine.close().await;
    let sql = format!("SELECT count(*) FROM {TABLE}");
    let rows: i64 = Connection::open(&path)?.query_row(&sql, [], |row| row.get(0))?;
    if rows.unsigned_abs() != case.rows {
        return Err(failed(&format_args!("{rows} of {} rows came", case.rows)));
    }
    Ok(sample.on_disk(&path))
}

/// Fetches the same bytes in the same pieces, unpacks them, and has the file on the disk.
pub(super) async fn fetch(case: &Case) -> Result<Sample, Failure> {
    let server = Process::server(&filled(case))?;
    let remote = server.remote()?;
    let snapshot = offer(&remote).await?;
    let source = remote.snapshots().ok_or_else(|| failed(&"there are no snapshots"))?;
    let path = case.fresh()?;
    let watch = Watch::start();
    let mut packed = Vec::new();
    while (packed.len() as u64) < snapshot.bytes {
        packed.extend(source.fetch(&snapshot, packed.len() as u64).await?);
    }
    let mut file = File::create(&path)?;
    io::copy(&mut zstd::stream::read::Decoder::new(packed.as_slice())?, &mut file)?;
    file.sync_all()?;
    Ok(watch.stop(case.rows).on_disk(&path))
}
