-- The version of the application's schema.
ALTER TABLE dynos_state ADD COLUMN schema INTEGER NOT NULL DEFAULT 0;
-- What entries were sent with that were brought up to date since: they are sent again as they were. It holds for the entry whose sum is `now`.
CREATE TABLE dynos_sent_as (
    counter INTEGER PRIMARY KEY,
    tbl     INTEGER NOT NULL,
    data    TEXT    NOT NULL,
    now     INTEGER NOT NULL,
    sum     INTEGER NOT NULL
);
-- Fields of the server's that a table has no columns for, and columns that it has gained since, for which it is walked again: JSON arrays.
ALTER TABLE dynos_table ADD COLUMN left_out TEXT;
ALTER TABLE dynos_table ADD COLUMN gained   TEXT;

-- A record's dead letters.
CREATE INDEX dynos_dead_record ON dynos_dead (tbl, record);
