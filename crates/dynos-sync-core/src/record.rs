//! Records and the changes of records that a server reports.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::{
    clock::Millis,
    error::{Invalid, Limits},
    ids::{RecordId, Seq},
};

/// A record's fields: a JSON object, without the columns of its key (the id carries those).
pub type Fields = serde_json::Map<String, Value>;

/// Builds [`Fields`] from name and value pairs.
///
/// ```
/// let task = dynos_sync_core::fields([("title", "milk".into()), ("done", false.into())]);
/// assert_eq!(task["title"], "milk");
/// ```
pub fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Fields {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Measures a record: its size as compact JSON, in bytes.
///
/// # Errors
/// [`Invalid`], naming the field, where values are nested deeper than [`Limits::DEPTH`]. The walk itself needs
/// stack only up to that depth.
pub fn measure(fields: &Fields) -> Result<usize, Invalid> {
    let mut bytes = 2;
    for (name, value) in fields {
        let size = size_of(value, Limits::DEPTH).ok_or_else(|| {
            Invalid::new(name.clone(), format!("nested deeper than {} levels", Limits::DEPTH))
                .remedy("flatten the value or store it as text")
        })?;
        bytes += text_size(name) + size + 2;
    }
    Ok(bytes - usize::from(!fields.is_empty()))
}

fn size_of(value: &Value, depth: usize) -> Option<usize> {
    let depth_left = depth.checked_sub(1)?;
    Some(match value {
        Value::Null => 4,
        Value::Bool(b) => 5 - usize::from(*b),
        Value::Number(n) => number_size(n),
        Value::String(s) => text_size(s),
        Value::Array(items) => {
            let inner: Option<usize> = items.iter().map(|item| size_of(item, depth_left)).sum();
            inner? + items.len().max(1) + 1
        }
        Value::Object(map) => {
            let inner: Option<usize> =
                map.iter().map(|(k, v)| Some(text_size(k) + 1 + size_of(v, depth_left)?)).sum();
            inner? + map.len().max(1) + 1
        }
    })
}

fn number_size(number: &Number) -> usize {
    let digits = |n: u64| n.checked_ilog10().map_or(1, |log| log as usize + 1);
    match (number.as_u64(), number.as_i64()) {
        (Some(n), _) => digits(n),
        (None, Some(n)) => 1 + digits(n.unsigned_abs()),
        (None, None) => number.to_string().len(),
    }
}

/// The length of a JSON string literal, quotes and escapes included.
fn text_size(text: &str) -> usize {
    let is_escaped = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    // Mostly nothing is, and this looks at many bytes at once.
    if !text.bytes().fold(false, |any, byte| any | is_escaped(byte)) {
        return text.len() + 2;
    }
    let escapes: usize = text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
            0..=0x1f => 5,
            _ => 0,
        })
        .sum();
    text.len() + escapes + 2
}

/// Whether two records say the same, field by field as [`alike`] has it.
pub(crate) fn alike_fields(one: &Fields, other: &Fields) -> bool {
    one.len() == other.len()
        && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| alike(value, other)))
}

/// Whether two values of a field are the same but for the notation: a database may give back `3` for `3.0`, and `true`
/// for `1`.
///
/// ```
/// use dynos_sync_core::{alike, json};
/// assert!(alike(&json!(3), &json!(3.0)) && alike(&json!(1), &json!(true)));
/// assert!(!alike(&json!(1), &json!("1")));
/// ```
pub fn alike(one: &Value, other: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    let is_whole = |value: &Value| value.is_i64() || value.is_u64();
    if one == other || (is_whole(one) && is_whole(other)) {
        return one == other;
    }
    number(one).is_some_and(|one| number(other) == Some(one))
}

/// A committed change of a record, as a server reports it in a pull.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The record's id.
    pub id: RecordId,
    /// The change's number in its scope.
    pub seq: Seq,
    /// The edit's time, by the hybrid clock of the device that made it.
    pub at: Millis,
    /// Whether the asking replica made this change itself. Such changes are sent only where all are asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// Whether the asking replica may know it already: it may have been listed before, or be the replica's own. Only a
    /// backend that cannot tell says so. It is no conflict with edits that were made on top of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// The record after the change; absent where it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Fields>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Fields {
        match value {
            Value::Object(map) => map,
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn the_measure_is_the_length_of_compact_json() {
        for value in [
            json!({}),
            json!({"a": null, "b": [true, false, []], "c": {}}),
            json!({"text": "a\"b\\c\n\u{1}\u{7f}é😀", "n": [-1, 1.5, 1e308, -0.0, u64::MAX]}),
            json!({"\u{0}": {"x": {"y": [1, [2, [3]]]}}}),
        ] {
            let text = value.to_string();
            assert_eq!(measure(&object(value)).unwrap(), text.len(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_by_name_without_deep_recursion() {
        let mut value = json!(1);
        for _ in 0..Limits::DEPTH - 1 {
            value = json!([value]);
        }
        assert!(measure(&fields([("deep", value.clone())])).is_ok());
        let error = measure(&fields([("deep", json!([value]))])).unwrap_err();
        assert_eq!(error.field, "deep");
    }

    #[test]
    fn notation_is_no_difference_and_everything_else_is() {
        for (one, other, expected) in [
            (json!("a"), json!("a"), true),
            (json!([1, {"a": null}]), json!([1, {"a": null}]), true),
            (json!(3), json!(3.0), true),
            (json!(0), json!(false), true),
            (json!("1"), json!(1), false),
            (json!(null), json!(0), false),
            (json!(1.5), json!(1), false),
            // These are one and the same as floating-point numbers.
            (json!(u64::MAX), json!(u64::MAX - 1), false),
            (json!(i64::MIN), json!(i64::MIN + 1), false),
        ] {
            assert_eq!(alike(&one, &other), expected, "{one} {other}");
            assert_eq!(alike(&other, &one), expected, "{other} {one}");
        }
        let [a, ab] = [json!({"a": 1}), json!({"a": 1, "b": 1})].map(object);
        assert!(alike_fields(&a, &object(json!({"a": true}))));
        assert!(!alike_fields(&a, &ab) && !alike_fields(&ab, &a));
    }
}
