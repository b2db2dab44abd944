//! Records as people have them, the same ones in every run.

use clap::ValueEnum;
use dynos_sync::core::Fields;
use rusqlite::types::Value as Cell;
use serde_json::{Value, json};

/// What a record looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// A title, a text of 100 characters, a flag, a number, a time and a user: about 250 bytes of JSON.
    Usual,
    /// Forty columns.
    Wide,
    /// A document of 4 KiB in one column.
    Nested,
    /// One number.
    Tiny,
}

/// The table that all workloads are about.
pub(super) const TABLE: &str = "task";

/// Whose records they are.
pub(super) const USER: &str = "6b1f4a52-8d0e-4c7b-9a53-27c9be1f04ad";

impl Shape {
    /// As it is called on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Makes the table.
    pub(super) fn schema(self) -> String {
        let columns: Vec<String> =
            self.columns().iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        format!("CREATE TABLE {TABLE} (id TEXT PRIMARY KEY NOT NULL, {})", columns.join(", "))
    }

    /// The columns beside the id, with their types.
    fn columns(self) -> Vec<(String, &'static str)> {
        let named = |columns: &[(&str, &'static str)]| {
            columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
        };
        match self {
            Self::Usual => named(&[
                ("title", "TEXT NOT NULL"),
                ("body", "TEXT"),
                ("done", "INTEGER NOT NULL DEFAULT 0"),
                ("position", "INTEGER"),
                ("created_at", "TEXT"),
                ("user_id", "TEXT"),
            ]),
            Self::Wide => {
                (0..40).map(|n| (format!("c{n}"), if n % 2 == 0 { "TEXT" } else { "INTEGER" })).collect()
            }
            Self::Nested => named(&[("document", "TEXT")]),
            Self::Tiny => named(&[("n", "INTEGER")]),
        }
    }

    /// `INSERT` of a whole row, with a mark for each column.
    pub(super) fn insert(self) -> String {
        let columns = self.columns();
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        format!("INSERT INTO {TABLE} (id, {}) VALUES (?{})", names.join(", "), ", ?".repeat(names.len()))
    }

    /// What Postgres has to make of a text for a column of [`insert`](Self::insert).
    pub(super) fn cast(self, place: usize) -> &'static str {
        match place.checked_sub(1).and_then(|place| self.columns().get(place).map(|(_, kind)| *kind)) {
            Some(kind) if kind.starts_with("INTEGER") => "::bigint",
            _ => "",
        }
    }

    /// The record of a number, as the engine is given it.
    pub(super) fn record(self, n: u64) -> (String, Fields) {
        let fields = match self {
            Self::Usual => json!({
                "title": format!("Buy {} apples and a melon", n % 997),
                "body": body(n),
                "done": n % 2,
                "position": n,
                "created_at": format!("2026-03-{:02}T{:02}:{:02}:07Z", n % 28 + 1, n % 24, n % 60),
                "user_id": USER,
            }),
            Self::Wide => {
                let field = |column: u64| match column % 2 {
                    0 => (format!("c{column}"), Value::from(format!("text {}", n + column))),
                    _ => (format!("c{column}"), Value::from(n + column)),
                };
                Value::Object((0..40).map(field).collect())
            }
            Self::Nested => {
                let items: Vec<Value> = (0..28)
                    .map(|item| json!({"n": item, "tags": ["a", "b"], "text": body(n + item)}))
                    .collect();
                json!({"document": json!({"n": n, "items": items}).to_string()})
            }
            Self::Tiny => json!({ "n": n }),
        };
        let Value::Object(fields) = fields else { unreachable!("BUG: a record is an object") };
        (id(n), fields)
    }

    /// The row of a number, in the order of [`insert`](Self::insert).
    pub(super) fn row(self, n: u64) -> Vec<Cell> {
        let (id, fields) = self.record(n);
        let columns = self.columns();
        let cells = columns.iter().map(|(name, _)| cell(fields.get(name.as_str())));
        std::iter::once(Cell::Text(id)).chain(cells).collect()
    }
}

/// A JSON value as SQLite keeps it.
pub(super) fn cell(value: Option<&Value>) -> Cell {
    match value {
        None | Some(Value::Null) => Cell::Null,
        Some(Value::String(text)) => Cell::Text(text.clone()),
        Some(value) => value.as_i64().map_or_else(|| Cell::Text(value.to_string()), Cell::Integer),
    }
}

/// A UUID, in no order: so is what applications draw.
fn id(n: u64) -> String {
    let (high, low) = (mixed(n), mixed(n ^ 0x5bd1_e995));
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

fn body(n: u64) -> String {
    let words = ["green", "door", "lake", "paper", "stone", "north", "apple", "window"];
    let mut text = String::with_capacity(110);
    let mut draw = mixed(n);
    while text.len() < 100 {
        text.push_str(words[(draw % 8) as usize]);
        text.push(' ');
        draw = draw.rotate_right(3);
    }
    text.truncate(100);
    text
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
