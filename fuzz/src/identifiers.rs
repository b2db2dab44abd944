//! Names of tables and columns, and ids, of any text: from one database through capture, push and pull to another.
//!
//! An input is the table's name, the columns' names (the first is the key), an empty line, and what is written: rows of values,
//! one value a line.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dynos_sync::{Driver, SyncConfig};
use dynos_sync_core::{
    Clock, Millis, Remote, Replica, ReplicaError, TableName, memory::MemoryServer, replica::TableOptions,
};
use dynos_sync_sqlite::{Random, SqliteOptions, SqliteReplica, Threads};
use futures_executor::block_on;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, params_from_iter};

use crate::script;

/// The most columns, and the most rows.
const MOST: usize = 5;

/// The types of the columns, the key's first.
const TYPES: [&str; MOST] = ["TEXT", "TEXT", "", "TEXT COLLATE NOCASE", "INTEGER"];

/// The body of the target.
pub fn run(data: &[u8]) {
    let Some(sheet) = Sheet::read(data) else { return };
    let folder = script::folder();
    let [one, other] = ["one.db", "other.db"].map(|name| folder.path().join(name));
    let program = connect(&one);
    if sheet.table.to_lowercase().starts_with("dynos_") || sheet.create(&program).is_err() {
        // The first are the engine's own names, and of the others SQLite has none.
        return;
    }
    let schema = schema(&program);
    let server = MemoryServer::new();
    let Some(first) = track(&one, 1, &sheet.table, &server) else {
        assert_eq!(schema, self::schema(&program), "a table that is refused is left as it is");
        return;
    };
    sheet.fill(&program);
    block_on(first.driver.sync_all()).expect("a sync");
    let second = track(&other, 2, &sheet.table, &server).expect("what one device has, another can have");
    block_on(second.driver.sync_all()).expect("a sync");
    let mirror = connect(&other);
    assert_eq!(sheet.rows(&program), sheet.rows(&mirror), "both devices hold the same");
    sheet.change(&mirror);
    block_on(second.driver.sync_all()).expect("a sync");
    block_on(first.driver.sync_all()).expect("a sync");
    assert_eq!(sheet.rows(&program), sheet.rows(&mirror), "both devices hold the same");
    let state = block_on(first.replica.state()).expect("the state");
    assert_eq!((state.pending, state.dead_letters, state.quarantined), (0, 0, 0), "{state:?}");
    assert_eq!(schema, self::schema(&program), "the application's schema is as it was");
    let name: TableName = sheet.table.parse().expect("a name");
    block_on(first.replica.remove_table(&name)).expect("removed");
    assert_eq!(schema, self::schema(&program), "the application's schema is as it was");
    let triggers = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'";
    let left: i64 = program.query_row(triggers, [], |row| row.get(0)).expect("a count");
    assert_eq!(left, 0, "no trigger is left");
}

