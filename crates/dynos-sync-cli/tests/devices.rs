//! Two devices and a server, through the real program.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::path::Path;

use support::{World, assert_equal, dump, holds, mode, number, sql, text};

const SCHEMA: &str = "
    CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL, score REAL, photo BLOB, anything);
    CREATE TABLE note (
        id TEXT PRIMARY KEY NOT NULL,
        person INTEGER NOT NULL REFERENCES person (id) ON DELETE CASCADE,
        body TEXT
    );
    CREATE TABLE seat (
        room TEXT NOT NULL, place INTEGER NOT NULL,
        person INTEGER REFERENCES person (id) ON DELETE SET NULL,
        PRIMARY KEY (room, place)
    );
    CREATE TABLE setting (key TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID;
    CREATE TABLE scratch (x);
    INSERT INTO person VALUES
        (1, 'Ada', 0.1, x'00ff10', 7), (2, 'Grace \u{1f469}', -1e308, NULL, 'text'), (3, '', NULL, x'', 2.0),
        (-9223372036854775808, 'Ünïcødé', 1e-300, zeroblob(2000), NULL), (9007199254740993, 'big', 3, NULL, x'01');
    INSERT INTO note VALUES ('n1', 1, 'line\nbreak \"quoted\"'), ('n/2', 2, NULL), ('ключ', 2, '日本'), ('17', 3, '');
    INSERT INTO seat VALUES ('a', 1, 1), ('a', 2, 2), ('b', 1, NULL);
    INSERT INTO setting VALUES ('real', 2.5), ('int', 42), ('blob', x'deadbeef'), ('null', NULL), ('text', '42');";

fn edit_one(path: &Path) {
    sql(path, "UPDATE person SET name = 'Ada L.', photo = NULL WHERE id = 1");
    sql(
        path,
        "INSERT INTO person VALUES (10, 'from one', 1.0, x'aa', NULL); INSERT INTO note VALUES ('one', 10, 'x')",
    );
    sql(path, "DELETE FROM setting WHERE key = 'int'; UPDATE seat SET place = 9 WHERE room = 'b'");
}

fn edit_other(path: &Path) {
    sql(path, "DELETE FROM person WHERE id = 2");
    sql(
        path,
        "UPDATE setting SET value = x'00' WHERE key = 'text'; INSERT INTO setting VALUES ('new', -0.5)",
    );
    sql(
        path,
        "REPLACE INTO note VALUES ('17', 3, 'replaced'); UPDATE person SET anything = 'now text' WHERE id = 3",
    );
}

#[test]
fn a_clone_has_every_value_with_its_type() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, SCHEMA);
    let tracked = world.on(&["track", "--all", "--json"], &one, &[]).ok().json();
    let status = |table: &str| {
        let tables = tracked["tables"].as_array().unwrap();
        tables.iter().find(|entry| entry["table"] == table).unwrap()["status"].clone()
    };
    assert_eq!([status("person"), status("seat"), status("scratch")], ["tracked", "tracked", "unsuitable"]);
    world.sync(&one).ok();
    let other = world.cloned("other.sqlite");
    assert_eq!(mode(&other), 0o600, "a new file is for its owner only");
    let mut expected = dump(&one);
    expected.remove("scratch");
    assert_eq!(dump(&other), expected);
}

#[test]
fn edits_on_both_sides_converge_in_either_order() {
    for one_first in [true, false] {
        let world = World::new();
        let one = world.tracked("one.sqlite", SCHEMA);
        sql(&one, "DROP TABLE scratch");
        let other = world.cloned("other.sqlite");
        edit_one(&one);
        edit_other(&other);
        let order = if one_first { [&one, &other] } else { [&other, &one] };
        for _ in 0..2 {
            for device in order {
                world.sync(device).ok();
            }
        }
        assert_equal(&one, &other);
        assert_eq!(number(&one, "SELECT count(*) FROM note WHERE person = 2"), 0, "the cascade travelled");
        assert_eq!(
            number(&one, "SELECT count(*) FROM seat WHERE room = 'a' AND place = 2 AND person IS NULL"),
            1
        );
        assert_eq!(text(&other, "SELECT name FROM person WHERE id = 1"), "Ada L.");
        let third = world.cloned("third.sqlite");
        assert_equal(&one, &third);
        assert_eq!(world.sync(&one).ok().json()["total"]["pulled"], 0, "nothing moves any more");
    }
}

