//! Pulling what others have written.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dynos_sync::{
    Builder,
    core::{
        Fields, Remote, ReplicaId,
        snapshot::{Snapshot, SnapshotRequest},
        wire::{Page, PullRequest},
    },
    remote::HttpRemote,
    sqlite::Synchronous,
};
use rusqlite::{Connection, params, params_from_iter, types::Value as Cell};
use serde::Deserialize;

use super::{
    Case,
    device::Device,
    failed, limit,
    limit_server::page_file,
    process::Process,
    record::{Shape, TABLE, cell},
    sample::{Sample, Watch},
};
use crate::error::Failure;

/// A server's directory that has the rows.
pub(super) fn filled(case: &Case) -> PathBuf {
    case.dir.join(format!("filled-{}-{}", case.shape.name(), case.rows))
}

/// A server that has the rows, and the pages that it hands out, as files.
pub(super) async fn set_up(case: &Case) -> Result<(), Failure> {
    let done = filled(case);
    if done.exists() {
        return Ok(());
    }
    let making = case.fresh_dir("filling")?;
    let server = Process::server(&making)?;
    fill(case, &server).await?;
    save_pages(&server, &making).await?;
    drop(server);
    Ok(fs::rename(making, done)?)
}

/// Puts the rows on a server, as a device does.
async fn fill(case: &Case, server: &Process) -> Result<(), Failure> {
    const AT_ONCE: usize = 20_000;
    let device = new_device(case, server).await?;
    let mut records = case.records().peekable();
    while records.peek().is_some() {
        device.engine.write_many(TABLE, records.by_ref().take(AT_ONCE).collect()).await?;
        device.engine.drain().await?;
    }
    device.engine.close().await;
    Ok(())
}

/// A device with an empty table.
pub(super) async fn new_device(case: &Case, server: &Process) -> Result<Device, Failure> {
    device_taking(case, server, 0).await
}

/// As [`new_device`], which takes snapshots up to a size.
async fn device_taking(case: &Case, server: &Process, snapshots: u64) -> Result<Device, Failure> {
    let path = case.fresh()?;
    Connection::open(&path)?.execute_batch(&case.shape.schema())?;
    let set_up = |builder: Builder| builder.configure(|config| config.max_snapshot_bytes = snapshots);
    Device::start(&path, Synchronous::Normal, server.remote()?, set_up).await
}

async fn save_pages(server: &Process, dir: &Path) -> Result<(), Failure> {
    let remote = server.remote()?;
    let mut request = PullRequest {
        replica: ReplicaId::from_random([9; 16]),
        table: TABLE.parse()?,
        cursor: None,
        seen: None,
        limit: 1000,
        unsettled: Vec::new(),
        all: true,
    };
    for n in 0.. {
        let page: Page = remote.pull(request.clone()).await?;
        fs::write(page_file(dir, n), serde_json::to_vec(&page).map_err(|error| failed(&error))?)?;
        request.cursor = Some(page.next);
        if !page.has_more {
            break;
        }
    }
    Ok(())
}

/// The first pull of everything into the application's own table, by pages.
pub(super) async fn by_pages(case: &Case) -> Result<Sample, Failure> {
    let server = Process::server(&filled(case))?;
    let device = new_device(case, &server).await?;
    first(case, &server, device).await
}

/// The first pull of everything as a snapshot that the server has prepared, for the user's last device, say.
pub(super) async fn by_snapshot(case: &Case) -> Result<Sample, Failure> {
    let server = Process::server(&filled(case))?;
    let device = device_taking(case, &server, u64::MAX).await?;
    let prepared = prepare(&server).await?;
    let sample = first(case, &server, device).await?;
    let remark = format!("prepared in {} ms", prepared.as_millis());
    Ok(sample.remarking(remark))
}

/// Has the snapshot made that the device will ask for, and answers how long that takes.
async fn prepare(server: &Process) -> Result<Duration, Failure> {
    let start = Instant::now();
    offer(&server.remote()?).await?;
    Ok(start.elapsed())
}

