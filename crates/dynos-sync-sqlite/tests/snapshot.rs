//! Snapshots: what comes of one is what the pages would have led to; and nothing comes of a bad one.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use dynos_sync_core::{
    Cursor, RecordId, Replica, ReplicaError, TableName, TableSpec, Value, fields, json,
    replica::{Batch, Existing, Logout, Op, Outcome, TableOptions},
    snapshot::{Held, Snapshot, SnapshotError, SnapshotStore},
};
use dynos_sync_sqlite::{
    SqliteOptions, SqliteReplica,
    snapshot::{Builder, NewDatabase, pack},
};
use futures_executor::block_on;
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Tables of every make, as an application writes them.
const SCHEMA: &str = "
    CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, title TEXT, done BOOLEAN, n INTEGER DEFAULT 7, x REAL, raw BLOB, extra JSON, any);
    CREATE INDEX notes_by_n ON notes (n, title);
    CREATE TABLE lines (note TEXT NOT NULL, place INTEGER NOT NULL, text TEXT UNIQUE, PRIMARY KEY (note, place)) WITHOUT ROWID;
    CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT COLLATE NOCASE);
    CREATE TABLE strict (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;";

const TABLES: [&str; 4] = ["notes", "lines", "counted", "strict"];

const ROWS: &str = r#"
    INSERT INTO notes VALUES ('a', 'milk', 1, 1, 0.5, x'00ff', '{"a":[1]}', 'x'),
        ('b', NULL, 0, -9223372036854775808, 9e999, NULL, 'no json', 2.0), ('', '', NULL, 0, -0.0, x'', NULL, x'41');
    INSERT INTO lines VALUES ('a', 2, 'two'), ('a', 1, 'one'), ('b', 1, NULL);
    INSERT INTO counted VALUES (70, 'x'), (7, 'X');
    INSERT INTO strict VALUES (1, 'text'), (-1, '');"#;

struct Device {
    dir: TempDir,
    replica: SqliteReplica,
}

impl Device {
    fn new() -> Self {
        Self::with(SCHEMA)
    }

    fn with(schema: &str) -> Self {
        let device = Self::bare(schema);
        for table in TABLES {
            block_on(device.replica.add_table(TableOptions::new(name(table)))).unwrap();
        }
        device
    }

    fn bare(schema: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sqlite");
        Connection::open(&path).unwrap().execute_batch(schema).unwrap();
        Self { replica: open(&path), dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("app.sqlite")
    }

    fn sql(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn takes(&self) -> Vec<TableSpec> {
        block_on(self.replica.takes(&TABLES.map(name))).unwrap()
    }

    fn install(&self, made: &Made) -> Result<BTreeMap<TableName, u64>, SnapshotError> {
        self.stage(made);
        let generation = block_on(self.replica.state()).unwrap().generation;
        block_on(self.replica.install(&made.snapshot, generation))
    }

    fn stage(&self, made: &Made) {
        let here = block_on(self.replica.staged(&made.snapshot)).unwrap();
        let rest = made.bytes[usize::try_from(here).unwrap()..].to_vec();
        if !rest.is_empty() {
            block_on(self.replica.stage(&made.snapshot, here, rest)).unwrap();
        }
    }

    /// Every row of every table, to the last bit.
    fn rows(&self) -> Vec<String> {
        TABLES.iter().flat_map(|table| rows(&self.sql(), table)).collect()
    }

    fn cursor(&self, table: &str) -> Option<Cursor> {
        block_on(self.replica.state()).unwrap().table(&name(table)).unwrap().cursor.clone()
    }

    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.contains("snapshot"));
        names.sort();
        names
    }

    /// Nothing has happened, and nothing lies around.
    fn assert_untouched(&self) {
        assert_eq!(self.rows(), Vec::<String>::new());
        assert_eq!(TABLES.map(|table| self.cursor(table)), [None, None, None, None]);
        assert_eq!(self.files(), Vec::<String>::new());
        self.assert_captures();
    }

    /// The triggers are in place and awake.
    fn assert_captures(&self) {
        let before = block_on(self.replica.state()).unwrap().pending;
        self.sql().execute("INSERT INTO notes (id) VALUES ('of another program')", []).unwrap();
        assert_eq!(block_on(self.replica.state()).unwrap().pending, before + 1);
    }
}

fn open(path: &Path) -> SqliteReplica {
    SqliteReplica::open(path, &SqliteOptions::default()).unwrap()
}

fn name(table: &str) -> TableName {
    table.parse().unwrap()
}

fn rows(db: &Connection, table: &str) -> Vec<String> {
    let columns: Vec<String> = {
        let mut statement = db.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let quoted: Vec<String> =
        columns.iter().map(|column| format!("typeof(\"{column}\") || quote(\"{column}\")")).collect();
    let sql = format!("SELECT '{table} ' || {} FROM \"{table}\" ORDER BY 1", quoted.join(" || ' ' || "));
    let mut statement = db.prepare(&sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

struct Made {
    snapshot: Snapshot,
    bytes: Vec<u8>,
}

impl Made {
    /// What a server makes of the rows of a device.
    fn of(source: &Device, specs: &[TableSpec]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("built");
        let mut builder = Builder::create(&path, specs).unwrap();
        let asked = |name: &TableName| specs.iter().any(|spec| spec.name == *name);
        let queued = block_on(source.replica.queue(0, 100)).unwrap();
        for entry in queued.into_iter().filter(|entry| asked(&entry.key.table)) {
            let record = entry.edit.into_fields();
            builder.put(&entry.key.table, &entry.key.id, Some(&record)).unwrap();
        }
        let tables = specs.iter().map(|spec| {
            let held = Held { cursor: Cursor::new("here"), rows: builder.rows(&spec.name).unwrap() };
            (spec.name.clone(), held)
        });
        let tables = tables.collect();
        builder.finish().unwrap();
        Self::packed(&path, tables)
    }

    fn packed(path: &Path, tables: BTreeMap<TableName, Held>) -> Self {
        let mut bytes = Vec::new();
        pack(path, &mut bytes).unwrap();
        let size = fs::metadata(path).unwrap().len();
        let mut snapshot = Snapshot {
            id: "s".to_owned(),
            digest: String::new(),
            bytes: 0,
            size,
            at: 1_700_000_000_000,
            tables,
        };
        (snapshot.digest, snapshot.bytes) = (digest(&bytes), bytes.len() as u64);
        Self { snapshot, bytes }
    }

    /// The same after somebody has changed the file with SQL of their own.
    fn spoilt(&self, sql: &str) -> Self {
        self.with_file(|path| Connection::open(path).unwrap().execute_batch(sql).unwrap())
    }

    fn with_file(&self, spoil: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spoilt");
        fs::write(&path, zstd::decode_all(self.bytes.as_slice()).unwrap()).unwrap();
        spoil(&path);
        Self::packed(&path, self.snapshot.tables.clone())
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A device with rows, and a snapshot of them for an empty one.
fn scene() -> (Device, Device, Made) {
    let (source, device) = (Device::new(), Device::new());
    source.sql().execute_batch(ROWS).unwrap();
    let made = Made::of(&source, &device.takes());
    (source, device, made)
}

#[test]
fn every_row_arrives_as_it_was_and_edits_are_captured_afterwards() {
    let (source, device, made) = scene();
    let installed = device.install(&made).unwrap();
    let expected = [("notes", 3), ("lines", 3), ("counted", 2), ("strict", 2)];
    assert_eq!(installed, BTreeMap::from(expected.map(|(table, rows)| (name(table), rows))));
    assert_eq!(device.rows(), source.rows());
    for table in TABLES {
        assert_eq!(device.cursor(table), Some(Cursor::new("here")), "{table}");
    }
    let state = block_on(device.replica.state()).unwrap();
    assert_eq!((state.pending, state.clock), (0, 1_700_000_000_000));
    assert_eq!(device.files(), Vec::<String>::new());
    assert_eq!(device.takes(), vec![], "it is not taken twice");
    device.assert_captures();
    let check: String = device.sql().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn documents_arrive_too() {
    let device = Device::bare("");
    block_on(device.replica.add_table(TableOptions::new(name("docs")))).unwrap();
    let specs = block_on(device.replica.takes(&[name("docs")])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("built");
    let mut builder = Builder::create(&path, &specs).unwrap();
    let id: RecordId = "1".parse().unwrap();
    let record = fields([("a", json!({"b": [1, null]}))]);
    builder.put(&name("docs"), &id, Some(&fields([("a", Value::Null)]))).unwrap();
    builder.put(&name("docs"), &id, Some(&record)).unwrap();
    builder.put(&name("docs"), &"2".parse().unwrap(), Some(&record)).unwrap();
    builder.put(&name("docs"), &"2".parse().unwrap(), None).unwrap();
    builder.finish().unwrap();
    let held = Held { cursor: Cursor::new("c"), rows: 1 };
    let made = Made::packed(&path, BTreeMap::from([(name("docs"), held)]));
    assert_eq!(device.install(&made).unwrap(), BTreeMap::from([(name("docs"), 1)]));
    let key = dynos_sync_core::RecordKey::new("docs", "1").unwrap();
    assert_eq!(block_on(device.replica.get(&key)).unwrap(), Some(record));
}

#[test]
fn the_tables_own_triggers_and_constraints_hold_for_what_comes() {
    let schema = format!(
        "{SCHEMA} CREATE TABLE titles (title TEXT);
        CREATE TRIGGER titled AFTER INSERT ON notes BEGIN INSERT INTO titles VALUES (NEW.title); END;
        DROP TABLE strict; CREATE TABLE strict (id INTEGER PRIMARY KEY, text TEXT NOT NULL CHECK (text <> '')) STRICT;"
    );
    let (source, _, made) = scene();
    let device = Device::with(&schema);
    let installed = device.install(&made).unwrap();
    assert_eq!(installed.get(&name("strict")), None, "one row is refused: all of them come by pages");
    assert_eq!(device.cursor("strict"), None);
    assert_eq!(rows(&device.sql(), "notes"), rows(&source.sql(), "notes"));
    let titles: i64 = device.sql().query_row("SELECT count(*) FROM titles", [], |row| row.get(0)).unwrap();
    assert_eq!(titles, 3);
    device.assert_captures();
}

#[test]
fn only_tables_that_take_the_servers_rows_as_they_are_come_as_a_snapshot() {
    let takes = |schema: &str, prepare: &dyn Fn(&Device)| {
        let device = Device::bare(schema);
        prepare(&device);
        let specs = block_on(device.replica.takes(&[name("t")])).unwrap();
        specs.len()
    };
    let plain = "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT, owner_id TEXT)";
    let add = |edit: fn(&mut TableOptions)| {
        move |device: &Device| {
            let mut options = TableOptions::new(name("t"));
            edit(&mut options);
            block_on(device.replica.add_table(options)).unwrap();
        }
    };
    assert_eq!(takes(plain, &add(|_| ())), 1);
    assert_eq!(takes(plain, &add(|options| options.policy.user = Some("ada".to_owned()))), 1);
    assert_eq!(takes("", &add(|_| ())), 1, "documents");
    assert_eq!(takes("", &add(|options| options.policy.user = Some("ada".to_owned()))), 0, "owned documents");
    assert_eq!(
        takes(plain, &add(|options| options.policy.sensitive_fields = vec!["a".to_owned()])),
        0,
        "masked"
    );
    assert_eq!(takes(plain, &|_| ()), 0, "not synced");
    let wide = format!("PRAGMA encoding = 'UTF-16le'; {plain}");
    assert_eq!(takes(&wide, &add(|_| ())), 0, "text in another encoding");
    let computed = "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT DEFAULT (hex(randomblob(4))))";
    assert_eq!(takes(computed, &add(|_| ())), 0, "a default that only this device knows");
    let with_row = format!("{plain}; INSERT INTO t VALUES ('1', '', NULL)");
    assert_eq!(takes(&with_row, &add(|_| ())), 0, "a row");
    assert_eq!(
        takes(&with_row, &add(|options| options.existing = Existing::Ignore)),
        0,
        "a row that is kept here"
    );
    let pulled = |device: &Device| {
        add(|_| ())(device);
        let advance = Op::Advance { table: name("t"), cursor: Cursor::new("c"), seen: vec![] };
        block_on(device.replica.commit(Batch { ops: vec![advance], ..Batch::default() })).unwrap();
    };
    assert_eq!(takes(plain, &pulled), 0, "a pull has begun");
}

#[test]
fn a_row_of_somebody_else_keeps_its_table_from_coming_at_once() {
    for (owner, rows) in [("'ada'", Some(1)), ("NULL", Some(1)), ("'bob'", None)] {
        let device = Device::bare("CREATE TABLE t (id TEXT PRIMARY KEY, owner_id TEXT)");
        let mut options = TableOptions::new(name("t"));
        options.policy.user = Some("ada".to_owned());
        block_on(device.replica.add_table(options)).unwrap();
        let specs = block_on(device.replica.takes(&[name("t")])).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("built");
        Builder::create(&path, &specs).unwrap().finish().unwrap();
        let insert = format!("INSERT INTO t VALUES ('1', {owner})");
        Connection::open(&path).unwrap().execute_batch(&insert).unwrap();
        let held = Held { cursor: Cursor::new("c"), rows: 1 };
        let made = Made::packed(&path, BTreeMap::from([(name("t"), held)]));
        assert_eq!(device.install(&made).unwrap().get(&name("t")).copied(), rows, "{owner}");
    }
}

#[test]
fn it_arrives_in_pieces_of_any_length() {
    let (source, device, made) = scene();
    let mut from = block_on(device.replica.staged(&made.snapshot)).unwrap();
    for piece in made.bytes.chunks(7) {
        block_on(device.replica.stage(&made.snapshot, from, piece.to_vec())).unwrap();
        from += piece.len() as u64;
        if from == 7 * 50 {
            assert_eq!(block_on(device.replica.staged(&made.snapshot)).unwrap(), from, "another attempt");
        }
    }
    device.install(&made).unwrap();
    assert_eq!(device.rows(), source.rows());
}

#[test]
fn what_has_arrived_is_kept_until_another_snapshot_is_fetched() {
    let (source, device, made) = scene();
    assert_eq!(block_on(device.replica.staged(&made.snapshot)).unwrap(), 0);
    block_on(device.replica.stage(&made.snapshot, 0, made.bytes[..100].to_vec())).unwrap();
    block_on(device.replica.close());
    let device = Device { replica: open(&device.path()), dir: device.dir };
    assert_eq!(block_on(device.replica.staged(&made.snapshot)).unwrap(), 100, "after a restart");
    assert!(block_on(device.replica.stage(&made.snapshot, 50, vec![0; 10])).is_err(), "a piece out of order");
    device.install(&made).unwrap();
    assert_eq!(device.rows(), source.rows());

    let (_, device, first) = scene();
    device.stage(&first);
    let other = first.spoilt("DELETE FROM notes WHERE id = 'a'");
    assert_eq!(block_on(device.replica.staged(&other.snapshot)).unwrap(), 0);
}

#[test]
fn only_one_process_fetches_and_only_the_owner_of_the_file_may_read_it() {
    let (_, device, made) = scene();
    device.stage(&made);
    let other = open(&device.path());
    assert!(matches!(block_on(other.staged(&made.snapshot)), Err(ReplicaError::Busy)));
    assert_eq!(device.files(), ["app.sqlite-snapshot", "app.sqlite-snapshot.db"]);
    #[cfg(unix)]
    for name in device.files() {
        let file = fs::metadata(device.dir.path().join(&name)).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_logout_takes_it_away_and_the_session_after_it_takes_nothing_of_it() {
    let (_, device, made) = scene();
    device.stage(&made);
    assert_eq!(block_on(device.replica.logout(true)).unwrap(), Logout::Done { discarded: 0 });
    assert_eq!(device.files(), Vec::<String>::new());

    device.stage(&made);
    let before = block_on(device.replica.state()).unwrap().generation;
    block_on(device.replica.logout(true)).unwrap();
    device.stage(&made);
    assert_eq!(block_on(device.replica.install(&made.snapshot, before)).unwrap(), BTreeMap::new());
    device.assert_untouched();
}

#[test]
fn a_row_that_appears_meanwhile_keeps_its_table_as_it_is() {
    let (source, device, made) = scene();
    device.stage(&made);
    device.sql().execute("INSERT INTO notes (id, title) VALUES ('a', 'mine')", []).unwrap();
    let installed = device.install(&made).unwrap();
    assert_eq!(installed.keys().map(TableName::as_str).collect::<Vec<_>>(), ["counted", "lines", "strict"]);
    assert_eq!(device.cursor("notes"), None);
    assert_eq!(rows(&device.sql(), "notes").len(), 1);
    assert_eq!(rows(&device.sql(), "lines"), rows(&source.sql(), "lines"));
    assert_eq!(block_on(device.replica.state()).unwrap().pending, 1);
}

#[test]
fn a_file_that_is_not_what_was_announced_is_refused() {
    let (_, device, made) = scene();
    let refused = |made: &Made, word: &str| {
        match device.install(made) {
            Err(SnapshotError::Refused(why)) => assert!(why.contains(word), "{why}"),
            other => panic!("{word}: {other:?}"),
        }
        assert_eq!(device.files(), Vec::<String>::new(), "{word}");
    };
    let with = |spoil: fn(&mut Made)| {
        let mut spoilt = Made { snapshot: made.snapshot.clone(), bytes: made.bytes.clone() };
        spoil(&mut spoilt);
        spoilt
    };
    let flipped = with(|made| {
        let middle = made.bytes.len() / 2;
        made.bytes[middle] ^= 1;
    });
    refused(&flipped, "digest");
    refused(&with(|made| made.snapshot.size -= 1), "size");
    refused(&with(|made| made.snapshot.size += 1), "size");
    let resealed = |made: &mut Made| {
        (made.snapshot.digest, made.snapshot.bytes) = (digest(&made.bytes), made.bytes.len() as u64);
    };
    let mut cut = with(|made| made.bytes.truncate(made.bytes.len() - 7));
    resealed(&mut cut);
    refused(&cut, "unpacked");
    let mut begun = with(|made| made.bytes.push(0x28));
    resealed(&mut begun);
    refused(&begun, "unpacked");
    let mut longer = with(|made| made.bytes.extend([7; 10]));
    resealed(&mut longer);
    refused(&longer, "unpacked");
    let mut noise = with(|made| made.bytes = vec![1; 1000]);
    resealed(&mut noise);
    refused(&noise, "unpacked");
    // It would unpack to a gigabyte.
    let mut bomb = with(|made| made.bytes = zstd::encode_all(std::io::repeat(0).take(1 << 30), 1).unwrap());
    resealed(&mut bomb);
    refused(&bomb, "size");

    let wanted = "made as they are here";
    for sql in [
        "CREATE TRIGGER evil AFTER INSERT ON notes BEGIN DELETE FROM lines; END",
        "CREATE VIEW evil AS SELECT load_extension('x')",
        "CREATE TABLE evil (x)",
        "CREATE INDEX evil ON notes (title)",
        "DROP INDEX notes_by_n",
        "ALTER TABLE notes ADD COLUMN evil TEXT",
        "ALTER TABLE notes RENAME COLUMN title TO heading",
        "DROP TABLE strict; CREATE TABLE strict (id INTEGER PRIMARY KEY, text TEXT NOT NULL DEFAULT (load_extension('x'))) STRICT",
        "DROP TABLE strict; CREATE VIEW strict AS SELECT 1 AS id, 'x' AS text",
        "DROP TABLE strict; CREATE VIRTUAL TABLE strict USING fts5(id, text)",
    ] {
        refused(&made.spoilt(sql), wanted);
    }
    let schema_says =
        |sql: &str| format!("PRAGMA writable_schema = ON; {sql}; PRAGMA writable_schema = RESET");
    let lies = made.spoilt(&schema_says(
        "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'strict') WHERE name = 'counted'",
    ));
    refused(&lies, "SQLite");
    // The same text is promised, and another schema made the rows.
    let null = made.spoilt(&schema_says(
        "UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'strict'",
    ));
    let null = null.spoilt("INSERT INTO strict VALUES (9, NULL)");
    let null = null.spoilt(&schema_says(
        "UPDATE sqlite_schema SET sql = replace(sql, 'TEXT  ', 'TEXT NOT NULL ') WHERE name = 'strict'",
    ));
    match device.install(&null) {
        Err(SnapshotError::Refused(_)) => {}
        other => panic!("{other:?}"),
    }
    // An index that lacks a row: whoever looks by it would not find that, for ever.
    let schema = "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'notes_by_n'; PRAGMA writable_schema = RESET";
    let hidden = made.spoilt(&format!(
        "CREATE TEMP TABLE kept AS SELECT * FROM sqlite_schema WHERE name = 'notes_by_n'; {schema};
         INSERT INTO notes (id) VALUES ('hidden');
         PRAGMA writable_schema = ON; INSERT INTO sqlite_schema SELECT * FROM kept; PRAGMA writable_schema = RESET"
    ));
    refused(&hidden, "SQLite finds");
    let noise = made.with_file(|path| fs::write(path, b"no database").unwrap());
    refused(&noise, "no SQLite database");
    let logged = made.spoilt("PRAGMA journal_mode = WAL");
    refused(&logged, "without a log");
    let wide = made.with_file(|path| {
        fs::remove_file(path).unwrap();
        Connection::open(path)
            .unwrap()
            .execute_batch("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (x)")
            .unwrap();
    });
    refused(&wide, "in UTF-8");
    for page in 1..8 {
        let broken = made.with_file(|path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[page * 4096..page * 4096 + 8].copy_from_slice(&[0xff; 8]);
            fs::write(path, bytes).unwrap();
        });
        refused(&broken, "SQLite");
    }
    device.assert_untouched();
}

#[test]
fn fewer_rows_than_were_announced_are_refused() {
    let (_, device, mut made) = scene();
    made.snapshot.tables.get_mut(&name("notes")).unwrap().rows = 4;
    let installed = device.install(&made).unwrap();
    assert!(!installed.contains_key(&name("notes")));
    assert_eq!(rows(&device.sql(), "notes"), Vec::<String>::new());
    assert_eq!(device.cursor("notes"), None);
}

#[test]
fn a_server_leaves_out_what_a_device_would_keep_aside() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::new();
    let mut builder = Builder::create(&dir.path().join("built"), &device.takes()).unwrap();
    let missing = builder.put(&name("strict"), &"1".parse().unwrap(), Some(&fields([])));
    assert!(matches!(missing, Err(ReplicaError::Invalid(_))), "{missing:?}");
    let null = builder.put(&name("strict"), &"1".parse().unwrap(), Some(&fields([("text", Value::Null)])));
    assert!(matches!(null, Err(ReplicaError::Constraint { .. })), "{null:?}");
    let key = builder.put(&name("strict"), &"x".parse().unwrap(), Some(&fields([("text", "x".into())])));
    assert!(key.is_err(), "{key:?}");
    builder.leave_out(&name("strict")).unwrap();
    builder.finish().unwrap();
    let file = Connection::open(dir.path().join("built")).unwrap();
    let left: i64 = file
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'strict'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn an_edit_that_is_made_while_it_is_fetched_is_not_lost() {
    let (_, device, made) = scene();
    device.stage(&made);
    let key = dynos_sync_core::RecordKey::new("notes", "mine").unwrap();
    let edit = dynos_sync_core::Edit::Upsert(fields([("title", "mine".into())]));
    let write = Op::Write { key: key.clone(), edit, at: 5 };
    let outcome = block_on(device.replica.commit(Batch { ops: vec![write], ..Batch::default() })).unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)));
    device.install(&made).unwrap();
    assert_eq!(block_on(device.replica.get(&key)).unwrap().unwrap()["title"], "mine");
    assert_eq!(block_on(device.replica.state()).unwrap().pending, 1);
}

/// A database that is to be made beside the device's.
fn new_database(dir: &TempDir, tables: &[TableSpec]) -> Result<NewDatabase, ReplicaError> {
    let path = dir.path().join("new.sqlite");
    NewDatabase::new(&path, &SqliteOptions::default(), "the server", tables.to_vec())
}

fn install(new: &NewDatabase, made: &Made) -> Result<BTreeMap<TableName, u64>, SnapshotError> {
    let here = block_on(new.staged(&made.snapshot)).unwrap();
    let rest = made.bytes[usize::try_from(here).unwrap()..].to_vec();
    block_on(new.stage(&made.snapshot, here, rest)).unwrap();
    block_on(new.install(&made.snapshot, 0))
}

fn names(dir: &TempDir) -> Vec<String> {
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn a_snapshot_becomes_a_new_database() {
    let (source, device, _) = scene();
    let specs = device.takes();
    // Of the last one there is nothing in it.
    let made = Made::of(&source, &specs[..3]);
    let dir = tempfile::tempdir().unwrap();
    let new = new_database(&dir, &specs).unwrap();
    assert_eq!(install(&new, &made).unwrap().len(), 3);
    assert_eq!(names(&dir), ["new.sqlite"]);

    let path = dir.path().join("new.sqlite");
    let device = Device { replica: open(&path), dir };
    let state = block_on(device.replica.state()).unwrap();
    assert_eq!(
        (state.server.as_deref(), state.pending, state.clock),
        (Some("the server"), 0, 1_700_000_000_000)
    );
    assert_eq!(state.tables.len(), 4);
    for table in &state.tables {
        let held = made.snapshot.tables.contains_key(&table.spec.name);
        assert_eq!((table.cursor.is_some(), table.declared), (held, held), "{}", table.spec.name);
        let expected = if held { rows(&source.sql(), table.spec.name.as_str()) } else { vec![] };
        let db = Connection::open(&path).unwrap();
        assert_eq!(rows(&db, table.spec.name.as_str()), expected, "{}", table.spec.name);
    }
    let db = Connection::open(&path).unwrap();
    db.execute("INSERT INTO notes (id) VALUES ('of another program')", []).unwrap();
    assert_eq!(block_on(device.replica.state()).unwrap().pending, 1);
    block_on(device.replica.close());
    assert_eq!(block_on(open(&path).state()).unwrap().replica, state.replica, "it is no copy of itself");
    #[cfg(unix)]
    {
        let file = fs::metadata(&path).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777, 0o600);
    }
}

#[test]
fn a_new_database_is_made_whole_or_not_at_all_and_takes_nobodys_place() {
    let (_, device, made) = scene();
    let specs = device.takes();
    let dir = tempfile::tempdir().unwrap();
    let new = new_database(&dir, &specs).unwrap();
    let bad = made.spoilt("CREATE TRIGGER evil AFTER INSERT ON notes BEGIN DELETE FROM lines; END");
    assert!(matches!(install(&new, &bad), Err(SnapshotError::Refused(_))));
    assert_eq!(names(&dir), Vec::<String>::new());

    block_on(new.staged(&made.snapshot)).unwrap();
    block_on(new.stage(&made.snapshot, 0, made.bytes[..50].to_vec())).unwrap();
    drop(new);
    let new = new_database(&dir, &specs).unwrap();
    assert_eq!(
        block_on(new.staged(&made.snapshot)).unwrap(),
        50,
        "an attempt that broke off is gone on with"
    );

    // A process that was killed has left a log that is none of this file's.
    for suffix in ["", "-wal", "-shm", "-journal"] {
        fs::write(dir.path().join(format!("new.sqlite-snapshot.db{suffix}")), "left over").unwrap();
    }
    fs::write(dir.path().join("new.sqlite"), "somebody's").unwrap();
    assert!(install(&new, &made).is_err());
    assert_eq!(fs::read(dir.path().join("new.sqlite")).unwrap(), b"somebody's");
    assert_eq!(names(&dir), ["new.sqlite"]);
    assert!(matches!(new_database(&dir, &specs), Err(ReplicaError::Invalid(_))));
}