/// The only conflict there is, once more.
fn one_that_is_damaged_is_shown_as_such_and_discarded(world: &World, database: &Path) {
    sql(
        database,
        "INSERT INTO dynos_conflict (tbl, resolved, decided_at) SELECT tbl, resolved, decided_at FROM dynos_conflict",
    );
    let list = world.on(&["conflicts", "--json"], database, &["list"]).ok().json();
    let damaged =
        list["conflicts"].as_array().unwrap().iter().find(|conflict| conflict["unreadable"] == true);
    let id = damaged.unwrap()["id"].to_string();
    assert_eq!(list["conflicts"].as_array().unwrap().len(), 2);
    assert!(world.on(&["conflicts"], database, &["show", &id]).ok().out.contains("discard it"));
    world.on(&["conflicts", "--json"], database, &["undo", &id]).failed(1, "invalid");
    world.on(&["conflicts", "--json"], database, &["discard", &id]).ok();
    assert_eq!(
        world.on(&["conflicts", "--json"], database, &["list"]).ok().json()["conflicts"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_conflict_is_decided_alike_and_can_be_undone() {
    let world = World::new();
    let one = world.tracked(
        "one.sqlite",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t VALUES (1, 'a')",
    );
    let other = world.cloned("other.sqlite");
    sql(&one, "UPDATE t SET x = 'one' WHERE id = 1");
    sql(&other, "UPDATE t SET x = 'other' WHERE id = 1");
    world.sync(&one).ok();
    let report = world.on(&["sync", "--json", "--strategy", "server-wins"], &other, &[]).ok().json();
    assert_eq!(report["total"]["conflicts"], 1);
    assert_eq!(report["tables"]["t"]["conflicts"], 1);
    assert_equal(&one, &other);

    let list = world.on(&["conflicts", "--json"], &other, &["list"]).ok().json();
    let id = list["conflicts"][0]["id"].to_string();
    assert_eq!(list["conflicts"][0]["kept"], "remote");
    let shown = world.on(&["conflicts", "--json"], &other, &["show", &id]).ok().json();
    assert_eq!((&shown["local"]["x"], &shown["remote"]["x"]), (&"other".into(), &"one".into()));
    assert!(world.on(&["conflicts"], &other, &["show", &id]).ok().out.contains("\"other\""));
    one_that_is_damaged_is_shown_as_such_and_discarded(&world, &other);
    assert_eq!(
        world.on(&["conflicts", "--json"], &other, &["undo", &id]).ok().json()["undone"].to_string(),
        id
    );
    world.on(&["conflicts", "--json"], &other, &["undo", &id]).failed(1, "invalid");
    world.sync(&other).ok();
    world.sync(&one).ok();
    assert_eq!(text(&one, "SELECT x FROM t"), "other");
    assert_equal(&one, &other);
}

#[test]
fn every_strategy_is_accepted() {
    let world = World::new();
    let one = world.tracked("one.sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    for strategy in ["last-write-wins", "server-wins", "client-wins", "merge"] {
        world.on(&["sync", "--strategy", strategy], &one, &[]).ok();
    }
}

#[test]
fn the_server_and_the_token_are_remembered_beside_the_database() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)");
    world.on(&["track", "--all", "--remember"], &one, &[]).ok();
    let file = world.path("one.sqlite.dynos");
    assert_eq!(mode(&file), 0o600);
    let sync = || support::run(["sync".as_ref(), one.as_os_str()]);
    sync().ok();
    assert!(!holds(&one, &world.token));

    let other = world.path("other.sqlite");
    world.on(&["clone", "--remember"], &other, &[]).ok();
    assert_eq!(mode(&world.path("other.sqlite.dynos")), 0o600);
    support::run(["sync".as_ref(), other.as_os_str()]).ok();
    assert!(!holds(&other, &world.token));

    let status = support::run(["status".as_ref(), "--json".as_ref(), one.as_os_str()]).ok();
    assert_eq!(status.json()["remote"], world.server.url.as_str());
    assert!(!status.out.contains(&world.token));
    let untracked =
        support::run(["untrack".as_ref(), "--all".as_ref(), "--json".as_ref(), one.as_os_str()]).ok();
    assert_eq!(untracked.json()["forgotten"], true);
    assert!(!file.exists());
    sync().code(2);
}

#[test]
fn a_token_may_come_from_a_file() {
    let world = World::new();
    let one = world.tracked("one.sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let file = world.path("token");
    std::fs::write(&file, format!("{}\n", world.token)).unwrap();
    let file = file.to_str().unwrap();
    let one = one.to_str().unwrap();
    support::run(["sync", one, "--remote", &world.server.url, "--token-file", file]).ok();
    // The flag counts, not the environment.
    let mut command = support::dynos();
    command.env("DYNOS_TOKEN", "nonsense").args([
        "sync",
        one,
        "--remote",
        &world.server.url,
        "--token-file",
        file,
    ]);
    support::Ran::of(&command.output().unwrap()).ok();
}

#[test]
fn tracking_again_changes_nothing_and_unmasks_nothing() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, "CREATE TABLE t (id INTEGER PRIMARY KEY, ssn TEXT); INSERT INTO t VALUES (1, '123-45')");
    world.on(&["track", "--sensitive", "ssn"], &one, &["t"]).ok();
    let again = world.on(&["track", "--all", "--json"], &one, &[]).ok().json();
    assert_eq!(again["tables"][0]["status"], "already_tracked");
    let status = world.on(&["status", "--json"], &one, &[]).ok().json();
    assert_eq!(status["tables"][0]["sensitive_fields"][0], "ssn");
    world.sync(&one).ok();
    let other = world.cloned("other.sqlite");
    assert_eq!(text(&other, "SELECT ssn FROM t"), "[REDACTED]");
}

