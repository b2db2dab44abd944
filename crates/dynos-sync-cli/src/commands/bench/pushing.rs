//! Pushing what is queued.

use std::path::PathBuf;

use dynos_sync::{
    core::{
        Operation, RecordId, ReplicaId,
        wire::{PushEntry, PushRequest},
    },
    sqlite::Synchronous,
};

use super::{
    Case,
    device::Device,
    failed, limit,
    process::Process,
    record::TABLE,
    sample::{Sample, Watch},
};
use crate::error::Failure;

/// Rows a request of the limit's.
const AT_ONCE: u64 = 1000;

/// A database whose rows are all queued.
pub(super) fn queued(case: &Case) -> PathBuf {
    case.dir.join(format!("queued-{}-{}.sqlite", case.shape.name(), case.rows))
}

/// A device that was offline.
pub(super) async fn set_up(case: &Case) -> Result<(), Failure> {
    if queued(case).exists() {
        return Ok(());
    }
    let device = Device::new(case, Synchronous::Normal).await?;
    device.engine.write_many(TABLE, case.records().collect()).await?;
    device.engine.close().await;
    Ok(std::fs::rename(&device.path, queued(case))?)
}

/// Pushes all of it to a new server.
pub(super) async fn push(case: &Case) -> Result<Sample, Failure> {
    let path = case.fresh()?;
    std::fs::copy(queued(case), &path)?;
    let server = Process::server(&case.fresh_dir("server")?)?;
    let device = Device::start(&path, Synchronous::Normal, server.remote()?, |builder| builder).await?;
    let watch = Watch::start();
    let report = device.engine.drain().await?;
    let sample = watch.stop(case.rows);
    if report.pushed as u64 != case.rows {
        return Err(failed(&format_args!("{} of {} rows were pushed", report.pushed, case.rows)));
    }
    device.engine.close().await;
    let server_peak = server.peak_bytes().unwrap_or_default() >> 20;
    Ok(sample.on_disk(&device.path).remarking(format!("server {server_peak} MiB")))
}

/// The same bytes, posted to a handler that does nothing but insert them.
pub(super) async fn push_limit(case: &Case) -> Result<Sample, Failure> {
    let bodies: Vec<Vec<u8>> = (0..case.rows.div_ceil(AT_ONCE)).map(|n| body(case, n)).collect();
    let server = Process::limit("rows", &case.fresh_dir("limit")?)?;
    let url = format!("{}/rows", server.url);
    let client = limit::client()?;
    let watch = Watch::start();
    for body in bodies {
        let answer = client.post(&url).body(body).send().await.map_err(|error| failed(&error))?;
        answer.error_for_status().map_err(|error| failed(&error))?;
    }
    Ok(watch.stop(case.rows))
}

fn body(case: &Case, chunk: u64) -> Vec<u8> {
    let entry = |n: u64| {
        let (id, data) = case.shape.record(n);
        let (table, id) = (TABLE.parse(), RecordId::try_from(id));
        let (Ok(table), Ok(id)) = (table, id) else { unreachable!("BUG: the names are good ones") };
        let (op, base, at) = (Operation::Upsert, None, 1_700_000_000_000);
        PushEntry { counter: n + 1, table, id, op, base, at, data: Some(data), transaction: None }
    };
    let rows = chunk * AT_ONCE..((chunk + 1) * AT_ONCE).min(case.rows);
    let request = PushRequest::new(ReplicaId::from_random([7; 16]), rows.map(entry).collect());
    serde_json::to_vec(&request).unwrap_or_default()
}
