//! Ids, names and values that adapters are known to mangle.

use serde_json::{Value, json};

use crate::{
    error::Limits,
    ids::RecordId,
    record::{Fields, fields},
};

/// Ids, all different: quotes, control characters, text that looks like a number, JSON, SQL or a path, the
/// longest one allowed, and pairs that differ only by case, a blank or a Unicode normal form.
pub fn ids() -> Vec<RecordId> {
    let longest = "x".repeat(Limits::RECORD_ID_BYTES);
    let texts = [
        "a",
        "A",
        "a ",
        " a",
        " ",
        "\u{e9}",
        "e\u{301}",
        "'",
        "''",
        "\"",
        "\\",
        "\\'",
        "`",
        "\n",
        "\r\n",
        "\t",
        "a\u{1}b",
        "\u{7f}",
        "\0",
        "a\0",
        "a\0b",
        "😀",
        "表",
        "\u{feff}a",
        "\u{202e}a",
        "\u{10ffff}",
        "0",
        "00",
        "17",
        "-1",
        "1.0",
        "1e3",
        "null",
        "true",
        "NaN",
        "[1,5]",
        "{}",
        "'; DROP TABLE tasks; --",
        "1 OR 1=1",
        "%",
        "_",
        "*",
        "?",
        "#",
        "$1",
        ":id",
        "@id",
        "..",
        "../x",
        "/",
        "a/b",
        "a?b=c&d",
        "__proto__",
        "$blob",
        &longest,
    ];
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

/// Names of fields, all different.
pub fn names() -> Vec<&'static str> {
    vec![
        "",
        " ",
        "id",
        "ID",
        "a.b",
        "$blob",
        "$real",
        "__proto__",
        "constructor",
        "'",
        "\"",
        "\\",
        "`",
        "[0]",
        "\n",
        "\0",
        "a\0b",
        "表",
        "😀",
        "$.a",
        "rowid",
        "_rowid_",
        "data",
        "seq",
        "record",
        "key",
        "null",
    ]
}

/// Values at the edges of what JSON can say.
pub fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(9_007_199_254_740_993_i64),
        json!(-0.0),
        json!(1.0),
        json!(0.1),
        json!(1e308),
        json!(-1e308),
        json!(5e-324),
        json!(1e15),
        json!(123_456_789.123_456_79),
        json!(""),
        json!("'\"\\`"),
        json!("\0"),
        json!("a\0b"),
        json!("\u{1}\u{7f}\r\n\t"),
        json!("😀 e\u{301} \u{202e} \u{feff} \u{10ffff}"),
        json!("1"),
        json!("null"),
        json!("2026-01-01T00:00:00Z"),
        json!("x".repeat(100_000)),
        json!([]),
        json!({}),
        json!([null, [], {}, [[]], "", 0]),
        json!({"$blob": "AAAA"}),
        json!({"$blob": 1, "more": 2}),
        json!({"": {"": {"": ""}}, "__proto__": {"x": 1}, "a.b": [{"\0": "\0"}]}),
        nested(60),
    ]
}

/// A record of every hostile value, and one of every hostile name.
pub fn records() -> Vec<Fields> {
    let by_value = values().into_iter().map(|value| fields([("value", value)]));
    let by_name = names().into_iter().map(|name| fields([(name, name.into())]));
    by_value.chain(by_name).chain([Fields::new()]).collect()
}

fn nested(levels: usize) -> Value {
    (1..levels).fold(
        json!("deep"),
        |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"in": inner}) },
    )
}

/// Whether a NUL occurs in a text or a name. Some databases cannot store it.
pub fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// Whether two values are the same to the last bit: `-0.0` is not `0.0`, and `1.0` is not `1`.
pub fn identical(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.to_string() == right.to_string(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| identical(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let same = |(name, value): (&String, &Value)| {
                right.get(name).is_some_and(|other| identical(value, other))
            };
            left.len() == right.len() && left.iter().all(same)
        }
        (left, right) => left == right,
    }
}

/// Asserts that a record came back as it was given, to the last bit.
pub(super) fn assert_identical(came_back: Option<&Fields>, given: &Fields) {
    let same = came_back.is_some_and(|fields| {
        fields.len() == given.len()
            && given.iter().all(|(name, value)| fields.get(name).is_some_and(|v| identical(v, value)))
    });
    assert!(same, "{} came back as {}", shorten(&json!(given)), shorten(&json!(came_back)));
}

fn shorten(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}
