//! A server with many connected devices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dynos_sync::{
    core::{
        Operation, RecordId, Remote, ReplicaId,
        wire::{PullRequest, PushEntry, PushRequest, PushResult},
    },
    remote::HttpRemote,
};
use futures_util::{StreamExt, future};

use super::{
    Case, failed,
    process::Process,
    record::TABLE,
    sample::{Sample, Watch},
};
use crate::error::Failure;

/// For how long.
const TIME: Duration = Duration::from_secs(10);

/// How often each device does something, on average.
const PAUSE: Duration = Duration::from_secs(2);

/// As many devices as there are rows, each of a user of its own, with a stream of hints open. Each pushes an edit and pulls it back, now and then.
pub(super) async fn crowd(case: &Case) -> Result<Sample, Failure> {
    let server = Process::server(&case.fresh_dir("server")?)?;
    let idle = server.memory_bytes();
    let hints = Arc::new(AtomicU64::new(0));
    let mut devices = Vec::new();
    for n in 0..case.rows {
        let remote = server.remote_of(&format!("user-{n}"))?;
        let spec = dynos_sync::core::TableSpec::document(TABLE.parse()?);
        remote.declare(&[spec]).await?;
        let (mut stream, counted) = (remote.hints(), Arc::clone(&hints));
        tokio::spawn(async move {
            while stream.next().await.is_some() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        devices.push((n, remote));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let connected = server.memory_bytes();
    let mut watch = Watch::start();
    let end = Instant::now() + TIME;
    let shape = case.shape;
    let work = devices.into_iter().map(|(n, remote)| tokio::spawn(device(n, remote, shape, end)));
    for times in future::join_all(work.collect::<Vec<_>>()).await {
        times.map_err(|error| failed(&error))??.into_iter().for_each(|time| watch.took(time));
    }
    let calls = watch.count();
    let sample = watch.stop(calls);
    let each =
        connected.zip(idle).map_or(0, |(with, without)| with.saturating_sub(without) / case.rows / 1024);
    let hints = hints.load(Ordering::Relaxed);
    Ok(sample.remarking(format!("{} devices, server {each} KiB each, {hints} hints", case.rows)))
}

async fn device(
    n: u64,
    remote: HttpRemote,
    shape: super::Shape,
    end: Instant,
) -> Result<Vec<Duration>, Failure> {
    let mut name = [1; 16];
    name[..8].copy_from_slice(&n.to_le_bytes());
    let replica = ReplicaId::from_random(name);
    let (mut times, mut cursor, mut counter) = (Vec::new(), None, 0);
    // In no step with each other.
    tokio::time::sleep(PAUSE * (n % 1000) as u32 / 1000).await;
    while Instant::now() < end {
        counter += 1;
        let (id, data) = shape.record(counter);
        let entry = PushEntry {
            counter,
            table: TABLE.parse()?,
            id: RecordId::try_from(id)?,
            op: Operation::Upsert,
            base: None,
            at: 1_700_000_000_000,
            data: Some(data),
            transaction: None,
        };
        let start = Instant::now();
        let answer = remote.push(&PushRequest::new(replica, vec![entry])).await?;
        times.push(start.elapsed());
        if !matches!(answer.results[..], [PushResult::Applied { .. }]) {
            return Err(failed(&format_args!("an edit was answered with {:?}", answer.results)));
        }
        let request = PullRequest {
            replica,
            table: TABLE.parse()?,
            cursor,
            seen: None,
            limit: 1000,
            unsettled: Vec::new(),
            all: true,
        };
        let start = Instant::now();
        let page = remote.pull(request).await?;
        times.push(start.elapsed());
        if page.changes.len() != 1 {
            return Err(failed(&format_args!("{} changes came, not 1", page.changes.len())));
        }
        cursor = Some(page.next);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}
