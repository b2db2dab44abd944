//! JSON values ↔ SQLite values, without loss.
//!
//! | SQLite | JSON |
//! |---|---|
//! | NULL | `null` |
//! | INTEGER | an integer; `true`/`false` for 1 and 0 in a column whose declared type contains `BOOL` |
//! | REAL | a number with a fraction or exponent; an infinity is `{"$real": "Infinity"}` or `"-Infinity"` |
//! | TEXT | a string; in a column whose declared type contains `JSON`, a compactly written object or array is that object or array; text that is not UTF-8 is `{"$text": base64}` |
//! | BLOB | `{"$blob": base64}` |
//!
//! The other way round an object or array for any other column is stored as compact JSON text, and integers
//! beyond 64 bits, which SQLite cannot keep, are refused; so is a negative zero where the column's type loses its sign.

use base64::{Engine, engine::general_purpose::STANDARD};
use dynos_sync_core::{Invalid, Value};
use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};
use serde_json::{Number, json};

/// A value as SQLite stores it. Unlike `rusqlite::types::Value`, its text need not be UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Cell {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    pub(crate) fn is_negative_zero(&self) -> bool {
        matches!(self, Self::Real(real) if *real == 0.0 && real.is_sign_negative())
    }

    pub(crate) fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Real(real) => ValueRef::Real(*real),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(blob) => ValueRef::Blob(blob),
        }
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

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.as_ref()))
    }
}

/// How a column's values read as JSON, from its declared type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Plain,
    Boolean,
    Json,
}

/// A column's affinity: which values SQLite converts when they are stored (datatype3.html, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Reading {
    pub(crate) fn of(declared: &str) -> Self {
        let declared = declared.to_uppercase();
        if declared.contains("BOOL") {
            Self::Boolean
        } else if declared.contains("JSON") {
            Self::Json
        } else {
            Self::Plain
        }
    }
}

impl Affinity {
    pub(crate) fn of(declared: &str) -> Self {
        let declared = declared.to_uppercase();
        let contains = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
        if contains(&["INT"]) {
            Self::Integer
        } else if contains(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if declared.is_empty() || contains(&["BLOB"]) {
            Self::Blob
        } else if contains(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// Whether SQLite stores the value as it is given.
    pub(crate) fn keeps(self, value: &Cell) -> bool {
        match (self, value) {
            (_, Cell::Null | Cell::Blob(_)) | (Self::Blob, _) => true,
            (Self::Integer | Self::Numeric, Cell::Integer(_)) | (Self::Text, Cell::Text(_)) => true,
            (Self::Integer | Self::Numeric, Cell::Real(real)) => real.fract() != 0.0,
            // Whole reals are stored as integers, and there the sign of a zero is lost.
            (Self::Real, Cell::Real(real)) => *real != 0.0 || real.is_sign_positive(),
            _ => false,
        }
    }
}

/// A stored value as JSON.
pub(crate) fn to_json(value: ValueRef<'_>, reading: Reading) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(bit @ (0 | 1)) if reading == Reading::Boolean => Value::Bool(bit == 1),
        ValueRef::Integer(integer) => integer.into(),
        ValueRef::Real(real) => match Number::from_f64(real) {
            Some(number) => Value::Number(number),
            None => json!({"$real": if real > 0.0 { "Infinity" } else { "-Infinity" }}),
        },
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => nested(text, reading).unwrap_or_else(|| Value::String(text.to_owned())),
            Err(_) => json!({"$text": STANDARD.encode(bytes)}),
        },
        ValueRef::Blob(bytes) => json!({"$blob": STANDARD.encode(bytes)}),
    }
}

/// Whether a value that was made from JSON reads as that very JSON again, as far as that is seen at a glance.
pub(crate) fn reads_as(cell: &Cell, reading: Reading, json: &Value) -> bool {
    match (cell, json) {
        (Cell::Null, Value::Null) | (Cell::Text(_), Value::String(_)) => reading != Reading::Json,
        (Cell::Integer(0 | 1), _) => (reading == Reading::Boolean) == json.is_boolean(),
        (Cell::Integer(_), Value::Number(_)) => true,
        _ => false,
    }
}

/// A JSON column's text as the value that it stands for, if writing that value gives the same text again.
fn nested(text: &str, reading: Reading) -> Option<Value> {
    if reading != Reading::Json || !text.starts_with(['{', '[']) {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok()?;
    (tag(&value).is_none() && is_written_as(&value, text)).then_some(value)
}

/// Whether a value's compact notation is exactly this text.
pub(crate) fn is_written_as(value: &Value, text: &str) -> bool {
    serde_json::to_string(value).is_ok_and(|written| written == text)
}

/// The tag and content of an object that stands for something JSON has no notation for.
fn tag(value: &Value) -> Option<(&str, &str)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    let (name, content) = object.iter().next()?;
    matches!(name.as_str(), "$blob" | "$text" | "$real").then_some(())?;
    Some((name, content.as_str()?))
}

/// A JSON value as it is stored.
///
/// # Errors
/// [`Invalid`], naming `field`, for what SQLite cannot keep.
pub(crate) fn to_sql(value: &Value, field: &str) -> Result<Cell, Invalid> {
    let refuse = |problem: &str, remedy: &str| Err(Invalid::new(field, problem).remedy(remedy));
    if let Some((tag, content)) = tag(value) {
        return untag(tag, content).map_or_else(
            || refuse("malformed $blob, $text or $real", "encode it as base64 or Infinity"),
            Ok,
        );
    }
    match value {
        Value::Null => Ok(Cell::Null),
        Value::Bool(bit) => Ok(Cell::Integer((*bit).into())),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), ..) => Ok(Cell::Integer(integer)),
            (_, Some(_), _) => {
                refuse("an integer above 2^63 - 1, which SQLite cannot keep", "store it as text")
            }
            (.., Some(real)) => Ok(Cell::Real(real)),
            _ => refuse("not a number that SQLite can keep", "store it as text"),
        },
        Value::String(text) => Ok(Cell::text(text)),
        Value::Array(_) | Value::Object(_) => Ok(Cell::text(&value.to_string())),
    }
}

