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
        transaction: None,
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
        RejectCode::Transaction,
        RejectCode::Other,
    ] {
        assert_eq!(json!(code), json!(code.as_str()));
    }
}

fn units(transactions: &[Option<u64>]) -> Result<Vec<usize>, String> {
    let part = |(n, transaction): (usize, &Option<u64>)| PushEntry {
        transaction: *transaction,
        ..entry(&format!("r{n}"), None, None)
    };
    let entries = transactions.iter().enumerate().map(part).collect();
    let request = PushRequest::new(ReplicaId::from_random([1; 16]), entries);
    request.units().map(|units| units.iter().map(|unit| unit.len()).collect())
}

#[test]
fn the_entries_of_a_transaction_are_one_unit_and_others_one_each() {
    assert_eq!(units(&[]), Ok(vec![]));
    assert_eq!(units(&[None, None]), Ok(vec![1, 1]));
    assert_eq!(units(&[None, Some(1), Some(1), Some(2), None, Some(3), Some(3)]), Ok(vec![1, 2, 1, 1, 2]));
    assert!(units(&[Some(1), None, Some(1)]).is_err(), "in pieces");
    let twice = vec![PushEntry { transaction: Some(1), ..entry("x", None, None) }; 2];
    assert!(PushRequest::new(ReplicaId::from_random([1; 16]), twice).units().is_err(), "a record twice");
}

#[test]
fn with_an_entry_that_holds_a_nul_its_transaction_is_left_out() {
    let part = |id: &str, transaction| PushEntry { transaction, ..entry(id, None, None) };
    let entries = vec![
        part("a", Some(1)),
        part("b\0", Some(1)),
        part("c", Some(2)),
        part("d", None),
        part("e\0", None),
    ];
    let (kept, which) = PushRequest::new(ReplicaId::from_random([1; 16]), entries).without_nul();
    assert_eq!(which, [false, false, true, true, false]);
    assert_eq!(kept.entries.len(), 2);
}
