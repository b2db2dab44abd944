//! A music shop's database as people have them: eleven tables with integer keys, foreign keys, a table that refers to
//! itself and a composite key; edited on two devices by programs that know nothing of syncing.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod shop;
mod support;

use shop::{ROWS, SCHEMA, edit};
use support::{World, assert_equal, dump, number, sql, text};

#[test]
fn a_music_shop_is_the_same_on_every_device_and_the_server() {
    for strategy in ["last-write-wins", "merge"] {
        let world = World::new();
        let one = world.path("one.sqlite");
        // Nobody serves customer 8's employee any more, so that the employee can go.
        sql(&one, &format!("{SCHEMA}{ROWS} UPDATE Customer SET SupportRepId = 1 WHERE SupportRepId = 8"));
        world.on(&["track", "--all"], &one, &[]).ok();
        world.sync(&one).ok();
        let two = world.cloned("two.sqlite");
        assert_equal(&one, &two);
        assert_eq!(dump(&two).len(), 11);

        edit(&one, 1);
        edit(&two, 2);
        for _ in 0..2 {
            for database in [&two, &one] {
                world.on(&["sync", "--strategy", strategy], database, &[]).ok();
            }
        }
        assert_equal(&one, &two);
        assert_equal(&one, &world.cloned("three.sqlite"));
        assert_eq!(number(&one, "SELECT count(*) FROM Track WHERE TrackId >= 100000"), 10_000);
        assert_eq!(text(&one, "PRAGMA integrity_check"), "ok");
    }
}