#[test]
fn existing_rows_may_stay_at_home() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'old'), (2, 'old')");
    world.on(&["track", "--existing", "ignore"], &one, &["t"]).ok();
    sql(&one, "INSERT INTO t VALUES (3, 'new')");
    assert_eq!(world.sync(&one).ok().json()["total"]["pushed"], 1);
    let other = world.cloned("other.sqlite");
    assert_eq!(number(&other, "SELECT sum(id) FROM t"), 3);
}

#[test]
fn a_document_table_can_be_made() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    world.on(&["track", "--create"], &one, &["docs"]).ok();
    sql(&one, "INSERT INTO docs VALUES ('a', '{\"deep\": [1, 2.5, null]}')");
    world.sync(&one).ok();
    let other = world.cloned("other.sqlite");
    assert_eq!(number(&other, "SELECT data ->> '$.deep[0]' FROM docs WHERE id = 'a'"), 1);
    let status = world.on(&["status", "--json"], &other, &[]).ok().json();
    assert_eq!(status["tables"][0]["kind"], "document");
}

#[test]
fn untracking_refuses_to_lose_changes() {
    let world = World::new();
    let one = world.tracked(
        "one.sqlite",
        "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE u (id INTEGER PRIMARY KEY)",
    );
    sql(&one, "INSERT INTO t VALUES (1)");
    world.on(&["untrack", "--json"], &one, &["t"]).failed(5, "unsynced");
    let done = world.on(&["untrack", "--json"], &one, &["U"]).ok().json();
    assert_eq!(done["untracked"][0], "u");
    world.on(&["untrack", "--discard"], &one, &["t"]).ok();
    assert_eq!(number(&one, "SELECT count(*) FROM t"), 1, "the rows stay");
    world.on(&["sync", "--json"], &one, &[]).failed(1, "not_tracked");
}

#[test]
fn syncs_at_the_same_time_do_not_disturb_each_other() {
    let world = World::new();
    let one = world.tracked("one.sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)");
    let other = world.cloned("other.sqlite");
    std::thread::scope(|scope| {
        for (device, first) in [(&one, 0), (&other, 1000)] {
            scope.spawn(move || {
                for i in 0..60 {
                    let id = first + i;
                    sql(
                        device,
                        &format!(
                            "INSERT INTO t VALUES ({id}, 'row'); UPDATE t SET x = 'u{id}' WHERE id % 7 = 3"
                        ),
                    );
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..6 {
                        let ran = world.on(&["sync", "--retries", "20"], device, &[]);
                        assert!(ran.code == 0 || ran.code == 3, "{ran:?}");
                    }
                });
            }
        }
    });
    for _ in 0..2 {
        for device in [&one, &other] {
            world.sync(device).ok();
        }
    }
    assert_equal(&one, &other);
    assert_eq!(number(&one, "SELECT count(*) FROM t"), 120);
}

#[test]
fn a_sync_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let world = World::new();
    let one = world.tracked("one.sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)");
    let other = world.cloned("other.sqlite");
    for round in 0..25_u64 {
        let first = round * 40;
        sql(&one, &format!("WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {first} + 39)
                            INSERT INTO t SELECT i, 'row ' || i FROM n"));
        sql(&other, &format!("UPDATE t SET x = 'seen by the other in {round}' WHERE id % 13 = {round} % 13"));
        for device in [&one, &other] {
            let mut command = world.dynos();
            command
                .arg("sync")
                .arg(device)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            let child = support::Guard(command.spawn().unwrap());
            // Somewhere between its first instruction and its end; dropping the guard kills it.
            std::thread::sleep(std::time::Duration::from_micros(2_000 + round * 1_700));
            drop(child);
        }
    }
    for _ in 0..2 {
        for device in [&one, &other] {
            world.sync(device).ok();
        }
    }
    assert_equal(&one, &other);
    assert_eq!(number(&one, "SELECT count(*) FROM t"), 1000);
    assert_equal(&one, &world.cloned("third.sqlite"));
}