/// What the input says.
struct Sheet<'a> {
    table: String,
    columns: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Sheet<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(data).ok()?;
        let (names, values) = text.split_once("\n\n")?;
        let mut names = names.split('\n');
        let table = names.next()?.to_owned();
        let columns: Vec<&str> = names.take(MOST).collect();
        let values: Vec<&str> = values.split('\n').collect();
        let rows = values.chunks_exact(columns.len().max(1)).take(MOST).map(<[&str]>::to_vec).collect();
        (!columns.is_empty()).then_some(Self { table, columns, rows })
    }

    /// The table, with an index and a view that are the application's own.
    fn create(&self, db: &Connection) -> rusqlite::Result<()> {
        let key = [" NOT NULL PRIMARY KEY", "", "", "", ""];
        let column =
            |(place, name): (usize, &&str)| format!("{} {}{}", quoted(name), TYPES[place], key[place]);
        let columns: Vec<String> = self.columns.iter().enumerate().map(column).collect();
        let table = quoted(&self.table);
        let last = quoted(self.columns[self.columns.len() - 1]);
        db.execute_batch(&format!(
            "CREATE TABLE {table} ({}); CREATE INDEX \"by last\" ON {table} ({last}); \
             CREATE VIEW \"a view\" AS SELECT {last} FROM {table};",
            columns.join(", ")
        ))
    }

    /// Inserts, an update, a delete and a row that comes back, by plain SQL.
    fn fill(&self, db: &Connection) {
        let (table, key) = (quoted(&self.table), quoted(self.columns[0]));
        let marks = vec!["?"; self.columns.len()].join(", ");
        for row in &self.rows {
            let insert = format!("INSERT OR REPLACE INTO {table} VALUES ({marks})");
            db.execute(&insert, params_from_iter(row)).expect("a row");
        }
        if let Some(last) = self.rows.last() {
            db.execute(&format!("DELETE FROM {table} WHERE {key} = ?"), [last[0]]).expect("a delete");
            db.execute(&format!("INSERT INTO {table} VALUES ({marks})"), params_from_iter(last))
                .expect("a row");
        }
    }

    /// What the other device does: every row changes, and one goes.
    fn change(&self, db: &Connection) {
        let (table, key) = (quoted(&self.table), quoted(self.columns[0]));
        let last = quoted(self.columns[self.columns.len() - 1]);
        db.execute_batch(&format!("UPDATE {table} SET {last} = 'n' || {key}")).expect("an update");
        db.execute_batch(&format!("DELETE FROM {table} WHERE {key} = (SELECT min({key}) FROM {table})"))
            .expect("a delete");
    }

    fn rows(&self, db: &Connection) -> Vec<Vec<rusqlite::types::Value>> {
        let sql = format!("SELECT * FROM {} ORDER BY {}", quoted(&self.table), quoted(self.columns[0]));
        let mut statement = db.prepare(&sql).expect("a query");
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|place| row.get(place)).collect();
        statement.query_map([], row).expect("rows").collect::<Result<_, _>>().expect("rows")
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn connect(path: &Path) -> Connection {
    let db = Connection::open(path).expect("a database");
    db.execute_batch("PRAGMA synchronous = OFF").expect("a setting");
    db
}

/// All of the schema that is not the engine's.
fn schema(db: &Connection) -> Vec<(String, String, Option<String>)> {
    let sql = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'dynos\\_%' ESCAPE '\\' \
               AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name";
    let mut statement = db.prepare(sql).expect("a query");
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    statement.query_map([], row).expect("rows").collect::<Result<_, _>>().expect("rows")
}

struct Device {
    replica: Arc<SqliteReplica>,
    driver: Driver,
}

/// A device that syncs the table, which it makes as the server says where it has none. `None` where the table's name or a
/// column's cannot be synced.
fn track(path: &PathBuf, seed: u8, table: &str, server: &MemoryServer) -> Option<Device> {
    let random = Random::new(move || [seed; 16]);
    let options = SqliteOptions { threads: Threads::Caller, random, ..SqliteOptions::default() };
    let replica = Arc::new(SqliteReplica::open(path, &options).expect("a replica"));
    let remote: Arc<dyn Remote> = Arc::new(server.remote("ada"));
    let name: TableName = table.parse().ok()?;
    let known = block_on(remote.tables()).expect("the server's tables");
    let create = known.into_iter().find(|spec| spec.name == name);
    match block_on(replica.add_table(TableOptions { create, ..TableOptions::new(name) })) {
        Ok(_) => {}
        Err(ReplicaError::Invalid(_)) => return None,
        Err(error) => panic!("{error:?}"),
    }
    let config = SyncConfig::default();
    let driver = Driver::new(replica.clone(), remote, Arc::new(Still), config, Box::new(|| 7));
    Some(Device { replica, driver: block_on(driver).expect("a driver") })
}

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Millis {
        1_800_000_000_000
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
