//! What must not depend on how much there is, and what is done when nothing is to be done.

use std::{fs, path::PathBuf, time::Instant};

use dynos_sync::{
    SyncEngine,
    core::{
        Operation, RecordId, Remote, ReplicaId,
        replica::{Existing, TableOptions},
        wire::{HeadsRequest, PushEntry, PushRequest, PushResult},
    },
    sqlite::{SqliteOptions, SqliteReplica, Synchronous},
};
use rusqlite::Connection;

use super::{
    Case,
    device::Device,
    failed,
    limit::{self, Plain},
    process::Process,
    pulling, pushing,
    record::TABLE,
    sample::{Sample, Watch},
};
use crate::{error::Failure, offline::Nowhere, time};

/// The rows of the small side.
const FEW: u64 = 1000;

/// A device with few queued rows, and one with all of them.
pub(super) async fn set_up_drain(case: &Case) -> Result<(), Failure> {
    pushing::set_up(&case.of(FEW)).await?;
    pushing::set_up(case).await
}

/// Pushes 1,000 of what is queued.
pub(super) async fn drain(case: &Case) -> Result<Sample, Failure> {
    let path = case.fresh()?;
    fs::copy(pushing::queued(case), &path)?;
    let server = Process::server(&case.fresh_dir("server")?)?;
    let device = Device::start(&path, Synchronous::Normal, server.remote()?, |builder| builder).await?;
    let watch = Watch::start();
    let mut pushed = 0;
    while pushed < FEW.min(case.rows) {
        pushed += device.engine.drain_once().await?.pushed as u64;
    }
    let sample = watch.stop(pushed);
    device.engine.close().await;
    Ok(sample)
}

/// As [`drain`], with no more than that queued.
pub(super) async fn drain_few(case: &Case) -> Result<Sample, Failure> {
    drain(&case.of(FEW)).await
}

/// A server with the rows and a device that has pulled them, of each size.
pub(super) async fn set_up_delta(case: &Case) -> Result<(), Failure> {
    for case in [&case.of(FEW), case] {
        pulling::set_up(case).await?;
        if !pulled(case).exists() {
            let server = Process::server(&pulling::filled(case))?;
            let device = pulling::new_device(case, &server).await?;
            device.engine.pull_all().await?;
            device.engine.close().await;
            fs::rename(&device.path, pulled(case))?;
        }
    }
    Ok(())
}

fn pulled(case: &Case) -> PathBuf {
    case.dir.join(format!("pulled-{}-{}.sqlite", case.shape.name(), case.rows))
}

/// Pulls 100 rows that somebody has changed.
pub(super) async fn delta(case: &Case) -> Result<Sample, Failure> {
    const CHANGED: u64 = 100;
    let server = Process::server(&pulling::filled(case))?;
    change(case, &server, CHANGED).await?;
    let path = case.fresh()?;
    fs::copy(pulled(case), &path)?;
    let device = Device::start(&path, Synchronous::Normal, server.remote()?, |builder| builder).await?;
    let watch = Watch::start();
    let report = device.engine.pull_all().await?;
    let sample = watch.stop(CHANGED);
    device.engine.close().await;
    match report.rows() as u64 {
        CHANGED => Ok(sample),
        rows => Err(failed(&format_args!("{rows} rows were pulled, not {CHANGED}"))),
    }
}

/// Somebody else changes the first rows.
async fn change(case: &Case, server: &Process, rows: u64) -> Result<(), Failure> {
    let remote = server.remote()?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| failed(&error))?;
    let replica = ReplicaId::from_random(random);
    let heads = remote.heads(HeadsRequest { replica, tables: vec![TABLE.parse()?] }).await?.heads;
    let entry = |n: u64| -> Result<PushEntry, Failure> {
        Ok(PushEntry {
            counter: n + 1,
            table: TABLE.parse()?,
            id: RecordId::try_from(case.shape.record(n).0)?,
            op: Operation::Upsert,
            base: heads.values().next().cloned(),
            at: time::now(),
            data: Some(case.shape.record(n + u64::from(random[0])).1),
            transaction: None,
        })
    };
    let entries = (0..rows).map(entry).collect::<Result<_, _>>()?;
    let answer = remote.push(&PushRequest::new(replica, entries)).await?;
    let is_applied = |result: &PushResult| matches!(result, PushResult::Applied { .. });
    if answer.results.iter().all(is_applied) { Ok(()) } else { Err(failed(&"a change was not applied")) }
}

