//! The column `id` ↔ record ids, by the rules of devices and of managed mode.

use dynos_sync_core::{RecordId, Value};

/// Starts the id of a text that cannot stand for itself: it is empty, or begins like this.
const ESCAPE: char = '\u{1}';

/// The text that names a row in PostgreSQL, from a record's id. Whatever the column's type is, it reads texts.
pub(super) fn to_column(id: &RecordId) -> String {
    let text = id.as_str();
    let escaped = text.strip_prefix(ESCAPE).and_then(|json| serde_json::from_str(json).ok());
    escaped.unwrap_or_else(|| text.to_owned())
}

/// The text that names a row, from the column as PostgREST gives it: numbers without quotes.
pub(super) fn of_json(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The record's id. `None` where it would be too long for one.
pub(super) fn of_column(text: &str) -> Option<RecordId> {
    if text.is_empty() || text.starts_with(ESCAPE) {
        return format!("{ESCAPE}{}", Value::from(text)).parse().ok();
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use dynos_sync_core::json;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_found_again_by_its_id(text in prop_oneof![any::<String>(), "\u{1}.{0,4}"]) {
            let id = of_column(&text).unwrap();
            prop_assert_eq!(to_column(&id), text);
        }

        #[test]
        fn any_id_names_something(id in "\\PC{1,20}|\u{1}.{0,5}") {
            let _ = to_column(&id.parse().unwrap());
        }
    }

    #[test]
    fn numbers_are_written_as_devices_write_them() {
        assert_eq!(of_json(&json!(17)).unwrap(), "17");
        assert_eq!(of_json(&json!("a-b")).unwrap(), "a-b");
        assert_eq!(of_json(&json!(null)), None);
        assert_eq!(of_column(&"x".repeat(2000)), None);
    }
}
