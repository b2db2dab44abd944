//! The digest by which a repeat of an entry is told from another entry under the same number.

use std::collections::BTreeMap;

use dynos_sync_core::{Counter, Operation, Value, wire::PushEntry};
use sha2::{Digest as _, Sha256};

/// What is kept of an entry's content.
pub(crate) type Digest = [u8; 16];

/// Digests what the entry does. The base is left out: the same entry may come again with a later one.
pub(crate) fn digest(entry: &PushEntry) -> Digest {
    let mut hash = Sha256::new();
    text(&mut hash, entry.table.as_str());
    text(&mut hash, entry.id.as_str());
    hash.update(match entry.op {
        Operation::Upsert => b"u",
        Operation::Replace => b"r",
        Operation::Patch => b"p",
        Operation::Delete => b"d",
    });
    hash.update(entry.at.to_le_bytes());
    if let Some(data) = &entry.data {
        object(&mut hash, data);
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

/// A number that two entries of a request have, although they do different things: a fork, whatever would become of either. A
/// conflict is not remembered, so that otherwise only the repeat of the request would show it.
pub(crate) fn used_twice(entries: &[PushEntry]) -> Option<Counter> {
    if entries.is_sorted_by(|one, other| one.counter < other.counter) {
        return None;
    }
    let mut known = BTreeMap::new();
    // What is out of range is refused, entry by entry.
    let mut numbered =
        entries.iter().filter(|entry| entry.counter > 0 && i64::try_from(entry.counter).is_ok());
    let other = numbered.find(|entry| {
        let digest = digest(entry);
        *known.entry(entry.counter).or_insert(digest) != digest
    });
    other.map(|entry| entry.counter)
}

fn text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

/// Walks the fields by name: whether a map keeps its order is a feature of its crate that others may turn on.
/// (The depth was bounded when the JSON was parsed.)
fn object(hash: &mut Sha256, fields: &dynos_sync_core::Fields) {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    hash.update(b"{");
    for (name, field) in fields {
        text(hash, name);
        value(hash, field);
    }
    hash.update(b"}");
}

fn value(hash: &mut Sha256, value_: &Value) {
    match value_ {
        Value::Object(fields) => object(hash, fields),
        Value::Array(items) => {
            hash.update(b"[");
            items.iter().for_each(|item| value(hash, item));
            hash.update(b"]");
        }
        Value::String(string) => {
            hash.update(b"\"");
            text(hash, string);
        }
        scalar => {
            hash.update(b"#");
            text(hash, &scalar.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dynos_sync_core::{Cursor, json};

    fn entry(value: Value) -> PushEntry {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_base_and_the_order_of_fields_do_not_count_and_everything_else_does() {
        let json = json!({"counter": 1, "table": "t", "id": "1", "op": "upsert", "at": 5,
            "data": {"a": {"x": 1, "y": [1, "2"]}, "b": null}});
        let known = digest(&entry(json.clone()));
        let mut same = entry(json.clone());
        same.base = Some(Cursor::new("x.1"));
        same.data = Some(serde_json::from_str(r#"{"b":null,"a":{"y":[1,"2"],"x":1}}"#).unwrap());
        assert_eq!(digest(&same), known);
        for (pointer, other) in [
            ("/table", json!("u")),
            ("/id", json!("2")),
            ("/op", json!("patch")),
            ("/at", json!(6)),
            ("/data/b", json!("null")),
            ("/data/a/y", json!(["1", "2"])),
            ("/data/a/y", json!([1, ["2"]])),
            ("/data", json!({})),
        ] {
            let mut changed = json.clone();
            *changed.pointer_mut(pointer).unwrap() = other;
            assert_ne!(digest(&entry(changed)), known, "{pointer}");
        }
    }
}
