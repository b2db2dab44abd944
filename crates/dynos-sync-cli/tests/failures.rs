//! Whatever goes wrong ends with a sentence, a hint and an exit code.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::{fs, io, os::unix::ffi::OsStrExt, process::Stdio};

use support::{Ran, Server, World, dynos, holds, number, run, sql};

const ONE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'a')";

#[test]
fn the_command_line_is_explained() {
    let help = run(["--help"]).ok();
    for expected in ["Exit codes:", "sign-in required", "dead-letters", "demo"] {
        assert!(help.out.contains(expected), "{}", help.out);
    }
    assert!(!help.out.contains("demo-crash"));
    run(["nonsense"]).code(2);
    run(["sync", "--json"]).failed(2, "usage");
    run(["--version"]).ok();
}

#[test]
fn a_database_has_to_exist() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.sqlite");
    let missing = missing.to_str().unwrap();
    let commands: [&[&str]; 6] = [
        &["status", missing],
        &["queue", missing],
        &["track", missing, "--all"],
        &["untrack", missing, "--all"],
        &["sync", missing, "--remote", "http://127.0.0.1:1", "--token", "t"],
        &["conflicts", missing, "list"],
    ];
    for command in commands {
        let ran = run([command, &["--json"]].concat()).failed(1, "not_found");
        assert!(ran.error()["hint"].is_string());
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn an_untracked_database_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.sqlite");
    sql(&path, ONE);
    let before = fs::read(&path).unwrap();
    run(["status".as_ref(), "--json".as_ref(), path.as_os_str()]).failed(1, "not_tracked");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_table_has_to_exist_and_the_closest_name_is_offered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.sqlite");
    sql(&path, "CREATE TABLE projects (id INTEGER PRIMARY KEY); CREATE TABLE loose (x)");
    let path = path.to_str().unwrap();
    let ran = run(["track", path, "project", "--json"]).failed(1, "not_found");
    assert!(ran.error()["hint"].as_str().unwrap().contains("projects"));
    run(["track", path, "loose", "--json"]).failed(1, "invalid");
    run(["track", path, "dynos_x", "--json"]).failed(1, "invalid");
    let text = run(["track", path, "project"]).code(1);
    assert!(text.err.starts_with("error: ") && text.err.contains("\nhint: "), "{text:?}");
    // Case does not matter to SQLite, and must not make two tables of one.
    let tracked = run(["track", path, "PROJECTS", "--json"]).ok().json();
    assert_eq!(tracked["tables"][0]["table"], "projects");
}

#[test]
fn nothing_to_track_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.sqlite");
    sql(&path, "CREATE TABLE loose (x); CREATE VIEW v AS SELECT 1");
    let ran = run(["track".as_ref(), path.as_os_str(), "--all".as_ref()]).ok();
    assert!(ran.err.contains("nothing was done"), "{ran:?}");
    assert!(ran.out.contains("loose") && ran.out.contains("no primary key"), "{ran:?}");
}

#[test]
fn hostile_files_are_refused() {
    let world = World::new();
    let garbage = world.path("garbage.sqlite");
    fs::write(&garbage, [0x5a; 8192]).unwrap();
    for command in [["status"], ["queue"]] {
        world.on(&command, &garbage, &["--json"]).failed(1, "damaged");
    }
    world.on(&["track", "--all", "--json"], &garbage, &[]).failed(1, "damaged");
    world.on(&["status", "--json"], world.dir.path(), &[]).failed(1, "not_found");

    let one = world.tracked("one.sqlite", ONE);
    for content in [&b"{\"remote\": 5, \"token\": \"s3cret\"}"[..], b"\xff\xfe", b"s3cret", b""] {
        fs::write(world.path("one.sqlite.dynos"), content).unwrap();
        let ran = world.sync(&one).code(1);
        assert!(!ran.err.contains("s3cret"), "{ran:?}");
    }
    let token = world.path("token");
    fs::write(&token, [0xff; 100]).unwrap();
    fs::remove_file(world.path("one.sqlite.dynos")).unwrap();
    world.on(&["sync", "--token-file", token.to_str().unwrap()], &one, &[]).code(1);
    world.on(&["sync", "--json", "--token", "line\nbreak"], &one, &[]).failed(4, "sign_in_required");
}

#[test]
fn without_a_token_somebody_has_to_sign_in() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    let one = one.to_str().unwrap();
    run(["sync", one, "--remote", &world.server.url, "--json"]).failed(4, "sign_in_required");
    let ran = run(["sync", one, "--remote", &world.server.url, "--token", "nonsense", "--json"]);
    ran.failed(4, "sign_in_required");
    let elsewhere = world.path("elsewhere");
    let stranger = Server::start(&elsewhere).token("ada");
    let ran = run(["sync", one, "--remote", &world.server.url, "--token", &stranger, "--json"]);
    let ran = ran.failed(4, "sign_in_required");
    assert!(!ran.err.contains(&stranger));
    let new = world.path("new.sqlite");
    run(["clone", "--remote", &world.server.url, "--token", "bad", new.to_str().unwrap()]).code(4);
    assert!(!new.exists(), "a wrong token leaves nothing behind");
}

