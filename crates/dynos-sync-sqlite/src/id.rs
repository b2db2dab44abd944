//! Key columns ↔ record ids.
//!
//! | key | id |
//! |---|---|
//! | one column with text affinity | the text itself |
//! | one column of another type | the value as compact JSON: `17`, `0.5`, `{"$blob":"AA=="}`; a text is itself, unless that would read as one of these, then it is a JSON string |
//! | several columns | a JSON array of their values: `[1,5]` |
//!
//! The mapping is one to one: different keys never share an id.

use crate::value::{Cell, Reading, is_written_as, to_json, to_sql};
use dynos_sync_core::{Invalid, RecordId, Value};

/// How a table's key is written as an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyShape {
    Text,
    Single,
    Composite(usize),
}

impl KeyShape {
    /// The id of a key.
    ///
    /// # Errors
    /// [`Invalid`] for a key with a NULL in it, or one whose id would be too long.
    pub(crate) fn encode(self, key: &[Cell]) -> Result<RecordId, Invalid> {
        if key.contains(&Cell::Null) {
            return Err(Invalid::new("id", "a column of the key is NULL").remedy("give every row a key"));
        }
        match (self, key) {
            (Self::Text | Self::Single, [value]) => self.encode_single(value),
            _ => Value::Array(key.iter().map(plain).collect()).to_string(),
        }
        .try_into()
    }

    fn encode_single(self, value: &Cell) -> String {
        let text = match value {
            Cell::Text(bytes) => std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty()),
            _ => None,
        };
        match (self, text) {
            (Self::Text, Some(text)) if !text.starts_with(ESCAPE) => text.to_owned(),
            (Self::Text, _) => format!("{ESCAPE}{}", plain(value)),
            (_, Some(text)) if json(text).is_none() => text.to_owned(),
            _ => plain(value).to_string(),
        }
    }

    /// The key of an id.
    ///
    /// # Errors
    /// [`Invalid`] for an id that no key of this table has.
    pub(crate) fn decode(self, id: &RecordId) -> Result<Vec<Cell>, Invalid> {
        let text = id.as_str();
        let foreign = || Invalid::new("id", "does not fit the table's key").remedy("see the key's columns");
        match self {
            Self::Text => match text.strip_prefix(ESCAPE) {
                None => Ok(vec![Cell::text(text)]),
                Some(escaped) => Ok(vec![to_sql(&json(escaped).ok_or_else(foreign)?, "id")?]),
            },
            Self::Single => match json(text) {
                None => Ok(vec![Cell::text(text)]),
                Some(value) => Ok(vec![to_sql(&value, "id")?]),
            },
            Self::Composite(columns) => match json(text) {
                Some(Value::Array(values)) if values.len() == columns => {
                    values.iter().map(|value| to_sql(value, "id")).collect()
                }
                _ => Err(foreign()),
            },
        }
    }
}

/// Starts the id of a text key that cannot stand for itself.
const ESCAPE: char = '\u{1}';

fn plain(value: &Cell) -> Value {
    to_json(value.as_ref(), Reading::Plain)
}

/// The JSON value that a text is exactly the compact notation of. Words (`true`, `null`) stay words.
fn json(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    (!value.is_null() && !value.is_boolean() && is_written_as(&value, text)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key_value() -> impl Strategy<Value = Cell> {
        prop_oneof![
            any::<i64>().prop_map(Cell::Integer),
            any::<f64>()
                .prop_filter("no key is NaN or -0.0", |f| !f.is_nan() && *f != 0.0)
                .prop_map(Cell::Real),
            any::<String>().prop_map(|text| Cell::text(&text)),
            r#"[\[{"0-9.\]}]{0,5}"#.prop_map(|text| Cell::text(&text)),
            any::<i64>().prop_map(|n| Cell::text(&n.to_string())),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Cell::Blob),
        ]
    }

    proptest! {
        #[test]
        fn single_keys_return(value in key_value()) {
            let id = KeyShape::Single.encode(std::slice::from_ref(&value)).unwrap();
            prop_assert_eq!(KeyShape::Single.decode(&id).unwrap(), vec![value]);
        }

        #[test]
        fn text_keys_return(text in prop_oneof![any::<String>(), "\u{1}.{0,4}"]) {
            let key = vec![Cell::text(&text)];
            let id = KeyShape::Text.encode(&key).unwrap();
            prop_assert_eq!(KeyShape::Text.decode(&id).unwrap(), key);
        }

        #[test]
        fn composite_keys_return(a in key_value(), b in key_value()) {
            let key = vec![a, b];
            let id = KeyShape::Composite(2).encode(&key).unwrap();
            prop_assert_eq!(KeyShape::Composite(2).decode(&id).unwrap(), key);
        }

        #[test]
        fn any_id_is_decoded_or_refused(id in "\\PC{1,20}") {
            let id: RecordId = id.parse().unwrap();
            for shape in [KeyShape::Text, KeyShape::Single, KeyShape::Composite(2)] {
                let _ = shape.decode(&id);
            }
        }
    }

    #[test]
    fn ids_look_as_people_expect() {
        let id = |shape: KeyShape, key: &[Cell]| shape.encode(key).unwrap().to_string();
        assert_eq!(id(KeyShape::Text, &[Cell::text("17")]), "17");
        assert_eq!(id(KeyShape::Single, &[Cell::Integer(17)]), "17");
        assert_eq!(id(KeyShape::Single, &[Cell::text("17")]), "\"17\"");
        assert_eq!(id(KeyShape::Single, &[Cell::text("a-b")]), "a-b");
        assert_eq!(id(KeyShape::Composite(2), &[Cell::Integer(1), Cell::text("x")]), "[1,\"x\"]");
    }
}
