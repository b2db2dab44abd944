use serde_json::json;

use super::*;
use crate::record::fields;

fn entry(id: &str, base: Option<&str>, data: Option<Fields>) -> PushEntry {
    PushEntry {
        counter: 1,
        table: "t".parse().unwrap(),
        id: id.parse().unwrap(),
        op: Operation::Upsert,
        base: base.map(Cursor::new),
        at: 0,
        data,
    }
}

fn holding(value: Value) -> PushEntry {
    entry("x", Some("1.2"), Some(fields([("first", 1.into()), ("deep", value), ("last", "a".into())])))
}

#[test]
fn a_nul_is_found_wherever_it_is() {
    for (what, has_nul, entry) in [
        ("nothing", false, entry("x", None, None)),
        ("its base", true, entry("x", Some("1\0"), None)),
        ("a name", true, entry("x", None, Some(fields([("na\0me", 1.into())])))),
        ("a text", true, holding("a\0b".into())),
        ("a list", true, holding(json!([1, "a", ["b", "\0"]]))),
        ("an object", true, holding(json!({"a": {"b": "\0"}}))),
        ("an object's name", true, holding(json!({"a": {"\0": 1}}))),
        ("no NUL", false, holding(json!([{"a": "b", "0": [0, "0", null, true]}]))),
    ] {
        assert_eq!(entry.has_nul(), has_nul, "{what}");
    }
}

#[test]
fn entries_with_a_nul_are_left_out_and_answered_in_their_place() {
    let request = PushRequest::new(
        ReplicaId::from_random([1; 16]),
        vec![holding("\0".into()), holding("a".into()), holding("\0".into())],
    );
    let (kept, sent) = request.clone().without_nul();
    assert_eq!(sent, [false, true, false]);
    assert_eq!(kept, PushRequest { entries: vec![holding("a".into())], ..request });
    let applied = PushResult::Applied { seq: 1, record: None };
    let answer = PushAnswer { results: vec![applied.clone()], heads: BTreeMap::new() };
    let filled = answer.filled(&sent, PushResult::holds_nul);
    assert_eq!(filled.results, [PushResult::holds_nul(), applied, PushResult::holds_nul()]);
}

#[test]
fn a_codes_name_is_what_stands_on_the_wire() {
    for code in [
        RejectCode::Constraint,
        RejectCode::Forbidden,
        RejectCode::NotFound,
        RejectCode::UnknownTable,
        RejectCode::UnknownColumn,
        RejectCode::Invalid,
        RejectCode::TooLarge,
        RejectCode::Other,
    ] {
        assert_eq!(json!(code), json!(code.as_str()));
    }
}
