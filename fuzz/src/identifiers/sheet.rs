//! What an input says: a table of any name, with columns of any names, and what is written to it.

use rusqlite::{Connection, params_from_iter};

/// The most columns, and the most rows.
const MOST: usize = 5;

/// The types of the columns, the key's first.
const TYPES: [&str; MOST] = ["TEXT", "TEXT", "", "TEXT COLLATE NOCASE", "INTEGER"];

/// What the input says.
#[derive(Clone)]
pub(super) struct Sheet {
    pub(super) table: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Sheet {
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(data).ok()?;
        let (names, values) = text.split_once("\n\n")?;
        let mut names = names.split('\n');
        let table = names.next()?.to_owned();
        let columns: Vec<String> = names.take(MOST).map(str::to_owned).collect();
        let values: Vec<String> = values.split('\n').map(str::to_owned).collect();
        let rows = values.chunks_exact(columns.len().max(1)).take(MOST).map(<[String]>::to_vec).collect();
        (!columns.is_empty()).then_some(Self { table, columns, rows })
    }

    /// The table, with an index and a view that are the application's own.
    pub(super) fn create(&self, db: &Connection) -> rusqlite::Result<()> {
        let key = [" NOT NULL PRIMARY KEY", "", "", "", ""];
        let column =
            |(place, name): (usize, &String)| format!("{} {}{}", quoted(name), TYPES[place], key[place]);
        let columns: Vec<String> = self.columns.iter().enumerate().map(column).collect();
        let table = quoted(&self.table);
        let last = quoted(&self.columns[self.columns.len() - 1]);
        db.execute_batch(&format!(
            "CREATE TABLE {table} ({}); CREATE INDEX \"by last\" ON {table} ({last}); \
             CREATE VIEW \"a view\" AS SELECT {last} FROM {table};",
            columns.join(", ")
        ))
    }

    /// Inserts, an update, a delete and a row that comes back, by plain SQL.
    pub(super) fn fill(&self, db: &Connection) {
        let (table, key) = (quoted(&self.table), quoted(&self.columns[0]));
        let marks = vec!["?"; self.columns.len()].join(", ");
        for row in &self.rows {
            let insert = format!("INSERT OR REPLACE INTO {table} VALUES ({marks})");
            db.execute(&insert, params_from_iter(row)).expect("a row");
        }
        if let Some(last) = self.rows.last() {
            db.execute(&format!("DELETE FROM {table} WHERE {key} = ?"), [&last[0]]).expect("a delete");
            db.execute(&format!("INSERT INTO {table} VALUES ({marks})"), params_from_iter(last))
                .expect("a row");
        }
    }

    /// What the other device does: every row changes, and one goes.
    pub(super) fn change(&self, db: &Connection) {
        let (table, key) = (quoted(&self.table), quoted(&self.columns[0]));
        let last = quoted(&self.columns[self.columns.len() - 1]);
        // A table of one column has only its key to change, and may have a row of the new name.
        db.execute_batch(&format!("UPDATE OR IGNORE {table} SET {last} = 'n' || {key}")).expect("an update");
        db.execute_batch(&format!("DELETE FROM {table} WHERE {key} = (SELECT min({key}) FROM {table})"))
            .expect("a delete");
    }

    pub(super) fn rows(&self, db: &Connection) -> Vec<Vec<rusqlite::types::Value>> {
        let sql = format!("SELECT * FROM {} ORDER BY {}", quoted(&self.table), quoted(&self.columns[0]));
        let mut statement = db.prepare(&sql).expect("a query");
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|place| row.get(place)).collect();
        statement.query_map([], row).expect("rows").collect::<Result<_, _>>().expect("rows")
    }
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