/// As [`delta`], of a small table.
pub(super) async fn delta_few(case: &Case) -> Result<Sample, Failure> {
    delta(&case.of(FEW)).await
}

/// How much is pending in the database that is opened.
const PENDING: u64 = 10_000;

fn large(case: &Case) -> PathBuf {
    case.dir.join(format!("large-{}-{}.sqlite", case.shape.name(), case.rows))
}

/// A database with the rows, of which some are pending.
pub(super) async fn set_up_open(case: &Case) -> Result<(), Failure> {
    if large(case).exists() {
        return Ok(());
    }
    let path = case.fresh()?;
    let db = limit::open(&path, "NORMAL")?;
    db.execute_batch(&case.shape.schema())?;
    let sql = case.shape.insert();
    for start in (0..case.rows).step_by(10_000) {
        let rows: Vec<_> =
            (start..(start + 10_000).min(case.rows)).map(|n| (case.shape.row(n), String::new())).collect();
        Plain::insert(&db, &sql, &rows)?;
    }
    drop(db);
    let replica = SqliteReplica::open(&path, &SqliteOptions::default())?;
    let engine =
        SyncEngine::builder(replica, Nowhere).configure(|config| config.auto_sync = false).start().await?;
    let options = TableOptions { existing: Existing::Ignore, ..TableOptions::new(TABLE.parse()?) };
    engine.add_table_with(options).await?;
    let pending = case.rows..case.rows + PENDING;
    engine.write_many(TABLE, pending.map(|n| case.shape.record(n)).collect()).await?;
    engine.close().await;
    Ok(fs::rename(path, large(case))?)
}

/// Opens it, and reads a row.
pub(super) async fn open(case: &Case) -> Result<Sample, Failure> {
    let (id, _) = case.shape.record(0);
    let watch = Watch::start();
    let replica = SqliteReplica::open(large(case), &SqliteOptions::default())?;
    let engine =
        SyncEngine::builder(replica, Nowhere).configure(|config| config.auto_sync = false).start().await?;
    let row = engine.get(TABLE, &id).await?;
    let sample = watch.stop(1);
    engine.close().await;
    if row.is_some() { Ok(sample) } else { Err(failed(&"the row is missing")) }
}

/// As [`open`], with SQLite alone.
pub(super) fn open_limit(case: &Case) -> Result<Sample, Failure> {
    let (id, _) = case.shape.record(0);
    let watch = Watch::start();
    let db = Connection::open(large(case))?;
    db.query_row(&format!("SELECT * FROM {TABLE} WHERE id = ?"), [id], |_| Ok(()))?;
    Ok(watch.stop(1))
}

/// Asks for what is new in 50 tables, where nothing is.
pub(super) async fn nothing_new(case: &Case) -> Result<Sample, Failure> {
    let server = Process::server(&case.fresh_dir("server")?)?;
    let device = Device::start(&case.fresh()?, Synchronous::Normal, server.remote()?, |mut builder| {
        for n in 0..49 {
            builder = builder.table(format!("table_{n}"));
        }
        builder
    })
    .await?;
    device.engine.sync_all().await?;
    let mut watch = Watch::start();
    for _ in 0..case.rows {
        let start = Instant::now();
        device.engine.pull_all().await?;
        watch.took(start.elapsed());
    }
    let sample = watch.stop(case.rows);
    device.engine.close().await;
    Ok(sample)
}

/// One HTTP round trip.
pub(super) async fn round_trip(case: &Case) -> Result<Sample, Failure> {
    let server = Process::limit("events", &case.fresh_dir("limit")?)?;
    let client = limit::client()?;
    let mut watch = Watch::start();
    for _ in 0..case.rows {
        let start = Instant::now();
        limit::tell(&client, &server).await?;
        watch.took(start.elapsed());
    }
    Ok(watch.stop(case.rows))
}
