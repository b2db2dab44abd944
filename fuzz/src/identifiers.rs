//! Names of tables and columns, and ids, of any text: from one database through capture, push and pull to another.
//!
//! An input is the table's name, the columns' names (the first is the key), an empty line, and what is written: rows of values,
//! one value a line.

mod device;
mod sheet;

use std::cell::RefCell;

use dynos_sync_core::{Replica as _, TableName, memory::MemoryServer};
use futures_executor::block_on;
use rusqlite::Connection;

use self::{
    device::{Device, Pair},
    sheet::Sheet,
};
use crate::script;

thread_local! {
    static PAIR: RefCell<Option<Pair>> = const { RefCell::new(None) };
}

/// The body of the target.
pub fn run(data: &[u8]) {
    let Some(sheet) = Sheet::read(data) else { return };
    if sheet.table.to_lowercase().starts_with("dynos_") {
        // These names are the engine's own.
        return;
    }
    script::in_two_ways(
        data,
        || judge(&sheet, &Pair::new(false)),
        || PAIR.with_borrow_mut(|pair| judge(&sheet, pair.get_or_insert_with(|| Pair::new(true)))),
    );
}

fn judge(sheet: &Sheet, Pair { first: one, second: other, .. }: &Pair) {
    let create = sheet.clone();
    if one.begin(move |db| create.create(db)).is_err() {
        // Of such names SQLite has none.
        return;
    }
    let schema = schema(one);
    let server = MemoryServer::new();
    let Some(first) = one.track(&sheet.table, &server) else {
        assert_eq!(schema, self::schema(one), "a table that is refused is left as it is");
        return;
    };
    program(one, sheet, Sheet::fill);
    block_on(first.sync_all()).expect("a sync");
    other.begin(|_| Ok(())).expect("nothing is left");
    let second = other.track(&sheet.table, &server).expect("what one device has, another can have");
    block_on(second.sync_all()).expect("a sync");
    let rows = |device: &Device| {
        let sheet = sheet.clone();
        device.look(move |db| Ok(sheet.rows(db)))
    };
    assert_eq!(rows(one), rows(other), "both devices hold the same");
    program(other, sheet, Sheet::change);
    block_on(second.sync_all()).expect("a sync");
    block_on(first.sync_all()).expect("a sync");
    assert_eq!(rows(one), rows(other), "both devices hold the same");
    let state = block_on(one.replica().state()).expect("the state");
    assert_eq!((state.pending, state.dead_letters, state.quarantined), (0, 0, 0), "{state:?}");
    assert_eq!(schema, self::schema(one), "the application's schema is as it was");
    let name: TableName = sheet.table.parse().expect("a name");
    block_on(one.replica().remove_table(&name)).expect("removed");
    assert_eq!(schema, self::schema(one), "the application's schema is as it was");
    // The marks of transactions have one, whatever is synced.
    let triggers =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name <> 'dynos_transaction'";
    let left: i64 = one.look(|db| db.query_row(triggers, [], |row| row.get(0)));
    assert_eq!(left, 0, "no trigger is left");
}

/// What the program does with its table.
fn program(device: &Device, sheet: &Sheet, work: fn(&Sheet, &Connection)) {
    let sheet = sheet.clone();
    let done = device.sql(move |db| {
        work(&sheet, db);
        Ok(())
    });
    done.expect("the program's SQL");
}

/// All of the schema that is not the engine's.
fn schema(device: &Device) -> Vec<(String, String, Option<String>)> {
    device.look(read_schema)
}

fn read_schema(db: &Connection) -> rusqlite::Result<Vec<(String, String, Option<String>)>> {
    let sql = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'dynos\\_%' ESCAPE '\\' \
               AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name";
    let mut statement = db.prepare_cached(sql)?;
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    statement.query_map([], row)?.collect()
}
