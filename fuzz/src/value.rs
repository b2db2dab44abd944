//! Values, from a program's SQL on one device to another device's row, and from JSON to a row.
//!
//! The first byte of an input chooses a column. The second says what the rest is: `i`, `r`, `t` or `b`, an SQLite value
//! (bytes, least significant first); anything else, the text of a JSON value.

use std::cell::RefCell;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dynos_sync_core::{
    Edit, Entry, Fields, RecordKey, Replica, ReplicaError, Value, alike,
    replica::{Batch, Op, TableOptions},
};
use dynos_sync_sqlite::{Random, SqliteOptions, SqliteReplica, Threads};
use futures_executor::block_on;
use rusqlite::{
    Connection, ToSql,
    types::{ToSqlOutput, ValueRef},
};
use tempfile::TempDir;

use crate::script;

/// The declared types, a column each: `c0`, `c1` and so on.
const DECLARED: [&str; 12] = [
    "",
    "INTEGER",
    "TEXT",
    "REAL",
    "BLOB",
    "NUMERIC(10,2)",
    "BOOLEAN",
    "JSON",
    "VARCHAR(9)",
    "DATETIME",
    "DOUBLE PRECISION",
    "BOOL_TEXT",
];

thread_local! {
    static PAIR: RefCell<Option<Pair>> = const { RefCell::new(None) };
}

/// The body of the target.
pub fn run(data: &[u8]) {
    let [column, kind, rest @ ..] = data else { return };
    let column = usize::from(*column) % DECLARED.len();
    PAIR.with_borrow_mut(|pair| {
        let pair = pair.get_or_insert_with(Pair::new);
        match cell(*kind, rest) {
            Some(cell) => pair.from_sql(column, cell),
            None => {
                if let Ok(value) = serde_json::from_slice(rest) {
                    pair.from_json(column, &value);
                }
            }
        }
    });
}

/// A value as SQLite keeps it; its text need not be UTF-8.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Real(real) => ValueRef::Real(*real),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(integer) => Self::Integer(integer),
            ValueRef::Real(real) => Self::Real(real),
            ValueRef::Text(text) => Self::Text(text.to_vec()),
            ValueRef::Blob(blob) => Self::Blob(blob.to_vec()),
        }
    }
}

/// `None` where the input is JSON.
fn cell(kind: u8, rest: &[u8]) -> Option<Cell> {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(rest).for_each(|(byte, given)| *byte = *given);
    match kind {
        b'i' => Some(Cell::Integer(i64::from_le_bytes(bytes))),
        b'r' => Some(Cell::Real(f64::from_le_bytes(bytes))),
        b't' => Some(Cell::Text(rest.to_vec())),
        b'b' => Some(Cell::Blob(rest.to_vec())),
        _ => None,
    }
}

/// Two devices with the same table.
struct Pair {
    one: SqliteReplica,
    other: SqliteReplica,
    _folder: TempDir,
}

impl Pair {
    fn new() -> Self {
        let folder = script::folder();
        let device = |name: &str| {
            let path = folder.path().join(name);
            let columns = DECLARED.iter().enumerate().map(|(n, declared)| format!(", c{n} {declared}"));
            let sql = format!("CREATE TABLE v (id INTEGER PRIMARY KEY{})", columns.collect::<String>());
            let program = Connection::open(&path).expect("a database");
            program.execute_batch(&sql).expect("a table");
            let random = Random::new(|| [7; 16]);
            let options = SqliteOptions { threads: Threads::Caller, random, ..SqliteOptions::default() };
            let replica = SqliteReplica::open(&path, &options).expect("a replica");
            let table = TableOptions::new("v".parse().expect("a name"));
            block_on(replica.add_table(table)).expect("a synced table");
            replica
        };
        Self { one: device("one.db"), other: device("other.db"), _folder: folder }
    }

    /// What a program stores arrives as the same value of the same type.
    fn from_sql(&self, column: usize, cell: Cell) {
        let sql = format!("INSERT OR REPLACE INTO v (id, c{column}) VALUES (1, ?)");
        block_on(self.one.write_with(move |db| db.execute(&sql, [cell]))).expect("a row of any kind");
        let stored = read(&self.one, column);
        let fields = self.told().unwrap_or_else(|| panic!("nothing is told of {stored:?}"));
        store(&self.other, Some(&over_the_wire(&fields)));
        assert_eq!(bits(read(&self.other, column)), bits(stored), "as {fields:?}");
        self.clear();
    }

