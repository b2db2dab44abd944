-- Made by version 5 of the tables: two entries of one record, the first sent; one that waits, one that is ready; a dead letter, a decided conflict.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE t (id TEXT PRIMARY KEY, v);
INSERT INTO t VALUES('sent',2);
INSERT INTO t VALUES('dead',1);
INSERT INTO t VALUES('decided',2);
INSERT INTO t VALUES('waiting',1);
INSERT INTO t VALUES('ready',1);
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
, last_sent INTEGER NOT NULL DEFAULT 0, seal INTEGER NOT NULL DEFAULT 0, sum  INTEGER NOT NULL DEFAULT 0, fresh INTEGER NOT NULL DEFAULT 0);
INSERT INTO dynos_state VALUES(1,5,'4c10d8d3-3ce4-4edc-af05-ab5292415a4e',NULL,0,'7cfa6ab7-a095-4795-a31c-5451485e630b',3,4,2,1,1,0,3,4796391092224151854,-3456158833685873488,2);
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
, sum  INTEGER NOT NULL DEFAULT 0);
INSERT INTO dynos_table VALUES(1,'t','{"name":"t","shape":{"kind":"columns","columns":[{"name":"id","type":"TEXT"},{"name":"v","type":""}],"key":["id"]}}','{"pull":true,"sensitive_fields":[],"owner_columns":["user_id","owner_id"],"user":null}','["id","v"]','1a21e3af505955e0f25fc7a4861.3',NULL,'"following"',1,10,-1963513191314323387);
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
, sum  INTEGER NOT NULL DEFAULT 0);
INSERT INTO dynos_queue VALUES(2,1,'sent',2,'{"v":1}',2,1,1,'1a21e3af505955e0f25fc7a4861.3',0,NULL,-1830030678084231649);
INSERT INTO dynos_queue VALUES(4,1,'waiting',0,'{"v":1}',3,2,0,NULL,1,5000,985222978729738757);
INSERT INTO dynos_queue VALUES(5,1,'sent',2,'{"v":2}',4,0,0,NULL,0,NULL,-492025292941703578);
INSERT INTO dynos_queue VALUES(6,1,'ready',0,'{"v":1}',5,1,0,NULL,0,NULL,-8261048101942957285);
CREATE TABLE dynos_base (tbl INTEGER NOT NULL, id TEXT NOT NULL, data TEXT NOT NULL, sum  INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (tbl, id)) WITHOUT ROWID;
INSERT INTO dynos_base VALUES(1,'sent','{"v":0}',2391397058062402226);
CREATE TABLE dynos_dead (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl     INTEGER NOT NULL,
    record  TEXT    NOT NULL,
    edits   TEXT    NOT NULL,
    code    TEXT    NOT NULL,
    message TEXT    NOT NULL,
    at      INTEGER NOT NULL
, sum  INTEGER NOT NULL DEFAULT 0);
INSERT INTO dynos_dead VALUES(1,1,'dead','[{"op":"patch","data":{"v":1},"at":1}]','constraint','no',20,-1879424637634492651);
CREATE TABLE dynos_conflict (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl        INTEGER NOT NULL,
    resolved   TEXT    NOT NULL,
    decided_at INTEGER NOT NULL
, sum  INTEGER NOT NULL DEFAULT 0);
INSERT INTO dynos_conflict VALUES(1,1,'{"key":{"table":"t","id":"decided"},"base":{"v":0},"mine":{"v":1},"theirs":{"v":2},"outcome":{"v":2},"strategy":"server-wins","at":30,"decided_at":30}',30,-4179192795820270797);
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
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('dynos_dead',1);
INSERT INTO sqlite_sequence VALUES('dynos_conflict',1);
CREATE INDEX dynos_queue_record  ON dynos_queue (tbl, id, counter);
CREATE INDEX dynos_queue_sent    ON dynos_queue (counter)  WHERE sent = 1;
CREATE INDEX dynos_queue_later ON dynos_queue (counter)  WHERE head = 2 AND sent = 0 AND retry_at IS NULL;
CREATE INDEX dynos_queue_retry ON dynos_queue (retry_at) WHERE head > 0 AND retry_at IS NOT NULL;
CREATE TRIGGER "dynos_1_insert" AFTER INSERT ON "t" WHEN (SELECT capture FROM dynos_state) BEGIN INSERT INTO dynos_log (tbl, op, at, c0) SELECT 1, 0, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), NEW."id"; END;
CREATE TRIGGER "dynos_1_update" AFTER UPDATE ON "t" WHEN (SELECT capture FROM dynos_state) BEGIN INSERT INTO dynos_log (tbl, op, at, c0, c1) SELECT 1, 1, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), OLD."id", OLD."v"; INSERT INTO dynos_log (tbl, op, at, c0) SELECT 1, 0, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), NEW."id" WHERE NEW."id" IS NOT OLD."id"; END;
CREATE TRIGGER "dynos_1_delete" AFTER DELETE ON "t" WHEN (SELECT capture FROM dynos_state) BEGIN INSERT INTO dynos_log (tbl, op, at, c0, c1) SELECT 1, 2, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), OLD."id", OLD."v"; END;
CREATE TRIGGER "dynos_1_before_insert" BEFORE INSERT ON "t" WHEN (SELECT capture FROM dynos_state) BEGIN INSERT INTO dynos_log (tbl, op, at, c0, c1) SELECT 1, 3, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), "t"."id", "t"."v" FROM "t" WHERE ("t"."id" = NEW."id" COLLATE "BINARY"); END;
CREATE TRIGGER "dynos_1_before_update" BEFORE UPDATE OF "id" ON "t" WHEN (SELECT capture FROM dynos_state) BEGIN INSERT INTO dynos_log (tbl, op, at, c0, c1) SELECT 1, 3, max(CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), (SELECT clock + 1 FROM dynos_state)), "t"."id", "t"."v" FROM "t" WHERE ("t"."id" = NEW."id" COLLATE "BINARY"); END;
COMMIT;
