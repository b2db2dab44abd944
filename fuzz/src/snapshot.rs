//! Snapshots: a file that a server calls an SQLite database, under its right digest.
//!
//! An input changes a good one: the first byte says how many pages it loses; then come pieces, each a place (two bytes, least
//! significant first), a length (a byte) and what stands there instead.

use std::{cell::RefCell, collections::BTreeMap, fs};

use dynos_sync_core::{
    Cursor, Replica, TableName, TableSpec, Value, fields, json,
    replica::TableOptions,
    snapshot::{Held, Snapshot, SnapshotError, SnapshotStore},
};
use dynos_sync_sqlite::{
    Random, SqliteOptions, SqliteReplica, Threads,
    snapshot::{Builder, pack},
};
use futures_executor::block_on;
use rusqlite::{Connection, types::Value as Cell};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::script;

const SCHEMA: &str =
    "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER NOT NULL, x REAL, j JSON); CREATE INDEX t_by_n ON t (n);
                      CREATE TABLE u (id INTEGER PRIMARY KEY, b BLOB, UNIQUE (b))";
const ROWS: u64 = 20;
const PAGE: usize = 4096;

thread_local! {
    static GOOD: Vec<u8> = good();
    static DEVICE: RefCell<Option<Device>> = const { RefCell::new(None) };
}

/// The body of the target.
pub fn run(data: &[u8]) {
    let [cut, pieces @ ..] = data else { return };
    let mut file = GOOD.with(Vec::clone);
    change(&mut file, pieces);
    file.truncate(file.len().saturating_sub(usize::from(*cut % 4) * PAGE));
    DEVICE.with_borrow_mut(|device| {
        let taken = device.get_or_insert_with(Device::new).take(&file);
        if taken {
            *device = None;
        }
    });
}

fn change(file: &mut [u8], mut pieces: &[u8]) {
    while let [low, high, length, rest @ ..] = pieces {
        let place = usize::from(u16::from_le_bytes([*low, *high])) % file.len();
        let length = usize::from(*length).min(rest.len()).min(file.len() - place);
        file[place..place + length].copy_from_slice(&rest[..length]);
        pieces = &rest[length..];
    }
}

/// A file as a server makes it.
fn good() -> Vec<u8> {
    let folder = script::folder();
    let path = folder.path().join("built");
    let specs = Device::new().specs();
    let mut builder = Builder::create(&path, &specs).expect("a file");
    for n in 0..ROWS {
        let text = "text ".repeat(usize::try_from(n).expect("few"));
        let t = fields([("n", n.into()), ("x", 0.5.into()), ("j", json!({"text": text}))]);
        let u = fields([("b", Value::from(n))]);
        for (spec, record) in specs.iter().zip([t, u]) {
            builder.put(&spec.name, &n.to_string().parse().expect("an id"), Some(&record)).expect("a row");
        }
    }
    builder.finish().expect("a file");
    fs::read(path).expect("a file")
}

struct Device {
    folder: TempDir,
    replica: SqliteReplica,
}

impl Device {
    fn new() -> Self {
        let folder = script::folder();
        let path = folder.path().join("device.db");
        Connection::open(&path).expect("a database").execute_batch(SCHEMA).expect("tables");
        let random = Random::new(|| [7; 16]);
        let options = SqliteOptions { threads: Threads::Caller, random, ..SqliteOptions::default() };
        let replica = SqliteReplica::open(&path, &options).expect("a replica");
        for table in tables() {
            block_on(replica.add_table(TableOptions::new(table))).expect("a synced table");
        }
        Self { folder, replica }
    }

    fn specs(&self) -> Vec<TableSpec> {
        block_on(self.replica.takes(&tables())).expect("an answer")
    }

    /// All rows of a table and its cursor, or neither; and a file that is refused leaves nothing. Answers whether anything was taken.
    fn take(&self, file: &[u8]) -> bool {
        let path = self.folder.path().join("file");
        fs::write(&path, file).expect("a file");
        let mut packed = Vec::new();
        pack(&path, &mut packed).expect("it is packed");
        let held = Held { cursor: Cursor::new("c"), rows: ROWS };
        let snapshot = Snapshot {
            id: "s".to_owned(),
            digest: Sha256::digest(&packed).iter().map(|byte| format!("{byte:02x}")).collect(),
            bytes: packed.len() as u64,
            size: file.len() as u64,
            at: 1,
            tables: tables().into_iter().map(|table| (table, held.clone())).collect(),
        };
        let staged = block_on(self.replica.staged(&snapshot)).expect("an answer");
        let rest = packed[usize::try_from(staged).expect("it is in memory")..].to_vec();
        block_on(self.replica.stage(&snapshot, staged, rest)).expect("it is kept");
        let generation = block_on(self.replica.state()).expect("a state").generation;
        let taken = match block_on(self.replica.install(&snapshot, generation)) {
            Ok(taken) => taken,
            Err(SnapshotError::Refused(_)) => BTreeMap::new(),
            Err(error) => panic!("{error:?}"),
        };
        let state = block_on(self.replica.state()).expect("a state");
        let db = Connection::open(self.folder.path().join("device.db")).expect("the database");
        let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, Cell>(0)).expect("an answer");
        for table in tables() {
            let rows = if taken.contains_key(&table) { i64::try_from(ROWS).expect("few") } else { 0 };
            assert_eq!(one(&format!("SELECT count(*) FROM {table}")), Cell::Integer(rows), "rows of {table}");
            let cursor = state.table(&table).expect("it is synced").cursor.is_some();
            assert_eq!(cursor, rows > 0, "the cursor of {table}");
        }
        if !taken.is_empty() {
            assert_eq!(one("SELECT count(*) FROM t WHERE n IS NULL"), Cell::Integer(0));
            assert_eq!(one("PRAGMA integrity_check"), Cell::Text("ok".to_owned()));
        }
        let beside = fs::read_dir(self.folder.path()).expect("the folder").flatten();
        let left = beside.filter(|entry| entry.file_name().to_string_lossy().contains("snapshot")).count();
        assert_eq!(left, 0, "nothing of it lies around");
        !taken.is_empty()
    }
}

fn tables() -> [TableName; 2] {
    ["t", "u"].map(|name| name.parse().expect("a name"))
}
