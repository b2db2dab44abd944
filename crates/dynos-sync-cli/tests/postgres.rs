//! `dynos serve` on Postgres: a music shop whose tables are real ones there too, foreign keys and all, edited on two
//! devices and through the database at the same time.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod shop;
mod support;

use dynos_sync_testbed::Database;
use shop::{ROWS, SCHEMA, edit};
use support::{World, assert_equal, dump, number, sql, text, wait_for};

/// The shop's tables as Postgres has them. All devices share them.
const TABLES: &str = r#"
    CREATE TABLE "Artist" ("ArtistId" int PRIMARY KEY, "Name" varchar(120));
    CREATE TABLE "Album" ("AlbumId" int PRIMARY KEY, "Title" varchar(160) NOT NULL,
        "ArtistId" int NOT NULL REFERENCES "Artist" ON DELETE CASCADE);
    CREATE TABLE "Genre" ("GenreId" int PRIMARY KEY, "Name" varchar(120));
    CREATE TABLE "MediaType" ("MediaTypeId" int PRIMARY KEY, "Name" varchar(120));
    CREATE TABLE "Track" ("TrackId" int PRIMARY KEY, "Name" varchar(200) NOT NULL, "AlbumId" int REFERENCES "Album" ON DELETE CASCADE,
        "MediaTypeId" int NOT NULL REFERENCES "MediaType", "GenreId" int REFERENCES "Genre", "Composer" varchar(220),
        "Milliseconds" int NOT NULL, "UnitPrice" numeric(10,2) NOT NULL);
    CREATE TABLE "Playlist" ("PlaylistId" int PRIMARY KEY, "Name" varchar(120));
    CREATE TABLE "PlaylistTrack" ("PlaylistId" int REFERENCES "Playlist" ON DELETE CASCADE,
        "TrackId" int REFERENCES "Track" ON DELETE CASCADE, PRIMARY KEY ("PlaylistId", "TrackId"));
    CREATE TABLE "Employee" ("EmployeeId" int PRIMARY KEY, "LastName" varchar(20) NOT NULL,
        "ReportsTo" int REFERENCES "Employee" ON DELETE SET NULL, "BirthDate" timestamp);
    CREATE TABLE "Customer" ("CustomerId" int PRIMARY KEY, "Email" varchar(60) NOT NULL UNIQUE,
        "SupportRepId" int REFERENCES "Employee");
    CREATE TABLE "Invoice" ("InvoiceId" int PRIMARY KEY, "CustomerId" int NOT NULL REFERENCES "Customer" ON DELETE CASCADE,
        "InvoiceDate" timestamp NOT NULL, "Total" numeric(10,2) NOT NULL);
    CREATE TABLE "InvoiceLine" ("InvoiceLineId" int PRIMARY KEY, "InvoiceId" int NOT NULL REFERENCES "Invoice" ON DELETE CASCADE,
        "TrackId" int NOT NULL REFERENCES "Track" ON DELETE CASCADE, "UnitPrice" numeric(10,2) NOT NULL);"#;

const TRACK: &str = r#"SELECT dynos_track(format('public.%I', relname)::regclass, shared => true)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"#;

/// What somebody does with psql while the devices are offline: other rows, the same rows, deletes with cascades, and a
/// transaction that is rolled back.
const BY_HAND: &str = r#"
    BEGIN;
    INSERT INTO "Artist" VALUES (900, 'by hand');
    INSERT INTO "Album" VALUES (900, 'by hand', 900);
    UPDATE "Track" SET "Composer" = 'by hand' WHERE "TrackId" BETWEEN 25 AND 35;
    UPDATE "Invoice" SET "Total" = "Total" + 1;
    DELETE FROM "Artist" WHERE "ArtistId" = 55;
    DELETE FROM "Customer" WHERE "CustomerId" = 40;
    COMMIT;
    BEGIN; DELETE FROM "Genre" WHERE "GenreId" = 9 AND false; UPDATE "Playlist" SET "Name" = 'never'; ROLLBACK;"#;

#[test]
fn a_music_shop_is_the_same_on_every_device_and_in_postgres() {
    let database = Database::create();
    database.sql(TABLES);
    let world = World::on_postgres(database.url());
    database.sql(TRACK);
    let one = world.path("one.sqlite");
    sql(&one, &format!("{SCHEMA}{ROWS} UPDATE Customer SET SupportRepId = 1 WHERE SupportRepId = 8"));
    world.on(&["track", "--all"], &one, &[]).ok();
    world.sync(&one).ok();
    let two = world.cloned("two.sqlite");
    assert_equal(&one, &two);
    assert_eq!(dump(&two).len(), 11);
    let tracks = database.sql(r#"SELECT count(*), sum("UnitPrice") FROM "Track""#);
    assert_eq!(tracks, text(&one, "SELECT count(*) || '|' || printf('%.2f', sum(UnitPrice)) FROM Track"));

    edit(&one, 1);
    edit(&two, 2);
    database.sql(BY_HAND);
    // An edit of what somebody else deleted may be refused by a foreign key: it is tried again, and then given up.
    wait_for("everything is settled", || {
        let settled = [&two, &one, &two, &one].map(|device| {
            let ran = world.on(&["sync", "--json"], device, &[]);
            assert!([0, 3].contains(&ran.code), "{ran:?}");
            number(device, "SELECT count(*) FROM dynos_queue") == 0
        });
        settled == [true; 4]
    });
    assert_equal(&one, &two);
    assert_equal(&one, &world.cloned("three.sqlite"));
    for table in dump(&one).keys() {
        let rows = number(&one, &format!("SELECT count(*) FROM \"{table}\""));
        assert_eq!(database.sql(&format!("SELECT count(*) FROM \"{table}\"")), rows.to_string(), "{table}");
    }
    assert_eq!(number(&one, "SELECT count(*) FROM Track WHERE TrackId >= 100000"), 10_000);
    assert_eq!(text(&one, "SELECT Name FROM Artist WHERE ArtistId = 900"), "by hand");
    assert_eq!(number(&one, "SELECT count(*) FROM Customer WHERE CustomerId = 40"), 0);
    assert_eq!(number(&one, "SELECT count(*) FROM pragma_foreign_key_check"), 0, "Postgres sees to that");
}

#[test]
fn an_empty_database_is_enough() {
    let database = Database::create();
    let world = World::on_postgres(database.url());
    let one = world.tracked("one.sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY, x REAL, b BLOB); INSERT INTO t VALUES (1, 1e15, x'00ff'), (2, -0.5, NULL)");
    let two = world.cloned("two.sqlite");
    sql(&two, "UPDATE t SET x = 3 WHERE id = 2; DELETE FROM t WHERE id = 1");
    world.sync(&two).ok();
    world.sync(&one).ok();
    assert_equal(&one, &two);
}
