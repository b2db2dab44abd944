//! The tables of the database and of the devices change, not at the same time: what fits is synced, what does not is
//! reported and kept, and nothing else waits for it.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::path::Path;

use dynos_sync_testbed::Database;
use support::{World, number, sql, text, wait_for};

/// A table in Postgres, and a device with two rows of it.
fn begin() -> (Database, World) {
    let database = Database::create();
    database.sql("CREATE TABLE note (id text PRIMARY KEY, user_id text, title text, body text)");
    let world = World::on_postgres(database.url());
    database.sql(
        "SELECT dynos_track('note', 'user_id');
         INSERT INTO note VALUES ('a', 'ada', 'a', 'a'), ('b', 'ada', 'b', 'b')",
    );
    (database, world)
}

/// Syncs until nothing waits for another try. Answers how many edits were given up.
fn settle(world: &World, device: &Path) -> i64 {
    wait_for("everything is settled", || {
        let ran = world.sync(device);
        assert!([0, 3].contains(&ran.code), "{ran:?}");
        number(device, "SELECT count(*) FROM dynos_queue") == 0
    });
    number(device, "SELECT count(*) FROM dynos_dead")
}

fn retry_all(world: &World, device: &Path) {
    let list = world.on(&["dead-letters", "--json"], device, &["list"]).ok().json();
    for letter in list["dead_letters"].as_array().unwrap() {
        world.on(&["dead-letters", "--json"], device, &["retry", &letter["id"].to_string()]).ok();
    }
}

#[test]
fn a_column_that_the_database_gets_is_left_alone_by_devices_that_lack_it() {
    let (database, world) = begin();
    let [one, two] = ["one.sqlite", "two.sqlite"].map(|name| world.cloned(name));
    database.sql(
        "ALTER TABLE note ADD COLUMN stars int NOT NULL DEFAULT 3;
         UPDATE note SET title = 'by hand', stars = 4 WHERE id = 'a'",
    );
    sql(
        &one,
        "UPDATE note SET title = 'by one' WHERE id = 'b'; INSERT INTO note VALUES ('c', 'ada', 'c', 'c')",
    );
    assert_eq!((settle(&world, &one), settle(&world, &two)), (0, 0));
    sql(&two, "UPDATE note SET body = 'by two' WHERE id = 'a'");
    assert_eq!((settle(&world, &two), settle(&world, &one)), (0, 0));
    let expected = "a|by hand|by two|4\nb|by one|b|3\nc|c|c|3";
    assert_eq!(database.sql("SELECT id, title, body, stars FROM note ORDER BY id"), expected);
    let rows = "SELECT group_concat(id || '|' || title || '|' || body, ' ' ORDER BY id) FROM note";
    for device in [&one, &two, &world.cloned("three.sqlite")] {
        assert_eq!(text(device, rows), "a|by hand|by two b|by one|b c|c|c");
    }
    // A device gets the column when its application adds it, and the values as rows change.
    sql(&one, "ALTER TABLE note ADD COLUMN stars INTEGER; UPDATE note SET stars = 5 WHERE id = 'c'");
    assert_eq!(settle(&world, &one), 0);
    assert_eq!(database.sql("SELECT stars FROM note WHERE id = 'c'"), "5");
}

#[test]
fn what_names_a_column_that_the_database_lost_is_kept_until_it_is_there_again() {
    for (away, back) in [
        ("ALTER TABLE note DROP COLUMN body", "ALTER TABLE note ADD COLUMN body text"),
        ("ALTER TABLE note RENAME COLUMN body TO content", "ALTER TABLE note RENAME COLUMN content TO body"),
    ] {
        let (database, world) = begin();
        let one = world.cloned("one.sqlite");
        database.sql(away);
        sql(
            &one,
            "UPDATE note SET title = 'fits' WHERE id = 'a'; UPDATE note SET body = 'does not' WHERE id = 'b';
             INSERT INTO note VALUES ('c', 'ada', 'c', 'does not')",
        );
        assert_eq!(settle(&world, &one), 2, "{away}");
        let rows = database.sql("SELECT id, title FROM note ORDER BY id");
        assert_eq!(rows, "a|fits\nb|b\nc|c", "what both know goes on: {away}");
        let kept = "SELECT group_concat(id || body) FROM note WHERE body = 'does not'";
        assert_eq!(text(&one, kept), "bdoes not,cdoes not", "the device keeps the rest: {away}");
        let told = world.on(&["dead-letters"], &one, &["list"]).ok().out;
        assert!(told.contains("set_aside") && told.contains("body"), "{told}");
        database.sql(back);
        retry_all(&world, &one);
        assert_eq!(settle(&world, &one), 0, "{back}");
        let expected = "b|b|does not\nc|c|does not";
        assert_eq!(database.sql("SELECT id, title, body FROM note WHERE id > 'a' ORDER BY id"), expected);
    }
}

#[test]
fn a_column_that_only_a_device_has_keeps_back_its_values_alone() {
    let (database, world) = begin();
    let one = world.cloned("one.sqlite");
    sql(
        &one,
        "ALTER TABLE note ADD COLUMN colour TEXT; UPDATE note SET colour = 'red' WHERE id = 'a';
         UPDATE note SET title = 'fits' WHERE id = 'b'",
    );
    // And one transaction.
    sql(
        &one,
        "BEGIN; INSERT INTO dynos_transaction VALUES ('begin'); UPDATE note SET body = 'together' WHERE id = 'b';
         INSERT INTO note (id, user_id, title, colour) VALUES ('c', 'ada', 'c', 'blue');
         INSERT INTO dynos_transaction VALUES ('end'); COMMIT",
    );
    assert_eq!(settle(&world, &one), 2);
    assert_eq!(database.sql("SELECT id, title, body FROM note ORDER BY id"), "a|a|a\nb|fits|together\nc|c|");
    // Somebody else's change of such a row leaves it alone too.
    database.sql("UPDATE note SET title = 'by hand' WHERE id = 'a'");
    assert_eq!(settle(&world, &one), 2);
    assert_eq!(text(&one, "SELECT title || colour FROM note WHERE id = 'a'"), "by handred");
    database.sql("ALTER TABLE note ADD COLUMN colour text");
    retry_all(&world, &one);
    assert_eq!(settle(&world, &one), 0);
    assert_eq!(database.sql("SELECT id, colour FROM note WHERE id <> 'b' ORDER BY id"), "a|red\nc|blue");
}
