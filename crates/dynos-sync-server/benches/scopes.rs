//! How many pushes one Postgres takes, all of one scope's and of a thousand's.
//!
//! ```sh
//! cargo bench -p dynos-sync-server --features postgres --bench scopes
//! ```
//!
//! A scope is one user's rows. Each push is a transaction that is durable when it is answered (`fsync`,
//! `synchronous_commit` and `full_page_writes` on). Beside it, in the same run: the same rows put into a table that is
//! not tracked, by the same number of connections, as a yardstick for what the machine does.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark talks, and may panic")]

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use dynos_sync_core::{
    Operation, ReplicaId, fields, json,
    wire::{PushEntry, PushRequest, PushResult},
};
use dynos_sync_server::{
    config::{Auth, Config, Secret},
    store::{Caller, PostgresStore, Store, postgres::PostgresOptions},
};
use dynos_sync_testbed::Postgres;
use tokio_postgres::{Client, NoTls};

const WARM_UP: Duration = Duration::from_secs(1);

/// One kind of load.
#[derive(Clone, Copy)]
struct Load {
    scopes: u64,
    /// Rows a push.
    rows: u64,
    /// Pushes under way at once, each on a connection of its own.
    writers: u64,
    /// Whether commits are announced, for live hints across servers.
    hints: bool,
}

/// How long each measured push took.
struct Measured {
    latencies: Vec<Duration>,
    time: Duration,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let setting =
        |name: &str, default| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seconds, runs) = (setting("DYNOS_BENCH_SECONDS", 5), setting("DYNOS_BENCH_RUNS", 3));
    let mut postgres = Postgres::start();
    let client = connect(postgres.url()).await;
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        client.batch_execute(&format!("alter system set {name} = on")).await.unwrap();
    }
    let version: String = client.query_one("show server_version", &[]).await.unwrap().get(0);
    postgres.restart();
    println!("PostgreSQL {version}");
    println!("scopes  rows/push  writers  hints   pushes/s    rows/s    p50 ms   p99 ms   of untracked");
    let mut n = 0;
    for run in 0..runs {
        for (rows, writers) in [(1, 1), (1, 16), (100, 1), (100, 16)] {
            for (scopes, hints) in [(1, true), (1, false), (1000, true), (1000, false)] {
                n += 1;
                let load = Load { scopes, rows, writers, hints };
                let url = fresh(&postgres, n).await;
                measure(&url, load, Duration::from_secs(seconds), run).await;
            }
        }
    }
}

/// Measures one load, and its yardstick right after it.
async fn measure(url: &str, load: Load, time: Duration, run: u64) {
    let store = prepared(url, load).await;
    let pushed = hammer(load, time, |writer, turn| {
        let store = store.clone();
        async move { push(&store, load, writer, turn).await }
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..load.writers {
        clients.push(Arc::new(connect(url).await));
    }
    let inserted = hammer(load, time, |writer, turn| {
        let client = clients[writer as usize].clone();
        async move { insert(&client, load, writer, turn).await }
    })
    .await;
    let (Load { scopes, rows, writers, hints }, rate) = (load, pushed.rate());
    let hints = if hints { "on" } else { "off" };
    println!(
        "{scopes:>6}  {rows:>9}  {writers:>7}  {hints:>5}  {rate:>9.0}  {:>8.0}  {:>8.2}  {:>7.2}  {:>11.0} %   run {run}",
        rate * rows as f64,
        pushed.percentile(50),
        pushed.percentile(99),
        100.0 * rate / inserted.rate(),
    );
}

impl Measured {
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }

    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * percent / 100).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    }
}

/// A database of its own for a load.
async fn fresh(postgres: &Postgres, n: u32) -> String {
    let name = format!("bench_{n}");
    connect(postgres.url()).await.batch_execute(&format!("create database {name}")).await.unwrap();
    let (server, _) = postgres.url().rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

/// Both tables, empty, and a store with a connection a writer.
async fn prepared(url: &str, load: Load) -> Arc<PostgresStore> {
    let mut options = PostgresOptions::new(url);
    options.connections = load.writers as usize;
    let config = Config::new("unused", Auth::Secret(Secret::new("a secret of at least thirty-two bytes")));
    let store = Arc::new(PostgresStore::connect(&options, &config).await.unwrap());
    let sql = format!(
        "update dynos.meta set notify = {};
         create table item (id text primary key, user_id text not null, n bigint, body text);
         create table untracked (like item including all);
         select dynos_track('item', 'user_id')",
        load.hints
    );
    connect(url).await.batch_execute(&sql).await.unwrap();
    store
}

/// Does something in `writers` places at once, over and over, for as long as is measured.
async fn hammer<F>(load: Load, time: Duration, work: impl Fn(u64, u64) -> F) -> Measured
where
    F: Future<Output = ()>,
{
    let start = Instant::now();
    let writers = (0..load.writers).map(|writer| {
        let work = &work;
        async move {
            let mut latencies = Vec::new();
            for turn in 0.. {
                let before = Instant::now();
                if before - start > WARM_UP + time {
                    break;
                }
                work(writer, turn).await;
                if before - start > WARM_UP {
                    latencies.push(before.elapsed());
                }
            }
            latencies
        }
    });
    let latencies = futures_util::future::join_all(writers).await.concat();
    Measured { latencies, time: start.elapsed() - WARM_UP }
}

/// The user whose turn it is. No two writers push as one user at once, unless there is only one.
fn user(load: Load, writer: u64, turn: u64) -> String {
    format!("user-{}", (turn * load.writers + writer) % load.scopes)
}

async fn push(store: &PostgresStore, load: Load, writer: u64, turn: u64) {
    let user = user(load, writer, turn);
    let entry = |row| PushEntry {
        counter: turn * load.rows + row + 1,
        table: "item".parse().unwrap(),
        id: format!("{writer}-{turn}-{row}").parse().unwrap(),
        op: Operation::Upsert,
        base: None,
        at: 1_700_000_000_000,
        transaction: None,
        data: Some(fields([("user_id", json!(user)), ("n", json!(row)), ("body", json!("x".repeat(100)))])),
    };
    let replica = ReplicaId::from_random([writer as u8; 16]);
    let request = PushRequest::new(replica, (0..load.rows).map(entry).collect());
    let answer = store.push(&Caller { subject: user.clone() }, request).await.unwrap();
    assert!(answer.results.iter().all(|result| matches!(result, PushResult::Applied { .. })), "{answer:?}");
}

async fn insert(client: &Client, load: Load, writer: u64, turn: u64) {
    let sql = "insert into untracked select $1::text || row, $2, row, repeat('x', 100)
               from generate_series(1, $3::bigint) row";
    let rows = i64::try_from(load.rows).unwrap();
    let inserted =
        client.execute(sql, &[&format!("{writer}-{turn}-"), &user(load, writer, turn), &rows]).await.unwrap();
    assert_eq!(inserted, load.rows);
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
