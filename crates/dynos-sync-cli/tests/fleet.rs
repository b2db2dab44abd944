//! A fleet: 200 devices of 20 users, four servers on one Postgres, which is restarted twice while a server is killed
//! five times. Every device writes with plain SQL and syncs with whichever server it finds.
//!
//! Each device makes 40 edits, as somebody does in ten minutes who makes one every 15 seconds; `DYNOS_FLEET_EDITS` says
//! otherwise.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dynos_sync::{
    Driver, SyncConfig, SystemClock,
    remote::HttpRemote,
    sqlite::{SqliteOptions, SqliteReplica},
};
use dynos_sync_testbed::Postgres;
use support::{Server, dynos, open, sql};
use tokio::sync::Semaphore;

const USERS: usize = 20;
const DEVICES: usize = 200;
const SERVERS: usize = 4;
const KILLS: usize = 5;
const RESTARTS: usize = 2;

type Rows = BTreeMap<String, (Option<String>, Option<i64>)>;

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

struct Device {
    number: usize,
    path: PathBuf,
    driver: Driver,
    dice: Dice,
    /// Records that only this device writes, with the last value that its program was told is stored.
    own: BTreeMap<String, i64>,
}

impl Device {
    async fn new(dir: &Path, number: usize, servers: &[String], token: &str) -> Self {
        let path = dir.join(format!("{number}.sqlite"));
        sql(&path, "CREATE TABLE note (id TEXT PRIMARY KEY, user_id TEXT, body TEXT, n INTEGER)");
        let tracked = dynos().arg("track").arg(&path).arg("--all").output().unwrap();
        assert!(tracked.status.success(), "{tracked:?}");
        let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
        let remote = HttpRemote::builder(&servers[number % SERVERS]).token(token).build().unwrap();
        let random = Box::new(|| getrandom::u64().unwrap());
        let config = SyncConfig::default();
        let driver = Driver::new(Arc::new(replica), Arc::new(remote), Arc::new(SystemClock), config, random);
        let dice = Dice(number as u64 + 1);
        Self { number, path, driver: driver.await.unwrap(), dice, own: BTreeMap::new() }
    }

    fn user(&self) -> String {
        user(self.number)
    }

    /// One edit, as a program makes it: acknowledged when the statement returns.
    fn edit(&mut self, round: usize) {
        let (number, user, hot) =
            (self.number, self.user(), format!("hot-{}-{}", self.user(), self.dice.roll(5)));
        let value = (self.number * 100_000 + round) as i64;
        let own = self.own.keys().nth(self.dice.roll(self.own.len().max(1))).cloned();
        let upsert = |id: &str| {
            format!(
                "INSERT INTO note VALUES ('{id}', '{user}', 'by {number} in {round}', {value})
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body, n = excluded.n"
            )
        };
        let statement = match (self.dice.roll(20), own) {
            (0..6, _) => upsert(&hot),
            (6..8, _) => format!("DELETE FROM note WHERE id = '{hot}'"),
            (8, Some(own)) => {
                self.own.remove(&own);
                format!("DELETE FROM note WHERE id = '{own}'")
            }
            (9..13, Some(own)) => {
                self.own.insert(own.clone(), value);
                format!("UPDATE note SET n = {value} WHERE id = '{own}'")
            }
            _ => {
                let id = format!("own-{}-{round}", self.number);
                self.own.insert(id.clone(), value);
                upsert(&id)
            }
        };
        sql(&self.path, &statement);
    }

    /// Whether it was reached. Anything but a failure that passes is a fault.
    async fn sync(&self) -> bool {
        match self.driver.sync_all().await {
            Ok(_) => true,
            Err(error) if error.is_transient() => false,
            Err(error) => panic!("device {}: {error}", self.number),
        }
    }

    fn rows(&self) -> Rows {
        let db = open(&self.path);
        let mut all = db.prepare("SELECT id, body, n FROM note").unwrap();
        let rows = all.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Where it stands, for people to read.
    fn standing(&self) -> String {
        let text = |query: &str| support::text(&self.path, query);
        let table = text(
            "SELECT json_object('cursor', cursor, 'ahead', ahead, 'phase', phase, 'dead', (SELECT count(*) FROM dynos_dead)) FROM dynos_table",
        );
        let queue = text(
            "SELECT json_group_array(json_object('counter', counter, 'id', id, 'op', op, 'sent', sent, 'base', base,
                                                 'attempts', attempts, 'retry_at', retry_at, 'data', data)) FROM dynos_queue",
        );
        let dead = text(
            "SELECT json_group_array(json_object('id', record, 'edits', edits, 'code', code, 'message', message, 'at', at)) FROM dynos_dead",
        );
        let conflicts = text(
            "SELECT json_group_array(json_object('at', decided_at, 'resolved', resolved)) FROM dynos_conflict",
        );
        format!("{table}\n  queue {queue}\n  dead letters {dead}\n  conflicts {conflicts}")
    }

    fn count(&self, table: &str) -> i64 {
        support::number(&self.path, &format!("SELECT count(*) FROM {table}"))
    }
}

fn user(device: usize) -> String {
    format!("user-{}", device % USERS)
}