    /// A value is stored as it is, or refused by the column's name; and the others are told what was stored.
    fn from_json(&self, column: usize, value: &Value) {
        let name = format!("c{column}");
        let edit = Edit::Upsert(Fields::from_iter([(name.clone(), value.clone())]));
        match commit(&self.one, Op::Write { key: key(), edit, at: 1 }) {
            Err(ReplicaError::Invalid(invalid)) => {
                assert!(invalid.field == name || invalid.field.starts_with(&format!("{name}.")), "{invalid}");
            }
            Err(error) => panic!("{error:?} for {value}"),
            Ok(()) => {
                let mine =
                    block_on(self.one.get(&key())).expect("an answer").expect("the row")[&name].clone();
                assert!(
                    is_kept(value, &mine, DECLARED[column]),
                    "{value} reads {mine} in {}",
                    DECLARED[column]
                );
                let told = self.told().expect("an edit");
                assert_eq!(told.get(&name), Some(&mine), "what is told of {value} is not what is stored");
                store(&self.other, Some(&over_the_wire(&told)));
                assert_eq!(
                    bits(read(&self.other, column)),
                    bits(read(&self.one, column)),
                    "{value} as {told:?}"
                );
                self.clear();
            }
        }
    }

    /// What the server would be told: the queued edit, which then counts as applied.
    fn told(&self) -> Option<Fields> {
        let queued: Vec<Entry> = block_on(self.one.queue(0, 10)).expect("the queue");
        for entry in &queued {
            settle(&self.one, entry);
        }
        let edit = queued.into_iter().map(|entry| entry.edit).reduce(Edit::then)?;
        Some(edit.into_fields())
    }

    fn clear(&self) {
        store(&self.one, None);
        store(&self.other, None);
    }
}

fn key() -> RecordKey {
    RecordKey::new("v", "1").expect("a key")
}

fn commit(device: &SqliteReplica, op: Op) -> Result<(), ReplicaError> {
    block_on(device.commit(Batch { ops: vec![op], ..Batch::default() })).map(drop)
}

fn settle(device: &SqliteReplica, entry: &Entry) {
    let op = Op::Settle { key: entry.key.clone(), counter: entry.counter, record: None };
    commit(device, op).expect("settled");
}

fn store(device: &SqliteReplica, record: Option<&Fields>) {
    commit(device, Op::Store { key: key(), record: record.cloned() }).expect("stored");
}

fn read(device: &SqliteReplica, column: usize) -> Cell {
    let sql = format!("SELECT c{column} FROM v WHERE id = 1");
    let read = move |db: &Connection| db.query_row(&sql, [], |row| Ok(Cell::from(row.get_ref(0)?)));
    block_on(device.read_with(read)).expect("a row")
}

/// A cell such that equal ones are the same to the last bit.
fn bits(cell: Cell) -> (u8, Vec<u8>) {
    match cell {
        Cell::Null => (0, vec![]),
        Cell::Integer(integer) => (1, integer.to_le_bytes().to_vec()),
        Cell::Real(real) => (2, real.to_le_bytes().to_vec()),
        Cell::Text(text) => (3, text),
        Cell::Blob(blob) => (4, blob),
    }
}

fn over_the_wire(fields: &Fields) -> Fields {
    serde_json::from_str(&serde_json::to_string(fields).expect("JSON")).expect("JSON")
}

/// Whether a value is kept by a column, as the crate's documentation says: as it is but for the notation, or as SQLite
/// converts values for columns of this type.
fn is_kept(given: &Value, read: &Value, declared: &str) -> bool {
    // An object with more in it is an object.
    let written = |value: &Value, name: &str| match value {
        Value::Object(object) if object.len() == 1 => Some(object.get(name)?.as_str()?.to_owned()),
        _ => None,
    };
    let bytes = |value: &Value, name: &str| STANDARD.decode(written(value, name)?).ok();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone().into_bytes(),
        value => bytes(value, "$text").unwrap_or_else(|| value.to_string().into_bytes()),
    };
    // Text that looks like a number becomes one, a number becomes text: what SQLite calls affinity. A NUL ends a number,
    // and a vertical tab is a space.
    let space = |c: char| c == ' ' || ('\t'..='\r').contains(&c);
    let number = |value: &Value| match value {
        Value::Bool(bit) => Some(f64::from(u8::from(*bit))),
        Value::Number(number) => number.as_f64(),
        value if written(value, "$real").is_some() => written(value, "$real")?.parse().ok(),
        value => std::str::from_utf8(&text(value)).ok()?.split('\0').next()?.trim_matches(space).parse().ok(),
    };
    let near = |one: f64, other: f64| one == other || (one - other).abs() <= one.abs() * 1e-14;
    let converts = declared != "BLOB" && !declared.is_empty();
    alike(given, read)
        || (text(given) == text(read))
        || (bytes(given, "$blob").is_some() && bytes(given, "$blob") == bytes(read, "$blob"))
        || (converts && number(given).zip(number(read)).is_some_and(|(one, other)| near(one, other)))
}
