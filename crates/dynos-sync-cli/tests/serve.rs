//! The server's side: serve and token.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::fs;

use support::{Guard, Server, World, dynos, mode, number, run, sql};

#[test]
fn it_makes_its_secret_and_ends_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&data);
        assert_eq!(mode(&data.join("secret")), 0o600);
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join("sync.db")), 0o600);
        assert_eq!(server.guard.terminate(signal), 0);
    }
    assert_eq!(fs::read_to_string(data.join("secret")).unwrap().trim().len(), 64);
}

#[test]
fn it_ends_while_a_device_listens() {
    let mut world = World::new();
    let one = world.tracked("one.sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let mut watch = world.dynos();
    watch.args(["sync", "--watch", "--json"]).arg(&one).stdout(std::process::Stdio::piped());
    let mut watch = Guard(watch.spawn().unwrap());
    let lines = support::Lines::follow(watch.0.stdout.take().unwrap());
    lines.wait_for("a first sync", |line| line.contains("sync_complete"));
    assert_eq!(world.server.guard.terminate("TERM"), 0);
    assert_eq!(watch.terminate("TERM"), 0);
}

#[test]
fn tokens_are_printed_for_a_secret_that_is_there() {
    let world = World::new();
    let data = world.server.data.to_str().unwrap();
    let document = run(["token", "--json", "--user", "ada", "--ttl", "1h", "--data", data]).ok().json();
    assert_eq!(document["user"], "ada");
    assert!(document["expires_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(document["token"].as_str().unwrap().split('.').count(), 3);
    let secret = world.server.data.join("secret");
    run(["token", "--user", "ada", "--secret-file", secret.to_str().unwrap()]).ok();
    let nowhere = world.path("nowhere");
    run(["token", "--json", "--user", "ada", "--data", nowhere.to_str().unwrap()]).failed(1, "not_found");
    fs::write(world.path("short"), "short").unwrap();
    let short = world.path("short");
    run(["token", "--json", "--user", "ada", "--secret-file", short.to_str().unwrap()]).failed(1, "invalid");
    run(["token", "--user", "ada", "--ttl", "soon"]).code(2);
    run(["token", "--user", ""]).code(2);
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let world = World::new();
    let data = world.server.data.to_str().unwrap();
    let ran = run(["serve", "--json", "--data", data, "--listen", "127.0.0.1:0"]).failed(1, "failed");
    assert_eq!(ran.out, "");
    let free = world.path("free");
    let taken = ["serve", "--json", "--data", free.to_str().unwrap(), "--listen", world.server.address()];
    run(taken).failed(1, "failed");
}

#[test]
fn users_share_what_is_shared_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(&dir.path().join("server"), "127.0.0.1:0", &["--shared", "common"]);
    let world = World { token: server.token("ada"), server, dir };
    let schema = "CREATE TABLE common (id INTEGER PRIMARY KEY); CREATE TABLE own (id INTEGER PRIMARY KEY);
                  INSERT INTO common VALUES (1); INSERT INTO own VALUES (1)";
    world.tracked("ada.sqlite", schema);
    let bob = World { token: world.server.token("bob"), ..world };
    let path = bob.path("bob.sqlite");
    sql(&path, "CREATE TABLE common (id INTEGER PRIMARY KEY); CREATE TABLE own (id INTEGER PRIMARY KEY)");
    bob.on(&["track", "--all"], &path, &[]).ok();
    bob.sync(&path).ok();
    assert_eq!(number(&path, "SELECT count(*) FROM common"), 1);
    assert_eq!(number(&path, "SELECT count(*) FROM own"), 0);
}

#[test]
fn a_key_set_has_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.json");
    fs::write(&keys, "{}").unwrap();
    let data = dir.path().join("data");
    let arguments = ["serve", "--json", "--data", data.to_str().unwrap(), "--jwks", keys.to_str().unwrap()];
    run(arguments).failed(1, "failed");
    run(["serve", "--jwks", "k", "--secret-file", "s"]).code(2);
    run(["serve", "--audience", "a"]).code(2);
}

#[test]
fn requests_are_logged_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = dynos();
    command.args(["serve", "--json", "--log", "json", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(dir.path()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut guard = Guard(command.spawn().unwrap());
    let out = support::Lines::follow(guard.0.stdout.take().unwrap());
    let err = support::Lines::follow(guard.0.stderr.take().unwrap());
    out.wait_for("the address", |line| line.contains("listening"));
    let document: serde_json::Value = serde_json::from_str(&out.all()[0]).unwrap();
    let url = document["listening"].as_str().unwrap().to_owned();
    let data = dir.path().to_str().unwrap();
    let token = run(["token", "--user", "ada", "--data", data]).ok().out.trim().to_owned();
    let new = dir.path().join("new.sqlite");
    run(["clone", new.to_str().unwrap(), "--remote", &url, "--token", &token]).ok();
    err.wait_for("a request", |line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    assert!(err.all().iter().all(|line| !line.contains(&token)));
}