/// Does what is to be done when so many edits were made.
async fn trouble(postgres: Arc<Mutex<Postgres>>, servers: &mut [Server], edits: usize, made: &AtomicUsize) {
    let url = postgres.lock().unwrap().url().to_owned();
    for event in 1..=KILLS + RESTARTS {
        while made.load(Ordering::SeqCst) < edits * event / (KILLS + RESTARTS + 1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if event % 3 == 0 {
            let postgres = postgres.clone();
            let restart = move || {
                let mut postgres = postgres.lock().unwrap();
                // Once in good order, and once as a crash.
                if event % 2 == 0 {
                    return postgres.restart();
                }
                postgres.stop_immediate();
                postgres.start_again();
            };
            tokio::task::spawn_blocking(restart).await.unwrap();
        } else {
            let server = &mut servers[event % SERVERS];
            server.guard.0.kill().unwrap();
            server.guard.0.wait().unwrap();
            let (data, address) = (server.data.clone(), server.address().to_owned());
            *server = serve(&data, &address, &url);
        }
    }
}

fn serve(data: &Path, address: &str, url: &str) -> Server {
    Server::start_with(data, address, &["--database-url", url, "--database-connections", "8"])
}

#[test]
fn a_fleet_ends_equal_and_nothing_is_lost() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    println!("{}", runtime.block_on(fleet()));
}

/// Plays it, and answers the figures.
async fn fleet() -> String {
    let rounds: usize = env::var("DYNOS_FLEET_EDITS").ok().and_then(|edits| edits.parse().ok()).unwrap_or(40);
    let dir = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let (client, connection) = tokio_postgres::connect(postgres.url(), tokio_postgres::NoTls).await.unwrap();
    let watching = tokio::spawn(connection);
    let url = postgres.url().to_owned();
    let data = dir.path().join("server");
    let mut servers: Vec<Server> = (0..SERVERS).map(|_| serve(&data, "127.0.0.1:0", &url)).collect();
    let table = "CREATE TABLE note (id text PRIMARY KEY, user_id text NOT NULL, body text, n bigint);
                 SELECT dynos_track('note', 'user_id')";
    client.batch_execute(table).await.unwrap();
    drop(client);
    watching.await.unwrap().unwrap();
    let urls: Vec<String> = servers.iter().map(|server| server.url.clone()).collect();
    let tokens: Vec<String> = (0..USERS).map(|number| servers[0].token(&user(number))).collect();
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        devices.push(Device::new(dir.path(), number, &urls, &tokens[number % USERS]).await);
    }

    let (start, made, failed) =
        (Instant::now(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let places = Arc::new(Semaphore::new(16));
    let working: Vec<_> = devices
        .into_iter()
        .map(|mut device| {
            let (made, failed, places) = (made.clone(), failed.clone(), places.clone());
            tokio::spawn(async move {
                for round in 0..rounds {
                    let _place = places.acquire().await.unwrap();
                    device.edit(round);
                    made.fetch_add(1, Ordering::SeqCst);
                    // Most of the time it is offline.
                    if device.dice.roll(4) == 0 && !device.sync().await {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
                device
            })
        })
        .collect();
    let postgres = Arc::new(Mutex::new(postgres));
    trouble(postgres.clone(), &mut servers, DEVICES * rounds, &made).await;
    let mut devices = Vec::new();
    for device in working {
        devices.push(device.await.unwrap());
    }
    let written = start.elapsed();
    let passes = settle(&devices).await;

    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut records = 0;
    for number in 0..USERS {
        let select = "SELECT id, body, n FROM note WHERE user_id = $1";
        let rows = client.query(select, &[&user(number)]).await.unwrap();
        let stored: Rows = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        records += stored.len();
        let mut kept = BTreeSet::new();
        for device in devices.iter().filter(|device| device.user() == user(number)) {
            assert_eq!(device.rows(), stored, "device {}", device.number);
            for (id, value) in &device.own {
                assert_eq!(
                    stored.get(id).map(|(_, n)| *n),
                    Some(Some(*value)),
                    "{id} of device {}",
                    device.number
                );
                kept.insert(id.as_str());
            }
        }
        let own = stored.keys().filter(|id| id.starts_with("own-")).map(String::as_str);
        assert_eq!(own.collect::<BTreeSet<_>>(), kept, "what was deleted stays deleted");
    }
    assert_eq!(devices.iter().map(|device| device.count("dynos_dead")).sum::<i64>(), 0);
    let conflicts: i64 = devices.iter().map(|device| device.count("dynos_conflict")).sum();
    format!(
        "{DEVICES} devices, {USERS} users, {SERVERS} servers: {} edits in {written:.0?}, {} syncs failed on the way, {RESTARTS} restarts \
         of Postgres, {KILLS} servers killed; {records} records, {conflicts} conflicts; all equal after {passes} passes, {:.0?} in all",
        made.load(Ordering::SeqCst),
        failed.load(Ordering::SeqCst),
        start.elapsed()
    )
}

/// Syncs everybody until nothing moves, and answers how many passes that took.
async fn settle(devices: &[Device]) -> usize {
    let mut moving = Vec::new();
    for pass in 1..=20 {
        moving.clear();
        for device in devices {
            while !device.sync().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            if device.count("dynos_queue") > 0 {
                moving.push(format!("device {} after pass {pass}: {}", device.number, device.standing()));
            }
        }
        for number in 0..USERS {
            let of_user: Vec<_> = devices.iter().filter(|device| device.user() == user(number)).collect();
            let (first, expected) = (of_user[0], of_user[0].rows());
            for device in &of_user[1..] {
                let rows = device.rows();
                if rows != expected {
                    let (one, other, different) = (first.number, device.number, difference(&expected, &rows));
                    let (here, there) = (first.standing(), device.standing());
                    moving.push(format!("devices {one} and {other}: {different}\n{here}\n{there}"));
                }
            }
        }
        if moving.is_empty() {
            return pass;
        }
    }
    panic!("the devices do not settle:\n{}", moving.join("\n"));
}

fn difference(one: &Rows, other: &Rows) -> String {
    let ids: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let odd = ids.into_iter().filter(|id| one.get(*id) != other.get(*id));
    odd.map(|id| format!("{id}: {:?} and {:?}; ", one.get(id), other.get(id))).collect()
}