#[test]
fn a_remembered_token_goes_to_its_own_server_only() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, ONE);
    world.on(&["track", "--all", "--remember"], &one, &[]).ok();
    let other = Server::start(&world.path("other"));
    run(["sync", one.to_str().unwrap(), "--remote", &other.url, "--json"]).failed(4, "sign_in_required");
}

#[test]
fn another_server_is_refused_and_is_sent_nothing() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    let secret = world.server.data.join("secret");
    let secret = ["--secret-file", secret.to_str().unwrap()];
    let other = Server::start_with(&world.path("other"), "127.0.0.1:0", &secret);
    sql(&one, "INSERT INTO t VALUES (2, 'private')");
    let ran = world.on(&["sync", "--json", "--remote", &other.url], &one, &[]).failed(5, "wrong_server");
    assert!(ran.error()["hint"].is_string());
    world.on(&["sync", "--watch", "--json", "--remote", &other.url], &one, &[]).failed(5, "wrong_server");
    let empty = world.path("empty.sqlite");
    let cloned = world.on(&["clone", "--json", "--remote", &other.url], &empty, &[]).ok();
    assert_eq!(cloned.json()["tables"], serde_json::json!({}));
    assert!(!holds(&other.data.join("sync.db"), "private"));
}

#[test]
fn an_existing_file_is_not_cloned_over() {
    let world = World::new();
    world.tracked("one.sqlite", ONE);
    let there = world.path("there.sqlite");
    fs::write(&there, "precious").unwrap();
    world.on(&["clone", "--json"], &there, &[]).failed(5, "exists");
    assert_eq!(fs::read(&there).unwrap(), b"precious");
    world.on(&["clone"], &world.path("no/such/dir.sqlite"), &[]).code(1);
}

#[test]
fn plain_http_to_another_machine_is_refused() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    let far = ["--remote", "http://sync.example.com", "--retries", "0"];
    let ran = world.on(&["sync", "--json"], &one, &far).failed(1, "plain_http");
    assert!(ran.error()["hint"].as_str().unwrap().contains("--allow-plain-http"));
    world.on(&["sync", "--json", "--remote", "not a url"], &one, &[]).failed(2, "usage");
}

#[test]
fn an_unreachable_server_loses_nothing() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    sql(&one, "INSERT INTO t VALUES (2, 'waits')");
    let closed = ["--remote", "http://127.0.0.1:9", "--retries", "1"];
    world.on(&["sync", "--json"], &one, &closed).failed(3, "unreachable");
    assert_eq!(world.on(&["status", "--json"], &one, &[]).ok().json()["pending"], 1);
    world.sync(&one).ok();
    assert_eq!(number(&world.cloned("other.sqlite"), "SELECT count(*) FROM t"), 2);
}

#[test]
fn a_locked_database_is_said_to_be_busy() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    let db = support::open(&one);
    db.execute_batch("BEGIN IMMEDIATE; UPDATE t SET x = 'b'").unwrap();
    world.on(&["sync", "--json", "--retries", "0"], &one, &[]).failed(1, "busy");
    db.execute_batch("COMMIT").unwrap();
    world.sync(&one).ok();
}

#[test]
fn what_the_server_refuses_waits_and_what_belongs_to_others_is_a_dead_letter() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, "CREATE TABLE t (id INTEGER PRIMARY KEY, user_id TEXT, x)");
    world.on(&["track", "--all", "--user", "ada"], &one, &[]).ok();
    sql(&one, "INSERT INTO t VALUES (1, 'ada', 'mine'), (2, 'eve', 'hers')");
    let ran = world.sync(&one).failed(3, "incomplete");
    let report = ran.json();
    assert_eq!((&report["complete"], &report["dead_letters"]), (&false.into(), &1.into()));
    assert_eq!(report["tables"]["t"]["pushed"], 1);
    assert!(ran.error()["hint"].as_str().unwrap().contains("dead-letters"));

    let list = world.on(&["dead-letters", "--json"], &one, &["list"]).ok().json();
    let letter = &list["dead_letters"][0];
    assert_eq!((&letter["code"], &letter["record_id"]), (&"forbidden".into(), &"2".into()));
    let id = letter["id"].to_string();
    assert!(world.on(&["dead-letters"], &one, &["list"]).ok().out.contains("forbidden"));
    world.on(&["dead-letters", "--json"], &one, &["discard", "999"]).failed(1, "invalid");
    // Who it belongs to was wrong: with that put right, the edit goes.
    world.on(&["track", "--all", "--user", "eve"], &one, &[]).ok();
    world.on(&["dead-letters", "--json"], &one, &["retry", &id]).ok();
    assert_eq!(world.on(&["queue", "--json"], &one, &[]).ok().json()["pending"], 1);
    world.sync(&one).ok();

    sql(&one, "INSERT INTO t VALUES (3, 'ada', 'not eve')");
    world.sync(&one).code(3);
    let list = world.on(&["dead-letters", "--json"], &one, &["list"]).ok().json();
    let id = list["dead_letters"][0]["id"].to_string();
    let discarded = world.on(&["dead-letters", "--json"], &one, &["discard", &id]).ok().json();
    assert_eq!(discarded["discarded"].to_string(), id);
    world.sync(&one).ok();
}

