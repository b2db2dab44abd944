//! Many rows: a full push and a first pull in bounded memory, and a database that is as quick afterwards.
//!
//! 50,000 rows, so that the suite stays quick; `DYNOS_ROWS=1000000` runs the million. The bound is the same for both.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use support::{Guard, World, assert_equal, number, sql};

/// The most memory that a process may have used, in KiB.
const BOUND: u64 = 160 * 1024;

/// Runs a command to its end, and answers the most memory that it used, in KiB.
fn peak(mut command: Command) -> u64 {
    let mut child = Guard(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let status = format!("/proc/{}/status", child.0.id());
    let mut peak = 0;
    while child.0.try_wait().unwrap().is_none() {
        peak = peak.max(high_water(&status).unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(child.exit(), 0);
    peak
}

fn high_water(status: &str) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_push_and_a_first_pull_run_in_bounded_memory() {
    let rows: u64 = env::var("DYNOS_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(50_000);
    let world = World::new();
    let device = world.path("a.sqlite");
    sql(
        &device,
        &format!(
            "CREATE TABLE task (id TEXT PRIMARY KEY, title TEXT, body TEXT, done BOOLEAN, n INTEGER, updated_at TEXT);
             WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n LIMIT {rows})
             INSERT INTO task SELECT lower(hex(randomblob(16))), 'task ' || n, hex(randomblob(50)), n % 2, n,
                                     '2026-01-01T00:00:00Z' FROM n"
        ),
    );
    world.on(&["track", "--all"], &device, &[]).ok();
    let server = format!("/proc/{}/status", world.server.guard.0.id());

    let command = |name: &str, path: &Path| {
        let mut command = world.dynos();
        command.arg(name).arg(path);
        command
    };
    let other = world.path("b.sqlite");
    let push = peak(command("sync", &device));
    let pull = peak(command("clone", &other));
    let server = high_water(&server).unwrap();
    println!("{rows} rows: push {push} KiB, first pull {pull} KiB, server {server} KiB");
    assert!(push < BOUND && pull < BOUND && server < BOUND, "push {push}, pull {pull}, server {server} KiB");
    assert_eq!(number(&other, "SELECT count(*) FROM task"), rows as i64);
    if rows <= 100_000 {
        assert_equal(&device, &other);
    }
}
