-- One row: the replica as a whole.
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
);

-- The synced tables.
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
);

-- Entries. `head` marks the oldest of its record: only that one is ever ready, sent or waiting.
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
);
CREATE INDEX dynos_queue_record  ON dynos_queue (tbl, id, counter);
CREATE INDEX dynos_queue_ready   ON dynos_queue (counter)  WHERE head = 1 AND sent = 0 AND retry_at IS NULL;
CREATE INDEX dynos_queue_waiting ON dynos_queue (retry_at) WHERE head = 1 AND retry_at IS NOT NULL;
CREATE INDEX dynos_queue_sent    ON dynos_queue (counter)  WHERE sent = 1;

-- What a record was before its first pending entry. No row: it did not exist.
CREATE TABLE dynos_base (tbl INTEGER NOT NULL, id TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (tbl, id)) WITHOUT ROWID;

CREATE TABLE dynos_dead (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl     INTEGER NOT NULL,
    record  TEXT    NOT NULL,
    edits   TEXT    NOT NULL,
    code    TEXT    NOT NULL,
    message TEXT    NOT NULL,
    at      INTEGER NOT NULL
);

CREATE TABLE dynos_conflict (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl        INTEGER NOT NULL,
    resolved   TEXT    NOT NULL,
    decided_at INTEGER NOT NULL
);

-- Ids seen by a resync or restore that is under way.
CREATE TABLE dynos_seen (tbl INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (tbl, id)) WITHOUT ROWID;

-- Server versions that the local table refuses to take.
CREATE TABLE dynos_quarantine (
    tbl   INTEGER NOT NULL,
    id    TEXT    NOT NULL,
    data  TEXT    NOT NULL,
    error TEXT    NOT NULL,
    PRIMARY KEY (tbl, id)
) WITHOUT ROWID;

-- Rows that the server was never offered: a resync does not take them for deleted.
CREATE TABLE dynos_local (tbl INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (tbl, id)) WITHOUT ROWID;

-- What the triggers write: which row was touched and what it was before. Values are kept as they are, column by
-- column (c0, c1, … are added as wider tables are tracked), so nothing is lost in a conversion.
-- op: 0 inserted (key only), 1 updated, 2 deleted, 3 may be replaced.
CREATE TABLE dynos_log (seq INTEGER PRIMARY KEY, tbl INTEGER NOT NULL, op INTEGER NOT NULL, at INTEGER NOT NULL);