#[test]
fn a_record_that_is_too_large_waits_for_another_try() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    sql(&one, "INSERT INTO t VALUES (2, printf('%.*c', 1100000, 'x')), (3, 'small')");
    let ran = world.sync(&one).failed(3, "incomplete");
    let report = ran.json();
    assert_eq!(
        (&report["tables"]["t"]["rejected"], &report["tables"]["t"]["pushed"]),
        (&1.into(), &1.into())
    );
    let queue = world.on(&["queue", "--json"], &one, &["--limit", "5"]).ok().json();
    assert_eq!((&queue["entries"][0]["id"], &queue["entries"][0]["attempts"]), (&"2".into(), &1.into()));
    assert!(queue["entries"][0]["retry_at"].is_string());
}

#[test]
fn a_closed_output_is_no_panic() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    for arguments in [&["--help"][..], &["status", one.to_str().unwrap()], &["demo"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = dynos().args(arguments).stdout(Stdio::from(writer)).output().unwrap();
        let ran = Ran::of(&output).ok();
        assert_eq!(ran.err, "", "{arguments:?}");
    }
    for arguments in
        [&["nonsense"][..], &["status", "/no/such/file"], &["-vv", "status", one.to_str().unwrap()]]
    {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let status =
            dynos().args(arguments).stderr(Stdio::from(writer)).stdout(Stdio::null()).status().unwrap();
        assert!(status.code().is_some_and(|code| code <= 2), "{arguments:?}: {status}");
    }
}

#[test]
fn arguments_need_not_be_text() {
    let world = World::new();
    let strange = world.dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe.sqlite"));
    run(["status".as_ref(), "--json".as_ref(), strange.as_os_str()]).failed(1, "not_found");
    run(["track".as_ref(), "x.sqlite".as_ref(), std::ffi::OsStr::from_bytes(b"\xff")]).code(2);
    sql(&strange, ONE);
    world.on(&["track", "--all"], &strange, &[]).ok();
    world.on(&["sync"], &strange, &[]).ok();
    assert_eq!(number(&world.cloned("other.sqlite"), "SELECT count(*) FROM t"), 1);
    let mut command = world.dynos();
    command.env("DYNOS_TOKEN", std::ffi::OsStr::from_bytes(b"\xff")).arg("sync").arg(&strange);
    Ran::of(&command.output().unwrap()).code(2);
}

#[test]
fn logs_name_no_token_and_no_content() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'confidential content')");
    world.on(&["track", "--all"], &one, &[]).ok();
    let mut command = world.dynos();
    command.env("RUST_LOG", "trace").arg("-vv").arg("sync").arg(&one);
    let ran = Ran::of(&command.output().unwrap()).ok();
    assert!(!ran.err.is_empty(), "something is logged");
    assert!(!ran.err.contains(&world.token) && !ran.err.contains("confidential"), "{}", ran.err);
}

#[test]
fn a_row_that_the_local_table_refuses_is_kept_aside_and_explained() {
    let world = World::new();
    world.tracked("one.sqlite", ONE);
    let strict = world.path("strict.sqlite");
    sql(&strict, "CREATE TABLE t (id INTEGER PRIMARY KEY, x CHECK (x <> 'a'))");
    world.on(&["track", "--all"], &strict, &[]).ok();
    let ran = world.sync(&strict).failed(3, "incomplete");
    assert!(ran.error()["hint"].as_str().unwrap().contains("dynos status"));
    let status = world.on(&["status", "--json"], &strict, &[]).ok().json();
    assert_eq!((&status["quarantined"], &status["quarantine"][0]["record_id"]), (&1.into(), &"1".into()));
    assert!(world.on(&["status"], &strict, &[]).ok().out.contains("t/1"));
}
