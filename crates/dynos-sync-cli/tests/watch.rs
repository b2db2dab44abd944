//! `sync --watch`: changes come and go by themselves.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::{path::Path, process::Stdio};

use support::{Guard, Lines, Server, World, assert_equal, dump, number, sql, wait_for};

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t VALUES (1, 'a')";

fn watch(world: &World, database: &Path, more: &[&str]) -> (Guard, Lines) {
    let mut command = world.dynos();
    command.args(["sync", "--watch"]).arg(database).args(more).stdout(Stdio::piped());
    let mut guard = Guard(command.spawn().unwrap());
    let lines = Lines::follow(guard.0.stdout.take().unwrap());
    (guard, lines)
}

fn event(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn it_picks_up_changes_from_both_sides() {
    let world = World::new();
    let one = world.tracked("one.sqlite", SCHEMA);
    let other = world.cloned("other.sqlite");
    let (mut process, lines) = watch(&world, &one, &["--json"]);
    lines.wait_for("the first sync", |line| event(line)["event"] == "sync_complete");

    sql(&one, "INSERT INTO t VALUES (2, 'written by another connection')");
    lines.wait_for("a push", |line| event(line)["event"] == "pushed" && event(line)["record_id"] == "2");
    world.sync(&other).ok();
    assert_eq!(number(&other, "SELECT count(*) FROM t"), 2);

    sql(&other, "INSERT INTO t VALUES (3, 'of another device'); UPDATE t SET x = 'b' WHERE id = 1");
    world.sync(&other).ok();
    wait_for("the other device's change", || dump(&one) == dump(&other));
    lines.wait_for("a pull", |line| event(line)["event"] == "pull_complete");
    for line in lines.all() {
        assert!(event(&line)["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{line}");
        assert!(!line.contains(&world.token));
    }
    assert_eq!(process.terminate("INT"), 0);
    assert_equal(&one, &other);
}

#[test]
fn it_tells_when_the_server_goes_and_comes() {
    let mut world = World::new();
    let one = world.tracked("one.sqlite", SCHEMA);
    let (mut process, lines) = watch(&world, &one, &[]);
    lines.wait_for("the first sync", |line| line.contains("in sync"));
    assert_eq!(world.server.guard.terminate("TERM"), 0);
    sql(&one, "INSERT INTO t VALUES (2, 'meanwhile')");
    lines.wait_for("offline", |line| line.contains("  offline: "));
    let (address, data) = (world.server.address().to_owned(), world.server.data.clone());
    world.server = Server::start_with(&data, &address, &[]);
    lines.wait_for("online", |line| line.ends_with("  online"));
    lines.wait_for("the push", |line| line.contains("pushed 1 change"));
    assert_eq!(process.terminate("TERM"), 0);
    assert_eq!(number(&world.cloned("other.sqlite"), "SELECT count(*) FROM t"), 2);
}

#[test]
fn it_starts_without_a_server() {
    let mut world = World::new();
    let one = world.tracked("one.sqlite", SCHEMA);
    assert_eq!(world.server.guard.terminate("TERM"), 0);
    let (mut process, lines) = watch(&world, &one, &["--json"]);
    lines.wait_for("offline", |line| event(line)["event"] == "offline");
    assert_eq!(process.terminate("TERM"), 0);
}

#[test]
fn it_ends_where_somebody_has_to_sign_in() {
    let world = World::new();
    let one = world.tracked("one.sqlite", SCHEMA);
    let (mut process, _) = watch(&world, &one, &["--token", "nonsense"]);
    assert_eq!(process.exit(), 4);
}
