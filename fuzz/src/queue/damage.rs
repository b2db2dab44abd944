//! What an input does to a device's database, and where.

use rusqlite::Connection;

/// Where something else can be found: a table's column, and in which rows.
const PLACES: [(u8, &str, &str, &str); 22] = [
    (b'a', "dynos_queue", "data", "counter = 1"),
    (b'b', "dynos_queue", "data", "counter = 2"),
    (b'c', "dynos_queue", "data", "counter > 2"),
    (b'd', "dynos_queue", "id", "counter = 1"),
    (b'e', "dynos_queue", "id", "counter = 2"),
    (b'f', "dynos_queue", "base", "sent = 1"),
    (b'g', "dynos_base", "data", "1"),
    (b'h', "dynos_base", "id", "1"),
    (b'i', "dynos_dead", "edits", "1"),
    (b'j', "dynos_dead", "record", "1"),
    (b'k', "dynos_dead", "message", "1"),
    (b'l', "dynos_conflict", "resolved", "1"),
    (b'm', "dynos_table", "spec", "n = 1"),
    (b'n', "dynos_table", "policy", "n = 1"),
    (b'o', "dynos_table", "phase", "n = 1"),
    (b'p', "dynos_table", "captured", "n = 1"),
    (b'q', "dynos_table", "name", "n = 1"),
    (b'r', "dynos_table", "cursor", "n = 1"),
    (b's', "dynos_table", "ahead", "n = 1"),
    (b't', "dynos_state", "replica", "1"),
    (b'u', "dynos_state", "server", "1"),
    (b'v', "dynos_log", "c0", "1"),
];

/// The places at which a text concerns single edits: others have to go on.
const EDITS: &[u8] = b"abcdefghijk";

/// The places at which a text concerns what is kept of a table.
const TABLES: &[u8] = b"mnopqrs";

/// What was done.
pub(super) struct Damage {
    /// Nothing but single edits is concerned.
    pub(super) edits_only: bool,
    /// What is kept of a table is concerned.
    pub(super) tables: bool,
}

impl Damage {
    /// Puts what the input's lines say into the places that they name.
    pub(super) fn of(db: &Connection, lines: &[&str]) -> Self {
        let mut places = Vec::new();
        for (letter, text) in lines.iter().filter_map(|line| Some((line.bytes().next()?, line.get(1..)?))) {
            let place = letter.to_ascii_lowercase();
            let Some((_, table, column, rows)) = PLACES.iter().find(|known| known.0 == place) else {
                continue;
            };
            // A unique name stays one: SQLite refuses the rest.
            let sql = format!("UPDATE OR IGNORE {table} SET {column} = ? WHERE {rows}");
            db.prepare_cached(&sql).and_then(|mut update| update.execute([text])).expect("the damage");
            if place != letter {
                dynos_sync_sqlite::fuzzing::seal(db, table);
            }
            places.push(place);
        }
        let within = |some: &[u8]| places.iter().filter(|place| some.contains(place)).count();
        Self { edits_only: within(EDITS) == places.len(), tables: within(TABLES) > 0 }
    }
}