fn untag(tag: &str, content: &str) -> Option<Cell> {
    match tag {
        "$real" => match content {
            "Infinity" => Some(Cell::Real(f64::INFINITY)),
            "-Infinity" => Some(Cell::Real(f64::NEG_INFINITY)),
            _ => None,
        },
        "$text" => STANDARD.decode(content).ok().map(Cell::Text),
        _ => STANDARD.decode(content).ok().map(Cell::Blob),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::Connection;

    const DECLARED: [&str; 8] = ["", "INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC(10,2)", "BOOLEAN", "JSON"];

    fn cell() -> impl Strategy<Value = Cell> {
        prop_oneof![
            Just(Cell::Null),
            any::<i64>().prop_map(Cell::Integer),
            (0..3i64).prop_map(Cell::Integer),
            any::<f64>().prop_filter("SQLite keeps no NaN", |real| !real.is_nan()).prop_map(Cell::Real),
            any::<String>().prop_map(|text| Cell::text(&text)),
            any::<Vec<u8>>().prop_map(Cell::Text),
            r#"[\[{"$a1: ,}\]]{0,9}"#.prop_map(|text| Cell::text(&text)),
            Just(Cell::text(r#"{"$blob":"AA=="}"#)),
            any::<Vec<u8>>().prop_map(Cell::Blob),
        ]
    }

    proptest! {
        /// Whatever a program stored in a column of any type arrives in the same column of another device as the
        /// same value of the same type.
        #[test]
        fn a_stored_value_survives_the_journey(value in cell(), declared in 0..DECLARED.len()) {
            let declared = DECLARED[declared];
            let db = Connection::open_in_memory().unwrap();
            db.execute_batch(&format!("CREATE TABLE a (v {declared}); CREATE TABLE b (v {declared})")).unwrap();
            db.execute("INSERT INTO a VALUES (?)", [value]).unwrap();
            let json = db
                .query_row("SELECT v FROM a", [], |row| Ok(to_json(row.get_ref(0)?, Reading::of(declared))))
                .unwrap();
            let wire: Value = serde_json::from_str(&json.to_string()).unwrap();
            db.execute("INSERT INTO b VALUES (?)", [to_sql(&wire, "v").unwrap()]).unwrap();
            let equal: bool = db
                .query_row("SELECT a.v IS b.v AND typeof(a.v) = typeof(b.v) FROM a, b", [], |row| row.get(0))
                .unwrap();
            prop_assert!(equal, "{json}");
        }

        /// What `keeps` promises is what SQLite does.
        #[test]
        fn a_kept_value_is_not_converted(value in cell(), declared in 0..DECLARED.len()) {
            let declared = DECLARED[declared];
            if !Affinity::of(declared).keeps(&value) {
                return Ok(());
            }
            let db = Connection::open_in_memory().unwrap();
            db.execute_batch(&format!("CREATE TABLE a (v {declared})")).unwrap();
            db.execute("INSERT INTO a VALUES (?)", [&value]).unwrap();
            let stored = db.query_row("SELECT v FROM a", [], |row| Ok(Cell::from(row.get_ref(0)?))).unwrap();
            // By its text: equality does not tell the zeros apart.
            prop_assert_eq!(format!("{stored:?}"), format!("{value:?}"));
        }
    }

    proptest! {
        /// What is seen at a glance is so.
        #[test]
        fn what_reads_as_the_json_given_does(value in cell(), other in cell(), declared in 0..DECLARED.len()) {
            let readings = DECLARED.map(Reading::of);
            for json in [&value, &other].map(|value| to_json(value.as_ref(), readings[declared])) {
                let stored = to_sql(&json, "v").unwrap();
                for reading in readings {
                    if reads_as(&stored, reading, &json) {
                        prop_assert_eq!(&to_json(stored.as_ref(), reading), &json);
                    }
                }
            }
        }
    }

    #[test]
    fn what_sqlite_cannot_keep_is_refused_by_name() {
        for value in [json!(u64::MAX), json!({"$blob": "?"}), json!({"$real": "NaN"})] {
            assert_eq!(to_sql(&value, "amount").unwrap_err().field, "amount", "{value}");
        }
    }
}
