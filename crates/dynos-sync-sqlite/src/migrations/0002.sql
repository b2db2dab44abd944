-- Tables that were synced in this session and are no longer. Their rows are the user's, and go when the user does.
CREATE TABLE dynos_former (name TEXT PRIMARY KEY) WITHOUT ROWID;
