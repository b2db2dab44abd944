//! First pulls of so many rows that they come as a snapshot, by commands that are killed at any moment.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::{path::Path, process::Stdio, thread, time::Duration};

use dynos_sync::{
    core::{Remote, ReplicaId, snapshot::SnapshotRequest},
    remote::HttpRemote,
};
use support::{Guard, World, assert_equal, number, sql, text};

const SCHEMA: &str =
    "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, n INTEGER, x TEXT); CREATE INDEX t_by_n ON t (n);
                      CREATE TABLE u (id INTEGER PRIMARY KEY, x JSON)";
const ROWS: i64 = 8000;

/// A server that has rows, and the device that wrote them.
fn filled() -> (World, std::path::PathBuf) {
    let world = World::new();
    let first = world.tracked("first.sqlite", SCHEMA);
    sql(
        &first,
        &format!(
            "WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < {ROWS})
             INSERT INTO t SELECT lower(hex(randomblob(16))), n, hex(randomblob(50)) FROM i;
             INSERT INTO u SELECT n, json_object('of', id) FROM t WHERE n % 2"
        ),
    );
    world.sync(&first).ok();
    (world, first)
}

/// Runs a command for so long, and kills it.
fn kill_after(world: &World, command: &str, database: &Path, pause: Duration) {
    let mut command = {
        let mut made = world.dynos();
        made.arg(command).arg(database).stdout(Stdio::null()).stderr(Stdio::null());
        made
    };
    let child = Guard(command.spawn().unwrap());
    thread::sleep(pause);
    drop(child);
}

fn files(world: &World, name: &str) -> Vec<String> {
    let names = std::fs::read_dir(world.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|found| found.into_string().unwrap()).filter(|found| found.starts_with(name)).collect()
}

#[test]
fn a_sync_that_is_killed_has_a_table_whole_or_not_at_all() {
    let (world, first) = filled();
    let device = world.path("device.sqlite");
    sql(&device, SCHEMA);
    world.on(&["track", "--all"], &device, &[]).ok();
    for round in 0..25 {
        kill_after(&world, "sync", &device, Duration::from_millis(4 + round * 4));
        // The other table alone is not enough for a snapshot: where only it is left, it comes by pages.
        let found = number(&device, "SELECT count(*) FROM t");
        assert!(found == 0 || found == ROWS, "{found} rows after round {round}");
        assert_eq!(text(&device, "PRAGMA integrity_check"), "ok");
    }
    world.sync(&device).ok();
    assert_equal(&first, &device);
    assert!(!files(&world, "device.sqlite").iter().any(|name| name.contains("snapshot")));
    sql(&device, "UPDATE t SET x = 'later' WHERE n = 1");
    world.sync(&device).ok();
    world.sync(&first).ok();
    assert_eq!(text(&first, "SELECT x FROM t WHERE n = 1"), "later");
}

#[test]
fn a_clone_that_is_killed_has_made_the_file_whole_or_not_at_all() {
    let (world, first) = filled();
    let mut whole = 0;
    for round in 0..25 {
        let device = world.path("device.sqlite");
        kill_after(&world, "clone", &device, Duration::from_millis(4 + round * 4));
        if device.exists() {
            whole += 1;
            assert_eq!(number(&device, "SELECT count(*) FROM t"), ROWS, "round {round}");
            world.sync(&device).ok();
            assert_equal(&first, &device);
            files(&world, "device.sqlite")
                .iter()
                .for_each(|name| drop(std::fs::remove_file(world.path(name))));
        }
    }
    let device = world.path("device.sqlite");
    let done = world.on(&["clone", "--json"], &device, &[]).ok().json();
    assert_eq!(done["total"]["pulled"], ROWS + ROWS / 2, "{done}, {whole} were made before");
    assert_equal(&first, &device);
    assert!(!files(&world, "device.sqlite").iter().any(|name| name.contains("snapshot")));
    sql(&device, "INSERT INTO u VALUES (2, '{\"of\":\"the clone\"}')");
    world.sync(&device).ok();
    world.sync(&first).ok();
    assert_equal(&first, &device);
}

/// Fetches a snapshot as a clone does that is killed before it uses it.
async fn staged(world: &World, database: &Path) {
    let remote = HttpRemote::builder(&world.server.url).token(world.token.as_str()).build().unwrap();
    let tables = remote.tables().await.unwrap();
    let source = remote.snapshots().unwrap();
    let request = SnapshotRequest { replica: ReplicaId::from_random([0; 16]), tables };
    let snapshot = source.offer(&request).await.unwrap().expect("a snapshot is offered");
    let mut staged = snapshot.digest.clone().into_bytes();
    while ((staged.len() - snapshot.digest.len()) as u64) < snapshot.bytes {
        let from = (staged.len() - snapshot.digest.len()) as u64;
        staged.extend(source.fetch(&snapshot, from).await.unwrap());
    }
    let mut file = database.as_os_str().to_owned();
    file.push("-snapshot");
    std::fs::write(file, staged).unwrap();
}

#[tokio::test]
async fn what_is_here_already_counts() {
    let (world, first) = filled();
    let cloned = world.path("cloned.sqlite");
    staged(&world, &cloned).await;
    let done = world.on(&["clone", "--json"], &cloned, &[]).ok().json();
    assert_eq!(done["total"]["pulled"], ROWS + ROWS / 2, "{done}");
    assert_equal(&first, &cloned);

    let synced = world.path("synced.sqlite");
    sql(&synced, SCHEMA);
    world.on(&["track", "--all"], &synced, &[]).ok();
    staged(&world, &synced).await;
    let done = world.sync(&synced).ok().json();
    assert_eq!(done["total"]["pulled"], ROWS + ROWS / 2, "{done}");
    assert_equal(&first, &synced);
}

#[test]
fn a_server_without_snapshots_gives_pages() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        support::Server::start_with(&dir.path().join("server"), "127.0.0.1:0", &["--snapshot-mib", "0"]);
    let token = server.token("ada");
    let world = World { server, token, dir };
    let first = world.tracked("first.sqlite", SCHEMA);
    sql(
        &first,
        "WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 6000) INSERT INTO u SELECT n, NULL FROM i",
    );
    world.sync(&first).ok();
    assert_equal(&first, &world.cloned("other.sqlite"));
    assert!(!world.path("server").join("snapshots").exists());
}
