-- 0006.sql, as version 7 of the tables has left it.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE t (id TEXT PRIMARY KEY, v);
INSERT INTO t VALUES('sent',2);
INSERT INTO t VALUES('dead',1);
INSERT INTO t VALUES('decided',2);
INSERT INTO t VALUES('waiting',1);
INSERT INTO t VALUES('ready',1);
INSERT INTO t VALUES('one',7);
INSERT INTO t VALUES('two',7);
CREATE TABLE dynos_state (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    version      INTEGER NOT NULL,           -- of these tables
    replica      TEXT    NOT NULL,
    file         TEXT,                       -- which file this is, to recognise a copy
    generation   INTEGER NOT NULL DEFAULT 0,
    server       TEXT,
    clock        INTEGER NOT NULL DEFAULT 0, -- newest edit time given or seen, in ms
    last_counter INTEGER NOT NULL DEFAULT 0,
    pending      INTEGER NOT NULL DEFAULT 0, -- rows of dynos_queue
    layout       INTEGER NOT NULL DEFAULT 0, -- raised whenever dynos_table changes
    capture      INTEGER NOT NULL DEFAULT 1, -- 0 inside the engine's own transactions: the triggers are silent
    scrub        INTEGER NOT NULL DEFAULT 0  -- 1 from logout until the file holds no trace of the old user
, last_sent INTEGER NOT NULL DEFAULT 0, seal INTEGER NOT NULL DEFAULT 0, sum  INTEGER NOT NULL DEFAULT 0, fresh INTEGER NOT NULL DEFAULT 0, schema INTEGER NOT NULL DEFAULT 0);
INSERT INTO dynos_state VALUES(1,7,'5d7e8e1e-ba84-42ba-a3f2-9fd94ea63a9a',NULL,0,'7cfa6ab7-a095-4795-a31c-5451485e630b',7,8,6,1,1,0,3,8024694951051733128,8776588514803719898,2,0);
CREATE TABLE dynos_table (
    n         INTEGER PRIMARY KEY,
    name      TEXT    NOT NULL UNIQUE,
    spec      TEXT    NOT NULL,              -- TableSpec as JSON
    policy    TEXT    NOT NULL,              -- TablePolicy as JSON
    captured  TEXT    NOT NULL,              -- the columns in c0, c1, … of dynos_log, as a JSON array
    cursor    TEXT,
    ahead     TEXT,
    phase     TEXT    NOT NULL,              -- Phase as JSON
    declared  INTEGER NOT NULL DEFAULT 0,
    synced_at INTEGER
, sum  INTEGER NOT NULL DEFAULT 0, left_out TEXT, gained   TEXT);
INSERT INTO dynos_table VALUES(1,'t','{"name":"t","shape":{"kind":"columns","columns":[{"name":"id","type":"TEXT"},{"name":"v","type":""}],"key":["id"]}}','{"pull":true,"sensitive_fields":[],"owner_columns":["user_id","owner_id"],"user":null}','["id","v"]','1a21e3af505955e0f25fc7a4861.3',NULL,'"following"',1,10,3782377122001136406,NULL,NULL);
CREATE TABLE dynos_queue (
    counter  INTEGER PRIMARY KEY,
    tbl      INTEGER NOT NULL,
    id       TEXT    NOT NULL,
    op       INTEGER NOT NULL,
    data     TEXT,
    at       INTEGER NOT NULL,
    head     INTEGER NOT NULL,
    sent     INTEGER NOT NULL DEFAULT 0,
    base     TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    retry_at INTEGER
, sum  INTEGER NOT NULL DEFAULT 0, txn INTEGER);
INSERT INTO dynos_queue VALUES(2,1,'sent',2,'{"v":1}',2,1,1,'1a21e3af505955e0f25fc7a4861.3',0,NULL,-5531260545002130692,NULL);
INSERT INTO dynos_queue VALUES(4,1,'waiting',0,'{"v":1}',3,2,0,NULL,1,5000,-2727926469201295818,NULL);
INSERT INTO dynos_queue VALUES(5,1,'sent',2,'{"v":2}',4,0,0,NULL,0,NULL,4250405960877327483,NULL);
INSERT INTO dynos_queue VALUES(6,1,'ready',0,'{"v":1}',5,1,0,NULL,0,NULL,3065150600480556068,NULL);
INSERT INTO dynos_queue VALUES(7,1,'one',0,'{"v":7}',6,1,0,NULL,0,NULL,-811597002318541312,7);
INSERT INTO dynos_queue VALUES(8,1,'two',0,'{"v":7}',7,1,0,NULL,0,NULL,6010437834976414532,7);
CREATE TABLE dynos_base (tbl INTEGER NOT NULL, id TEXT NOT NULL, data TEXT NOT NULL, sum  INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (tbl, id)) WITHOUT ROWID;
INSERT INTO dynos_base VALUES(1,'sent','{"v":0}',-1547341732694631301);
CREATE TABLE dynos_dead (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl     INTEGER NOT NULL,
    record  TEXT    NOT NULL,
    edits   TEXT    NOT NULL,
    code    TEXT    NOT NULL,
    message TEXT    NOT NULL,
    at      INTEGER NOT NULL
, sum  INTEGER NOT NULL DEFAULT 0, txn INTEGER);
INSERT INTO dynos_dead VALUES(1,1,'dead','[{"op":"patch","data":{"v":1},"at":1}]','constraint','no',20,-2344703165839716290,NULL);
CREATE TABLE dynos_conflict (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl        INTEGER NOT NULL,
    resolved   TEXT    NOT NULL,
    decided_at INTEGER NOT NULL
, sum  INTEGER NOT NULL DEFAULT 0);
INSERT INTO dynos_conflict VALUES(1,1,'{"key":{"table":"t","id":"decided"},"base":{"v":0},"mine":{"v":1},"theirs":{"v":2},"outcome":{"v":2},"strategy":"server-wins","at":30,"decided_at":30}',30,8821412409022251624);
CREATE TABLE dynos_seen (tbl INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (tbl, id)) WITHOUT ROWID;
CREATE TABLE dynos_quarantine (
    tbl   INTEGER NOT NULL,
    id    TEXT    NOT NULL,
    data  TEXT    NOT NULL,
    error TEXT    NOT NULL,
    PRIMARY KEY (tbl, id)
) WITHOUT ROWID;
CREATE TABLE dynos_local (tbl INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (tbl, id)) WITHOUT ROWID;
INSERT INTO dynos_local VALUES(1,'dead');
CREATE TABLE dynos_log (seq INTEGER PRIMARY KEY, tbl INTEGER NOT NULL, op INTEGER NOT NULL, at INTEGER NOT NULL, c0, c1);
CREATE TABLE dynos_former (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE dynos_sent_as (
    counter INTEGER PRIMARY KEY,
    tbl     INTEGER NOT NULL,
    data    TEXT    NOT NULL,
    now     INTEGER NOT NULL,
    sum     INTEGER NOT NULL
);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('dynos_dead',1);
INSERT INTO sqlite_sequence VALUES('dynos_conflict',1);
CREATE INDEX dynos_queue_record  ON dynos_queue (tbl, id, counter);
CREATE INDEX dynos_queue_sent    ON dynos_queue (counter)  WHERE sent = 1;
CREATE INDEX dynos_queue_later ON dynos_queue (counter)  WHERE head = 2 AND sent = 0 AND retry_at IS NULL;
CREATE INDEX dynos_queue_retry ON dynos_queue (retry_at) WHERE head > 0 AND retry_at IS NOT NULL;
CREATE INDEX dynos_queue_txn ON dynos_queue (txn) WHERE txn IS NOT NULL;
CREATE VIEW dynos_transaction (mark) AS SELECT NULL WHERE false;
CREATE TRIGGER dynos_transaction_marked INSTEAD OF INSERT ON dynos_transaction BEGIN
    SELECT RAISE(ABORT, 'dynos_transaction takes the marks begin and end') WHERE NEW.mark IS NULL OR NEW.mark NOT IN ('begin', 'end');
    INSERT INTO dynos_log (tbl, op, at) VALUES (0, iif(NEW.mark = 'begin', 4, 5), 0);
END;
CREATE TRIGGER "dynos_1_insert" AFTER INSERT ON "t" WHEN (SELECT capture FROM dynos_state) BEGIN INSERT INTO dynos_log (tbl, op, at, c0) SELECT 1, 0, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), NEW."id"; END;
CREATE TRIGGER "dynos_1_update" AFTER UPDATE ON "t" WHEN (SELECT capture FROM dynos_state) BEGIN INSERT INTO dynos_log (tbl, op, at, c0, c1) SELECT 1, 1, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), OLD."id", OLD."v"; INSERT INTO dynos_log (tbl, op, at, c0) SELECT 1, 0, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), NEW."id" WHERE NEW."id" IS NOT OLD."id"; END;
CREATE TRIGGER "dynos_1_delete" AFTER DELETE ON "t" WHEN (SELECT capture FROM dynos_state) BEGIN INSERT INTO dynos_log (tbl, op, at, c0, c1) SELECT 1, 2, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), OLD."id", OLD."v"; END;
CREATE TRIGGER "dynos_1_before_insert" BEFORE INSERT ON "t" WHEN (SELECT capture FROM dynos_state) BEGIN INSERT INTO dynos_log (tbl, op, at, c0, c1) SELECT 1, 3, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), "t"."id", "t"."v" FROM "t" WHERE ("t"."id" = NEW."id" COLLATE "BINARY"); END;
CREATE TRIGGER "dynos_1_before_update" BEFORE UPDATE OF "id" ON "t" WHEN (SELECT capture FROM dynos_state) BEGIN INSERT INTO dynos_log (tbl, op, at, c0, c1) SELECT 1, 3, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), "t"."id", "t"."v" FROM "t" WHERE ("t"."id" = NEW."id" COLLATE "BINARY"); END;
CREATE INDEX dynos_dead_record ON dynos_dead (tbl, record);
COMMIT;
