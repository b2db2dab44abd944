//! A music shop's database, and what devices do to it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::Path;

use crate::support::sql;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE [Artist] ([ArtistId] INTEGER NOT NULL, [Name] NVARCHAR(120), CONSTRAINT [PK_Artist] PRIMARY KEY ([ArtistId]));
    CREATE TABLE [Album] ([AlbumId] INTEGER NOT NULL, [Title] NVARCHAR(160) NOT NULL, [ArtistId] INTEGER NOT NULL,
        CONSTRAINT [PK_Album] PRIMARY KEY ([AlbumId]), FOREIGN KEY ([ArtistId]) REFERENCES [Artist] ([ArtistId]) ON DELETE CASCADE);
    CREATE TABLE [Genre] ([GenreId] INTEGER NOT NULL PRIMARY KEY, [Name] NVARCHAR(120));
    CREATE TABLE [MediaType] ([MediaTypeId] INTEGER NOT NULL PRIMARY KEY, [Name] NVARCHAR(120));
    CREATE TABLE [Track] ([TrackId] INTEGER NOT NULL, [Name] NVARCHAR(200) NOT NULL, [AlbumId] INTEGER,
        [MediaTypeId] INTEGER NOT NULL, [GenreId] INTEGER, [Composer] NVARCHAR(220), [Milliseconds] INTEGER NOT NULL,
        [UnitPrice] NUMERIC(10,2) NOT NULL, CONSTRAINT [PK_Track] PRIMARY KEY ([TrackId]),
        FOREIGN KEY ([AlbumId]) REFERENCES [Album] ([AlbumId]) ON DELETE CASCADE,
        FOREIGN KEY ([MediaTypeId]) REFERENCES [MediaType] ([MediaTypeId]), FOREIGN KEY ([GenreId]) REFERENCES [Genre] ([GenreId]));
    CREATE INDEX [IFK_TrackAlbumId] ON [Track] ([AlbumId]);
    CREATE TABLE [Playlist] ([PlaylistId] INTEGER NOT NULL PRIMARY KEY, [Name] NVARCHAR(120));
    CREATE TABLE [PlaylistTrack] ([PlaylistId] INTEGER NOT NULL, [TrackId] INTEGER NOT NULL,
        CONSTRAINT [PK_PlaylistTrack] PRIMARY KEY ([PlaylistId], [TrackId]),
        FOREIGN KEY ([PlaylistId]) REFERENCES [Playlist] ([PlaylistId]) ON DELETE CASCADE,
        FOREIGN KEY ([TrackId]) REFERENCES [Track] ([TrackId]) ON DELETE CASCADE);
    CREATE TABLE [Employee] ([EmployeeId] INTEGER NOT NULL PRIMARY KEY, [LastName] NVARCHAR(20) NOT NULL, [ReportsTo] INTEGER,
        [BirthDate] DATETIME, FOREIGN KEY ([ReportsTo]) REFERENCES [Employee] ([EmployeeId]) ON DELETE SET NULL);
    CREATE TABLE [Customer] ([CustomerId] INTEGER NOT NULL PRIMARY KEY, [Email] NVARCHAR(60) NOT NULL UNIQUE, [SupportRepId] INTEGER,
        FOREIGN KEY ([SupportRepId]) REFERENCES [Employee] ([EmployeeId]));
    CREATE TABLE [Invoice] ([InvoiceId] INTEGER NOT NULL PRIMARY KEY, [CustomerId] INTEGER NOT NULL, [InvoiceDate] DATETIME NOT NULL,
        [Total] NUMERIC(10,2) NOT NULL, FOREIGN KEY ([CustomerId]) REFERENCES [Customer] ([CustomerId]) ON DELETE CASCADE);
    CREATE TABLE [InvoiceLine] ([InvoiceLineId] INTEGER NOT NULL PRIMARY KEY, [InvoiceId] INTEGER NOT NULL, [TrackId] INTEGER NOT NULL,
        [UnitPrice] NUMERIC(10,2) NOT NULL, FOREIGN KEY ([InvoiceId]) REFERENCES [Invoice] ([InvoiceId]) ON DELETE CASCADE,
        FOREIGN KEY ([TrackId]) REFERENCES [Track] ([TrackId]) ON DELETE CASCADE);";

pub(crate) const ROWS: &str = "
    CREATE TEMP TABLE n AS WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n LIMIT 400) SELECT n FROM n;
    INSERT INTO Artist SELECT n, 'Künstler ' || n FROM n WHERE n <= 60;
    INSERT INTO Album SELECT n, 'Album \"' || n || '''', n % 60 + 1 FROM n WHERE n <= 120;
    INSERT INTO Genre SELECT n, 'g' || n FROM n WHERE n <= 9;
    INSERT INTO MediaType SELECT n, 'm' || n FROM n WHERE n <= 3;
    INSERT INTO Track SELECT n, 'Track ' || n, n % 120 + 1, n % 3 + 1, n % 9 + 1, iif(n % 4, NULL, 'c' || n), n * 1000,
                             iif(n % 2, 0.99, 2) FROM n;
    INSERT INTO Playlist SELECT n, 'p' || n FROM n WHERE n <= 12;
    INSERT INTO PlaylistTrack SELECT p.n, t.n FROM n AS p, n AS t WHERE p.n <= 12 AND t.n % (p.n + 2) = 0;
    INSERT INTO Employee SELECT n, 'e' || n, nullif(n / 2, 0), '1962-02-18 00:00:00' FROM n WHERE n <= 8;
    INSERT INTO Customer SELECT n, 'c' || n || '@example.com', n % 8 + 1 FROM n WHERE n <= 40;
    INSERT INTO Invoice SELECT n, n % 40 + 1, '2026-01-01 00:00:00', n * 0.99 FROM n WHERE n <= 200;
    INSERT INTO InvoiceLine SELECT n, n % 200 + 1, n, 0.99 FROM n;
    DROP TABLE n;";

/// Different rows, the same rows, deletes, cascades, replaced rows, and 5,000 rows in one transaction.
pub(crate) fn edit(path: &Path, device: i64) {
    let (first, other) = (device * 100_000, 10 + device);
    sql(
        path,
        &format!(
            "BEGIN;
             WITH RECURSIVE n (n) AS (VALUES ({first}) UNION ALL SELECT n + 1 FROM n LIMIT 5000)
             INSERT INTO Track SELECT n, 'new é ' || n, NULL, 1, NULL, NULL, n, n * 0.01 FROM n;
             UPDATE Track SET Name = Name || ' of {device}' WHERE TrackId % 50 = {device};
             UPDATE Track SET Composer = 'by {device}' WHERE TrackId <= 30;
             UPDATE Track SET Milliseconds = Milliseconds + {device} WHERE TrackId BETWEEN 20 AND 40;
             DELETE FROM Artist WHERE ArtistId = {other};
             DELETE FROM Employee WHERE EmployeeId = 8 AND {device} = 1;
             REPLACE INTO Genre VALUES (3, 'replaced by {device}');
             INSERT INTO Playlist VALUES ({first}, 'of {device}');
             INSERT INTO PlaylistTrack SELECT {first}, TrackId FROM Track WHERE TrackId BETWEEN 100 AND 200;
             UPDATE PlaylistTrack SET TrackId = TrackId + 1 WHERE PlaylistId = {other} AND TrackId % 100 = 0;
             COMMIT;"
        ),
    );
}
