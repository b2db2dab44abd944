//! Devices that stay connected.

use std::{
    fs,
    time::{Duration, Instant},
};

use dynos_sync::{SyncEvent, sqlite::Synchronous};
use futures_util::StreamExt;
use rusqlite::Connection;

use super::{
    Case,
    device::Device,
    failed, limit,
    process::Process,
    record::TABLE,
    sample::{Sample, Watch},
};
use crate::error::Failure;

/// A connected device that syncs by itself.
async fn connected(case: &Case, name: &str, server: &Process) -> Result<Device, Failure> {
    let path = case.fresh_dir(name)?.join("device.sqlite");
    Connection::open(&path)?.execute_batch(&case.shape.schema())?;
    let set_up = |builder: dynos_sync::Builder| builder.configure(|config| config.auto_sync = true);
    let device = Device::start(&path, Synchronous::Normal, server.remote()?, set_up).await?;
    device.engine.sync_all().await?;
    Ok(device)
}

/// From a write on one device until the row is in the other one's database.
pub(super) async fn change_to_change(case: &Case) -> Result<Sample, Failure> {
    let server = Process::server(&case.fresh_dir("server")?)?;
    let (one, other) = (connected(case, "one", &server).await?, connected(case, "other", &server).await?);
    let mut events = other.engine.events();
    // Both listen by now, or soon.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut watch = Watch::start();
    for (id, fields) in case.records() {
        let start = Instant::now();
        one.engine.write(TABLE, &id, fields).await?;
        while other.engine.get(TABLE, &id).await?.is_none() {
            let pulled = |event: &SyncEvent| matches!(event, SyncEvent::PullComplete { .. });
            while let Some(event) = events.next().await
                && !pulled(&event.event)
            {}
        }
        watch.took(start.elapsed());
        // The next one is not to meet the end of this one's sync.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sample = watch.stop(case.rows);
    one.engine.close().await;
    other.engine.close().await;
    Ok(sample)
}

/// One POST, and one event that it causes.
pub(super) async fn post_to_event(case: &Case) -> Result<Sample, Failure> {
    let server = Process::limit("events", &case.fresh_dir("limit")?)?;
    let client = limit::client()?;
    let listening =
        client.get(format!("{}/listen", server.url)).send().await.map_err(|error| failed(&error))?;
    let mut events = listening.bytes_stream();
    let mut watch = Watch::start();
    for _ in 0..case.rows {
        let start = Instant::now();
        limit::tell(&client, &server).await?;
        events.next().await.ok_or_else(|| failed(&"the events ended"))?.map_err(|error| failed(&error))?;
        watch.took(start.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(watch.stop(case.rows))
}

/// A connected device that has nothing to do, for as many seconds as there are rows.
pub(super) async fn idle(case: &Case) -> Result<Sample, Failure> {
    let server = Process::server(&case.fresh_dir("server")?)?;
    let device = connected(case, "idle", &server).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = Effort::so_far();
    let watch = Watch::start();
    // Not by the runtime's timer: for a long time it wakes its thread several times, and that is not the engine's doing.
    let time = Duration::from_secs(case.rows);
    tokio::task::spawn_blocking(move || std::thread::sleep(time))
        .await
        .map_err(|error| super::failed(&error))?;
    let sample = watch.stop(case.rows);
    let after = Effort::so_far();
    device.engine.close().await;
    let Some((before, after)) = before.zip(after) else { return Ok(sample) };
    let (wakes, ticks) = (after.wakes - before.wakes, after.ticks - before.ticks);
    Ok(sample.remarking(format!("{wakes} wake-ups, {} ms of CPU", ticks * 10)))
}

/// What the process has done so far.
struct Effort {
    /// How often its threads were woken.
    wakes: u64,
    /// Hundredths of a second that it has run.
    ticks: u64,
}

impl Effort {
    fn so_far() -> Option<Self> {
        let mut wakes = 0;
        for task in fs::read_dir("/proc/self/task").ok()? {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            wakes += line.trim().parse::<u64>().ok()?;
        }
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // After the name, which may hold anything: state is the first, utime the 12th and stime the 13th.
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Self { wakes, ticks })
    }
}