/// A snapshot of all tables.
pub(super) async fn offer(remote: &HttpRemote) -> Result<Snapshot, Failure> {
    let tables = remote.tables().await?;
    let source = remote.snapshots().ok_or_else(|| failed(&"there are no snapshots"))?;
    let offer = source.offer(&SnapshotRequest { replica: ReplicaId::from_random([9; 16]), tables }).await?;
    offer.ok_or_else(|| failed(&"no snapshot was offered"))
}

async fn first(case: &Case, server: &Process, device: Device) -> Result<Sample, Failure> {
    let watch = Watch::start();
    let report = device.engine.pull_all().await?;
    let sample = watch.stop(case.rows);
    let pulled = report.rows();
    if pulled as u64 != case.rows {
        return Err(failed(&format_args!("{pulled} of {} rows were pulled", case.rows)));
    }
    device.engine.close().await;
    let server_peak = server.peak_bytes().unwrap_or_default() >> 20;
    Ok(sample.on_disk(&device.path).remarking(format!("server {server_peak} MiB")))
}

/// The same bytes over HTTP, parsed and inserted, 1,000 rows a transaction.
pub(super) async fn first_limit(case: &Case) -> Result<Sample, Failure> {
    let server = Process::limit("pages", &filled(case))?;
    let path = case.fresh()?;
    let mut db = limit::open(&path, "NORMAL")?;
    db.execute_batch(&case.shape.schema())?;
    let client = limit::client()?;
    let watch = Watch::start();
    let mut rows = 0;
    for n in 0.. {
        let url = format!("{}/page/{n}", server.url);
        let body = client.get(url).send().await.map_err(|error| failed(&error))?;
        let body = body.bytes().await.map_err(|error| failed(&error))?;
        let (inserted, has_more) = insert(case.shape, &mut db, &body)?;
        rows += inserted;
        if !has_more {
            break;
        }
    }
    let sample = watch.stop(case.rows);
    if rows as u64 != case.rows {
        return Err(failed(&format_args!("{rows} of {} rows came", case.rows)));
    }
    Ok(sample.on_disk(&path))
}

fn insert(shape: Shape, db: &mut Connection, body: &[u8]) -> Result<(usize, bool), Failure> {
    match shape {
        Shape::Usual => insert_page::<Usual<'_>>(shape, db, body),
        _ => insert_page::<Fields>(shape, db, body),
    }
}

#[derive(Deserialize)]
struct Pulled<'a, R> {
    #[serde(borrow)]
    changes: Vec<Changed<'a, R>>,
    has_more: bool,
}

#[derive(Deserialize)]
struct Changed<'a, R> {
    id: Cow<'a, str>,
    record: R,
}

/// A record whose columns the program knows.
#[derive(Deserialize)]
struct Usual<'a> {
    title: Cow<'a, str>,
    body: Cow<'a, str>,
    done: i64,
    position: i64,
    created_at: Cow<'a, str>,
    user_id: Cow<'a, str>,
}

trait Insert {
    fn insert(&self, id: &str, statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<()>;
}

impl Insert for Usual<'_> {
    fn insert(&self, id: &str, statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<()> {
        let Self { title, body, done, position, created_at, user_id } = self;
        statement.execute(params![id, title, body, done, position, created_at, user_id]).map(drop)
    }
}

impl Insert for Fields {
    fn insert(&self, id: &str, statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<()> {
        let cells = self.values().map(|value| cell(Some(value)));
        statement.execute(params_from_iter(std::iter::once(Cell::Text(id.to_owned())).chain(cells))).map(drop)
    }
}

fn insert_page<'a, R: Insert + Deserialize<'a>>(
    shape: Shape,
    db: &mut Connection,
    body: &'a [u8],
) -> Result<(usize, bool), Failure> {
    let page: Pulled<'a, R> = serde_json::from_slice(body).map_err(|error| failed(&error))?;
    let tx = db.transaction()?;
    {
        let mut statement = tx.prepare_cached(&shape.insert())?;
        for change in &page.changes {
            change.record.insert(&change.id, &mut statement)?;
        }
    }
    tx.commit()?;
    Ok((page.changes.len(), page.has_more))
}
